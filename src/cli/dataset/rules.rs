//! Flags for what a dataset asks of appends beside its schema.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{
    cli::{output::thousands, time},
    grpc::{client::well_known, pb},
};

/// What appends must be like, beside the schema.
#[derive(Debug, Args)]
#[command(next_help_heading = "What it takes")]
pub(crate) struct RuleArgs {
    /// What becomes of events that cannot be stored
    #[arg(long, value_enum, value_name = "POLICY")]
    on_invalid: Option<OnInvalid>,
    /// For how long an event is found by its id when it is sent again: such as `7d`; 0: as long as it is kept
    #[arg(long, value_name = "AGE", value_parser = bound)]
    dedupe_horizon: Option<Bound>,
    /// Refuse events that happened longer ago: an age in s, m, h or d such as `30d`; 0: take them
    #[arg(long, value_name = "AGE", value_parser = bound)]
    oldest: Option<Bound>,
    /// Refuse events whose time is further in the future: such as `5m`; 0: take them
    #[arg(long, value_name = "AGE", value_parser = bound)]
    furthest_ahead: Option<Bound>,
    /// Bytes of one event; 0: what the server allows
    #[arg(long, value_name = "BYTES")]
    max_event_bytes: Option<u32>,
    /// Events of one append; 0: what the server allows
    #[arg(long, value_name = "N")]
    max_batch_events: Option<u32>,
    /// Events in a second, in the long run; 0: any number
    #[arg(long, value_name = "N")]
    max_events_per_second: Option<u32>,
}

/// What becomes of invalid events.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnInvalid {
    /// They are refused
    Reject,
    /// Appends that take each event by itself set them aside, to be mended and replayed
    Quarantine,
    /// They are stored with what is wrong with them, and shown only to who asks for such
    Tag,
}

impl From<OnInvalid> for pb::OnInvalid {
    fn from(policy: OnInvalid) -> Self {
        match policy {
            OnInvalid::Reject => Self::Reject,
            OnInvalid::Quarantine => Self::Quarantine,
            OnInvalid::Tag => Self::Tag,
        }
    }
}

/// An age, or none.
type Bound = (Option<well_known::Duration>,);

fn bound(text: &str) -> Result<Bound, String> {
    if text == "0" { Ok((None,)) } else { time::duration(text).map(|it| (Some(it),)) }
}

impl RuleArgs {
    /// Puts the rules that are given into a dataset; the fields that they change. The others of a field
    /// stay as they are in `dataset`.
    pub(crate) fn apply(&self, dataset: &mut pb::Dataset) -> Vec<&'static str> {
        let mut paths = Vec::new();
        if let Some(policy) = self.on_invalid {
            dataset.set_on_invalid(policy.into());
            paths.push("on_invalid");
        }
        if let Some((horizon,)) = self.dedupe_horizon {
            dataset.dedupe_horizon = horizon;
            paths.push("dedupe_horizon");
        }
        if self.oldest.is_some() || self.furthest_ahead.is_some() {
            let timestamps = dataset.timestamps.get_or_insert_default();
            timestamps.max_age = self.oldest.map_or(timestamps.max_age, |it| it.0);
            timestamps.max_ahead = self.furthest_ahead.map_or(timestamps.max_ahead, |it| it.0);
            paths.push("timestamps");
        }
        let given = [self.max_event_bytes, self.max_batch_events, self.max_events_per_second];
        if given.iter().any(Option::is_some) {
            let limits = dataset.limits.get_or_insert_default();
            limits.max_event_bytes = self.max_event_bytes.unwrap_or(limits.max_event_bytes);
            limits.max_batch_events = self.max_batch_events.unwrap_or(limits.max_batch_events);
            limits.max_events_per_second =
                self.max_events_per_second.unwrap_or(limits.max_events_per_second);
            paths.push("limits");
        }
        paths
    }

    /// Whether one field is given in part, so that the rest of it must be known.
    pub(crate) fn is_partial(&self) -> bool {
        self.oldest.is_some() != self.furthest_ahead.is_some() || {
            let given = [self.max_event_bytes, self.max_batch_events, self.max_events_per_second];
            let given = given.iter().filter(|it| it.is_some()).count();
            given > 0 && given < 3
        }
    }
}

/// For how long duplicates are found, in words; empty for as long as events are kept.
pub(crate) fn dedupe_text(dataset: &pb::Dataset) -> String {
    let horizon = dataset.dedupe_horizon.as_ref();
    horizon.map_or_else(String::new, |it| format!("found for {}", time::show_age(it)))
}

/// The rules in words; empty when there are none.
pub(crate) fn rules_text(dataset: &pb::Dataset) -> String {
    let mut rules = Vec::new();
    let timestamps = dataset.timestamps.unwrap_or_default();
    if let Some(age) = &timestamps.max_age {
        rules.push(format!("not older than {}", time::show_age(age)));
    }
    if let Some(age) = &timestamps.max_ahead {
        rules.push(format!("at most {} ahead", time::show_age(age)));
    }
    let limits = dataset.limits.unwrap_or_default();
    let counts = [
        (limits.max_event_bytes, "bytes each"),
        (limits.max_batch_events, "in an append"),
        (limits.max_events_per_second, "in a second"),
    ];
    for (count, what) in counts.into_iter().filter(|it| it.0 > 0) {
        rules.push(format!("at most {} {what}", thousands(count.into())));
    }
    rules.join(", ")
}

/// `null` for what has no rule.
pub(crate) fn rules_json(dataset: &pb::Dataset) -> (Value, Value) {
    let seconds = |it: Option<well_known::Duration>| it.map(|age| age.seconds);
    let timestamps = dataset.timestamps.map_or(
        Value::Null,
        |it| json!({ "max_age_s": seconds(it.max_age), "max_ahead_s": seconds(it.max_ahead) }),
    );
    let limits = dataset.limits.map_or(Value::Null, |it| {
        json!({
            "max_event_bytes": it.max_event_bytes,
            "max_batch_events": it.max_batch_events,
            "max_events_per_second": it.max_events_per_second,
        })
    });
    (timestamps, limits)
}
