//! Comparing a segment with the records that it should be made of.
//!
//! In one pass over the log and one over the segment, sums of hashes of what each holds are compared,
//! a sum for every few thousand positions. Only where sums differ are both read again, to name the
//! differences.

use std::{cmp::Ordering, sync::Arc};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{
    model::Position,
    storage::{
        StorageError,
        index::{
            id_hash,
            part::{DatasetTotals, Part as _, Totals},
            segment::{Reader, Segment},
            term::{Span, Term, each_term},
        },
        pb::EventRecord,
        tagged,
    },
};

/// Positions of one sum; what is held in memory at a time to name differences.
const SLICE_POSITIONS: u64 = 16 * 1024;
/// Slices that are read again; of more it is only said that they differ.
const SLICES_NAMED_MAX: usize = 8;
/// Differences named in one segment.
const NAMED_MAX: usize = 20;

/// A way in which a segment is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Where, if at one position.
    pub(crate) position: Option<Position>,
    /// For people; empty when it is not about a term.
    pub(crate) term: String,
    pub(crate) message: String,
}

/// Reads the records of a span, but for those that cannot be read, and calls a function with each.
pub(crate) type ReadRecords<'a> =
    dyn FnMut(Span, &mut dyn FnMut(Position, &EventRecord)) -> Result<(), StorageError> + 'a;

/// Order does not matter to a sum, so log and segment can be read as they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    postings: u128,
    ids: u128,
}

impl Sum {
    fn posting(&mut self, term: &[u8], position: Position) {
        let hash = xxh3_128_with_seed(term, position.get());
        self.postings = self.postings.wrapping_add(hash);
    }

    fn id(&mut self, id_hash: u64, position: Position) {
        let hash = xxh3_128_with_seed(&id_hash.to_be_bytes(), position.get());
        self.ids = self.ids.wrapping_add(hash);
    }
}

/// A comparison under way: first [`Comparison::add`] for every record of the segment's span, then
/// [`Comparison::finish`].
pub(crate) struct Comparison {
    segment: Arc<Segment>,
    expected: Vec<Sum>,
    totals: Totals,
    /// What could not be read of the log, ascending: says nothing about the segment.
    unread: Vec<Span>,
}

impl Comparison {
    pub(crate) fn with(segment: Arc<Segment>) -> Self {
        let expected = sums_for(segment.span());
        Self { segment, expected, totals: Totals::new(), unread: Vec::new() }
    }

    pub(crate) fn segment_number(&self) -> u32 {
        self.segment.number()
    }

    pub(crate) fn span(&self) -> Span {
        self.segment.span()
    }

    /// Adds a record of the log.
    pub(crate) fn add(&mut self, position: Position, record: &EventRecord) {
        let totals = DatasetTotals::of_event(position, record.payload.len() as u64);
        self.totals.entry(tagged::holder(record)).or_default().add(&totals);
        let slice = slice_of(self.segment.span(), position);
        if let Some(sum) = self.expected.get_mut(slice) {
            each_term(record, |term| sum.posting(term.as_bytes(), position));
            sum.id(id_hash(record.dataset, &record.event_id), position);
        }
    }

    /// Leaves out what could not be read, which must lie after what was left out before.
    pub(crate) fn leave_out(&mut self, span: Span) {
        self.unread.push(span.intersect(self.segment.span()));
    }

    /// Reads the segment, and calls `found` with the ways in which it differs.
    pub(crate) fn finish(
        self,
        records: &mut ReadRecords<'_>,
        found: &mut dyn FnMut(Difference),
    ) -> Result<(), StorageError> {
        let span = self.segment.span();
        let mut summing = Summing { comparison: &self, held: sums_for(span), found };
        self.segment.check(&mut summing);
        let Summing { held, found, .. } = summing;
        let differ = self.expected.iter().zip(&held).enumerate();
        let differ: Vec<_> = differ.filter(|(_, (a, b))| a != b).map(|it| it.0).collect();
        let mut named = 0;
        for (place, slice) in differ.iter().enumerate() {
            let slice = slice_span(span, *slice);
            if place < SLICES_NAMED_MAX && named < NAMED_MAX {
                self.name_differences(slice, records, &mut named, found)?;
            } else {
                let message = format!(
                    "differs from the log between positions {} and {}",
                    slice.after.next(),
                    slice.until
                );
                found(Difference {
                    position: Some(slice.after.next()),
                    term: String::new(),
                    message,
                });
            }
        }
        if self.unread.is_empty() && differ.is_empty() {
            self.compare_totals(found);
        }
        Ok(())
    }

