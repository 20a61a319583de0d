//! `milepost dataset`.

mod policies;
mod retention;
mod rules;

use std::collections::HashMap;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::{ClientArgs, label},
        dataset::{
            policies::PolicyArgs,
            retention::{
                NewRetentionArgs, RetentionArgs, TrimArgs, retention_json, retention_text, trim,
            },
            rules::{RuleArgs, dedupe_text, rules_json, rules_text},
        },
        failure::{Done, Failure},
        lists,
        output::{self, Output, thousands},
        time,
    },
    grpc::{client::well_known::FieldMask, pb},
};

pub(crate) use rules::OnInvalid;

/// Datasets: events under one schema; the unit of ingestion.
#[derive(Debug, Subcommand)]
pub(crate) enum DatasetCommand {
    /// Create a dataset; one with the same settings is left as it is
    Create(CreateArgs),
    /// Show one dataset and what it holds
    Get(NameArgs),
    /// List datasets by name
    List(ListArgs),
    /// Change a dataset; what is not given stays
    Update(UpdateArgs),
    /// Remove a dataset's oldest events
    Trim(TrimArgs),
    /// Delete a dataset
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// 1 to 64 of `a-z 0-9 -`, starting with a letter
    name: String,
    /// `$id` of the schema that judges its events
    #[arg(long, value_name = "ID")]
    schema: String,
    /// Always judge by this version; without it, by the latest at each append
    #[arg(long, value_name = "N")]
    schema_version: Option<u32>,
    /// For people; at most 1024 bytes
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// A label; may be repeated, at most 64
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Check everything and create nothing
    #[arg(long)]
    validate_only: bool,
    #[command(flatten)]
    policies: PolicyArgs,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    retention: RetentionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The dataset's name
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The dataset's name
    name: String,
    /// For people; at most 1024 bytes
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A label; may be repeated. The labels given replace all labels
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Remove all labels
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
    /// Whether it takes events
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Always judge by this version; 0: the latest now
    #[arg(long, value_name = "N", conflicts_with = "latest_schema")]
    schema_version: Option<u32>,
    /// Judge by the latest version at each append
    #[arg(long)]
    latest_schema: bool,
    /// Only if the dataset still has this etag
    #[arg(long, default_value = "")]
    etag: String,
    /// Check everything and change nothing
    #[arg(long)]
    validate_only: bool,
    #[command(flatten)]
    policies: PolicyArgs,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    retention: NewRetentionArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Open,
    Closed,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The dataset's name
    name: String,
    /// Also when it holds events; they vanish from every read and count
    #[arg(long)]
    force: bool,
    /// Only if the dataset still has this etag
    #[arg(long, default_value = "")]
    etag: String,
    /// Check everything and delete nothing
    #[arg(long)]
    validate_only: bool,
}

impl DatasetCommand {
    pub(crate) fn client(&self) -> &ClientArgs {
        match self {
            Self::Create(args) => &args.client,
            Self::Get(args) => &args.client,
            Self::List(args) => &args.client,
            Self::Update(args) => &args.client,
            Self::Trim(args) => &args.client,
            Self::Delete(args) => &args.client,
        }
    }
}

pub(crate) async fn run(command: DatasetCommand) -> Done {
    match command {
        DatasetCommand::Create(args) => create(args).await,
        DatasetCommand::Get(args) => get(args).await,
        DatasetCommand::List(args) => list(args).await,
        DatasetCommand::Update(args) => update(args).await,
        DatasetCommand::Trim(args) => trim(args).await,
        DatasetCommand::Delete(args) => delete(args).await,
    }
}

async fn create(args: CreateArgs) -> Done {
    let (policy, schema_version) = version_policy(args.schema_version);
    let mut dataset = pb::Dataset {
        name: args.name,
        schema_id: args.schema,
        version_policy: policy.into(),
        schema_version,
        description: args.description,
        labels: args.labels.into_iter().collect(),
        retention: args.retention.retention(),
        ..Default::default()
    };
    args.policies.set(&mut dataset);
    args.rules.apply(&mut dataset);
    let request =
        pb::CreateDatasetRequest { dataset: Some(dataset), validate_only: args.validate_only };
    let mut datasets = args.client.connect().await?.datasets();
    let response = datasets.create_dataset(request).await?.into_inner();
    show(&args.client, response.dataset)
}

