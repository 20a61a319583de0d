//! Judges documents that are to become schemas, as one set: against each other and against the
//! catalog. Costly; runs on the caller's task.
//!
//! A document gets a new version when it is new or changed, and also when something that it refers
//! to gets one: the latest version of every document judges by the latest versions of all others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    model::{Invalid, Timestamp, limits},
    schema::{
        self, Change, ChangeKind, Changes, CompiledSchema, Fault, Fields, SchemaDocument,
        SchemaProblem, Verdict,
    },
    store::{
        DefinitionState, Error, EventDefinition,
        catalog::{AuditEntry, Catalog, NewVersion, Registration},
        registry::SchemaInput,
    },
};

/// How documents are judged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Takes what can be taken, instead of everything or nothing.
    pub(crate) keep_going: bool,
    /// The documents come with the server: nothing holds them up.
    pub(crate) built_in: bool,
    /// Takes what breaks schemas in use.
    pub(crate) force: bool,
}

/// A schema that gets a new version, and what that changes for the datasets under it.
#[derive(Clone, Debug)]
pub struct Affected {
    /// Its `$id`.
    pub schema_id: Arc<str>,
    /// Its latest version.
    pub old_version: u32,
    /// The datasets under it, whatever the version; for a document that is judged alone perhaps none.
    pub datasets: Vec<String>,
    /// Event definitions that are not true to it any more, each with why.
    pub event_definitions: Vec<(String, String)>,
    /// What differs.
    pub changes: Changes,
    /// The new version; `None` when it does not compile.
    pub(crate) next: Option<(Arc<SchemaDocument>, Vec<Arc<SchemaDocument>>)>,
}

impl Affected {
    /// Whether it is what datasets or event definitions must be kept from.
    #[must_use]
    pub fn is_breaking(&self) -> bool {
        self.breaks_datasets() || !self.event_definitions.is_empty()
    }

    fn breaks_datasets(&self) -> bool {
        !self.datasets.is_empty() && self.changes.verdict() == Verdict::Breaking
    }

    fn audit(&self) -> AuditEntry {
        let breaking: Vec<Change> = self.changes.breaking().cloned().collect();
        let shown = breaking.len().min(AUDIT_CHANGES_MAX);
        AuditEntry {
            number: 0,
            time: Timestamp::default(),
            schema_id: self.schema_id.to_string(),
            old_version: self.old_version,
            new_version: 0,
            datasets: self.datasets.iter().take(AUDIT_DATASETS_MAX).cloned().collect(),
            changes_left_out: (breaking.len() - shown) as u64 + self.changes.left_out,
            changes: breaking.into_iter().take(AUDIT_CHANGES_MAX).collect(),
        }
    }
}

/// Breaking changes and datasets that an audit record names: a thousand records stay in memory.
const AUDIT_CHANGES_MAX: usize = 20;
const AUDIT_DATASETS_MAX: usize = 50;

/// Documents as they were read, or why they could not be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    documents: Vec<Result<Arc<SchemaDocument>, SchemaProblem>>,
    /// What the sender calls them, in the same order.
    names: Vec<String>,
    /// Of each, the first place where a key stands twice.
    repeated: Vec<Option<Fault>>,
}

/// What becomes of a document in which a key stands twice in one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RepeatedKeys {
    Refused,
    /// The last one counts, and that is told: whose library has such documents cannot mend them.
    Last,
}

impl Candidates {
    /// Reads documents, on all cores.
    pub(crate) fn parse(
        inputs: Vec<SchemaInput>,
        repeated: RepeatedKeys,
        stop: Stop<'_>,
    ) -> Result<Self, Error> {
        let parse = |it: &SchemaInput| {
            Ok(match repeated {
                RepeatedKeys::Refused => SchemaDocument::parse(&it.document).map(|it| (it, None)),
                RepeatedKeys::Last => SchemaDocument::parse_last(&it.document),
            })
        };
        let (mut documents, mut repeated) = (Vec::new(), Vec::new());
        for parsed in each(&inputs, stop, parse)? {
            let (document, found) = match parsed {
                Ok((document, found)) => (Ok(Arc::new(document)), found),
                Err(problem) => (Err(problem), None),
            };
            documents.push(document);
            repeated.push(found);
        }
        let names = inputs.into_iter().map(|it| it.name).collect();
        Ok(Self { documents, names, repeated })
    }

    /// Where a key of a document stands twice, of which the last one counts.
    pub(crate) fn repeated(&self, place: usize) -> Option<&Fault> {
        self.repeated.get(place)?.as_ref()
    }

