//! What a call to the store can end in; the variants say what the caller can do.

use crate::{
    delivery::Current,
    model::{Invalid, Position, Violation, limits},
    schema::{Change, SchemaProblem},
    storage::StorageError,
    store::{Affected, ConditionFailure, FailureKind},
};

/// Why a call failed. One table in `grpc::status` maps each variant to code, reason and details.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Fields of the request are missing or have bad values.
    #[error("{}", join(.0))]
    Invalid(Vec<Invalid>),
    /// A number or list is outside its bounds.
    #[error("{0}")]
    OutOfBounds(Invalid),
    /// The filter has bad values.
    #[error("{}", join(.0))]
    Filter(Vec<Invalid>),
    /// The request uses what the server does not have yet.
    #[error("{0} is not available yet")]
    Unimplemented(&'static str),
    /// Not a page token of this list.
    #[error("page token was not made by this method with these fields")]
    PageToken,
    /// Not a resume token.
    #[error("resume token was not made by this server")]
    ResumeToken,
    /// A resume token of another log.
    #[error("resume token belongs to another log; the nearest position in this one is {nearest}")]
    EpochChanged {
        /// Where to continue instead.
        nearest: Position,
    },
    /// A position beyond the log's end.
    #[error("position {position} is beyond the last position {last}")]
    Beyond {
        /// What was asked for.
        position: Position,
        /// The last durable position.
        last: Position,
    },
    /// A start below events that are lost.
    #[error(
        "events after position {position} are lost, the last of them at {floor}; \
         start after that, or ask to be told of the gap"
    )]
    Trimmed {
        /// Where it was to start.
        position: Position,
        /// The last position that is lost.
        floor: Position,
    },
    /// Events that cannot be stored, and why; at least one.
    #[error("{}", summarise(.0))]
    Events(Vec<EventProblem>),
    /// Conditions of an append that do not hold; at least one.
    #[error("{}", unmet(failures))]
    Conditions {
        /// Each of them.
        failures: Vec<ConditionFailure>,
        /// The last position then.
        last: Position,
    },
    /// Outcomes of deliveries that are not valid any more: place, event, and how that is now.
    #[error("{}", stale(.0))]
    Stale(Vec<(usize, Position, Current)>),
    /// Conditions that take too much to decide.
    #[error(
        "conditions need more than {} index entries to be looked at; name an identity, or a later \
         position",
        limits::CONDITION_ENTRIES_MAX
    )]
    ConditionsCostly,
    /// The batch has no events, too many, or too many bytes.
    #[error("{0}")]
    Batch(String),
    /// A stored payload that `Struct` cannot carry.
    #[error("event {position}: {message}")]
    NotRepresentable {
        /// Which event.
        position: Position,
        /// Where and why.
        message: String,
    },
    /// No such thing.
    #[error("{kind} `{name}` does not exist")]
    NotFound {
        /// What kind of thing.
        kind: Resource,
        /// Its name.
        name: String,
    },
    /// It exists with other settings.
    #[error("{kind} `{name}` exists with {difference}")]
    Exists {
        /// What kind of thing.
        kind: Resource,
        /// Its name.
        name: String,
        /// What is different.
        difference: String,
    },
    /// The dataset holds events.
    #[error("dataset `{name}` holds {events} events; pass force to delete them with it")]
    NotEmpty {
        /// Which dataset.
        name: String,
        /// How many events.
        events: u64,
    },
    /// The dataset takes no events.
    #[error("dataset `{0}` is closed")]
    DatasetClosed(String),
    /// The resource changed since the caller read it.
    #[error("{kind} `{name}` has etag `{current}`, the request `{found}`")]
    Etag {
        /// What kind of thing.
        kind: Resource,
        /// Its name.
        name: String,
        /// Its etag.
        current: String,
        /// The request's.
        found: String,
    },
    /// A built-in namespace cannot be changed.
    #[error("namespace `{0}` is built in")]
    BuiltIn(String),
    /// A schema document that cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaProblem),
    /// A document that others need.
    #[error("schema `{name}` is used by {}", some(users))]
    SchemaInUse {
        /// Its `$id`.
        name: String,
        /// Datasets and documents, in words.
        users: Vec<String>,
    },
    /// A built-in document is neither deleted nor deprecated.
    #[error("schema `{0}` is built in")]
    SchemaBuiltIn(String),
    /// A schema that no made instance satisfies.
    #[error("no instance that was made for schema `{0}` is valid")]
    NoSample(String),
    /// A document that breaks schemas in use; at least one.
    #[error("{}", incompatible(.0))]
    Incompatible(Vec<Affected>),
    /// A descriptor that is not well formed, or does not fit its schema; everything found wrong.
    #[error("{}", join(.0))]
    Descriptor(Vec<Invalid>),
    /// Several documents of one import have the same `$id`.
    #[error("`$id` `{id}` also stands in {}", some(others))]
    RepeatedId {
        /// The `$id`.
        id: String,
        /// What the sender calls the other documents.
        others: Vec<String>,
    },
    /// Settings of an event definition that are not sound, or not true to its schema.
    #[error("{}", join(.0))]
    Definition(Vec<Invalid>),
    /// An event definition that journeys rely on.
    #[error("event definition `{name}` is used by {}; {what}", some(users))]
    DefinitionInUse {
        /// Its name.
        name: String,
        /// Who relies on it.
        users: Vec<String>,
        /// What is refused.
        what: String,
    },
    /// An event definition that cannot be back-filled.
    #[error("event definition `{name}` cannot be back-filled: {what}")]
    Backfill {
        /// Its name.
        name: String,
        /// Why not.
        what: String,
    },
    /// The store holds as many as it may.
    #[error("the store holds the {max} {what} that it may")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The append queue, or the room for requests, is full.
    #[error("{0} is full")]
    Busy(&'static str),
    /// As many readers as there may be.
    #[error("the server serves the {max} {what} that it may")]
    Readers {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// As many streams of appends as there may be.
    #[error("the server serves the {} streams of appends that it may", limits::APPEND_STREAMS_MAX)]
    Streams,
    /// Events come faster than the dataset takes them.
    #[error("the dataset takes {per_second} events in a second; more came")]
    TooFast {
        /// What it takes.
        per_second: u32,
        /// After this time there is room again.
        wait: std::time::Duration,
    },
    /// The disk has little room left.
    #[error("disk has {free} bytes free; wanted {reserve} at least")]
    DiskLow {
        /// Bytes that may still be written.
        free: u64,
        /// The bytes that are to stay free.
        reserve: u64,
    },
    /// The caller's deadline passed.
    #[error("deadline passed {}", if *begun { "while the request was carried out" } else { "before the request was carried out" })]
    Deadline {
        /// Whether something can have been written.
        begun: bool,
    },
    /// The server is shutting down.
    #[error("server is shutting down")]
    Closing,
    /// A write failed; the store refuses writes.
    #[error("store refuses writes until it is reopened: a write failed")]
    Poisoned,
    /// Stored data is damaged. Logged where it was found.
    #[error("stored data is damaged")]
    Corrupt,
    /// A fault of the server's own. Logged where it happened.
    #[error("internal fault")]
    Internal,
}

/// What can be looked up by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A dataset.
    Dataset,
    /// A schema document or version.
    Schema,
    /// A descriptor.
    Descriptor,
    /// An identity namespace.
    Namespace,
    /// An event.
    Event,
    /// An event that was set aside.
    Quarantined,
    /// An event definition.
    EventDefinition,
    /// A subscription.
    Subscription,
    /// A snapshot of a subscription.
    Snapshot,
    /// A parked event of a subscription.
    Parked,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dataset => "dataset",
            Self::Schema => "schema",
            Self::Descriptor => "descriptor",
            Self::Namespace => "namespace",
            Self::Event => "event",
            Self::Quarantined => "quarantined event",
            Self::EventDefinition => "event definition",
            Self::Subscription => "subscription",
            Self::Snapshot => "snapshot",
            Self::Parked => "parked event",
        })
    }
}

