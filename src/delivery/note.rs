//! Notes: what must survive, one change at a time.

use std::sync::Arc;

use crate::{
    delivery::{Hold, Lane, PositionSet},
    model::{Position, Timestamp},
};

/// A change of what must survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The event is done.
    Resolved(Position),
    /// The event is done without success, by a consumer's wish.
    Skipped {
        /// Which.
        position: Position,
        /// When.
        at: Timestamp,
        /// Whose wish it was.
        consumer: Arc<str>,
        /// And why.
        reason: Arc<str>,
    },
    /// An attempt failed.
    Failed {
        /// Of which event.
        position: Position,
        /// How and when.
        failure: Failure,
        /// When the first attempt began.
        first_delivered_at: Timestamp,
        /// When the next one may begin.
        retry_at: Timestamp,
    },
    /// The event waits for a person; it also counts as a failed attempt if `failure` says so.
    Parked {
        /// Which.
        position: Position,
        /// When.
        at: Timestamp,
        /// By whom.
        by: ParkedBy,
        /// Why.
        reason: Arc<str>,
        /// Its lanes.
        lanes: Box<[Lane]>,
        /// Bytes of its payload.
        bytes: u32,
        /// What its stored payload is known by, if that is known.
        digest: Option<u64>,
        /// What it does to its lanes.
        hold: Hold,
        /// The last attempt, when it failed with it.
        failure: Option<Failure>,
        /// When the first attempt began; `None` if there was none.
        first_delivered_at: Option<Timestamp>,
    },
    /// A parked event is delivered again.
    Replayed {
        /// Which.
        position: Position,
        /// Its attempts begin anew.
        reset_attempts: bool,
    },
    /// A parked event is given up.
    Discarded(Position),
    /// Everything up to here is done, or was never wanted.
    Floor(Position),
    /// The subscription goes on from elsewhere.
    Sought {
        /// The floor now.
        floor: Position,
        /// What is done above it.
        resolved: PositionSet,
        /// When.
        at: Timestamp,
        /// Grows with each.
        generation: u64,
    },
    /// Leases given before are void.
    Generation(u64),
    /// What is done now is kept under a name.
    Saved {
        /// The name.
        name: Arc<str>,
        /// When.
        at: Timestamp,
    },
    /// A kept one is not needed any more.
    Forgotten(Arc<str>),
}

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// Whose attempt it was: the client's name for itself.
    pub consumer: Arc<str>,
    /// In which way.
    pub kind: FailureKind,
    /// The consumer's words, perhaps none.
    pub reason: Arc<str>,
}

/// In which way an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The consumer said so.
    Nacked,
    /// The lease ended without an outcome.
    Expired,
    /// The consumer came back as another instance, which knows nothing of the lease.
    Replaced,
}

/// What became of a parked event, or that there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedChange {
    /// It is parked now.
    Parked,
    /// It is delivered again.
    Replayed,
    /// It was replayed, and is done.
    Resolved,
    /// It was given up.
    Discarded,
}

/// Who parked an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedBy {
    /// It failed too often.
    MaxAttempts,
    /// A consumer.
    Client,
    /// It has no lane.
    NoLane,
    /// It stands behind this parked event.
    Convoy(Position),
}