    /// The `$id` of a document that could be read.
    pub(crate) fn id(&self, place: usize) -> Option<&str> {
        self.documents.get(place)?.as_ref().ok().map(|it| it.id())
    }

    fn name(&self, place: usize) -> String {
        let name = self.names.get(place).filter(|it| !it.is_empty());
        name.map_or_else(|| format!("documents[{place}]"), |it| format!("`{it}`"))
    }
}

impl FromIterator<SchemaDocument> for Candidates {
    fn from_iter<I: IntoIterator<Item = SchemaDocument>>(documents: I) -> Self {
        let documents = documents.into_iter().map(|it| Ok(Arc::new(it))).collect();
        Self { documents, names: Vec::new(), repeated: Vec::new() }
    }
}

/// Ends the work when nobody waits for it any more.
pub(crate) type Stop<'a> = &'a (dyn Fn() -> Result<(), Error> + Sync);

/// What came of judging.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// What is to be written.
    pub(crate) registration: Registration,
    /// For each candidate, whether it gets a new version, or why it is refused.
    pub(crate) verdicts: Vec<Result<bool, Error>>,
    /// Documents that keep judging by older versions of what they refer to, because they do not
    /// compile with the new ones.
    pub(crate) left_behind: Vec<Arc<str>>,
    /// What changes for datasets, and for a document that was judged alone.
    pub(crate) affected: Vec<Affected>,
    /// The compiled form, when a single document was judged.
    pub(crate) compiled: Option<Arc<CompiledSchema>>,
}

impl Judgement {
    fn is_refused(&self) -> bool {
        self.verdicts.iter().any(Result::is_err)
    }
}

/// Judges candidates against the catalog. Refused ones end up in the verdicts, not in the error.
pub(crate) fn judge(
    catalog: &Catalog,
    candidates: &Candidates,
    rules: Rules,
    stop: Stop<'_>,
) -> Result<Judgement, Error> {
    let mut verdicts: Vec<Result<bool, Error>> = candidates
        .documents
        .iter()
        .map(|it| it.as_ref().map(|_| false).map_err(|it| Error::Schema(it.clone())))
        .collect();
    refuse_repeated(candidates, &mut verdicts);
    let work = AtomicUsize::new(0);
    let mut known = HashMap::new();
    loop {
        let set = Set::new(catalog, candidates, &verdicts, known, rules);
        let found = set.judge(&mut verdicts, rules, &work, stop)?;
        if !(found.is_refused_now && rules.keep_going) {
            let mut judgement = found.judgement(catalog, verdicts);
            if judgement.is_refused() && !rules.keep_going {
                judgement.registration.versions.clear();
            }
            return Ok(judgement);
        }
        // What was refused may have been referred to: once more without it.
        known = found.unaffected(candidates, &verdicts);
    }
}

/// Documents that an earlier round compiled, by id, with what they refer to.
type Known = HashMap<String, Renewed>;

/// Two documents of one `$id`: which one is meant is not known, so neither is taken.
fn refuse_repeated(candidates: &Candidates, verdicts: &mut [Result<bool, Error>]) {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, document) in candidates.documents.iter().enumerate() {
        if let Ok(document) = document {
            places.entry(document.id()).or_default().push(place);
        }
    }
    for (id, places) in places.into_iter().filter(|(_, places)| places.len() > 1) {
        for place in &places {
            let others = places.iter().filter(|it| *it != place);
            let others = others.map(|it| candidates.name(*it)).collect();
            if let Some(verdict) = verdicts.get_mut(*place) {
                *verdict = Err(Error::RepeatedId { id: id.to_owned(), others });
            }
        }
    }
}

/// What is judged in one round.
struct Set<'a> {
    catalog: &'a Catalog,
    /// Candidates that are not refused, by id, with their places.
    fresh: BTreeMap<&'a str, (usize, Arc<SchemaDocument>)>,
    /// Ids of those that are new or differ from the latest version.
    changed: HashSet<&'a str>,
    /// Names of the datasets under each schema; none for what comes with the server.
    bindings: HashMap<Arc<str>, Vec<String>>,
    /// What need not be compiled again.
    known: Known,
    /// A compiled schema takes megabytes: kept only for a candidate that is alone.
    keep_compiled: bool,
}

/// One document to be judged.
#[derive(Clone)]
struct Item {
    document: Arc<SchemaDocument>,
    /// Its place among the candidates; `None` for one that refers to a changed document.
    place: Option<usize>,
}

