//! An immutable span of the index on disk: terms and event ids, sorted, packed into large rows.
//!
//! Rows of a segment, key `[segment: u32][kind: u8][chunk: u32]`; layouts in `docs/format.md`:
//! a chunk of terms is zstd over `[shared: varint][rest: varint][bytes][count: varint][deltas…]`,
//! a chunk of ids is `[hash: u64][position: u64]…`, sorted.

use bytes::{Buf, BufMut};
use prost::{
    Message,
    encoding::{decode_varint, encode_varint},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    model::Position,
    storage::{
        StorageError, codec,
        index::{
            filter::Filter,
            part::{DatasetTotals, Part},
            tail::Tail,
            term::{Lookup, Span, Term, union, within},
        },
        pb::{DatasetTotalsRecord, SegmentRecord},
    },
};

/// Raw bytes of a chunk of terms: one read and one decompression of about 20 µs per lookup.
const TERM_CHUNK_BYTES: usize = 24 * 1024;
/// Postings of one entry; longer lists continue in an entry of the same term.
const ENTRY_POSTINGS_MAX: usize = 8 * 1024;
/// Ids in one chunk: 32 KiB.
const ID_CHUNK: usize = 2 * 1024;
const ID_BYTES: usize = 16;
/// Bytes of one row of the filter.
const FILTER_CHUNK_BYTES: usize = 64 * 1024;
/// A chunk's raw size is bounded by its last entry: a term and its postings.
const TERM_CHUNK_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Copy)]
enum Row {
    Meta,
    Terms,
    Ids,
    Filter,
}

fn key(segment: u32, row: Row, chunk: usize) -> [u8; 9] {
    let kind = match row {
        Row::Meta => 0,
        Row::Terms => 1,
        Row::Ids => 2,
        Row::Filter => 3,
    };
    let chunk = u32::try_from(chunk).unwrap_or(u32::MAX);
    let mut key = [0; 9];
    let bytes = segment.to_be_bytes().into_iter().chain([kind]).chain(chunk.to_be_bytes());
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = from;
    }
    key
}

