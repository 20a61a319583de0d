//! What waits until notes are kept.

use std::collections::BTreeSet;

use crate::{
    delivery::{ConsumerId, Lane, Note, ParkedChange, Subscription, entries::State},
    model::{Position, Timestamp},
};

/// What notes let happen, once they are kept: until then a crash can take them back, and a later event of a lane
/// would have been delivered before an earlier one was done.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// These events leave their lanes.
    pub(crate) done: Vec<(Position, Box<[Lane]>)>,
    /// These parked events do not hold their lanes any more.
    pub(crate) discarded: Vec<(Position, Box<[Lane]>)>,
    /// These are delivered again.
    pub(crate) replayed: Vec<(Position, Box<[Lane]>, u32)>,
    /// These attempts failed, and the next ones may begin then.
    pub(crate) failed: Vec<(Timestamp, Position)>,
    /// These consumers are told what became of what they said.
    pub(crate) answered: BTreeSet<ConsumerId>,
    /// This became of parked events, and may be told.
    pub(crate) parked: Vec<(Position, ParkedChange)>,
    /// Leases of this generation may be given.
    pub(crate) generation: Option<u64>,
}

impl Subscription {
    /// The changes since the last call. They must be kept, in this order, and then [`kept`](Self::kept) called.
    #[must_use]
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.taken.add(std::mem::take(&mut self.pending));
        std::mem::take(&mut self.notes)
    }

    /// The notes that were taken are kept: what they bring about happens now. What became of parked events.
    pub fn kept(&mut self) -> Vec<(Position, ParkedChange)> {
        let Pending { done, discarded, replayed, failed, answered: _, parked, generation } =
            std::mem::take(&mut self.taken);
        self.kept_generation = generation.or(self.kept_generation);
        for (position, lanes) in done {
            self.lanes.remove(&lanes, position);
            self.review(&lanes);
        }
        for (position, lanes) in discarded {
            self.lanes.unhold(&lanes, position);
            self.review(&lanes);
        }
        for (position, lanes, bytes) in replayed {
            self.lanes.unhold(&lanes, position);
            if position <= self.scanned_to {
                self.add_replay(position, lanes.clone(), bytes);
            }
            self.review(&lanes);
        }
        for (at, position) in failed {
            let state = self.entries.get(position).map(|it| it.state);
            if matches!(state, Some(State::Retry(until)) if until == at) {
                self.retries.insert((at, position));
            }
        }
        parked
    }

    /// A consumer has said something, and waits for the answer until that is kept.
    pub(crate) fn answer_when_kept(&mut self, consumer: ConsumerId) {
        self.pending.answered.insert(consumer);
    }

    /// Whether a consumer waits for an answer.
    pub(crate) fn waits_for_an_answer(&self, consumer: ConsumerId) -> bool {
        self.pending.answered.contains(&consumer) || self.taken.answered.contains(&consumer)
    }

    /// Lets the next attempt of an event begin then, at the earliest, once its failure is kept.
    pub(crate) fn retry_when_kept(&mut self, position: Position, at: Timestamp) {
        self.pending.failed.push((at, position));
    }

    /// Lets a parked event hold its lanes until its end is kept.
    pub(crate) fn unhold_when_kept(&mut self, position: Position, lanes: Box<[Lane]>) {
        self.pending.discarded.push((position, lanes));
    }

    /// Delivers a parked event again, once that is kept.
    pub(crate) fn replay_when_kept(&mut self, position: Position, lanes: Box<[Lane]>, bytes: u32) {
        self.pending.replayed.push((position, lanes, bytes));
    }

    /// Whether it is not kept yet that a parked event is to be delivered again.
    pub(crate) fn waits_to_be_replayed(&self, position: Position) -> bool {
        let mut waiting = self.pending.replayed.iter().chain(&self.taken.replayed);
        waiting.any(|it| it.0 == position)
    }
}

impl Pending {
    pub(crate) fn add(&mut self, later: Self) {
        self.done.extend(later.done);
        self.discarded.extend(later.discarded);
        self.replayed.extend(later.replayed);
        self.failed.extend(later.failed);
        self.answered.extend(later.answered);
        self.parked.extend(later.parked);
        self.generation = later.generation.or(self.generation);
    }

    pub(crate) fn forget_events(&mut self) {
        let told = (std::mem::take(&mut self.answered), std::mem::take(&mut self.parked));
        let ((answered, parked), generation) = (told, self.generation);
        *self = Self { answered, parked, generation, ..Self::default() };
    }
}
