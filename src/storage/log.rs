//! The log: blocks in position order, split into rows that sled keeps in its pages.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};

use crate::{
    model::{Position, Timestamp},
    storage::{
        StorageError,
        block::{Block, Body, HEADER_LEN, Header},
    },
};

/// Bytes of one row. 17 rows of this size, the most that a leaf holds, fit a quarter of a segment,
/// so sled never moves them to unsynced files.
const PART_BYTES_MAX: usize = 96 * 1024;
/// Blocks expected in the cache, to size its tables.
const CACHED_BLOCKS_ESTIMATE: usize = 1024;

const KEY_LEN: usize = 8 + 2;

/// `[first position: u64][part: u16] -> header and body, cut into parts`.
fn key(first: Position, part: u16) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    let bytes = first.get().to_be_bytes().into_iter().chain(part.to_be_bytes());
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = from;
    }
    key
}

/// The first position of the block that a row belongs to.
fn first_of(key: &[u8]) -> Result<Position, StorageError> {
    let bytes: &[u8; 8] =
        key.first_chunk().ok_or_else(|| StorageError::corrupt("a log key is cut short"))?;
    Ok(Position::new(u64::from_be_bytes(*bytes)))
}

/// Blocks of one commit group, on their way to the log.
#[derive(Default)]
pub(crate) struct LogBatch {
    rows: Vec<([u8; KEY_LEN], sled::IVec)>,
    blocks: Vec<Arc<Block>>,
}

