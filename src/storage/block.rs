//! A run of records at consecutive positions, as it is in memory and in the journal.
//!
//! Each record stands as `[microseconds after the run's time: varint][length: varint][EventRecord]`.
//! A record of length zero is an event that was removed: its position stays.

use bytes::{Buf, BufMut, Bytes};
use prost::{Message, encoding::decode_varint, encoding::encode_varint};

use crate::{
    model::{Position, Timestamp},
    storage::{StorageError, pb::EventRecord},
};

/// Appends a record to a run whose time is the record's own.
pub(crate) fn encode_record(record: &EventRecord, run: &mut Vec<u8>) {
    debug_assert_eq!(record.record_time_delta_us, 0, "the delta stands before the record");
    encode_varint(0, run);
    encode_varint(record.encoded_len() as u64, run);
    record.encode_raw(run);
}

/// One record of a run, not decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRecord<'a> {
    /// When it was stored.
    pub(crate) record_time: Timestamp,
    /// An encoded `EventRecord`; empty when the event was removed.
    pub(crate) bytes: &'a [u8],
}

impl RawRecord<'_> {
    /// Appends the record to a run with this time, which must not be later than the record's.
    pub(crate) fn append_to(&self, run: &mut Vec<u8>, run_time: Timestamp) {
        let delta = self.record_time.micros().saturating_sub(run_time.micros());
        encode_varint(u64::try_from(delta).unwrap_or(0), run);
        encode_varint(self.bytes.len() as u64, run);
        run.put_slice(self.bytes);
    }
}

/// A run of records ready to be read: found, but not decoded. A reader of one identity wants one
/// record of a hundred.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) first: Position,
    count: u32,
    record_time: Timestamp,
    raw: Bytes,
    /// Where each record starts in `raw`; none when all of them were removed.
    starts: Vec<u32>,
}

impl Block {
    /// A run whose time is `record_time`.
    pub(crate) fn new(
        first: Position,
        record_time: Timestamp,
        raw: Bytes,
    ) -> Result<Self, StorageError> {
        let starts = record_starts(&raw).ok_or_else(|| {
            StorageError::corrupt(format!("run at {first}: a record is cut short"))
        })?;
        let count = u32::try_from(starts.len()).unwrap_or(u32::MAX);
        Ok(Self { first, count, record_time, raw, starts })
    }

    /// A run of positions whose events were all removed; the time of the first of them stands for
    /// all.
    pub(crate) fn removed(first: Position, count: u32, record_time: Timestamp) -> Self {
        let (raw, starts) = (Bytes::new(), Vec::new());
        Self { first, count, record_time, raw, starts }
    }

    /// Records in it, removed ones included.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The last position in it.
    pub(crate) fn last(&self) -> Position {
        self.first.plus(u64::from(self.count)).previous()
    }

    /// Whether a position is in it.
    pub(crate) fn contains(&self, position: Position) -> bool {
        self.first <= position && position <= self.last()
    }

    /// Bytes that it holds in memory.
    pub(crate) fn weight(&self) -> u64 {
        (self.raw.len() + self.starts.len() * size_of::<u32>()) as u64
    }

    /// The record at a position; `None` when it is not in this run, or was removed.
    pub(crate) fn get(&self, position: Position) -> Result<Option<EventRecord>, StorageError> {
        let Some((delta, range)) = self.find(position) else { return Ok(None) };
        if range.is_empty() {
            return Ok(None);
        }
        let mut record = EventRecord::decode(self.raw.slice(range)).map_err(|error| {
            StorageError::corrupt(format!("the record at {position} does not decode: {error}"))
        })?;
        record.record_time_delta_us = delta;
        Ok(Some(record))
    }

