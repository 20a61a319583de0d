//! Reading a segment's terms and ids in order.

use bytes::Buf as _;

use crate::{
    model::Position,
    storage::{
        StorageError,
        index::segment::{
            ID_BYTES, Row, Segment,
            postings::Piece,
            rows::{Entry, Parts},
        },
    },
};

/// The entries of a segment's terms, in order.
pub(crate) struct Terms<'a> {
    segment: &'a Segment,
    /// Whether all rows are read, once: then none is kept.
    in_order: bool,
    /// The row after the one in `bytes`.
    next_row: usize,
    bytes: sled::IVec,
    /// Where the entry under way has its postings, and where the next entry begins.
    piece_at: usize,
    next_at: usize,
    /// Where the entries end in `bytes`.
    end: usize,
    term: Vec<u8>,
}

impl<'a> Terms<'a> {
    /// Before the first entry, for a query.
    pub(crate) fn new(segment: &'a Segment) -> Self {
        Self {
            segment,
            in_order: false,
            next_row: 0,
            bytes: sled::IVec::default(),
            piece_at: 0,
            next_at: 0,
            end: 0,
            term: Vec::new(),
        }
    }

    /// Before the first entry, for one who reads all of them.
    pub(crate) fn in_order(segment: &'a Segment) -> Self {
        Self { in_order: true, ..Self::new(segment) }
    }

    /// Moves to the next entry; `false` after the last.
    pub(crate) fn advance(&mut self) -> Result<bool, StorageError> {
        if self.next_at == self.end {
            if self.next_row == self.segment.meta.term_fences.len() {
                return Ok(false);
            }
            self.load(self.next_row)?;
        }
        let entries = self.bytes.get(self.next_at..self.end).ok_or_else(|| self.malformed())?;
        let mut rest = entries;
        let entry = Entry::take(&mut rest)
            .filter(|entry| entry.shared <= self.term.len())
            .ok_or_else(|| self.malformed())?;
        self.term.truncate(entry.shared);
        self.term.extend_from_slice(entry.rest);
        self.next_at += entries.len() - rest.len();
        self.piece_at = self.next_at - entry.piece_len;
        Ok(true)
    }

    pub(crate) fn term(&self) -> &[u8] {
        &self.term
    }

    /// Calls `f` with the term and every position of the entry.
    pub(crate) fn each_position(
        &self,
        mut f: impl FnMut(&[u8], Position),
    ) -> Result<(), StorageError> {
        let (term, piece) = self.entry()?;
        piece
            .each(|offset| f(term, self.segment.position(offset)))
            .ok_or_else(|| self.segment.corrupt("postings do not decode"))
    }

    /// The entry's term and its postings.
    pub(super) fn entry(&self) -> Result<(&[u8], Piece<'_>), StorageError> {
        let piece = self.bytes.get(self.piece_at..).and_then(|mut it| Piece::take(&mut it));
        Ok((&self.term, piece.ok_or_else(|| self.malformed())?))
    }

    /// Goes on, never back, to where the next entries include the last one that does not come after
    /// this term and posting.
    pub(super) fn seek(&mut self, term: &[u8], posting: u32) -> Result<(), StorageError> {
        let fences = &self.segment.meta.term_fences;
        let after =
            fences.partition_point(|it| (it.term.as_slice(), it.posting) <= (term, posting));
        let row = after.saturating_sub(1);
        if row >= self.next_row && row < fences.len() {
            self.load(row)?;
        } else if row + 1 != self.next_row {
            return Ok(());
        }
        let found = Parts::of(&self.bytes).and_then(|parts| parts.seek(term, posting));
        let start = found.ok_or_else(|| self.malformed())?;
        if start > self.next_at {
            self.next_at = start;
        }
        Ok(())
    }

    fn load(&mut self, row: usize) -> Result<(), StorageError> {
        self.bytes = if self.in_order {
            self.segment.row(Row::Terms, row)?
        } else {
            self.segment.queried_row(row)?
        };
        let parts = Parts::of(&self.bytes).ok_or_else(|| self.malformed())?;
        (self.end, self.next_row, self.next_at) = (parts.entries.len(), row + 1, 0);
        Ok(())
    }

    fn malformed(&self) -> StorageError {
        self.segment.corrupt("a row of terms does not decode")
    }
}

/// A segment's event ids, in order.
pub(crate) struct Ids<'a> {
    segment: &'a Segment,
    next_row: usize,
    bytes: sled::IVec,
    next_id: usize,
}

impl<'a> Ids<'a> {
    /// Before the first id.
    pub(crate) fn new(segment: &'a Segment) -> Self {
        Self { segment, next_row: 0, bytes: sled::IVec::default(), next_id: 0 }
    }

    /// The next id's hash and its position; `None` after the last.
    pub(crate) fn next_id(&mut self) -> Result<Option<(u64, Position)>, StorageError> {
        loop {
            let (ids, rest) = self.bytes.as_chunks();
            if !rest.is_empty() {
                return Err(self.segment.corrupt("a row of ids is cut short"));
            }
            if let Some(entry) = ids.get(self.next_id) {
                self.next_id += 1;
                let (hash, offset) = id_entry(entry);
                return Ok(Some((hash, self.segment.position(offset))));
            }
            if self.next_row == self.segment.meta.id_fences.len() {
                return Ok(None);
            }
            self.bytes = self.segment.row(Row::Ids, self.next_row)?;
            (self.next_row, self.next_id) = (self.next_row + 1, 0);
        }
    }
}

pub(super) fn id_entry(entry: &[u8; ID_BYTES]) -> (u64, u32) {
    let mut entry = entry.as_slice();
    (entry.get_u64(), entry.get_u32())
}
