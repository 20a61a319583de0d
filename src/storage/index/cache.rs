//! Rows of segments that queries have read lately.

use std::sync::atomic::{AtomicU32, Ordering};

use quick_cache::{Weighter, sync::Cache};

/// Rows expected in the cache, to size its tables.
const ROWS_ESTIMATE: usize = 4 * 1024;
/// What a row takes beside its bytes.
const OVERHEAD_BYTES: u64 = 64;

/// A segment's number in the cache, and the row's number there.
type Key = (u32, u32);

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, sled::IVec> for ByBytes {
    fn weight(&self, _key: &Key, row: &sled::IVec) -> u64 {
        row.len() as u64 + OVERHEAD_BYTES
    }
}

/// Rows of terms.
#[derive(Debug)]
pub(crate) struct RowCache {
    rows: Cache<Key, sled::IVec, ByBytes>,
    next_segment: AtomicU32,
}

impl RowCache {
    pub(crate) fn new(bytes: u64) -> Self {
        let rows = Cache::with_weighter(ROWS_ESTIMATE, bytes, ByBytes);
        Self { rows, next_segment: AtomicU32::new(0) }
    }

    /// A number for a segment: its own one is that of another in every volume.
    pub(super) fn take_number(&self) -> u32 {
        self.next_segment.fetch_add(1, Ordering::Relaxed)
    }

    /// A row, read if it is not here.
    pub(super) fn row<E>(
        &self,
        segment: u32,
        row: usize,
        read: impl FnOnce() -> Result<sled::IVec, E>,
    ) -> Result<sled::IVec, E> {
        let key = (segment, u32::try_from(row).unwrap_or(u32::MAX));
        if let Some(row) = self.rows.get(&key) {
            return Ok(row);
        }
        let row = read()?;
        self.rows.insert(key, row.clone());
        Ok(row)
    }
}
