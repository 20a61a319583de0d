//! `milepost schema check` and `audit`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        output::{Output, printable},
        schema::read_text,
        time,
    },
    grpc::pb,
};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// File with the JSON Schema document that is to be registered; `-` is standard input
    file: PathBuf,
    /// Judge stored events of the affected datasets by what would be their schema
    #[arg(long)]
    against_history: bool,
    /// Of each dataset, judge the newest so many events
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "against_history")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_events: u32,
}

/// Exit status 1 when the change is breaking.
pub(super) async fn run(args: CheckArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let request = pb::CheckCompatibilityRequest {
        document: read_text(&args.file)?,
        against_history: args.against_history,
        max_events: args.max_events,
    };
    let found = client.check_compatibility(request).await?.into_inner();
    let mut output = Output::new(args.client.output);
    output.show(&checked_json(&found), || checked_text(&found))?;
    output.flush()?;
    let is_breaking = found.verdict() == pb::CompatibilityVerdict::Breaking;
    if is_breaking { Err(Failure::Incomplete) } else { Ok(()) }
}

fn checked_text(found: &pb::CheckCompatibilityResponse) -> String {
    let mut lines = vec![found.verdict().as_str_name().to_lowercase()];
    lines.extend(found.changes.iter().map(line));
    for affected in &found.affected {
        let datasets = affected.datasets.join(", ");
        let verdict = affected.verdict().as_str_name().to_lowercase();
        lines.push(format!("{} (datasets {datasets}): {verdict}", affected.schema_id));
        lines.extend(affected.changes.iter().map(line));
    }
    for check in &found.history {
        let pb::HistoryCheck { dataset, checked, failed, .. } = check;
        lines
            .push(format!("dataset {dataset}: {checked} events judged, {failed} would be refused"));
        for sample in &check.samples {
            let violation = sample.violations.first().cloned().unwrap_or_default();
            let (path, message) = (violation.instance_path, violation.message);
            lines.push(format!("  position {}: {path}: {message}", sample.position));
        }
    }
    lines.iter().map(|it| printable(it)).collect::<Vec<_>>().join("\n")
}

fn line(change: &pb::SchemaChange) -> String {
    let verdict = change.verdict().as_str_name().to_lowercase();
    let path = if change.path.is_empty() { "(event)" } else { &change.path };
    let kind = change.kind().as_str_name().to_lowercase().replace('_', " ");
    match (change.old.as_str(), change.new.as_str()) {
        ("", "") => format!("  {verdict}: {path}: {kind}"),
        (old, new) => format!("  {verdict}: {path}: {kind}: `{old}` to `{new}`"),
    }
}

fn checked_json(found: &pb::CheckCompatibilityResponse) -> Value {
    json!({
        "verdict": found.verdict().as_str_name(),
        "changes": changes_json(&found.changes),
        "affected": found.affected.iter().map(|it| json!({
            "schema_id": it.schema_id,
            "version": it.version,
            "datasets": it.datasets,
            "verdict": it.verdict().as_str_name(),
            "changes": changes_json(&it.changes),
        })).collect::<Vec<_>>(),
        "history": found.history.iter().map(|it| json!({
            "dataset": it.dataset,
            "checked": it.checked,
            "failed": it.failed,
            "samples": it.samples.iter().map(|it| json!({
                "position": it.position,
                "event_id": it.event_id,
                "violations": it.violations.iter().map(|it| json!({
                    "instance_path": it.instance_path,
                    "keyword": it.keyword,
                    "message": it.message,
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn changes_json(changes: &[pb::SchemaChange]) -> Vec<Value> {
    let change = |it: &pb::SchemaChange| {
        json!({
            "path": it.path,
            "kind": it.kind().as_str_name(),
            "old": it.old,
            "new": it.new,
            "verdict": it.verdict().as_str_name(),
        })
    };
    changes.iter().map(change).collect()
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

pub(super) async fn audit(args: AuditArgs) -> Done {
    let mut client = args.client.connect().await?.admin();
    let mut output = Output::new(args.client.output);
    let mut page_token = String::new();
    loop {
        let request = pb::ListAuditRecordsRequest { page_size: 1000, page_token };
        let response = client.list_audit_records(request).await?.into_inner();
        for record in &response.records {
            let value = json!({
                "number": record.number,
                "time": time::show(record.time.as_ref()),
                "schema_id": record.schema_id,
                "old_version": record.old_version,
                "new_version": record.new_version,
                "datasets": record.datasets,
                "event_definitions": record.event_definitions,
                "changes": changes_json(&record.changes),
                "subscription": record.subscription,
            });
            output.show(&value, || audit_text(record))?;
        }
        page_token = response.next_page_token;
        if page_token.is_empty() {
            return output.flush();
        }
    }
}

fn audit_text(record: &pb::AuditRecord) -> String {
    if !record.subscription.is_empty() {
        let (number, time) = (record.number, time::show(record.time.as_ref()));
        let subscription = &record.subscription;
        return format!("{number} {time}: subscription {subscription} deleted, nobody used it");
    }
    let head = format!(
        "{} {}: {} version {} to {}{}{}",
        record.number,
        time::show(record.time.as_ref()),
        record.schema_id,
        record.old_version,
        record.new_version,
        named(", datasets ", &record.datasets),
        named(", event definitions ", &record.event_definitions),
    );
    let lines = std::iter::once(head).chain(record.changes.iter().map(line));
    lines.map(|it| printable(&it)).collect::<Vec<_>>().join("\n")
}

fn named(what: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{what}{}", names.join(", ")) }
}