/// What is wrong with one event of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventProblem {
    /// Place in the request, from 0.
    pub index: usize,
    /// The sender's id; empty when it cannot be read.
    pub event_id: String,
    /// What is wrong.
    pub fault: EventFault,
}

/// Why an event cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventFault {
    /// It is not an event: not JSON, no id, no time, …
    Malformed(Vec<Violation>),
    /// It breaks its schema.
    Violates(Vec<Violation>),
    /// Its time is not one that the dataset takes.
    OutOfTime(Vec<Violation>),
    /// Its id belongs to another event.
    Conflict {
        /// The id.
        event_id: String,
        /// Where the other event is stored; `START` when it stands earlier in the same request.
        position: Position,
        /// SHA-256 of the canonical JSON sent, in hexadecimal.
        sent_digest: String,
        /// The same of what is stored.
        stored_digest: String,
    },
}

impl EventFault {
    /// The sender's id, if it is part of the fault.
    pub(crate) fn event_id(&self) -> &str {
        match self {
            Self::Conflict { event_id, .. } => event_id,
            Self::Malformed(_) | Self::Violates(_) | Self::OutOfTime(_) => "",
        }
    }

    /// Places where it breaks a rule; none for a conflict.
    pub(crate) fn violations(&self) -> &[Violation] {
        match self {
            Self::Malformed(violations)
            | Self::Violates(violations)
            | Self::OutOfTime(violations) => violations,
            Self::Conflict { .. } => &[],
        }
    }

    /// The same, to keep.
    pub(crate) fn into_violations(self) -> Vec<Violation> {
        match self {
            Self::Malformed(violations)
            | Self::Violates(violations)
            | Self::OutOfTime(violations) => violations,
            Self::Conflict { .. } => Vec::new(),
        }
    }

