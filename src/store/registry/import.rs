//! Adding documents: one, or a whole library.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    model::{Invalid, limits},
    schema::{Changes, Descriptor, Fault},
    store::{
        Error, EventStore, SchemaVersion, blocking,
        catalog::{Added, Change, descriptor_id},
        registry::judge::{self, Candidates, Judgement, RepeatedKeys, Rules},
    },
};

/// A document to be added.
#[derive(Clone, Debug, Default)]
pub struct SchemaInput {
    /// What the sender calls it, a file's name for example; only for messages.
    pub name: String,
    /// JSON Schema text.
    pub document: String,
}

/// One document to add.
#[derive(Clone, Debug, Default)]
pub struct RegisterSchema {
    /// JSON Schema text.
    pub document: String,
    /// Checks everything and adds nothing.
    pub validate_only: bool,
    /// Takes a change that breaks schemas in use, and records it.
    pub force: bool,
}

/// Documents to add together.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// In any order; they may refer to each other.
    pub documents: Vec<SchemaInput>,
    /// What is said about these documents and others.
    pub descriptors: Vec<Descriptor>,
    /// Adds what can be added, instead of everything or nothing.
    pub keep_going: bool,
    /// Checks everything and adds nothing.
    pub validate_only: bool,
    /// Takes changes that break schemas in use, and records them.
    pub force: bool,
}

/// What came of registering a schema.
#[derive(Debug)]
pub struct SchemaRegistered {
    /// The version that now is the document's latest.
    pub version: Arc<SchemaVersion>,
    /// Whether this call added it.
    pub created: bool,
    /// What differs from the version before.
    pub changes: Changes,
    /// What else changed with it.
    pub others: Others,
}

/// Documents that were not sent but refer to some that changed.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// Got new versions.
    pub renewed: Vec<Arc<SchemaVersion>>,
    /// Do not compile with what is new, and so keep judging by what they did.
    pub left_behind: Vec<Arc<str>>,
}

/// What came of one document of an import.
#[derive(Debug)]
pub enum ImportOutcome {
    /// A version was added; with `validate_only`, would be.
    Created(Arc<SchemaVersion>),
    /// The latest version is equal.
    Unchanged(Arc<SchemaVersion>),
    /// Nothing is wrong with it, but others of the same import were refused.
    Held,
    /// It cannot be added.
    Refused(Error),
}

/// A document of an import.
#[derive(Debug)]
pub struct ImportedDocument {
    /// Its `$id`, if it could be read.
    pub id: Option<String>,
    /// What came of it.
    pub outcome: ImportOutcome,
    /// What is not as it should be, though it was taken: a key that stands twice in one object.
    pub warning: Option<Fault>,
}

/// What came of an import.
#[derive(Debug)]
pub struct Imported {
    /// One for each document, in order.
    pub documents: Vec<ImportedDocument>,
    /// One for each descriptor, in order: its id, and whether it is added, or why it is refused.
    pub descriptors: Vec<(String, Result<bool, Error>)>,
    /// Whether all that is not refused is there now; with `validate_only`, could be.
    pub is_taken: bool,
    /// What else changed.
    pub others: Others,
}

/// Documents that were read, with how they are to be judged.
pub(super) struct Plan {
    pub(super) candidates: Candidates,
    pub(super) rules: Rules,
    pub(super) validate_only: bool,
}

impl EventStore {
    /// Adds a schema document, or a new version of one, unless the latest is equal.
    ///
    /// # Errors
    /// When the document is not a schema, refers to what is not there, or the store is full.
    pub async fn register_schema(
        &self,
        request: RegisterSchema,
    ) -> Result<SchemaRegistered, Error> {
        self.check_change(request.validate_only)?;
        let _registrar = self.inner.registrars.acquire().await.map_err(|_closed| Error::Closing)?;
        let input = SchemaInput { name: String::new(), document: request.document };
        let candidates = read(vec![input], RepeatedKeys::Refused).await?;
        let rules = Rules { force: request.force, ..self.rules() };
        let plan = Plan { candidates, rules, validate_only: request.validate_only };
        let (plan, mut judgement, added) = self.add(plan).await?;
        let added = added.versions;
        let created = judgement.verdicts.pop().ok_or(Error::Internal)??;
        let id = plan.candidates.id(0).unwrap_or_default();
        let others = others(&judgement, &added, |it| it != id);
        let version = match added.into_iter().find(|it| it.id.as_ref() == id) {
            Some(version) => version,
            None => Arc::clone(self.catalog().latest_schema(id)?),
        };
        if let (Some(compiled), false) = (judgement.compiled, plan.validate_only) {
            self.inner.compiled.0.insert(version.number, compiled);
        }
        let own = judgement.affected.into_iter().find(|it| it.schema_id.as_ref() == id);
        let changes = own.map(|it| it.changes).unwrap_or_default();
        Ok(SchemaRegistered { version, created, changes, others })
    }

