//! Schema documents and their versions.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    model::{Timestamp, limits},
    schema::{self, CompiledSchema, Descriptor, Form, SchemaDocument, SchemaProblem},
    storage::{
        CatalogBatch,
        pb::{DeprecationRecord, SchemaRecord},
    },
    store::{
        Error, Resource,
        catalog::{AuditEntry, Catalog, Change, StoredDescriptor, check_text, micros},
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
    /// Of the document as a whole; that of the latest version counts.
    pub deprecation: Option<Deprecation>,
    /// Grows with every change of `deprecation`.
    status_revision: u64,
}

/// That a document is not for new uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprecation {
    /// `$id` of the document to use instead; may be empty.
    pub successor: String,
    /// For people.
    pub reason: String,
    /// Since when.
    pub time: Timestamp,
}

/// Users of a document that are named; an error must fit its headers.
const USERS_MAX: usize = 50;
const REASON_BYTES_MAX: usize = 1024;

fn check_schema_etag(latest: &SchemaVersion, found: Option<&str>) -> Result<(), Error> {
    let current = latest.etag();
    match found {
        Some(found) if found != current => {
            let (name, found) = (latest.id.to_string(), found.to_owned());
            Err(Error::Etag { kind: Resource::Schema, name, current, found })
        }
        _ => Ok(()),
    }
}

impl SchemaVersion {
    /// `before` is the version before this one: a version that only judges by newer versions of what
    /// it refers to has the same text.
    pub(super) fn load(record: SchemaRecord, before: Option<&Self>) -> Result<Self, Error> {
        let same = before.filter(|it| **it.document.text() == *record.document);
        let document = match same {
            Some(before) => Arc::clone(&before.document),
            None => Arc::new(record_document(&record).map_err(|error| {
                tracing::error!(id = record.id, %error, "stored schema is damaged");
                Error::Corrupt
            })?),
        };
        let deprecation = record.deprecation.map(|it| Deprecation {
            successor: it.successor,
            reason: it.reason,
            time: micros(it.time_us),
        });
        Ok(Self {
            number: record.number,
            id: document.id().into(),
            version: record.version,
            document,
            create_time: micros(record.create_time_us),
            built_in: record.built_in,
            references: record.references,
            deprecation,
            status_revision: record.status_revision,
        })
    }

    /// Of the document as a whole; changes with every new version and every deprecation. Only that of
    /// the latest version counts.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("{:x}.{:x}", self.version, self.status_revision)
    }

    /// Whether the document is not for new uses: said here, or in its own `meta:status`.
    #[must_use]
    pub fn is_deprecated(&self) -> bool {
        self.deprecation.is_some() || self.document.is_deprecated()
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
            deleted: false,
            deprecation: self.deprecation.as_ref().map(|it| DeprecationRecord {
                successor: it.successor.clone(),
                reason: it.reason.clone(),
                time_us: it.time.micros(),
            }),
            status_revision: self.status_revision,
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

/// A document that was judged and gets a new version.
#[derive(Clone, Debug)]
pub(crate) struct NewVersion {
    pub(crate) document: Arc<SchemaDocument>,
    /// Ids of all documents that it judges by, itself excluded; each at its latest version.
    pub(crate) references: Vec<Arc<str>>,
    pub(crate) built_in: bool,
}

/// Documents that were judged against a catalog, ready to be added to that same catalog.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// Each document once.
    pub(crate) versions: Vec<NewVersion>,
    /// What is forced; numbers, times and new versions are filled in when it is written.
    pub(crate) forced: Vec<AuditEntry>,
    /// What is said about these documents and others, judged as well.
    pub(crate) descriptors: Vec<Descriptor>,
    pub(crate) seen: Seen,
}

/// What judging a document depends on: when it has changed, the document must be judged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    schemas: u64,
    bindings: u64,
}

impl Registration {
    /// Whether there is nothing to add.
    pub(crate) fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.descriptors.is_empty()
    }
}

/// What was added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Added {
    pub(crate) versions: Vec<Arc<SchemaVersion>>,
    pub(crate) descriptors: Vec<Arc<StoredDescriptor>>,
}

impl Catalog {
    /// What a registration against this catalog depends on.
    pub(crate) fn seen(&self) -> Seen {
        Seen { schemas: self.schemas_revision, bindings: self.bindings_revision }
    }

    /// Adds judged documents as new versions, in one write; `None` when the catalog has changed since
    /// and they must be judged again.
    pub(crate) fn add_schemas(
        &self,
        registration: &Registration,
        now: Timestamp,
    ) -> Result<Option<Change<Added>>, Error> {
        if registration.seen != self.seen() {
            return Ok(None);
        }
        let versions = &registration.versions;
        if self.schema_count() + versions.len() > limits::SCHEMAS_MAX {
            return Err(Error::Limit { what: "schema versions", max: limits::SCHEMAS_MAX });
        }
        let first = self.last_schema_number + 1;
        let new: HashMap<&str, u32> =
            versions.iter().map(|it| it.document.id()).zip(first..).collect();
        let number = |id: &Arc<str>| match new.get(id.as_ref()) {
            Some(number) => Ok(*number),
            None => self.latest_schema(id).map(|it| it.number),
        };
        let mut rows = CatalogBatch::default();
        let mut next = self.clone();
        let mut added = Added::default();
        for (new, own) in versions.iter().zip(first..) {
            let id = new.document.id();
            let mut references =
                new.references.iter().map(number).collect::<Result<Vec<_>, _>>()?;
            references.sort_unstable();
            let version = Arc::new(SchemaVersion {
                number: own,
                id: id.into(),
                version: self.last_version(id) + 1,
                document: Arc::clone(&new.document),
                create_time: now,
                built_in: new.built_in,
                references,
                deprecation: self.latest_schema(id).ok().and_then(|it| it.deprecation.clone()),
                status_revision: self.latest_schema(id).map_or(0, |it| it.status_revision),
            });
            rows.put_schema(&version.record());
            next.insert_schema(Arc::clone(&version));
            added.versions.push(version);
        }
        for forced in &registration.forced {
            let new_version = next.latest_schema(&forced.schema_id).map_or(0, |it| it.version);
            let entry = AuditEntry { time: now, new_version, ..forced.clone() };
            next.add_audit(&mut rows, entry);
        }
        for descriptor in &registration.descriptors {
            let descriptor = next.add_descriptor(&mut rows, descriptor.clone(), now)?;
            added.descriptors.push(descriptor);
        }
        Ok(Some(Change::Write { rows, next: Box::new(next), answer: added }))
    }

