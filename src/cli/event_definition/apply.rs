//! `milepost event-definition apply`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        args::ClientArgs,
        event_definition::{FilesArgs, file},
        failure::{Done, Failure},
        output::Output,
    },
    grpc::{
        client::{CallError, EventDefinitionClient, well_known::FieldMask},
        pb,
    },
};

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    files: FilesArgs,
    /// Check everything and write nothing
    #[arg(long)]
    validate_only: bool,
}

/// Definitions one after the other, in the order of the files; the first error ends it.
pub(super) async fn run(args: ApplyArgs) -> Done {
    let wanted = file::read(&args.files.files)?;
    let mut client = args.client.connect().await?.event_definitions();
    let mut output = Output::new(args.client.output);
    for definition in wanted {
        let name = definition.name.clone();
        let done = apply(&mut client, definition, args.validate_only).await?;
        let json = json!({ "name": name, "created": done.created, "changed": done.changed });
        let text = || match (done.created, done.changed.as_slice()) {
            (true, _) => format!("`{name}` created"),
            (false, []) => format!("`{name}` unchanged"),
            (false, changed) => format!("`{name}` changed: {}", changed.join(", ")),
        };
        output.show(&json, text)?;
        output.flush()?;
    }
    Ok(())
}

struct Applied {
    created: bool,
    changed: Vec<&'static str>,
}

async fn apply(
    client: &mut EventDefinitionClient,
    wanted: pb::EventDefinition,
    validate_only: bool,
) -> Result<Applied, Failure> {
    let request = pb::GetEventDefinitionRequest { name: wanted.name.clone() };
    let existing = match client.get_event_definition(request).await {
        Ok(response) => response.into_inner().event_definition.unwrap_or_default(),
        Err(status) => {
            let error = CallError::from(status);
            if error.reason != "EVENT_DEFINITION_NOT_FOUND" {
                return Err(error.into());
            }
            let event_definition = Some(wanted);
            let request = pb::CreateEventDefinitionRequest { event_definition, validate_only };
            client.create_event_definition(request).await?;
            return Ok(Applied { created: true, changed: Vec::new() });
        }
    };
    for (field, differs) in [
        ("kind", existing.kind != wanted.kind),
        ("schema_id", existing.schema_id != wanted.schema_id),
    ] {
        if differs {
            let name = wanted.name;
            return Err(Failure::usage(format!(
                "`{name}` exists with another {field}, which cannot change; choose another name"
            )));
        }
    }
    let changed = difference(&existing, &wanted);
    if changed.is_empty() {
        return Ok(Applied { created: false, changed });
    }
    let paths = changed.iter().map(ToString::to_string).collect();
    let request = pb::UpdateEventDefinitionRequest {
        // Whoever changed it since it was read is told, not overwritten.
        event_definition: Some(pb::EventDefinition { etag: existing.etag, ..wanted }),
        update_mask: Some(FieldMask { paths }),
        validate_only,
    };
    client.update_event_definition(request).await?;
    Ok(Applied { created: false, changed })
}

fn difference(a: &pb::EventDefinition, b: &pb::EventDefinition) -> Vec<&'static str> {
    let fields = [
        ("display_name", a.display_name != b.display_name),
        ("description", a.description != b.description),
        ("condition", a.condition != b.condition),
        ("namespace", a.namespace != b.namespace),
        ("key", a.key != b.key),
        ("fields", a.fields != b.fields),
        ("state", a.state != b.state),
        ("effective", a.effective != b.effective),
        ("coalescing_window", a.coalescing_window != b.coalescing_window),
        ("labels", a.labels != b.labels),
        ("used_by", a.used_by != b.used_by),
    ];
    fields.into_iter().filter(|it| it.1).map(|it| it.0).collect()
}