    /// Bytes of all that it says.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Malformed(violations)
            | Self::Violates(violations)
            | Self::OutOfTime(violations) => violations
                .iter()
                .map(|it| it.instance_path.len() + it.schema_path.len() + it.message.len())
                .sum(),
            Self::Conflict { .. } => 0,
        }
    }

    /// Says only the first thing that is wrong.
    pub(crate) fn keep_first(&mut self) {
        if let Self::Malformed(violations)
        | Self::Violates(violations)
        | Self::OutOfTime(violations) = self
        {
            violations.truncate(1);
            violations.shrink_to_fit();
        }
    }

    /// In one line.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Malformed(violations)
            | Self::Violates(violations)
            | Self::OutOfTime(violations) => match violations.as_slice() {
                [] => "invalid".to_owned(),
                [only] => located(only),
                [first, rest @ ..] => format!("{} (and {} more)", located(first), rest.len()),
            },
            Self::Conflict { event_id, position, .. } if *position == Position::START => {
                format!("id `{event_id}` stands twice in the request with different content")
            }
            Self::Conflict { event_id, position, .. } => {
                format!("id `{event_id}` belongs to the different event at position {position}")
            }
        }
    }
}

impl Error {
    /// One bad field.
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Invalid::new(field, message)])
    }

    pub(crate) fn not_found(kind: Resource, name: impl Into<String>) -> Self {
        Self::NotFound { kind, name: name.into() }
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(vec![invalid])
    }
}

/// The caller learns what it can do; the cause goes to the log, once, here.
impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Poisoned(_) => Self::Poisoned,
            StorageError::Corrupt(what) => {
                tracing::error!(what, "stored data is damaged");
                Self::Corrupt
            }
            StorageError::Engine(_)
            | StorageError::File(_)
            | StorageError::Locked(_)
            | StorageError::Format { .. } => {
                tracing::error!(%error, "storage failed");
                Self::Internal
            }
        }
    }
}

fn incompatible(affected: &[Affected]) -> String {
    let Some(first) = affected.first() else { return "incompatible".to_owned() };
    let others = match affected.len() {
        1 => String::new(),
        count => format!("; {count} schemas in use in all"),
    };
    if let Some((name, problem)) = first.event_definitions.first() {
        let more = match first.event_definitions.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        return format!(
            "it breaks event definition `{name}`{more}: {problem}{others}; pass force to take it"
        );
    }
    let changes: Vec<String> = first.changes.breaking().map(Change::summary).collect();
    let datasets: Vec<String> = first.datasets.iter().map(|it| format!("`{it}`")).collect();
    format!(
        "it breaks schema `{}`, which dataset {} is under: {}{others}; pass force to take it",
        first.schema_id,
        some(&datasets),
        some(&changes),
    )
}

const SHOWN_MAX: usize = 5;

/// The first few of a list.
fn some(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN_MAX).cloned().collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl ConditionFailure {
    /// In one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let place = |position: Position| match position {
            Position::START => "none".to_owned(),
            position => position.to_string(),
        };
        match self.kind {
            FailureKind::LastPosition { expected, last, .. } => {
                format!("last position is {}, expected {}", place(last), place(expected))
            }
            FailureKind::Match { after, first, .. } => {
                format!("the event at position {first} matches after position {after}")
            }
            FailureKind::SchemaVersion { expected, found } => {
                format!("schema version is {found}, expected {expected}")
            }
        }
    }
}

fn unmet(failures: &[ConditionFailure]) -> String {
    let Some(first) = failures.first() else { return "a condition does not hold".to_owned() };
    let others = match failures.len() {
        1 => String::new(),
        count => format!("; {count} conditions in all"),
    };
    format!("condition {}: {}{others}", first.index, first.summary())
}

fn stale(outcomes: &[(usize, Position, Current)]) -> String {
    let Some((index, position, current)) = outcomes.first() else {
        return "an outcome is stale".to_owned();
    };
    let now = match current {
        Current::Resolved => "done",
        Current::InFlight => "delivered again",
        Current::Waiting => "waiting for its next attempt",
        Current::Parked => "parked",
        Current::Unknown => "not delivered",
    };
    let others = match outcomes.len() {
        1 => String::new(),
        count => format!("; {count} outcomes in all"),
    };
    format!("outcome {index}: the lease of event {position} is over, which is {now}{others}")
}

fn located(violation: &Violation) -> String {
    match violation.instance_path.as_str() {
        "" => violation.message.clone(),
        path => format!("`{path}`: {}", violation.message),
    }
}

fn join(invalid: &[Invalid]) -> String {
    invalid.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn summarise(problems: &[EventProblem]) -> String {
    let Some(first) = problems.first() else { return "invalid events".to_owned() };
    let others = match problems.len() {
        1 => String::new(),
        count => format!("; {count} events in all"),
    };
    format!("event {}: {}{others}", first.index, first.fault.summary())
}
