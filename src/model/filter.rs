//! Which events a reader wants.

use std::{fmt, sync::Arc};

use crate::model::{DatasetName, Timestamp};

/// Selects events: fields combine with AND, values inside a field with OR, an empty field selects
/// everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Datasets by name.
    pub datasets: Vec<DatasetName>,
    /// Event types.
    pub event_types: Vec<EventTypePattern>,
    /// Schema ids, any version.
    pub schemas: Vec<Arc<str>>,
    /// Versions of schemas.
    pub schema_versions: Vec<SchemaVersions>,
    /// Event definitions that were matched, by name.
    pub event_definitions: Vec<Arc<str>>,
    /// Identities, or whole namespaces.
    pub identities: Vec<IdentityPattern>,
    /// By event time.
    pub event_time: TimeRange,
    /// By record time.
    pub record_time: TimeRange,
    /// Text in the condition language.
    pub condition: Option<Arc<str>>,
    /// Name of an event definition: the events that it delivers, as it delivers them.
    pub deliver_as: Option<Arc<str>>,
    /// What becomes of events that are stored although they are invalid.
    pub tagged: Tagged,
}

/// Whether events are wanted that are stored although they are invalid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tagged {
    /// Valid ones only.
    #[default]
    LeftOut,
    /// Both.
    Included,
    /// Invalid ones only.
    Only,
}

impl Tagged {
    /// Whether an event is wanted that is tagged, or is not.
    pub(crate) fn wants(self, is_tagged: bool) -> bool {
        match self {
            Self::LeftOut => !is_tagged,
            Self::Included => true,
            Self::Only => is_tagged,
        }
    }
}

/// Some versions of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaVersions {
    /// Its `$id`.
    pub id: Arc<str>,
    /// The first of them; 0: from the first that there is.
    pub from: u32,
    /// The last of them; `None`: all that come, too.
    pub to: Option<u32>,
}

impl SchemaVersions {
    /// Whether a version of the schema is one of them.
    #[must_use]
    pub fn contains(&self, version: u32) -> bool {
        self.from <= version && self.to.is_none_or(|to| version <= to)
    }
}

/// One event type, or all that share a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTypePattern {
    /// Exactly this type.
    Exact(Arc<str>),
    /// Types that start with this text, which ends in a dot.
    Prefix(Arc<str>),
}

impl fmt::Display for EventTypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// One identity, or all of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityPattern {
    /// Namespace code.
    pub namespace: Arc<str>,
    /// `None`: every identity of the namespace.
    pub id: Option<Arc<str>>,
}

/// A half-open interval of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// First instant inside; `None`: unbounded.
    pub start: Option<Timestamp>,
    /// First instant after; `None`: unbounded.
    pub end: Option<Timestamp>,
}

impl TimeRange {
    /// Whether the instant lies inside.
    #[must_use]
    pub fn contains(&self, time: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= time) && self.end.is_none_or(|end| time < end)
    }

    /// Whether every instant lies inside.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        self.start.is_none() && self.end.is_none()
    }
}

/// Which end a read starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending position.
    Forward,
    /// Descending position.
    Backward,
}
