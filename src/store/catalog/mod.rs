//! The catalog: schemas, datasets, namespaces and event definitions, as one immutable snapshot.
//!
//! Every change is a function from one snapshot to the next, run by the sequencer's thread, so
//! changes and appends see each other in one order and nothing needs a lock.

mod audit;
mod datasets;
mod definitions;
mod descriptors;
mod namespaces;
mod schemas;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    model::{DatasetName, DefinitionName, Timestamp},
    storage::{CatalogBatch, CatalogRecords, Floors},
    store::{
        Error, Resource,
        definitions::{self as event_definitions, Backfill, EventDefinition, Matchers},
    },
};

pub use audit::AuditEntry;
pub(crate) use datasets::check_dataset_etag;
pub use datasets::{Dataset, DatasetChanges, DatasetSettings};
pub use descriptors::StoredDescriptor;
pub(crate) use descriptors::{descriptor_id, difference};
pub use namespaces::{Namespace, NamespaceChanges, NamespaceSettings, NamespaceType};
pub(crate) use schemas::{Added, NewVersion, Registration};
pub use schemas::{Deprecation, SchemaVersion};

/// Everything the catalog knows at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    schemas: BTreeMap<Arc<str>, Vec<Arc<SchemaVersion>>>,
    schemas_by_number: HashMap<u32, Arc<SchemaVersion>>,
    /// Last version of every document that was deleted: versions are never used again.
    deleted_schemas: BTreeMap<Arc<str>, u32>,
    /// Also of deleted ones.
    last_schema_number: u32,
    /// Grows with every change of the schemas.
    schemas_revision: u64,
    /// By id.
    descriptors: BTreeMap<Arc<str>, Arc<StoredDescriptor>>,
    /// Of each schema that has some.
    descriptors_of: HashMap<Arc<str>, Vec<Arc<StoredDescriptor>>>,
    /// Grows with every change of the descriptors.
    descriptors_revision: u64,
    /// Grows whenever a dataset comes under a schema, or is gone from it.
    bindings_revision: u64,
    datasets: BTreeMap<DatasetName, Arc<Dataset>>,
    /// Also deleted ones.
    datasets_by_number: HashMap<u32, Arc<Dataset>>,
    /// Up to where datasets have lost their events; shared by snapshots that agree on it.
    floors: Arc<Floors>,
    namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    event_definitions: BTreeMap<DefinitionName, Arc<EventDefinition>>,
    event_definitions_by_number: HashMap<u32, Arc<EventDefinition>>,
    /// Those that match events of the time before they were in force.
    backfilled: Vec<Arc<EventDefinition>>,
    /// Also of deleted ones.
    last_event_definition: u32,
    /// The definitions in force by schema; shared by snapshots that agree on it.
    matchers: HashMap<Arc<str>, Arc<Matchers>>,
    /// What was done though a rule forbids it, by number.
    audit: BTreeMap<u64, Arc<AuditEntry>>,
}

/// What a change of the catalog comes to.
pub(crate) enum Change<T> {
    /// Nothing to write: the answer alone.
    Nothing(T),
    /// Write the rows, then show the new snapshot.
    Write { rows: CatalogBatch, next: Box<Catalog>, answer: T },
}

impl<T> Change<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::Nothing(answer) => Change::Nothing(f(answer)),
            Self::Write { rows, next, answer } => Change::Write { rows, next, answer: f(answer) },
        }
    }

    /// The answer without the change.
    pub(crate) fn into_answer(self) -> T {
        match self {
            Self::Nothing(answer) | Self::Write { answer, .. } => answer,
        }
    }
}

impl Catalog {
    /// The catalog as it was stored.
    pub(crate) fn load(records: CatalogRecords) -> Result<Self, Error> {
        let mut catalog = Self::default();
        for record in records.schemas {
            catalog.last_schema_number = catalog.last_schema_number.max(record.number);
            if record.deleted {
                catalog.forget_schema(record.id.into(), record.version);
                continue;
            }
            // Rows come by number, so a document's versions come in order.
            let before = catalog.latest_schema(&record.id).ok().map(Arc::clone);
            let version = SchemaVersion::load(record, before.as_deref())?;
            catalog.insert_schema(Arc::new(version));
        }
        for record in records.datasets {
            catalog.insert_dataset(Arc::new(Dataset::load(record)?));
        }
        for namespace in Namespace::standard() {
            catalog.insert_namespace(Arc::new(namespace));
        }
        for record in records.namespaces {
            catalog.insert_namespace(Arc::new(Namespace::load(record)?));
        }
        for record in records.descriptors {
            catalog.insert_descriptor(Arc::new(StoredDescriptor::load(record)?));
        }
        let (definitions, last) = event_definitions::load(&catalog, records.event_definitions)?;
        catalog.last_event_definition = last;
        let mut backfills = Backfill::load(records.backfills);
        for mut definition in definitions {
            definition.backfill = backfills.remove(&definition.number).map(Arc::new);
            catalog.insert_event_definition(Arc::new(definition));
        }
        let schemas: BTreeSet<Arc<str>> = catalog
            .event_definitions
            .values()
            .map(|it| Arc::clone(&it.settings.spec.schema_id))
            .collect();
        for schema_id in schemas {
            catalog.renew_matchers(&schema_id);
        }
        for record in records.audit {
            let entry = AuditEntry::load(record);
            catalog.audit.insert(entry.number, Arc::new(entry));
        }
        Ok(catalog)
    }

    /// A dataset that takes or took events.
    pub(crate) fn dataset(&self, name: &str) -> Result<&Arc<Dataset>, Error> {
        self.datasets.get(name).ok_or_else(|| Error::not_found(Resource::Dataset, name))
    }

