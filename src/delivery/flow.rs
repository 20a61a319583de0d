//! Events come in from the log and go out to consumers.

use std::{sync::Arc, time::Duration};

use crate::{
    delivery::{
        ConsumerId, Credit, Failure, Joined, LeaseId, Refused, Subscription,
        consumers::Consumer,
        entries::{Entry, Lease, State},
        lane::{Lanes, Place},
    },
    model::{Identity, Position, Timestamp},
};

/// Events that are known ahead of those that consumers could take at once.
const AHEAD: usize = 256;

/// A matching event of the log.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its place.
    pub position: Position,
    /// Whom it is about.
    pub identities: &'a [Identity],
    /// Bytes of its payload.
    pub bytes: u32,
    /// What its stored payload is known by.
    pub digest: u64,
}

/// One attempt of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whose.
    pub consumer: ConsumerId,
    /// What its outcome names.
    pub lease: LeaseId,
    /// Which time this is, from 1.
    pub attempt: u32,
    /// Which time this is since it was first delivered, whatever was replayed.
    pub total_attempts: u32,
    /// When its lease ends.
    pub deadline: Timestamp,
    /// When the first attempt began.
    pub first_delivered_at: Timestamp,
    /// How the last attempts failed, oldest first.
    pub failures: Vec<Failure>,
    /// It was parked, and is delivered again.
    pub replay: bool,
}

impl Subscription {
    /// Takes up a matching event. Those after `scanned_to`, in order; others are known already.
    pub fn enter(&mut self, arrival: &Arrival<'_>) {
        let Arrival { position, identities, bytes, digest } = *arrival;
        if position <= self.scanned_to {
            return;
        }
        self.scanned(position);
        // Parked ones are among these.
        if self.durable.is_done(position) {
            return;
        }
        let Lanes { lanes, lost } = self.settings.lanes(identities);
        self.lanes.insert(&lanes, position);
        let entry = Entry { digest: Some(digest), ..self.entry(position, lanes, bytes, lost) };
        self.entries.insert(position, entry);
        self.reconsider(position);
    }

    /// The filter has been evaluated up to here.
    pub fn scanned(&mut self, to: Position) {
        let before = self.scanned_to;
        if to > before {
            self.scanned_to = to;
            self.take_up_replays(before);
        }
    }

    /// Up to where the filter has been evaluated.
    #[must_use]
    pub fn scanned_to(&self) -> Position {
        self.scanned_to
    }

    /// How many more events it would be well to know now.
    #[must_use]
    pub fn wanted(&self) -> usize {
        let wanted = self.consumers.demand().saturating_add(AHEAD);
        wanted.saturating_sub(self.ready.len()).min(self.room())
    }

    /// Gives consumers what they can take, at most `most` events, the oldest first.
    pub fn deliver(&mut self, now: Timestamp, most: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        if !self.is_open(now) {
            return deliveries;
        }
        self.deliver_reserved(now, most, &mut deliveries);
        while deliveries.len() < most && self.consumers.can_take_any() {
            let Some(position) = self.next_ready() else { break };
            let Some(entry) = self.entries.get(position) else { break };
            let (lane, bytes) = (entry.lanes.first().copied(), entry.bytes);
            let Some(consumer) = self.consumers.choose(lane, bytes) else { break };
            deliveries.extend(self.lease(position, consumer, now));
        }
        // The next ones of the lanes that were begun.
        self.deliver_reserved(now, most, &mut deliveries);
        deliveries
    }

    fn deliver_reserved(&mut self, now: Timestamp, most: usize, to: &mut Vec<Delivery>) {
        for consumer in self.consumers.with_reserved() {
            while to.len() < most
                && let Some(position) = self.next_reserved(consumer)
            {
                to.extend(self.lease(position, consumer, now));
            }
        }
    }

    /// The oldest event that anybody may have.
    fn next_ready(&mut self) -> Option<Position> {
        loop {
            let position = *self.ready.first()?;
            let entry = self.entries.get(position);
            let free = entry.is_some_and(|it| {
                matches!(it.state, State::Waiting) && self.place(position, it) == Place::Free
            });
            if free {
                return Some(position);
            }
            self.ready.remove(&position);
            self.reconsider(position);
        }
    }

    /// The oldest event that only this consumer may have, if it can take it.
    fn next_reserved(&mut self, consumer: ConsumerId) -> Option<Position> {
        loop {
            let position = *self.consumers.get(consumer)?.reserved.first()?;
            let entry = self.entries.get(position);
            let held = entry.filter(|it| {
                matches!(it.state, State::Waiting)
                    && self.place(position, it) == Place::HeldBy(consumer)
            });
            if let Some(bytes) = held.map(|it| it.bytes) {
                return self.consumers.takes(consumer, bytes).then_some(position);
            }
            self.consumers.change(consumer, |it| {
                it.reserved.remove(&position);
            });
            self.reconsider(position);
        }
    }

