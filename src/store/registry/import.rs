//! Adding documents: one, or a whole library.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    model::{Invalid, limits},
    schema::{Changes, Fault},
    store::{
        Error, EventStore, SchemaVersion, blocking,
        catalog::{Added, Change},
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
    /// Whether all that is not refused is there now; with `validate_only`, could be.
    pub is_taken: bool,
    /// What else changed.
    pub others: Others,
}

/// Documents that were read, with how they are to be judged.
struct Plan {
    candidates: Candidates,
    rules: Rules,
    validate_only: bool,
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
        let created = judgement.verdicts.pop().ok_or(Error::Internal)??;
        let id = plan.candidates.id(0).unwrap_or_default();
        let others = others(&judgement, &added, |it| it != id);
        let version = match added.into_iter().find(|it| it.version.id.as_ref() == id) {
            Some(added) => added.version,
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
        if !(1..=max).contains(&found) {
            let message = format!("{found} documents; wanted 1 to {max}");
            return Err(Error::OutOfBounds(Invalid::new("documents", message)));
        }
        self.check_change(import.validate_only)?;
        // One import at a time, and no registration beside it: together they hold what one may.
        let all = u32::try_from(limits::REGISTRARS_MAX).unwrap_or(1);
        let registrars = self.inner.registrars.acquire_many(all).await;
        let _registrars = registrars.map_err(|_closed| Error::Closing)?;
        let candidates = read(import.documents, RepeatedKeys::Last).await?;
        let Import { keep_going, force, .. } = import;
        let rules = Rules { keep_going, force, ..self.rules() };
        let plan = Plan { candidates, rules, validate_only: import.validate_only };
        let (plan, judgement, added) = self.add(plan).await?;
        self.imported(&plan, judgement, &added)
    }

    fn imported(
        &self,
        plan: &Plan,
        mut judgement: Judgement,
        added: &[Added],
    ) -> Result<Imported, Error> {
        let catalog = self.catalog();
        let verdicts = std::mem::take(&mut judgement.verdicts);
        let is_taken = plan.rules.keep_going || verdicts.iter().all(Result::is_ok);
        let by_id = |id: &str| added.iter().find(|it| it.version.id.as_ref() == id);
        let mut documents = Vec::with_capacity(verdicts.len());
        for (place, verdict) in verdicts.into_iter().enumerate() {
            let id = plan.candidates.id(place);
            let version = || match by_id(id.unwrap_or_default()) {
                Some(added) => Ok(Arc::clone(&added.version)),
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
        Ok(Imported { documents, is_taken, others })
    }

    /// What this store wants of every document.
    pub(super) fn rules(&self) -> Rules {
        Rules { tenant: self.inner.tenant.clone(), ..Rules::default() }
    }

    fn check_change(&self, validate_only: bool) -> Result<(), Error> {
        self.check_open()?;
        if validate_only { Ok(()) } else { self.check_space() }
    }

    /// Judges, and writes unless only validating; again, when the catalog has changed meanwhile.
    async fn add(&self, mut plan: Plan) -> Result<(Plan, Judgement, Vec<Added>), Error> {
        loop {
            let catalog = self.catalog();
            let judged = stoppable(move |stop| {
                let judgement = judge::judge(&catalog, &plan.candidates, &plan.rules, stop)?;
                Ok((plan, judgement))
            });
            let (returned, judgement) = judged.await?;
            plan = returned;
            if judgement.registration.versions.is_empty() {
                return Ok((plan, judgement, Vec::new()));
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

fn others(judgement: &Judgement, added: &[Added], is_other: impl Fn(&str) -> bool) -> Others {
    let renewed = added.iter().map(|it| &it.version).filter(|it| is_other(&it.id));
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
