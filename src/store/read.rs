//! Reading: one path for old and new events, through the log or through the index.

use std::{collections::VecDeque, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use bytestring::ByteString;

use crate::{
    model::{
        DeadLetter, Direction, EventFilter, Identity, Position, RecordedEvent, Release, Timestamp,
        Violation,
    },
    storage::{
        Block, Floors, Scan, Span, Storage,
        pb::{EventRecord, IdentityRecord, MatchRecord},
    },
    store::{
        Error,
        catalog::Catalog,
        mend::mending,
        plan::{Plan, event_time},
    },
};

/// What bounds a page: a response, and how long it takes to make.
struct PageBounds {
    events: usize,
    /// Payload bytes, unless a single event has more.
    bytes: usize,
    /// Events tested; then the page is returned as it is, so that progress shows.
    scanned: usize,
    /// Positions that the index may find at a time.
    found: u64,
}

const PAGE: PageBounds =
    PageBounds { events: 512, bytes: 1024 * 1024, scanned: 8 * 1024, found: u64::MAX };
/// A page that costs no more than handing its making to another thread and back.
const SMALL_PAGE: PageBounds = PageBounds { events: 16, bytes: 64 * 1024, scanned: 16, found: 64 };
/// Times that a count is begun again because a trim went between; then it stands as it is.
const COUNT_ROUNDS_MAX: usize = 8;

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
    /// What happens when `after` is below lost events.
    pub below_floor: BelowFloor,
}

/// What happens to a read or follow that is to start below events that its datasets have lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BelowFloor {
    /// It is refused.
    #[default]
    Fail,
    /// It is told of the gap and goes on.
    Clamp,
}

/// Positions between which events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first that may be missing.
    pub from: Position,
    /// The last that is.
    pub to: Position,
}

/// Some events, and how far the filter has been evaluated.
#[derive(Debug)]
pub struct Page {
    /// In the read's direction; perhaps none.
    pub events: Vec<RecordedEvent>,
    /// Evaluated up to and including this position, in the read's direction.
    pub scanned_to: Position,
    /// What is missing of what is left; then there are no events.
    pub gap: Option<Gap>,
    /// Nothing is left.
    pub done: bool,
    /// Events that were looked at for it.
    pub looked_at: u64,
    /// The losses that its reader has been told of, with this page.
    pub(crate) floors: Arc<Floors>,
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

/// A read under way. It reads under the floors that its plan holds; when they have moved it says so,
/// once, and goes on under the new ones.
pub(crate) struct Reader {
    storage: Arc<Storage>,
    plan: Plan,
    /// What is left.
    span: Span,
    direction: Direction,
    source: Source,
    /// Evaluated up to here, in direction.
    at: Position,
    left: u64,
    block: Option<Arc<Block>>,
    /// The first page has been asked for.
    begun: bool,
    /// Events that may be looked at for the next page.
    most: usize,
}

/// What comes next of what a reader looks at.
enum Candidate {
    Position(Position),
    /// More than the page's bounds allow.
    TooMany,
    End,
}

impl Reader {
    /// A read of `span`, which must be durable, for someone who knows of the losses that `floors`
    /// tell.
    pub(crate) fn new(
        storage: Arc<Storage>,
        mut plan: Plan,
        floors: Arc<Floors>,
        span: Span,
        direction: Direction,
        limit: u64,
    ) -> Self {
        plan.query.floors = floors;
        let (source, at, left, block) = (Source::Unasked, Position::START, limit, None);
        let (begun, most) = (false, usize::MAX);
        Self { storage, plan, span, direction, source, at, left, block, begun, most }
    }

    /// Bounds the events that are looked at for the next page; at least one.
    pub(crate) fn look_at_most(&mut self, events: usize) {
        self.most = events;
    }

    /// What the reader's owner has been told of.
    pub(crate) fn floors(&self) -> &Arc<Floors> {
        &self.plan.query.floors
    }

    /// Another reader of what is left.
    pub(crate) fn rest(&self) -> Self {
        let (storage, plan) = (Arc::clone(&self.storage), self.plan.clone());
        Self { storage, plan, source: Source::Unasked, block: None, ..*self }
    }

    /// Passes over a page that a reader of the rest has made.
    pub(crate) fn pass(&mut self, page: &Page) {
        match self.direction {
            Direction::Forward => self.span.after = page.scanned_to,
            Direction::Backward => self.span.until = page.scanned_to.previous(),
        }
        self.left = self.left.saturating_sub(page.events.len() as u64);
        self.plan.query.floors = Arc::clone(&page.floors);
    }

    /// Whether the next page would not be now what it was when a reader of the rest made it.
    pub(crate) fn is_outdated(&self, page: &Page, catalog: &Catalog) -> bool {
        self.plan.is_outdated_since(&page.floors, catalog, self.span.after)
    }

