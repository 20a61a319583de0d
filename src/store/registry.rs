//! Schemas, datasets and namespaces, from the caller's side.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::{
    model::{DatasetName, limits},
    schema::{self, CompiledSchema, SchemaDocument},
    store::{
        Dataset, DatasetChanges, DatasetSettings, DatasetStats, Error, EventStore, Namespace,
        NamespaceChanges, NamespaceSettings, SchemaVersion, blocking,
        catalog::{Catalog, Change, register},
        sequencer::Writer,
    },
};

/// Compiled schema versions by number; a version never changes, so neither does its compilation.
pub(crate) struct CompiledSchemas(Cache<u32, Arc<CompiledSchema>>);

impl Default for CompiledSchemas {
    fn default() -> Self {
        Self(Cache::new(limits::COMPILED_SCHEMAS_MAX))
    }
}

/// What came of registering a schema.
#[derive(Debug)]
pub struct SchemaRegistered {
    /// The version that now is the document's latest.
    pub version: Arc<SchemaVersion>,
    /// Whether this call added it.
    pub created: bool,
}

/// Adds the built-in documents that the catalog does not have in their present form.
pub(crate) fn register_built_in(writer: &Writer) -> Result<(), Error> {
    for document in schema::built_in() {
        let registration = register(&writer.catalog.load(), document, true)?;
        writer.change(|catalog, now| {
            catalog.add_schema(&registration, now)?.ok_or(Error::Internal)
        })?;
    }
    Ok(())
}

impl EventStore {
    /// Adds a schema document, or a new version of one, unless the latest is equal.
    ///
    /// # Errors
    /// When the document is not a schema, refers to what is not there, or the store is full.
    pub async fn register_schema(
        &self,
        document: String,
        validate_only: bool,
    ) -> Result<SchemaRegistered, Error> {
        self.check_open()?;
        if !validate_only {
            self.check_space()?;
        }
        let _registrar = self.inner.registrars.acquire().await.map_err(|_closed| Error::Closing)?;
        loop {
            let (store, text) = (self.clone(), document.clone());
            let registration =
                blocking(move || register(&store.catalog(), SchemaDocument::parse(&text)?, false))
                    .await?;
            // Registrations race only with each other; the loser looks again.
            let added = if validate_only {
                match self.catalog().add_schema(&registration, self.now())? {
                    Some(Change::Nothing(added) | Change::Write { answer: added, .. }) => added,
                    None => continue,
                }
            } else {
                let added = self.change(move |catalog, now| {
                    let added = catalog.add_schema(&registration, now)?;
                    Ok(added.map_or(Change::Nothing(None), |change| change.map(Some)))
                });
                let Some(added) = added.await? else { continue };
                self.inner.compiled.0.insert(added.version.number, Arc::clone(&added.compiled));
                added
            };
            return Ok(SchemaRegistered { version: added.version, created: added.created });
        }
    }

