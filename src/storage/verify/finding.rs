//! What a verification tells.

use crate::model::Position;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// A file or a database of the data directory.
    Directory,
    /// Events that cannot be read.
    Log,
    /// An event that can be read but is not as it should be.
    Record,
    /// The index is not what the log says. Derived: no event is lost.
    Index,
    /// The journal.
    Journal,
    /// A row of the catalog.
    Catalog,
    /// The table of rows that change together with the log.
    Table,
}

/// Something that is wrong with what is stored, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// What was found.
    pub message: String,
    /// Number of the volume it is in.
    pub volume: Option<u32>,
    /// First position of the packed block it is in; `START`: in none.
    pub block: Position,
    /// First and last position that it is about; `START`: about none.
    pub first: Position,
    /// See `first`.
    pub last: Position,
    /// Number of the index segment it is in.
    pub segment: Option<u32>,
    /// The term of the index, for people; may be empty.
    pub term: String,
    /// The event id, when it is about one event and the id is known; else empty.
    pub event_id: String,
}

impl Finding {
    pub(crate) fn new(kind: FindingKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            volume: None,
            block: Position::START,
            first: Position::START,
            last: Position::START,
            segment: None,
            term: String::new(),
            event_id: String::new(),
        }
    }

    pub(crate) fn in_volume(self, number: u32) -> Self {
        Self { volume: Some(number), ..self }
    }

    pub(crate) fn at(self, first: Position, last: Position) -> Self {
        Self { first, last, ..self }
    }
}

/// How far a verification has come, and in the end what it read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The log has been read up to here.
    pub position: Position,
    /// Up to where it is read.
    pub last_position: Position,
    /// Events read.
    pub events: u64,
    /// Positions without an event: removed by compaction.
    pub removed: u64,
    /// Positions whose events cannot be read.
    pub lost: u64,
    /// Volumes read.
    pub volumes: u64,
    /// Packed blocks read.
    pub blocks: u64,
    /// Index segments compared with the log.
    pub segments: u64,
    /// Commit groups read from the journal.
    pub frames: u64,
    /// Findings, also those that were too many to tell.
    pub findings: u64,
}

/// What a verification tells while it is at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyNews {
    /// It has come so far.
    Progress(Verified),
    /// Something is wrong.
    Finding(Finding),
}
