//! `milepost schema import`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        output::{self, Output, printable},
    },
    grpc::{
        client::CallError,
        pb::{self, import_result::Outcome},
    },
    model::limits,
};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// Directories, whose `.json` files at any depth are taken, or files with one document each
    #[arg(value_name = "DIR|FILE", required = true)]
    paths: Vec<PathBuf>,
    /// Import what can be imported and tell of the rest, instead of all or nothing
    #[arg(long)]
    keep_going: bool,
    /// Check everything and import nothing
    #[arg(long)]
    validate_only: bool,
    /// Import what breaks schemas in use, too; that is recorded
    #[arg(long)]
    force: bool,
}

/// Bytes that a document takes in a request beside its name and text.
const DOCUMENT_OVERHEAD_BYTES: usize = 32;

pub(super) async fn run(args: ImportArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let documents = read(&args.paths)?;
    let bar = spinner(format!("judging {} documents", documents.len()));
    let names: Vec<String> = documents.iter().map(|it| it.name.clone()).collect();
    let request = pb::ImportSchemasRequest {
        documents,
        keep_going: args.keep_going,
        validate_only: args.validate_only,
        force: args.force,
    };
    let response = client.import_schemas(request).await;
    bar.finish_and_clear();
    let response = response?.into_inner();
    let mut output = Output::new(args.client.output);
    let mut tally = Tally::default();
    for (name, result) in names.iter().zip(&response.results) {
        tally.count(result);
        show(&mut output, name, result)?;
    }
    let renewed = response.renewed.len();
    if output.is_json() {
        output.json(&tally.json(&response))?;
    } else {
        for id in &response.left_behind {
            output.line(printable(&format!(
                "{id}: does not compile with what is new; left as it was"
            )))?;
        }
        output.line(tally.text(renewed, response.imported, args.validate_only))?;
    }
    output.flush()?;
    if tally.refused > 0 { Err(Failure::Incomplete) } else { Ok(()) }
}

/// Reads what the paths name, as much as one request holds.
fn read(paths: &[PathBuf]) -> Result<Vec<pb::SchemaDocument>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() { find(path, &mut files)? } else { files.push(path.clone()) }
    }
    files.sort();
    files.dedup();
    if files.is_empty() {
        return Err(Failure::usage("no `.json` file is there"));
    }
    let bar = progress(files.len());
    let (mut documents, mut bytes) = (Vec::with_capacity(files.len()), 0);
    for file in files {
        let document = std::fs::read_to_string(&file);
        let document = document.with_context(|| format!("cannot read `{}`", file.display()))?;
        let name = file.display().to_string();
        bytes += name.len() + document.len() + DOCUMENT_OVERHEAD_BYTES;
        let max = limits::REQUEST_BYTES_MAX;
        if bytes > max {
            let message = format!("the documents have more than {max} bytes; import them in parts");
            return Err(Failure::usage(message));
        }
        documents.push(pb::SchemaDocument { name, document });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(documents)
}

/// All `.json` files below a directory.
fn find(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let cannot = || format!("cannot read `{}`", directory.display());
        for entry in std::fs::read_dir(&directory).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let path = entry.path();
            // Not through links, which may lead in a circle.
            if entry.file_type().with_context(cannot)?.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "json") {
                files.push(path);
            }
        }
    }
    Ok(())
}

/// Only where people watch.
pub(super) fn progress(length: usize) -> ProgressBar {
    if !output::is_watched() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} documents");
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn spinner(message: String) -> ProgressBar {
    if !output::is_watched() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

#[derive(Debug, Default)]
struct Tally {
    created: usize,
    unchanged: usize,
    held: usize,
    refused: usize,
}

impl Tally {
    fn count(&mut self, result: &pb::ImportResult) {
        let counter = match result.outcome() {
            Outcome::Created => &mut self.created,
            Outcome::Unchanged => &mut self.unchanged,
            Outcome::Held => &mut self.held,
            Outcome::Refused | Outcome::Unspecified => &mut self.refused,
        };
        *counter += 1;
    }

    fn text(&self, renewed: usize, imported: bool, validate_only: bool) -> String {
        let Self { created, unchanged, held, refused } = self;
        let mut text = match (imported, validate_only) {
            (true, false) => format!("{created} imported, {unchanged} unchanged"),
            (true, true) => format!("{created} would be imported, {unchanged} unchanged"),
            (false, _) => format!("nothing imported: {unchanged} unchanged, {held} held up"),
        };
        for (count, what) in [(refused, "refused"), (&renewed, "others renewed")] {
            if *count > 0 {
                text.extend([", ", &count.to_string(), " ", what]);
            }
        }
        text
    }

    fn json(&self, response: &pb::ImportSchemasResponse) -> Value {
        json!({
            "imported": response.imported,
            "created": self.created,
            "unchanged": self.unchanged,
            "held": self.held,
            "refused": self.refused,
            "renewed": response.renewed.iter()
                .map(|it| json!({ "id": it.id, "version": it.version })).collect::<Vec<_>>(),
            "left_behind": response.left_behind,
        })
    }
}

/// JSON: a line for every document; text: lines for those that are refused.
fn show(output: &mut Output, name: &str, result: &pb::ImportResult) -> Done {
    let error = result.error.clone().map(CallError::from);
    if output.is_json() {
        let mut value = json!({
            "name": name,
            "id": result.id,
            "outcome": result.outcome().as_str_name(),
            "version": result.version,
            "warning": result.warning,
        });
        if let (Some(error), Some(fields)) = (&error, value.as_object_mut()) {
            fields.insert(
                "error".into(),
                output::error_json(error).get("error").cloned().unwrap_or_default(),
            );
        }
        return output.json(&value);
    }
    if !result.warning.is_empty() {
        output.line(printable(&format!("{name}: warning: {}", result.warning)))?;
    }
    let Some(error) = error else { return Ok(()) };
    output.line(printable(&format!("{name}: {} [{}]", error.message, error.reason)))?;
    for violation in &error.violations {
        let line = format!("  {}: {}", violation.field, violation.description);
        output.line(printable(&line))?;
    }
    Ok(())
}
