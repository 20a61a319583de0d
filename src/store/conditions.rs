//! Conditions of an append, decided against the index and what is placed before it in its commit group.
//!
//! Looking an identity up in all of a large index can take reads from the disk. So the caller's task
//! does it first, against what is durable then; the sequencer looks only at what has come since, which
//! lies in memory. A busy term costs no more than a rare one: its last positions are looked at, in
//! small chunks from the end, until one is found that the whole filter selects.

use std::sync::Arc;

use crate::{
    model::{Condition, Direction, EventFilter, Position, limits},
    storage::{Budget, Floors, Part, Span, Storage, Tail},
    store::{Error, catalog::Catalog, plan::Plan},
};

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionFailure {
    /// Place in the request, from 0.
    pub index: usize,
    /// What was expected.
    pub kind: FailureKind,
}

/// What was expected, and found instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The last position of a scope is another.
    LastPosition {
        /// By the condition.
        expected: Position,
        /// First event of the scope after that; `START` when there is none.
        first: Position,
        /// Last event of the scope; `START` when there is none.
        last: Position,
    },
    /// Events match.
    Match {
        /// Only events after it count.
        after: Position,
        /// First event that matches.
        first: Position,
        /// Last event that matches.
        last: Position,
    },
    /// Another schema version judges.
    SchemaVersion {
        /// By the condition.
        expected: u32,
        /// The one that judges.
        found: u32,
    },
}

/// An append's conditions, and what is known of them.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    all: Arc<[Condition]>,
    seen: Seen,
}

/// The first or last events that conditions ask for, as far as they have been looked for.
#[derive(Clone, Debug)]
struct Seen {
    until: Position,
    /// Events are gone by now if these are not the catalog's any more.
    floors: Arc<Floors>,
    /// One for each condition; `START`: none.
    edges: Vec<Position>,
}

/// The durable events and those that are placed after them.
pub(crate) struct State<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) catalog: &'a Catalog,
    /// The last durable position.
    pub(crate) durable: Position,
    /// The events after it.
    pub(crate) placed: &'a Tail,
}

impl Conditions {
    /// Looks at what is durable. Costly, compared with placing a batch.
    pub(crate) fn look(
        all: Arc<[Condition]>,
        storage: &Storage,
        catalog: &Catalog,
        durable: Position,
    ) -> Result<Self, Error> {
        let nothing = Tail::after(durable);
        let state = State { storage, catalog, durable, placed: &nothing };
        let edges = state.edges(&all, &Seen::nothing(&all))?;
        let seen = Seen { until: durable, floors: Arc::clone(catalog.floors()), edges };
        Ok(Self { all, seen })
    }

    /// Fails with every condition that does not hold.
    pub(crate) fn check(&self, state: &State<'_>, schema_version: u32) -> Result<(), Error> {
        let nothing = Seen::nothing(&self.all);
        let valid = Arc::ptr_eq(&self.seen.floors, state.catalog.floors());
        let edges = state.edges(&self.all, if valid { &self.seen } else { &nothing })?;
        let mut failures = Vec::new();
        for ((index, condition), edge) in self.all.iter().enumerate().zip(edges) {
            let kind = match condition {
                Condition::LastPosition { filter, expected: Some(expected) }
                    if *expected != edge =>
                {
                    let first = state.explain(filter, *expected, Direction::Forward)?;
                    FailureKind::LastPosition { expected: *expected, first, last: edge }
                }
                Condition::NoMatch { filter, after } if edge != Position::START => {
                    let last = state.explain(filter, *after, Direction::Backward)?;
                    FailureKind::Match { after: *after, first: edge, last: last.max(edge) }
                }
                Condition::SchemaVersion(expected) if *expected != schema_version => {
                    let (expected, found) = (*expected, schema_version);
                    FailureKind::SchemaVersion { expected, found }
                }
                Condition::LastPosition { .. }
                | Condition::NoMatch { .. }
                | Condition::SchemaVersion(_) => continue,
            };
            failures.push(ConditionFailure { index, kind });
        }
        if failures.is_empty() {
            return Ok(());
        }
        Err(Error::Conditions { failures, last: state.last() })
    }
}

impl Seen {
    fn nothing(all: &[Condition]) -> Self {
        let edges = vec![Position::START; all.len()];
        Self { until: Position::START, floors: Arc::default(), edges }
    }
}

impl State<'_> {
    fn last(&self) -> Position {
        self.placed.span().until.max(self.durable)
    }

    /// What each condition asks for: the last position of a scope, the first one that matches.
    fn edges(&self, all: &[Condition], seen: &Seen) -> Result<Vec<Position>, Error> {
        let mut budget = Budget::new(limits::CONDITION_ENTRIES_MAX);
        let edge = |(condition, known): (&Condition, &Position)| match condition {
            Condition::LastPosition { filter, expected: Some(_) } => {
                let after = seen.until;
                let found = self.edge(filter, after, Direction::Backward, &mut budget)?;
                Ok(found.unwrap_or(*known))
            }
            Condition::NoMatch { .. } if *known != Position::START => Ok(*known),
            Condition::NoMatch { filter, after } => {
                let after = seen.until.max(*after);
                let found = self.edge(filter, after, Direction::Forward, &mut budget)?;
                Ok(found.unwrap_or_default())
            }
            Condition::LastPosition { expected: None, .. } | Condition::SchemaVersion(_) => {
                Ok(Position::START)
            }
        };
        let edges: Vec<_> = all.iter().zip(&seen.edges).map(edge).collect::<Result<_, Error>>()?;
        if budget.is_spent() { Err(Error::ConditionsCostly) } else { Ok(edges) }
    }

    /// The first or last event after a position that a filter selects, for the caller to know; `START`
    /// when that takes too much.
    fn explain(
        &self,
        filter: &EventFilter,
        after: Position,
        direction: Direction,
    ) -> Result<Position, Error> {
        let mut budget = Budget::new(limits::CONDITION_ENTRIES_MAX);
        let found = self.edge(filter, after, direction, &mut budget)?;
        Ok(found.filter(|_| !budget.is_spent()).unwrap_or_default())
    }

    fn edge(
        &self,
        filter: &EventFilter,
        after: Position,
        direction: Direction,
        budget: &mut Budget,
    ) -> Result<Option<Position>, Error> {
        // Names are looked up each time: what they mean may have changed since the caller looked.
        let query = Plan::new(filter, self.catalog)?.query;
        let stored = |budget: &mut Budget| {
            let span = Span { after, until: self.durable };
            self.storage.edge(&query, span, direction, budget)
        };
        let placed = |budget: &mut Budget| {
            let span = Span { after, until: self.placed.span().until };
            self.placed.edge(&query, span, direction, budget)
        };
        let nearer = match direction {
            Direction::Forward => stored(budget)?,
            Direction::Backward => placed(budget)?,
        };
        if nearer.is_some() || budget.is_spent() {
            return Ok(nearer);
        }
        Ok(match direction {
            Direction::Forward => placed(budget)?,
            Direction::Backward => stored(budget)?,
        })
    }
}

/// Checks what a request may ask for.
///
/// # Errors
/// When there are too many.
pub fn check_conditions(conditions: usize) -> Result<(), Error> {
    let most = limits::CONDITIONS_MAX;
    if conditions > most {
        let message = format!("{conditions} conditions; at most {most}");
        return Err(Error::OutOfBounds(crate::model::Invalid::new("conditions", message)));
    }
    Ok(())
}
