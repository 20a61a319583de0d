//! `milepost event-definition`.

mod apply;
mod backfill;
mod file;
mod inspect;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        args::ClientArgs,
        event_definition::{
            apply::ApplyArgs,
            backfill::BackfillArgs,
            inspect::{DiscardsArgs, ExplainArgs, TestArgs},
            show::{definition_json, details, row},
        },
        failure::Done,
        lists,
        output::Output,
    },
    grpc::{client::well_known::FieldMask, pb},
};

/// Event definitions: what a journey listens for.
#[derive(Debug, Subcommand)]
pub(crate) enum EventDefinitionCommand {
    /// Create a definition; one with the same settings is left as it is
    Create(CreateArgs),
    /// Create and change definitions so that they are as files say
    Apply(ApplyArgs),
    /// List definitions by name
    List(ListArgs),
    /// Show one definition
    Show(NameArgs),
    /// Set a definition's state
    Set(SetArgs),
    /// Try a definition on events of a file and on stored ones; nothing is written
    Test(TestArgs),
    /// Say clause by clause why a stored event matches a definition or not
    Explain(ExplainArgs),
    /// Print the skeleton of an event that a definition matches
    Preview(NameArgs),
    /// List events that a definition's listeners did not get, with the reason
    Discards(DiscardsArgs),
    /// Match the events that were stored before a definition was in force
    Backfill(BackfillArgs),
    /// Delete a definition that nobody uses
    Delete(NameArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// 1 to 64 of `A-Z a-z 0-9 _`
    name: String,
    /// How its events are known
    #[arg(long, value_enum, default_value = "unitary-rule")]
    kind: Kind,
    /// `$id` of the schema whose events it looks at
    #[arg(long, value_name = "ID")]
    schema: String,
    /// The condition, for example `commerce.order.priceTotal > 100`; not for `unitary-system`
    #[arg(long, value_name = "TEXT", default_value = "")]
    condition: String,
    /// Namespace of the key; that of the primary identity unless given
    #[arg(long, value_name = "CODE", default_value = "")]
    namespace: String,
    /// What makes the key: a path or an expression; the identity's id unless given
    #[arg(long, value_name = "TEXT", default_value = "")]
    key: String,
    /// A field to deliver, with all below it; may be repeated; all fields unless given
    #[arg(long = "field", value_name = "PATH")]
    fields: Vec<String>,
    /// For people; at most 1024 bytes
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// In force at once, instead of a draft
    #[arg(long)]
    live: bool,
    /// Check everything and create nothing
    #[arg(long)]
    validate_only: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// About one person; known by a condition
    UnitaryRule,
    /// About one person; senders put the definition's event id into the event
    UnitarySystem,
    /// Not about a person
    Business,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Only those on this schema
    #[arg(long, value_name = "ID", default_value = "")]
    schema: String,
    /// Only those in this state
    #[arg(long, value_enum)]
    state: Option<State>,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The definition's name
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The definition's name
    name: String,
    /// Its new state
    #[arg(value_enum)]
    state: State,
    /// Only if the definition still has this etag
    #[arg(long, default_value = "")]
    etag: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Draft,
    Live,
    Paused,
    /// For ever
    Archived,
}

impl State {
    fn message(self) -> pb::EventDefinitionState {
        match self {
            Self::Draft => pb::EventDefinitionState::Draft,
            Self::Live => pb::EventDefinitionState::Live,
            Self::Paused => pb::EventDefinitionState::Paused,
            Self::Archived => pb::EventDefinitionState::Archived,
        }
    }
}

/// Files with definitions.
#[derive(Clone, Debug, Args)]
pub(crate) struct FilesArgs {
    /// A file with one definition, or a list of them, as JSON; `-` for standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl EventDefinitionCommand {
    pub(crate) fn client(&self) -> &ClientArgs {
        match self {
            Self::Create(args) => &args.client,
            Self::Apply(args) => &args.client,
            Self::List(args) => &args.client,
            Self::Show(args) | Self::Preview(args) | Self::Delete(args) => &args.client,
            Self::Set(args) => &args.client,
            Self::Test(args) => &args.client,
            Self::Explain(args) => &args.client,
            Self::Discards(args) => &args.client,
            Self::Backfill(args) => &args.client,
        }
    }
}

pub(crate) async fn run(command: EventDefinitionCommand) -> Done {
    match command {
        EventDefinitionCommand::Create(args) => create(args).await,
        EventDefinitionCommand::Apply(args) => apply::run(args).await,
        EventDefinitionCommand::List(args) => list(args).await,
        EventDefinitionCommand::Show(args) => show_one(args).await,
        EventDefinitionCommand::Set(args) => set(args).await,
        EventDefinitionCommand::Test(args) => inspect::test(args).await,
        EventDefinitionCommand::Explain(args) => inspect::explain(args).await,
        EventDefinitionCommand::Preview(args) => preview(args).await,
        EventDefinitionCommand::Discards(args) => inspect::discards(args).await,
        EventDefinitionCommand::Backfill(args) => backfill::run(args).await,
        EventDefinitionCommand::Delete(args) => delete(args).await,
    }
}

async fn create(args: CreateArgs) -> Done {
    let kind = match args.kind {
        Kind::UnitaryRule => pb::EventDefinitionKind::UnitaryRule,
        Kind::UnitarySystem => pb::EventDefinitionKind::UnitarySystem,
        Kind::Business => pb::EventDefinitionKind::Business,
    };
    let state = if args.live { State::Live } else { State::Draft };
    let definition = pb::EventDefinition {
        name: args.name,
        kind: kind.into(),
        schema_id: args.schema,
        condition: args.condition,
        namespace: args.namespace,
        key: args.key,
        fields: args.fields,
        description: args.description,
        state: state.message().into(),
        ..Default::default()
    };
    let request = pb::CreateEventDefinitionRequest {
        event_definition: Some(definition),
        validate_only: args.validate_only,
    };
    let mut definitions = args.client.connect().await?.event_definitions();
    let response = definitions.create_event_definition(request).await?.into_inner();
    show(&args.client, response.event_definition)
}

async fn list(args: ListArgs) -> Done {
    let mut client = args.client.connect().await?.event_definitions();
    let definitions = lists::all(async |page_token| {
        let request = pb::ListEventDefinitionsRequest {
            page_size: lists::PAGE_SIZE,
            page_token,
            schema_id: args.schema.clone(),
            state: args.state.map_or(0, |it| it.message().into()),
        };
        let page = client.list_event_definitions(request).await?.into_inner();
        Ok((page.event_definitions, page.next_page_token))
    });
    let definitions = definitions.await?;
    let headings = ["NAME", "STATE", "KIND", "VERSION", "SCHEMA", "CONDITION"];
    let json = |it: &_| Ok(definition_json(it));
    lists::print(args.client.output, &definitions, json, &headings, |it| Ok(row(it)))
}

async fn show_one(args: NameArgs) -> Done {
    let mut definitions = args.client.connect().await?.event_definitions();
    let request = pb::GetEventDefinitionRequest { name: args.name };
    let response = definitions.get_event_definition(request).await?.into_inner();
    show(&args.client, response.event_definition)
}

async fn set(args: SetArgs) -> Done {
    let definition = pb::EventDefinition {
        name: args.name,
        state: args.state.message().into(),
        etag: args.etag,
        ..Default::default()
    };
    let request = pb::UpdateEventDefinitionRequest {
        event_definition: Some(definition),
        update_mask: Some(FieldMask { paths: vec!["state".into()] }),
        validate_only: false,
    };
    let mut definitions = args.client.connect().await?.event_definitions();
    let response = definitions.update_event_definition(request).await?.into_inner();
    show(&args.client, response.event_definition)
}

async fn preview(args: NameArgs) -> Done {
    let mut definitions = args.client.connect().await?.event_definitions();
    let request = pb::PreviewPayloadRequest { name: args.name };
    let made = definitions.preview_payload(request).await?.into_inner();
    let mut output = Output::new(args.client.output);
    let json = serde_json::json!({
        "payload": serde_json::from_str::<serde_json::Value>(&made.json).unwrap_or_default(),
        "dataset": made.dataset,
        "grpcurl": made.grpcurl,
    });
    output.show(&json, || made.json.clone())?;
    output.flush()
}

async fn delete(args: NameArgs) -> Done {
    let mut definitions = args.client.connect().await?.event_definitions();
    let request =
        pb::DeleteEventDefinitionRequest { name: args.name.clone(), ..Default::default() };
    definitions.delete_event_definition(request).await?;
    let mut output = Output::new(args.client.output);
    let json = serde_json::json!({ "deleted": args.name });
    output.show(&json, || format!("deleted `{}`", args.name))?;
    output.flush()
}

fn show(client: &ClientArgs, definition: Option<pb::EventDefinition>) -> Done {
    let definition = definition.unwrap_or_default();
    let mut output = Output::new(client.output);
    output.show(&definition_json(&definition), || details(&definition))?;
    output.flush()
}
