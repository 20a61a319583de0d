//! Tagged events: stored although they are invalid, with what is wrong with them.
//!
//! They must not show unless they are asked for, yet be found by the same terms as others when they are.
//! So in the index alone they belong to another dataset than their own: one whose number is the dataset's with
//! its highest bit set. Whatever tells datasets apart there (totals, postings, floors) then tells them apart.

use crate::{
    model::{Tagged, Violation},
    storage::pb::{EventRecord, ViolationRecord},
};

const TAGGED: u32 = 1 << 31;

/// The number under which the index holds a record.
pub(crate) fn holder(record: &EventRecord) -> u32 {
    if record.violations.is_empty() { record.dataset } else { record.dataset | TAGGED }
}

/// The dataset of which the index holds events under this number.
pub(crate) fn dataset_of(holder: u32) -> u32 {
    holder & !TAGGED
}

/// Whether the events under this number are tagged ones.
pub(crate) fn is_tagged(holder: u32) -> bool {
    holder & TAGGED != 0
}

/// The numbers under which the index holds what is wanted of a dataset.
pub(crate) fn holders(dataset: u32, tagged: Tagged) -> impl Iterator<Item = u32> {
    [dataset, dataset | TAGGED].into_iter().filter(move |it| tagged.wants(is_tagged(*it)))
}

impl From<Violation> for ViolationRecord {
    fn from(it: Violation) -> Self {
        let Violation { instance_path, schema_path, keyword, message, expected, found } = it;
        Self { instance_path, schema_path, keyword, message, expected, found }
    }
}

impl From<ViolationRecord> for Violation {
    fn from(it: ViolationRecord) -> Self {
        let ViolationRecord { instance_path, schema_path, keyword, message, expected, found } = it;
        Self { instance_path, schema_path, keyword, message, expected, found }
    }
}