    /// Adds documents that may refer to each other, in one write.
    ///
    /// # Errors
    /// When there are none or too many, or the store is full. What is wrong with a document is told
    /// in its outcome.
    pub async fn import_schemas(&self, import: Import) -> Result<Imported, Error> {
        let (found, max) = (import.documents.len(), limits::IMPORT_DOCUMENTS_MAX);
        let (said, said_max) = (import.descriptors.len(), limits::IMPORT_DESCRIPTORS_MAX);
        if found > max || found + said == 0 {
            let message = format!("{found} documents; wanted 1 to {max}");
            return Err(Error::OutOfBounds(Invalid::new("documents", message)));
        }
        if said > said_max {
            let message = format!("{said} descriptors; at most {said_max}");
            return Err(Error::OutOfBounds(Invalid::new("descriptors", message)));
        }
        self.check_change(import.validate_only)?;
        // One import at a time, and no registration beside it: together they hold what one may.
        let all = u32::try_from(limits::REGISTRARS_MAX).unwrap_or(1);
        let registrars = self.inner.registrars.acquire_many(all).await;
        let _registrars = registrars.map_err(|_closed| Error::Closing)?;
        let candidates = read(import.documents, RepeatedKeys::Last).await?;
        let candidates = candidates.with_descriptors(import.descriptors);
        let Import { keep_going, force, .. } = import;
        let rules = Rules { keep_going, force, ..self.rules() };
        let plan = Plan { candidates, rules, validate_only: import.validate_only };
        let (plan, judgement, added) = self.add(plan).await?;
        self.imported(&plan, judgement, &added.versions)
    }

    fn imported(
        &self,
        plan: &Plan,
        mut judgement: Judgement,
        added: &[Arc<SchemaVersion>],
    ) -> Result<Imported, Error> {
        let catalog = self.catalog();
        let verdicts = std::mem::take(&mut judgement.verdicts);
        let descriptors = std::mem::take(&mut judgement.descriptors);
        let is_taken =
            plan.rules.keep_going || verdicts.iter().chain(&descriptors).all(Result::is_ok);
        let ids = plan.candidates.descriptors().iter().map(descriptor_id);
        let descriptors = ids.zip(descriptors).collect();
        let by_id = |id: &str| added.iter().find(|it| it.id.as_ref() == id);
        let mut documents = Vec::with_capacity(verdicts.len());
        for (place, verdict) in verdicts.into_iter().enumerate() {
            let id = plan.candidates.id(place);
            let version = || match by_id(id.unwrap_or_default()) {
                Some(version) => Ok(Arc::clone(version)),
                None => catalog.latest_schema(id.unwrap_or_default()).cloned(),
            };
            let outcome = match verdict {
                Err(error) => ImportOutcome::Refused(error),
                Ok(true) if !is_taken => ImportOutcome::Held,
                Ok(true) => ImportOutcome::Created(version()?),
                Ok(false) => ImportOutcome::Unchanged(version()?),
            };
            let warning = plan.candidates.repeated(place).cloned();
            let id = id.map(str::to_owned);
            documents.push(ImportedDocument { id, outcome, warning });
        }
        let sent: std::collections::HashSet<&str> =
            (0..documents.len()).filter_map(|it| plan.candidates.id(it)).collect();
        let others = others(&judgement, added, |it| !sent.contains(it));
        Ok(Imported { documents, descriptors, is_taken, others })
    }

    /// What this store wants of every document.
    pub(super) fn rules(&self) -> Rules {
        Rules { tenant: self.inner.tenant.clone(), ..Rules::default() }
    }

    pub(super) fn check_change(&self, validate_only: bool) -> Result<(), Error> {
        self.check_open()?;
        if validate_only { Ok(()) } else { self.check_space() }
    }

    /// Judges, and writes unless only validating; again, when the catalog has changed meanwhile.
    pub(super) async fn add(&self, mut plan: Plan) -> Result<(Plan, Judgement, Added), Error> {
        loop {
            let catalog = self.catalog();
            let judged = stoppable(move |stop| {
                let judgement = judge::judge(&catalog, &plan.candidates, &plan.rules, stop)?;
                Ok((plan, judgement))
            });
            let (returned, judgement) = judged.await?;
            plan = returned;
            if judgement.registration.is_empty() {
                return Ok((plan, judgement, Added::default()));
            }
            let registration = judgement.registration.clone();
            let added = if plan.validate_only {
                let change = self.catalog().add_schemas(&registration, self.now())?;
                change.map(Change::into_answer)
            } else {
                self.change(move |catalog, now| {
                    let added = catalog.add_schemas(&registration, now)?;
                    Ok(added.map_or(Change::Nothing(None), |change| change.map(Some)))
                })
                .await?
            };
            if let Some(added) = added {
                return Ok((plan, judgement, added));
            }
        }
    }
}

pub(super) async fn read(
    inputs: Vec<SchemaInput>,
    repeated: RepeatedKeys,
) -> Result<Candidates, Error> {
    stoppable(move |stop| Candidates::parse(inputs, repeated, stop)).await
}

fn others(
    judgement: &Judgement,
    added: &[Arc<SchemaVersion>],
    is_other: impl Fn(&str) -> bool,
) -> Others {
    let renewed = added.iter().filter(|it| is_other(&it.id));
    Others { renewed: renewed.cloned().collect(), left_behind: judgement.left_behind.clone() }
}

/// Runs costly work that ends soon after nobody waits for it any more.
pub(crate) async fn stoppable<T: Send + 'static>(
    work: impl FnOnce(judge::Stop<'_>) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let token = CancellationToken::new();
    let _guard = token.clone().drop_guard();
    blocking(move || {
        work(&|| if token.is_cancelled() { Err(Error::Deadline { begun: false }) } else { Ok(()) })
    })
    .await
}
