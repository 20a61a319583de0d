//! Counting, from totals and postings: no event is read.

use crate::{
    model::{Position, Tagged},
    storage::{
        StorageError, holders,
        index::{
            Index,
            part::{DatasetTotals, Part},
            term::{Query, Span},
        },
    },
};

impl Index {
    /// How many events inside `span` a query selects.
    pub(crate) fn count(&self, query: &Query, span: Span) -> Result<u64, StorageError> {
        // As in a scan: the tail together with the list of the others.
        let live = self.live();
        let sealed = self.sealed.load_full();
        let mut count = live.tail.count(query, span)?;
        drop(live);
        for segment in &sealed.segments {
            count += segment.count(query, span)?;
        }
        for tail in &sealed.frozen {
            count += tail.count(query, span)?;
        }
        Ok(count)
    }

    /// What each part holds of a dataset, whether gone or kept, in ascending order of position.
    pub(crate) fn totals_by_part(&self, dataset: u32, tagged: Tagged) -> Vec<DatasetTotals> {
        let live = self.live();
        let sealed = self.sealed.load_full();
        let newest = of_dataset(&live.tail, dataset, tagged);
        drop(live);
        let segments = sealed.segments.iter();
        let mut found: Vec<_> =
            segments.filter_map(|it| of_dataset(it.as_ref(), dataset, tagged)).collect();
        let frozen = sealed.frozen.iter();
        found.extend(frozen.filter_map(|it| of_dataset(it.as_ref(), dataset, tagged)));
        found.extend(newest);
        found
    }
}

fn of_dataset(part: &impl Part, dataset: u32, tagged: Tagged) -> Option<DatasetTotals> {
    holders(dataset, tagged).filter_map(|it| part.of_dataset(it)).reduce(|mut both, other| {
        both.add(&other);
        both
    })
}

impl DatasetTotals {
    /// Whether all of it, a part of it, or nothing lies above a floor.
    pub(crate) fn above(&self, floor: Position) -> Above {
        if floor < self.first {
            Above::All
        } else if floor < self.last {
            Above::Part
        } else {
            Above::Nothing
        }
    }
}

/// How a floor divides what a part of the index holds of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Above {
    All,
    Part,
    Nothing,
}
