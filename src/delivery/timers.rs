//! What time brings: leases end, waits end, sessions end.

use std::{sync::Arc, time::Duration};

use crate::{
    delivery::{ConsumerId, FailureKind, Subscription, entries::State, park::PARK_BYTES},
    model::Timestamp,
};

/// Leases that are ended at a time; the rest right after.
const EXPIRED_MAX: usize = 1_000;

impl Subscription {
    /// When something is due next. May be past.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let sessions = self.consumers.iter().filter_map(|(_, it)| {
            let gone = it.gone_since.filter(|_| it.leases.is_empty());
            let session = gone.map(|it| it.plus(self.settings.session_timeout));
            session.into_iter().chain(it.quarantined_until).min()
        });
        let leases = self.leases.first().map(|it| it.0);
        let retries = self.retries.first().map(|it| it.0);
        let opens = Some(self.opens_at).filter(|it| *it > Timestamp::EPOCH);
        sessions.chain(leases).chain(retries).chain(opens).min()
    }

    /// Whether a lease is past its deadline.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.leases.first().is_some_and(|it| it.0 <= now)
    }

    /// Ends waits, sessions and quarantines that are over. Nothing of this must survive.
    pub fn wake(&mut self, now: Timestamp) {
        if self.opens_at <= now {
            self.opens_at = Timestamp::EPOCH;
        }
        while let Some((at, position)) = self.retries.first().copied().filter(|it| it.0 <= now) {
            self.retries.remove(&(at, position));
            if let Some(entry) = self.entries.get_mut(position) {
                entry.state = State::Waiting;
            }
            self.reconsider(position);
        }
        let timeout = self.settings.session_timeout;
        let over: Vec<ConsumerId> = self
            .consumers
            .iter()
            .filter(|(_, it)| it.leases.is_empty())
            .filter(|(_, it)| it.gone_since.is_some_and(|since| since.plus(timeout) <= now))
            .map(|it| it.0)
            .collect();
        for id in over {
            self.consumers.remove(id);
        }
        let free: Vec<ConsumerId> = self
            .consumers
            .iter()
            .filter(|(_, it)| it.quarantined_until.is_some_and(|until| until <= now))
            .map(|it| it.0)
            .collect();
        for id in free {
            self.consumers.change(id, |it| it.quarantined_until = None);
        }
    }

    /// Ends leases that are past their deadlines, some at a time.
    pub fn expire(&mut self, now: Timestamp) {
        let mut bytes = 0_u32;
        for _ in 0..EXPIRED_MAX {
            if bytes >= PARK_BYTES {
                return;
            }
            let Some((_, position)) = self.leases.first().copied().filter(|it| it.0 <= now) else {
                return;
            };
            bytes = bytes.saturating_add(self.bytes(position));
            let consumer = self.entries.lease(position).map(|it| it.consumer);
            self.fail(position, FailureKind::Expired, Arc::from(""), None, now);
            if let Some(consumer) = consumer {
                self.count_expiry(consumer, now);
            }
        }
    }

    /// A consumer that lets one lease after the other expire gets nothing for a while.
    fn count_expiry(&mut self, consumer: ConsumerId, now: Timestamp) {
        let (most, backoff) = (self.settings.quarantine_after, self.settings.backoff);
        self.consumers.change(consumer, |it| {
            it.expiries = it.expiries.saturating_add(1);
            if most > 0 && it.expiries >= most {
                let doubled = 2_u32.saturating_pow((it.expiries - most).min(31));
                let wait = backoff.min.saturating_mul(doubled).min(backoff.max);
                it.quarantined_until = Some(now.plus(wait.max(Duration::from_millis(1))));
            }
        });
    }

    /// The leases of a client's former instance have failed.
    pub(crate) fn replace_instance(&mut self, consumer: ConsumerId, now: Timestamp) {
        let leases: Vec<_> = match self.consumers.get(consumer) {
            Some(consumer) => consumer.leases.iter().copied().collect(),
            None => return,
        };
        for position in leases {
            // A failure may have revoked others.
            if self.entries.is_leased(position) {
                self.fail(position, FailureKind::Replaced, Arc::from(""), None, now);
            }
        }
    }
}
