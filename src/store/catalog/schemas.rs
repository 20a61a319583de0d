//! Schema documents and their versions.

use std::sync::Arc;

use crate::{
    model::{Timestamp, limits},
    schema::{self, CompiledSchema, Form, SchemaDocument, SchemaProblem},
    storage::{CatalogBatch, pb::SchemaRecord},
    store::{
        Error,
        catalog::{Catalog, Change, micros},
    },
};

/// One version of a schema document.
#[derive(Clone, Debug)]
pub struct SchemaVersion {
    /// Unique in the store; what events refer to.
    pub(crate) number: u32,
    /// The document's `$id`.
    pub id: Arc<str>,
    /// From 1, one more with each change.
    pub version: u32,
    /// The document.
    pub document: Arc<SchemaDocument>,
    /// When it was registered.
    pub create_time: Timestamp,
    /// Comes with the server.
    pub built_in: bool,
    /// Numbers of all versions that it judges by, itself excluded.
    pub(crate) references: Vec<u32>,
}

impl SchemaVersion {
    pub(super) fn load(record: SchemaRecord) -> Result<Self, Error> {
        let document = record_document(&record).map_err(|error| {
            tracing::error!(id = record.id, %error, "stored schema is damaged");
            Error::Corrupt
        })?;
        Ok(Self {
            number: record.number,
            id: document.id().into(),
            version: record.version,
            document: Arc::new(document),
            create_time: micros(record.create_time_us),
            built_in: record.built_in,
            references: record.references,
        })
    }

    fn record(&self) -> SchemaRecord {
        SchemaRecord {
            number: self.number,
            id: self.document.id().to_owned(),
            version: self.version,
            document: self.document.text().to_string(),
            create_time_us: self.create_time.micros(),
            built_in: self.built_in,
            references: self.references.clone(),
            wire_document: match self.document.form() {
                Form::Long => self.document.in_form(Form::Wire).to_string(),
                Form::Wire => String::new(),
            },
        }
    }
}

fn record_document(record: &SchemaRecord) -> Result<SchemaDocument, SchemaProblem> {
    let wire = Some(record.wire_document.as_str()).filter(|it| !it.is_empty());
    SchemaDocument::restore(&record.document, wire)
}

/// A document that was judged against a catalog, ready to be added to that same catalog.
#[derive(Debug)]
pub(crate) struct Registration {
    document: Arc<SchemaDocument>,
    references: Vec<u32>,
    compiled: Arc<CompiledSchema>,
    built_in: bool,
    /// The catalog's `schema_count` then: when it has changed, so may what the document refers to.
    seen: usize,
}

/// Resolves and compiles a document against the latest versions of all it refers to. Costly; runs
/// on the caller's task.
pub(crate) fn register(
    catalog: &Catalog,
    document: SchemaDocument,
    built_in: bool,
) -> Result<Registration, Error> {
    let latest = |id: &str| catalog.latest_schema(id).ok().map(|it| Arc::clone(&it.document));
    let closure = schema::closure(&document, latest)?;
    let compiled = Arc::new(schema::compile(&document, &closure)?);
    schema::check_composition(&document, &closure)?;
    let number = |it: &Arc<SchemaDocument>| catalog.latest_schema(it.id()).map(|it| it.number);
    let mut references = closure.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    references.sort_unstable();
    let seen = catalog.schema_count();
    Ok(Registration { document: Arc::new(document), references, compiled, built_in, seen })
}

/// What came of a registration.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) version: Arc<SchemaVersion>,
    pub(crate) compiled: Arc<CompiledSchema>,
    pub(crate) created: bool,
}

impl Catalog {
    /// Adds a judged document, unless the latest version is equal; `None` when the catalog's
    /// schemas have changed since and the document must be judged again.
    pub(crate) fn add_schema(
        &self,
        registration: &Registration,
        now: Timestamp,
    ) -> Result<Option<Change<Registered>>, Error> {
        if registration.seen != self.schema_count() {
            return Ok(None);
        }
        let compiled = Arc::clone(&registration.compiled);
        let document = Arc::clone(&registration.document);
        let latest = self.latest_schema(document.id()).ok();
        if let Some(latest) = latest {
            let same = latest.document.digest() == document.digest();
            if same && latest.references == registration.references {
                let version = Arc::clone(latest);
                let registered = Registered { version, compiled, created: false };
                return Ok(Some(Change::Nothing(registered)));
            }
        }
        if self.schema_count() >= limits::SCHEMAS_MAX {
            return Err(Error::Limit { what: "schema versions", max: limits::SCHEMAS_MAX });
        }
        let version = Arc::new(SchemaVersion {
            number: self.schemas_by_number.keys().max().map_or(1, |last| last + 1),
            id: document.id().into(),
            version: latest.map_or(1, |latest| latest.version + 1),
            document,
            create_time: now,
            built_in: registration.built_in,
            references: registration.references.clone(),
        });
        let mut rows = CatalogBatch::default();
        rows.put_schema(&version.record());
        let mut next = self.clone();
        next.insert_schema(Arc::clone(&version));
        let answer = Registered { version, compiled, created: true };
        Ok(Some(Change::Write { rows, next: Box::new(next), answer }))
    }

    /// Compiles a stored version again.
    pub(crate) fn compile(&self, version: &SchemaVersion) -> Result<CompiledSchema, Error> {
        let documents = version.references.iter().map(|number| {
            let found = self.schema_by_number(*number).ok_or(Error::Corrupt)?;
            Ok(Arc::clone(&found.document))
        });
        let closure = documents.collect::<Result<Vec<_>, Error>>()?;
        Ok(schema::compile(&version.document, &closure)?)
    }
}
