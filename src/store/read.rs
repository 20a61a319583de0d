//! Reading: one path for old and new events, through the log or through the index.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    model::{
        Direction, EventFilter, EventTypePattern, Identity, Position, RecordedEvent, TimeRange,
        Timestamp,
    },
    storage::{
        Block, Lookup, Query, Scan, Span, Storage, StorageError, Term,
        pb::{EventRecord, IdentityRecord},
    },
    store::{Error, catalog::Catalog},
};

/// Events in one page. Bounds a response and how long a page takes.
pub(crate) const PAGE_EVENTS_MAX: usize = 512;
/// Payload bytes in one page, unless a single event has more.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Events tested for one page; then it is returned as it is, so that progress shows.
const PAGE_SCANNED_MAX: usize = 8 * 1024;

/// What to read.
#[derive(Clone, Debug)]
pub struct Read {
    /// Which events.
    pub filter: EventFilter,
    /// Only events after this position.
    pub after: Position,
    /// Only events before this position; `START`: up to the last.
    pub before: Position,
    /// Which end first.
    pub direction: Direction,
    /// At most this many events.
    pub limit: u64,
}

/// Some events, and how far the filter has been evaluated.
#[derive(Debug)]
pub struct Page {
    /// In the read's direction; perhaps none.
    pub events: Vec<RecordedEvent>,
    /// Evaluated up to and including this position, in the read's direction.
    pub scanned_to: Position,
    /// Nothing is left.
    pub done: bool,
}

/// A filter with names looked up: what the index answers, and what is left to test.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) query: Query,
    event_time: TimeRange,
    record_time: TimeRange,
}

impl Plan {
    /// Looks up the filter's names.
    pub(crate) fn new(filter: &EventFilter, catalog: &Catalog) -> Result<Self, Error> {
        let mut clauses = Vec::new();
        // The rarest first: an empty clause ends a lookup.
        if !filter.identities.is_empty() {
            clauses.push(
                filter
                    .identities
                    .iter()
                    .map(|it| {
                        Lookup::Exact(match &it.id {
                            Some(id) => Term::identity(&it.namespace, id),
                            None => Term::namespace(&it.namespace),
                        })
                    })
                    .collect(),
            );
        }
        if !filter.event_types.is_empty() {
            clauses.push(
                filter
                    .event_types
                    .iter()
                    .map(|it| match it {
                        EventTypePattern::Exact(name) => Lookup::Exact(Term::event_type(name)),
                        EventTypePattern::Prefix(prefix) => {
                            Lookup::Prefix(Term::event_type(prefix))
                        }
                    })
                    .collect(),
            );
        }
        if !filter.schemas.is_empty() {
            let mut lookups = Vec::new();
            for id in &filter.schemas {
                let versions = catalog.schema_versions(id)?;
                lookups.extend(versions.iter().map(|it| Lookup::Exact(Term::schema(it.number))));
            }
            clauses.push(lookups);
        }
        let datasets = if filter.datasets.is_empty() {
            None
        } else {
            let datasets = filter.datasets.iter().map(|name| catalog.dataset(name.as_str()));
            Some(datasets.map(|it| it.map(|it| it.number)).collect::<Result<_, _>>()?)
        };
        let query = Query { clauses, datasets, floors: Arc::clone(catalog.floors()) };
        Ok(Self { query, event_time: filter.event_time, record_time: filter.record_time })
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

    /// Whether every stored event is wanted and none is gone.
    fn selects_all(&self) -> bool {
        let Query { clauses, datasets, floors } = &self.query;
        clauses.is_empty() && datasets.is_none() && floors.is_empty()
    }

    /// Whether the index alone decides, apart from record time.
    fn is_exact(&self) -> bool {
        self.event_time.is_unbounded()
    }

    fn selects(&self, record: &EventRecord, record_time: Timestamp) -> bool {
        self.record_time.contains(record_time) && self.event_time.contains(event_time(record))
    }
}

fn event_time(record: &EventRecord) -> Timestamp {
    Timestamp::new(record.event_time_seconds, record.event_time_nanos).unwrap_or_default()
}

/// Where candidate positions come from.
enum Source {
    /// Not asked yet: making a reader touches no disk.
    Unasked,
    /// Every position of the span, straight from the log.
    Log,
    /// What the index selects; `part` holds what is left of the part under way, in direction.
    Index { parts: Scan, part: VecDeque<Position> },
}

/// A read under way.
pub(crate) struct Reader {
    storage: Arc<Storage>,
    plan: Plan,
    span: Span,
    direction: Direction,
    source: Source,
    /// Evaluated up to here, in direction.
    at: Position,
    left: u64,
    block: Option<Arc<Block>>,
}

impl Reader {
    /// A read of `span`, which must be durable.
    pub(crate) fn new(
        storage: Arc<Storage>,
        plan: Plan,
        span: Span,
        direction: Direction,
        limit: u64,
    ) -> Self {
        let (source, at, left, block) = (Source::Unasked, Position::START, limit, None);
        Self { storage, plan, span, direction, source, at, left, block }
    }

