//! From payloads to a batch that the sequencer only has to place: parsed, judged and encoded on the
//! caller's task.

use std::sync::Arc;

use bytestring::ByteString;

use crate::{
    model::{
        Condition, DatasetName, Violation,
        json::{Document, Node, push_token},
        limits,
    },
    schema::CompiledSchema,
    storage::{encode_record, id_hash, pb::EventRecord},
    store::{
        Deadline,
        admission::TimeBounds,
        envelope::Envelope,
        error::{EventFault, EventProblem},
    },
};

/// What a typical record holds besides its payload. A guess, so that a batch's bytes are not moved
/// while they grow.
const RECORD_OVERHEAD_BYTES: usize = 224;

/// JSON text of an event, or why there is none.
pub type Payload = Result<ByteString, Vec<Violation>>;

/// Events to store, as sent.
#[derive(Debug)]
pub struct Append {
    /// Where to.
    pub dataset: DatasetName,
    /// In the order in which they get positions.
    pub events: Vec<Payload>,
    /// All or nothing, or each by itself.
    pub mode: AppendMode,
    /// What must hold when they are stored, unless all of them are stored already.
    pub conditions: Vec<Condition>,
    /// Check only.
    pub validate_only: bool,
    /// When the caller stops waiting; what has not begun by then is dropped.
    pub deadline: Option<Deadline>,
}

/// What happens to a batch in which some events cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendMode {
    /// All events or none.
    Atomic,
    /// Each by itself.
    PerEvent,
}

/// What judges events now: a dataset's schema at one version.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    pub(crate) dataset: u32,
    pub(crate) schema: u32,
    pub(crate) compiled: Arc<CompiledSchema>,
    /// The dataset's settings by which it judges.
    pub(crate) revision: u64,
    pub(crate) times: TimeBounds,
    pub(crate) event_bytes_max: usize,
}

impl Judge {
    /// One that knows no other rules than a schema's.
    pub(crate) fn by_schema(dataset: u32, schema: u32, compiled: Arc<CompiledSchema>) -> Self {
        let (revision, times) = (0, TimeBounds::default());
        let event_bytes_max = limits::EVENT_BYTES_MAX;
        Self { dataset, schema, compiled, revision, times, event_bytes_max }
    }

    /// Judges one payload.
    pub(crate) fn event(&self, payload: &str) -> Result<Envelope, EventFault> {
        let (found, most) = (payload.len(), self.event_bytes_max);
        if found > most {
            let message = format!("payload has {found} bytes; at most {most}");
            return Err(EventFault::Malformed(vec![malformed("", "size", message)]));
        }
        let document = Document::parse(payload).map_err(|error| {
            EventFault::Malformed(vec![malformed(&error.path, error.keyword, error.message)])
        })?;
        let event = document.root();
        if !event.is_object() {
            let message = "payload is not a JSON object".to_owned();
            return Err(EventFault::Malformed(vec![malformed("", "type", message)]));
        }
        let mut violations = Vec::new();
        let envelope = Envelope::read(event, self.compiled.identity_fields(), &mut violations);
        let broken_envelope = violations.len();
        let judged = self.compiled.violations(&document, limits::VIOLATIONS_MAX);
        let new: Vec<_> = judged.into_iter().filter(|it| !covered(it, &violations)).collect();
        violations.extend(new);
        if document.has_null() {
            find_nulls(event, &mut String::new(), &mut violations);
        }
        let found = violations.len();
        if broken_envelope == 0
            && let Some(message) = self.times.fault(envelope.event_time)
        {
            violations.push(malformed("/timestamp", "time", message));
        }
        violations.truncate(limits::VIOLATIONS_MAX);
        violations.iter_mut().for_each(Violation::shorten_path);
        if violations.is_empty() {
            Ok(envelope)
        } else if found == 0 {
            Err(EventFault::OutOfTime(violations))
        } else if broken_envelope > 0 {
            Err(EventFault::Malformed(violations))
        } else {
            Err(EventFault::Violates(violations))
        }
    }

    /// All that is wrong with a payload.
    pub(crate) fn violations(&self, payload: &str) -> Vec<Violation> {
        match self.event(payload) {
            Err(
                EventFault::Malformed(violations)
                | EventFault::Violates(violations)
                | EventFault::OutOfTime(violations),
            ) => violations,
            Ok(_) | Err(EventFault::Conflict { .. }) => Vec::new(),
        }
    }

