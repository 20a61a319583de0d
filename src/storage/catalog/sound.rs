//! Reading what is sound in a catalog that may be damaged.

use std::{path::Path, sync::Arc};

use uuid::Uuid;

use crate::storage::{
    StorageError,
    catalog::{
        CatalogRecords, DISK, META_EPOCH, WITNESS, Witness, decode, draft, hash, read_witness,
        revision_key,
    },
    disk::{Disk, Poison},
};

/// What could be read of a catalog.
#[derive(Debug, Default)]
pub(crate) struct SoundCatalog {
    pub(crate) records: CatalogRecords,
    pub(crate) epoch: Option<Uuid>,
    /// What is wrong.
    pub(crate) damage: Vec<String>,
}

/// Opens a catalog's database, whatever is in it.
pub(crate) fn open_database(path: &Path) -> Result<Disk, StorageError> {
    Disk::open(path, DISK, Arc::new(Poison::default()))
}

impl SoundCatalog {
    /// Reads a database into `self`; the witness is that of the data directory `directory`.
    pub(crate) fn read(&mut self, disk: &Disk, directory: &Path) -> Result<(), StorageError> {
        let epoch = disk.tree("meta")?.get(META_EPOCH)?;
        self.epoch = epoch.and_then(|bytes| Uuid::from_slice(&bytes).ok());
        if self.epoch.is_none() {
            self.damage.push("the log's epoch is missing".to_owned());
        }
        let mut found = Witness::default();
        let tree = disk.tree("catalog")?;
        draft::remove(&tree, disk)?;
        for row in &tree {
            let (key, value) = row?;
            if key.as_ref() == revision_key() {
                found.revision = value.as_ref().try_into().map_or(0, u64::from_be_bytes);
                continue;
            }
            found.sum = found.sum.wrapping_add(hash(&key, &value));
            if let Err(error) = decode(&key, &value, &mut self.records) {
                self.damage.push(error.to_string());
            }
        }
        let written = read_witness(directory)?;
        if found != written && found.revision != written.revision + 1 {
            self.damage.push(format!(
                "the catalog is at change {}, `{WITNESS}` says {} with other rows: some are lost or old",
                found.revision, written.revision
            ));
        }
        Ok(())
    }
}
