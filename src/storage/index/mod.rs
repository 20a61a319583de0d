//! The event index: who, what and where, by position.
//!
//! An in-memory tail holds the newest events; when it is full it is frozen and the packer writes it
//! as an immutable segment. A query asks segments, frozen tails and the tail, which hold
//! disjoint, ascending spans of positions, so their answers simply follow each other.
//!
//! Invariant: the index is derived. Everything in it can be rebuilt from the log, and after a crash
//! the part after the last finished segment is.

mod cache;
mod count;
mod edge;
mod filter;
mod ids;
mod merge;
mod part;
mod segment;
mod tail;
mod term;
mod verify;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::ArcSwap;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    model::{Direction, Position},
    storage::{StorageError, index::ids::Asked, pb::EventRecord, tree::Tree},
};

pub(crate) use cache::RowCache;
pub(crate) use count::Above;
pub(crate) use edge::Budget;
pub(crate) use merge::Removed;
pub(crate) use part::{DatasetTotals, Part, Totals};
pub(crate) use segment::{Pace, Reader, Segment, numbers as segment_numbers};
pub(crate) use tail::Tail;
pub(crate) use term::{Lookup, Query, Span, Term};
pub(crate) use verify::Comparison;

/// Payload bytes of a tail, however few its events: what a restart reads again.
const TAIL_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Frozen tails waiting for the packer; then appends wait. Bounds memory.
const FROZEN_MAX: usize = 4;

/// Hash under which an event id is indexed.
pub(crate) fn id_hash(dataset: u32, event_id: impl AsRef<[u8]>) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&dataset.to_be_bytes());
    hash.update(event_id.as_ref());
    hash.digest()
}

/// What readers see beside the tail.
#[derive(Clone)]
struct Sealed {
    segments: Vec<Arc<Segment>>,
    /// The same segments.
    asked: Asked,
    frozen: Vec<Arc<Tail>>,
}

/// What the sequencer adds to.
#[derive(Default)]
struct Live {
    tail: Tail,
}

/// Figures for `GetStatus`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IndexFigures {
    pub(crate) segments: u64,
    pub(crate) checkpoint: Position,
    pub(crate) tail_events: u64,
}

/// The event index. One writer, the sequencer; one that seals, the packer; any number of readers.
pub(crate) struct Index {
    /// Events in the tail before it becomes a segment.
    tail_events_max: u64,
    rows: Arc<RowCache>,
    /// Changed only while `live` is locked for writing.
    sealed: ArcSwap<Sealed>,
    /// Held while segments come and go.
    changing: Mutex<()>,
    live: RwLock<Live>,
}

impl Index {
    /// An index of these segments, ascending, whose next one begins at `after` at the earliest; the
    /// caller then adds what the log has after [`Index::checkpoint`].
    pub(crate) fn new(
        segments: Vec<Segment>,
        after: Position,
        tail_events_max: u64,
        volume_events: u64,
        rows: RowCache,
    ) -> Result<Self, StorageError> {
        let rows = Arc::new(rows);
        let mut live = Live::default();
        let mut checkpoint = Position::START;
        for segment in &segments {
            if segment.span().after < checkpoint {
                return Err(StorageError::corrupt(format!("two index segments at {checkpoint}")));
            }
            checkpoint = segment.span().until;
        }
        live.tail = Tail::after(checkpoint.max(after));
        let cached = |segment: Segment| Arc::new(segment.cached_in(&rows));
        let segments: Vec<_> = segments.into_iter().map(cached).collect();
        let mut asked = Asked::new(volume_events);
        segments.iter().try_for_each(|segment| asked.add(segment))?;
        Ok(Self {
            tail_events_max,
            rows,
            sealed: ArcSwap::from_pointee(Sealed { segments, asked, frozen: Vec::new() }),
            changing: Mutex::new(()),
            live: RwLock::new(live),
        })
    }

    /// The last position that a restart need not read again.
    pub(crate) fn checkpoint(&self) -> Position {
        let live = self.live();
        let sealed = self.sealed.load();
        let oldest = sealed.frozen.first().map_or(live.tail.span(), |frozen| frozen.span());
        oldest.after
    }

