//! `milepost dataset trim`, and the flags for how long a dataset keeps its events.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        dataset::{dataset_json, details},
        failure::Done,
        output::{Output, thousands},
        time,
    },
    grpc::{
        client::well_known,
        pb::{self, trim_dataset_request::Before},
    },
};

/// How long events are kept. An event goes as soon as one of the rules says so.
#[derive(Debug, Args)]
#[command(next_help_heading = "How long events are kept")]
pub(crate) struct RetentionArgs {
    /// Events older than this go: an age in s, m, h or d such as `30d`
    #[arg(long, value_name = "AGE", value_parser = time::duration)]
    max_age: Option<well_known::Duration>,
    /// Which time tells an event's age; when it was stored, unless said otherwise
    #[arg(long, value_enum, value_name = "TIME", requires = "max_age")]
    age_by: Option<AgeBy>,
    /// The newest so many events stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_events: Option<u64>,
    /// Bytes of payload that the events kept may have together
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    max_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AgeBy {
    /// When it was stored
    RecordTime,
    /// When it happened; the oldest run of events that are all too old goes
    EventTime,
}

impl RetentionArgs {
    /// `None` when no flag was given.
    pub(crate) fn retention(&self) -> Option<pb::Retention> {
        let age_by = self.age_by.map_or(pb::AgeBy::Unspecified, |it| match it {
            AgeBy::RecordTime => pb::AgeBy::RecordTime,
            AgeBy::EventTime => pb::AgeBy::EventTime,
        });
        let retention = pb::Retention {
            max_age: self.max_age,
            age_by: age_by.into(),
            max_events: self.max_events.unwrap_or(0),
            max_bytes: self.max_bytes.unwrap_or(0),
        };
        (retention != pb::Retention::default()).then_some(retention)
    }
}

/// How long events are to be kept instead. The rules given replace all rules.
#[derive(Debug, Args)]
#[command(next_help_heading = "How long events are kept")]
pub(crate) struct NewRetentionArgs {
    #[command(flatten)]
    retention: RetentionArgs,
    /// Keep events until they are trimmed or deleted
    #[arg(long, conflicts_with_all = ["max_age", "age_by", "max_events", "max_bytes"])]
    no_retention: bool,
}

impl NewRetentionArgs {
    /// Whether the rules are to change.
    pub(crate) fn is_given(&self) -> bool {
        self.no_retention || self.retention().is_some()
    }

    pub(crate) fn retention(&self) -> Option<pb::Retention> {
        self.retention.retention()
    }
}

/// The rules in words; empty when there are none.
pub(crate) fn retention_text(retention: Option<&pb::Retention>) -> String {
    let Some(retention) = retention else { return String::new() };
    let mut rules = Vec::new();
    if let Some(age) = &retention.max_age {
        rules.push(format!("{} by {}", time::show_age(age), retention.age_by().as_str_name()));
    }
    if retention.max_events > 0 {
        rules.push(format!("{} events", thousands(retention.max_events)));
    }
    if retention.max_bytes > 0 {
        rules.push(format!("{} bytes", thousands(retention.max_bytes)));
    }
    rules.join(", ")
}

/// `null` when there are no rules; a rule that is not there is `null` or 0.
pub(crate) fn retention_json(retention: Option<&pb::Retention>) -> Value {
    retention.map_or(Value::Null, |it| {
        json!({
            "max_age_s": it.max_age.as_ref().map(|age| age.seconds),
            "age_by": it.max_age.as_ref().map(|_| it.age_by().as_str_name()),
            "max_events": it.max_events,
            "max_bytes": it.max_bytes,
        })
    })
}

#[derive(Debug, Args)]
pub(crate) struct TrimArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// The dataset's name
    name: String,
    /// Events before this position, or stored before this time, go: a number, or RFC 3339, a date, or
    /// an age such as `30d`. What is at the bound stays
    #[arg(long, value_name = "POSITION|TIME", value_parser = before)]
    before: Before,
    /// Only if the dataset still has this etag
    #[arg(long, default_value = "")]
    etag: String,
    /// Count what would go and remove nothing
    #[arg(long, visible_alias = "validate-only")]
    dry_run: bool,
}

/// Digits alone are a position.
fn before(text: &str) -> Result<Before, String> {
    if let Ok(position) = text.parse() {
        return Ok(Before::BeforePosition(position));
    }
    time::parse(text)
        .map(|it| Before::BeforeRecordTime(time::to_proto(it)))
        .map_err(|allowed| format!("{allowed}, or a position"))
}

pub(crate) async fn trim(args: TrimArgs) -> Done {
    let request = pb::TrimDatasetRequest {
        name: args.name,
        etag: args.etag,
        validate_only: args.dry_run,
        before: Some(args.before),
    };
    let mut datasets = args.client.connect().await?.datasets();
    let response = datasets.trim_dataset(request).await?.into_inner();
    let (removed, dataset) = (response.removed_events, response.dataset.unwrap_or_default());
    let value = json!({
        "removed_events": removed,
        "dry_run": args.dry_run,
        "dataset": dataset_json(&dataset),
    });
    let mut output = Output::new(args.client.output);
    output.show(&value, || {
        let done = if args.dry_run { "would be removed" } else { "removed" };
        format!("{} events {done}\n{}", thousands(removed), details(&dataset))
    })?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::{Before, before};

    #[test]
    fn a_bound_is_a_position_or_a_time() {
        assert_eq!(before("42"), Ok(Before::BeforePosition(42)));
        for time in ["30d", "2026-11-23", "2026-11-23T09:30:00Z"] {
            assert!(matches!(before(time), Ok(Before::BeforeRecordTime(_))), "{time}");
        }
        for wrong in ["", "-1", "soon"] {
            assert!(before(wrong).is_err(), "{wrong}");
        }
    }
}
