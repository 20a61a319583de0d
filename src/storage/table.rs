//! The table: small rows that change together with the log, such as what subscriptions have done.
//!
//! A change of a row is written in the frame of a commit group, so that it is durable with the group's
//! events or not at all. From then on it stands in memory, over the rows on disk; the packer moves
//! what has gathered into a database of its own, and only then gives up the journal's file. A row that is
//! changed often is written there once for each time, and one that is soon removed never.
//!
//! sled takes the first damaged page for the end of what was written. The file `TABLE` says up to which
//! frame of the journal all changes are in the database, so that an older state is noticed.

mod change;
mod sound;

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::storage::{
    StorageError,
    disk::{Disk, DiskOptions, Poison, write_file},
    journal::Frame,
};

pub(crate) use change::RowChange;
use change::decode_changes;
pub(crate) use sound::{SoundTable, open_database};

const DISK: DiskOptions =
    DiskOptions { segment_bytes: 4 * 1024 * 1024, cache_bytes: 32 * 1024 * 1024 };
pub(crate) const WITNESS: &str = "TABLE";

/// First byte of a row's key: whose it is.
pub(crate) mod kind {
    /// What subscriptions have done.
    pub(crate) const SUBSCRIPTION: u8 = 1;
    /// Events that were not accepted.
    pub(crate) const QUARANTINE: u8 = 2;
}

/// Key of the sequence of the last frame whose changes are all in the database. Rows' keys begin with
/// their kind, which is not 0.
const KEPT: [u8; 1] = [0];
/// Bytes of changes in memory that are worth a move.
const MOVE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes written to the database in one batch.
const BATCH_BYTES: usize = 256 * 1024;

/// A row: key and value.
pub(crate) type Row = (Bytes, Bytes);

/// The rows. Changed by the sequencer, moved to disk by the packer.
pub(crate) struct Table {
    directory: PathBuf,
    disk: Disk,
    rows: sled::Tree,
    gathered: Mutex<Gathered>,
}

/// Changes that are durable in the journal only.
#[derive(Default)]
struct Gathered {
    rows: BTreeMap<Bytes, Gained>,
    bytes: usize,
    /// Frames up to this one have been applied.
    applied: u64,
    /// All changes up to this frame are on disk.
    kept: u64,
}

/// A row's newest value, and which frame it is from.
#[derive(Clone)]
struct Gained {
    value: Option<Bytes>,
    sequence: u64,
}

impl Table {
    /// Opens or creates the table of a data directory.
    pub(crate) fn open(directory: &Path, poison: Arc<Poison>) -> Result<Self, StorageError> {
        let disk = Disk::open(&directory.join("table"), DISK, poison)?;
        let rows = disk.tree("rows")?;
        let kept = sequence(rows.get(KEPT)?.as_deref())?;
        let written = read_witness(directory)?;
        if kept < written {
            return Err(StorageError::corrupt(format!(
                "the table is at frame {kept}, `{WITNESS}` at {written}: stored data is damaged"
            )));
        }
        let gathered = Mutex::new(Gathered { applied: kept, kept, ..Gathered::default() });
        Ok(Self { directory: directory.to_owned(), disk, rows, gathered })
    }

    /// All changes up to the frame with this sequence are on disk.
    pub(crate) fn kept(&self) -> u64 {
        self.lock().kept
    }

    /// Makes the changes of a frame visible; frames come in order.
    pub(crate) fn apply(&self, sequence: u64, changes: Vec<RowChange>) {
        let mut gathered = self.lock();
        gathered.applied = sequence;
        for RowChange { key, value } in changes {
            gathered.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            if let Some(old) = gathered.rows.insert(key.clone(), Gained { value, sequence }) {
                let old_bytes = key.len() + old.value.map_or(0, |value| value.len());
                gathered.bytes = gathered.bytes.saturating_sub(old_bytes);
            }
        }
    }

    /// Applies a frame that was found in the journal.
    pub(crate) fn replay(&self, frame: &Frame) -> Result<(), StorageError> {
        let changes = decode_changes(frame.changes.clone())?;
        if !changes.is_empty() {
            self.apply(frame.sequence, changes);
        }
        Ok(())
    }

    /// Whether enough has gathered for a move.
    pub(crate) fn is_worth_moving(&self) -> bool {
        self.lock().bytes >= MOVE_BYTES
    }

