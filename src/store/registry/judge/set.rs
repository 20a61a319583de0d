//! One round of judging: documents compiled against each other and the catalog.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    model::{Invalid, Tenant, limits},
    schema::{
        self, Change, ChangeKind, Changes, CompiledSchema, Fields, SchemaDocument, SchemaProblem,
    },
    store::{
        DefinitionState, Error, EventDefinition,
        catalog::Catalog,
        registry::judge::{
            Affected, Candidates, Rules, descriptors,
            each::{Stop, each},
            round::Round,
        },
    },
};

/// Documents that an earlier round compiled, by id, with what they refer to.
pub(super) type Known = HashMap<String, Renewed>;

/// What is judged in one round.
pub(super) struct Set<'a> {
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
    /// Under whose name fields of candidates' own must stand.
    tenant: Option<Tenant>,
}

/// One document to be judged.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) document: Arc<SchemaDocument>,
    /// Its place among the candidates; `None` for one that refers to a changed document.
    pub(super) place: Option<usize>,
}

/// A document that gets a new version.
#[derive(Clone)]
pub(super) struct Renewed {
    pub(super) item: Item,
    pub(super) closure: Vec<Arc<SchemaDocument>>,
    pub(super) compiled: Option<Arc<CompiledSchema>>,
    pub(super) affected: Option<Affected>,
}

impl<'a> Set<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        candidates: &'a Candidates,
        verdicts: &[Result<bool, Error>],
        known: Known,
        rules: &Rules,
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
        let tenant = rules.tenant.clone().filter(|_| !rules.built_in);
        Self { catalog, fresh, changed, bindings, known, keep_compiled, tenant }
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

    pub(super) fn judge(
        &self,
        verdicts: &mut [Result<bool, Error>],
        rules: &Rules,
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
            built_in: rules.built_in,
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
        descriptors::check(self.catalog, document, &closure)?;
        if let (Some(tenant), Some(_)) = (&self.tenant, item.place) {
            schema::check_tenant(document, &closure, tenant)?;
        }
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
        | SchemaProblem::Tenant(_)
        | SchemaProblem::Descriptors(_)
        | SchemaProblem::Cycle { .. }
        | SchemaProblem::TooLarge { .. } => problem,
    }
}

fn closure_len(renewed: &Renewed) -> usize {
    renewed.closure.len() + 1
}
