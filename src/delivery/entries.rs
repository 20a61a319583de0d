//! The events that are neither done nor parked.

use std::collections::BTreeMap;

use crate::{
    delivery::{ConsumerId, Lane},
    model::{Position, Timestamp},
};

/// An event that is neither done nor parked.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) lanes: Box<[Lane]>,
    pub(crate) bytes: u32,
    /// What its stored payload is known by, if that is known.
    pub(crate) digest: Option<u64>,
    /// It has no lane and is to be parked for that.
    pub(crate) lost: bool,
    pub(crate) first_delivered_at: Option<Timestamp>,
    pub(crate) state: State,
}

/// What an event waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// Its turn.
    Waiting,
    /// The time of its next attempt.
    Retry(Timestamp),
    /// Its consumer.
    Leased(Lease),
}

/// The right of a consumer to work on an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// Never given twice in one generation.
    pub(crate) number: u64,
    pub(crate) consumer: ConsumerId,
    pub(crate) deadline: Timestamp,
}

/// The window's events, and those that are replayed, which the floor does not wait for.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    window: BTreeMap<Position, Entry>,
    replays: BTreeMap<Position, Entry>,
}

impl Entries {
    pub(crate) fn insert(&mut self, position: Position, entry: Entry) {
        self.window.insert(position, entry);
    }

    pub(crate) fn insert_replay(&mut self, position: Position, entry: Entry) {
        self.replays.insert(position, entry);
    }

    pub(crate) fn get(&self, position: Position) -> Option<&Entry> {
        self.window.get(&position).or_else(|| self.replays.get(&position))
    }

    pub(crate) fn get_mut(&mut self, position: Position) -> Option<&mut Entry> {
        match self.window.get_mut(&position) {
            Some(entry) => Some(entry),
            None => self.replays.get_mut(&position),
        }
    }

    pub(crate) fn remove(&mut self, position: Position) -> Option<Entry> {
        self.window.remove(&position).or_else(|| self.replays.remove(&position))
    }

    pub(crate) fn is_leased(&self, position: Position) -> bool {
        self.lease(position).is_some()
    }

    pub(crate) fn lease(&self, position: Position) -> Option<Lease> {
        match self.get(position)?.state {
            State::Leased(lease) => Some(lease),
            State::Waiting | State::Retry(_) => None,
        }
    }

    /// The first event of the window.
    pub(crate) fn first(&self) -> Option<Position> {
        self.window.first_key_value().map(|it| *it.0)
    }

    /// How many the window has.
    pub(crate) fn in_window(&self) -> usize {
        self.window.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Position, &Entry)> {
        self.window.iter().chain(&self.replays).map(|(position, entry)| (*position, entry))
    }

    pub(crate) fn clear(&mut self) {
        self.window.clear();
        self.replays.clear();
    }
}
