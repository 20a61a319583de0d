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
        descriptors::to_message,
        pb::{self, import_result::Outcome},
    },
    model::limits,
    schema::Descriptor,
};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// Directories, whose `.json` files at any depth are taken, or files with one document each; files
    /// called `descriptors.ndjson` say something about fields
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

/// The file of a directory that says something about fields: a descriptor as XDM writes it on each line.
pub(super) const DESCRIPTORS: &str = "descriptors.ndjson";

/// Bytes that a document takes in a request beside its name and text.
const DOCUMENT_OVERHEAD_BYTES: usize = 32;

pub(super) async fn run(args: ImportArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let files = find_all(&args.paths)?;
    let descriptors = read_descriptors(&files.descriptors)?;
    let documents = read(files.documents)?;
    let bar = spinner(format!("judging {} documents", documents.len()));
    let names: Vec<String> = documents.iter().map(|it| it.name.clone()).collect();
    let request = pb::ImportSchemasRequest {
        documents,
        keep_going: args.keep_going,
        validate_only: args.validate_only,
        force: args.force,
        descriptors,
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
    for result in &response.descriptor_results {
        tally.count_descriptor(result);
        show_descriptor(&mut output, result)?;
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

/// The documents below directories, or in files.
pub(crate) fn documents(paths: &[PathBuf]) -> Result<Vec<pb::SchemaDocument>, Failure> {
    read(find_all(paths)?.documents)
}

/// What the paths name.
#[derive(Debug, Default)]
struct Files {
    documents: Vec<PathBuf>,
    descriptors: Vec<PathBuf>,
}

fn find_all(paths: &[PathBuf]) -> Result<Files, Failure> {
    let mut files = Files::default();
    for path in paths {
        if path.is_dir() { find(path, &mut files)? } else { files.add(path.clone()) }
    }
    for found in [&mut files.documents, &mut files.descriptors] {
        found.sort();
        found.dedup();
    }
    if files.documents.is_empty() && files.descriptors.is_empty() {
        return Err(Failure::usage("no `.json` file is there"));
    }
    Ok(files)
}

impl Files {
    fn add(&mut self, path: PathBuf) {
        let said = path.file_name().is_some_and(|it| it == DESCRIPTORS);
        if said { &mut self.descriptors } else { &mut self.documents }.push(path);
    }
}

/// Reads descriptors as XDM writes them, one on each line.
fn read_descriptors(files: &[PathBuf]) -> Result<Vec<pb::Descriptor>, Failure> {
    let mut descriptors = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read `{}`", file.display()))?;
        for (number, line) in text.lines().enumerate().filter(|(_, it)| !it.trim().is_empty()) {
            let at = || format!("{}:{}", file.display(), number + 1);
            let value: Value = serde_json::from_str(line).with_context(at)?;
            let read = Descriptor::from_xdm(&value);
            let read = read.map_err(|it| Failure::usage(format!("{}: {it}", at())))?;
            descriptors.push(to_message(&read));
        }
    }
    Ok(descriptors)
}

/// Reads documents, as many as one request holds.
fn read(files: Vec<PathBuf>) -> Result<Vec<pb::SchemaDocument>, Failure> {
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
fn find(directory: &Path, files: &mut Files) -> Result<(), Failure> {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let cannot = || format!("cannot read `{}`", directory.display());
        for entry in std::fs::read_dir(&directory).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let path = entry.path();
            // Not through links, which may lead in a circle.
            if entry.file_type().with_context(cannot)?.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "json")
                || path.file_name().is_some_and(|it| it == DESCRIPTORS)
            {
                files.add(path);
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
    /// Descriptors that were added, or would be.
    said: usize,
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

    fn count_descriptor(&mut self, result: &pb::DescriptorResult) {
        match result.outcome() {
            Outcome::Created => self.said += 1,
            Outcome::Unchanged => {}
            Outcome::Held => self.held += 1,
            Outcome::Refused | Outcome::Unspecified => self.refused += 1,
        }
    }

    fn text(&self, renewed: usize, imported: bool, validate_only: bool) -> String {
        let Self { created, unchanged, held, refused, said } = self;
        let mut text = match (imported, validate_only) {
            (true, false) => format!("{created} imported, {unchanged} unchanged"),
            (true, true) => format!("{created} would be imported, {unchanged} unchanged"),
            (false, _) => format!("nothing imported: {unchanged} unchanged, {held} held up"),
        };
        for (count, what) in
            [(refused, "refused"), (&renewed, "others renewed"), (said, "descriptors")]
        {
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
            "descriptors": self.said,
            "renewed": response.renewed.iter()
                .map(|it| json!({ "id": it.id, "version": it.version })).collect::<Vec<_>>(),
            "left_behind": response.left_behind,
        })
    }
}

/// JSON: a line for every descriptor; text: lines for those that are refused.
fn show_descriptor(output: &mut Output, result: &pb::DescriptorResult) -> Done {
    let shown = pb::ImportResult {
        name: format!("descriptor {}", result.id),
        id: result.id.clone(),
        outcome: result.outcome,
        error: result.error.clone(),
        ..Default::default()
    };
    show(output, &shown.name, &shown)
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
