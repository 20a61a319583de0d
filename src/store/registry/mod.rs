//! Schemas, datasets and namespaces, from the caller's side.

mod check;
mod descriptors;
mod import;
mod judge;
mod list;
mod resources;
mod views;

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::{
    model::limits,
    schema::{self, CompiledSchema, SchemaDocument},
    store::{
        AuditEntry, Deprecation, Error, EventStore, SchemaVersion,
        catalog::{Catalog, Change},
        registry::judge::{Candidates, Rules},
        sequencer::Writer,
    },
};

pub use check::{CheckSchema, HistoryCheck, HistorySample, SchemaChecked};
pub use descriptors::DescriptorFilter;
pub(crate) use import::stoppable;
pub use import::{
    Import, ImportOutcome, Imported, ImportedDocument, Others, RegisterSchema, SchemaInput,
    SchemaRegistered,
};
pub use judge::Affected;
pub use list::{SchemaFilter, SchemaOrder};
pub use views::Sample;

/// Compiled schema versions by number; a version never changes, so neither does its compilation.
pub(crate) struct CompiledSchemas(Cache<u32, Arc<CompiledSchema>>);

impl CompiledSchemas {
    pub(crate) fn get(
        &self,
        catalog: &Catalog,
        version: &SchemaVersion,
    ) -> Result<Arc<CompiledSchema>, Error> {
        self.0.get_or_insert_with(&version.number, || catalog.compile(version).map(Arc::new))
    }
}

impl Default for CompiledSchemas {
    fn default() -> Self {
        Self(Cache::new(limits::COMPILED_SCHEMAS_MAX))
    }
}

/// Adds the built-in documents that the catalog has never had in their present form. One that has a
/// newer version by somebody else is left alone.
pub(crate) fn register_built_in(writer: &Writer) -> Result<(), Error> {
    let catalog = writer.catalog.load_full();
    let is_new = |document: &SchemaDocument| {
        let versions = catalog.schema_versions(document.id()).unwrap_or_default();
        versions.iter().all(|it| it.document.digest() != document.digest())
    };
    let documents: Candidates = schema::built_in().into_iter().filter(is_new).collect();
    let rules = Rules { built_in: true, ..Rules::default() };
    let judged = judge::judge(&catalog, &documents, &rules, &|| Ok(()))?;
    if let Some(problem) = judged.verdicts.into_iter().find_map(Result::err) {
        return Err(problem);
    }
    if judged.registration.versions.is_empty() {
        return Ok(());
    }
    writer.change(|catalog, now| {
        let added = catalog.add_schemas(&judged.registration, now)?.ok_or(Error::Internal)?;
        Ok(added)
    })?;
    Ok(())
}

impl EventStore {
    /// A schema version; 0 is the latest.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn schema(&self, id: &str, version: u32) -> Result<Arc<SchemaVersion>, Error> {
        self.catalog().schema(id, version).cloned()
    }

    /// Deletes a document with all its versions.
    ///
    /// # Errors
    /// When it does not exist, has changed since, is built in or used.
    pub async fn delete_schema(
        &self,
        id: String,
        etag: Option<String>,
        validate_only: bool,
    ) -> Result<(), Error> {
        self.change(move |catalog, _now| {
            Ok(unless(validate_only, catalog.delete_schema(&id, etag.as_deref())?))
        })
        .await
    }

    /// Says that a document is not for new uses: with a successor and a reason, both perhaps empty.
    /// `None` takes that back.
    ///
    /// # Errors
    /// When it or the successor does not exist, it has changed since, or is built in.
    pub async fn deprecate_schema(
        &self,
        id: String,
        etag: Option<String>,
        said: Option<(String, String)>,
        validate_only: bool,
    ) -> Result<Arc<SchemaVersion>, Error> {
        self.change(move |catalog, time| {
            let said = said.map(|(successor, reason)| Deprecation { successor, reason, time });
            let change = catalog.deprecate_schema(&id, etag.as_deref(), said)?;
            Ok(unless(validate_only, change))
        })
        .await
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

    /// What was done though a rule forbids it, by number.
    #[must_use]
    pub fn audit(&self) -> Vec<Arc<AuditEntry>> {
        self.catalog().audit().cloned().collect()
    }

    /// The compiled form of a version; costly the first time.
    pub(crate) fn compiled(
        &self,
        catalog: &Catalog,
        version: &SchemaVersion,
    ) -> Result<Arc<CompiledSchema>, Error> {
        self.inner.compiled.get(catalog, version)
    }
}

/// A change that is only checked writes nothing.
pub(crate) fn unless<T>(validate_only: bool, change: Change<T>) -> Change<T> {
    match change {
        Change::Write { answer, .. } if validate_only => Change::Nothing(answer),
        Change::Write { .. } | Change::Nothing(_) => change,
    }
}
