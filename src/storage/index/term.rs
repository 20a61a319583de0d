//! What the index is asked for: the bytes of a term.

use std::sync::Arc;

use crate::{
    model::{Position, Tagged},
    storage::{
        Floors,
        pb::{EventRecord, IdentityRecord},
        tagged,
    },
};

/// First byte of a term: what it is a term of.
mod kind {
    pub(super) const DATASET: u8 = 1;
    pub(super) const EVENT_TYPE: u8 = 2;
    pub(super) const IDENTITY: u8 = 3;
    pub(super) const NAMESPACE: u8 = 4;
    pub(super) const SCHEMA: u8 = 5;
    pub(super) const EVENT_DEFINITION: u8 = 6;
}

/// A term as it stands in the index, sorted by these bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Term(Vec<u8>);

impl Term {
    /// `[1][dataset: u32]`, of its tagged events with the number's highest bit set.
    pub(crate) fn dataset(number: u32) -> Self {
        Self::of(kind::DATASET, &[&number.to_be_bytes()])
    }

    /// `[2][event type]`
    pub(crate) fn event_type(name: &str) -> Self {
        Self::of(kind::EVENT_TYPE, &[name.as_bytes()])
    }

    /// `[3][namespace][0][id]`; a namespace code has no zero byte.
    pub(crate) fn identity(namespace: &str, id: &str) -> Self {
        Self::of(kind::IDENTITY, &[namespace.as_bytes(), &[0], id.as_bytes()])
    }

    /// `[4][namespace]`
    pub(crate) fn namespace(code: &str) -> Self {
        Self::of(kind::NAMESPACE, &[code.as_bytes()])
    }

    /// `[5][schema version number: u32]`
    pub(crate) fn schema(number: u32) -> Self {
        Self::of(kind::SCHEMA, &[&number.to_be_bytes()])
    }

    /// `[6][event definition's number: u32]`
    pub(crate) fn event_definition(number: u32) -> Self {
        Self::of(kind::EVENT_DEFINITION, &[&number.to_be_bytes()])
    }

    pub(crate) fn is_event_type(&self) -> bool {
        self.0.first() == Some(&kind::EVENT_TYPE)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A term's bytes, for people.
    pub(crate) fn describe(bytes: &[u8]) -> String {
        let Some((kind, rest)) = bytes.split_first() else { return String::new() };
        let text = String::from_utf8_lossy(rest);
        let number = || match rest.try_into() {
            Ok(number) => u32::from_be_bytes(number).to_string(),
            Err(_) => format!("{rest:02x?}"),
        };
        match *kind {
            kind::DATASET => match rest.try_into().map(u32::from_be_bytes) {
                Ok(holder) if tagged::is_tagged(holder) => {
                    format!("tagged events of dataset number {}", tagged::dataset_of(holder))
                }
                _ => format!("dataset number {}", number()),
            },
            kind::SCHEMA => format!("schema version number {}", number()),
            kind::EVENT_DEFINITION => format!("event definition number {}", number()),
            kind::EVENT_TYPE => format!("event type `{text}`"),
            kind::NAMESPACE => format!("namespace `{text}`"),
            kind::IDENTITY => {
                let (namespace, id) = text.split_once('\0').unwrap_or((&text, ""));
                format!("identity `{id}` of namespace `{namespace}`")
            }
            _ => format!("term {bytes:02x?}"),
        }
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    fn of(kind: u8, parts: &[&[u8]]) -> Self {
        let mut term = Self::default();
        term.set(kind, parts);
        term
    }

    fn set(&mut self, kind: u8, parts: &[&[u8]]) -> &Self {
        self.0.clear();
        self.0.reserve(1 + parts.iter().map(|part| part.len()).sum::<usize>());
        self.0.push(kind);
        for part in parts {
            self.0.extend_from_slice(part);
        }
        self
    }
}

/// Calls `f` with every term of a record. They share one buffer: most terms are known already.
pub(crate) fn each_term(record: &EventRecord, mut f: impl FnMut(&Term)) {
    let mut term = Term::default();
    f(term.set(kind::DATASET, &[&tagged::holder(record).to_be_bytes()]));
    f(term.set(kind::SCHEMA, &[&record.schema.to_be_bytes()]));
    if !record.event_type.is_empty() {
        f(term.set(kind::EVENT_TYPE, &[&record.event_type]));
    }
    let mut previous: Option<&IdentityRecord> = None;
    for identity in &record.identities {
        let (namespace, id) = (identity.namespace.as_ref(), identity.id.as_ref());
        f(term.set(kind::IDENTITY, &[namespace, &[0], id]));
        // Identities are sorted, so equal namespaces are neighbours.
        if previous.is_none_or(|previous| previous.namespace != identity.namespace) {
            f(term.set(kind::NAMESPACE, &[namespace]));
        }
        previous = Some(identity);
    }
    for it in &record.matches {
        f(term.set(kind::EVENT_DEFINITION, &[&it.definition.to_be_bytes()]));
    }
}

/// One alternative of a clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Exactly this term.
    Exact(Term),
    /// Every term that starts with this one.
    Prefix(Term),
    /// These positions, ascending, which the index has under no term.
    Listed(Arc<[Position]>),
}

/// All clauses must hold; of a clause, one lookup. Only events of the datasets that are still there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) clauses: Vec<Vec<Lookup>>,
    /// Dataset numbers, with tagged events as [`tagged`] has them; `None`: all.
    pub(crate) datasets: Option<Vec<u32>>,
    /// Which events are gone.
    pub(crate) floors: Arc<Floors>,
    /// Which of those that are there are wanted.
    pub(crate) tagged: Tagged,
}

