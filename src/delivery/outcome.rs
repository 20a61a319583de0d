//! Outcomes of deliveries.

use std::{sync::Arc, time::Duration};

use crate::{
    delivery::{
        ConsumerId, Failure, FailureKind, Hold, Note, Ordering, ParkedBy, ParkedState,
        Subscription,
        entries::{Lease, State},
    },
    model::{Position, Timestamp},
};

/// Names a lease; fences off whoever had the event before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId {
    /// Which generation of the subscription gave it.
    pub generation: u64,
    /// Of which event.
    pub position: Position,
    /// Never given twice in one generation.
    pub number: u64,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Ack,
    /// This attempt failed.
    Nack {
        /// The wait before the next one; `None`: the back-off.
        delay: Option<Duration>,
        /// Why.
        reason: Arc<str>,
    },
    /// It is to wait for a person.
    Park {
        /// Why.
        reason: Arc<str>,
    },
    /// It is done without success.
    Skip {
        /// Why.
        reason: Arc<str>,
    },
    /// It takes longer: the lease ends so much from now.
    Extend(Duration),
}

/// An outcome, as far as repeating it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutcomeKind {
    Ack,
    Nack,
    Park,
    Skip,
}

impl Outcome {
    /// Whether the event may be parked for it.
    #[must_use]
    pub fn may_park(&self) -> bool {
        matches!(self, Self::Park { .. } | Self::Nack { .. })
    }

    fn kind(&self) -> Option<OutcomeKind> {
        match self {
            Self::Ack => Some(OutcomeKind::Ack),
            Self::Nack { .. } => Some(OutcomeKind::Nack),
            Self::Park { .. } => Some(OutcomeKind::Park),
            Self::Skip { .. } => Some(OutcomeKind::Skip),
            Self::Extend(_) => None,
        }
    }
}

/// What became of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Applied, now or before.
    Done,
    /// Applied: the lease ends then.
    Extended(Timestamp),
    /// Not applied: the lease is not valid any more.
    Stale(Current),
}

/// How an event is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Current {
    /// Done.
    Resolved,
    /// Leased, to the same consumer or another.
    InFlight,
    /// It waits for its next attempt.
    Waiting,
    /// It waits for a person.
    Parked,
    /// Not delivered since the subscription went on from elsewhere.
    Unknown,
}

impl Subscription {
    /// Whether a lease is valid, so that its outcome would be applied.
    #[must_use]
    pub fn is_valid(&self, id: LeaseId) -> bool {
        self.lease_of(id).is_some()
    }

    fn lease_of(&self, id: LeaseId) -> Option<Lease> {
        let lease = self.entries.lease(id.position)?;
        let same = id.generation == self.durable.generation && lease.number == id.number;
        same.then_some(lease)
    }

    /// Applies an outcome, if its lease is valid.
    pub fn apply(&mut self, id: LeaseId, outcome: Outcome, now: Timestamp) -> Answer {
        let kind = outcome.kind();
        let Some(lease) = self.lease_of(id) else {
            let repeated = id.generation == self.durable.generation
                && kind.is_some_and(|kind| self.recent.get(id.number) == Some(kind));
            return if repeated { Answer::Done } else { Answer::Stale(self.current(id.position)) };
        };
        let position = id.position;
        if let Some(kind) = kind {
            self.recent.add(id.number, position, kind, now);
            self.answer_when_kept(lease.consumer);
        }
        match outcome {
            Outcome::Ack => {
                self.resolve(position, lease.consumer, Note::Resolved(position), now);
            }
            Outcome::Skip { reason } => {
                let consumer = self.consumers.name(lease.consumer);
                let note = Note::Skipped { position, at: now, consumer, reason };
                self.resolve(position, lease.consumer, note, now);
            }
            Outcome::Nack { delay, reason } => {
                let kind = FailureKind::Nacked;
                self.consumers.change(lease.consumer, |it| it.expiries = 0);
                self.fail(position, kind, reason, delay, now);
            }
            Outcome::Park { reason } => {
                let consumer = self.consumers.name(lease.consumer);
                let kind = FailureKind::Nacked;
                let failure = Failure { at: now, consumer, kind, reason: Arc::clone(&reason) };
                self.park(position, ParkedBy::Client, reason, Some(failure), now);
            }
            Outcome::Extend(by) => return Answer::Extended(self.extend(position, lease, by, now)),
        }
        Answer::Done
    }

