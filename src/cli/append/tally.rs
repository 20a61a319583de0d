//! What became of the events: counts, and a report of each rejection as it happens.

use serde_json::{Value, json};

use crate::{
    cli::output::{self, note, printable, thousands},
    grpc::{
        client::{CallError, FieldViolation},
        pb::{self, append_result::Outcome},
    },
};

/// Counts of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) appended: u64,
    pub(crate) duplicates: u64,
    /// Stored although they are invalid.
    pub(crate) tagged: u64,
    /// Durably set aside by the server.
    pub(crate) quarantined: u64,
    /// At fault themselves.
    pub(crate) rejected: u64,
    /// Not stored because of others in their atomic batch.
    pub(crate) held_back: u64,
    /// Last position known durable.
    pub(crate) durable_position: u64,
}

/// Counts and reports.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    source: String,
    json: bool,
}

impl Tally {
    pub(crate) fn new(source: &str, json: bool) -> Self {
        Self { counts: Counts::default(), source: source.to_owned(), json }
    }

    /// Whether every event so far is stored, or set aside.
    pub(crate) fn is_clean(&self) -> bool {
        self.counts.rejected == 0 && self.counts.held_back == 0
    }

    /// Whether anything became of any event.
    pub(crate) fn has_counted(&self) -> bool {
        self.counts != Counts::default()
    }

    pub(crate) fn answered(&mut self, lines: &[u64], response: &pb::AppendEventsResponse) {
        self.counts.durable_position = self.counts.durable_position.max(response.durable_position);
        for (line, result) in lines.iter().zip(&response.results) {
            match result.outcome() {
                Outcome::Appended => self.counts.appended += 1,
                Outcome::Duplicate => self.counts.duplicates += 1,
                Outcome::Tagged => self.counts.tagged += 1,
                Outcome::Quarantined => self.counts.quarantined += 1,
                Outcome::Rejected | Outcome::Unspecified => {
                    let error = CallError::from(result.error.clone().unwrap_or_default());
                    self.rejected(*line, &error.message, &error.reason, &error.violations);
                }
            }
        }
    }

    /// An event that could not even be sent.
    pub(crate) fn unsendable(&mut self, line: u64, problem: &str) {
        self.rejected(line, problem, "EVENT_INVALID", &[]);
    }

    /// An atomic batch that was refused for what is in it.
    pub(crate) fn refused(&mut self, lines: &[u64], error: &CallError) {
        let at_fault = by_event(error, lines.len());
        if at_fault.is_empty() {
            let (first, last) = (lines.first().copied(), lines.last().copied());
            let place = format!("lines {} to {}", first.unwrap_or(0), last.unwrap_or(0));
            self.report(&place, first, &error.message, &error.reason, &error.violations);
            self.counts.rejected += lines.len() as u64;
            return;
        }
        self.counts.held_back += (lines.len() - at_fault.len()) as u64;
        for (index, violations) in at_fault {
            let line = lines.get(index).copied().unwrap_or(0);
            self.rejected(line, &error.message, &error.reason, &violations);
        }
    }

    fn rejected(&mut self, line: u64, message: &str, reason: &str, found: &[FieldViolation]) {
        self.counts.rejected += 1;
        self.report(&line.to_string(), Some(line), message, reason, found);
    }