/// A document that gets a new version.
#[derive(Clone)]
struct Renewed {
    item: Item,
    closure: Vec<Arc<SchemaDocument>>,
    compiled: Option<Arc<CompiledSchema>>,
    affected: Option<Affected>,
}

/// What a round came to.
struct Round {
    renewed: Vec<Renewed>,
    left_behind: Vec<Arc<str>>,
    affected: Vec<Affected>,
    is_refused_now: bool,
    rules: Rules,
}

impl<'a> Set<'a> {
    fn new(
        catalog: &'a Catalog,
        candidates: &'a Candidates,
        verdicts: &[Result<bool, Error>],
        known: Known,
        rules: Rules,
    ) -> Self {
        let mut fresh = BTreeMap::new();
        for (place, (document, verdict)) in candidates.documents.iter().zip(verdicts).enumerate() {
            if let (Ok(document), Ok(_)) = (document, verdict) {
                fresh.insert(document.id(), (place, Arc::clone(document)));
            }
        }
        let is_changed = |(id, (_, document)): (&&'a str, &(usize, Arc<SchemaDocument>))| {
            let latest = catalog.latest_schema(id).ok();
            let same = latest.is_some_and(|it| it.document.digest() == document.digest());
            (!same).then_some(*id)
        };
        let changed = fresh.iter().filter_map(is_changed).collect();
        let keep_compiled = candidates.documents.len() == 1;
        let bindings = if rules.built_in { HashMap::new() } else { catalog.bindings() };
        Self { catalog, fresh, changed, bindings, known, keep_compiled }
    }

    fn find(&self, id: &str) -> Option<Arc<SchemaDocument>> {
        let fresh = self.fresh.get(id).filter(|_| self.changed.contains(id));
        let latest = || self.catalog.latest_schema(id).ok().map(|it| Arc::clone(&it.document));
        fresh.map(|(_, it)| Arc::clone(it)).or_else(latest)
    }

    /// The candidates, and the documents of the catalog that refer to changed ones.
    fn items(&self) -> Vec<Item> {
        let mut items: Vec<Item> = self
            .fresh
            .values()
            .map(|(place, it)| Item { document: Arc::clone(it), place: Some(*place) })
            .collect();
        let changed: HashSet<u32> = self
            .changed
            .iter()
            .flat_map(|id| self.catalog.schema_versions(id).unwrap_or_default())
            .map(|it| it.number)
            .collect();
        if changed.is_empty() {
            return items;
        }
        for latest in self.catalog.schemas() {
            let refers = latest.references.iter().any(|it| changed.contains(it));
            if refers && !self.fresh.contains_key(latest.id.as_ref()) {
                items.push(Item { document: Arc::clone(&latest.document), place: None });
            }
        }
        items
    }

    fn judge(
        &self,
        verdicts: &mut [Result<bool, Error>],
        rules: Rules,
        work: &AtomicUsize,
        stop: Stop<'_>,
    ) -> Result<Round, Error> {
        let items = self.items();
        let outcomes = each(&items, stop, |item| {
            let outcome = self.renew(item);
            let looked_at = outcome.as_ref().map_or(1, |it| it.as_ref().map_or(1, closure_len));
            let before = work.fetch_add(looked_at, Ordering::Relaxed);
            if before > limits::IMPORT_WORK_MAX {
                let max = limits::IMPORT_WORK_MAX;
                let message = format!("refer to each other more than {max} times in all");
                return Err(Error::OutOfBounds(Invalid::new("documents", message)));
            }
            Ok(outcome)
        })?;
        let mut round = Round {
            renewed: Vec::new(),
            left_behind: Vec::new(),
            affected: Vec::new(),
            is_refused_now: false,
            rules,
        };
        for (item, outcome) in items.into_iter().zip(outcomes) {
            match (outcome, item.place.and_then(|it| verdicts.get_mut(it))) {
                (Ok(None), Some(verdict)) => *verdict = Ok(false),
                (Ok(None), None) => {}
                (Ok(Some(renewed)), verdict) => {
                    if let Some(verdict) = verdict {
                        *verdict = Ok(true);
                    }
                    round.renewed.push(renewed);
                }
                (Err(problem), Some(verdict)) => {
                    *verdict = Err(Error::Schema(own(problem, item.document.id())));
                    round.is_refused_now = true;
                }
                (Err(problem), None) => {
                    round.affected.extend(self.broken(&item, &problem));
                    round.left_behind.push(item.document.id().into());
                }
            }
        }
        round.affected.extend(round.renewed.iter().filter_map(|it| it.affected.clone()));
        if !rules.force {
            let broken = round.affected.iter().filter(|it| it.is_breaking());
            for (place, broken) in self.blame(broken) {
                let Some(verdict) = verdicts.get_mut(place) else { continue };
                *verdict = Err(Error::Incompatible(broken));
                round.is_refused_now = true;
            }
        }
        Ok(round)
    }