    /// Resolves everything that is leased to a consumer up to a position; only when ordered in total. How many
    /// there were.
    pub fn ack_up_to(
        &mut self,
        consumer: ConsumerId,
        position: Position,
        now: Timestamp,
    ) -> Option<usize> {
        if self.settings.ordering != Ordering::Total {
            return None;
        }
        let leases = &self.consumers.get(consumer)?.leases;
        let acked: Vec<_> = leases.range(..=position).copied().collect();
        for position in &acked {
            if let Some(lease) = self.entries.lease(*position) {
                self.recent.add(lease.number, *position, OutcomeKind::Ack, now);
            }
            self.resolve(*position, consumer, Note::Resolved(*position), now);
        }
        Some(acked.len())
    }

    fn resolve(&mut self, position: Position, consumer: ConsumerId, note: Note, now: Timestamp) {
        self.take_out(position, Hold::None);
        self.note(note);
        self.consumers.change(consumer, |it| it.resolved(now));
    }

    fn extend(
        &mut self,
        position: Position,
        lease: Lease,
        by: Duration,
        now: Timestamp,
    ) -> Timestamp {
        let deadline = now.plus(by);
        self.end_lease_at(position, lease, deadline);
        deadline
    }

    /// Renews every lease of a consumer that can be reached: none ends before its ack deadline has passed from
    /// now, and none ends earlier than it would have.
    pub fn keep_alive(&mut self, consumer: ConsumerId, now: Timestamp) {
        let Some(it) = self.consumers.get(consumer).filter(|it| it.gone_since.is_none()) else {
            return;
        };
        let deadline = now.plus(it.ack_deadline.unwrap_or(self.settings.ack_deadline));
        for position in it.leases.clone() {
            let lease = self.entries.lease(position).filter(|it| it.deadline < deadline);
            if let Some(lease) = lease {
                self.end_lease_at(position, lease, deadline);
            }
        }
    }

    fn end_lease_at(&mut self, position: Position, lease: Lease, deadline: Timestamp) {
        if let Some(entry) = self.entries.get_mut(position) {
            entry.state = State::Leased(Lease { deadline, ..lease });
            self.leases.remove(&(lease.deadline, position));
            self.leases.insert((deadline, position));
        }
    }

    /// Ends a lease whose attempt failed: another attempt later, or the event is parked.
    pub(crate) fn fail(
        &mut self,
        position: Position,
        kind: FailureKind,
        reason: Arc<str>,
        delay: Option<Duration>,
        now: Timestamp,
    ) {
        let Some(lease) = self.entries.lease(position) else { return };
        self.consumers.change(lease.consumer, |it| it.failed(now));
        let consumer = self.consumers.name(lease.consumer);
        let failure = Failure { at: now, consumer, kind, reason: Arc::clone(&reason) };
        let count = self.durable.attempts(position).map_or(0, |it| it.count).saturating_add(1);
        let most = self.settings.max_attempts;
        if most > 0 && count >= most {
            return self.park(position, ParkedBy::MaxAttempts, reason, Some(failure), now);
        }
        self.end_lease(position);
        let retry_at = match delay {
            Some(delay) => now.plus(delay),
            None => self.settings.backoff.next(count, now, position, self.salt),
        };
        let Some(entry) = self.entries.get_mut(position) else { return };
        entry.state = State::Retry(retry_at);
        let first_delivered_at = entry.first_delivered_at.unwrap_or(now);
        let lanes = entry.lanes.clone();
        self.retry_when_kept(position, retry_at);
        self.note(Note::Failed { position, failure, first_delivered_at, retry_at });
        self.revoke_after(position);
        self.review(&lanes);
    }

    /// How an event is now.
    #[must_use]
    pub fn current(&self, position: Position) -> Current {
        match self.entries.get(position).map(|it| it.state) {
            Some(State::Leased(_)) => Current::InFlight,
            Some(State::Waiting | State::Retry(_)) => Current::Waiting,
            None => match self.durable.parked.get(&position).map(|it| it.state) {
                Some(ParkedState::Waiting) => Current::Parked,
                _ if self.durable.is_done(position) || position <= self.floor() => {
                    Current::Resolved
                }
                _ => Current::Unknown,
            },
        }
    }
}
