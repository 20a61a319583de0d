//! The log: packed blocks in the chain of volumes, and after them the newest runs in memory.
//!
//! Invariant: every position up to the newest is in a volume or among the fresh runs, or in both.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use arc_swap::ArcSwap;
use quick_cache::{Weighter, sync::Cache};

use crate::{
    model::{Position, Timestamp},
    storage::{
        StorageError,
        block::Block,
        chain::{Chain, Link},
        packed::PackedBlock,
        volume::Volume,
    },
};

/// Blocks expected in the cache, to size its tables.
const CACHED_BLOCKS_ESTIMATE: usize = 8 * 1024;
/// Bytes of runs kept in memory after they were packed, for readers just behind the newest.
const RECENT_BYTES: u64 = 8 * 1024 * 1024;

/// Volume number and first position of a block.
type CacheKey = (u32, Position);

#[derive(Clone)]
struct ByBytes;

impl Weighter<CacheKey, Arc<PackedBlock>> for ByBytes {
    fn weight(&self, _key: &CacheKey, block: &Arc<PackedBlock>) -> u64 {
        block.weight()
    }
}

/// The newest runs.
#[derive(Debug, Default)]
struct Fresh {
    /// In position order, each following the one before it.
    runs: VecDeque<Arc<Block>>,
    bytes: u64,
    /// How many of the runs, from the oldest on, are wholly in a volume too, and their bytes.
    packed_runs: usize,
    packed_bytes: u64,
    /// Up to here the log is in volumes.
    packed: Position,
    newest: Position,
}

/// The log.
pub(crate) struct Log {
    /// Where the volumes are.
    directory: PathBuf,
    chain: ArcSwap<Chain>,
    /// Held while the chain is changed.
    changing: Mutex<()>,
    fresh: RwLock<Fresh>,
    cache: Cache<CacheKey, Arc<PackedBlock>, ByBytes>,
}

impl Log {
    /// The log whose last packed position is `packed`; the caller adds what the journal has after it.
    pub(crate) fn new(directory: &Path, chain: Chain, packed: Position, cache_bytes: u64) -> Self {
        let fresh = Fresh { packed, newest: packed, ..Fresh::default() };
        Self {
            directory: directory.to_owned(),
            chain: ArcSwap::from_pointee(chain),
            changing: Mutex::new(()),
            fresh: RwLock::new(fresh),
            cache: Cache::with_weighter(CACHED_BLOCKS_ESTIMATE, cache_bytes, ByBytes),
        }
    }

    /// Lets readers find a durable run, which follows the newest.
    pub(crate) fn add(&self, run: Block) {
        let mut fresh = self.fresh_mut();
        debug_assert!(fresh.runs.is_empty() || run.first == fresh.newest.next(), "runs follow");
        fresh.newest = run.last();
        fresh.bytes += run.weight();
        fresh.runs.push_back(Arc::new(run));
    }

    /// The last position.
    pub(crate) fn newest(&self) -> Position {
        self.fresh().newest
    }

    /// Up to here the log is in volumes.
    pub(crate) fn packed(&self) -> Position {
        self.fresh().packed
    }

    /// Bytes of runs that are not packed.
    pub(crate) fn unpacked_bytes(&self) -> u64 {
        let fresh = self.fresh();
        fresh.bytes - fresh.packed_bytes
    }

    /// Notes that everything up to `packed` is in a volume.
    pub(crate) fn set_packed(&self, packed: Position) {
        let mut fresh = self.fresh_mut();
        fresh.packed = packed;
        while let Some(run) = fresh.runs.get(fresh.packed_runs).filter(|it| it.last() <= packed) {
            fresh.packed_bytes += run.weight();
            fresh.packed_runs += 1;
        }
        while fresh.bytes > RECENT_BYTES
            && fresh.packed_runs > 0
            && let Some(oldest) = fresh.runs.pop_front()
        {
            fresh.bytes -= oldest.weight();
            fresh.packed_bytes -= oldest.weight();
            fresh.packed_runs -= 1;
        }
    }

    /// The fresh runs that hold positions from `first` to `last`.
    pub(crate) fn fresh_runs(&self, first: Position, last: Position) -> Vec<Arc<Block>> {
        let fresh = self.fresh();
        let from = fresh.runs.partition_point(|run| run.last() < first);
        let runs = fresh.runs.iter().skip(from).take_while(|run| run.first <= last);
        runs.cloned().collect()
    }

