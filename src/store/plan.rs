//! A filter with its names looked up, and what its datasets have lost.

use std::sync::Arc;

use crate::{
    condition::Expression,
    model::{
        EventFilter, EventTypePattern, Invalid, Position, RecordedEvent, Tagged, TimeRange,
        Timestamp, json::Document,
    },
    storage::{
        Floors, Lookup, Query, Span, Storage, StorageError, Term, dataset_of, holders,
        pb::EventRecord,
    },
    store::{Error, EventDefinition, Resource, catalog::Catalog, faults::Faults},
};

/// Lookups of a plan that is simple.
const SIMPLE_LOOKUPS_MAX: usize = 8;

/// By what a filter's events are found in the log; what else it asks for is asked of those. The first that the filter has
/// a value for, since the most selective mostly comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterIndex {
    /// Identities and namespaces.
    Identity,
    /// Event definitions that were matched.
    EventDefinition,
    /// Event types.
    EventType,
    /// Schemas and versions of them.
    Schema,
    /// Datasets.
    Dataset,
    /// None: every event is looked at.
    FullScan,
}

/// A filter with names looked up: what the index answers, and what is left to test.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) query: Query,
    /// By what the query's first clause finds.
    pub(crate) index: FilterIndex,
    event_time: TimeRange,
    record_time: TimeRange,
    /// Which schemas may have judged its events, each list of `$id`s for itself; empty: any.
    schemas: [Vec<Arc<str>>; 2],
    /// What events are tested by.
    condition: Option<Arc<Expression>>,
    /// What delivers them.
    delivering: Option<Arc<EventDefinition>>,
    /// Where it is counted that the condition came to nothing, if it is.
    faults: Option<Arc<Faults>>,
}

impl Plan {
    /// Looks up the filter's names.
    pub(crate) fn new(filter: &EventFilter, catalog: &Catalog) -> Result<Self, Error> {
        let mut clauses: Vec<(FilterIndex, Vec<Lookup>)> = Vec::new();
        // The rarest first: an empty clause ends a lookup.
        if !filter.identities.is_empty() {
            let identities = filter.identities.iter().map(|it| {
                Lookup::Exact(match &it.id {
                    Some(id) => Term::identity(&it.namespace, id),
                    None => Term::namespace(&it.namespace),
                })
            });
            clauses.push((FilterIndex::Identity, identities.collect()));
        }
        if !filter.event_definitions.is_empty() {
            let names = filter.event_definitions.iter();
            let definitions: Vec<_> =
                names.map(|name| catalog.event_definition(name)).collect::<Result<_, Error>>()?;
            clauses.extend(matching(&definitions, catalog)?);
        }
        let delivering = match &filter.deliver_as {
            Some(name) => {
                let definition = Arc::clone(catalog.event_definition(name)?);
                clauses.extend(matching(&[&definition], catalog)?);
                Some(definition)
            }
            None => None,
        };
        if !filter.event_types.is_empty() {
            let types = filter.event_types.iter().map(|it| match it {
                EventTypePattern::Exact(name) => Lookup::Exact(Term::event_type(name)),
                EventTypePattern::Prefix(prefix) => Lookup::Prefix(Term::event_type(prefix)),
            });
            clauses.push((FilterIndex::EventType, types.collect()));
        }
        if !filter.schemas.is_empty() {
            let mut lookups = Vec::new();
            for id in &filter.schemas {
                let versions = catalog.schema_versions(id)?;
                lookups.extend(versions.iter().map(|it| Lookup::Exact(Term::schema(it.number))));
            }
            clauses.push((FilterIndex::Schema, lookups));
        }
        if !filter.schema_versions.is_empty() {
            let mut lookups = Vec::new();
            for wanted in &filter.schema_versions {
                let versions = catalog.schema_versions(&wanted.id)?.iter();
                let versions = versions.filter(|it| wanted.contains(it.version));
                lookups.extend(versions.map(|it| Lookup::Exact(Term::schema(it.number))));
            }
            clauses.push((FilterIndex::Schema, lookups));
        }
        let condition = match &filter.condition {
            Some(text) => Some(Arc::new(compile(text)?)),
            None => None,
        };
        let tagged = filter.tagged;
        let datasets = if filter.datasets.is_empty() {
            None
        } else {
            let mut numbers = Vec::new();
            for name in &filter.datasets {
                numbers.extend(holders(catalog.dataset(name.as_str())?.number, tagged));
            }
            Some(numbers)
        };
        let index = match clauses.first() {
            Some((index, _)) => *index,
            None if datasets.is_some() || tagged == Tagged::Only => FilterIndex::Dataset,
            None => FilterIndex::FullScan,
        };
        let clauses = clauses.into_iter().map(|it| it.1).collect();
        let query = Query { clauses, datasets, floors: Arc::clone(catalog.floors()), tagged };
        let EventFilter { event_time, record_time, .. } = *filter;
        let versions = filter.schema_versions.iter().map(|it| Arc::clone(&it.id));
        let schemas = [filter.schemas.clone(), versions.collect()];
        let faults = None;
        Ok(Self { query, index, event_time, record_time, schemas, condition, delivering, faults })
    }