    /// Adds events that are durable, in position order, up to `last`; positions in between have
    /// none.
    pub(crate) fn add<'a>(
        &self,
        last: Position,
        events: impl Iterator<Item = (Position, u64, &'a EventRecord)>,
    ) {
        let mut live = self.live_mut();
        for (position, id_hash, record) in events {
            live.tail.add(position, id_hash, record);
        }
        live.tail.reach(last);
        if live.tail.len() >= self.tail_events_max || live.tail.payload_bytes() >= TAIL_BYTES_MAX {
            self.freeze_tail(&mut live);
        }
    }

    /// Freezes the tail, however small; the last position indexed.
    pub(crate) fn freeze(&self) -> Position {
        let mut live = self.live_mut();
        if live.tail.len() > 0 {
            self.freeze_tail(&mut live);
        }
        live.tail.span().until
    }

    fn freeze_tail(&self, live: &mut Live) {
        let base = live.tail.span().until;
        let frozen = std::mem::replace(&mut live.tail, Tail::after(base));
        self.change_sealed(|sealed| sealed.frozen.push(Arc::new(frozen)));
    }

    /// The last position indexed.
    pub(crate) fn last(&self) -> Position {
        self.live().tail.span().until
    }

    /// Positions inside `span` that the query selects, part after part.
    pub(crate) fn scan(&self, query: Query, span: Span, direction: Direction) -> Scan {
        // The tail is read under its lock together with the list of the others, so no event is
        // seen twice or not at all while a tail is frozen.
        let live = self.live();
        let sealed = self.sealed.load_full();
        let tail = live.tail.select(&query, span);
        drop(live);
        let mut parts: Vec<ScanPart> = Vec::new();
        parts.extend(sealed.segments.iter().cloned().map(ScanPart::Segment));
        parts.extend(sealed.frozen.iter().cloned().map(ScanPart::Frozen));
        parts.push(ScanPart::Found(tail));
        parts.retain(|part| part.overlaps(span));
        if direction == Direction::Forward {
            parts.reverse(); // taken from the back
        }
        Scan { query, span, parts }
    }

    /// Positions of events whose id has this hash.
    pub(crate) fn ids_with(&self, hash: u64) -> Result<Vec<Position>, StorageError> {
        let mut found = Vec::new();
        let live = self.live();
        let sealed = self.sealed.load();
        live.tail.ids_with(hash, &mut found);
        drop(live);
        sealed.frozen.iter().for_each(|tail| tail.ids_with(hash, &mut found));
        sealed.asked.ids_with(hash, &mut found)?;
        Ok(found)
    }

    pub(crate) fn figures(&self) -> IndexFigures {
        let live = self.live();
        let sealed = self.sealed.load();
        let frozen: u64 = sealed.frozen.iter().map(|tail| tail.len()).sum();
        IndexFigures {
            segments: sealed.segments.len() as u64,
            checkpoint: self.checkpoint(),
            tail_events: frozen + live.tail.len(),
        }
    }

    /// The oldest tail that is full and not written.
    pub(crate) fn first_frozen(&self) -> Option<Arc<Tail>> {
        self.sealed.load().frozen.first().cloned()
    }

    /// Whether so many tails are not written that appends must wait. Bounds memory.
    pub(crate) fn is_behind(&self) -> bool {
        self.sealed.load().frozen.len() > FROZEN_MAX
    }

    /// Puts a written segment in the place of the oldest frozen tail, which it was made of.
    pub(crate) fn seal(&self, segment: Segment) -> Result<(), StorageError> {
        let segment = Arc::new(segment.cached_in(&self.rows));
        // Whoever adds events waits for `live` only, not while a filter is made.
        let _changing = self.changing();
        let mut asked = self.sealed.load().asked.clone();
        asked.add(&segment)?;
        let _live = self.live_mut();
        self.change_sealed(|sealed| {
            debug_assert_eq!(sealed.frozen.first().map(|it| it.span()), Some(segment.span()));
            sealed.segments.push(segment);
            sealed.asked = asked;
            sealed.frozen.remove(0);
        });
        Ok(())
    }

    /// The segments of a span that begins and ends with segments.
    pub(crate) fn segments_in(&self, span: Span) -> Vec<Arc<Segment>> {
        let sealed = self.sealed.load();
        sealed.segments.iter().filter(|it| it.span().is_in(span)).cloned().collect()
    }