    /// The record at a position, removed or not; `None` when it is not in this run.
    pub(crate) fn raw(&self, position: Position) -> Option<RawRecord<'_>> {
        if !self.contains(position) {
            return None;
        }
        let Some((delta, range)) = self.find(position) else {
            return Some(RawRecord { record_time: self.record_time, bytes: &[] });
        };
        let record_time = self.after(delta);
        Some(RawRecord { record_time, bytes: self.raw.get(range).unwrap_or_default() })
    }

    /// When a record of this run was stored.
    pub(crate) fn record_time(&self, record: &EventRecord) -> Timestamp {
        self.after(record.record_time_delta_us)
    }

    /// The records with their positions, in order, without the removed ones.
    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = Result<(Position, EventRecord), StorageError>> + '_ {
        let positions = (self.first.get()..=self.last().get()).map(Position::new);
        positions.filter_map(|position| match self.get(position) {
            Ok(record) => record.map(|record| Ok((position, record))),
            Err(error) => Some(Err(error)),
        })
    }

    fn after(&self, delta_us: u64) -> Timestamp {
        let delta = i64::try_from(delta_us).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.record_time.micros().saturating_add(delta))
    }

    /// The time delta of a record, and where its bytes are.
    fn find(&self, position: Position) -> Option<(u64, std::ops::Range<usize>)> {
        let place = usize::try_from(position.get().checked_sub(self.first.get())?).ok()?;
        let start = usize::try_from(*self.starts.get(place)?).ok()?;
        let mut rest = self.raw.get(start..)?;
        let delta = decode_varint(&mut rest).ok()?;
        let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        let at = self.raw.len() - rest.len();
        Some((delta, at..at + length))
    }
}

/// Where each record starts; `None` when the last one is cut short.
fn record_starts(raw: &[u8]) -> Option<Vec<u32>> {
    let (mut starts, mut rest) = (Vec::new(), raw);
    while !rest.is_empty() {
        starts.push(u32::try_from(raw.len() - rest.len()).ok()?);
        decode_varint(&mut rest).ok()?;
        let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        rest.get(length..)?;
        rest.advance(length);
    }
    Some(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> EventRecord {
        EventRecord {
            event_id: id.to_owned().into(),
            payload: Bytes::from("{}"),
            ..EventRecord::default()
        }
    }

    #[test]
    fn a_run_gives_back_its_records_and_their_times() {
        let mut run = Vec::new();
        encode_record(&record("a"), &mut run);
        let time = |us| Timestamp::from_micros(us);
        RawRecord { record_time: time(50), bytes: &[] }.append_to(&mut run, time(42));
        let third = record("c").encode_to_vec();
        RawRecord { record_time: time(60), bytes: &third }.append_to(&mut run, time(42));
        let block = Block::new(Position::new(7), time(42), run.into()).unwrap();
        assert_eq!(
            (block.first, block.last(), block.count()),
            (Position::new(7), Position::new(9), 3)
        );
        let found: Vec<_> = block.iter().map(Result::unwrap).collect();
        let seen: Vec<_> = found
            .iter()
            .map(|(at, it)| (at.get(), it.event_id(), block.record_time(it).micros()))
            .collect();
        assert_eq!(seen, [(7, "a", 42), (9, "c", 60)]);
        assert!(block.raw(Position::new(8)).unwrap().bytes.is_empty());
        assert_eq!(block.raw(Position::new(9)).unwrap().record_time, time(60));
        for outside in [6, 10] {
            assert!(block.get(Position::new(outside)).unwrap().is_none());
            assert!(block.raw(Position::new(outside)).is_none());
        }
    }

    #[test]
    fn removed_positions_are_in_the_run_and_have_no_record() {
        let block = Block::removed(Position::new(1), 64, Timestamp::default());
        assert!(block.contains(Position::new(64)) && !block.contains(Position::new(65)));
        assert!(block.get(Position::new(3)).unwrap().is_none());
        assert!(block.raw(Position::new(3)).unwrap().bytes.is_empty());
    }

    #[test]
    fn a_run_that_is_cut_short_is_refused() {
        let mut run = Vec::new();
        encode_record(&record("a"), &mut run);
        run.pop();
        assert!(Block::new(Position::new(1), Timestamp::default(), run.into()).is_err());
    }
}
