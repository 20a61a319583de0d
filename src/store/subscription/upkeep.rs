//! What becomes of a subscription that is behind or that nobody uses, and what retention leaves for it.

use std::{sync::Arc, time::Duration};

use crate::{
    model::{DatasetName, Position, Timestamp, limits},
    storage::RowChange,
    store::{
        Error,
        subscription::{
            Ledger, Subscription, Subscriptions, Work,
            owner::{Owner, State},
        },
    },
};

/// How a subscription is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Further behind than this it is lagging.
    pub max_lag: Option<Duration>,
    /// Without consumers for so long it has expired.
    pub expire_after: Option<Duration>,
    /// Then it is deleted.
    pub delete_expired: bool,
    /// Bytes of payloads of each dataset that retention leaves for it; `None`: it does not wait for it.
    pub pin_bytes: Option<u64>,
}

/// When somebody used a subscription is known to a part of the time after which it expires.
const PARTS: u32 = 8;

/// Whether somebody uses a subscription that may expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing is to be done.
    Known,
    /// Somebody does, which is to be noted.
    Current,
    /// Nobody does, for so long that it has expired.
    Expired,
}

/// What retention leaves for a subscription.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    /// Its name.
    pub(crate) subscription: String,
    /// What is after this position.
    pub(crate) after: Position,
    /// At most so many bytes of payloads.
    pub(crate) bytes: u64,
}

impl Upkeep {
    /// Faults of the settings: field, what was found, and the bounds.
    pub(crate) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut bound = |field, found: Option<Duration>, max: Duration| {
            let min = limits::UPKEEP_MIN;
            if let Some(found) = found.filter(|it| *it < min || *it > max) {
                faults.push((field, format!("{found:?}; wanted {min:?} to {max:?}")));
            }
        };
        bound("max_lag", self.max_lag, limits::UPKEEP_MAX);
        bound("expire_after", self.expire_after, limits::UPKEEP_MAX);
        if let Some(found) = self.pin_bytes.filter(|it| *it > limits::PIN_BYTES_MAX) {
            let message = format!("{found}; at most {}", limits::PIN_BYTES_MAX);
            faults.push(("pin_retention_bytes", message));
        }
        if self.delete_expired && self.expire_after.is_none() {
            faults.push(("expire_policy", "DELETE without `expire_after`".to_owned()));
        }
        faults
    }
}

impl State {
    /// Whether somebody uses it, as far as that matters.
    pub(crate) fn usage(&self, now: Timestamp) -> Use {
        let Some(limit) = self.subscription.upkeep.expire_after else { return Use::Known };
        let unused = now.since(self.subscription.used_time.max(self.left));
        let part = limit / PARTS;
        if !self.sessions.is_empty() || self.machine.in_flight() > 0 {
            if unused >= part { Use::Current } else { Use::Known }
        } else if unused >= limit + part {
            // Whoever left may have been there until a part later than was noted.
            Use::Expired
        } else {
            Use::Known
        }
    }

    /// Notes that somebody uses it, if that is to be noted.
    pub(crate) fn note_use(&mut self, now: Timestamp, rows: &mut Vec<RowChange>) {
        if self.usage(now) == Use::Current {
            self.note_used(now, rows);
        }
    }

    fn note_used(&mut self, at: Timestamp, rows: &mut Vec<RowChange>) {
        if !self.is_deleted() && self.subscription.used_time < at {
            let used = Subscription { used_time: at, ..Subscription::clone(&self.subscription) };
            self.set(used.into(), rows);
        }
    }

    /// What retention leaves for it is after this position.
    pub(crate) fn pinned_after(&self) -> Option<Position> {
        self.subscription.upkeep.pin_bytes?;
        let durable = self.machine.durable();
        let parked = durable.parked.first_key_value().map(|it| it.0.previous());
        Some(parked.map_or(durable.floor, |it| it.min(durable.floor)))
    }
}

impl Subscriptions {
    /// What retention leaves of a dataset, and for whom.
    pub(crate) fn pins(&self, dataset: &DatasetName) -> Vec<Pin> {
        let pin = |owner: &Arc<Owner>| {
            let state = owner.state();
            let datasets = &state.subscription.filter.datasets;
            let selects = datasets.is_empty() || datasets.contains(dataset);
            let bytes = state.subscription.upkeep.pin_bytes.filter(|_| selects)?;
            Some(Pin { subscription: owner.name.to_string(), after: state.pinned_after()?, bytes })
        };
        self.all().iter().filter_map(pin).collect()
    }

    /// Work that notes which subscriptions are used.
    pub(crate) fn note_use(&self, now: Timestamp) -> Vec<Work> {
        let mut owners = self.all();
        owners.retain(|it| it.state().usage(now) == Use::Current);
        let work = move |owner: Arc<Owner>| -> Work {
            // Whoever was seen may have left since.
            Box::new(move |ledger, _now| {
                let mut rows = Vec::new();
                owner.state().note_used(now, &mut rows);
                ledger.add(rows);
                Box::new(|_written| {})
            })
        };
        owners.into_iter().map(work).collect()
    }

    /// Names of the subscriptions that have expired and are to be deleted.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<String> {
        let mut owners = self.all();
        owners.retain(|it| {
            let state = it.state();
            state.usage(now) == Use::Expired && state.subscription.upkeep.delete_expired
        });
        owners.iter().map(|it| it.name.to_string()).collect()
    }

    /// Takes a subscription away if it has expired still; whether it did.
    pub(crate) fn delete_expired(
        &self,
        name: &str,
        ledger: &mut Ledger,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let owner = self.get(name)?;
        let mut state = owner.state();
        if state.usage(now) != Use::Expired || !state.subscription.upkeep.delete_expired {
            return Ok(false);
        }
        let mut rows = Vec::new();
        state.delete(&mut rows, now);
        ledger.add(rows);
        self.remove(&owner.name);
        Ok(true)
    }
}