    /// The dataset of a stored event, also a deleted one.
    pub(crate) fn dataset_by_number(&self, number: u32) -> Option<&Arc<Dataset>> {
        self.datasets_by_number.get(&number)
    }

    /// All datasets by name.
    pub(crate) fn datasets(&self) -> impl Iterator<Item = &Arc<Dataset>> {
        self.datasets.values()
    }

    /// Which stored events are gone. The same allocation as long as no floor moves.
    pub(crate) fn floors(&self) -> &Arc<Floors> {
        &self.floors
    }

    /// A document's versions, oldest first.
    pub(crate) fn schema_versions(&self, id: &str) -> Result<&[Arc<SchemaVersion>], Error> {
        let versions = self.schemas.get(id).map(Vec::as_slice);
        versions.ok_or_else(|| Error::not_found(Resource::Schema, id))
    }

    /// A document's latest version.
    pub(crate) fn latest_schema(&self, id: &str) -> Result<&Arc<SchemaVersion>, Error> {
        self.schema_versions(id)?.last().ok_or_else(|| Error::not_found(Resource::Schema, id))
    }

    /// One version of a document; 0 is the latest.
    pub(crate) fn schema(&self, id: &str, version: u32) -> Result<&Arc<SchemaVersion>, Error> {
        if version == 0 {
            return self.latest_schema(id);
        }
        let found = self.schema_versions(id)?.iter().find(|it| it.version == version);
        found.ok_or_else(|| Error::not_found(Resource::Schema, format!("{id} version {version}")))
    }

    /// The schema version that an event refers to.
    pub(crate) fn schema_by_number(&self, number: u32) -> Option<&Arc<SchemaVersion>> {
        self.schemas_by_number.get(&number)
    }

    /// Latest versions by id.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = &Arc<SchemaVersion>> {
        self.schemas.values().filter_map(|versions| versions.last())
    }

    /// How many versions of documents there are.
    pub(crate) fn schema_count(&self) -> usize {
        self.schemas_by_number.len()
    }

    /// The schema version that judges a dataset's next event.
    pub(crate) fn judge(&self, dataset: &Dataset) -> Result<&Arc<SchemaVersion>, Error> {
        self.schema(&dataset.settings.schema_id, dataset.settings.pinned_version)
    }

    /// A namespace, by its exact code.
    pub(crate) fn namespace(&self, code: &str) -> Result<&Arc<Namespace>, Error> {
        self.namespaces.get(code).ok_or_else(|| Error::not_found(Resource::Namespace, code))
    }

    /// All namespaces by code.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values()
    }

    /// Also that of a deleted document; 0: none yet.
    fn last_version(&self, id: &str) -> u32 {
        let latest = self.latest_schema(id).ok().map(|it| it.version);
        latest.or_else(|| self.deleted_schemas.get(id).copied()).unwrap_or(0)
    }

    fn forget_schema(&mut self, id: Arc<str>, version: u32) {
        let last = self.deleted_schemas.entry(id).or_default();
        *last = version.max(*last);
    }

    fn insert_schema(&mut self, version: Arc<SchemaVersion>) {
        self.schemas_revision += 1;
        self.last_schema_number = self.last_schema_number.max(version.number);
        self.schemas_by_number.insert(version.number, Arc::clone(&version));
        let versions = self.schemas.entry(Arc::clone(&version.id)).or_default();
        let place = versions.partition_point(|it| it.version < version.version);
        match versions.get_mut(place) {
            Some(same) if same.version == version.version => *same = version,
            _ => versions.insert(place, version),
        }
    }

    fn remove_schema(&mut self, id: &str) {
        self.schemas_revision += 1;
        let Some((id, versions)) = self.schemas.remove_entry(id) else { return };
        for version in versions {
            self.schemas_by_number.remove(&version.number);
            self.forget_schema(Arc::clone(&id), version.version);
        }
    }

    fn insert_dataset(&mut self, dataset: Arc<Dataset>) {
        let before = self.datasets_by_number.get(&dataset.number);
        if before.is_none_or(|it| it.deleted != dataset.deleted) {
            self.bindings_revision += 1;
        }
        if dataset.deleted {
            self.datasets.remove(dataset.name.as_str());
        } else {
            self.datasets.insert(dataset.name.clone(), Arc::clone(&dataset));
        }
        if dataset.floor > self.floors.of(dataset.number) {
            Arc::make_mut(&mut self.floors).raise(dataset.number, dataset.floor);
        }
        self.datasets_by_number.insert(dataset.number, dataset);
    }

    fn insert_namespace(&mut self, namespace: Arc<Namespace>) {
        self.namespaces.insert(Arc::clone(&namespace.code), namespace);
    }
}

/// The etag of a resource: its revision, which grows with every change.
fn etag(revision: u64) -> String {
    format!("{revision:x}")
}

/// Refuses a stale etag; an empty one is not checked.
fn check_etag(kind: Resource, name: &str, revision: u64, found: Option<&str>) -> Result<(), Error> {
    let current = etag(revision);
    match found {
        Some(found) if found != current => {
            Err(Error::Etag { kind, name: name.to_owned(), current, found: found.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Text for people, at most `max` bytes.
fn check_text(field: &str, text: &str, max: usize) -> Result<(), Error> {
    if text.len() > max {
        let found = text.len();
        return Err(Error::invalid(field, format!("{found} bytes; at most {max}")));
    }
    Ok(())
}

pub(crate) fn micros(time: i64) -> Timestamp {
    Timestamp::from_micros(time)
}
