//! Schemas as their readers want them: by another name, resolved, summarized.

use std::sync::Arc;

use crate::{
    schema::{self, SchemaDocument, Summary},
    store::{Error, EventStore, SchemaVersion, blocking, catalog::Catalog},
};

impl EventStore {
    /// A schema version by the document's `$id` or its `meta:altId`; 0 is the latest.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn find_schema(&self, name: &str, version: u32) -> Result<Arc<SchemaVersion>, Error> {
        let catalog = self.catalog();
        match catalog.schema(name, version) {
            Err(Error::NotFound { .. }) if catalog.latest_schema(name).is_err() => {
                let mut latest = catalog.schemas();
                let found = latest.find(|it| it.document.alt_id() == Some(name));
                let found = found.map_or(name, |it| it.id.as_ref());
                catalog.schema(found, version).cloned()
            }
            found => found.cloned(),
        }
    }

    /// A version and all it judges by, as one document in wire form.
    ///
    /// # Errors
    /// When they cannot stand in one document, or it would be too large.
    pub async fn resolved_schema(&self, version: Arc<SchemaVersion>) -> Result<String, Error> {
        let closure = closure(&self.catalog(), &version)?;
        blocking(move || Ok(schema::resolve(&version.document, &closure)?)).await
    }

    /// A version's class, field groups and fields.
    ///
    /// # Errors
    /// When stored data is damaged.
    pub async fn schema_summary(&self, version: Arc<SchemaVersion>) -> Result<Summary, Error> {
        let closure = closure(&self.catalog(), &version)?;
        blocking(move || Ok(schema::summarize(&version.document, &closure))).await
    }
}

/// The documents of a version's closure, as it was compiled with them.
fn closure(catalog: &Catalog, version: &SchemaVersion) -> Result<Vec<Arc<SchemaDocument>>, Error> {
    let document = |number: &u32| {
        let found = catalog.schema_by_number(*number).ok_or(Error::Corrupt)?;
        Ok(Arc::clone(&found.document))
    };
    version.references.iter().map(document).collect()
}
