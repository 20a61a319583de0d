//! What the tail and the segments have in common: a span of positions that can be queried.

use std::collections::HashMap;

use crate::{
    model::Position,
    storage::{
        StorageError,
        index::term::{Lookup, Query, Span, intersect, union},
    },
};

/// A span of the log's index.
pub(crate) trait Part {
    /// Positions that a lookup selects, sorted, inside `span`.
    fn lookup(&self, lookup: &Lookup, span: Span) -> Result<Vec<Position>, StorageError>;

    /// Positions that a query with at least one clause selects, sorted, inside `span`.
    fn select(&self, query: &Query, span: Span) -> Result<Vec<Position>, StorageError> {
        let mut lists = Vec::with_capacity(query.clauses.len());
        for clause in &query.clauses {
            let found: Result<Vec<_>, _> = clause.iter().map(|it| self.lookup(it, span)).collect();
            let list = union(found?);
            if list.is_empty() {
                return Ok(Vec::new()); // the rarest clause comes first and often ends here
            }
            lists.push(list);
        }
        Ok(intersect(lists))
    }
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

    /// Adds what lies after.
    pub(crate) fn add(&mut self, later: &Self) {
        if self.events == 0 {
            self.first = later.first;
        }
        self.events += later.events;
        self.last = self.last.max(later.last);
        self.payload_bytes += later.payload_bytes;
    }
}