    /// Puts one segment, or none, in the place of the segments of a span.
    pub(crate) fn replace(&self, span: Span, with: Option<Segment>) -> Result<(), StorageError> {
        let with = with.map(|segment| Arc::new(segment.cached_in(&self.rows)));
        let _changing = self.changing();
        let mut asked = self.sealed.load().asked.clone();
        asked.remove(span);
        with.iter().try_for_each(|segment| asked.add(segment))?;
        let _live = self.live_mut();
        self.change_sealed(|sealed| {
            sealed.segments.retain(|segment| !segment.span().is_in(span));
            let at = sealed.segments.partition_point(|it| it.span().until <= span.after);
            sealed.segments.splice(at..at, with);
            sealed.asked = asked;
        });
        Ok(())
    }

    fn change_sealed(&self, change: impl FnOnce(&mut Sealed)) {
        let now = self.sealed.load();
        let mut next = Sealed::clone(&now);
        change(&mut next);
        self.sealed.store(Arc::new(next));
    }

    // A panic while a lock is held ends the sequencer, which poisons the store; readers go on.
    fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live_mut(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a frozen tail to a tree of segments.
pub(crate) fn write_segment(
    tree: &Tree,
    tail: &Tail,
    pace: Pace<'_>,
) -> Result<Segment, StorageError> {
    Segment::write(tree, segment::next_number(tree)?, tail, pace)
}

/// Opens the segments of a tree, ascending, and removes what was not finished.
pub(crate) fn open_segments(tree: &Tree) -> Result<Vec<Segment>, StorageError> {
    let mut segments = Vec::new();
    for number in segment::numbers(tree)? {
        match Segment::open(tree, number)? {
            Some(segment) => segments.push(segment),
            None => remove(tree, number)?,
        }
    }
    segments.sort_by_key(|segment| segment.span().after);
    Ok(segments)
}

fn remove(tree: &Tree, number: u32) -> Result<(), StorageError> {
    for row in tree.scan_prefix(number.to_be_bytes()).keys() {
        tree.remove(row?)?;
    }
    Ok(())
}

fn is_short(part: &impl Part, query: &Query, positions_max: u64) -> Result<bool, StorageError> {
    let Some(rarest) = query.clauses.first() else { return Ok(false) };
    let mut count = 0;
    for lookup in rarest {
        count += part.count_of(lookup, part.span())?;
        if count > positions_max {
            return Ok(false);
        }
    }
    Ok(true)
}

enum ScanPart {
    Segment(Arc<Segment>),
    Frozen(Arc<Tail>),
    /// The live tail's answer, copied while it was locked.
    Found(Result<Vec<Position>, StorageError>),
}

impl ScanPart {
    fn overlaps(&self, span: Span) -> bool {
        let part = match self {
            Self::Segment(segment) => segment.span(),
            Self::Frozen(tail) => tail.span(),
            Self::Found(_) => return true,
        };
        part.after < span.until && span.after < part.until
    }
}

/// A query under way: at most one part's positions in memory.
pub(crate) struct Scan {
    query: Query,
    span: Span,
    parts: Vec<ScanPart>,
}

impl Scan {
    /// Whether the next part is found at once: by the counts beside its postings, the rarest clause
    /// selects at most so many positions.
    pub(crate) fn next_is_short(&self, positions_max: u64) -> Result<bool, StorageError> {
        match self.parts.last() {
            None | Some(ScanPart::Found(_)) => Ok(true),
            Some(ScanPart::Segment(part)) => is_short(part.as_ref(), &self.query, positions_max),
            Some(ScanPart::Frozen(part)) => is_short(part.as_ref(), &self.query, positions_max),
        }
    }

    /// The next part's positions in ascending order, possibly none; `None` at the end. Parts come
    /// in the scan's direction.
    pub(crate) fn next_part(&mut self) -> Option<Result<Vec<Position>, StorageError>> {
        let part = self.parts.pop()?;
        Some(match part {
            ScanPart::Segment(segment) => segment.select(&self.query, self.span),
            ScanPart::Frozen(tail) => tail.select(&self.query, self.span),
            ScanPart::Found(found) => found,
        })
    }
}