    /// The first page, as far as it is soon made; `None` when there is no such page, and later on.
    /// Most reads are small: of one person, or of what a follower has not seen yet.
    pub(crate) fn small_page(
        &mut self,
        catalogs: &ArcSwap<Catalog>,
    ) -> Result<Option<Page>, Error> {
        if self.begun || !self.plan.is_simple() {
            return Ok(None);
        }
        let page = self.page(catalogs, &SMALL_PAGE)?;
        Ok(Some(page).filter(|page| page.done || page.gap.is_some() || !page.events.is_empty()))
    }

    /// The next events, or what is missing of them. Reads the disk.
    pub(crate) fn next_page(&mut self, catalogs: &ArcSwap<Catalog>) -> Result<Page, Error> {
        self.page(catalogs, &PAGE)
    }

    fn page(&mut self, catalogs: &ArcSwap<Catalog>, bounds: &PageBounds) -> Result<Page, Error> {
        self.begun = true;
        loop {
            let catalog = catalogs.load_full();
            if matches!(self.source, Source::Unasked) {
                self.span = self.plan.narrow(&self.storage, self.span)?;
            }
            if let Some(gap) = self.follow_floors(&catalog)? {
                let scanned_to = self.start_at();
                let (events, gap) = (Vec::new(), Some(gap));
                let floors = Arc::clone(self.floors());
                return Ok(Page { events, scanned_to, gap, done: false, looked_at: 0, floors });
            }
            if matches!(self.source, Source::Unasked) {
                self.start();
            }
            let left = self.left;
            let page = self.read_page(&catalog, bounds)?;
            if !self.plan.is_outdated(&catalogs.load(), self.span.after) {
                match self.direction {
                    Direction::Forward => self.span.after = self.at,
                    Direction::Backward => self.span.until = self.at.previous(),
                }
                return Ok(page);
            }
            // A trim went between, and compaction may have taken events from under the page. It is
            // read again, after its reader is told what is missing.
            self.left = left;
            self.source = Source::Unasked;
        }
    }

    /// Takes up the floors of now; what was lost of what is left.
    fn follow_floors(&mut self, catalog: &Catalog) -> Result<Option<Gap>, Error> {
        if Arc::ptr_eq(catalog.floors(), self.floors()) {
            return Ok(None);
        }
        self.plan.check(catalog)?;
        let after = self.span.after;
        let lost = self.plan.lost(catalog, after);
        if self.plan.is_outdated(catalog, after) {
            self.source = Source::Unasked;
        }
        self.plan.query.floors = Arc::clone(catalog.floors());
        let missing = lost > Position::START && !self.span.is_empty();
        Ok(missing.then_some(Gap { from: after.next(), to: lost }))
    }

    /// Asks the index, or the log itself when everything is wanted.
    fn start(&mut self) {
        self.at = self.start_at();
        self.source = if self.plan.selects_all() {
            Source::Log
        } else {
            let parts = self.storage.scan(self.plan.query.clone(), self.span, self.direction);
            Source::Index { parts, part: VecDeque::new() }
        };
    }

    /// Before the first position that is left, in direction.
    fn start_at(&self) -> Position {
        match self.direction {
            Direction::Forward => self.span.after,
            Direction::Backward => self.span.until.next(),
        }
    }

    fn read_page(&mut self, catalog: &Catalog, bounds: &PageBounds) -> Result<Page, Error> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(bounds.events);
        let (mut events, mut bytes, mut scanned) = (Vec::with_capacity(room), 0, 0);
        let floors = Arc::clone(self.floors());
        let page = |events, scanned_to, done, scanned: usize| Page {
            events,
            scanned_to,
            gap: None,
            done,
            looked_at: scanned as u64,
            floors,
        };
        let most = bounds.scanned.min(self.most);
        while events.len() < bounds.events && bytes < bounds.bytes && scanned < most {
            if self.left == 0 {
                return Ok(page(events, self.at, true, scanned));
            }
            let position = match self.next_candidate(bounds.found)? {
                Candidate::Position(position) => position,
                Candidate::TooMany => break,
                Candidate::End => {
                    self.at = match self.direction {
                        Direction::Forward => self.span.until,
                        Direction::Backward => self.span.after.next(),
                    };
                    return Ok(page(events, self.at, true, scanned));
                }
            };
            self.at = position;
            scanned += 1;
            let block = self.block_of(position)?;
            let Some(record) = block.get(position)? else { continue };
            let record_time = block.record_time(&record);
            if self.plan.selects(position, &record, record_time)
                && let Some(event) = recorded(catalog, position, record, record_time)?
                && let Some(event) = self.plan.deliver(catalog, event)
            {
                bytes += event.payload.len();
                events.push(event);
                self.left -= 1;
            }
        }
        Ok(page(events, self.at, false, scanned))
    }