    fn compare_totals(&self, found: &mut dyn FnMut(Difference)) {
        let mut held: Vec<_> = self.segment.datasets().collect();
        let mut expected: Vec<_> = self.totals.iter().map(|(number, it)| (*number, *it)).collect();
        held.sort_unstable_by_key(|it| it.0);
        expected.sort_unstable_by_key(|it| it.0);
        let wrong = expected.iter().filter(|it| !held.contains(it));
        let wrong = wrong.chain(held.iter().filter(|it| !self.totals.contains_key(&it.0)));
        for (dataset, _) in wrong {
            let message = "its totals are not those of the log".to_owned();
            let term = Term::describe(Term::dataset(*dataset).as_bytes());
            found(Difference { position: None, term, message });
        }
    }

    fn name_differences(
        &self,
        slice: Span,
        records: &mut ReadRecords<'_>,
        named: &mut usize,
        found: &mut dyn FnMut(Difference),
    ) -> Result<(), StorageError> {
        let mut expected = Entries::new(self, slice);
        records(slice, &mut |position, record| {
            each_term(record, |term| expected.posting(term.as_bytes(), position));
            expected.id(id_hash(record.dataset, &record.event_id), position);
        })?;
        let mut held = Entries::new(self, slice);
        self.segment.check(&mut held);
        let mut more = 0_u64;
        let mut name = |position: Position, term: String, what: String| {
            if *named < NAMED_MAX {
                *named += 1;
                found(Difference { position: Some(position), term, message: what });
            } else {
                more += 1;
            }
        };
        compare(expected.postings, held.postings, |(term, position), is_missing| {
            let what = if is_missing { "lacks the position" } else { "has a position too many" };
            name(position, Term::describe(&term), what.to_owned());
        });
        compare(expected.ids, held.ids, |(hash, position), is_missing| {
            let what = if is_missing { "lacks an event id" } else { "has an event id too many" };
            name(position, String::new(), format!("{what}, of hash {hash:016x}"));
        });
        if more > 0 {
            let message = format!("and {more} more differences up to position {}", slice.until);
            found(Difference { position: Some(slice.after.next()), term: String::new(), message });
        }
        Ok(())
    }

    fn is_left_out(&self, position: Position) -> bool {
        let at = self.unread.partition_point(|span| span.until < position);
        self.unread.get(at).is_some_and(|span| span.contains(position))
    }
}

/// Adds up what a segment holds, and passes on what is broken.
struct Summing<'a> {
    comparison: &'a Comparison,
    held: Vec<Sum>,
    found: &'a mut dyn FnMut(Difference),
}

impl Summing<'_> {
    fn sum(&mut self, position: Position) -> Option<&mut Sum> {
        let slice = slice_of(self.comparison.span(), position);
        self.held.get_mut(slice).filter(|_| !self.comparison.is_left_out(position))
    }
}

impl Reader for Summing<'_> {
    fn posting(&mut self, term: &[u8], position: Position) {
        if let Some(sum) = self.sum(position) {
            sum.posting(term, position);
        }
    }

    fn id(&mut self, hash: u64, position: Position) {
        if let Some(sum) = self.sum(position) {
            sum.id(hash, position);
        }
    }

    fn broken(&mut self, message: String) {
        (self.found)(Difference { position: None, term: String::new(), message });
    }
}

/// What a slice of a segment holds, or should.
struct Entries<'a> {
    comparison: &'a Comparison,
    slice: Span,
    postings: Vec<(Vec<u8>, Position)>,
    ids: Vec<(u64, Position)>,
}

impl<'a> Entries<'a> {
    fn new(comparison: &'a Comparison, slice: Span) -> Self {
        Self { comparison, slice, postings: Vec::new(), ids: Vec::new() }
    }

    fn is_here(&self, position: Position) -> bool {
        self.slice.contains(position) && !self.comparison.is_left_out(position)
    }
}

impl Reader for Entries<'_> {
    fn posting(&mut self, term: &[u8], position: Position) {
        if self.is_here(position) {
            self.postings.push((term.to_vec(), position));
        }
    }

    fn id(&mut self, hash: u64, position: Position) {
        if self.is_here(position) {
            self.ids.push((hash, position));
        }
    }

    fn broken(&mut self, _named_before: String) {}
}

/// Calls `differs` with what only one of them has, and whether it is missing in `held`.
fn compare<T: Ord>(mut expected: Vec<T>, mut held: Vec<T>, mut differs: impl FnMut(T, bool)) {
    expected.sort_unstable();
    held.sort_unstable();
    let (mut expected, mut held) = (expected.into_iter().peekable(), held.into_iter().peekable());
    loop {
        let order = match (expected.peek(), held.peek()) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        match order {
            Ordering::Less => expected.next().into_iter().for_each(|it| differs(it, true)),
            Ordering::Greater => held.next().into_iter().for_each(|it| differs(it, false)),
            Ordering::Equal => {
                expected.next();
                held.next();
            }
        }
    }
}

