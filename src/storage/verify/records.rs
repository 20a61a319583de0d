//! Checking single records.

use std::collections::HashSet;

use crate::{
    model::{Position, Timestamp},
    storage::{Block, CatalogRecords, StorageError, pb::EventRecord},
};

/// Numbers of datasets and schema versions that records may refer to.
pub(crate) struct Known<'a> {
    read: Box<dyn FnMut() -> Result<CatalogRecords, StorageError> + 'a>,
    datasets: HashSet<u32>,
    schemas: HashSet<u32>,
}

impl<'a> Known<'a> {
    /// What `read` gives; it is asked again when a record refers to something new.
    pub(crate) fn new(read: impl FnMut() -> Result<CatalogRecords, StorageError> + 'a) -> Self {
        Self { read: Box::new(read), datasets: HashSet::new(), schemas: HashSet::new() }
    }

    /// Says once of a number that it is not in the catalog.
    fn unknown(&mut self, record: &EventRecord) -> Option<String> {
        let EventRecord { dataset, schema, .. } = record;
        if self.datasets.contains(dataset) && self.schemas.contains(schema) {
            return None;
        }
        if let Ok(records) = (self.read)() {
            self.datasets.extend(records.datasets.iter().map(|it| it.number));
            self.schemas.extend(records.schemas.iter().map(|it| it.number));
        }
        // Each is told of once, with the first event that has it.
        if self.datasets.insert(*dataset) {
            return Some(format!("the catalog has no dataset number {dataset}, events have"));
        }
        let is_unknown = self.schemas.insert(*schema);
        is_unknown
            .then(|| format!("the catalog has no schema version number {schema}, events have"))
    }
}

/// Checks records in the order of their positions.
pub(crate) struct Records<'a> {
    known: Known<'a>,
    last_time: Timestamp,
}

impl<'a> Records<'a> {
    pub(crate) fn new(known: Known<'a>) -> Self {
        Self { known, last_time: Timestamp::from_micros(i64::MIN) }
    }

    /// What is wrong with a record that could be read.
    pub(crate) fn check(&mut self, record: &EventRecord) -> Option<String> {
        if record.event_id.is_empty() {
            return Some("it has no event id".to_owned());
        }
        let names = record.identities.iter().flat_map(|it| [&it.namespace, &it.id]);
        let mut texts = names.chain([&record.event_id, &record.event_type]);
        if texts.any(|text| std::str::from_utf8(text).is_err()) {
            return Some("a text of it is not UTF-8".to_owned());
        }
        let key = |it: usize| record.identities.get(it).map(|it| (&it.namespace, &it.id));
        if (1..record.identities.len()).any(|it| key(it) <= key(it - 1)) {
            return Some("its identities are not in order".to_owned());
        }
        if Timestamp::new(record.event_time_seconds, record.event_time_nanos).is_none() {
            return Some("its event time is none".to_owned());
        }
        self.known.unknown(record)
    }

    /// What is wrong with when a record was stored.
    pub(crate) fn check_time(&mut self, run: &Block, position: Position) -> Option<String> {
        let time = run.raw(position)?.record_time;
        let earlier = time < self.last_time;
        self.last_time = self.last_time.max(time);
        earlier.then(|| "it was stored before the event before it".to_owned())
    }
}