    fn record(&self, payload: ByteString) -> Result<EventRecord, EventFault> {
        let envelope = self.event(&payload)?;
        Ok(EventRecord {
            record_time_delta_us: 0,
            dataset: self.dataset,
            schema: self.schema,
            event_id: envelope.event_id,
            event_type: envelope.event_type,
            event_time_seconds: envelope.event_time.seconds(),
            event_time_nanos: envelope.event_time.nanos(),
            identities: envelope.identities,
            payload: payload.into_bytes(),
        })
    }
}

/// Whether a schema says again what the envelope's rules have said.
fn covered(violation: &Violation, said: &[Violation]) -> bool {
    said.iter().any(|it| {
        let same_place = it.instance_path == violation.instance_path;
        // `required` stands at the object for every missing name: the name must be the same too.
        let name = it.message.split('`').nth(1).unwrap_or_default();
        same_place
            && it.keyword == violation.keyword
            && (it.keyword != "required" || violation.message.contains(name))
    })
}

/// Names every null that no rule has refused: XDM knows no nulls, what is not known is left out.
/// Recursion is bounded by the depth of a document.
fn find_nulls(node: Node<'_>, path: &mut String, violations: &mut Vec<Violation>) {
    if violations.len() >= limits::VIOLATIONS_MAX {
        return;
    }
    if node.is_null() && violations.iter().all(|it| it.instance_path != *path) {
        let message = "null is not a value; leave the name out".to_owned();
        violations.push(malformed(path, "null", message));
    }
    let end = path.len();
    for (key, value) in node.members() {
        push_token(path, key);
        find_nulls(value, path, violations);
        path.truncate(end);
    }
    for (place, value) in node.elements().enumerate() {
        push_token(path, &place.to_string());
        find_nulls(value, path, violations);
        path.truncate(end);
    }
}

pub(crate) fn malformed(path: &str, keyword: &str, message: String) -> Violation {
    let mut violation = Violation {
        instance_path: path.to_owned(),
        schema_path: format!("milepost:event#/{keyword}"),
        keyword: keyword.to_owned(),
        message,
    };
    violation.shorten_path();
    violation
}

/// A judged batch on its way to the sequencer.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) dataset: u32,
    pub(crate) schema: u32,
    /// Of the dataset's settings.
    pub(crate) revision: u64,
    pub(crate) mode: AppendMode,
    pub(crate) events: Vec<Prepared>,
    /// The events' place in the request; the others were rejected.
    pub(crate) indexes: Vec<usize>,
    /// A run of their records.
    pub(crate) raw: Vec<u8>,
}

/// One event ready to be placed.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) record: EventRecord,
    pub(crate) id_hash: u64,
    /// Where its bytes end in the batch's `raw`.
    pub(crate) end: usize,
}

impl Batch {
    /// The payloads again, with their places in the request.
    pub(crate) fn into_payloads(self) -> Vec<(usize, Payload)> {
        let text = |event: Prepared| String::from_utf8_lossy(&event.record.payload).into_owned();
        let payloads = self.events.into_iter().map(|it| Ok(text(it).into()));
        self.indexes.into_iter().zip(payloads).collect()
    }
}

/// Judges and encodes events, each with its place in the request. Costly.
pub(crate) fn prepare(
    judge: &Judge,
    events: Vec<(usize, Payload)>,
    mode: AppendMode,
) -> (Batch, Vec<EventProblem>) {
    let payloads = events.iter().flat_map(|(_, event)| event).map(|text| text.len());
    let raw_bytes = payloads.map(|bytes| bytes + RECORD_OVERHEAD_BYTES).sum();
    let mut batch = Batch {
        dataset: judge.dataset,
        schema: judge.schema,
        revision: judge.revision,
        mode,
        events: Vec::with_capacity(events.len()),
        indexes: Vec::with_capacity(events.len()),
        raw: Vec::with_capacity(raw_bytes),
    };
    let mut problems = Vec::new();
    let mut room = limits::BATCH_VIOLATION_BYTES;
    for (index, event) in events {
        let judged = event.map_err(EventFault::Malformed).and_then(|text| judge.record(text));
        match judged {
            Ok(record) => {
                encode_record(&record, &mut batch.raw);
                let id_hash = id_hash(record.dataset, &record.event_id);
                batch.events.push(Prepared { record, id_hash, end: batch.raw.len() });
                batch.indexes.push(index);
            }
            Err(mut fault) => {
                let text = fault.text_bytes();
                if text > room {
                    fault.keep_first();
                }
                room = room.saturating_sub(text);
                problems.push(EventProblem { index, fault });
            }
        }
    }
    (batch, problems)
}
