//! What a dataset holds above its floor, exactly.
//!
//! Parts of the index wholly above the floor tell it by their totals. In the one part that the floor
//! divides the kept events are counted from postings, and their payload bytes summed from the log:
//! once, and then only what was appended or removed since.

use std::{
    collections::HashMap,
    iter,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    model::{Direction, Position, Tagged},
    storage::{Block, DatasetTotals, Query, Span, Storage, StorageError, holders, index::Above},
};

/// Sums over divided parts, by dataset number and which of its events; a few small entries for each
/// dataset that was trimmed.
#[derive(Debug, Default)]
pub(crate) struct HeldCache(Mutex<HashMap<(u32, Tagged), Divided>>);

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
        tagged: Tagged,
        floor: Position,
    ) -> Result<DatasetTotals, StorageError> {
        let mut totals = DatasetTotals::default();
        for part in self.held_by_part(dataset, tagged, floor)? {
            totals.add(&part);
        }
        Ok(totals)
    }

    /// The same for each part of the index that holds any, in ascending order of position.
    pub(crate) fn held_by_part(
        &self,
        dataset: u32,
        tagged: Tagged,
        floor: Position,
    ) -> Result<Vec<DatasetTotals>, StorageError> {
        self.by_part(dataset, tagged, floor, |part, kept| {
            let Some(mut totals) = of_kept(kept) else { return Ok(None) };
            totals.payload_bytes = self.divided_bytes(dataset, tagged, floor, part, kept)?;
            Ok(Some(totals))
        })
    }

    /// The same without payload bytes, which are 0 where they would have to be read.
    pub(crate) fn events_by_part(
        &self,
        dataset: u32,
        tagged: Tagged,
        floor: Position,
    ) -> Result<Vec<DatasetTotals>, StorageError> {
        self.by_part(dataset, tagged, floor, |_, kept| Ok(of_kept(kept)))
    }

    /// Every part's totals; `divide` gives those of a part of which only some events are kept.
    fn by_part(
        &self,
        dataset: u32,
        tagged: Tagged,
        floor: Position,
        divide: impl Fn(&DatasetTotals, &[Position]) -> Result<Option<DatasetTotals>, StorageError>,
    ) -> Result<Vec<DatasetTotals>, StorageError> {
        let mut held = Vec::new();
        for part in self.index.totals_by_part(dataset, tagged) {
            match part.above(floor) {
                Above::All => held.push(part),
                Above::Part => {
                    let span = Span { after: floor, until: part.last };
                    held.extend(divide(&part, &self.positions_of(dataset, tagged, span)?)?);
                }
                Above::Nothing => {}
            }
        }
        Ok(held)
    }

    /// How many events a dataset holds above its floor; never reads an event.
    pub(crate) fn held_events(
        &self,
        dataset: u32,
        tagged: Tagged,
        floor: Position,
    ) -> Result<u64, StorageError> {
        self.index.count(&of_dataset(dataset, tagged), Span { after: floor, until: Position::MAX })
    }

    /// The last event of a dataset inside `span`, and how many there are.
    pub(crate) fn last_held(
        &self,
        dataset: u32,
        tagged: Tagged,
        span: Span,
    ) -> Result<Option<(Position, u64)>, StorageError> {
        let query = of_dataset(dataset, tagged);
        let count = self.index.count(&query, span)?;
        let mut parts = self.index.scan(query, span, Direction::Backward);
        while let Some(part) = parts.next_part() {
            if let Some(last) = part?.last() {
                return Ok(Some((*last, count)));
            }
        }
        Ok(None)
    }

    /// Positions of a dataset's events inside `span`, gone or kept, in ascending order; at most one
    /// part's in memory.
    pub(crate) fn each_position_of(
        &self,
        dataset: u32,
        tagged: Tagged,
        span: Span,
    ) -> impl Iterator<Item = Result<Position, StorageError>> {
        let mut parts = self.index.scan(of_dataset(dataset, tagged), span, Direction::Forward);
        let mut part = Vec::new().into_iter();
        iter::from_fn(move || {
            loop {
                if let Some(position) = part.next() {
                    return Some(Ok(position));
                }
                match parts.next_part()? {
                    Ok(found) => part = found.into_iter(),
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }

    /// The same, all at once: for a span inside one part.
    fn positions_of(
        &self,
        dataset: u32,
        tagged: Tagged,
        span: Span,
    ) -> Result<Vec<Position>, StorageError> {
        self.each_position_of(dataset, tagged, span).collect()
    }

    /// Payload bytes of the kept events of a part that the floor divides.
    fn divided_bytes(
        &self,
        dataset: u32,
        tagged: Tagged,
        floor: Position,
        part: &DatasetTotals,
        kept: &[Position],
    ) -> Result<u64, StorageError> {
        let (last, events) = (part.last, kept.len() as u64);
        let known = self.known().get(&(dataset, tagged)).copied();
        let mut payload_bytes = None;
        if let Some(known) = &known {
            if (known.floor, known.last, known.events) == (floor, last, events) {
                return Ok(known.payload_bytes);
            }
            payload_bytes = self.divide_from(dataset, tagged, known, floor, kept)?;
        }
        let payload_bytes = match payload_bytes {
            Some(payload_bytes) => payload_bytes,
            None => self.divide_anew(dataset, tagged, floor, part, kept)?,
        };
        self.known().insert((dataset, tagged), Divided { floor, last, events, payload_bytes });
        Ok(payload_bytes)
    }

    /// From the sum of a lower floor: without what was removed since, with what was appended since.
    fn divide_from(
        &self,
        dataset: u32,
        tagged: Tagged,
        known: &Divided,
        floor: Position,
        kept: &[Position],
    ) -> Result<Option<u64>, StorageError> {
        if floor < known.floor || floor >= known.last {
            return Ok(None);
        }
        let gone = self.positions_of(dataset, tagged, Span { after: known.floor, until: floor })?;
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
        tagged: Tagged,
        floor: Position,
        part: &DatasetTotals,
        kept: &[Position],
    ) -> Result<u64, StorageError> {
        let gone = self.positions_of(
            dataset,
            tagged,
            Span { after: part.first.previous(), until: floor },
        )?;
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

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(u32, Tagged), Divided>> {
        self.held_cache.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Totals of a part's kept events, without their payload bytes.
fn of_kept(kept: &[Position]) -> Option<DatasetTotals> {
    let (first, last) = (*kept.first()?, *kept.last()?);
    Some(DatasetTotals { events: kept.len() as u64, first, last, payload_bytes: 0 })
}

/// Everything of a dataset that is wanted, gone or kept.
fn of_dataset(dataset: u32, tagged: Tagged) -> Query {
    Query { datasets: Some(holders(dataset, tagged).collect()), tagged, ..Query::default() }
}
