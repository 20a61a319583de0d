//! What the tail and the segments have in common: a span of positions that can be queried.

use std::collections::HashMap;

use crate::{
    model::{Direction, Position},
    storage::{
        StorageError,
        index::{
            edge::Budget,
            term::{Lookup, Query, Span, Term, intersect, union},
        },
    },
};

/// Positions looked at in one go when an edge is looked for: few at first, since the first may do, and
/// never more than a piece of a segment's postings.
const CHUNK_FIRST: usize = 4;
const CHUNK_GROWTH: usize = 8;
const CHUNK_MAX: usize = 1024;

/// A span of the log's index.
pub(crate) trait Part {
    /// The positions that it covers.
    fn span(&self) -> Span;

    /// What it holds of each dataset.
    fn datasets(&self) -> impl Iterator<Item = (u32, DatasetTotals)>;

    /// What it holds of one dataset, if anything.
    fn of_dataset(&self, dataset: u32) -> Option<DatasetTotals>;

    /// Positions that a lookup selects, sorted, inside `span`.
    fn lookup(&self, lookup: &Lookup, span: Span) -> Result<Vec<Position>, StorageError>;

    /// How many positions `lookup` would give. A prefix's terms must share none, as event types do.
    fn count_of(&self, lookup: &Lookup, span: Span) -> Result<u64, StorageError> {
        Ok(self.lookup(lookup, span)?.len() as u64)
    }

    /// Those of the sorted `candidates` that a lookup selects, sorted.
    fn among(
        &self,
        lookup: &Lookup,
        candidates: &[Position],
    ) -> Result<Vec<Position>, StorageError> {
        self.lookup_among(lookup, candidates)
    }

    /// The same, by looking up all that lie between the candidates.
    fn lookup_among(
        &self,
        lookup: &Lookup,
        candidates: &[Position],
    ) -> Result<Vec<Position>, StorageError> {
        let (Some(first), Some(last)) = (candidates.first(), candidates.last()) else {
            return Ok(Vec::new());
        };
        let span = Span { after: first.previous(), until: *last };
        Ok(intersect(candidates, &self.lookup(lookup, span)?))
    }

    /// Positions that a query selects, sorted, inside `span`.
    fn select(&self, query: &Query, span: Span) -> Result<Vec<Position>, StorageError> {
        let span = span.intersect(self.span());
        let kept = self.kept(query);
        if span.is_empty() || matches!(&kept, Kept::Of(datasets) if datasets.is_empty()) {
            return Ok(Vec::new());
        }
        // The rarest clause comes first: what it finds is all that the others are asked about.
        if let Some((rarest, others)) = query.clauses.split_first() {
            let lists: Result<Vec<_>, _> = rarest.iter().map(|it| self.lookup(it, span)).collect();
            return self.refine(union(lists?), others, &kept, query);
        }
        let Kept::Of(datasets) = kept else {
            return Ok((span.after.next().get()..=span.until.get()).map(Position::new).collect());
        };
        let held = |dataset: u32| {
            let after = span.after.max(query.floor(dataset));
            self.lookup(&Lookup::Exact(Term::dataset(dataset)), Span { after, ..span })
        };
        Ok(union(datasets.into_iter().map(held).collect::<Result<_, _>>()?))
    }

    /// What clauses and floors leave of sorted positions.
    fn refine(
        &self,
        mut found: Vec<Position>,
        clauses: &[Vec<Lookup>],
        kept: &Kept,
        query: &Query,
    ) -> Result<Vec<Position>, StorageError> {
        for clause in clauses {
            if found.is_empty() {
                return Ok(found);
            }
            let lists: Result<Vec<_>, _> = clause.iter().map(|it| self.among(it, &found)).collect();
            found = union(lists?);
        }
        let Kept::Of(datasets) = kept else { return Ok(found) };
        let held = |dataset: &u32| {
            let kept = found.partition_point(|it| *it <= query.floor(*dataset));
            let lookup = Lookup::Exact(Term::dataset(*dataset));
            self.among(&lookup, found.get(kept..).unwrap_or_default())
        };
        Ok(union(datasets.iter().map(held).collect::<Result<_, _>>()?))
    }

