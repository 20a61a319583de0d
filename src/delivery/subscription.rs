//! One subscription: what survives, and what is known besides until the next restart.

use std::{collections::BTreeSet, ops::Bound};

use crate::{
    delivery::{
        Delivery, Durable, Hold, Lane, Note, ParkedFull, ParkedState, Settings,
        consumers::Consumers,
        entries::{Entries, Entry, Lease, State},
        lane::{LaneTable, Place},
        pending::Pending,
        recent::Recent,
    },
    model::{Position, Timestamp},
};

/// The state of one subscription. See the module for what comes in and out.
///
/// Invariants: an entry is in `leases` while it is leased, in `retries` while it waits for a time, and in one of
/// `ready`, `to_park` and its holder's reserve at least while it is eligible; whoever takes from these looks
/// again. Consumers' leases are those of the entries.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) settings: Settings,
    pub(crate) durable: Durable,
    /// Changes that nobody has taken yet.
    pub(crate) notes: Vec<Note>,
    /// What comes after those, once they are kept.
    pub(crate) pending: Pending,
    /// The same of the notes that were taken last.
    pub(crate) taken: Pending,
    /// The filter has been evaluated up to here.
    pub(crate) scanned_to: Position,
    pub(crate) entries: Entries,
    pub(crate) lanes: LaneTable,
    pub(crate) consumers: Consumers,
    /// May be delivered to anybody.
    pub(crate) ready: BTreeSet<Position>,
    /// Are to be parked.
    pub(crate) to_park: BTreeSet<Position>,
    pub(crate) retries: BTreeSet<(Timestamp, Position)>,
    pub(crate) leases: BTreeSet<(Timestamp, Position)>,
    pub(crate) recent: Recent,
    pub(crate) last_lease: u64,
    /// Nothing is delivered.
    pub(crate) paused: bool,
    /// Nothing is delivered until no lease is left.
    pub(crate) draining: bool,
    /// Which generation is kept; in a newer one nothing is delivered yet.
    pub(crate) kept_generation: Option<u64>,
    /// Nothing is delivered before; `EPOCH` once that is over.
    pub(crate) opens_at: Timestamp,
    pub(crate) salt: u64,
}

impl Subscription {
    /// A subscription as it survived; `salt` is any number, for the jitter of waits. Leases given before are
    /// void: the first note says so.
    #[must_use]
    pub fn restore(durable: Durable, settings: Settings, salt: u64, opens_at: Timestamp) -> Self {
        let mut restored = Self {
            settings,
            scanned_to: durable.floor,
            durable,
            notes: Vec::new(),
            pending: Pending::default(),
            taken: Pending::default(),
            entries: Entries::default(),
            lanes: LaneTable::default(),
            consumers: Consumers::default(),
            ready: BTreeSet::new(),
            to_park: BTreeSet::new(),
            retries: BTreeSet::new(),
            leases: BTreeSet::new(),
            recent: Recent::default(),
            last_lease: 0,
            paused: false,
            draining: false,
            kept_generation: None,
            opens_at,
            salt,
        };
        restored.rewind();
        restored
    }

    /// What survives.
    #[must_use]
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// How events are delivered.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether there are changes that nobody has taken.
    #[must_use]
    pub fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    pub(crate) fn note(&mut self, note: Note) {
        if let Note::Generation(generation) | Note::Sought { generation, .. } = &note {
            self.pending.generation = Some(*generation);
        }
        self.pending.parked.extend(self.parked_change(&note));
        self.durable.apply(note.clone());
        self.notes.push(note);
    }

    /// Raises the floor to just below the first event that is not done. Until then it may lag, which costs
    /// reading some events again after a restart and nothing else.
    pub fn raise_floor(&mut self) {
        let floor = self.floor();
        if floor > self.durable.floor {
            self.note(Note::Floor(floor));
        }
    }

    /// Everything up to here is done, parked, or not wanted.
    #[must_use]
    pub fn floor(&self) -> Position {
        let first = self.entries.first().map_or(self.scanned_to, Position::previous);
        first.max(self.durable.floor)
    }

    /// Begins anew after what survived: leases are void and the window is empty.
    pub(crate) fn rewind(&mut self) {
        self.note(Note::Generation(self.durable.generation + 1));
        self.forget_window();
    }

    /// Forgets all but what survives and the consumers.
    pub(crate) fn forget_window(&mut self) {
        self.pending.forget_events();
        self.taken.forget_events();
        self.scanned_to = self.durable.floor;
        self.entries.clear();
        self.lanes.clear();
        self.ready.clear();
        self.to_park.clear();
        self.retries.clear();
        self.leases.clear();
        self.recent.clear();
        self.consumers.forget_leases();
        for (position, parked) in &self.durable.parked {
            if parked.state == ParkedState::Waiting {
                self.lanes.hold(&parked.lanes, *position, parked.hold);
            }
        }
        self.take_up_replays(Position::START);
    }

    /// Takes up the events after `after` that are to be delivered again, as far as the filter has been evaluated:
    /// what is before them in their lanes must be known. Not those of which that is not kept yet.
    pub(crate) fn take_up_replays(&mut self, after: Position) {
        let known = (Bound::Excluded(after), Bound::Included(self.scanned_to));
        let replays: Vec<_> = self
            .durable
            .parked
            .range(known)
            .filter(|it| it.1.state == ParkedState::Replaying)
            .filter(|it| !self.waits_to_be_replayed(*it.0))
            .map(|(position, parked)| (*position, parked.lanes.clone(), parked.bytes))
            .collect();
        for (position, lanes, bytes) in replays {
            self.add_replay(position, lanes, bytes);
        }
    }