    /// A schema version; 0 is the latest.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn schema(&self, id: &str, version: u32) -> Result<Arc<SchemaVersion>, Error> {
        self.catalog().schema(id, version).cloned()
    }

    /// Latest versions of all documents, by id.
    #[must_use]
    pub fn schemas(&self) -> Vec<Arc<SchemaVersion>> {
        self.catalog().schemas().cloned().collect()
    }

    /// Ids and versions of the documents that a schema version judges by, by id.
    #[must_use]
    pub fn schema_references(&self, version: &SchemaVersion) -> Vec<Arc<SchemaVersion>> {
        let catalog = self.catalog();
        let found = version.references.iter().filter_map(|it| catalog.schema_by_number(*it));
        let mut references: Vec<_> = found.cloned().collect();
        references.sort_by(|a, b| a.id.cmp(&b.id));
        references
    }

    /// The compiled form of a version; costly the first time.
    pub(crate) fn compiled(
        &self,
        catalog: &Catalog,
        version: &SchemaVersion,
    ) -> Result<Arc<CompiledSchema>, Error> {
        let compile = || catalog.compile(version).map(Arc::new);
        self.inner.compiled.0.get_or_insert_with(&version.number, compile)
    }

    /// Creates a dataset, or returns the one with the same settings.
    ///
    /// # Errors
    /// When it exists with other settings, or the settings are not sound.
    pub async fn create_dataset(
        &self,
        name: DatasetName,
        mut settings: DatasetSettings,
        pin_latest: bool,
        validate_only: bool,
    ) -> Result<Arc<Dataset>, Error> {
        if !validate_only {
            self.check_space()?;
        }
        self.change(move |catalog, now| {
            if pin_latest {
                settings.pinned_version = catalog.latest_schema(&settings.schema_id)?.version;
            }
            let change = catalog.create_dataset(name, settings, now)?;
            Ok(unless(validate_only, change))
        })
        .await
    }

    /// A dataset.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn dataset(&self, name: &str) -> Result<Arc<Dataset>, Error> {
        self.catalog().dataset(name).cloned()
    }

    /// All datasets, by name.
    #[must_use]
    pub fn datasets(&self) -> Vec<Arc<Dataset>> {
        self.catalog().datasets().cloned().collect()
    }

    /// The version of its schema that judges a dataset's next event.
    ///
    /// # Errors
    /// When the schema is gone, which nothing allows.
    pub fn version_in_force(&self, dataset: &Dataset) -> Result<u32, Error> {
        Ok(self.catalog().judge(dataset)?.version)
    }

    /// What a dataset holds, as of the floor that it was read with.
    ///
    /// # Errors
    /// When stored data cannot be read.
    pub async fn dataset_stats(&self, dataset: &Dataset) -> Result<DatasetStats, Error> {
        let storage = Arc::clone(&self.inner.storage);
        let (number, floor) = (dataset.number, dataset.floor);
        let held = blocking(move || Ok(storage.held(number, floor)?)).await?;
        Ok(DatasetStats {
            events: held.events,
            first: held.first,
            last: held.last,
            payload_bytes: held.payload_bytes,
        })
    }

    /// Changes a dataset's settings.
    ///
    /// # Errors
    /// When it does not exist, has changed since, or the settings are not sound.
    pub async fn update_dataset(
        &self,
        name: String,
        etag: Option<String>,
        changes: DatasetChanges,
        validate_only: bool,
    ) -> Result<Arc<Dataset>, Error> {
        self.change(move |catalog, now| {
            let change = catalog.update_dataset(&name, etag.as_deref(), changes, now)?;
            Ok(unless(validate_only, change))
        })
        .await
    }

    /// Deletes a dataset, with its events if `force`.
    ///
    /// # Errors
    /// When it does not exist, has changed since, or holds events.
    pub async fn delete_dataset(
        &self,
        name: String,
        etag: Option<String>,
        force: bool,
        validate_only: bool,
    ) -> Result<(), Error> {
        let storage = Arc::clone(&self.inner.storage);
        self.change(move |catalog, _now| {
            let dataset = catalog.dataset(&name)?;
            let events = storage.held_events(dataset.number, dataset.floor)?;
            let change = catalog.delete_dataset(&name, etag.as_deref(), events, force)?;
            Ok(unless(validate_only, change))
        })
        .await?;
        Ok(())
    }

    /// Creates a namespace, or returns the one with the same settings.
    ///
    /// # Errors
    /// When it exists with other settings, or the settings are not sound.
    pub async fn create_namespace(
        &self,
        code: String,
        settings: NamespaceSettings,
        validate_only: bool,
    ) -> Result<Arc<Namespace>, Error> {
        if !validate_only {
            self.check_space()?;
        }
        self.change(move |catalog, now| {
            Ok(unless(validate_only, catalog.create_namespace(&code, settings, now)?))
        })
        .await
    }

    /// A namespace.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn namespace(&self, code: &str) -> Result<Arc<Namespace>, Error> {
        self.catalog().namespace(code).cloned()
    }

    /// All namespaces, by code.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.catalog().namespaces().cloned().collect()
    }

    /// Changes a custom namespace.
    ///
    /// # Errors
    /// When it does not exist, is built in, has changed since, or the settings are not sound.
    pub async fn update_namespace(
        &self,
        code: String,
        etag: Option<String>,
        changes: NamespaceChanges,
        validate_only: bool,
    ) -> Result<Arc<Namespace>, Error> {
        self.change(move |catalog, now| {
            let change = catalog.update_namespace(&code, etag.as_deref(), changes, now)?;
            Ok(unless(validate_only, change))
        })
        .await
    }
}

/// A change that is only checked writes nothing.
fn unless<T>(validate_only: bool, change: Change<T>) -> Change<T> {
    match change {
        Change::Write { answer, .. } if validate_only => Change::Nothing(answer),
        Change::Write { .. } | Change::Nothing(_) => change,
    }
}