    /// Some positions that an exact term has inside `span`, sorted: the first ones or the last ones,
    /// at most `most`. None only if there are none.
    fn chunk(
        &self,
        term: &Term,
        span: Span,
        direction: Direction,
        most: usize,
    ) -> Result<Vec<Position>, StorageError>;

    /// The first or the last position inside `span` that a query selects, found in pieces from that
    /// end on; also `None` when the budget is spent before.
    fn edge(
        &self,
        query: &Query,
        span: Span,
        direction: Direction,
        budget: &mut Budget,
    ) -> Result<Option<Position>, StorageError> {
        let span = span.intersect(self.span());
        if span.is_empty() {
            return Ok(None);
        }
        let kept = self.kept(query);
        let (lookups, others) = match (query.clauses.split_first(), &kept) {
            (_, Kept::Of(datasets)) if datasets.is_empty() => return Ok(None),
            (Some((rarest, others)), _) => (rarest.clone(), others),
            (None, Kept::Of(datasets)) => {
                let term = |it: &u32| Lookup::Exact(Term::dataset(*it));
                (datasets.iter().map(term).collect(), [].as_slice())
            }
            (None, Kept::Everything) => {
                return Ok(Some(match direction {
                    Direction::Forward => span.after.next(),
                    Direction::Backward => span.until,
                }));
            }
        };
        let (mut best, mut span) = (None, span);
        for lookup in &lookups {
            let mut rest = span;
            let mut most = CHUNK_FIRST;
            while !rest.is_empty() {
                let Some(chunk) = self.affordable(lookup, rest, direction, most, budget)? else {
                    return Ok(None);
                };
                let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { break };
                match direction {
                    Direction::Forward => rest.after = *last,
                    Direction::Backward => rest.until = first.previous(),
                }
                let datasets = match &kept {
                    Kept::Everything => 0,
                    Kept::Of(datasets) => datasets.len() as u64,
                };
                if !budget.pay(datasets * (1 + chunk.len() as u64))
                    || !others.iter().flatten().all(|it| pays(it, &chunk, budget))
                {
                    return Ok(None);
                }
                let found = self.refine(chunk, others, &kept, query)?;
                let found = match direction {
                    Direction::Forward => found.first(),
                    Direction::Backward => found.last(),
                };
                if let Some(found) = found {
                    // What another alternative finds counts only if it lies nearer to the end.
                    best = Some(*found);
                    match direction {
                        Direction::Forward => span.until = found.previous(),
                        Direction::Backward => span.after = *found,
                    }
                    break;
                }
                most = (most * CHUNK_GROWTH).min(CHUNK_MAX);
            }
        }
        Ok(best)
    }

