//! What a dataset holds above its floor, exactly.
//!
//! Parts of the index wholly above the floor tell it by their totals. In the one part that the floor
//! divides the kept events are counted from postings, and their payload bytes summed from the log:
//! once, and then only what was appended or removed since.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    model::{Direction, Position},
    storage::{Block, DatasetTotals, Query, Span, Storage, StorageError, index::Above},
};

/// Sums over divided parts, by dataset number; one small entry for each dataset that was trimmed.
#[derive(Debug, Default)]
pub(crate) struct HeldCache(Mutex<HashMap<u32, Divided>>);

/// The kept events of a part that a floor divides: those after `floor`, up to and including `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Divided {
    floor: Position,
    last: Position,
    events: u64,
    payload_bytes: u64,
}

impl Storage {
    /// What a dataset holds above its floor. Reads events of one part of the index when the floor
    /// has moved.
    pub(crate) fn held(
        &self,
        dataset: u32,
        floor: Position,
    ) -> Result<DatasetTotals, StorageError> {
        let mut totals = DatasetTotals::default();
        for part in self.held_by_part(dataset, floor)? {
            totals.add(&part);
        }
        Ok(totals)
    }

    /// The same for each part of the index that holds any, in ascending order of position.
    pub(crate) fn held_by_part(
        &self,
        dataset: u32,
        floor: Position,
    ) -> Result<Vec<DatasetTotals>, StorageError> {
        let mut held = Vec::new();
        for part in self.index.totals_by_part(dataset) {
            match part.above(floor) {
                Above::All => held.push(part),
                Above::Part => held.extend(self.divide(dataset, floor, &part)?),
                Above::Nothing => {}
            }
        }
        Ok(held)
    }

    /// How many events a dataset holds above its floor; never reads an event.
    pub(crate) fn held_events(&self, dataset: u32, floor: Position) -> Result<u64, StorageError> {
        self.index.count(&of_dataset(dataset), Span { after: floor, until: Position::MAX })
    }

    /// The last event of a dataset inside `span`, and how many there are.
    pub(crate) fn last_held(
        &self,
        dataset: u32,
        span: Span,
    ) -> Result<Option<(Position, u64)>, StorageError> {
        let query = of_dataset(dataset);
        let count = self.index.count(&query, span)?;
        let mut parts = self.index.scan(query, span, Direction::Backward);
        while let Some(part) = parts.next_part() {
            if let Some(last) = part?.last() {
                return Ok(Some((*last, count)));
            }
        }
        Ok(None)
    }

    /// Positions of a dataset's events inside `span`, gone or kept.
    pub(crate) fn positions_of(
        &self,
        dataset: u32,
        span: Span,
    ) -> Result<Vec<Position>, StorageError> {
        let mut parts = self.index.scan(of_dataset(dataset), span, Direction::Forward);
        let mut found = Vec::new();
        while let Some(part) = parts.next_part() {
            found.append(&mut part?);
        }
        Ok(found)
    }

    fn divide(
        &self,
        dataset: u32,
        floor: Position,
        part: &DatasetTotals,
    ) -> Result<Option<DatasetTotals>, StorageError> {
        let last = part.last;
        let kept = self.positions_of(dataset, Span { after: floor, until: last })?;
        let Some(first) = kept.first().copied() else { return Ok(None) };
        let events = kept.len() as u64;
        let known = self.known().get(&dataset).copied();
        let payload_bytes = match known {
            Some(it) if (it.floor, it.last, it.events) == (floor, last, events) => it.payload_bytes,
            _ => {
                let from_known = match known {
                    Some(it) => self.divide_from(dataset, &it, floor, &kept)?,
                    None => None,
                };
                let payload_bytes = match from_known {
                    Some(payload_bytes) => payload_bytes,
                    None => self.divide_anew(dataset, floor, part, &kept)?,
                };
                let divided = Divided { floor, last, events, payload_bytes };
                self.known().insert(dataset, divided);
                payload_bytes
            }
        };
        Ok(Some(DatasetTotals { events, first, last, payload_bytes }))
    }

    /// From the sum of a lower floor: without what was removed since, with what was appended since.
    fn divide_from(
        &self,
        dataset: u32,
        known: &Divided,
        floor: Position,
        kept: &[Position],
    ) -> Result<Option<u64>, StorageError> {
        if floor < known.floor || floor >= known.last {
            return Ok(None);
        }
        let gone = self.positions_of(dataset, Span { after: known.floor, until: floor })?;
        let appended = kept.get(kept.partition_point(|it| *it <= known.last)..).unwrap_or_default();
        let still = kept.len() - appended.len();
        // Otherwise what is gone has left the disk already, or the part is another one now.
        if known.events != (gone.len() + still) as u64 {
            return Ok(None);
        }
        let Some(gone) = self.payload_bytes(&gone)? else { return Ok(None) };
        let Some(appended) = self.payload_bytes(appended)? else { return Ok(None) };
        Ok((known.payload_bytes + appended).checked_sub(gone))
    }

    /// From the part's totals or from nothing, whichever reads fewer events.
    fn divide_anew(
        &self,
        dataset: u32,
        floor: Position,
        part: &DatasetTotals,
        kept: &[Position],
    ) -> Result<u64, StorageError> {
        let gone =
            self.positions_of(dataset, Span { after: part.first.previous(), until: floor })?;
        let complete = (gone.len() + kept.len()) as u64 == part.events;
        if complete
            && gone.len() < kept.len()
            && let Some(gone) = self.payload_bytes(&gone)?
            && let Some(left) = part.payload_bytes.checked_sub(gone)
        {
            return Ok(left);
        }
        if let Some(payload_bytes) = self.payload_bytes(kept)? {
            return Ok(payload_bytes);
        }
        // A later trim has removed some of them: this floor is not the dataset's any more, and
        // whoever asked for it asks again or gets what was left.
        let mut payload_bytes = 0;
        for position in kept {
            payload_bytes += self.payload_bytes(std::slice::from_ref(position))?.unwrap_or(0);
        }
        Ok(payload_bytes)
    }

    /// Payload bytes of events; `None` when one of them has left the disk.
    fn payload_bytes(&self, positions: &[Position]) -> Result<Option<u64>, StorageError> {
        let mut sum = 0;
        let mut block: Option<Arc<Block>> = None;
        for position in positions {
            let found = match block.take().filter(|it| it.contains(*position)) {
                Some(block) => block,
                None => self.block(*position)?.ok_or_else(|| {
                    StorageError::corrupt(format!("log has no position {position}"))
                })?,
            };
            let Some(record) = found.get(*position)? else { return Ok(None) };
            sum += record.payload.len() as u64;
            block = Some(found);
        }
        Ok(Some(sum))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Divided>> {
        self.held_cache.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything of a dataset, gone or kept.
fn of_dataset(dataset: u32) -> Query {
    Query { datasets: Some(vec![dataset]), ..Query::default() }
}
