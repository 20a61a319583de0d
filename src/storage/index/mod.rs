//! The event index: who, what and where, by position.
//!
//! An in-memory tail holds the newest events; when it is full it is frozen and the indexer thread
//! writes it as an immutable segment. A query asks segments, frozen tails and the tail, which hold
//! disjoint, ascending spans of positions, so their answers simply follow each other.
//!
//! Invariant: the index is derived. Everything in it can be rebuilt from the log, and after a crash
//! the part after the last finished segment is.

mod count;
mod filter;
mod part;
mod segment;
mod tail;
mod term;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    },
};

use arc_swap::ArcSwap;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    model::{Direction, Position},
    storage::{
        StorageError,
        index::{part::Part, segment::Segment, tail::Tail},
        pb::EventRecord,
    },
};

pub(crate) use count::Above;
pub(crate) use part::DatasetTotals;
pub(crate) use term::{Lookup, Query, Span, Term};

/// Frozen tails waiting for the indexer; then appends wait. Bounds memory.
const FROZEN_MAX: usize = 4;

/// Hash under which an event id is indexed.
pub(crate) fn id_hash(dataset: u32, event_id: &str) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&dataset.to_be_bytes());
    hash.update(event_id.as_bytes());
    hash.digest()
}

/// What readers see beside the tail.
#[derive(Default)]
struct Sealed {
    segments: Vec<Arc<Segment>>,
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

/// The event index. One writer, the sequencer; any number of readers.
pub(crate) struct Index {
    tree: sled::Tree,
    /// Events in the tail before it becomes a segment.
    tail_events_max: u64,
    /// Changed only while `live` is locked for writing, or by the indexer replacing a frozen tail
    /// with the segment of the same span.
    sealed: ArcSwap<Sealed>,
    live: RwLock<Live>,
    indexer: Mutex<Indexer>,
    wake: Condvar,
}

#[derive(Default)]
struct Indexer {
    /// The last segment number used; never used again, also for a segment that was not finished.
    last_number: u32,
    stopping: bool,
    failed: Option<String>,
}

impl Index {
    /// Opens the segments; the caller then adds what the log has after [`Index::checkpoint`].
    pub(crate) fn open(tree: sled::Tree, tail_events_max: u64) -> Result<Self, StorageError> {
        let mut numbers = BTreeSet::new();
        for row in tree.iter().keys() {
            numbers.extend(segment::number_of(&row?));
        }
        let (mut segments, mut live) = (Vec::new(), Live::default());
        for number in &numbers {
            match Segment::open(&tree, *number)? {
                Some(segment) => segments.push(Arc::new(segment)),
                None => remove(&tree, *number)?,
            }
        }
        segments.sort_by_key(|segment| segment.span().after);
        let mut checkpoint = Position::START;
        for segment in &segments {
            if segment.span().after != checkpoint {
                return Err(StorageError::corrupt(format!("index has no segment at {checkpoint}")));
            }
            checkpoint = segment.span().until;
        }
        live.tail = Tail::after(checkpoint);
        let last_number = numbers.last().copied().unwrap_or(0);
        Ok(Self {
            tree,
            tail_events_max,
            sealed: ArcSwap::from_pointee(Sealed { segments, frozen: Vec::new() }),
            live: RwLock::new(live),
            indexer: Mutex::new(Indexer { last_number, ..Indexer::default() }),
            wake: Condvar::new(),
        })
    }

    /// The last position that a restart need not read again.
    pub(crate) fn checkpoint(&self) -> Position {
        self.sealed.load().segments.last().map_or(Position::START, |last| last.span().until)
    }

    /// Adds events that are durable, in position order.
    pub(crate) fn add<'a>(&self, events: impl Iterator<Item = (Position, u64, &'a EventRecord)>) {
        let mut live = self.live_mut();
        for (position, id_hash, record) in events {
            live.tail.add(position, id_hash, record);
        }
        if live.tail.len() >= self.tail_events_max {
            let base = live.tail.span().until;
            let frozen = std::mem::replace(&mut live.tail, Tail::after(base));
            self.change_sealed(|sealed| sealed.frozen.push(Arc::new(frozen)));
        }
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
        for segment in &sealed.segments {
            segment.ids_with(hash, &mut found)?;
        }
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

    /// The indexer thread: writes frozen tails as segments until told to stop. Nothing here needs
    /// a sync: a segment that a crash takes away is rebuilt from the log.
    /// `sealed` learns the checkpoint after each round.
    pub(crate) fn run_indexer(&self, sealed: impl Fn(Position)) {
        while self.wait_for_frozen() {
            let outcome = self.seal_frozen();
            sealed(self.checkpoint());
            if let Err(error) = outcome {
                tracing::error!(%error, "index segment not written");
                self.indexer().failed = Some(error.to_string());
            }
            self.wake.notify_all();
        }
    }

    /// Writes every frozen tail as a segment. Only one thread at a time: the one that opens the
    /// store, then the indexer.
    pub(crate) fn seal_frozen(&self) -> Result<(), StorageError> {
        while let Some(tail) = self.sealed.load().frozen.first().cloned() {
            let number = {
                let mut indexer = self.indexer();
                indexer.last_number += 1;
                indexer.last_number
            };
            let segment = Arc::new(Segment::write(&self.tree, number, &tail)?);
            let _live = self.live_mut();
            self.change_sealed(|sealed| {
                sealed.segments.push(segment);
                sealed.frozen.remove(0);
            });
            tracing::debug!(number, until = %tail.span().until, "index segment written");
        }
        Ok(())
    }

    /// Lets [`Index::run_indexer`] return.
    pub(crate) fn stop_indexer(&self) {
        self.indexer().stopping = true;
        self.wake.notify_all();
    }

    /// Waits for a frozen tail; `false` when stopping or after a failure.
    fn wait_for_frozen(&self) -> bool {
        let mut indexer = self.indexer();
        loop {
            if indexer.stopping || indexer.failed.is_some() {
                return false;
            }
            if !self.sealed.load().frozen.is_empty() {
                return true;
            }
            indexer = self.wake.wait(indexer).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes the indexer, and waits while it is too far behind.
    pub(crate) fn wait_for_indexer(&self) -> Result<(), StorageError> {
        if self.sealed.load().frozen.is_empty() {
            return Ok(());
        }
        let mut indexer = self.indexer();
        self.wake.notify_all();
        while self.sealed.load().frozen.len() > FROZEN_MAX {
            if let Some(failed) = &indexer.failed {
                return Err(StorageError::Poisoned(failed.clone()));
            }
            if indexer.stopping {
                return Ok(());
            }
            indexer = self.wake.wait(indexer).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn change_sealed(&self, change: impl FnOnce(&mut Sealed)) {
        let now = self.sealed.load();
        let mut next = Sealed { segments: now.segments.clone(), frozen: now.frozen.clone() };
        change(&mut next);
        self.sealed.store(Arc::new(next));
    }

    // A panic while a lock is held ends the sequencer, which poisons the store; readers go on.
    fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn live_mut(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn indexer(&self) -> MutexGuard<'_, Indexer> {
        self.indexer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(tree: &sled::Tree, number: u32) -> Result<(), StorageError> {
    for row in tree.scan_prefix(number.to_be_bytes()).keys() {
        tree.remove(row?)?;
    }
    Ok(())
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