    /// The run that holds a position, or `None` beyond the log's ends.
    pub(crate) fn block(&self, position: Position) -> Result<Option<Arc<Block>>, StorageError> {
        let fresh = self.fresh();
        let at = fresh.runs.partition_point(|run| run.last() < position);
        if let Some(run) = fresh.runs.get(at).filter(|run| run.contains(position)) {
            return Ok(Some(Arc::clone(run)));
        }
        drop(fresh);
        let chain = self.chain();
        let Some(link) = chain.find(position) else { return Ok(None) };
        match self.packed_block(link, position)? {
            Some(block) => Ok(block.run(position)?.map(Arc::new)),
            None => Ok(link.removed().map(Arc::new)),
        }
    }

    /// The packed block that holds a position of a link; `None` when the link holds nothing, or the
    /// position is beyond what is packed.
    fn packed_block(
        &self,
        link: &Link,
        position: Position,
    ) -> Result<Option<Arc<PackedBlock>>, StorageError> {
        let Some(volume) = &link.volume else { return Ok(None) };
        let mut first = volume.begin(position);
        while first <= position {
            let key = (volume.number, first);
            let block = if let Some(block) = self.cache.get(&key) {
                block
            } else if let Some(block) = volume.block(first)? {
                let block = Arc::new(block);
                self.cache.insert(key, Arc::clone(&block));
                block
            } else if link.until == Position::MAX {
                return Ok(None);
            } else {
                return Err(StorageError::corrupt(format!(
                    "volume {} has no block at {first}",
                    volume.number
                )));
            };
            if block.contains(position) {
                return Ok(Some(block));
            }
            first = block.header.last().next();
        }
        Err(StorageError::corrupt(format!("no block holds position {position}")))
    }

    /// The last position, up to `last`, whose event was stored before `time_us`. Record times never
    /// decrease, so this is a binary search.
    pub(crate) fn last_before(
        &self,
        time_us: i64,
        last: Position,
    ) -> Result<Position, StorageError> {
        // Invariant: events up to `low` are before the time, events after `high` are not.
        let (mut low, mut high) = (Position::START, last);
        while low < high {
            let middle = low.plus(high.since(low).div_ceil(2));
            // Of a span without events nothing is known; what follows it decides.
            let (span_first, probe) = match self.chain().find(middle) {
                Some(link) if link.volume.is_none() => (link.after.next(), link.until.next()),
                _ => (middle, middle),
            };
            if probe > high {
                high = span_first.previous().max(low);
                continue;
            }
            let time = self
                .block(probe)?
                .and_then(|run| run.raw(probe).map(|record| record.record_time))
                .ok_or_else(|| StorageError::corrupt(format!("no block for {probe}")))?;
            if time.micros() < time_us {
                low = probe;
            } else {
                high = span_first.previous().max(low);
            }
        }
        Ok(low)
    }

    /// When the event at a position was stored.
    pub(crate) fn record_time(
        &self,
        position: Position,
    ) -> Result<Option<Timestamp>, StorageError> {
        let run = self.block(position)?;
        Ok(run.and_then(|run| run.raw(position).map(|record| record.record_time)))
    }

    pub(crate) fn chain(&self) -> Arc<Chain> {
        self.chain.load_full()
    }

    /// The volume that is being written.
    pub(crate) fn active(&self) -> Result<Arc<Volume>, StorageError> {
        self.chain.load().active().cloned()
    }

    /// Changes the chain, durably; one change at a time.
    pub(crate) fn change_chain<T>(
        &self,
        change: impl FnOnce(&mut Chain, &Path) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Chain::clone(&self.chain.load());
        let answer = change(&mut next, &self.directory)?;
        next.write(&self.directory)?;
        self.chain.store(Arc::new(next));
        Ok(answer)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn fresh(&self) -> RwLockReadGuard<'_, Fresh> {
        self.fresh.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh_mut(&self) -> RwLockWriteGuard<'_, Fresh> {
        self.fresh.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// The block that begins at a position, for one who reads all of them: past the cache, which has
    /// what readers want.
    pub(crate) fn block(&self, first: Position) -> Result<PackedBlock, StorageError> {
        let missing = || StorageError::corrupt(format!("no block begins at {first}"));
        let block = self.volume.as_ref().map(|volume| volume.block(first)).transpose()?;
        block.flatten().ok_or_else(missing)
    }

    /// The run of a link of which nothing is left.
    fn removed(&self) -> Option<Block> {
        let count = u32::try_from(self.until.since(self.after)).unwrap_or(u32::MAX);
        let time = Timestamp::default();
        self.volume.is_none().then(|| Block::removed(self.after.next(), count, time))
    }
}
