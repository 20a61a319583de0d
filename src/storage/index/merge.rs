//! Making one segment of several, without what was removed.
//!
//! A streaming merge: of each part one row of terms or ids is in memory, beside fences and filters.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, binary_heap::PeekMut},
    sync::Arc,
};

use crate::{
    model::Position,
    storage::{
        StorageError,
        index::{
            part::{Part as _, Totals},
            segment::{Ids, Pace, Segment, Terms, Writer},
            term::Span,
        },
        tree::Tree,
    },
};

/// Positions of a span whose events are gone: a bit for each position, set or not.
#[derive(Clone, Debug)]
pub(crate) struct Removed {
    after: Position,
    words: Vec<u64>,
    len: u64,
}

impl Removed {
    /// Of these positions, none yet.
    pub(crate) fn none_of(span: Span) -> Self {
        let words = span.until.since(span.after).div_ceil(64);
        let words = vec![0; usize::try_from(words).unwrap_or(usize::MAX)];
        Self { after: span.after, words, len: 0 }
    }

    /// Adds a position of the span; others are ignored.
    pub(crate) fn insert(&mut self, position: Position) {
        let (place, bit) = self.place(position);
        if let Some(word) = place.and_then(|place| self.words.get_mut(place)) {
            self.len += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }

    pub(crate) fn contains(&self, position: Position) -> bool {
        let (place, bit) = self.place(position);
        place.and_then(|place| self.words.get(place)).is_some_and(|word| word & bit != 0)
    }

    /// How many positions are removed.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The word of a position, and its bit there.
    fn place(&self, position: Position) -> (Option<usize>, u64) {
        match position.get().checked_sub(self.after.next().get()) {
            Some(offset) => (usize::try_from(offset / 64).ok(), 1 << (offset % 64)),
            None => (None, 0),
        }
    }
}

impl Segment {
    /// Writes, as segment `number` of `target`, what `parts` hold without what is removed. Parts are
    /// in order, possibly of different trees; positions between them have no events. `totals` is
    /// what is left of the datasets.
    /// Until the last row is written, the segment is debris for the next opening to remove.
    pub(crate) fn merge(
        target: &Tree,
        number: u32,
        parts: &[Arc<Self>],
        removed: &Removed,
        totals: &Totals,
        pace: Pace<'_>,
    ) -> Result<Self, StorageError> {
        let span = union_of_spans(parts)?;
        let mut writer = Writer::new(target, number, span, pace)?;
        merge_terms(parts, removed, &mut writer)?;
        merge_ids(parts, removed, &mut writer)?;
        writer.finish(totals)
    }
}

fn union_of_spans(parts: &[Arc<Segment>]) -> Result<Span, StorageError> {
    let mut spans = parts.iter().map(|part| part.span());
    let mut union = spans.next().unwrap_or(Span { after: Position::START, until: Position::START });
    for span in spans {
        if span.after < union.until {
            return Err(StorageError::corrupt(format!("two index segments at {}", union.until)));
        }
        union.until = span.until;
    }
    Ok(union)
}

fn merge_terms(
    parts: &[Arc<Segment>],
    removed: &Removed,
    writer: &mut Writer<'_>,
) -> Result<(), StorageError> {
    let mut heads = BinaryHeap::with_capacity(parts.len());
    for (part, segment) in parts.iter().enumerate() {
        let mut terms = Terms::in_order(segment);
        if terms.advance()? {
            heads.push(Head { terms, part });
        }
    }
    let mut left = Vec::new();
    while let Some(mut head) = heads.peek_mut() {
        head.terms.each_position(|_term, position| {
            if !removed.contains(position) {
                left.push(position);
            }
        })?;
        if !left.is_empty() {
            writer.term(head.terms.term(), left.drain(..))?;
        }
        if !head.terms.advance()? {
            PeekMut::pop(head);
        }
    }
    Ok(())
}

/// A part's entry under way. The greatest in the heap is the one to take next: the first in order
/// of terms, and of one term that of the earliest part.
struct Head<'a> {
    terms: Terms<'a>,
    part: usize,
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.terms.term(), other.part).cmp(&(self.terms.term(), self.part))
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head<'_> {}

fn merge_ids(
    parts: &[Arc<Segment>],
    removed: &Removed,
    writer: &mut Writer<'_>,
) -> Result<(), StorageError> {
    let mut cursors: Vec<_> = parts.iter().map(|part| Ids::new(part)).collect();
    let mut heads = BinaryHeap::with_capacity(parts.len());
    for (part, ids) in cursors.iter_mut().enumerate() {
        heads.extend(ids.next_id()?.map(|(hash, position)| Reverse((hash, position, part))));
    }
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((hash, position, part)) = *head;
        if !removed.contains(position) {
            writer.id(hash, position)?;
        }
        let next = cursors.get_mut(part).map(Ids::next_id).transpose()?.flatten();
        match next {
            Some((hash, position)) => *head = Reverse((hash, position, part)),
            None => drop(PeekMut::pop(head)),
        }
    }
    Ok(())
}