    /// A chunk of what a lookup selects, or all of it, paid for; `None` when that is too much.
    fn affordable(
        &self,
        lookup: &Lookup,
        span: Span,
        direction: Direction,
        most: usize,
        budget: &mut Budget,
    ) -> Result<Option<Vec<Position>>, StorageError> {
        match lookup {
            Lookup::Exact(term) => {
                let chunk = self.chunk(term, span, direction, most)?;
                Ok(budget.pay(1 + chunk.len() as u64).then_some(chunk))
            }
            Lookup::Prefix(_) | Lookup::Listed(_) => {
                if budget.pay(1 + self.count_of(lookup, span)?) {
                    self.lookup(lookup, span).map(Some)
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// How many positions `select` would give; without a clause mostly from totals alone, of one
    /// term from the counts beside its postings.
    fn count(&self, query: &Query, span: Span) -> Result<u64, StorageError> {
        let span = span.intersect(self.span());
        if span.is_empty() {
            return Ok(0);
        }
        let whole = matches!(self.kept(query), Kept::Everything);
        match query.clauses.as_slice() {
            [] if whole => return Ok(span.len()),
            [] => {}
            [clause] if whole && clause.len() == 1 => {
                return clause.iter().map(|lookup| self.count_of(lookup, span)).sum();
            }
            _ => return Ok(self.select(query, span)?.len() as u64),
        }
        let mut count = 0;
        for (dataset, totals) in self.datasets().filter(|it| query.may_select(it.0)) {
            let after = span.after.max(query.floor(dataset));
            if after < totals.first && totals.last <= span.until {
                count += totals.events;
            } else if after < totals.last && totals.first <= span.until {
                let lookup = Lookup::Exact(Term::dataset(dataset));
                count += self.count_of(&lookup, Span { after, ..span })?;
            }
        }
        Ok(count)
    }

    /// Of which datasets a query may select events here. Most parts are whole, and then nothing
    /// needs to be looked up.
    fn kept(&self, query: &Query) -> Kept {
        let span = self.span();
        if let Some(datasets) = &query.datasets {
            let kept = datasets.iter().filter(|it| query.floor(**it) < span.until);
            return Kept::Of(kept.copied().collect());
        }
        let (mut kept, mut events, mut whole) = (Vec::new(), 0, true);
        for (dataset, totals) in self.datasets() {
            let floor = query.floor(dataset);
            events += totals.events;
            whole &= floor < totals.first;
            if floor < totals.last {
                kept.push(dataset);
            }
        }
        // Positions without an event are left by compaction; without a clause they must not show.
        let dense = events == span.len();
        if whole && (dense || !query.clauses.is_empty()) {
            Kept::Everything
        } else {
            Kept::Of(kept)
        }
    }
}

/// Pays for asking which of a chunk's positions a lookup selects.
fn pays(lookup: &Lookup, chunk: &[Position], budget: &mut Budget) -> bool {
    let entries = match (lookup, chunk.first(), chunk.last()) {
        // All that lie between are looked up.
        (Lookup::Prefix(_), Some(first), Some(last)) => last.since(*first),
        _ => chunk.len() as u64,
    };
    budget.pay(1 + entries)
}

/// What of a part a query may select.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All events; without a clause, every position has one.
    Everything,
    /// Events of these datasets above their floors.
    Of(Vec<u32>),
}

/// Totals by dataset number.
pub(crate) type Totals = HashMap<u32, DatasetTotals>;

/// What a dataset holds, in one part of the index or in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DatasetTotals {
    pub(crate) events: u64,
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) payload_bytes: u64,
}

impl DatasetTotals {
    pub(crate) fn of_event(position: Position, payload_bytes: u64) -> Self {
        Self { events: 1, first: position, last: position, payload_bytes }
    }

    /// Adds others.
    pub(crate) fn add(&mut self, other: &Self) {
        self.first = if self.events == 0 { other.first } else { self.first.min(other.first) };
        self.events += other.events;
        self.last = self.last.max(other.last);
        self.payload_bytes += other.payload_bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Tagged;
    use crate::storage::{
        Floors,
        index::{segment::Segment, tail::Tail},
        pb::EventRecord,
    };

    const BASE: u64 = 100;
    const EVENTS: u64 = 60;

    /// Dataset 3 has events in the first half only.
    fn dataset_at(position: u64) -> u32 {
        match position % 3 {
            0 => 1,
            1 => 2,
            _ if position < BASE + EVENTS / 2 => 3,
            _ => 2,
        }
    }

    fn type_at(position: u64) -> &'static str {
        if position.is_multiple_of(4) { "a.b" } else { "c" }
    }

    fn tail() -> Tail {
        let mut tail = Tail::after(Position::new(BASE));
        for position in BASE + 1..=BASE + EVENTS {
            let record = EventRecord {
                dataset: dataset_at(position),
                event_type: type_at(position).into(),
                ..Default::default()
            };
            tail.add(Position::new(position), position, &record);
        }
        tail
    }

