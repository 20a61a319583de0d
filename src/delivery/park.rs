//! Parking, and what people do about parked events.

use std::sync::Arc;

use crate::{
    delivery::{
        Failure, Hold, Note, ParkPolicy, ParkedBy, ParkedChange, ParkedFull, ParkedState,
        Subscription, entries::State, lane::Place,
    },
    model::{Position, Timestamp},
};

/// Bytes of events that are parked at a time for what time or others did, and one more; the rest right after.
pub const PARK_BYTES: u32 = 4 * 1024 * 1024;

impl Subscription {
    /// Moves an event out of the window to the parked ones.
    pub(crate) fn park(
        &mut self,
        position: Position,
        by: ParkedBy,
        reason: Arc<str>,
        failure: Option<Failure>,
        now: Timestamp,
    ) {
        let hold = match (self.settings.park_policy, by) {
            (ParkPolicy::Skip, _) => Hold::None,
            (ParkPolicy::Block, _) => Hold::Block,
            (ParkPolicy::Convoy, ParkedBy::Convoy(root)) => Hold::Convoy(root),
            (ParkPolicy::Convoy, _) => Hold::Convoy(position),
        };
        self.end_lease(position);
        if hold != Hold::None {
            self.revoke_after(position);
        }
        let Some(entry) = self.take_out(position, hold) else { return };
        self.note(Note::Parked {
            position,
            at: now,
            by,
            reason,
            lanes: entry.lanes,
            bytes: entry.bytes,
            digest: entry.digest,
            hold,
            failure,
            first_delivered_at: entry.first_delivered_at,
        });
        self.bound_parked();
    }

    fn bound_parked(&mut self) {
        if self.settings.parked_full == ParkedFull::Stop {
            return;
        }
        while self.durable.parked.len() > self.settings.max_parked {
            let waiting = |it: &ParkedState| *it == ParkedState::Waiting;
            let mut parked = self.durable.parked.iter().filter(|it| waiting(&it.1.state));
            let Some(oldest) = parked.next().map(|it| *it.0) else { return };
            self.discard(oldest);
        }
    }

    /// Whether events wait to be parked.
    #[must_use]
    pub fn has_to_park(&self) -> bool {
        !self.to_park.is_empty()
    }

    /// Parks events that have no lane or stand behind a parked one, at most `most`.
    pub fn park_some(&mut self, now: Timestamp, most: usize) {
        let mut bytes = 0_u32;
        for _ in 0..most {
            if bytes >= PARK_BYTES {
                return;
            }
            let Some(position) = self.to_park.pop_first() else { return };
            let Some(entry) = self.entries.get(position) else { continue };
            bytes = bytes.saturating_add(entry.bytes);
            if !matches!(entry.state, State::Waiting) {
                continue;
            }
            let by = if entry.lost {
                ParkedBy::NoLane
            } else {
                match self.place(position, entry) {
                    Place::Convoy(root) => ParkedBy::Convoy(root),
                    Place::Free | Place::HeldBy(_) | Place::Behind(..) => {
                        self.reconsider(position);
                        continue;
                    }
                }
            };
            self.park(position, by, Arc::from(""), None, now);
        }
    }

    /// Delivers a parked event again, and what is parked behind it; how many that are. The floor does
    /// not move.
    pub fn replay(&mut self, position: Position, reset_attempts: bool) -> usize {
        let behind =
            self.durable.parked.iter().filter(|(_, it)| it.by == ParkedBy::Convoy(position));
        let mut positions: Vec<_> = behind.map(|it| *it.0).collect();
        positions.push(position);
        positions.retain(|it| {
            let parked = self.durable.parked.get(it);
            parked.is_some_and(|it| it.state == ParkedState::Waiting)
        });
        positions.sort_unstable();
        for position in &positions {
            let Some(parked) = self.durable.parked.get(position) else { continue };
            let (lanes, bytes) = (parked.lanes.clone(), parked.bytes);
            self.replay_when_kept(*position, lanes, bytes);
            self.note(Note::Replayed { position: *position, reset_attempts });
        }
        positions.len()
    }

    /// What a note that is about to be made says of a parked event.
    pub(crate) fn parked_change(&self, note: &Note) -> Option<(Position, ParkedChange)> {
        match note {
            Note::Parked { position, .. } => Some((*position, ParkedChange::Parked)),
            Note::Replayed { position, .. } => Some((*position, ParkedChange::Replayed)),
            Note::Discarded(position) => Some((*position, ParkedChange::Discarded)),
            Note::Resolved(position) | Note::Skipped { position, .. } => {
                let was_parked = self.durable.parked.contains_key(position);
                was_parked.then_some((*position, ParkedChange::Resolved))
            }
            Note::Failed { .. }
            | Note::Floor(_)
            | Note::Sought { .. }
            | Note::Generation(_)
            | Note::Saved { .. }
            | Note::Forgotten(_) => None,
        }
    }

    /// Gives up a parked event; whether there was one.
    pub fn discard(&mut self, position: Position) -> bool {
        let Some(parked) = self.durable.parked.get(&position) else { return false };
        if parked.state == ParkedState::Replaying {
            return false;
        }
        let lanes = parked.lanes.clone();
        self.unhold_when_kept(position, lanes);
        self.note(Note::Discarded(position));
        true
    }
}