    fn lease(
        &mut self,
        position: Position,
        consumer: ConsumerId,
        now: Timestamp,
    ) -> Option<Delivery> {
        let own = self.consumers.get(consumer).and_then(|it| it.ack_deadline);
        let entry = self.entries.get_mut(position)?;
        self.last_lease += 1;
        let deadline = now.plus(own.unwrap_or(self.settings.ack_deadline));
        let lease = Lease { number: self.last_lease, consumer, deadline };
        entry.state = State::Leased(lease);
        entry.first_delivered_at.get_or_insert(now);
        self.leases.insert((deadline, position));
        self.ready.remove(&position);
        self.lanes.take_off(&entry.lanes, consumer);
        self.consumers.gave(consumer, position, entry.bytes, now);
        if self.settings.max_in_flight_per_lane > 1 {
            let lanes = entry.lanes.clone();
            self.review(&lanes);
        }
        self.describe(position, lease)
    }

    pub(crate) fn describe(&self, position: Position, lease: Lease) -> Option<Delivery> {
        let entry = self.entries.get(position)?;
        let attempts = self.durable.attempts(position);
        let generation = self.durable.generation;
        Some(Delivery {
            consumer: lease.consumer,
            lease: LeaseId { generation, position, number: lease.number },
            attempt: attempts.map_or(0, |it| it.count).saturating_add(1),
            total_attempts: attempts.map_or(0, |it| it.total).saturating_add(1),
            deadline: lease.deadline,
            first_delivered_at: entry.first_delivered_at.unwrap_or_default(),
            failures: attempts.map(|it| it.failures.iter().cloned().collect()).unwrap_or_default(),
            replay: self.durable.is_replaying(position),
        })
    }

    /// Lets a client in. One that comes back as the instance that it was keeps its leases; those of
    /// another instance have failed, which is a note. `quota` is how many events it wants; `None`: always more.
    ///
    /// # Errors
    /// When there are as many consumers as there may be.
    pub fn join(
        &mut self,
        client_id: &Arc<str>,
        instance: u64,
        credit: Credit,
        quota: Option<u32>,
        now: Timestamp,
    ) -> Result<Joined, Refused> {
        let joined = self.consumers.join(client_id, instance, credit, quota, now)?;
        if joined.replaced {
            self.replace_instance(joined.consumer, now);
        }
        Ok(joined)
    }

    /// Changes what a consumer may have at a time.
    pub fn set_credit(&mut self, consumer: ConsumerId, credit: Credit) {
        self.consumers.change(consumer, |it| it.credit = credit);
    }

    /// Changes how long a consumer has for an event that it is given from now on; `None`: as the settings say.
    pub fn set_ack_deadline(&mut self, consumer: ConsumerId, deadline: Option<Duration>) {
        self.consumers.change(consumer, |it| it.ack_deadline = deadline);
    }

    /// What a consumer asked for ends: it gets no more until it asks again.
    pub fn stop_asking(&mut self, consumer: ConsumerId) {
        self.consumers.change(consumer, |it| it.quota = Some(0));
    }

    /// A consumer takes no new events, and finishes those that it has.
    pub fn drain(&mut self, consumer: ConsumerId) {
        self.consumers.change(consumer, |it| it.draining = true);
        self.consumers.list_again();
    }

    /// Whether a consumer that takes no new events has finished those that it had, and been answered.
    #[must_use]
    pub fn is_drained(&self, consumer: ConsumerId) -> bool {
        let finished = |it: &Consumer| it.draining && it.leases.is_empty();
        self.consumers.get(consumer).is_some_and(finished) && !self.waits_for_an_answer(consumer)
    }

    /// A consumer is gone without a word. Its leases stay until their deadlines.
    pub fn disconnect(&mut self, consumer: ConsumerId, now: Timestamp) {
        self.consumers.disconnect(consumer, now);
    }

    /// A consumer leaves. What it gives back counts as no attempt.
    pub fn leave(&mut self, consumer: ConsumerId) {
        self.give_back(consumer);
        self.consumers.remove(consumer);
    }

    /// A consumer gives back what it has; that counts as no attempt.
    pub fn give_back(&mut self, consumer: ConsumerId) {
        let leases: Vec<_> = match self.consumers.get(consumer) {
            Some(consumer) => consumer.leases.iter().copied().collect(),
            None => return,
        };
        for position in leases {
            self.release(position);
        }
    }

    /// Ends a lease without an outcome.
    pub(crate) fn release(&mut self, position: Position) {
        if self.end_lease(position).is_none() {
            return;
        }
        self.revoke_after(position);
        let lanes = self.entries.get(position).map(|it| it.lanes.clone()).unwrap_or_default();
        self.reconsider(position);
        self.review(&lanes);
    }
}
