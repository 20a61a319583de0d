//! From payloads to a batch that the sequencer only has to place: parsed, judged and encoded on the
//! caller's task.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::{
    model::{
        Condition, DatasetName, OnInvalid, Release, Timestamp, Violation,
        json::{Document, Node, push_token},
        limits,
    },
    schema::{CompiledSchema, EventFields, Form, UnknownFields, WireEvent},
    storage::{
        encode_record, id_hash,
        pb::{EventRecord, ReleaseRecord, ViolationRecord},
    },
    store::{
        Dataset, Deadline, Error,
        admission::TimeBounds,
        catalog::Catalog,
        definitions::{Live, Matchers, Matches},
        envelope::Envelope,
        error::{EventFault, EventProblem},
        mend::{self, Mended},
        quarantine::Refused,
        registry::CompiledSchemas,
    },
};

/// What a typical record holds besides its payload. A guess, so that a batch's bytes are not moved
/// while they grow.
const RECORD_OVERHEAD_BYTES: usize = 224;

/// JSON text of an event, or why there is none.
pub type Payload = Result<ByteString, Unreadable>;

/// An event that is no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// As it was sent; `None` when it was not sent as JSON.
    pub bytes: Option<Bytes>,
    /// Why.
    pub violations: Vec<Violation>,
}

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
    /// For each event the record of the quarantine that it is made of; empty for events of senders.
    pub releases: Vec<Release>,
    /// What becomes of invalid events; `None`: what their dataset says. Never laxer than that.
    pub on_invalid: Option<OnInvalid>,
    /// When it is answered.
    pub durability: Durability,
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is durable.
    #[default]
    Sync,
    /// When it is written; durable and visible within [`limits::BUFFERED_WINDOW_MS`].
    Buffered,
}

/// What happens to a batch in which some events cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendMode {
    /// All events or none.
    Atomic,
    /// Each by itself.
    PerEvent,
}

/// What a dataset makes of payloads beside judging them by its schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// What becomes of keys that the schema does not describe.
    pub unknown_fields: UnknownFields,
    /// How the names of payloads are spelt.
    pub payload_form: Form,
    /// Numbers as text and nulls are mended.
    pub lenient: bool,
}

/// What judges events now: a dataset's schema at one version, and the dataset's policies.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    pub(crate) dataset: u32,
    pub(crate) schema: u32,
    pub(crate) compiled: Arc<CompiledSchema>,
    /// What descriptors say.
    pub(crate) fields: Arc<EventFields>,
    /// Of all descriptors there are.
    pub(crate) descriptors: u64,
    /// The dataset's settings by which it judges.
    pub(crate) revision: u64,
    pub(crate) times: TimeBounds,
    pub(crate) event_bytes_max: usize,
    pub(crate) on_invalid: OnInvalid,
    pub(crate) policies: Policies,
    /// The event definitions in force on the schema, if events are asked for them.
    pub(crate) matchers: Option<Arc<Matchers>>,
}

impl Judge {
    /// One that knows no other rules than a schema's.
    pub(crate) fn by_schema(dataset: u32, schema: u32, compiled: Arc<CompiledSchema>) -> Self {
        let (revision, times) = (0, TimeBounds::default());
        let (fields, descriptors) = (Arc::clone(compiled.fields()), 0);
        let (event_bytes_max, policies) = (limits::EVENT_BYTES_MAX, Policies::default());
        let (on_invalid, matchers) = (OnInvalid::Reject, None);
        Self {
            dataset,
            schema,
            compiled,
            fields,
            descriptors,
            revision,
            times,
            event_bytes_max,
            on_invalid,
            policies,
            matchers,
        }
    }