    /// Selects and counts, from a tail and from a segment; both agree with trying every position.
    fn check(datasets: Option<&[u32]>, event_type: Option<&str>, floors: &[(u32, u64)]) {
        let mut all = Floors::default();
        for (dataset, floor) in floors {
            all.raise(*dataset, Position::new(*floor));
        }
        let clause = event_type.map(|it| vec![Lookup::Exact(Term::event_type(it))]);
        let query = Query {
            clauses: clause.into_iter().collect(),
            datasets: datasets.map(<[_]>::to_vec),
            floors: Arc::new(all.clone()),
            tagged: Tagged::LeftOut,
        };
        let tail = tail();
        let tree = crate::storage::tree::Tree::temporary();
        let segment = Segment::write(&tree, 1, &tail, &mut |_| Ok(())).unwrap();
        for (after, until) in [(0, 1000), (BASE, BASE + EVENTS), (110, 150), (129, 131), (160, 170)]
        {
            let span = Span { after: Position::new(after), until: Position::new(until) };
            let expected: Vec<_> = (BASE + 1..=BASE + EVENTS)
                .filter(|it| after < *it && *it <= until)
                .filter(|it| event_type.is_none_or(|wanted| wanted == type_at(*it)))
                .filter(|it| datasets.as_ref().is_none_or(|all| all.contains(&dataset_at(*it))))
                .map(Position::new)
                .filter(|it| !all.removes(dataset_at(it.get()), *it))
                .collect();
            let shown = format!("{query:?} {span:?}");
            assert_eq!(tail.select(&query, span).unwrap(), expected, "{shown}");
            assert_eq!(segment.select(&query, span).unwrap(), expected, "{shown}");
            assert_eq!(tail.count(&query, span).unwrap(), expected.len() as u64, "{shown}");
            assert_eq!(segment.count(&query, span).unwrap(), expected.len() as u64, "{shown}");
            for (direction, edge) in
                [(Direction::Forward, expected.first()), (Direction::Backward, expected.last())]
            {
                let budget = || Budget::new(u64::MAX);
                let found = tail.edge(&query, span, direction, &mut budget()).unwrap();
                assert_eq!(found.as_ref(), edge, "{direction:?} {shown}");
                let found = segment.edge(&query, span, direction, &mut budget()).unwrap();
                assert_eq!(found.as_ref(), edge, "{direction:?} {shown}");
            }
        }
    }

    #[test]
    fn only_events_above_their_floors_are_selected_and_counted() {
        let gone = u64::MAX;
        for floors in [
            &[][..],
            &[(1, 50)],
            &[(1, 120)],
            &[(3, gone)],
            &[(1, 130), (2, 110), (3, 120)],
            &[(1, gone), (2, gone), (3, gone)],
            &[(9, gone)],
        ] {
            for event_type in [None, Some("a.b")] {
                for datasets in [None, Some(&[1][..]), Some(&[2, 3]), Some(&[9])] {
                    check(datasets, event_type, floors);
                }
            }
        }
    }

    #[test]
    fn a_part_needs_its_datasets_only_where_a_floor_cuts_it() {
        let tail = tail();
        let kept = |floors: &[(u32, u64)]| {
            let mut all = Floors::default();
            for (dataset, floor) in floors {
                all.raise(*dataset, Position::new(*floor));
            }
            match tail.kept(&Query { floors: Arc::new(all), ..Query::default() }) {
                Kept::Everything => None,
                Kept::Of(mut datasets) => {
                    datasets.sort_unstable();
                    Some(datasets)
                }
            }
        };
        assert_eq!(kept(&[(1, BASE)]), None);
        assert_eq!(kept(&[(9, u64::MAX)]), None);
        assert_eq!(kept(&[(1, BASE + 10)]), Some(vec![1, 2, 3]));
        assert_eq!(kept(&[(1, u64::MAX)]), Some(vec![2, 3]));
    }
}
