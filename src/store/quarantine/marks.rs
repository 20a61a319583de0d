//! By what a record is found when its event comes again: its *mark*, made of the event's id and its content.
//!
//! All marks are in memory, so that a new event is known to be new without a look at the disk: at most
//! `QUARANTINE_EVENTS_MAX`, some 25 bytes each. They are read when the store opens.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::{
    model::Timestamp,
    storage::{Row, RowChange, Storage, id_hash, pb::QuarantineRecord},
    store::{
        Error,
        quarantine::{
            chunks::Chunks,
            rows::{self, older},
        },
    },
};

/// Records with one mark that are looked at: one, but for a chance in 2^32 among records with one event id.
const SAME_MAX: usize = 8;
/// The part of a mark that the event's id decides.
const OF_EVENT: u64 = 0xFFFF_FFFF_0000_0000;
/// Rows that are read, or changed, at a time.
const ROWS_AT_ONCE: usize = 4_096;

/// The mark of an event's record; never 0.
pub(super) fn mark(dataset: u32, event_id: &str, digest: &[u8]) -> u64 {
    let digest = digest.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default();
    of_parts((!event_id.is_empty()).then(|| id_hash(dataset, event_id)), digest)
}

/// The mark of what has these hashes of its id, if it has one, and of its content.
fn of_parts(event: Option<u64>, digest: u64) -> u64 {
    event.map_or(digest, |event| (event & OF_EVENT) | (digest >> 32)).max(1)
}

/// The mark of a record.
pub(super) fn mark_of(record: &QuarantineRecord) -> u64 {
    mark(record.dataset, &record.event_id, &record.digest)
}

/// The marks of all records. Changed by the sequencer, and ahead of the rows by what it is about to write: who finds
/// an id here must see whether there is a record.
#[derive(Default)]
pub(crate) struct Marks(Mutex<BTreeSet<(u64, u64)>>);

impl Marks {
    /// Reads all of a store; its rows of an older form are written anew.
    pub(crate) fn open(storage: &Storage, now: Timestamp) -> Result<Self, Error> {
        renew(storage, now)?;
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = storage.rows(&rows::all_marks(), after.as_deref(), ROWS_AT_ONCE)?;
            for (key, chunk) in &page {
                found.extend(rows::marks(key, chunk).map(|(id, mark)| (mark, id)));
            }
            match page.into_iter().next_back() {
                Some((key, _)) => after = Some(key),
                None => break,
            }
        }
        Ok(Self(Mutex::new(found.into_iter().collect())))
    }

    pub(super) fn add(&self, mark: u64, id: u64) {
        self.lock().insert((mark, id));
    }

    pub(super) fn remove(&self, mark: u64, id: u64) {
        self.lock().remove(&(mark, id));
    }

    /// The records with a mark, oldest first.
    pub(super) fn records(&self, mark: u64) -> Vec<u64> {
        let marks = self.lock();
        let same = marks.range((mark, 0)..=(mark, u64::MAX));
        same.take(SAME_MAX).map(|(_, id)| *id).collect()
    }

    /// Records that probably have an event's id, at most so many.
    pub(super) fn of_event(&self, dataset: u32, event_id: &str, limit: usize) -> Vec<u64> {
        let first = id_hash(dataset, event_id) & OF_EVENT;
        let marks = self.lock();
        let all = marks.range((first, 0)..=(first | !OF_EVENT, u64::MAX));
        all.take(limit).map(|(_, id)| *id).collect()
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> BTreeSet<(u64, u64)> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes rows of the older form as chunks, some at a time. A stop in between leaves some of either.
fn renew(storage: &Storage, now: Timestamp) -> Result<(), Error> {
    renew_some(storage, now, &older::members(), |chunks, key, _| {
        let Some((dataset, fingerprint, id)) = older::member(key) else { return Ok(()) };
        chunks.put_member(storage, (dataset, fingerprint), id, true)
    })?;
    renew_some(storage, now, &older::by_digest(), |chunks, key, value| {
        let id = rows::id_of(value);
        let Some(((digest, _), id)) = older::numbers(key).zip(id) else { return Ok(()) };
        chunks.put_mark(storage, id, of_parts(None, digest))
    })?;
    renew_some(storage, now, &older::by_event(), |chunks, key, _| {
        let id = rows::id_of(key);
        let Some(((event, digest), id)) = older::numbers(key).zip(id) else { return Ok(()) };
        chunks.put_mark(storage, id, of_parts(Some(event), digest))
    })
}

fn renew_some(
    storage: &Storage,
    now: Timestamp,
    prefix: &[u8],
    put: impl Fn(&mut Chunks, &Bytes, &Bytes) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        let page: Vec<Row> = storage.rows(prefix, None, ROWS_AT_ONCE)?;
        if page.is_empty() {
            return Ok(());
        }
        let mut chunks = Chunks::default();
        for (key, value) in &page {
            put(&mut chunks, key, value)?;
        }
        let gone = page.into_iter().map(|(key, _)| RowChange::remove(key));
        storage.commit_rows(now, chunks.into_changes().chain(gone).collect())?;
        storage.settle()?;
    }
}