    /// What judges a dataset's events.
    pub(crate) fn by_dataset(
        catalog: &Catalog,
        compiled: &CompiledSchemas,
        dataset: &Dataset,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let version = catalog.judge(dataset)?;
        let compiled = compiled.get(catalog, version)?;
        let admission = &dataset.settings.admission;
        Ok(Self {
            dataset: dataset.number,
            schema: version.number,
            fields: catalog.event_fields(&version.id, compiled.fields()),
            descriptors: catalog.descriptors_revision(),
            compiled,
            revision: dataset.revision,
            times: admission.times(now),
            event_bytes_max: admission.event_bytes_max(),
            on_invalid: dataset.settings.on_invalid,
            policies: dataset.settings.policies,
            matchers: catalog.matchers(&dataset.settings.schema_id).cloned(),
        })
    }

    /// Judges one payload in wire form.
    pub(crate) fn event(&self, payload: &str) -> Result<Envelope, EventFault> {
        self.judge(payload).map_err(|it| it.fault)
    }

    fn judge(&self, payload: &str) -> Judged {
        let document = self.read(payload)?;
        let event = document.root();
        if !event.is_object() {
            let message = "payload is not a JSON object".to_owned();
            let found = format!("{:?}", event.kind()).to_lowercase();
            let violation = malformed("", "type", message).telling("an object", found);
            return Err(EventFault::Malformed(vec![violation]).into());
        }
        let mut violations = Vec::new();
        let mut envelope = Envelope::read(event, &self.fields, &mut violations);
        let broken_envelope = violations.len();
        let unknown_fields = self.policies.unknown_fields;
        let judged = self.compiled.judge(&document, unknown_fields, limits::VIOLATIONS_MAX);
        let new: Vec<_> = judged.into_iter().filter(|it| !covered(it, &violations)).collect();
        violations.extend(new);
        if document.has_null() {
            find_nulls(event, &mut String::new(), &mut violations);
        }
        let found = violations.len();
        if broken_envelope == 0
            && let Some((message, expected)) = self.times.fault(envelope.event_time)
        {
            let path = self.fields.time.as_deref().unwrap_or("/timestamp");
            let found = envelope.event_time.to_string();
            violations.push(malformed(path, "time", message).telling(expected, found));
        }
        violations.truncate(limits::VIOLATIONS_MAX);
        for violation in &mut violations {
            self.fields.hide_personal(violation);
            violation.shorten_path();
        }
        if violations.is_empty() {
            if let Some(matchers) = &self.matchers {
                envelope.matches = matchers.matches(event);
            }
            return Ok(envelope);
        }
        let fault = if found == 0 {
            EventFault::OutOfTime(violations)
        } else if broken_envelope > 0 {
            EventFault::Malformed(violations)
        } else {
            EventFault::Violates(violations)
        };
        let event_id = Some(bounded(&envelope.event_id).to_owned());
        let envelope = envelope.is_readable.then_some(envelope);
        Err(Box::new(Broken { fault, event_id, envelope }))
    }