    /// A row's value.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        if let Some(gained) = self.lock().rows.get(key) {
            return Ok(gained.value.clone());
        }
        Ok(self.rows.get(key)?.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// At most `limit` rows, ascending, whose keys begin with `prefix` and come after `after`.
    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StorageError> {
        let begin = after.map_or(Bound::Included(prefix), Bound::Excluded);
        // Held, so that nothing moves to disk between the two.
        let gathered = self.lock();
        let in_prefix = |key: &[u8]| key.starts_with(prefix);
        let mut newer = gathered
            .rows
            .range::<[u8], _>((begin, Bound::Unbounded))
            .take_while(|(key, _)| in_prefix(key))
            .peekable();
        let stored = self.rows.range::<&[u8], _>((begin, Bound::Unbounded));
        let mut stored =
            stored.take_while(|row| row.as_ref().map_or(true, |(key, _)| in_prefix(key)));
        let mut next_stored = stored.next().transpose()?;
        let mut rows = Vec::new();
        while rows.len() < limit {
            let stored_first = match (&next_stored, newer.peek()) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((key, _)), Some((newer, _))) => key.as_ref() < newer.as_ref(),
            };
            if stored_first {
                let next = stored.next().transpose()?;
                if let Some((key, value)) = std::mem::replace(&mut next_stored, next) {
                    rows.push((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)));
                }
            } else if let Some((key, gained)) = newer.next() {
                if next_stored.as_ref().is_some_and(|(stored, _)| stored.as_ref() == key.as_ref()) {
                    next_stored = stored.next().transpose()?;
                }
                rows.extend(gained.value.clone().map(|value| (key.clone(), value)));
            }
        }
        Ok(rows)
    }

    /// Moves what has gathered to disk, durably. Called by one thread.
    pub(crate) fn move_to_disk(&self) -> Result<(), StorageError> {
        let (rows, applied) = {
            let gathered = self.lock();
            if gathered.applied == gathered.kept {
                return Ok(());
            }
            (gathered.rows.clone(), gathered.applied)
        };
        let mut batch = sled::Batch::default();
        let mut bytes = 0;
        for (key, gained) in &rows {
            bytes += key.len() + gained.value.as_ref().map_or(0, Bytes::len);
            match &gained.value {
                Some(value) => batch.insert(key.as_ref(), value.as_ref()),
                None => batch.remove(key.as_ref()),
            }
            if bytes >= BATCH_BYTES {
                self.rows.apply_batch(std::mem::take(&mut batch))?;
                self.disk.wrote(std::mem::take(&mut bytes))?;
            }
        }
        self.rows.apply_batch(batch)?;
        // Last, so that it stands for all of them.
        self.rows.insert(KEPT, &applied.to_be_bytes())?;
        self.disk.sync()?;
        write_file(&self.directory, WITNESS, &format!("{applied}\n"))?;
        self.lock().forget(rows.keys(), applied);
        Ok(())
    }

    /// Reads every row; the number of rows.
    pub(crate) fn verify(&self) -> Result<u64, StorageError> {
        let mut rows = 0;
        for row in &self.rows {
            row?;
            rows += 1;
        }
        Ok(rows)
    }

    /// Bytes of all its files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk.bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    /// Forgets rows that are on disk as they were at a frame.
    fn forget<'a>(&mut self, keys: impl Iterator<Item = &'a Bytes>, kept: u64) {
        for key in keys {
            if self.rows.get(key).is_some_and(|gained| gained.sequence <= kept)
                && let Some(gained) = self.rows.remove(key)
            {
                let bytes = key.len() + gained.value.map_or(0, |value| value.len());
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
        self.kept = kept;
    }
}

/// The frame up to which the table must have come.
pub(crate) fn read_witness(directory: &Path) -> Result<u64, StorageError> {
    let text = match fs::read(directory.join(WITNESS)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    text.trim_end().parse().map_err(|_not_a_number| {
        StorageError::corrupt(format!("`{WITNESS}` is damaged: it holds `{}`", text.trim()))
    })
}

fn sequence(stored: Option<&[u8]>) -> Result<u64, StorageError> {
    let Some(stored) = stored else { return Ok(0) };
    let sequence = stored.try_into().map(u64::from_be_bytes);
    sequence.map_err(|_length| StorageError::corrupt("the table's sequence"))
}

#[cfg(test)]
mod tests;
