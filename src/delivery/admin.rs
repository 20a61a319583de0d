//! What owners of a subscription do to it.

use std::sync::Arc;

use crate::{
    delivery::{Note, PositionSet, Settings, Subscription},
    model::{Position, Timestamp},
};

/// Where a subscription is to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeekTarget {
    /// After a position.
    After(Position),
    /// With what was done when it was saved under this name.
    Saved(Arc<str>),
}

impl Subscription {
    /// Goes on from elsewhere; leases are void, and what is above the target is as if never delivered. Whether
    /// there is such a target.
    pub fn seek(&mut self, target: &SeekTarget, at: Timestamp) -> bool {
        let (floor, resolved) = match target {
            SeekTarget::After(position) => (*position, PositionSet::default()),
            SeekTarget::Saved(name) => match self.durable.saved.get(name) {
                Some(saved) => (saved.floor, saved.resolved.clone()),
                None => return false,
            },
        };
        let generation = self.durable.generation + 1;
        self.note(Note::Sought { floor, resolved, at, generation });
        self.forget_window();
        self.draining = false;
        true
    }

    /// Keeps what is done now under a name.
    pub fn save(&mut self, name: &Arc<str>, at: Timestamp) {
        self.raise_floor();
        self.note(Note::Saved { name: Arc::clone(name), at });
    }

    /// Forgets what was kept under a name; whether there was such.
    pub fn forget(&mut self, name: &Arc<str>) -> bool {
        let there = self.durable.saved.contains_key(name);
        if there {
            self.note(Note::Forgotten(Arc::clone(name)));
        }
        there
    }

    /// Delivers nothing any more, or again. Leases go on.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Delivers nothing until a seek, so that leases come to an end.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Takes other settings. When they order events differently, or other events match now, leases
    /// are void and everything above the floor that is not done is looked at anew.
    pub fn update(&mut self, settings: Settings, other_events: bool) {
        let again = other_events || !self.settings.orders_like(&settings);
        self.settings = settings;
        if again {
            self.raise_floor();
            self.rewind();
        }
    }
}
