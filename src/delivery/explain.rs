//! Where an event stands, and how a subscription does.

use std::sync::Arc;

use crate::{
    delivery::{
        ConsumerFigures, ConsumerId, Lane, Parked, ParkedState, Skip, Subscription, entries::State,
        lane::Place,
    },
    model::{Position, Timestamp},
};

/// Where an event stands that matches a subscription's filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is done, or was before the subscription's start.
    Done {
        /// When it was acknowledged, if it was and that is remembered.
        acked_at: Option<Timestamp>,
    },
    /// It was skipped, by a consumer or a seek.
    Skipped(Skip),
    /// A consumer has it.
    InFlight {
        /// Who.
        client_id: Arc<str>,
        /// Its session.
        consumer: ConsumerId,
        /// Which time this is.
        attempt: u32,
        /// Until when.
        deadline: Timestamp,
    },
    /// It waits for its next attempt.
    RetryAt(Timestamp),
    /// It waits for another event.
    Behind {
        /// Which.
        position: Position,
        /// The lane that they share.
        lane: Lane,
    },
    /// Whoever can take it next gets it.
    Ready,
    /// It waits for a person.
    Parked(Box<Parked>),
    /// It has not been looked at.
    Ahead,
}

/// How a subscription does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Grows whenever leases become void.
    pub generation: u64,
    /// Everything up to here is done, parked, or not wanted.
    pub floor: Position,
    /// The filter has been evaluated up to here.
    pub scanned_to: Position,
    /// The first event that is neither done nor parked.
    pub oldest_unresolved: Option<Position>,
    /// Events that are neither done nor parked, as far as evaluated.
    pub unresolved: usize,
    /// Leased.
    pub in_flight: usize,
    /// Waiting for their next attempts.
    pub retrying: usize,
    /// Parked, those that are replayed aside.
    pub parked: usize,
    /// Being replayed.
    pub replaying: usize,
    /// Places of the window that are taken.
    pub window: usize,
    /// The window is full.
    pub window_full: bool,
    /// Lanes with unresolved events.
    pub lanes: usize,
    /// Events that were resolved, ever.
    pub resolved_total: u64,
    /// Attempts that failed, ever.
    pub failed_total: u64,
    /// Events that were discarded, ever.
    pub discarded_total: u64,
    /// Consumers.
    pub consumers: Vec<ConsumerFigures>,
}

impl Subscription {
    /// Where a matching event stands.
    #[must_use]
    pub fn explain(&self, position: Position) -> Standing {
        let Some(entry) = self.entries.get(position) else { return self.explain_absent(position) };
        match entry.state {
            State::Leased(lease) => Standing::InFlight {
                client_id: self.consumers.name(lease.consumer),
                consumer: lease.consumer,
                attempt: self.durable.attempts(position).map_or(0, |it| it.count) + 1,
                deadline: lease.deadline,
            },
            State::Retry(at) => Standing::RetryAt(at),
            State::Waiting => match self.place(position, entry) {
                Place::Free | Place::HeldBy(_) | Place::Convoy(_) => Standing::Ready,
                Place::Behind(position, lane) => Standing::Behind { position, lane },
            },
        }
    }

    fn explain_absent(&self, position: Position) -> Standing {
        if let Some(parked) = self.durable.parked.get(&position) {
            return Standing::Parked(Box::new(parked.clone()));
        }
        let mut skips = self.durable.skips.iter().rev();
        if let Some(skip) = skips.find(|it| (it.from..=it.to).contains(&position))
            && (self.durable.is_done(position) || position <= self.floor())
        {
            return Standing::Skipped(skip.clone());
        }
        if position <= self.scanned_to || self.durable.is_done(position) {
            return Standing::Done { acked_at: self.recent.acked_at(position) };
        }
        Standing::Ahead
    }

    /// How it does, now.
    #[must_use]
    pub fn figures(&self, now: Timestamp) -> Figures {
        let replaying = self.durable.parked.values();
        let replaying = replaying.filter(|it| it.state == ParkedState::Replaying).count();
        Figures {
            generation: self.durable.generation,
            floor: self.floor(),
            scanned_to: self.scanned_to,
            oldest_unresolved: self.entries.first(),
            unresolved: self.entries.in_window(),
            in_flight: self.leases.len(),
            retrying: self.retries.len(),
            parked: self.durable.parked.len() - replaying,
            replaying,
            window: self.settings.window_limit.saturating_sub(self.room()),
            window_full: self.room() == 0,
            lanes: self.lanes.len(),
            resolved_total: self.durable.resolved_total,
            failed_total: self.durable.failed_total,
            discarded_total: self.durable.discarded_total,
            consumers: self.consumers.figures(now),
        }
    }

    /// Lanes in which events wait for one that is not being worked on: retrying or parked. The
    /// fullest first, each with that event and how many wait.
    #[must_use]
    pub fn blocked_lanes(&self, most: usize) -> Vec<(Lane, Position, usize)> {
        self.lanes.blocked(most, |it| {
            let state = self.entries.get(it).map(|it| it.state);
            matches!(state, Some(State::Retry(_)))
        })
    }

    /// The events that are neither done nor parked, as far as evaluated.
    pub fn unresolved(&self) -> impl Iterator<Item = Position> {
        self.entries.iter().map(|it| it.0)
    }
}
