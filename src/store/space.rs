//! Room on the disk: below the reserve, what makes the store grow is refused, so that what frees room
//! (deleting, trimming, compacting) and what is under way can still be written.
//!
//! Why a full disk cannot poison a store with a reserve: who places a batch, the sequencer's thread
//! or a caller that is alone, asks before each commit group, with the group's raw bytes. The answer
//! goes by a reading of the disk's free bytes that is at most [`READING_AGE_MAX`] old and has let at
//! most [`READING_BYTES_MAX`] pass since. So of a reserve that a reading found untouched these are
//! used:
//! - by the journal: one group, which is at most one request and [`READING_BYTES_MAX`] more, and what
//!   it is rounded up to, a file, beside a spare one. What is queued is refused. The default
//!   counts the whole queue and a whole journal all the same.
//! - by the packer: it copies to a volume what the journal holds, and gives a file of the journal back
//!   as soon as what it held is durable there. So however much the journal holds, only what is packed
//!   between two syncs, a few MiB, is there twice.
//! - by the index: the segments of the tails that are full, some MiB each.
//! - by changes of the catalog: deletes, trims, retention and settings, some KiB each.
//! - by rewriting, which needs room for a whole volume: nothing, since it begins only with room for
//!   what it makes, and stops (see `storage::compaction`) when less is left than the others need.
//!
//! What other programs write to the same disk within one reading's age is beyond any bound of ours.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    storage::Storage,
    store::{Error, lock},
};

/// How long a reading of the disk's free bytes is believed.
const READING_AGE_MAX: Duration = Duration::from_millis(100);
/// How many bytes may be written on the word of one reading.
const READING_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The part of the reserve that must be free beyond it before appends are taken again, so that a
/// disk at the edge does not turn every second batch away.
const RECOVERY_SHARE: u64 = 8;

/// Free bytes of the data directory's file system against the reserve.
pub(crate) struct Space {
    storage: Arc<Storage>,
    /// 0: never low.
    reserve: u64,
    reading: Mutex<Reading>,
}

/// The disk has less room than the reserve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Low {
    free: u64,
    reserve: u64,
}

impl From<Low> for Error {
    fn from(Low { free, reserve }: Low) -> Self {
        Self::DiskLow { free, reserve }
    }
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    free: u64,
    low: bool,
    at: Instant,
    /// Bytes that were written since.
    written: u64,
}

impl Space {
    pub(crate) fn new(storage: Arc<Storage>, reserve: u64, now: Instant) -> Self {
        let reading = Reading { free: u64::MAX, low: false, at: now, written: u64::MAX };
        Self { storage, reserve, reading: Mutex::new(reading) }
    }

    /// Refuses to write so many bytes while the disk is low.
    pub(crate) fn take(&self, bytes: u64, now: Instant) -> Result<(), Low> {
        let Reading { free, low, .. } = self.read(bytes, now);
        if low { Err(Low { free, reserve: self.reserve }) } else { Ok(()) }
    }

    /// Free bytes, and whether they are fewer than they should be.
    pub(crate) fn state(&self, now: Instant) -> (u64, bool) {
        let reading = self.read(0, now);
        (reading.free, reading.low)
    }

    pub(crate) fn reserve(&self) -> u64 {
        self.reserve
    }

    /// A reading that is fresh enough to write `bytes` more.
    fn read(&self, bytes: u64, now: Instant) -> Reading {
        let mut reading = lock(&self.reading);
        let old = now.saturating_duration_since(reading.at) >= READING_AGE_MAX;
        if old || reading.written.saturating_add(bytes) > READING_BYTES_MAX {
            match self.storage.free_bytes() {
                Ok(free) => {
                    let low = is_low(free, self.reserve, reading.low);
                    if low != reading.low {
                        let reserve = self.reserve;
                        tracing::warn!(free, reserve, low, "disk space");
                    }
                    *reading = Reading { free, low, at: now, written: 0 };
                }
                // What was true before is more likely than anything else.
                Err(error) => {
                    tracing::error!(%error, "free disk space is not known");
                    (reading.at, reading.written) = (now, 0);
                }
            }
        }
        reading.written = reading.written.saturating_add(bytes);
        *reading
    }
}

fn is_low(free: u64, reserve: u64, was_low: bool) -> bool {
    let wanted = if was_low { reserve.saturating_add(reserve / RECOVERY_SHARE) } else { reserve };
    free < wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_disk_recovers_only_with_some_room_to_spare() {
        assert!(!is_low(800, 800, false));
        assert!(is_low(799, 800, false));
        assert!(is_low(899, 800, true));
        assert!(!is_low(900, 800, true));
        assert!(!is_low(0, 0, true), "without a reserve the disk is never low");
        assert!(is_low(u64::MAX - 1, u64::MAX, true));
    }
}
