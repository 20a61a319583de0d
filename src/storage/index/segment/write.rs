//! Writing a segment, from a tail or from other segments: one pass in the order of its rows.

use bytes::BufMut;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    model::Position,
    storage::{
        StorageError,
        index::{
            filter::Filter,
            part::Totals,
            segment::{
                ID_BYTES, OTHER_ROW_BYTES, Row, Segment, corrupt, key, page,
                postings::PIECE_POSTINGS_MAX,
                rows::{ROW_BYTES, TermRow},
                totals_record,
            },
            term::Span,
        },
        pb::{SegmentRecord, TermFenceRecord},
        tree::{OnceWriter, Tree},
    },
};

/// Told of each row and its bytes: syncs, or bounds the load.
pub(crate) type Pace<'a> = &'a mut dyn FnMut(usize) -> Result<(), StorageError>;

/// A segment on its way to the disk: first all terms in order, then all ids in order, then
/// [`Writer::finish`]. Holds a row of each, the fences, and what the filter is made of.
pub(crate) struct Writer<'a> {
    tree: &'a Tree,
    rows: OnceWriter,
    number: u32,
    meta: SegmentRecord,
    /// Hashes of all terms and ids: the filter is made when it is known how many there are.
    keys: Vec<u64>,
    /// The term under way and its postings that are in no row yet.
    term: Vec<u8>,
    postings: Vec<u32>,
    terms: TermRow,
    ids: Vec<u8>,
    /// Called after each row, with its bytes.
    pace: Pace<'a>,
}

impl<'a> Writer<'a> {
    /// Begins segment `number` of a span.
    pub(crate) fn new(
        tree: &'a Tree,
        number: u32,
        span: Span,
        pace: Pace<'a>,
    ) -> Result<Self, StorageError> {
        if u32::try_from(span.until.since(span.after)).is_err() {
            return Err(corrupt(number, "a segment cannot span 2^32 positions"));
        }
        Ok(Self {
            tree,
            rows: OnceWriter::new(tree.clone()),
            number,
            meta: SegmentRecord {
                after: span.after.get(),
                until: span.until.get(),
                ..SegmentRecord::default()
            },
            keys: Vec::new(),
            term: Vec::new(),
            postings: Vec::with_capacity(PIECE_POSTINGS_MAX),
            terms: TermRow::default(),
            ids: Vec::with_capacity(ROW_BYTES + ID_BYTES),
            pace,
        })
    }

    /// Adds postings of a term: of the last one, which then goes on, or of one after it.
    pub(crate) fn term(
        &mut self,
        term: &[u8],
        postings: impl Iterator<Item = Position>,
    ) -> Result<(), StorageError> {
        if self.term != term {
            debug_assert!(self.term.as_slice() < term, "terms come in order");
            self.end_term()?;
            self.term.clear();
            self.term.extend_from_slice(term);
        }
        for position in postings {
            if self.postings.len() == PIECE_POSTINGS_MAX {
                self.end_piece()?;
            }
            let offset = self.offset(position)?;
            self.postings.push(offset);
        }
        Ok(())
    }

    /// Adds an event id's hash; ids come in order of hash and position.
    pub(crate) fn id(&mut self, hash: u64, position: Position) -> Result<(), StorageError> {
        let offset = self.offset(position)?;
        if self.ids.len() + ID_BYTES > ROW_BYTES {
            self.end_ids()?;
        }
        if self.ids.is_empty() {
            self.meta.id_fences.push(hash);
        }
        self.ids.put_u64(hash);
        self.ids.put_u32(offset);
        self.keys.push(hash);
        self.meta.ids += 1;
        Ok(())
    }

    /// Writes what is left, and last the row that makes the segment one.
    pub(crate) fn finish(mut self, totals: &Totals) -> Result<Segment, StorageError> {
        self.end_term()?;
        if !self.terms.is_empty() {
            self.end_terms()?;
        }
        if !self.ids.is_empty() {
            self.end_ids()?;
        }
        let filter = Filter::of(&self.keys);
        let filter_bytes = filter.to_bytes();
        let rows = filter_bytes.chunks(OTHER_ROW_BYTES);
        self.meta.filter_rows = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        for (at, bytes) in rows.enumerate() {
            self.put(Row::Filter, at, bytes)?;
        }
        self.meta.totals = totals.iter().map(|(dataset, it)| totals_record(*dataset, it)).collect();
        self.meta.totals.sort_unstable_by_key(|it| it.dataset);

        let meta = self.meta.encode_to_vec();
        let rows: Vec<_> = meta.chunks(OTHER_ROW_BYTES).collect();
        for (at, bytes) in rows.iter().enumerate().skip(1) {
            self.put(Row::Meta, at, bytes)?;
        }
        let mut first = Vec::with_capacity(4 + OTHER_ROW_BYTES.min(meta.len()));
        first.put_u32(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        first.extend_from_slice(rows.first().copied().unwrap_or_default());
        self.rows.finish()?;
        // Whole at once: an empty one would be taken for damage.
        let (number, tree) = (self.number, self.tree.clone());
        tree.put(&key(number, Row::Meta, 0), &first, page(number, Row::Meta, 0))?;
        (self.pace)(first.len())?;
        Ok(Segment { number, tree, meta: self.meta, filter, cache: None })
    }

    fn offset(&self, position: Position) -> Result<u32, StorageError> {
        let after = Position::new(self.meta.after);
        u32::try_from(position.since(after))
            .ok()
            .filter(|offset| *offset > 0 && position.get() <= self.meta.until)
            .ok_or_else(|| {
                corrupt(self.number, &format!("position {position} is outside its span"))
            })
    }

    fn end_term(&mut self) -> Result<(), StorageError> {
        if self.postings.is_empty() {
            return Ok(());
        }
        self.keys.push(xxh3_64(&self.term));
        self.meta.terms += 1;
        self.end_piece()
    }

    fn end_piece(&mut self) -> Result<(), StorageError> {
        if self.terms.is_full() {
            self.end_terms()?;
        }
        if self.terms.is_empty() {
            let posting = self.postings.first().copied().unwrap_or_default();
            self.meta.term_fences.push(TermFenceRecord { term: self.term.clone(), posting });
        }
        self.terms.push(&self.term, &self.postings);
        self.postings.clear();
        Ok(())
    }

    fn end_terms(&mut self) -> Result<(), StorageError> {
        let row = self.terms.finish();
        self.put(Row::Terms, self.meta.term_fences.len().saturating_sub(1), &row)
    }

    fn end_ids(&mut self) -> Result<(), StorageError> {
        let row = std::mem::take(&mut self.ids);
        self.put(Row::Ids, self.meta.id_fences.len().saturating_sub(1), &row)?;
        self.ids = row;
        self.ids.clear();
        Ok(())
    }

    fn put(&mut self, kind: Row, at: usize, bytes: &[u8]) -> Result<(), StorageError> {
        self.rows.put(&key(self.number, kind, at), bytes, page(self.number, kind, at))?;
        if kind != Row::Meta {
            self.meta.bytes += bytes.len() as u64;
        }
        (self.pace)(bytes.len())
    }
}