    fn read<'a>(&self, payload: &'a str) -> Result<Document<'a>, EventFault> {
        let (found, most) = (payload.len(), self.event_bytes_max);
        if found > most {
            let message = format!("payload has {found} bytes; at most {most}");
            let (expected, found) = (format!("at most {most} bytes"), format!("{found} bytes"));
            let violation = malformed("", "size", message).telling(expected, found);
            return Err(EventFault::Malformed(vec![violation]));
        }
        Document::parse(payload).map_err(|error| {
            EventFault::Malformed(vec![malformed(&error.path, error.keyword, error.message)])
        })
    }

    /// Turns a payload in long form into wire form and judges that; what is wrong is told at its places
    /// in the long form.
    fn long_event(&self, payload: &str) -> Result<(String, Judged), EventFault> {
        let document = self.read(payload)?;
        let wire = self.compiled.forms().to_wire(&document).map_err(EventFault::Violates)?;
        let judged = self.judge(&wire.text).map_err(|mut broken| {
            tell_in_long_form(&wire, &mut broken.fault);
            broken
        });
        Ok((wire.text, judged))
    }

    /// Judges a payload in wire form; a lenient dataset mends it first if it has to.
    fn mended_event(&self, payload: &str) -> (Judged, Option<Mended>) {
        let broken = match self.judge(payload) {
            Ok(envelope) => return (Ok(envelope), None),
            Err(broken) => broken,
        };
        let violations = broken.fault.violations();
        let mended = if self.policies.lenient { mend::mend(payload, violations) } else { None };
        let Some(mended) = mended else { return (Err(broken), None) };
        match self.judge(&mended.text) {
            Ok(envelope) => (Ok(envelope), Some(mended)),
            // What is wrong with the mended one would be told of a text that nobody sent.
            Err(_also) => (Err(broken), None),
        }
    }

    /// What is stored of a judged event beside its payload: what is wrong with it too, where invalid ones
    /// are tagged and this one can be read.
    fn kept(&self, judged: Judged) -> Result<(Envelope, Vec<Violation>), Box<Broken>> {
        let mut broken = match judged {
            Ok(envelope) => return Ok((envelope, Vec::new())),
            Err(broken) => broken,
        };
        match broken.envelope.take() {
            Some(envelope) if self.on_invalid == OnInvalid::Tag => {
                Ok((envelope, broken.fault.into_violations()))
            }
            _ => Err(broken),
        }
    }

    /// All that is wrong with a payload.
    pub(crate) fn violations(&self, payload: &str) -> Vec<Violation> {
        let judged = match self.policies.payload_form {
            Form::Wire => self.mended_event(payload).0,
            Form::Long => match self.long_event(payload) {
                Ok((_wire, judged)) => judged,
                Err(fault) => Err(fault.into()),
            },
        };
        judged.err().map_or_else(Vec::new, |broken| broken.fault.into_violations())
    }

    /// What is stored of a payload.
    fn record(&self, sent: ByteString) -> Result<Recorded, Box<Broken>> {
        let mut mendings = Vec::new();
        let (payload, judged, sent) = match self.policies.payload_form {
            Form::Wire => match self.mended_event(&sent) {
                (judged, None) => (sent, judged, None),
                (judged, Some(mended)) => {
                    mendings = mended.mendings.into_iter().map(mend::record).collect();
                    (mended.text.into(), judged, Some(sent))
                }
            },
            Form::Long => {
                let (wire, judged) = self.long_event(&sent)?;
                (wire.into(), judged, Some(sent))
            }
        };
        let (envelope, violations) = self.kept(judged)?;
        let Matches { records: matches, open } = envelope.matches;
        let record = EventRecord {
            record_time_delta_us: 0,
            dataset: self.dataset,
            schema: self.schema,
            event_id: envelope.event_id.into(),
            event_type: envelope.event_type.into(),
            event_time_seconds: envelope.event_time.seconds(),
            event_time_nanos: envelope.event_time.nanos(),
            identities: envelope.identities,
            payload: payload.into_bytes(),
            matches,
            mendings,
            release: None,
            violations: violations.into_iter().map(ViolationRecord::from).collect(),
            dead_letter: None,
        };
        Ok(Recorded { record, sent, open })
    }
}

/// What is read from a valid payload, or what is wrong with it.
type Judged = Result<Envelope, Box<Broken>>;

/// A payload that breaks rules.
struct Broken {
    fault: EventFault,
    /// The sender's id of the event, if the payload could be judged; empty when there is none that can be.
    event_id: Option<String>,
    /// What could be read all the same; `None` when that is too little to be stored.
    envelope: Option<Envelope>,
}

impl From<EventFault> for Box<Broken> {
    fn from(fault: EventFault) -> Self {
        Self::new(Broken { fault, event_id: None, envelope: None })
    }
}

/// What is stored of a payload.
struct Recorded {
    record: EventRecord,
    /// The payload as sent, if it is not what is stored.
    sent: Option<ByteString>,
    /// Event definitions that it matches if its record time says so.
    open: Vec<Arc<Live>>,
}