    /// Compiles a document with all it refers to; `None` when its latest version stays.
    fn renew(&self, item: &Item) -> Result<Option<Renewed>, SchemaProblem> {
        let document = &item.document;
        if let Some(known) = self.known.get(document.id()) {
            return Ok(Some(known.clone()));
        }
        let closure = schema::closure(document, |id| self.find(id))?;
        let touched = |it: &SchemaDocument| self.changed.contains(it.id());
        if !touched(document)
            && !closure.iter().any(|it| touched(it))
            && self.is_kept(&closure, document)
        {
            return Ok(None);
        }
        let compiled = schema::compile(document, &closure)?;
        schema::check_composition(document, &closure)?;
        let kept = self.keep_compiled && item.place.is_some();
        let compiled = kept.then(|| Arc::new(compiled));
        let affected = self.affected(document, &closure, kept);
        Ok(Some(Renewed { item: item.clone(), closure, compiled, affected }))
    }

    /// What a new version changes, for a schema that datasets are under and one that is asked about.
    fn affected(
        &self,
        document: &Arc<SchemaDocument>,
        closure: &[Arc<SchemaDocument>],
        is_asked: bool,
    ) -> Option<Affected> {
        let datasets = self.bindings.get(document.id()).cloned();
        let definitions = self.broken_definitions(document, closure);
        if datasets.is_none() && definitions.is_empty() && !is_asked {
            return None;
        }
        let latest = self.catalog.latest_schema(document.id()).ok()?;
        let before = self.catalog.closure(latest).ok()?;
        Some(Affected {
            schema_id: Arc::clone(&latest.id),
            old_version: latest.version,
            datasets: datasets.unwrap_or_default(),
            event_definitions: definitions,
            changes: schema::changes((&latest.document, &before), (document, closure)),
            next: Some((Arc::clone(document), closure.to_vec())),
        })
    }

    /// The event definitions whose texts are not true to a new version, with why.
    fn broken_definitions(
        &self,
        document: &Arc<SchemaDocument>,
        closure: &[Arc<SchemaDocument>],
    ) -> Vec<(String, String)> {
        let of_schema = |it: &&Arc<EventDefinition>| {
            let spec = &it.settings.spec;
            *spec.schema_id == *document.id() && spec.state != DefinitionState::Archived
        };
        let mut definitions = self.catalog.event_definitions().filter(of_schema).peekable();
        if definitions.peek().is_none() {
            return Vec::new();
        }
        let fields = Fields::new(Arc::clone(document), closure);
        let primary = schema::primary_namespace(document, closure);
        let why = |it: &Arc<EventDefinition>| {
            let problem = it.problem_with(&fields, primary.as_deref())?;
            Some((it.name.to_string(), problem))
        };
        definitions.filter_map(why).collect()
    }

    /// A schema in use that does not compile any more.
    fn broken(&self, item: &Item, problem: &SchemaProblem) -> Option<Affected> {
        let datasets = self.bindings.get(item.document.id())?.clone();
        let latest = self.catalog.latest_schema(item.document.id()).ok()?;
        let mut changes = Changes::default();
        changes.add(Change::new("", ChangeKind::ReferenceBroken, "", &problem.to_string()));
        let (schema_id, old_version) = (Arc::clone(&latest.id), latest.version);
        let event_definitions = Vec::new();
        Some(Affected { schema_id, old_version, datasets, event_definitions, changes, next: None })
    }