fn version_policy(pinned: Option<u32>) -> (pb::VersionPolicy, u32) {
    match pinned {
        Some(version) => (pb::VersionPolicy::Pinned, version),
        None => (pb::VersionPolicy::Latest, 0),
    }
}

async fn get(args: NameArgs) -> Done {
    let mut datasets = args.client.connect().await?.datasets();
    let request = pb::GetDatasetRequest { name: args.name };
    let response = datasets.get_dataset(request).await?.into_inner();
    show(&args.client, response.dataset)
}

async fn list(args: ListArgs) -> Done {
    let mut client = args.client.connect().await?.datasets();
    let datasets = lists::all(async |page_token| {
        let request = pb::ListDatasetsRequest { page_size: lists::PAGE_SIZE, page_token };
        let page = client.list_datasets(request).await?.into_inner();
        Ok((page.datasets, page.next_page_token))
    });
    let datasets = datasets.await?;
    let headings = ["NAME", "STATE", "SCHEMA", "VERSION", "DESCRIPTION"];
    let json = |it: &_| Ok(dataset_json(it));
    lists::print(args.client.output, &datasets, json, &headings, |it| Ok(row(it)))
}

async fn update(args: UpdateArgs) -> Done {
    let mut paths = Vec::new();
    let mut dataset = pb::Dataset { name: args.name, etag: args.etag, ..Default::default() };
    if let Some(description) = args.description {
        dataset.description = description;
        paths.push("description");
    }
    if args.no_labels || !args.labels.is_empty() {
        dataset.labels = args.labels.into_iter().collect::<HashMap<_, _>>();
        paths.push("labels");
    }
    if let Some(state) = args.state {
        dataset.state = match state {
            State::Open => pb::DatasetState::Open.into(),
            State::Closed => pb::DatasetState::Closed.into(),
        };
        paths.push("state");
    }
    if args.latest_schema || args.schema_version.is_some() {
        let (policy, version) = version_policy(args.schema_version);
        dataset.version_policy = policy.into();
        dataset.schema_version = version;
        paths.extend(["version_policy", "schema_version"]);
    }
    if args.retention.is_given() {
        dataset.retention = args.retention.retention();
        paths.push("retention");
    }
    paths.extend(args.policies.set(&mut dataset));
    let mut datasets = args.client.connect().await?.datasets();
    if args.rules.is_partial() {
        // What is not given stays.
        let request = pb::GetDatasetRequest { name: dataset.name.clone() };
        let existing =
            datasets.get_dataset(request).await?.into_inner().dataset.unwrap_or_default();
        (dataset.timestamps, dataset.limits) = (existing.timestamps, existing.limits);
        if dataset.etag.is_empty() {
            dataset.etag = existing.etag;
        }
    }
    paths.extend(args.rules.apply(&mut dataset));
    if paths.is_empty() {
        return Err(Failure::usage("nothing to change; see `milepost dataset update --help`"));
    }
    let request = pb::UpdateDatasetRequest {
        dataset: Some(dataset),
        update_mask: Some(FieldMask { paths: paths.into_iter().map(String::from).collect() }),
        validate_only: args.validate_only,
    };
    let response = datasets.update_dataset(request).await?.into_inner();
    show(&args.client, response.dataset)
}

async fn delete(args: DeleteArgs) -> Done {
    let mut datasets = args.client.connect().await?.datasets();
    let name = args.name.clone();
    let request = pb::DeleteDatasetRequest {
        name: args.name,
        etag: args.etag,
        force: args.force,
        validate_only: args.validate_only,
    };
    datasets.delete_dataset(request).await?;
    let done = if args.validate_only { "could be deleted" } else { "deleted" };
    let mut output = Output::new(args.client.output);
    let value = json!({ "name": name, "deleted": !args.validate_only });
    output.show(&value, || format!("dataset {name} {done}"))?;
    output.flush()
}

fn show(client: &ClientArgs, dataset: Option<pb::Dataset>) -> Done {
    let dataset = dataset.unwrap_or_default();
    let mut output = Output::new(client.output);
    output.show(&dataset_json(&dataset), || details(&dataset))?;
    output.flush()
}

