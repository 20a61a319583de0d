//! Reading all of a segment, and checking that it is as those expect it who read parts of it.

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    model::Position,
    storage::{
        index::segment::{
            ID_BYTES, Row, Segment,
            cursor::id_entry,
            rows::{Entry, Parts},
        },
        pb::TermFenceRecord,
    },
};

/// Whom a check tells what it reads and finds.
pub(crate) trait Reader {
    fn posting(&mut self, term: &[u8], position: Position);
    fn id(&mut self, hash: u64, position: Position);
    /// Something is not as it should be.
    fn broken(&mut self, what: String);
}

/// What a walk through the rows of terms has seen.
#[derive(Default)]
struct Seen {
    term: Vec<u8>,
    /// The last posting of the term.
    posting: u32,
    terms: u64,
}

impl Segment {
    /// Tells a reader everything that can be read, in order, and everything that is not as it should
    /// be.
    pub(crate) fn check(&self, reader: &mut impl Reader) {
        let mut seen = Seen::default();
        let mut whole = true;
        for (at, fence) in self.meta.term_fences.iter().enumerate() {
            let checked = match self.row(Row::Terms, at) {
                Ok(row) => self.check_terms(&row, fence, &mut seen, reader),
                Err(error) => Err(error.to_string()),
            };
            if let Err(what) = checked {
                whole = false;
                reader.broken(format!("row {at} of its terms: {what}"));
            }
        }
        if whole && seen.terms != self.meta.terms {
            reader.broken(format!("it has {} terms; {} were written", seen.terms, self.meta.terms));
        }
        let (mut ids, mut last, mut whole) = (0, (0, 0), true);
        for (at, fence) in self.meta.id_fences.iter().enumerate() {
            let checked = match self.row(Row::Ids, at) {
                Ok(row) => self.check_ids(&row, *fence, &mut ids, &mut last, reader),
                Err(error) => Err(error.to_string()),
            };
            if let Err(what) = checked {
                whole = false;
                reader.broken(format!("row {at} of its event ids: {what}"));
            }
        }
        if whole && ids != self.meta.ids {
            reader.broken(format!("it has {ids} event ids; {} were written", self.meta.ids));
        }
    }

    fn check_terms(
        &self,
        row: &[u8],
        fence: &TermFenceRecord,
        seen: &mut Seen,
        reader: &mut impl Reader,
    ) -> Result<(), String> {
        let parts = Parts::of(row).ok_or("cut short")?;
        let mut restarts = parts.restarts().peekable();
        let (mut rest, mut term) = (parts.entries, Vec::new());
        while !rest.is_empty() {
            let at = parts.entries.len() - rest.len();
            let entry = Entry::take(&mut rest).ok_or("an entry does not decode")?;
            let restarts_here = restarts.next_if_eq(&at).is_some();
            if entry.shared > term.len() || (restarts_here && entry.shared > 0) {
                return Err("an entry shares what is not there".into());
            }
            term.truncate(entry.shared);
            term.extend_from_slice(entry.rest);
            let piece = entry.piece;
            if at == 0 && (&term, piece.first) != (&fence.term, fence.posting) {
                return Err("it does not begin as its fence says".into());
            }
            if term > seen.term {
                seen.terms += 1;
                seen.posting = 0;
                seen.term.clone_from(&term);
                if !self.filter.may_contain(xxh3_64(&term)) {
                    return Err("a term is not in the filter".into());
                }
            }
            if term < seen.term || piece.first <= seen.posting {
                return Err("entries are not in order".into());
            }
            let mut last = seen.posting;
            let mut ordered = true;
            let decoded = piece.each(|offset| {
                ordered &= offset > last;
                last = offset;
                reader.posting(&term, self.position(offset));
            });
            if decoded.is_none() || !ordered || self.position(last).get() > self.meta.until {
                return Err("postings do not decode".into());
            }
            seen.posting = last;
        }
        match restarts.next() {
            Some(at) => Err(format!("no entry begins at its restart {at}")),
            None => Ok(()),
        }
    }

    fn check_ids(
        &self,
        row: &[u8],
        fence: u64,
        count: &mut u64,
        last: &mut (u64, u32),
        reader: &mut impl Reader,
    ) -> Result<(), String> {
        let (entries, rest) = row.as_chunks::<ID_BYTES>();
        if !rest.is_empty() || entries.first().map(|it| id_entry(it).0) != Some(fence) {
            return Err("it is not as its fence says".into());
        }
        for (hash, offset) in entries.iter().map(id_entry) {
            let position = self.position(offset);
            if (hash, offset) <= *last || offset == 0 || position.get() > self.meta.until {
                return Err("entries are not in order".into());
            }
            if !self.filter.may_contain(hash) {
                return Err("an event id is not in the filter".into());
            }
            *last = (hash, offset);
            *count += 1;
            reader.id(hash, position);
        }
        Ok(())
    }
}