    /// The candidates to which broken schemas are owed: themselves, or the changed ones they refer to.
    fn blame<'b>(
        &self,
        broken: impl Iterator<Item = &'b Affected>,
    ) -> BTreeMap<usize, Vec<Affected>> {
        let mut blamed: BTreeMap<usize, Vec<Affected>> = BTreeMap::new();
        for affected in broken {
            let id = affected.schema_id.as_ref();
            let own = self.fresh.get(id).filter(|_| self.changed.contains(id));
            let mut places: Vec<usize> = own.iter().map(|(place, _)| *place).collect();
            if places.is_empty() {
                let before = self.catalog.latest_schema(id).and_then(|it| self.catalog.closure(it));
                let before = before.unwrap_or_default();
                let after = affected.next.iter().flat_map(|(_, closure)| closure);
                let ids: BTreeSet<&str> = before.iter().chain(after).map(|it| it.id()).collect();
                let changed = ids.into_iter().filter(|it| self.changed.contains(it));
                places.extend(changed.filter_map(|it| self.fresh.get(it)).map(|(place, _)| *place));
            }
            for place in places {
                blamed.entry(place).or_default().push(affected.clone());
            }
        }
        blamed
    }

    /// Whether the latest version judges by the latest versions of all these.
    fn is_kept(&self, closure: &[Arc<SchemaDocument>], document: &SchemaDocument) -> bool {
        let Ok(latest) = self.catalog.latest_schema(document.id()) else { return false };
        let number =
            |it: &Arc<SchemaDocument>| self.catalog.latest_schema(it.id()).map(|it| it.number);
        let mut numbers: Vec<u32> = closure.iter().filter_map(|it| number(it).ok()).collect();
        numbers.sort_unstable();
        numbers == latest.references
    }
}

/// A problem whose pointer, if any, leads into the document that is refused; what is wrong elsewhere
/// is told in words.
fn own(problem: SchemaProblem, id: &str) -> SchemaProblem {
    match problem {
        SchemaProblem::Unresolved { document, pointer, reference, message } => {
            let elsewhere = document != id;
            let message = if elsewhere { format!("{message} (`{pointer}`)") } else { message };
            let pointer = if elsewhere { String::new() } else { pointer };
            SchemaProblem::Unresolved { document, pointer, reference, message }
        }
        SchemaProblem::Invalid(_)
        | SchemaProblem::Composition(_)
        | SchemaProblem::Cycle { .. }
        | SchemaProblem::TooLarge { .. } => problem,
    }
}

fn closure_len(renewed: &Renewed) -> usize {
    renewed.closure.len() + 1
}

impl Round {
    /// What a next round would find again: documents that refer to none that is refused.
    fn unaffected(self, candidates: &Candidates, verdicts: &[Result<bool, Error>]) -> Known {
        let refused = |(place, verdict): (usize, &Result<bool, Error>)| match verdict {
            Ok(_) => None,
            Err(_) => candidates.id(place),
        };
        let refused: HashSet<&str> = verdicts.iter().enumerate().filter_map(refused).collect();
        let stays = |it: &Renewed| it.closure.iter().all(|it| !refused.contains(it.id()));
        let renewed = self.renewed.into_iter().filter(stays);
        renewed.map(|it| (it.item.document.id().to_owned(), it)).collect()
    }

    fn judgement(self, catalog: &Catalog, verdicts: Vec<Result<bool, Error>>) -> Judgement {
        let compiled = match (verdicts.as_slice(), self.renewed.first()) {
            ([Ok(true)], Some(first)) => first.compiled.clone(),
            _ => None,
        };
        let built_in = self.rules.built_in;
        let broken = self.affected.iter().filter(|it| it.breaks_datasets());
        let forced = broken.map(Affected::audit).collect();
        let version = |it: Renewed| NewVersion {
            references: it.closure.iter().map(|it| it.id().into()).collect(),
            document: it.item.document,
            built_in: built_in && it.item.place.is_some(),
        };
        let versions = self.renewed.into_iter().map(version).collect();
        Judgement {
            registration: Registration { versions, forced, seen: catalog.seen() },
            verdicts,
            left_behind: self.left_behind,
            affected: self.affected,
            compiled,
        }
    }
}

/// Does costly work on each item, on all cores, until it is told to stop or one piece fails.
fn each<T: Sync, R: Send>(
    items: &[T],
    stop: Stop<'_>,
    work: impl Fn(&T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let one = |item: &T| stop().and_then(|()| work(item));
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if items.len() < 2 || cores < 2 {
        return items.iter().map(one).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let failed = Mutex::new(None);
    let lost = |_poison| ();
    let worker = || {
        while let Some((place, item)) = Some(next.fetch_add(1, Ordering::Relaxed))
            .and_then(|place| items.get(place).map(|item| (place, item)))
        {
            match one(item) {
                Ok(found) => lock(&done).push((place, found)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                    return;
                }
            }
        }
    };
    let outcome = thread::scope(|scope| {
        let workers: Vec<_> = (1..cores.min(items.len()))
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, worker).ok())
            .collect();
        worker();
        workers.into_iter().try_for_each(|it| it.join().map_err(lost))
    });
    outcome.map_err(|()| Error::Internal)?;
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, found)| found).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