fn sums_for(span: Span) -> Vec<Sum> {
    let slices = usize::try_from(span.len().div_ceil(SLICE_POSITIONS)).unwrap_or(usize::MAX);
    vec![Sum::default(); slices]
}

/// Which slice of a span a position is in.
fn slice_of(span: Span, position: Position) -> usize {
    let offset = position.since(span.after.next());
    usize::try_from(offset / SLICE_POSITIONS).unwrap_or(usize::MAX)
}

fn slice_span(span: Span, slice: usize) -> Span {
    let after = span.after.plus(slice as u64 * SLICE_POSITIONS);
    Span { after, until: after.plus(SLICE_POSITIONS).min(span.until) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{index::tail::Tail, pb::IdentityRecord};

    const AFTER: u64 = 70;

    fn events(count: u64) -> Vec<(Position, EventRecord)> {
        let event = |number: u64| EventRecord {
            dataset: 1,
            schema: 2,
            event_id: format!("event-{number}").into(),
            event_type: if number.is_multiple_of(3) { "a" } else { "b" }.into(),
            identities: vec![IdentityRecord {
                namespace: "Email".into(),
                id: format!("person-{}", number % 50).into(),
                primary: true,
            }],
            payload: "{}".into(),
            ..EventRecord::default()
        };
        (AFTER + 1..=AFTER + count).map(|it| (Position::new(it), event(it))).collect()
    }

    fn segment_of(events: &[(Position, EventRecord)]) -> Arc<Segment> {
        let mut tail = Tail::after(Position::new(AFTER));
        for (position, record) in events {
            tail.add(*position, id_hash(record.dataset, &record.event_id), record);
        }
        Arc::new(
            Segment::write(&crate::storage::tree::Tree::temporary(), 1, &tail, &mut |_| Ok(()))
                .unwrap(),
        )
    }

    /// Compares a segment of `held` with the log of `events`; positions in `unread` cannot be read.
    #[track_caller]
    fn check(
        held: &[(Position, EventRecord)],
        events: &[(Position, EventRecord)],
        unread: Option<Span>,
        expected: &[(u64, &str, &str)],
    ) {
        let readable: Vec<_> = events
            .iter()
            .filter(|(position, _)| unread.is_none_or(|span| !span.contains(*position)))
            .collect();
        let mut comparison = Comparison::with(segment_of(held));
        for (position, record) in &readable {
            comparison.add(*position, record);
        }
        if let Some(span) = unread {
            comparison.leave_out(span);
        }
        let mut found = Vec::new();
        let mut again = |span: Span, each: &mut dyn FnMut(Position, &EventRecord)| {
            let here = readable.iter().filter(|(position, _)| span.contains(*position));
            for (position, record) in here {
                each(*position, record);
            }
            Ok(())
        };
        comparison.finish(&mut again, &mut |difference| found.push(difference)).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|it| {
                (it.position.unwrap_or_default().get(), it.term.as_str(), it.message.as_str())
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn differences_are_named_and_nothing_else() {
        let events = events(40_000);
        check(&events, &events, None, &[]);
        let mut other = events.clone();
        other[20_000].1.event_type = "c".into();
        other[30_000].1.event_id = "another".into();
        let hash = |id: &str| id_hash(1, id);
        let lacks = format!("lacks an event id, of hash {:016x}", hash("another"));
        let extra = format!("has an event id too many, of hash {:016x}", hash("event-30071"));
        let mut ids = [(hash("another"), lacks.as_str()), (hash("event-30071"), extra.as_str())];
        ids.sort_unstable();
        let expected = [
            (20_071, "event type `b`", "has a position too many"),
            (20_071, "event type `c`", "lacks the position"),
            (30_071, "", ids[0].1),
            (30_071, "", ids[1].1),
        ];
        check(&events, &other, None, &expected);
        let unread = |from: u64, to: u64| {
            Some(Span { after: Position::new(from - 1), until: Position::new(to) })
        };
        check(&events, &other, unread(20_071, 20_071), &expected[2..]);
        check(&events, &other, unread(20_000, 35_000), &[]);
    }

    #[test]
    fn totals_are_compared_too() {
        let events = events(100);
        let mut other = events.clone();
        other[5].1.payload = "{\"longer\":1}".into();
        let expected = [(0, "dataset number 1", "its totals are not those of the log")];
        check(&events, &other, None, &expected);
    }
}