fn tell_in_long_form(event: &WireEvent, fault: &mut EventFault) {
    if let EventFault::Malformed(violations)
    | EventFault::Violates(violations)
    | EventFault::OutOfTime(violations) = fault
    {
        for violation in violations {
            violation.instance_path = event.long_path(&violation.instance_path);
            violation.shorten_path();
        }
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
        violations.push(malformed(path, "null", message).telling("no null", "null"));
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
    let mut violation = Violation::of_event(path, keyword, message);
    violation.shorten_path();
    violation
}

/// A judged batch on its way to the sequencer.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) dataset: u32,
    pub(crate) schema: u32,
    /// By which events were matched.
    pub(crate) matchers: Option<Arc<Matchers>>,
    /// Of the dataset's settings.
    pub(crate) revision: u64,
    /// Of the descriptors.
    pub(crate) descriptors: u64,
    pub(crate) mode: AppendMode,
    pub(crate) events: Vec<Prepared>,
    /// The events' place in the request; the others were rejected.
    pub(crate) indexes: Vec<usize>,
    /// A run of their records.
    pub(crate) raw: Vec<u8>,
    /// Events to set aside, each with its place in the request.
    pub(crate) refused: Vec<(usize, Refused)>,
    /// What cannot be stored is set aside.
    pub(crate) quarantines: bool,
}

/// One event ready to be placed.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) record: EventRecord,
    /// The payload before it was turned into wire form.
    pub(crate) sent: Option<ByteString>,
    pub(crate) id_hash: u64,
    /// Event definitions that it matches if its record time says so.
    pub(crate) open: Vec<Arc<Live>>,
    /// Where its bytes end in the batch's `raw`.
    pub(crate) end: usize,
}

impl Batch {
    /// Decides what only the record time decides: with that, what the events match is known.
    pub(crate) fn settle(&mut self, record_time: Timestamp) {
        let mut changed = false;
        for event in self.events.iter_mut().filter(|it| !it.open.is_empty()) {
            let open = std::mem::take(&mut event.open);
            let text = str::from_utf8(&event.record.payload).unwrap_or_default();
            let Ok(document) = Document::parse(text) else { continue }; // was judged: it parses
            let found = open.iter().filter_map(|it| it.matches(document.root(), record_time));
            let before = event.record.matches.len();
            let mut matches = std::mem::take(&mut event.record.matches);
            matches.extend(found);
            matches.sort_unstable_by_key(|it| it.definition);
            changed |= matches.len() != before;
            event.record.matches = matches;
        }
        if changed {
            self.encode();
        }
    }

    /// Lays out the records as they are now.
    pub(crate) fn encode(&mut self) {
        self.raw.clear();
        for event in &mut self.events {
            encode_record(&event.record, &mut self.raw);
            event.end = self.raw.len();
        }
    }

    /// The payloads as they were sent, with their places in the request.
    pub(crate) fn into_payloads(self) -> Vec<(usize, Payload)> {
        let accepted = self.events.into_iter().map(|it| {
            let Prepared { record, sent, .. } = it;
            sent.map_or(record.payload, ByteString::into_bytes)
        });
        let refused = self.refused.into_iter().map(|(index, it)| (index, it.payload));
        let payloads = self.indexes.into_iter().zip(accepted).chain(refused);
        payloads.map(|(index, bytes)| (index, payload(bytes))).collect()
    }

    /// Bytes that it adds to the log and the table.
    pub(crate) fn bytes(&self) -> usize {
        self.raw.len() + self.refused.iter().map(|(_, it)| it.payload.len()).sum::<usize>()
    }
}

impl Unreadable {
    /// Nothing was sent that could be kept.
    #[must_use]
    pub fn without_bytes(keyword: &str, message: String) -> Self {
        Self { bytes: None, violations: vec![malformed("", keyword, message)] }
    }
}

/// A payload as text, if it is.
///
/// # Errors
/// When it is not UTF-8.
pub fn payload(bytes: Bytes) -> Payload {
    ByteString::try_from(bytes.clone()).map_err(|_not_utf8| {
        let valid = str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
        let message = format!("payload is not UTF-8 from byte {valid} on");
        Unreadable { bytes: Some(bytes), violations: vec![malformed("", "encoding", message)] }
    })
}