    /// Deletes a document with all its versions; its numbers stay taken.
    pub(crate) fn delete_schema(&self, id: &str, etag: Option<&str>) -> Result<Change<()>, Error> {
        let versions = self.schema_versions(id)?;
        check_schema_etag(self.latest_schema(id)?, etag)?;
        if versions.iter().any(|it| it.built_in) {
            return Err(Error::SchemaBuiltIn(id.to_owned()));
        }
        let users = self.schema_users(id)?;
        if !users.is_empty() {
            return Err(Error::SchemaInUse { name: id.to_owned(), users });
        }
        let mut rows = CatalogBatch::default();
        for version in versions {
            rows.put_schema(&SchemaRecord {
                number: version.number,
                id: id.to_owned(),
                version: version.version,
                deleted: true,
                ..SchemaRecord::default()
            });
        }
        let mut next = self.clone();
        next.remove_schema(id);
        next.remove_descriptors_of(id, &mut rows);
        Ok(Change::Write { rows, next: Box::new(next), answer: () })
    }

    /// What needs a document: datasets, and versions of other documents.
    fn schema_users(&self, id: &str) -> Result<Vec<String>, Error> {
        let numbers: HashSet<u32> = self.schema_versions(id)?.iter().map(|it| it.number).collect();
        let datasets = self.datasets().filter(|it| it.settings.schema_id.as_ref() == id);
        let mut users: Vec<String> =
            datasets.take(USERS_MAX).map(|it| format!("dataset `{}`", it.name)).collect();
        let definitions =
            self.event_definitions().filter(|it| it.settings.spec.schema_id.as_ref() == id);
        users.extend(
            definitions
                .map(|it| format!("event definition `{}`", it.name))
                .take(USERS_MAX.saturating_sub(users.len())),
        );
        let related = self.descriptors().filter(|it| it.leads_to(id));
        users.extend(
            related
                .map(|it| format!("descriptor `{}` of schema `{}`", it.id, it.descriptor.schema_id))
                .take(USERS_MAX.saturating_sub(users.len())),
        );
        let versions = self.schemas.values().flatten().filter(|it| it.id.as_ref() != id);
        let referring = versions.filter(|it| it.references.iter().any(|it| numbers.contains(it)));
        users.extend(
            referring
                .map(|it| format!("schema `{}` version {}", it.id, it.version))
                .take(USERS_MAX.saturating_sub(users.len())),
        );
        Ok(users)
    }

    /// Says that a document is not for new uses; `None` takes that back.
    pub(crate) fn deprecate_schema(
        &self,
        id: &str,
        etag: Option<&str>,
        deprecation: Option<Deprecation>,
    ) -> Result<Change<Arc<SchemaVersion>>, Error> {
        let latest = self.latest_schema(id)?;
        check_schema_etag(latest, etag)?;
        if latest.built_in {
            return Err(Error::SchemaBuiltIn(id.to_owned()));
        }
        if let Some(Deprecation { successor, reason, .. }) = &deprecation {
            check_text("reason", reason, REASON_BYTES_MAX)?;
            if successor == id {
                return Err(Error::invalid("successor", "the document itself; wanted another"));
            }
            if !successor.is_empty() {
                self.latest_schema(successor)?;
            }
        }
        let said = |it: &Deprecation| (it.successor.clone(), it.reason.clone());
        if latest.deprecation.as_ref().map(said) == deprecation.as_ref().map(said) {
            return Ok(Change::Nothing(Arc::clone(latest)));
        }
        let mut version = SchemaVersion::clone(latest);
        version.deprecation = deprecation;
        version.status_revision += 1;
        let version = Arc::new(version);
        let mut rows = CatalogBatch::default();
        rows.put_schema(&version.record());
        let mut next = self.clone();
        next.insert_schema(Arc::clone(&version));
        Ok(Change::Write { rows, next: Box::new(next), answer: version })
    }

    /// Names of the datasets under each schema.
    pub(crate) fn bindings(&self) -> HashMap<Arc<str>, Vec<String>> {
        let mut bindings: HashMap<Arc<str>, Vec<String>> = HashMap::new();
        for dataset in self.datasets() {
            let names = bindings.entry(Arc::clone(&dataset.settings.schema_id)).or_default();
            names.push(dataset.name.to_string());
        }
        bindings
    }

    /// Compiles a stored version again.
    pub(crate) fn compile(&self, version: &SchemaVersion) -> Result<CompiledSchema, Error> {
        Ok(schema::compile(&version.document, &self.closure(version)?)?)
    }

    /// The documents that a version judges by, itself excluded.
    pub(crate) fn closure(
        &self,
        version: &SchemaVersion,
    ) -> Result<Vec<Arc<SchemaDocument>>, Error> {
        let documents = version.references.iter().map(|number| {
            let found = self.schema_by_number(*number).ok_or(Error::Corrupt)?;
            Ok(Arc::clone(&found.document))
        });
        documents.collect()
    }
}
