//! `milepost schema`.

mod check;
mod descriptor;
mod export;
mod get;
mod import;
mod lifecycle;
mod list;
mod views;

pub(crate) use import::documents;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    cli::{
        append,
        args::ClientArgs,
        failure::{Done, Failure},
        output::{self, Output, printable},
        time,
    },
    grpc::pb::{self, event::Payload, validate_event_request::Target},
};

/// Schemas: JSON Schema documents with XDM annotations, in wire form.
#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Register documents, or new versions of them, in the order given
    Register(RegisterArgs),
    /// Import many documents that may refer to each other, a whole library for example
    Import(import::ImportArgs),
    /// Tell what registering a document would change, and for which datasets
    Check(check::CheckArgs),
    /// List the breaking changes that were forced
    Audit(check::AuditArgs),
    /// Make an event that a schema accepts
    Sample(views::SampleArgs),
    /// Show all fields of all schemas of a class in one document
    Union(views::UnionArgs),
    /// Show one schema
    Get(get::GetArgs),
    /// What is said about fields of schemas
    #[command(subcommand)]
    Descriptor(descriptor::DescriptorCommand),
    /// List the latest version of every schema
    List(list::ListArgs),
    /// List the versions of one schema
    Versions(list::VersionsArgs),
    /// Write schemas, and all that they refer to, into a directory
    Export(export::ExportArgs),
    /// Say that a schema is not for new uses
    Deprecate(lifecycle::DeprecateArgs),
    /// Delete a schema with all its versions
    Delete(lifecycle::DeleteArgs),
    /// Judge events by a schema or a dataset, and store nothing
    Validate(ValidateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Files with one JSON Schema document each, at most 1 MiB; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Check everything and register nothing
    #[arg(long)]
    validate_only: bool,
    /// Register what breaks schemas in use, too; that is recorded
    #[arg(long)]
    force: bool,
    /// Store events that were set aside for faults that the new version mends
    #[arg(long)]
    replay_quarantined: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("target").required(true)))]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Judge by the latest version of this schema
    #[arg(long, value_name = "ID", group = "target")]
    schema: Option<String>,
    /// Judge by this dataset's schema, at the version it uses now
    #[arg(long, value_name = "NAME", group = "target")]
    dataset: Option<String>,
    /// Events, as for `append`; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

impl SchemaCommand {
    pub(crate) fn client(&self) -> &ClientArgs {
        match self {
            Self::Register(args) => &args.client,
            Self::Import(args) => &args.client,
            Self::Check(args) => &args.client,
            Self::Audit(args) => &args.client,
            Self::Sample(args) => &args.client,
            Self::Union(args) => &args.client,
            Self::Get(args) => &args.client,
            Self::Descriptor(command) => command.client(),
            Self::List(args) => &args.client,
            Self::Versions(args) => &args.client,
            Self::Export(args) => &args.client,
            Self::Deprecate(args) => &args.client,
            Self::Delete(args) => &args.client,
            Self::Validate(args) => &args.client,
        }
    }
}

pub(crate) async fn run(command: SchemaCommand) -> Done {
    match command {
        SchemaCommand::Register(args) => register(args).await,
        SchemaCommand::Import(args) => import::run(args).await,
        SchemaCommand::Check(args) => check::run(args).await,
        SchemaCommand::Audit(args) => check::audit(args).await,
        SchemaCommand::Sample(args) => views::sample(args).await,
        SchemaCommand::Union(args) => views::union(args).await,
        SchemaCommand::Get(args) => get::run(args).await,
        SchemaCommand::Descriptor(command) => descriptor::run(command).await,
        SchemaCommand::List(args) => list::run(args).await,
        SchemaCommand::Versions(args) => list::versions(args).await,
        SchemaCommand::Export(args) => export::run(args).await,
        SchemaCommand::Deprecate(args) => lifecycle::deprecate(args).await,
        SchemaCommand::Delete(args) => lifecycle::delete(args).await,
        SchemaCommand::Validate(args) => validate(args).await,
    }
}

async fn register(args: RegisterArgs) -> Done {
    let mut schemas = args.client.connect().await?.schemas();
    let mut output = Output::new(args.client.output);
    for file in &args.files {
        let request = pb::RegisterSchemaRequest {
            document: read_text(file)?,
            validate_only: args.validate_only,
            force: args.force,
            replay_quarantined: args.replay_quarantined,
        };
        let response = schemas.register_schema(request).await.inspect_err(|_told_below| {
            output::note(format_args!("{}:", file.display()));
        });
        let response = response?.into_inner();
        let schema = response.schema.unwrap_or_default();
        let fixed = response.fixed.iter().map(fixed_json).collect::<Vec<_>>();
        let value = json!({
            "created": response.created,
            "schema": schema_json(&schema)?,
            "fixed": fixed,
        });
        output.show(&value, || {
            let registered = registered(&schema, response.created, args.validate_only);
            let fixed = response.fixed.iter().map(fixed_text);
            [registered].into_iter().chain(fixed).collect::<Vec<_>>().join("\n")
        })?;
        output.flush()?;
    }
    Ok(())
}