impl Query {
    /// Whether it asks for a dataset at all.
    pub(crate) fn may_select(&self, dataset: u32) -> bool {
        self.datasets.as_ref().is_none_or(|datasets| datasets.contains(&dataset))
    }

    /// Up to where it does not select events of a dataset: what is not wanted is as good as gone.
    pub(crate) fn floor(&self, dataset: u32) -> Position {
        if self.tagged.wants(tagged::is_tagged(dataset)) {
            self.floors.of(dataset)
        } else {
            Position::MAX
        }
    }
}

/// Positions after `after`, up to and including `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) after: Position,
    pub(crate) until: Position,
}

impl Span {
    pub(crate) fn contains(&self, position: Position) -> bool {
        self.after < position && position <= self.until
    }

    /// Whether all of it lies in `other`.
    pub(crate) fn is_in(&self, other: Self) -> bool {
        other.after <= self.after && self.until <= other.until
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.until <= self.after
    }

    /// How many positions it has.
    pub(crate) fn len(&self) -> u64 {
        self.until.since(self.after)
    }

    /// Positions in both.
    pub(crate) fn intersect(&self, other: Self) -> Self {
        Self { after: self.after.max(other.after), until: self.until.min(other.until) }
    }
}

/// The part of sorted `positions` inside `span`.
pub(crate) fn within(positions: &[Position], span: Span) -> &[Position] {
    let start = positions.partition_point(|it| *it <= span.after);
    let end = positions.partition_point(|it| *it <= span.until);
    positions.get(start..end).unwrap_or_default()
}

/// Positions in both sorted lists; quick when the first is short.
pub(crate) fn intersect(first: &[Position], mut second: &[Position]) -> Vec<Position> {
    let mut both = Vec::new();
    for position in first {
        let skip = second.partition_point(|it| it < position);
        second = second.get(skip..).unwrap_or_default();
        if second.first() == Some(position) {
            both.push(*position);
        }
    }
    both
}

/// Positions in any of the sorted lists, sorted, each once.
pub(crate) fn union(lists: Vec<Vec<Position>>) -> Vec<Position> {
    let mut lists = lists.into_iter().filter(|list| !list.is_empty());
    let mut result = lists.next().unwrap_or_default();
    let mut merged = false;
    for list in lists {
        result.extend(list);
        merged = true;
    }
    if merged {
        result.sort_unstable();
        result.dedup();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(numbers: &[u64]) -> Vec<Position> {
        numbers.iter().copied().map(Position::new).collect()
    }

    #[test]
    fn lists_intersect_and_unite() {
        assert_eq!(intersect(&at(&[1, 3, 5, 9]), &at(&[3, 4, 9])), at(&[3, 9]));
        assert_eq!(intersect(&at(&[1]), &at(&[])), at(&[]));
        assert_eq!(union(vec![at(&[1, 5]), at(&[]), at(&[2, 5])]), at(&[1, 2, 5]));
        let span = Span { after: Position::new(1), until: Position::new(5) };
        assert_eq!(within(&at(&[1, 2, 5, 6]), span), at(&[2, 5]));
    }
}
