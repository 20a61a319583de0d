//! Reading what is sound in a table that may be damaged.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;

use crate::storage::{
    StorageError,
    disk::{Disk, Poison},
    journal::Frame,
    table::{DISK, KEPT, Row, WITNESS, decode_changes, read_witness, sequence},
};

/// What could be read of a table.
#[derive(Debug, Default)]
pub(crate) struct SoundTable {
    rows: BTreeMap<Bytes, Bytes>,
    kept: u64,
    /// What is wrong.
    pub(crate) damage: Vec<String>,
}

/// Opens a table's database, whatever is in it.
pub(crate) fn open_database(path: &Path) -> Result<Disk, StorageError> {
    Disk::open(path, DISK, Arc::new(Poison::default()))
}

impl SoundTable {
    /// One of which nothing can be read.
    pub(crate) fn unreadable(why: String) -> Self {
        Self { damage: vec![why], ..Self::default() }
    }

    /// Reads a database into `self`; the witness is that of the data directory `directory`.
    pub(crate) fn read(&mut self, disk: &Disk, directory: &Path) -> Result<(), StorageError> {
        for row in &disk.tree("rows")? {
            let (key, value) = row?;
            if key.as_ref() == KEPT {
                self.kept = sequence(Some(&value))?;
            } else {
                self.rows.insert(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value));
            }
        }
        let written = read_witness(directory)?;
        if self.kept < written {
            let kept = self.kept;
            self.damage.push(format!(
                "the table is at frame {kept}, `{WITNESS}` at {written}: changes are lost"
            ));
        }
        Ok(())
    }

    /// Adds what the journal has of later changes.
    pub(crate) fn replay(&mut self, frames: &[Frame]) {
        for frame in frames.iter().filter(|frame| frame.sequence > self.kept) {
            let changes = decode_changes(frame.changes.clone()).unwrap_or_else(|error| {
                self.damage.push(format!("frame {} of the journal: {error}", frame.sequence));
                Vec::new()
            });
            for change in changes {
                match change.value {
                    Some(value) => self.rows.insert(change.key, value),
                    None => self.rows.remove(&change.key),
                };
            }
        }
    }

    /// The rows.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = Row> {
        self.rows.into_iter()
    }
}