    /// Counts events of which the condition comes to nothing.
    pub(crate) fn count_faults(&mut self, faults: &Arc<Faults>) {
        self.faults = Some(Arc::clone(faults));
    }

    /// Fails when a dataset that the filter names was deleted since.
    pub(crate) fn check(&self, catalog: &Catalog) -> Result<(), Error> {
        let datasets = self.query.datasets.iter().flatten().map(|it| dataset_of(*it));
        let mut deleted =
            datasets.filter_map(|it| catalog.dataset_by_number(it)).filter(|it| it.deleted);
        match deleted.next() {
            Some(dataset) => Err(Error::not_found(Resource::Dataset, dataset.name.as_str())),
            None => Ok(()),
        }
    }

    /// The last event after `after` that the plan's datasets have lost since floors were those of the
    /// plan; `START` when they have lost none. A dataset that was deleted cannot be selected any
    /// more, so what it held is not missing.
    pub(crate) fn lost(&self, catalog: &Catalog, after: Position) -> Position {
        let rose = |dataset: u32, floor: Position| {
            let seen = after.max(self.query.floors.of(dataset));
            let kept = floor != Floors::DELETED;
            (kept && floor > seen && self.is_of(catalog, dataset)).then_some(floor)
        };
        self.each_floor(catalog, rose).max().unwrap_or(Position::START)
    }

    /// Whether what the plan selects after `after` is not what it was when floors were those of the
    /// plan.
    pub(crate) fn is_outdated(&self, catalog: &Catalog, after: Position) -> bool {
        self.is_outdated_since(&self.query.floors, catalog, after)
    }

    /// The same since floors were those.
    pub(crate) fn is_outdated_since(
        &self,
        floors: &Arc<Floors>,
        catalog: &Catalog,
        after: Position,
    ) -> bool {
        let rose = |dataset: u32, floor: Position| {
            (floor > after.max(floors.of(dataset))).then_some(floor)
        };
        !Arc::ptr_eq(catalog.floors(), floors) && self.each_floor(catalog, rose).next().is_some()
    }

    /// Calls `f` with the floors of the datasets that the plan may select.
    fn each_floor<T>(
        &self,
        catalog: &Catalog,
        f: impl Fn(u32, Position) -> Option<T>,
    ) -> impl Iterator<Item = T> {
        let floors = catalog.floors();
        let datasets: Vec<u32> = match &self.query.datasets {
            Some(datasets) => datasets.iter().map(|it| dataset_of(*it)).collect(),
            None => floors.iter().map(|it| it.0).collect(),
        };
        datasets.into_iter().filter_map(move |it| f(it, floors.of(it)))
    }

    fn is_of(&self, catalog: &Catalog, dataset: u32) -> bool {
        let schema = catalog.dataset_by_number(dataset).map(|it| &it.settings.schema_id);
        let is_named = |names: &Vec<_>| schema.is_some_and(|schema| names.contains(schema));
        self.schemas.iter().all(|names| names.is_empty() || is_named(names))
    }

    /// Narrows a span by record time, which follows position.
    pub(crate) fn narrow(&self, storage: &Storage, span: Span) -> Result<Span, StorageError> {
        let mut narrow = span;
        if let Some(start) = self.record_time.start {
            let before = storage.last_before(start.micros_ceil(), span.until)?;
            narrow.after = narrow.after.max(before);
        }
        if let Some(end) = self.record_time.end {
            let before = storage.last_before(end.micros_ceil(), span.until)?;
            narrow.until = narrow.until.min(before);
        }
        Ok(narrow)
    }

