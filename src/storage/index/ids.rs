//! Asking segments for an event id.
//!
//! Every new event asks whether its id is known, and nearly none is. A volume that is being written has many
//! segments, and so has an ended one until it is rewritten; asking the filter of each costs a cache miss
//! each time. So in memory small segments are in groups with one filter for the ids of all of them, and only
//! what passes it is asked of each.
//!
//! Invariant: a group's filter has every id of its segments. It may have more, of segments that are gone.

use std::sync::Arc;

use crate::{
    model::Position,
    storage::{
        StorageError,
        index::{
            filter::{self, Filter},
            part::Part as _,
            segment::{Ids, Segment},
            term::Span,
        },
    },
};

/// A segment with more ids than this part of a group's is asked by its own filter.
const MEMBER_PART: u64 = 4;
/// The filter has so many times fewer bits per id than a segment's: one in a hundred new ids passes, and
/// costs no more than asking each segment.
const SPARSENESS: u64 = 2;

/// The segments by how they are asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Ids that a group is made for: those of a volume.
    group_ids: u64,
    groups: Vec<Group>,
    alone: Vec<Arc<Segment>>,
}

#[derive(Clone, Debug)]
struct Group {
    segments: Vec<Arc<Segment>>,
    filter: Arc<Filter>,
    /// How many ids the filter was given.
    ids: u64,
}

impl Asked {
    pub(super) fn new(group_ids: u64) -> Self {
        Self { group_ids, ..Self::default() }
    }

    /// Adds a segment. Reads its ids, unless they are many.
    pub(super) fn add(&mut self, segment: &Arc<Segment>) -> Result<(), StorageError> {
        if segment.ids() > self.group_ids / MEMBER_PART {
            self.alone.push(Arc::clone(segment));
            return Ok(());
        }
        let with_room = self.groups.pop_if(|last| last.ids < self.group_ids);
        let mut group = with_room.unwrap_or_else(|| {
            let keys = usize::try_from(self.group_ids / SPARSENESS).unwrap_or(usize::MAX);
            Group { segments: Vec::new(), filter: Arc::new(Filter::for_keys(keys)), ids: 0 }
        });
        // A copy, if others ask it now.
        let filter = Arc::make_mut(&mut group.filter);
        let mut ids = Ids::new(segment);
        while let Some((hash, _)) = ids.next_id()? {
            filter.insert(hash);
        }
        group.ids += segment.ids();
        group.segments.push(Arc::clone(segment));
        self.groups.push(group);
        Ok(())
    }

    /// Takes away the segments of a span.
    pub(super) fn remove(&mut self, span: Span) {
        let stays = |segment: &Arc<Segment>| !segment.span().is_in(span);
        self.alone.retain(stays);
        self.groups.iter_mut().for_each(|group| group.segments.retain(stays));
        self.groups.retain(|group| !group.segments.is_empty());
    }

    /// Positions of events whose id has this hash.
    pub(super) fn ids_with(
        &self,
        hash: u64,
        found: &mut Vec<Position>,
    ) -> Result<(), StorageError> {
        let bits = filter::bits_of(hash);
        for segment in &self.alone {
            segment.ids_with(hash, &bits, found)?;
        }
        for group in self.groups.iter().filter(|it| it.filter.may_contain_all(hash, &bits)) {
            for segment in &group.segments {
                segment.ids_with(hash, &bits, found)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