    /// Finds where to begin.
    fn start(&mut self) -> Result<(), StorageError> {
        self.span = self.plan.narrow(&self.storage, self.span)?;
        self.at = match self.direction {
            Direction::Forward => self.span.after,
            Direction::Backward => self.span.until.next(),
        };
        self.source = if self.plan.selects_all() {
            Source::Log
        } else {
            let parts = self.storage.scan(self.plan.query.clone(), self.span, self.direction);
            Source::Index { parts, part: VecDeque::new() }
        };
        Ok(())
    }

    /// The next events. Reads the disk.
    pub(crate) fn next_page(&mut self, catalog: &Catalog) -> Result<Page, Error> {
        if matches!(self.source, Source::Unasked) {
            self.start()?;
        }
        let (mut events, mut bytes, mut scanned) = (Vec::new(), 0, 0);
        while events.len() < PAGE_EVENTS_MAX && bytes < PAGE_BYTES_MAX && scanned < PAGE_SCANNED_MAX
        {
            if self.left == 0 {
                return Ok(Page { events, scanned_to: self.at, done: true });
            }
            let Some(position) = self.next_candidate()? else {
                self.at = match self.direction {
                    Direction::Forward => self.span.until,
                    Direction::Backward => self.span.after.next(),
                };
                return Ok(Page { events, scanned_to: self.at, done: true });
            };
            self.at = position;
            scanned += 1;
            let block = self.block_of(position)?;
            let Some(record) = block.get(position)? else { continue };
            let record_time = block.record_time(&record);
            if self.plan.selects(&record, record_time)
                && let Some(event) = recorded(catalog, position, record, record_time)
            {
                bytes += event.payload.len();
                events.push(event);
                self.left -= 1;
            }
        }
        Ok(Page { events, scanned_to: self.at, done: false })
    }

    fn next_candidate(&mut self) -> Result<Option<Position>, Error> {
        match &mut self.source {
            Source::Unasked => Ok(None),
            Source::Log => {
                let next = match self.direction {
                    Direction::Forward => self.at.next(),
                    Direction::Backward => self.at.previous(),
                };
                Ok(Some(next).filter(|next| self.span.contains(*next)))
            }
            Source::Index { parts, part } => loop {
                if let Some(position) = part.pop_front() {
                    return Ok(Some(position));
                }
                match parts.next_part() {
                    Some(found) => *part = found?.into(),
                    None => return Ok(None),
                }
                if self.direction == Direction::Backward {
                    part.make_contiguous().reverse();
                }
            },
        }
    }

    fn block_of(&mut self, position: Position) -> Result<Arc<Block>, Error> {
        if let Some(block) = self.block.take().filter(|block| block.contains(position)) {
            self.block = Some(Arc::clone(&block));
            return Ok(block);
        }
        let block = self.storage.block(position)?.ok_or_else(|| missing(position))?;
        self.block = Some(Arc::clone(&block));
        Ok(block)
    }
}

/// Counts what a plan selects inside a durable span. Reads events only when the index cannot tell.
pub(crate) fn count(
    storage: &Arc<Storage>,
    catalog: &Catalog,
    plan: Plan,
    span: Span,
) -> Result<u64, Error> {
    let narrow = plan.narrow(storage, span)?;
    if narrow.is_empty() {
        return Ok(0);
    }
    if plan.is_exact() {
        return Ok(storage.count(&plan.query, narrow)?);
    }
    let mut reader = Reader::new(Arc::clone(storage), plan, span, Direction::Forward, u64::MAX);
    let mut count = 0;
    loop {
        let page = reader.next_page(catalog)?;
        count += page.events.len() as u64;
        if page.done {
            return Ok(count);
        }
    }
}

/// A stored record with its names; `None` when it is gone.
pub(crate) fn recorded(
    catalog: &Catalog,
    position: Position,
    record: EventRecord,
    record_time: Timestamp,
) -> Option<RecordedEvent> {
    if catalog.floors().removes(record.dataset, position) {
        return None;
    }
    let dataset = catalog.dataset_by_number(record.dataset)?;
    let schema = catalog.schema_by_number(record.schema)?;
    let event_time = event_time(&record);
    let identity =
        |it: IdentityRecord| Identity { namespace: it.namespace, id: it.id, primary: it.primary };
    Some(RecordedEvent {
        position,
        record_time,
        dataset: dataset.name.shared(),
        event_id: record.event_id,
        event_type: record.event_type,
        event_time,
        identities: record.identities.into_iter().map(identity).collect(),
        schema_id: Arc::clone(&schema.id),
        schema_version: schema.version,
        payload: record.payload,
    })
}

fn missing(position: Position) -> Error {
    tracing::error!(%position, "the log has no event where the index has one");
    Error::Corrupt
}