fn row(dataset: &pb::Dataset) -> Vec<String> {
    vec![
        dataset.name.clone(),
        dataset.state().as_str_name().to_owned(),
        dataset.schema_id.clone(),
        dataset.schema_version.to_string(),
        dataset.description.clone(),
    ]
}

/// Labels in the order of their keys.
fn labels(dataset: &pb::Dataset) -> Vec<(&String, &String)> {
    let mut labels: Vec<_> = dataset.labels.iter().collect();
    labels.sort();
    labels
}

fn details(dataset: &pb::Dataset) -> String {
    let labels = labels(dataset).into_iter().map(|(key, value)| format!("{key}={value}"));
    let stats = dataset.stats.clone().unwrap_or_default();
    let held = |text: String| if dataset.stats.is_some() { text } else { String::new() };
    let refused: Vec<_> = stats
        .refused
        .iter()
        .map(|it| {
            let (hour, all) = (thousands(it.last_hour), thousands(it.since_start));
            format!("{hour} in the last hour, {all} since start: {}", it.reason)
        })
        .collect();
    let lost = match dataset.floor_position {
        0 => String::new(),
        floor => format!("position {floor}"),
    };
    output::fields(&[
        ("name", dataset.name.clone()),
        ("state", dataset.state().as_str_name().to_owned()),
        ("schema", dataset.schema_id.clone()),
        (
            "version",
            format!("{} ({})", dataset.schema_version, dataset.version_policy().as_str_name()),
        ),
        ("on invalid", dataset.on_invalid().as_str_name().to_owned()),
        ("unknown fields", policies::unknown_fields(dataset)),
        ("payload form", policies::payload_form(dataset)),
        ("lenient", if dataset.lenient { "yes".to_owned() } else { String::new() }),
        ("description", dataset.description.clone()),
        ("labels", labels.collect::<Vec<_>>().join(", ")),
        ("takes", rules_text(dataset)),
        ("duplicates", dedupe_text(dataset)),
        ("retention", retention_text(dataset.retention.as_ref())),
        ("created", time::show(dataset.create_time.as_ref())),
        ("updated", time::show(dataset.update_time.as_ref())),
        ("etag", dataset.etag.clone()),
        ("events", held(thousands(stats.events))),
        ("positions", held(format!("{} to {}", stats.first_position, stats.last_position))),
        ("payload bytes", held(thousands(stats.payload_bytes))),
        ("set aside", held(thousands(stats.quarantined_events))),
        ("tagged", held(thousands(stats.tagged_events))),
        ("refused", held(refused.join(", "))),
        ("lost up to", lost),
    ])
}

fn dataset_json(dataset: &pb::Dataset) -> Value {
    let labels: serde_json::Map<String, Value> = labels(dataset)
        .into_iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    let (timestamps, limits) = rules_json(dataset);
    json!({
        "name": dataset.name,
        "schema_id": dataset.schema_id,
        "version_policy": dataset.version_policy().as_str_name(),
        "schema_version": dataset.schema_version,
        "on_invalid": dataset.on_invalid().as_str_name(),
        "state": dataset.state().as_str_name(),
        "unknown_fields": dataset.unknown_fields().as_str_name(),
        "payload_form": dataset.payload_form().as_str_name(),
        "description": dataset.description,
        "labels": labels,
        "lenient": dataset.lenient,
        "timestamps": timestamps,
        "limits": limits,
        "dedupe_horizon_s": dataset.dedupe_horizon.map(|it| it.seconds),
        "retention": retention_json(dataset.retention.as_ref()),
        "floor_position": dataset.floor_position,
        "etag": dataset.etag,
        "create_time": time::show(dataset.create_time.as_ref()),
        "update_time": time::show(dataset.update_time.as_ref()),
        "stats": dataset.stats.as_ref().map(|it| json!({
            "events": it.events,
            "first_position": it.first_position,
            "last_position": it.last_position,
            "payload_bytes": it.payload_bytes,
            "quarantined_events": it.quarantined_events,
            "tagged_events": it.tagged_events,
            "refused": it.refused.iter().map(|it| json!({
                "reason": it.reason,
                "last_hour": it.last_hour,
                "since_start": it.since_start,
            })).collect::<Vec<_>>(),
        })),
    })
}