    fn report(
        &self,
        place: &str,
        line: Option<u64>,
        message: &str,
        reason: &str,
        found: &[FieldViolation],
    ) {
        let source = &self.source;
        if self.json {
            let violations = found.iter().map(
                |it| json!({ "field": within_event(&it.field), "description": it.description }),
            );
            note(json!({ "rejected": {
                "source": source, "line": line, "reason": reason, "message": message,
                "violations": violations.collect::<Vec<_>>(),
            }}));
            return;
        }
        if found.is_empty() {
            note(printable(&format!("{source}:{place}: {message} [{reason}]")));
        }
        for violation in found {
            let (field, why) = (within_event(&violation.field), &violation.description);
            note(printable(&format!("{source}:{place}: {field}: {why} [{reason}]")));
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "appended": self.counts.appended,
            "duplicates": self.counts.duplicates,
            "tagged": self.counts.tagged,
            "quarantined": self.counts.quarantined,
            "rejected": self.counts.rejected,
            "held_back": self.counts.held_back,
            "durable_position": self.counts.durable_position,
        })
    }

    pub(crate) fn to_text(&self) -> String {
        let held_back = match self.counts.held_back {
            0 => String::new(),
            count => format!("{} (valid, in a refused batch)", thousands(count)),
        };
        let quarantined = match self.counts.quarantined {
            0 => String::new(),
            count => format!("{} (see `milepost quarantine list`)", thousands(count)),
        };
        let tagged = match self.counts.tagged {
            0 => String::new(),
            count => format!("{} (invalid; see `milepost read --tagged only`)", thousands(count)),
        };
        output::fields(&[
            ("appended", thousands(self.counts.appended)),
            ("duplicates", thousands(self.counts.duplicates)),
            ("tagged", tagged),
            ("quarantined", quarantined),
            ("rejected", thousands(self.counts.rejected)),
            ("held back", held_back),
            ("durable position", thousands(self.counts.durable_position)),
        ])
    }
}

/// Violations by the event's place in the request, in that order.
fn by_event(error: &CallError, events: usize) -> Vec<(usize, Vec<FieldViolation>)> {
    let mut found: Vec<(usize, Vec<FieldViolation>)> = Vec::new();
    for violation in &error.violations {
        let Some((index, _)) = event_index(&violation.field) else { continue };
        if index >= events {
            continue;
        }
        match found.iter_mut().find(|(known, _)| *known == index) {
            Some((_, violations)) => violations.push(violation.clone()),
            None => found.push((index, vec![violation.clone()])),
        }
    }
    found.sort_by_key(|(index, _)| *index);
    found
}

/// `events[3].payload/a` is `(3, "payload/a")`.
fn event_index(field: &str) -> Option<(usize, &str)> {
    let (index, rest) = field.strip_prefix("events[")?.split_once(']')?;
    Some((index.parse().ok()?, rest.trim_start_matches('.')))
}

/// The path without the place in the request: lines say that better.
fn within_event(field: &str) -> &str {
    let rest = event_index(field).map_or(field, |(_, rest)| rest);
    match rest.strip_prefix("payload").unwrap_or(rest) {
        "" => "(event)",
        path => path,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{CallError, Counts, FieldViolation, Tally, by_event, within_event};

    fn error(fields: &[&str]) -> CallError {
        let violation =
            |field: &&str| FieldViolation { field: (*field).into(), description: "bad".into() };
        CallError {
            code: "INVALID_ARGUMENT",
            message: "no".into(),
            reason: "EVENT_INVALID".into(),
            metadata: BTreeMap::default(),
            violations: fields.iter().map(violation).collect(),
            retry_after: None,
            disconnected: false,
        }
    }

    #[test]
    fn violations_find_their_events() {
        let error = error(&["events[2].payload/a", "events[0]", "events[2].payload", "dataset"]);
        let found: Vec<_> = by_event(&error, 3).iter().map(|(at, of)| (*at, of.len())).collect();
        assert_eq!(found, [(0, 1), (2, 2)]);
        assert!(by_event(&error, 0).is_empty());
        let paths = ["events[2].payload/a/b", "events[0].payload", "events[1]", "dataset"];
        assert_eq!(paths.map(within_event), ["/a/b", "(event)", "(event)", "dataset"]);
    }

    #[test]
    fn a_refused_batch_tells_faulty_events_from_others() {
        let mut tally = Tally::new("in", false);
        tally.refused(&[10, 11, 12], &error(&["events[1].payload/a", "events[1].payload/b"]));
        assert_eq!(tally.counts, Counts { rejected: 1, held_back: 2, ..Counts::default() });
        tally.refused(&[13, 14], &error(&[]));
        assert_eq!(tally.counts.rejected, 3);
        assert!(!tally.is_clean());
    }
}
