//! Counting, from totals and postings: no event is read.

use crate::{
    model::Position,
    storage::{
        StorageError,
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
    pub(crate) fn totals_by_part(&self, dataset: u32) -> Vec<DatasetTotals> {
        let live = self.live();
        let sealed = self.sealed.load_full();
        let newest = live.tail.of_dataset(dataset);
        drop(live);
        let mut found: Vec<_> =
            sealed.segments.iter().filter_map(|it| it.of_dataset(dataset)).collect();
        found.extend(sealed.frozen.iter().filter_map(|it| it.of_dataset(dataset)));
        found.extend(newest);
        found
    }
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