    fn next_candidate(&mut self, found_max: u64) -> Result<Candidate, Error> {
        match &mut self.source {
            Source::Unasked => Ok(Candidate::End),
            Source::Log => {
                let next = match self.direction {
                    Direction::Forward => self.at.next(),
                    Direction::Backward => self.at.previous(),
                };
                let is_left = self.span.contains(next);
                Ok(if is_left { Candidate::Position(next) } else { Candidate::End })
            }
            Source::Index { parts, part } => loop {
                if let Some(position) = part.pop_front() {
                    return Ok(Candidate::Position(position));
                }
                if found_max < u64::MAX && !parts.next_is_short(found_max)? {
                    return Ok(Candidate::TooMany);
                }
                match parts.next_part() {
                    Some(found) => *part = found?.into(),
                    None => return Ok(Candidate::End),
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

/// Counts what a filter selects inside a durable span. Reads events only when the index cannot tell.
pub(crate) fn count(
    storage: &Arc<Storage>,
    catalogs: &ArcSwap<Catalog>,
    filter: &EventFilter,
    span: Span,
) -> Result<u64, Error> {
    for _ in 0..COUNT_ROUNDS_MAX {
        let catalog = catalogs.load_full();
        let plan = Plan::new(filter, &catalog)?;
        if !plan.is_exact() {
            break;
        }
        let narrow = plan.narrow(storage, span)?;
        let count = if narrow.is_empty() { 0 } else { storage.count(&plan.query, narrow)? };
        // Otherwise compaction may have taken some of the postings while they were counted.
        if !plan.is_outdated(&catalogs.load(), span.after) {
            return Ok(count);
        }
    }
    let catalog = catalogs.load_full();
    let (plan, floors) = (Plan::new(filter, &catalog)?, Arc::clone(catalog.floors()));
    let (direction, limit) = (Direction::Forward, u64::MAX);
    let mut reader = Reader::new(Arc::clone(storage), plan, floors, span, direction, limit);
    let mut count = 0;
    loop {
        let page = reader.next_page(catalogs)?;
        count += page.events.len() as u64;
        if page.done {
            return Ok(count);
        }
    }
}

/// A stored record with its names; `None` when a name is not there.
pub(crate) fn recorded(
    catalog: &Catalog,
    position: Position,
    record: EventRecord,
    record_time: Timestamp,
) -> Result<Option<RecordedEvent>, Error> {
    let dataset = catalog.dataset_by_number(record.dataset);
    let schema = catalog.schema_by_number(record.schema);
    let (Some(dataset), Some(schema)) = (dataset, schema) else { return Ok(None) };
    let event_time = event_time(&record);
    let definition = |it: &MatchRecord| catalog.event_definition_by_number(it.definition);
    let definitions = record.matches.iter().filter_map(definition);
    let mut definitions: Vec<_> = definitions.chain(catalog.backfilled_at(position)).collect();
    definitions.sort_unstable_by_key(|it| it.number);
    let event_definitions = definitions.iter().map(|it| it.name.shared()).collect();
    let damaged = || {
        tracing::error!(%position, "a text of the event is not UTF-8");
        Error::Corrupt
    };
    let identities: Option<_> = record.identities.into_iter().map(identity).collect();
    Ok(Some(RecordedEvent {
        position,
        record_time,
        dataset: dataset.name.shared(),
        event_id: text(record.event_id).ok_or_else(damaged)?,
        event_type: text(record.event_type).ok_or_else(damaged)?,
        event_time,
        identities: identities.ok_or_else(damaged)?,
        schema_id: Arc::clone(&schema.id),
        schema_version: schema.version,
        event_definitions,
        delivery: None,
        payload: record.payload,
        mendings: record.mendings.into_iter().map(mending).collect(),
        violations: record.violations.into_iter().map(Violation::from).collect(),
        dead_letter: record.dead_letter.map(|it| DeadLetter {
            subscription: it.subscription,
            position: Position::new(it.position),
            reason: it.reason,
        }),
        release: record.release.map(|it| Release {
            id: it.quarantine_id,
            receive_time: Timestamp::from_micros(it.receive_time_us),
        }),
    }))
}

/// An identity of a record; `None` when a text of it is not UTF-8.
pub(crate) fn identity(it: IdentityRecord) -> Option<Identity> {
    Some(Identity { namespace: text(it.namespace)?, id: text(it.id)?, primary: it.primary })
}

fn text(bytes: Bytes) -> Option<ByteString> {
    ByteString::try_from(bytes).ok()
}

fn missing(position: Position) -> Error {
    tracing::error!(%position, "the log has no event where the index has one");
    Error::Corrupt
}
