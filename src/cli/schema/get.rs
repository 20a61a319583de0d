//! `milepost schema get`.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        output::{self, Output},
        schema::{descriptor, details, schema_json},
    },
    grpc::pb,
};

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The schema's `$id`, or its `meta:altId`
    id: String,
    /// Version; 0: the latest
    #[arg(long, value_name = "N", default_value_t = 0)]
    version: u32,
    /// The document alone
    #[arg(long)]
    raw: bool,
    /// How much to tell
    #[arg(long, value_enum)]
    view: Option<View>,
    /// The form of the document; as registered unless given
    #[arg(long, value_enum)]
    form: Option<Form>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum View {
    /// The document as registered
    Raw,
    /// One document with all that it refers to
    Resolved,
    /// The fields, and what is said about them
    Summary,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// As events are sent: `timestamp`, `_id`
    Wire,
    /// As XDM is published: `xdm:timestamp`, `@id`
    Long,
}

pub(super) async fn run(args: GetArgs) -> Done {
    let mut schemas = args.client.connect().await?.schemas();
    let mut request =
        pb::GetSchemaRequest { id: args.id, version: args.version, ..Default::default() };
    if let Some(view) = args.view {
        request.set_view(match view {
            View::Raw => pb::SchemaView::Raw,
            View::Resolved => pb::SchemaView::Resolved,
            View::Summary => pb::SchemaView::Summary,
        });
    }
    if let Some(form) = args.form {
        request.set_form(match form {
            Form::Wire => pb::Form::Wire,
            Form::Long => pb::Form::Long,
        });
    }
    let response = schemas.get_schema(request).await?.into_inner();
    let schema = response.schema.unwrap_or_default();
    let mut output = Output::new(args.client.output);
    match response.summary {
        Some(summary) => {
            let mut value = schema_json(&schema)?;
            if let Some(members) = value.as_object_mut() {
                members.insert("summary".into(), summary_json(&summary)?);
            }
            let said = said(&summary)?;
            output.show(&value, || summary_text(&schema, &summary, &said))?;
        }
        None if args.raw => output.raw(schema.document.as_bytes())?,
        // Who asks for a form or a view of the document wants to see it.
        None if !output.is_json() && (args.view.is_some() || args.form.is_some()) => {
            output.line(&schema.document)?;
        }
        None => output.show(&schema_json(&schema)?, || details(&schema))?,
    }
    output.flush()
}

fn summary_json(summary: &pb::SchemaSummary) -> Result<Value, Failure> {
    let field = |it: &pb::SchemaField| {
        json!({
            "path": it.path,
            "long_name": it.long_name,
            "type": it.r#type,
            "required": it.required,
            "title": it.title,
            "recursive": it.recursive,
        })
    };
    let descriptors = summary.descriptors.iter().map(|it| Ok(descriptor::read(it)?.to_xdm()));
    Ok(json!({
        "class": summary.class,
        "behavior": summary.behavior,
        "field_groups": summary.field_groups,
        "fields": summary.fields.iter().map(field).collect::<Vec<_>>(),
        "truncated": summary.truncated,
        "descriptors": descriptors.collect::<Result<Vec<_>, Failure>>()?,
    }))
}

/// What is said about the fields, in rows.
fn said(summary: &pb::SchemaSummary) -> Result<Vec<Vec<String>>, Failure> {
    let row = |it: &pb::Descriptor| Ok(vec![it.path.clone(), descriptor::says(it)?]);
    summary.descriptors.iter().map(row).collect()
}

fn summary_text(schema: &pb::Schema, summary: &pb::SchemaSummary, said: &[Vec<String>]) -> String {
    let mut text = output::fields(&[
        ("id", schema.id.clone()),
        ("version", schema.version.to_string()),
        ("class", summary.class.clone()),
        ("behaviour", summary.behavior.clone()),
        ("field groups", summary.field_groups.join(", ")),
    ]);
    let row = |it: &pb::SchemaField| {
        let required = if it.required { "required" } else { "" };
        vec![it.path.clone(), it.r#type.clone(), required.to_owned(), it.title.clone()]
    };
    let rows: Vec<Vec<String>> = summary.fields.iter().map(row).collect();
    text.push('\n');
    text.push_str(output::table(&["FIELD", "TYPE", "", "TITLE"], &rows).trim_end());
    if summary.truncated {
        text.push_str("\n… there are more fields");
    }
    if !said.is_empty() {
        text.push_str("\n\n");
        text.push_str(output::table(&["PATH", "SAYS"], said).trim_end());
    }
    text
}