/// The sender's id of an event that cannot be stored; empty when it cannot be read.
fn event_id(payload: &[u8]) -> String {
    let text = str::from_utf8(payload).unwrap_or_default();
    let Ok(document) = Document::parse(text) else { return String::new() };
    let id = document.root().get("_id").and_then(|it| it.as_str()).unwrap_or_default();
    bounded(id).to_owned()
}

/// An event id, unless it is too long to be one.
fn bounded(id: &str) -> &str {
    if id.len() > limits::EVENT_ID_BYTES_MAX { "" } else { id }
}

/// Keeps of a tagged event's violations as many as are kept of one that is set aside, and of a batch with very
/// many only the first of each event.
fn bound_violations(violations: &mut Vec<ViolationRecord>, room: &mut usize) {
    violations.truncate(limits::QUARANTINE_VIOLATIONS_MAX);
    let bytes = |it: &ViolationRecord| {
        let place = it.instance_path.len() + it.schema_path.len() + it.keyword.len();
        place + it.message.len() + it.expected.len() + it.found.len()
    };
    let text = violations.iter().map(bytes).sum();
    if text > *room {
        violations.truncate(1);
    }
    *room = room.saturating_sub(text);
}

/// What is to be done with the events of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handling<'a> {
    pub(crate) mode: AppendMode,
    pub(crate) validate_only: bool,
    /// See `Append`.
    pub(crate) releases: &'a [Release],
}

/// Judges and encodes events, each with its place in the request. Costly.
pub(crate) fn prepare(
    judge: &Judge,
    events: Vec<(usize, Payload)>,
    handling: Handling<'_>,
) -> (Batch, Vec<EventProblem>) {
    let Handling { mode, validate_only, releases } = handling;
    let quarantines =
        judge.on_invalid == OnInvalid::Quarantine && mode == AppendMode::PerEvent && !validate_only;
    let payloads = events.iter().flat_map(|(_, event)| event).map(|text| text.len());
    let raw_bytes = payloads.map(|bytes| bytes + RECORD_OVERHEAD_BYTES).sum();
    let mut batch = Batch {
        dataset: judge.dataset,
        schema: judge.schema,
        matchers: judge.matchers.clone(),
        revision: judge.revision,
        descriptors: judge.descriptors,
        mode,
        events: Vec::with_capacity(events.len()),
        indexes: Vec::with_capacity(events.len()),
        raw: Vec::with_capacity(raw_bytes),
        refused: Vec::new(),
        quarantines,
    };
    let mut problems = Vec::new();
    let mut room = limits::BATCH_VIOLATION_BYTES;
    for (index, event) in events {
        let (sent, judged) = match event {
            Ok(text) => (Some(text.as_bytes().clone()), judge.record(text)),
            Err(unreadable) => {
                (unreadable.bytes, Err(EventFault::Malformed(unreadable.violations).into()))
            }
        };
        match judged {
            Ok(Recorded { mut record, sent, open }) => {
                bound_violations(&mut record.violations, &mut room);
                record.release = releases.get(index).map(|it| ReleaseRecord {
                    quarantine_id: it.id,
                    receive_time_us: it.receive_time.micros(),
                });
                encode_record(&record, &mut batch.raw);
                let id_hash = id_hash(record.dataset, &record.event_id);
                batch.events.push(Prepared { record, sent, id_hash, open, end: batch.raw.len() });
                batch.indexes.push(index);
            }
            Err(broken) => {
                let Broken { mut fault, event_id: read, .. } = *broken;
                let read = read.or_else(|| sent.as_deref().map(event_id));
                let event_id = read.unwrap_or_default();
                if quarantines && let Some(payload) = sent {
                    batch.refused.push((index, Refused { payload, event_id, fault }));
                    continue;
                }
                let text = fault.text_bytes();
                if text > room {
                    fault.keep_first();
                }
                room = room.saturating_sub(text);
                problems.push(EventProblem { index, event_id, fault });
            }
        }
    }
    (batch, problems)
}