    pub(crate) fn add_replay(&mut self, position: Position, lanes: Box<[Lane]>, bytes: u32) {
        self.lanes.insert(&lanes, position);
        let entry = self.entry(position, lanes, bytes, false);
        self.entries.insert_replay(position, entry);
        self.reconsider(position);
    }

    /// An entry that goes on where its attempts ended.
    pub(crate) fn entry(
        &mut self,
        position: Position,
        lanes: Box<[Lane]>,
        bytes: u32,
        lost: bool,
    ) -> Entry {
        let attempts = self.durable.attempts(position);
        let first_delivered_at = attempts.and_then(|it| it.first_delivered_at);
        let state = match attempts.map(|it| it.retry_at) {
            Some(at) if at > Timestamp::EPOCH => {
                self.retries.insert((at, position));
                State::Retry(at)
            }
            _ => State::Waiting,
        };
        let digest = self.durable.parked.get(&position).and_then(|it| it.digest);
        Entry { lanes, bytes, digest, lost, first_delivered_at, state }
    }

    /// Where an event stands in its lanes.
    pub(crate) fn place(&self, position: Position, entry: &Entry) -> Place {
        let most = self.settings.max_in_flight_per_lane;
        self.lanes.place(&entry.lanes, position, most, |it| self.entries.is_leased(it))
    }

    /// Puts an event that waits to where it is taken from when it is its turn.
    pub(crate) fn reconsider(&mut self, position: Position) {
        let Some(entry) = self.entries.get(position) else { return };
        if !matches!(entry.state, State::Waiting) {
            return;
        }
        if entry.lost {
            self.to_park.insert(position);
            return;
        }
        match self.place(position, entry) {
            Place::Free => {
                self.ready.insert(position);
            }
            Place::HeldBy(consumer) => self.consumers.change(consumer, |it| {
                it.reserved.insert(position);
            }),
            Place::Convoy(_) => {
                self.to_park.insert(position);
            }
            Place::Behind(..) => {}
        }
    }

    /// Looks who is next in each of these lanes.
    pub(crate) fn review(&mut self, lanes: &[Lane]) {
        for lane in lanes {
            let most = self.settings.max_in_flight_per_lane;
            let next = self.lanes.candidate(*lane, most, |it| self.entries.is_leased(it));
            if let Some(next) = next {
                self.reconsider(next);
            }
        }
    }

    /// Ends a lease, if there is one; the event waits.
    pub(crate) fn end_lease(&mut self, position: Position) -> Option<Lease> {
        let entry = self.entries.get_mut(position)?;
        let State::Leased(lease) = entry.state else { return None };
        entry.state = State::Waiting;
        self.leases.remove(&(lease.deadline, position));
        self.lanes.land(&entry.lanes);
        self.consumers.got_back(lease.consumer, position, entry.bytes);
        Some(lease)
    }

    /// Ends the leases of events that share a lane with this one and come after it, and of those after
    /// them: they are delivered again, in order.
    pub(crate) fn revoke_after(&mut self, position: Position) {
        if self.settings.max_in_flight_per_lane <= 1 {
            return;
        }
        let mut revoked = vec![position];
        let mut reviewed = Vec::new();
        while let Some(from) = revoked.pop() {
            let Some(entry) = self.entries.get(from) else { continue };
            let lanes = entry.lanes.clone();
            for lane in &lanes {
                for later in self.lanes.leased_after(*lane, from, |it| self.entries.is_leased(it)) {
                    self.end_lease(later);
                    revoked.push(later);
                }
            }
            reviewed.extend(lanes);
        }
        self.review(&reviewed);
    }

    /// Takes an event out: it is done, or parked and then perhaps holds its lanes. Those that it does not hold
    /// are free once that is kept.
    pub(crate) fn take_out(&mut self, position: Position, hold: Hold) -> Option<Entry> {
        self.end_lease(position);
        let entry = self.entries.remove(position)?;
        if let State::Retry(at) = entry.state {
            self.retries.remove(&(at, position));
        }
        self.ready.remove(&position);
        self.to_park.remove(&position);
        if hold == Hold::None {
            self.pending.done.push((position, entry.lanes.clone()));
        } else {
            self.lanes.remove(&entry.lanes, position);
            self.lanes.hold(&entry.lanes, position, hold);
            self.review(&entry.lanes);
        }
        Some(entry)
    }

    /// Whether deliveries may be made at all.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        let full = self.settings.parked_full == ParkedFull::Stop
            && self.durable.parked.len() >= self.settings.max_parked;
        let current = self.kept_generation == Some(self.durable.generation);
        current && !(self.paused || self.draining || full) && now >= self.opens_at
    }

    /// Room of the window. What is done beyond the place where the log is read again, after a restart, was
    /// counted before and does not keep from reading.
    #[must_use]
    pub fn room(&self) -> usize {
        let reads_again = self.durable.resolved.last().is_some_and(|it| it > self.scanned_to);
        let resolved = if reads_again { 0 } else { self.durable.resolved.len() };
        let tracked = self.entries.in_window() + resolved;
        self.settings.window_limit.saturating_sub(tracked)
    }

    /// The deliveries that were made and not yet resolved.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.leases.len()
    }

    /// Bytes of an event that is neither done nor parked.
    #[must_use]
    pub fn bytes(&self, position: Position) -> u32 {
        self.entries.get(position).map_or(0, |it| it.bytes)
    }

    /// The delivery under way of an event.
    #[must_use]
    pub fn delivery(&self, position: Position) -> Option<Delivery> {
        self.entries.lease(position).and_then(|lease| self.describe(position, lease))
    }
}