    /// Whether it asks little of the index: a few exact terms, and no search by record time.
    pub(crate) fn is_simple(&self) -> bool {
        let mut lookups = self.query.clauses.iter().flatten();
        self.record_time.is_unbounded()
            && lookups.clone().count() <= SIMPLE_LOOKUPS_MAX
            && lookups.all(|it| matches!(it, Lookup::Exact(_)))
    }

    /// Whether every stored event is wanted, but for tagged ones perhaps, and none is gone.
    pub(crate) fn selects_all(&self) -> bool {
        let Query { clauses, datasets, floors, tagged } = &self.query;
        let few = *tagged == Tagged::Only;
        clauses.is_empty() && datasets.is_none() && floors.is_empty() && !few
    }

    /// Whether the index alone decides, apart from record time.
    pub(crate) fn is_exact(&self) -> bool {
        self.event_time.is_unbounded() && self.condition.is_none() && self.delivering.is_none()
    }

    /// An event as it is delivered; `None` when it is not. What the catalog says now counts: a definition
    /// may have got a version since.
    pub(crate) fn deliver(&self, catalog: &Catalog, event: RecordedEvent) -> Option<RecordedEvent> {
        let Some(seen) = &self.delivering else { return Some(event) };
        let definition = catalog.event_definition_by_number(seen.number).unwrap_or(seen);
        definition.deliver(catalog, event)
    }

    pub(crate) fn selects(
        &self,
        position: Position,
        record: &EventRecord,
        record_time: Timestamp,
    ) -> bool {
        if !self.query.tagged.wants(!record.violations.is_empty())
            || !self.record_time.contains(record_time)
            || !self.event_time.contains(event_time(record))
        {
            return false;
        }
        let Some(condition) = &self.condition else { return true };
        holds(condition, record, record_time).unwrap_or_else(|why| {
            if let Some(faults) = &self.faults {
                faults.add(position, record_time, why);
            }
            false
        })
    }
}

/// Clauses that select what matches one of these definitions.
fn matching(
    definitions: &[&Arc<EventDefinition>],
    catalog: &Catalog,
) -> Result<Vec<(FilterIndex, Vec<Lookup>)>, Error> {
    let index = FilterIndex::EventDefinition;
    let terms = definitions.iter().map(|it| Lookup::Exact(Term::event_definition(it.number)));
    let mut lookups: Vec<_> = terms.collect();
    let listed = definitions.iter().filter_map(|it| it.backfill.as_ref());
    let listed: Vec<_> = listed.map(|it| Lookup::Listed(Arc::clone(&it.positions))).collect();
    if listed.is_empty() {
        return Ok(vec![(index, lookups)]);
    }
    lookups.extend(listed);
    // Of the listed ones, those that are still there.
    let mut schemas = Vec::new();
    for definition in definitions {
        let versions = catalog.schema_versions(&definition.settings.spec.schema_id)?;
        schemas.extend(versions.iter().map(|it| Lookup::Exact(Term::schema(it.number))));
    }
    Ok(vec![(index, lookups), (FilterIndex::Schema, schemas)])
}

/// Whether a condition holds, or why it comes to nothing.
fn holds(
    condition: &Expression,
    record: &EventRecord,
    record_time: Timestamp,
) -> Result<bool, String> {
    let text = str::from_utf8(&record.payload).unwrap_or_default();
    let document = Document::parse(text).map_err(|error| error.message)?;
    condition.holds(document.root(), record_time).map_err(|fault| fault.describe().to_owned())
}

/// The condition of a filter, which knows of no schema.
fn compile(text: &str) -> Result<Expression, Error> {
    Expression::condition(text, None).map_err(|problems| {
        let invalid = |message: String| Invalid::new("filter.where", message);
        Error::Filter(problems.messages().map(invalid).collect())
    })
}

pub(crate) fn event_time(record: &EventRecord) -> Timestamp {
    Timestamp::new(record.event_time_seconds, record.event_time_nanos).unwrap_or_default()
}
