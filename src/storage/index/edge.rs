//! Where a query's events begin or end: how conditions of appends are decided, without reading all
//! that a busy term has.

use crate::{
    model::{Direction, Position},
    storage::{
        StorageError,
        index::{
            Index,
            part::Part,
            term::{Query, Span},
        },
    },
};

/// How many index entries may still be looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u64,
    spent: bool,
}

impl Budget {
    pub(crate) fn new(entries: u64) -> Self {
        Self { left: entries, spent: false }
    }

    /// Whether something was not looked at for lack of budget: then what was not found may be there.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }

    pub(super) fn pay(&mut self, entries: u64) -> bool {
        match self.left.checked_sub(entries) {
            Some(left) if !self.spent => self.left = left,
            _ => self.spent = true,
        }
        !self.spent
    }
}

impl Index {
    /// The first or the last position inside `span` that a query selects; also `None` when the budget
    /// is spent before.
    pub(crate) fn edge(
        &self,
        query: &Query,
        span: Span,
        direction: Direction,
        budget: &mut Budget,
    ) -> Result<Option<Position>, StorageError> {
        // As in a scan: the tail together with the list of the others.
        let live = self.live();
        let sealed = self.sealed.load_full();
        let newest = live.tail.edge(query, span, direction, budget)?;
        drop(live);
        match direction {
            Direction::Backward => {
                if newest.is_some() {
                    return Ok(newest);
                }
                for part in sealed.frozen.iter().rev() {
                    if let Some(found) = charged(part.as_ref(), query, span, direction, budget)? {
                        return Ok(Some(found));
                    }
                }
                for part in sealed.segments.iter().rev() {
                    if let Some(found) = charged(part.as_ref(), query, span, direction, budget)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
            Direction::Forward => {
                for part in &sealed.segments {
                    if let Some(found) = charged(part.as_ref(), query, span, direction, budget)? {
                        return Ok(Some(found));
                    }
                }
                for part in &sealed.frozen {
                    if let Some(found) = charged(part.as_ref(), query, span, direction, budget)? {
                        return Ok(Some(found));
                    }
                }
                Ok(newest)
            }
        }
    }
}

/// A part's edge, unless nothing may be looked at any more: what lies beyond would be no edge.
fn charged(
    part: &impl Part,
    query: &Query,
    span: Span,
    direction: Direction,
    budget: &mut Budget,
) -> Result<Option<Position>, StorageError> {
    if budget.is_spent() { Ok(None) } else { part.edge(query, span, direction, budget) }
}
