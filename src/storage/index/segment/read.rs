//! Asking a segment.

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    model::{Direction, Position},
    storage::{
        StorageError,
        index::{
            filter,
            part::{DatasetTotals, Part},
            segment::{
                Row, Segment,
                cursor::{Terms, id_entry},
                postings::Piece,
            },
            term::{Lookup, Span, Term, union, within},
        },
        pb::DatasetTotalsRecord,
    },
};

impl Part for Segment {
    fn span(&self) -> Span {
        Span { after: Position::new(self.meta.after), until: Position::new(self.meta.until) }
    }

    fn datasets(&self) -> impl Iterator<Item = (u32, DatasetTotals)> {
        self.meta.totals.iter().map(|it| (it.dataset, totals(it)))
    }

    fn of_dataset(&self, dataset: u32) -> Option<DatasetTotals> {
        // They are written in order.
        let all = &self.meta.totals;
        let place = all.binary_search_by_key(&dataset, |it| it.dataset).ok()?;
        all.get(place).map(totals)
    }

    fn lookup(&self, lookup: &Lookup, span: Span) -> Result<Vec<Position>, StorageError> {
        if let Lookup::Listed(positions) = lookup {
            return Ok(within(positions, span.intersect(self.span())).to_vec());
        }
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

    /// Decodes only pieces that lie across the span's ends.
    fn count_of(&self, lookup: &Lookup, span: Span) -> Result<u64, StorageError> {
        if let Lookup::Listed(positions) = lookup {
            return Ok(within(positions, span.intersect(self.span())).len() as u64);
        }
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

    /// Reads one piece of the term's postings.
    fn chunk(
        &self,
        term: &Term,
        span: Span,
        direction: Direction,
        most: usize,
    ) -> Result<Vec<Position>, StorageError> {
        let (after, until) = (self.offset(span.after), self.offset(span.until));
        let (wanted, mut found) = (term.as_bytes(), Vec::new());
        if !self.filter.may_contain(xxh3_64(wanted)) {
            return Ok(found);
        }
        let mut terms = Terms::new(self);
        terms.seek(
            wanted,
            if direction == Direction::Forward { after.saturating_add(1) } else { until },
        )?;
        while terms.advance()? {
            let (term, piece) = terms.entry()?;
            if (term, piece.first) > (wanted, until) {
                break;
            }
            if term != wanted || piece.last <= after {
                continue;
            }
            // Backward a later piece, if it begins inside, is nearer to the end.
            found.clear();
            let inside = |offset: u32| {
                if after < offset && offset <= until {
                    found.push(self.position(offset));
                }
            };
            piece.each(inside).ok_or_else(|| self.corrupt("postings do not decode"))?;
            if direction == Direction::Forward {
                break;
            }
        }
        match direction {
            Direction::Forward => found.truncate(most),
            Direction::Backward => drop(found.drain(..found.len().saturating_sub(most))),
        }
        Ok(found)
    }

    /// Passes over the pieces that have no candidate.
    fn among(
        &self,
        lookup: &Lookup,
        candidates: &[Position],
    ) -> Result<Vec<Position>, StorageError> {
        let Lookup::Exact(term) = lookup else {
            return self.lookup_among(lookup, candidates);
        };
        let (wanted, mut found) = (term.as_bytes(), Vec::new());
        if !self.filter.may_contain(xxh3_64(wanted)) {
            return Ok(found);
        }
        let mut terms = Terms::new(self);
        let mut rest = candidates;
        while let Some(candidate) = rest.first() {
            let offset = self.offset(*candidate);
            terms.seek(wanted, offset)?;
            loop {
                if !terms.advance()? {
                    return Ok(found);
                }
                let (term, piece) = terms.entry()?;
                match term.cmp(wanted) {
                    Ordering::Greater => return Ok(found),
                    Ordering::Equal if offset <= piece.last => break,
                    Ordering::Equal | Ordering::Less => {}
                }
            }
            let piece = terms.entry()?.1;
            let here = rest.partition_point(|it| *it <= self.position(piece.last));
            let (here, after) = rest.split_at_checked(here).unwrap_or((rest, &[]));
            rest = after;
            let here = here.iter().map(|position| self.offset(*position));
            piece
                .each_of(here, |offset| found.push(self.position(offset)))
                .ok_or_else(|| self.corrupt("postings do not decode"))?;
        }
        Ok(found)
    }
}

impl Segment {
    /// Positions of events whose id has this hash, of which `bits` are the filter's.
    pub(crate) fn ids_with(
        &self,
        hash: u64,
        bits: &filter::Block,
        out: &mut Vec<Position>,
    ) -> Result<(), StorageError> {
        if !self.filter.may_contain_all(hash, bits) {
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
    #[cfg(test)]
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
    #[cfg(test)]
    pub(crate) fn each_id(&self, mut f: impl FnMut(u64, Position)) -> Result<(), StorageError> {
        let mut ids = super::cursor::Ids::new(self);
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
            Lookup::Listed(_) => return Ok(()),
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

fn totals(record: &DatasetTotalsRecord) -> DatasetTotals {
    DatasetTotals {
        events: record.events,
        first: Position::new(record.first),
        last: Position::new(record.last),
        payload_bytes: record.payload_bytes,
    }
}