fn registered(schema: &pb::Schema, created: bool, validate_only: bool) -> String {
    let done = match (created, validate_only) {
        (true, true) => "would be registered",
        (true, false) => "registered",
        (false, _) => "unchanged",
    };
    printable(&format!("{} version {} {done}", schema.id, schema.version))
}

fn fixed_text(fixed: &pb::FixedQuarantine) -> String {
    let pb::FixedQuarantine { dataset, fingerprint, count, stored, refused } = fixed;
    let mended = format!("mends {count} events set aside by dataset {dataset} ({fingerprint})");
    match stored + refused {
        0 => mended,
        _ => format!("{mended}: {stored} stored, {refused} still refused"),
    }
}

fn fixed_json(fixed: &pb::FixedQuarantine) -> Value {
    json!({
        "dataset": fixed.dataset,
        "fingerprint": fixed.fingerprint,
        "count": fixed.count,
        "stored": fixed.stored,
        "refused": fixed.refused,
    })
}

fn read_text(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    Ok(text.with_context(|| format!("cannot read `{}`", file.display()))?)
}

fn details(schema: &pb::Schema) -> String {
    let references = schema.references.iter().map(|it| format!("{} version {}", it.id, it.version));
    output::fields(&[
        ("id", schema.id.clone()),
        ("version", schema.version.to_string()),
        ("kind", schema.kind().as_str_name().to_owned()),
        ("title", schema.title.clone()),
        ("digest", schema.digest.clone()),
        ("created", time::show(schema.create_time.as_ref())),
        ("deprecated", schema.deprecation.as_ref().map_or(String::new(), deprecation)),
        ("built in", if schema.built_in { "yes".into() } else { String::new() }),
        ("refers to", references.collect::<Vec<_>>().join(", ")),
    ])
}

fn deprecation(said: &pb::SchemaDeprecation) -> String {
    let mut words = vec![time::show(said.time.as_ref())];
    if !said.successor.is_empty() {
        words.push(format!("use {}", said.successor));
    }
    words.extend(Some(said.reason.clone()).filter(|it| !it.is_empty()));
    words.join("; ")
}

fn schema_json(schema: &pb::Schema) -> Result<Value, Failure> {
    let references = schema.references.iter();
    let mut value = json!({
        "id": schema.id,
        "version": schema.version,
        "kind": schema.kind().as_str_name(),
        "title": schema.title,
        "digest": schema.digest,
        "create_time": time::show(schema.create_time.as_ref()),
        "built_in": schema.built_in,
        "status": schema.status().as_str_name(),
        "deprecation": schema.deprecation.as_ref().map(|it| json!({
            "successor": it.successor,
            "reason": it.reason,
            "time": time::show(it.time.as_ref()),
        })),
        "etag": schema.etag,
        "references": references.map(|it| json!({ "id": it.id, "version": it.version }))
            .collect::<Vec<_>>(),
    });
    if let (false, Some(fields)) = (schema.document.is_empty(), value.as_object_mut()) {
        let document =
            serde_json::from_str(&schema.document).context("the server's document is not JSON")?;
        fields.insert("document".into(), document);
    }
    Ok(value)
}

async fn validate(args: ValidateArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let target = match (args.schema, args.dataset) {
        (Some(schema), _) => Target::SchemaId(schema),
        (None, dataset) => Target::Dataset(dataset.unwrap_or_default()),
    };
    let mut source = append::Source::open(&args.file)?;
    let mut output = Output::new(args.client.output);
    let (mut valid, mut invalid) = (0_u64, 0_u64);
    while let Some(event) = source.next_event()? {
        let place = format!("{}:{}", source.name(), event.line);
        let violations = match event.text {
            Err(problem) => vec![problem_violation(problem)],
            Ok(text) => {
                let event = Some(pb::Event { payload: Some(Payload::Json(text.into())) });
                let request = pb::ValidateEventRequest {
                    target: Some(target.clone()),
                    event,
                    ..Default::default()
                };
                client.validate_event(request).await?.into_inner().violations
            }
        };
        *(if violations.is_empty() { &mut valid } else { &mut invalid }) += 1;
        judge(&mut output, &place, event.line, &violations)?;
    }
    if !output.is_json() {
        output.line(format_args!("{valid} valid, {invalid} invalid"))?;
    }
    output.flush()?;
    if invalid > 0 { Err(Failure::Incomplete) } else { Ok(()) }
}

fn problem_violation(message: String) -> pb::Violation {
    pb::Violation { message, keyword: "json".into(), ..Default::default() }
}

/// JSON: a line for every event; text: lines for invalid events alone.
fn judge(output: &mut Output, place: &str, line: u64, violations: &[pb::Violation]) -> Done {
    if output.is_json() {
        let violations = violations.iter().map(|it| {
            json!({
                "instance_path": it.instance_path,
                "schema_path": it.schema_path,
                "keyword": it.keyword,
                "message": it.message,
            })
        });
        let violations: Vec<Value> = violations.collect();
        let valid = violations.is_empty();
        return output.json(&json!({ "line": line, "valid": valid, "violations": violations }));
    }
    for violation in violations {
        let path =
            if violation.instance_path.is_empty() { "(event)" } else { &violation.instance_path };
        let line = format!("{place}: {path}: {} [{}]", violation.message, violation.keyword);
        output.line(printable(&line))?;
    }
    Ok(())
}