/// The segment number of a row's key.
pub(crate) fn number_of(key: &[u8]) -> Option<u32> {
    key.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// An open segment: fences and filter in memory, the rest on disk.
#[derive(Debug)]
pub(crate) struct Segment {
    number: u32,
    tree: sled::Tree,
    meta: SegmentRecord,
    filter: Filter,
}

impl Segment {
    /// Writes a frozen tail as segment `number`. Its meta row goes last: without it the rows are
    /// debris that the next opening removes.
    pub(crate) fn write(tree: &sled::Tree, number: u32, tail: &Tail) -> Result<Self, StorageError> {
        let (terms, ids) = (tail.sorted_terms(), tail.sorted_ids());
        let mut filter = Filter::for_keys(terms.len() + ids.len());
        let hashes = terms.iter().map(|(term, _)| xxh3_64(term.as_bytes()));
        for hash in hashes.chain(ids.iter().map(|(hash, _)| *hash)) {
            filter.insert(hash);
        }

        let span = tail.span();
        let term_fences = write_terms(tree, number, span.after, &terms)?;
        let id_fences = write_ids(tree, number, &ids)?;
        let filter_bytes = filter.to_bytes();
        let filter_chunks = filter_bytes.chunks(FILTER_CHUNK_BYTES);
        let mut totals: Vec<_> =
            tail.totals().iter().map(|(dataset, it)| totals_record(*dataset, it)).collect();
        totals.sort_unstable_by_key(|it| it.dataset);
        let meta = SegmentRecord {
            after: span.after.get(),
            until: span.until.get(),
            term_fences,
            id_fences,
            filter_chunks: u32::try_from(filter_chunks.len()).unwrap_or(u32::MAX),
            totals,
        };
        for (chunk, bytes) in filter_chunks.enumerate() {
            tree.insert(key(number, Row::Filter, chunk), bytes)?;
        }
        tree.insert(key(number, Row::Meta, 0), meta.encode_to_vec())?;
        Ok(Self { number, tree: tree.clone(), meta, filter })
    }

    /// Opens segment `number`, unless it was never finished.
    pub(crate) fn open(tree: &sled::Tree, number: u32) -> Result<Option<Self>, StorageError> {
        let Some(meta) = tree.get(key(number, Row::Meta, 0))? else { return Ok(None) };
        let mut meta = SegmentRecord::decode(meta.as_ref())
            .map_err(|error| corrupt(number, &format!("its meta row does not decode: {error}")))?;
        // Segments of earlier versions have them in no order.
        meta.totals.sort_unstable_by_key(|it| it.dataset);
        let mut filter = Vec::new();
        for chunk in 0..usize::try_from(meta.filter_chunks).unwrap_or(0) {
            filter.extend_from_slice(&row(tree, number, Row::Filter, chunk)?);
        }
        let filter = Filter::from_bytes(&filter);
        Ok(Some(Self { number, tree: tree.clone(), meta, filter }))
    }

    /// Positions of events whose id has this hash; almost never reads the disk for a new id.
    pub(crate) fn ids_with(&self, hash: u64, out: &mut Vec<Position>) -> Result<(), StorageError> {
        if !self.filter.may_contain(hash) {
            return Ok(());
        }
        let fences = &self.meta.id_fences;
        let start = fences.partition_point(|fence| *fence < hash).saturating_sub(1);
        for (chunk, _) in fences.iter().enumerate().skip(start).take_while(|(_, it)| **it <= hash) {
            let row = row(&self.tree, self.number, Row::Ids, chunk)?;
            let (entries, _) = row.as_chunks::<ID_BYTES>();
            let from = entries.partition_point(|entry| id_entry(entry).0 < hash);
            let same = entries.iter().skip(from).map(id_entry).take_while(|(it, _)| *it == hash);
            out.extend(same.map(|(_, position)| position));
        }
        Ok(())
    }

    /// Calls `f` with the entries of a chunk, in order, until it returns `false`.
    fn each_entry(
        &self,
        chunk: usize,
        mut f: impl FnMut(&[u8], &[Position]) -> bool,
    ) -> Result<(), StorageError> {
        let stored = row(&self.tree, self.number, Row::Terms, chunk)?;
        let raw = codec::decompress(&stored, TERM_CHUNK_BYTES_MAX)?;
        let bad = || corrupt(self.number, "a chunk of terms does not decode");
        let mut rest = raw.as_slice();
        let (mut term, mut postings) = (Vec::new(), Vec::new());
        let number = |rest: &mut &[u8]| decode_varint(rest).map_err(|_malformed| bad());
        while !rest.is_empty() {
            let shared = usize::try_from(number(&mut rest)?).unwrap_or(usize::MAX);
            let suffix = usize::try_from(number(&mut rest)?).unwrap_or(usize::MAX);
            term.truncate(shared);
            term.extend_from_slice(rest.get(..suffix).ok_or_else(bad)?);
            rest.advance(suffix);
            let count = number(&mut rest)?;
            let mut at = self.meta.after;
            postings.clear();
            for _ in 0..count {
                at = at.checked_add(number(&mut rest)?).ok_or_else(bad)?;
                postings.push(Position::new(at));
            }
            if !f(&term, &postings) {
                break;
            }
        }
        Ok(())
    }

    /// Postings of all entries from `from` on for which `wanted` holds, a list for each.
    fn entries(
        &self,
        from: &[u8],
        wanted: impl Fn(&[u8]) -> bool,
        span: Span,
    ) -> Result<Vec<Vec<Position>>, StorageError> {
        let fences = &self.meta.term_fences;
        let mut lists = Vec::new();
        let start = fences.partition_point(|it| it.as_slice() < from).saturating_sub(1);
        let mut past = false;
        for (chunk, fence) in fences.iter().enumerate().skip(start) {
            if past || (fence.as_slice() >= from && !wanted(fence)) {
                break;
            }
            self.each_entry(chunk, |term, postings| {
                if wanted(term) {
                    lists.push(within(postings, span).to_vec());
                } else {
                    past = term > from;
                }
                !past
            })?;
        }
        Ok(lists)
    }
}

impl Part for Segment {
    fn span(&self) -> Span {
        Span { after: Position::new(self.meta.after), until: Position::new(self.meta.until) }
    }

    fn datasets(&self) -> impl Iterator<Item = (u32, DatasetTotals)> {
        self.meta.totals.iter().map(|it| (it.dataset, totals(it)))
    }

    fn of_dataset(&self, dataset: u32) -> Option<DatasetTotals> {
        let all = &self.meta.totals;
        let place = all.binary_search_by_key(&dataset, |it| it.dataset).ok()?;
        all.get(place).map(totals)
    }

    fn lookup(&self, lookup: &Lookup, span: Span) -> Result<Vec<Position>, StorageError> {
        match lookup {
            Lookup::Exact(term) => {
                let term = term.as_bytes();
                if !self.filter.may_contain(xxh3_64(term)) {
                    return Ok(Vec::new());
                }
                Ok(self.entries(term, |it| it == term, span)?.concat())
            }
            Lookup::Prefix(prefix) => {
                let prefix = prefix.as_bytes();
                Ok(union(self.entries(prefix, |it| it.starts_with(prefix), span)?))
            }
        }
    }
}

fn write_terms(
    tree: &sled::Tree,
    number: u32,
    after: Position,
    terms: &[(&Term, &[Position])],
) -> Result<Vec<Vec<u8>>, StorageError> {
    let mut fences = Vec::new();
    let mut raw: Vec<u8> = Vec::with_capacity(TERM_CHUNK_BYTES * 2);
    let mut previous: &[u8] = &[];
    let finish = |raw: &mut Vec<u8>, chunk: usize| -> Result<(), StorageError> {
        let packed = codec::compress(raw)?;
        tree.insert(key(number, Row::Terms, chunk), packed)?;
        raw.clear();
        Ok(())
    };
    for (term, postings) in terms {
        let term = term.as_bytes();
        for postings in postings.chunks(ENTRY_POSTINGS_MAX) {
            if raw.len() >= TERM_CHUNK_BYTES {
                finish(&mut raw, fences.len() - 1)?;
            }
            if raw.is_empty() {
                fences.push(term.to_vec());
                previous = &[];
            }
            put_entry(&mut raw, previous, term, after, postings);
            previous = term;
        }
    }
    if !raw.is_empty() {
        finish(&mut raw, fences.len() - 1)?;
    }
    Ok(fences)
}

fn put_entry(raw: &mut Vec<u8>, previous: &[u8], term: &[u8], after: Position, list: &[Position]) {
    let shared = previous.iter().zip(term).take_while(|(a, b)| a == b).count();
    let suffix = term.get(shared..).unwrap_or_default();
    encode_varint(shared as u64, raw);
    encode_varint(suffix.len() as u64, raw);
    raw.put_slice(suffix);
    encode_varint(list.len() as u64, raw);
    let mut at = after;
    for position in list {
        encode_varint(position.since(at), raw);
        at = *position;
    }
}

fn write_ids(
    tree: &sled::Tree,
    number: u32,
    ids: &[(u64, Position)],
) -> Result<Vec<u64>, StorageError> {
    let mut fences = Vec::new();
    for (chunk, ids) in ids.chunks(ID_CHUNK).enumerate() {
        let mut bytes = Vec::with_capacity(ids.len() * ID_BYTES);
        for (hash, position) in ids {
            bytes.put_u64(*hash);
            bytes.put_u64(position.get());
        }
        fences.extend(ids.first().map(|(hash, _)| *hash));
        tree.insert(key(number, Row::Ids, chunk), bytes)?;
    }
    Ok(fences)
}

fn id_entry(entry: &[u8; ID_BYTES]) -> (u64, Position) {
    let mut entry = entry.as_slice();
    (entry.get_u64(), Position::new(entry.get_u64()))
}

fn totals(record: &DatasetTotalsRecord) -> DatasetTotals {
    DatasetTotals {
        events: record.events,
        first: Position::new(record.first),
        last: Position::new(record.last),
        payload_bytes: record.payload_bytes,
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

fn row(tree: &sled::Tree, number: u32, row: Row, chunk: usize) -> Result<sled::IVec, StorageError> {
    tree.get(key(number, row, chunk))?.ok_or_else(|| corrupt(number, "a row is missing"))
}

fn corrupt(number: u32, what: &str) -> StorageError {
    StorageError::corrupt(format!("index segment {number}: {what}"))
}
