//! What was done though a rule forbids it, or though nobody asked.

use crate::{
    model::{Timestamp, limits},
    schema::{Change, ChangeKind},
    storage::{
        CatalogBatch,
        pb::{AuditRecord, SchemaChangeRecord},
    },
    store::catalog::{Catalog, Change as CatalogChange, micros},
};

/// A change of a schema that was forced though it breaks datasets or event definitions, or a subscription that was
/// deleted because nobody used it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// From 1, one more with each.
    pub number: u64,
    /// When.
    pub time: Timestamp,
    /// The schema that datasets were under.
    pub schema_id: String,
    /// Its version before.
    pub old_version: u32,
    /// Its version after; the same when it was left behind.
    pub new_version: u32,
    /// The datasets.
    pub datasets: Vec<String>,
    /// Event definitions that are not true to it any more.
    pub event_definitions: Vec<String>,
    /// The breaking changes.
    pub changes: Vec<Change>,
    /// How many more there were.
    pub changes_left_out: u64,
    /// The subscription; then all about schemas is empty.
    pub subscription: String,
}

impl AuditEntry {
    pub(super) fn load(record: AuditRecord) -> Self {
        let change = |it: SchemaChangeRecord| {
            let kind = ChangeKind::ALL.iter().find(|kind| kind.name() == it.kind);
            Change::new(&it.path, *kind.unwrap_or(&ChangeKind::TooComplex), &it.old, &it.new)
        };
        Self {
            number: record.number,
            time: micros(record.time_us),
            schema_id: record.schema_id,
            old_version: record.old_version,
            new_version: record.new_version,
            datasets: record.datasets,
            event_definitions: record.event_definitions,
            changes: record.changes.into_iter().map(change).collect(),
            changes_left_out: record.changes_left_out,
            subscription: record.subscription,
        }
    }

    fn record(&self) -> AuditRecord {
        let change = |it: &Change| SchemaChangeRecord {
            path: it.path.clone(),
            kind: it.kind.name().to_owned(),
            old: it.old.clone(),
            new: it.new.clone(),
        };
        AuditRecord {
            number: self.number,
            time_us: self.time.micros(),
            schema_id: self.schema_id.clone(),
            old_version: self.old_version,
            new_version: self.new_version,
            datasets: self.datasets.clone(),
            event_definitions: self.event_definitions.clone(),
            changes: self.changes.iter().map(change).collect(),
            changes_left_out: self.changes_left_out,
            subscription: self.subscription.clone(),
        }
    }
}

impl Catalog {
    /// All entries, the oldest first.
    pub(crate) fn audit(&self) -> impl Iterator<Item = &std::sync::Arc<AuditEntry>> {
        self.audit.values()
    }

    /// A subscription was deleted because nobody used it.
    pub(crate) fn audit_expired(&self, subscription: &str, time: Timestamp) -> CatalogChange<()> {
        let (mut rows, mut next) = (CatalogBatch::default(), self.clone());
        let subscription = subscription.to_owned();
        next.add_audit(&mut rows, AuditEntry { time, subscription, ..AuditEntry::default() });
        CatalogChange::Write { rows, next: Box::new(next), answer: () }
    }

    /// Adds an entry to the rows and to this, the next snapshot; the oldest one goes when there are
    /// too many.
    pub(super) fn add_audit(&mut self, rows: &mut CatalogBatch, mut entry: AuditEntry) {
        entry.number = self.audit.keys().next_back().map_or(1, |last| last + 1);
        rows.put_audit(&entry.record());
        self.audit.insert(entry.number, entry.into());
        while self.audit.len() > limits::AUDIT_RECORDS_MAX {
            let Some((oldest, _)) = self.audit.pop_first() else { return };
            rows.remove_audit(oldest);
        }
    }
}
