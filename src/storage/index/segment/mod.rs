//! An immutable span of the index on disk: terms and event ids, sorted, packed into rows.
//!
//! Rows of a segment, key `[segment: u32][kind: u8][row: u32]`; layouts in `docs/format.md`.
//! Nothing is compressed: sharing prefixes and choosing between deltas and bitmaps leaves some 30
//! bytes per event, and a lookup that need not decompress takes a tenth of the time.

mod check;
mod cursor;
mod postings;
mod read;
mod rows;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use prost::Message;

use crate::{
    model::Position,
    storage::{
        StorageError,
        index::{
            cache::RowCache,
            filter::Filter,
            part::{DatasetTotals, Part},
            tail::Tail,
        },
        pb::{DatasetTotalsRecord, SegmentRecord},
        tree::{PAGE_ROWS, Tree},
    },
};

pub(crate) use check::Reader;
pub(super) use cursor::{Ids, Terms};
pub(crate) use write::Pace;
pub(super) use write::Writer;

/// Bytes of a row of ids: a hash and an offset from the segment's start.
const ID_BYTES: usize = 8 + 4;
/// Bytes of one row of the filter or of the segment's record.
const OTHER_ROW_BYTES: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Meta,
    Terms,
    Ids,
    Filter,
}

/// `[segment: u32][kind: u8][row: u32]`
fn key(segment: u32, kind: Row, row: usize) -> [u8; KEY_LEN] {
    let kind = match kind {
        Row::Meta => 0,
        Row::Terms => 1,
        Row::Ids => 2,
        Row::Filter => 3,
    };
    let row = u32::try_from(row).unwrap_or(u32::MAX);
    let mut key = [0; KEY_LEN];
    let bytes = segment.to_be_bytes().into_iter().chain([kind]).chain(row.to_be_bytes());
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = from;
    }
    key
}

const KEY_LEN: usize = 4 + 1 + 4;

/// The page of the embedded store that a row is likely to be in.
fn page(segment: u32, kind: Row, row: usize) -> u64 {
    (u64::from(segment) << 34) ^ ((row as u64 / u64::from(PAGE_ROWS)) << 2) ^ kind as u64
}

/// The segment number of a row's key.
pub(crate) fn number_of(key: &[u8]) -> Option<u32> {
    key.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The numbers of all segments of a tree, finished or not, ascending.
pub(crate) fn numbers(tree: &Tree) -> Result<Vec<u32>, StorageError> {
    let (mut numbers, mut from) = (Vec::new(), Some(0_u32));
    // From each to the next: reading every key would read all of the index.
    while let Some(number) = from
        && let Some(row) = tree.range(number.to_be_bytes()..).next()
    {
        let number =
            number_of(&row?.0).ok_or_else(|| StorageError::corrupt("a key is cut short"))?;
        numbers.push(number);
        from = number.checked_add(1);
    }
    Ok(numbers)
}

/// A number that no row of the tree has.
pub(crate) fn next_number(tree: &Tree) -> Result<u32, StorageError> {
    let last = tree.last()?.and_then(|(key, _)| number_of(&key));
    Ok(last.map_or(1, |last| last + 1))
}

/// An open segment: fences and filter in memory, the rest on disk.
#[derive(Debug)]
pub(crate) struct Segment {
    number: u32,
    tree: Tree,
    meta: SegmentRecord,
    filter: Filter,
    /// Where rows that queries read are kept, and its number there.
    cache: Option<(Arc<RowCache>, u32)>,
}

impl Segment {
    /// Writes a frozen tail as segment `number`. Its first meta row goes last: without it the rows
    /// are debris that the next opening removes.
    pub(crate) fn write(
        tree: &Tree,
        number: u32,
        tail: &Tail,
        pace: Pace<'_>,
    ) -> Result<Self, StorageError> {
        let (terms, ids) = (tail.sorted_terms(), tail.sorted_ids());
        let mut writer = Writer::new(tree, number, tail.span(), pace)?;
        for (term, postings) in terms {
            writer.term(term.as_bytes(), postings.iter().copied())?;
        }
        for (hash, position) in ids {
            writer.id(hash, position)?;
        }
        writer.finish(tail.totals())
    }

    /// Opens segment `number`, unless it was never finished.
    pub(crate) fn open(tree: &Tree, number: u32) -> Result<Option<Self>, StorageError> {
        let Some(first) = tree.row(&key(number, Row::Meta, 0), page(number, Row::Meta, 0))? else {
            return Ok(None);
        };
        let (rows, bytes) = first
            .split_first_chunk()
            .ok_or_else(|| corrupt(number, "its first meta row is cut short"))?;
        let mut meta = bytes.to_vec();
        for at in 1..usize::try_from(u32::from_be_bytes(*rows)).unwrap_or(0) {
            meta.extend_from_slice(&row(tree, number, Row::Meta, at)?);
        }
        let meta = SegmentRecord::decode(meta.as_slice())
            .map_err(|error| corrupt(number, &format!("its meta rows do not decode: {error}")))?;
        let mut filter = Vec::new();
        for at in 0..usize::try_from(meta.filter_rows).unwrap_or(0) {
            filter.extend_from_slice(&row(tree, number, Row::Filter, at)?);
        }
        let filter = Filter::from_bytes(&filter);
        Ok(Some(Self { number, tree: tree.clone(), meta, filter, cache: None }))
    }

    /// The segment with a cache for its rows.
    pub(super) fn cached_in(self, cache: &Arc<RowCache>) -> Self {
        Self { cache: Some((Arc::clone(cache), cache.take_number())), ..self }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Bytes that it takes, but for its record.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.meta.bytes
    }

    /// Event ids that it has.
    pub(super) fn ids(&self) -> u64 {
        self.meta.ids
    }

    /// Offset of a position from this segment's start, 0 if it lies before.
    fn offset(&self, position: Position) -> u32 {
        let offset = position.since(Position::new(self.meta.after));
        u32::try_from(offset).unwrap_or(u32::MAX)
    }

    fn position(&self, offset: u32) -> Position {
        Position::new(self.meta.after).plus(u64::from(offset))
    }

    /// A row of terms, for a query.
    fn queried_row(&self, at: usize) -> Result<sled::IVec, StorageError> {
        let read = || self.row(Row::Terms, at);
        match &self.cache {
            Some((cache, number)) => cache.row(*number, at, read),
            None => read(),
        }
    }

    fn row(&self, kind: Row, at: usize) -> Result<sled::IVec, StorageError> {
        row(&self.tree, self.number, kind, at)
    }

    fn corrupt(&self, what: &str) -> StorageError {
        corrupt(self.number, what)
    }
}

fn totals_record(dataset: u32, totals: &DatasetTotals) -> DatasetTotalsRecord {
    DatasetTotalsRecord {
        dataset,
        events: totals.events,
        first: totals.first.get(),
        last: totals.last.get(),
        payload_bytes: totals.payload_bytes,
    }
}

fn row(tree: &Tree, number: u32, kind: Row, at: usize) -> Result<sled::IVec, StorageError> {
    let missing = || corrupt(number, &format!("row {at} of its {kind:?} rows is missing"));
    tree.row(&key(number, kind, at), page(number, kind, at))?.ok_or_else(missing)
}

fn corrupt(number: u32, what: &str) -> StorageError {
    StorageError::corrupt(format!("index segment {number}: {what}"))
}
