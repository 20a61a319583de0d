//! The newest events' index, in memory.

use std::collections::BTreeSet;

use ahash::AHashMap;

use crate::{
    model::{Direction, Position},
    storage::{
        index::{
            part::{DatasetTotals, Part, Totals},
            term::{Lookup, Span, Term, each_term, union, within},
        },
        pb::EventRecord,
        tagged,
    },
};

/// Postings of the events after `base`. Filled by the sequencer, then frozen and written as a
/// segment.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    base: Position,
    last: Position,
    terms: AHashMap<Term, Vec<Position>>,
    /// The event type terms again, in order, for prefixes.
    types: BTreeSet<Term>,
    ids: AHashMap<u64, Position>,
    /// Further positions of an event id's hash: different ids with one hash.
    same_hash: Vec<(u64, Position)>,
    totals: Totals,
}

impl Tail {
    pub(crate) fn after(base: Position) -> Self {
        Self { base, last: base, ..Self::default() }
    }

    /// Adds the next event.
    pub(crate) fn add(&mut self, position: Position, id_hash: u64, record: &EventRecord) {
        debug_assert!(position > self.last, "events come in position order");
        self.last = position;
        let (terms, types) = (&mut self.terms, &mut self.types);
        each_term(record, |term| {
            if let Some(postings) = terms.get_mut(term) {
                postings.push(position);
            } else {
                if term.is_event_type() {
                    types.insert(term.clone());
                }
                terms.insert(term.clone(), vec![position]);
            }
        });
        if let Some(earlier) = self.ids.insert(id_hash, position) {
            self.same_hash.push((id_hash, earlier));
        }
        self.totals
            .entry(tagged::holder(record))
            .or_default()
            .add(&DatasetTotals::of_event(position, record.payload.len() as u64));
    }

    /// Covers positions up to `last`, which have no events.
    pub(crate) fn reach(&mut self, last: Position) {
        self.last = self.last.max(last);
    }

    /// Positions covered.
    pub(crate) fn len(&self) -> u64 {
        self.last.since(self.base)
    }

    /// Bytes of payload of the events indexed.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.totals.values().map(|totals| totals.payload_bytes).sum()
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Every term with its postings, in the order of a segment.
    pub(crate) fn sorted_terms(&self) -> Vec<(&Term, &[Position])> {
        let mut terms: Vec<_> =
            self.terms.iter().map(|(term, list)| (term, list.as_slice())).collect();
        terms.sort_unstable();
        terms
    }

    /// Every event id's hash with its position, sorted.
    pub(crate) fn sorted_ids(&self) -> Vec<(u64, Position)> {
        let all = self.ids.iter().map(|(hash, position)| (*hash, *position));
        let mut ids: Vec<_> = all.chain(self.same_hash.iter().copied()).collect();
        ids.sort_unstable();
        ids
    }

    /// Positions of events whose id has this hash.
    pub(crate) fn ids_with(&self, hash: u64, out: &mut Vec<Position>) {
        if let Some(position) = self.ids.get(&hash) {
            out.push(*position);
            let others = self.same_hash.iter().filter(|(other, _)| *other == hash);
            out.extend(others.map(|(_, position)| *position));
        }
    }

    fn exact(&self, term: &Term, span: Span) -> Vec<Position> {
        self.terms.get(term).map_or_else(Vec::new, |list| within(list, span).to_vec())
    }
}

impl Part for Tail {
    fn span(&self) -> Span {
        Span { after: self.base, until: self.last }
    }

    fn datasets(&self) -> impl Iterator<Item = (u32, DatasetTotals)> {
        self.totals.iter().map(|(dataset, totals)| (*dataset, *totals))
    }

    fn of_dataset(&self, dataset: u32) -> Option<DatasetTotals> {
        self.totals.get(&dataset).copied()
    }

    fn lookup(
        &self,
        lookup: &Lookup,
        span: Span,
    ) -> Result<Vec<Position>, crate::storage::StorageError> {
        Ok(match lookup {
            Lookup::Exact(term) => self.exact(term, span),
            Lookup::Prefix(prefix) => {
                let matching = self
                    .types
                    .range(prefix..)
                    .take_while(|term| term.as_bytes().starts_with(prefix.as_bytes()));
                union(matching.map(|term| self.exact(term, span)).collect())
            }
            Lookup::Listed(positions) => within(positions, span.intersect(self.span())).to_vec(),
        })
    }

    fn chunk(
        &self,
        term: &Term,
        span: Span,
        direction: Direction,
        most: usize,
    ) -> Result<Vec<Position>, crate::storage::StorageError> {
        let all = self.terms.get(term).map_or(&[][..], |list| within(list, span));
        let chunk = match direction {
            Direction::Forward => all.get(..most),
            Direction::Backward => all.get(all.len().saturating_sub(most)..),
        };
        Ok(chunk.unwrap_or(all).to_vec())
    }
}
