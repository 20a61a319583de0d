//! What survives: the floor, what is done above it, attempts, and parked events.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    delivery::{Failure, Hold, Lane, Note, ParkedBy, PositionSet},
    model::{Position, Timestamp, limits},
};

/// What survives of a subscription. Changed by notes only.
///
/// Invariant: everything up to the floor is done, parked, or was never wanted; `resolved` and `attempts`
/// are above the floor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// Grows whenever leases become void.
    pub generation: u64,
    /// Everything up to here is done, parked, or was never wanted.
    pub floor: Position,
    /// Done or parked, above the floor.
    pub resolved: PositionSet,
    /// Of events that failed and are not parked.
    pub attempts: BTreeMap<Position, Attempts>,
    /// Events that wait for a person, or are being replayed.
    pub parked: BTreeMap<Position, Parked>,
    /// What was done at some times, by name.
    pub saved: BTreeMap<Arc<str>, Saved>,
    /// The last events that were skipped.
    pub skips: VecDeque<Skip>,
    /// Events that were resolved, ever.
    pub resolved_total: u64,
    /// Attempts that failed, ever.
    pub failed_total: u64,
    /// Events that were discarded, ever.
    pub discarded_total: u64,
}

/// The failed attempts of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Since it was first delivered, or replayed.
    pub count: u32,
    /// In all.
    pub total: u32,
    /// When the first attempt began.
    pub first_delivered_at: Option<Timestamp>,
    /// When the next one may begin.
    pub retry_at: Timestamp,
    /// The last few, oldest first.
    pub failures: VecDeque<Failure>,
}

/// A parked event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Whether it is being replayed.
    pub state: ParkedState,
    /// When it was parked.
    pub at: Timestamp,
    /// By whom.
    pub by: ParkedBy,
    /// Why.
    pub reason: Arc<str>,
    /// Its lanes.
    pub lanes: Box<[Lane]>,
    /// Bytes of its payload.
    pub bytes: u32,
    /// What its stored payload was known by, if that was kept.
    pub digest: Option<u64>,
    /// What it does to its lanes.
    pub hold: Hold,
    /// Its attempts.
    pub attempts: Attempts,
}

/// What a parked event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedState {
    /// It waits.
    Waiting,
    /// It is delivered again.
    Replaying,
}

/// What was done at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// When.
    pub at: Timestamp,
    /// The floor then.
    pub floor: Position,
    /// What was done above it.
    pub resolved: PositionSet,
}

/// An event that was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The first event.
    pub from: Position,
    /// The last one; more than one after a seek.
    pub to: Position,
    /// When.
    pub at: Timestamp,
    /// Whose wish it was; empty for a seek.
    pub consumer: Arc<str>,
    /// And why.
    pub reason: Arc<str>,
}

impl Attempts {
    fn add(&mut self, failure: Failure) {
        self.count = self.count.saturating_add(1);
        self.total = self.total.saturating_add(1);
        if self.failures.len() >= limits::FAILURES_KEPT {
            self.failures.pop_front();
        }
        self.failures.push_back(failure);
    }
}

impl Durable {
    /// What survives of a subscription that begins after a position.
    #[must_use]
    pub fn after(floor: Position) -> Self {
        Self { floor, ..Self::default() }
    }

    /// Whether an event is done, parked, or was never wanted.
    #[must_use]
    pub fn is_done(&self, position: Position) -> bool {
        position <= self.floor || self.resolved.contains(position)
    }

    /// Whether an event is being replayed.
    #[must_use]
    pub fn is_replaying(&self, position: Position) -> bool {
        let parked = self.parked.get(&position);
        parked.is_some_and(|it| it.state == ParkedState::Replaying)
    }

    /// The failed attempts of an event.
    #[must_use]
    pub fn attempts(&self, position: Position) -> Option<&Attempts> {
        let of_window = self.attempts.get(&position);
        of_window.or_else(|| self.parked.get(&position).map(|it| &it.attempts))
    }

    /// Makes a change.
    pub fn apply(&mut self, note: Note) {
        match note {
            Note::Resolved(position) => self.resolve(position),
            Note::Skipped { position, at, consumer, reason } => {
                self.resolve(position);
                self.add_skip(Skip { from: position, to: position, at, consumer, reason });
            }
            Note::Failed { position, failure, first_delivered_at, retry_at } => {
                let attempts = match self.parked.get_mut(&position) {
                    Some(parked) => &mut parked.attempts,
                    None => self.attempts.entry(position).or_default(),
                };
                attempts.add(failure);
                attempts.first_delivered_at = Some(first_delivered_at);
                attempts.retry_at = retry_at;
                self.failed_total += 1;
            }
            Note::Parked {
                position,
                at,
                by,
                reason,
                lanes,
                bytes,
                digest,
                hold,
                failure,
                first_delivered_at,
            } => {
                let replayed = self.parked.remove(&position).map(|it| it.attempts);
                let mut attempts = self.attempts.remove(&position).or(replayed).unwrap_or_default();
                self.failed_total += u64::from(failure.is_some());
                if let Some(failure) = failure {
                    attempts.add(failure);
                }
                attempts.first_delivered_at = first_delivered_at;
                let state = ParkedState::Waiting;
                let parked = Parked { state, at, by, reason, lanes, bytes, digest, hold, attempts };
                self.parked.insert(position, parked);
                if position > self.floor {
                    self.resolved.insert(position);
                }
            }
            Note::Replayed { position, reset_attempts } => {
                if let Some(parked) = self.parked.get_mut(&position) {
                    parked.state = ParkedState::Replaying;
                    parked.attempts.retry_at = Timestamp::EPOCH;
                    if reset_attempts {
                        parked.attempts.count = 0;
                    }
                }
            }
            Note::Discarded(position) => {
                if self.parked.remove(&position).is_some() {
                    self.discarded_total += 1;
                }
            }
            Note::Floor(floor) => self.raise_floor(floor),
            Note::Sought { floor, resolved, at, generation } => {
                self.seek(floor, resolved, at);
                self.generation = generation;
            }
            Note::Generation(generation) => self.generation = generation,
            Note::Saved { name, at } => {
                let resolved = self.resolved.clone();
                self.saved.insert(name, Saved { at, floor: self.floor, resolved });
            }
            Note::Forgotten(name) => drop(self.saved.remove(&name)),
        }
    }

    fn resolve(&mut self, position: Position) {
        self.resolved_total += 1;
        if self.parked.remove(&position).is_none() {
            self.attempts.remove(&position);
            if position > self.floor {
                self.resolved.insert(position);
            }
        }
    }

    fn raise_floor(&mut self, floor: Position) {
        self.floor = floor.max(self.floor);
        self.resolved.remove_up_to(floor);
        while self.attempts.first_key_value().is_some_and(|(it, _)| *it <= floor) {
            self.attempts.pop_first();
        }
    }

    /// What is not done after the seek is as if it had never been delivered.
    fn seek(&mut self, floor: Position, resolved: PositionSet, at: Timestamp) {
        if floor > self.floor {
            let (from, to) = (self.floor.next(), floor);
            let (consumer, reason) = (Arc::from(""), Arc::from("seek"));
            self.add_skip(Skip { from, to, at, consumer, reason });
        }
        self.floor = floor;
        self.resolved = resolved;
        let (floor, resolved) = (self.floor, &self.resolved);
        self.attempts.clear();
        self.parked.retain(|position, _| *position <= floor || resolved.contains(*position));
    }

    fn add_skip(&mut self, skip: Skip) {
        if self.skips.len() >= limits::SKIPS_KEPT {
            self.skips.pop_front();
        }
        self.skips.push_back(skip);
    }
}