impl LogBatch {
    /// Adds the block at `first`; `raw` is what `body` holds compressed.
    pub(crate) fn push(
        &mut self,
        first: Position,
        record_time: Timestamp,
        body: &Body,
        raw: Bytes,
    ) -> Result<(), StorageError> {
        let parts = (HEADER_LEN + body.bytes.len()).div_ceil(PART_BYTES_MAX);
        let parts = u16::try_from(parts)
            .map_err(|_too_many| StorageError::corrupt("a block of more than 65535 parts"))?;
        let header = Header::new(first, record_time, body, parts);
        let mut value = Vec::with_capacity(HEADER_LEN + body.bytes.len());
        value.extend_from_slice(&header.encode());
        value.extend_from_slice(&body.bytes);
        for (part, bytes) in (0..).zip(value.chunks(PART_BYTES_MAX)) {
            self.rows.push((key(first, part), bytes.into()));
        }
        self.blocks.push(Arc::new(Block::new(first, record_time, raw)?));
        Ok(())
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Position, Arc<Block>> for ByBytes {
    fn weight(&self, _first: &Position, block: &Arc<Block>) -> u64 {
        block.weight()
    }
}

/// The log's tree and the decoded blocks that readers share.
pub(crate) struct Log {
    tree: sled::Tree,
    cache: Cache<Position, Arc<Block>, ByBytes>,
}

impl Log {
    pub(crate) fn new(tree: sled::Tree, cache_bytes: u64) -> Self {
        let cache = Cache::with_weighter(CACHED_BLOCKS_ESTIMATE, cache_bytes, ByBytes);
        Self { tree, cache }
    }

    /// Writes a commit group, all or nothing. It is durable only after the disk is synced.
    pub(crate) fn write(&self, batch: &mut LogBatch) -> Result<(), StorageError> {
        let rows = std::mem::take(&mut batch.rows);
        if let [(key, value)] = rows.as_slice() {
            // One row is atomic by itself, and costs less than a batch of one.
            self.tree.insert(key, value)?;
            return Ok(());
        }
        let mut all = sled::Batch::default();
        for (key, value) in rows {
            all.insert(&key, value);
        }
        Ok(self.tree.apply_batch(all)?)
    }

    /// Lets readers find the blocks of a durable group without decoding them.
    pub(crate) fn remember(&self, batch: LogBatch) {
        for block in batch.blocks {
            self.cache.insert(block.first, block);
        }
    }

    /// The block that holds a position, or `None` beyond the log's ends.
    pub(crate) fn block(&self, position: Position) -> Result<Option<Arc<Block>>, StorageError> {
        // A sequential reader asks for the first position of the next block: one cache probe.
        if let Some(block) = self.cache.get(&position) {
            return Ok(Some(block));
        }
        let Some(first) = self.first_of_block(position)? else { return Ok(None) };
        if let Some(block) = self.cache.get(&first) {
            return Ok(Some(block).filter(|block| position <= block.last()));
        }
        let (header, body) = self.load(first)?;
        if header.last() < position {
            return Ok(None);
        }
        let block = Arc::new(Block::decode(&header, &body)?);
        self.cache.insert(first, Arc::clone(&block));
        Ok(Some(block))
    }

    /// The last position written; `START` when the log is empty.
    pub(crate) fn last(&self) -> Result<Position, StorageError> {
        match self.tree.last()? {
            Some((key, _)) => Ok(self.header(first_of(&key)?)?.last()),
            None => Ok(Position::START),
        }
    }

    /// When the last event was stored.
    pub(crate) fn last_record_time(&self) -> Result<Option<Timestamp>, StorageError> {
        match self.tree.last()? {
            Some((key, _)) => Ok(Some(self.header(first_of(&key)?)?.last_record_time)),
            None => Ok(None),
        }
    }

    /// The last position, up to `last`, whose event was stored before `time_us`. Record times never
    /// decrease, so this is a binary search over block headers.
    pub(crate) fn last_before(
        &self,
        time_us: i64,
        last: Position,
    ) -> Result<Position, StorageError> {
        // Invariant: events up to `low` are before the time, events after `high` are not.
        let (mut low, mut high) = (Position::START, last);
        while low < high {
            let middle = low.plus(high.since(low).div_ceil(2));
            let first = self
                .first_of_block(middle)?
                .ok_or_else(|| StorageError::corrupt(format!("no block for {middle}")))?;
            let header = self.header(first)?;
            if header.last_record_time.micros() < time_us {
                low = header.last().min(high);
            } else if header.first_record_time.micros() >= time_us {
                high = header.first.previous().max(low);
            } else {
                let block = self
                    .block(first)?
                    .ok_or_else(|| StorageError::corrupt(format!("no block {first}")))?;
                let mut found = first.previous();
                for record in block.iter() {
                    let (position, record) = record?;
                    if block.record_time(&record).micros() >= time_us {
                        break;
                    }
                    found = position;
                }
                return Ok(found.min(high));
            }
        }
        Ok(low)
    }

    fn first_of_block(&self, position: Position) -> Result<Option<Position>, StorageError> {
        match self.tree.range(..=key(position, u16::MAX)).next_back() {
            Some(row) => Ok(Some(first_of(&row?.0)?)),
            None => Ok(None),
        }
    }

    fn header(&self, first: Position) -> Result<Header, StorageError> {
        let header = Header::decode(&self.part(first, 0)?)?;
        if header.first != first {
            return Err(StorageError::corrupt(format!("block {first} names {}", header.first)));
        }
        Ok(header)
    }

    fn load(&self, first: Position) -> Result<(Header, Vec<u8>), StorageError> {
        let header = self.header(first)?;
        let mut body = Vec::with_capacity(usize::try_from(header.body_len).unwrap_or(0));
        for part in 0..header.parts {
            let row = self.part(first, part)?;
            let skip = if part == 0 { HEADER_LEN } else { 0 };
            body.extend_from_slice(row.get(skip..).unwrap_or_default());
        }
        Ok((header, body))
    }

    fn part(&self, first: Position, part: u16) -> Result<sled::IVec, StorageError> {
        let missing = || StorageError::corrupt(format!("block {first} lacks part {part}"));
        self.tree.get(key(first, part))?.ok_or_else(missing)
    }
}
