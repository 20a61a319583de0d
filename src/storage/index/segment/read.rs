//! Asking a segment, and reading all of it in order.

use std::cmp::Ordering;

use bytes::Buf;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    model::Position,
    storage::{
        StorageError,
        index::{
            part::Part,
            segment::{
                ID_BYTES, Row, Segment,
                postings::Piece,
                rows::{Entry, Parts},
            },
            term::{Lookup, Span, union},
        },
    },
};

impl Part for Segment {
    fn lookup(&self, lookup: &Lookup, span: Span) -> Result<Vec<Position>, StorageError> {
        let (after, until) = (self.offset(span.after), self.offset(span.until));
        let mut lists: Vec<Vec<Position>> = Vec::new();
        let mut last_term = Vec::new();
        self.each_piece(lookup, span, |term, piece| {
            if lists.is_empty() || last_term != term {
                lists.push(Vec::new());
                last_term.clear();
                last_term.extend_from_slice(term);
            }
            let list = lists.last_mut()?;
            piece.each(|offset| {
                if after < offset && offset <= until {
                    list.push(self.position(offset));
                }
            })
        })?;
        Ok(union(lists))
    }
}

impl Segment {
    /// How many positions inside `span` a lookup selects. Decodes only what lies across the span's
    /// ends. A prefix must select no position by two of its terms, which holds of event types.
    pub(crate) fn count(&self, lookup: &Lookup, span: Span) -> Result<u64, StorageError> {
        let (after, until) = (self.offset(span.after), self.offset(span.until));
        let mut count = 0;
        self.each_piece(lookup, span, |_term, piece| {
            if after < piece.first && piece.last <= until {
                count += u64::from(piece.count);
                return Some(());
            }
            piece.each(|offset| count += u64::from(after < offset && offset <= until))
        })?;
        Ok(count)
    }

    /// Positions of events whose id has this hash.
    pub(crate) fn ids_with(&self, hash: u64, out: &mut Vec<Position>) -> Result<(), StorageError> {
        if !self.filter.may_contain(hash) {
            return Ok(());
        }
        let fences = &self.meta.id_fences;
        let start = fences.partition_point(|it| *it < hash).saturating_sub(1);
        for (at, fence) in fences.iter().enumerate().skip(start) {
            if *fence > hash {
                break;
            }
            let row = self.row(Row::Ids, at)?;
            let (ids, _) = row.as_chunks();
            let from = ids.partition_point(|it| id_entry(it).0 < hash);
            let found = ids.iter().skip(from).map(id_entry).take_while(|(it, _)| *it == hash);
            out.extend(found.map(|(_, offset)| self.position(offset)));
        }
        Ok(())
    }

    /// Calls `f` with every term and position, in order.
    pub(crate) fn each_posting(
        &self,
        mut f: impl FnMut(&[u8], Position),
    ) -> Result<(), StorageError> {
        let mut terms = Terms::new(self);
        while terms.advance()? {
            terms.each_position(&mut f)?;
        }
        Ok(())
    }

    /// Calls `f` with every event id's hash and position, in order.
    pub(crate) fn each_id(&self, mut f: impl FnMut(u64, Position)) -> Result<(), StorageError> {
        let mut ids = Ids::new(self);
        while let Some((hash, position)) = ids.next_id()? {
            f(hash, position);
        }
        Ok(())
    }

    /// Calls `f` with the pieces that may have postings inside `span`, of every term that a lookup
    /// selects, in order.
    fn each_piece(
        &self,
        lookup: &Lookup,
        span: Span,
        mut f: impl FnMut(&[u8], Piece<'_>) -> Option<()>,
    ) -> Result<(), StorageError> {
        let (after, until) = (self.offset(span.after), self.offset(span.until));
        let mut terms = Terms::new(self);
        let (wanted, is_exact) = match lookup {
            Lookup::Exact(term) => (term.as_bytes(), true),
            Lookup::Prefix(term) => (term.as_bytes(), false),
        };
        if !is_exact {
            terms.seek(wanted, 0)?;
        } else if self.filter.may_contain(xxh3_64(wanted)) {
            terms.seek(wanted, after.saturating_add(1))?;
        } else {
            return Ok(());
        }
        while terms.advance()? {
            let (term, piece) = terms.entry()?;
            match term.cmp(wanted) {
                Ordering::Less => continue,
                Ordering::Greater if is_exact || !term.starts_with(wanted) => break,
                Ordering::Equal | Ordering::Greater => (),
            }
            if until < piece.first && is_exact {
                break;
            }
            if piece.last <= after || until < piece.first {
                if piece.may_go_on() {
                    // To the next piece that matters, or to the next term.
                    let next = if until < piece.first { u32::MAX } else { after.saturating_add(1) };
                    let term = term.to_vec();
                    terms.seek(&term, next)?;
                }
            } else {
                f(term, piece).ok_or_else(|| self.corrupt("postings do not decode"))?;
            }
        }
        Ok(())
    }
}

/// The entries of a segment's terms, in order.
pub(crate) struct Terms<'a> {
    segment: &'a Segment,
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
    /// Before the first entry.
    pub(crate) fn new(segment: &'a Segment) -> Self {
        let bytes = sled::IVec::default();
        Self { segment, next_row: 0, bytes, piece_at: 0, next_at: 0, end: 0, term: Vec::new() }
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

    fn entry(&self) -> Result<(&[u8], Piece<'_>), StorageError> {
        let piece = self.bytes.get(self.piece_at..).and_then(|mut it| Piece::take(&mut it));
        Ok((&self.term, piece.ok_or_else(|| self.malformed())?))
    }

    /// Goes on, never back, to where the next entries include the last one that does not come after
    /// this term and posting.
    fn seek(&mut self, term: &[u8], posting: u32) -> Result<(), StorageError> {
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
        self.bytes = self.segment.row(Row::Terms, row)?;
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

fn id_entry(entry: &[u8; ID_BYTES]) -> (u64, u32) {
    let mut entry = entry.as_slice();
    (entry.get_u64(), entry.get_u32())
}
