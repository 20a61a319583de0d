//! The catalog's rows: schema documents, descriptors, datasets, namespaces, event definitions and what they
//! matched in retrospect, audit records.
//!
//! sled takes the first damaged page for the end of what was written, and would come back with an
//! older catalog. The file `CATALOG` beside it says how many changes there were and what all rows
//! add up to, so that this is noticed.

mod draft;
mod sound;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use prost::Message;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::storage::{
    StorageError,
    disk::{Disk, DiskOptions, Poison, write_file},
    pb::{
        AuditRecord, BackfillRecord, DatasetRecord, DescriptorRecord, EventDefinitionRecord,
        NamespaceRecord, SchemaRecord,
    },
};

pub(crate) use sound::{SoundCatalog, open_database};

const DISK: DiskOptions =
    DiskOptions { segment_bytes: 4 * 1024 * 1024, cache_bytes: 16 * 1024 * 1024 };
pub(crate) const WITNESS: &str = "CATALOG";
const META_EPOCH: &[u8] = b"epoch";

/// First byte of a catalog key.
mod kind {
    pub(super) const REVISION: u8 = 0;
    pub(super) const SCHEMA: u8 = 1;
    pub(super) const DATASET: u8 = 2;
    pub(super) const NAMESPACE: u8 = 3;
    pub(super) const AUDIT: u8 = 4;
    pub(super) const EVENT_DEFINITION: u8 = 5;
    pub(super) const DESCRIPTOR: u8 = 7;
    pub(super) const BACKFILL: u8 = 8;
    /// Names rows that do not count yet.
    pub(super) const DRAFT: u8 = 9;
}

/// One change of the catalog, written whole or not at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatalogBatch {
    /// `None` takes a row away.
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl CatalogBatch {
    /// `[1][number: u32] -> SchemaRecord`
    pub(crate) fn put_schema(&mut self, record: &SchemaRecord) {
        self.put(numbered(kind::SCHEMA, record.number), record);
    }

    /// `[2][number: u32] -> DatasetRecord`
    pub(crate) fn put_dataset(&mut self, record: &DatasetRecord) {
        self.put(numbered(kind::DATASET, record.number), record);
    }

    /// `[3][code] -> NamespaceRecord`
    pub(crate) fn put_namespace(&mut self, record: &NamespaceRecord) {
        let mut key = vec![kind::NAMESPACE];
        key.extend_from_slice(record.code.as_bytes());
        self.put(key, record);
    }

    /// `[4][number: u64] -> AuditRecord`
    pub(crate) fn put_audit(&mut self, record: &AuditRecord) {
        self.put(audit_key(record.number), record);
    }

    /// Takes an audit record away.
    pub(crate) fn remove_audit(&mut self, number: u64) {
        self.rows.push((audit_key(number), None));
    }

    /// `[5][number: u32][version: u32] -> EventDefinitionRecord`
    pub(crate) fn put_event_definition(&mut self, record: &EventDefinitionRecord) {
        self.put(event_definition_key(record.number, record.version), record);
    }

    /// Takes a version of an event definition away.
    pub(crate) fn remove_event_definition(&mut self, number: u32, version: u32) {
        self.rows.push((event_definition_key(number, version), None));
    }

    /// `[7][id] -> DescriptorRecord`
    pub(crate) fn put_descriptor(&mut self, id: &str, record: &DescriptorRecord) {
        self.put(descriptor_key(id), record);
    }

    /// Takes a descriptor away.
    pub(crate) fn remove_descriptor(&mut self, id: &str) {
        self.rows.push((descriptor_key(id), None));
    }

    /// `[8][definition: u32][row: u32] -> BackfillRecord`
    pub(crate) fn put_backfill(&mut self, record: &BackfillRecord) {
        self.put(backfill_key(record.definition, record.row), record);
    }

    /// Takes a row of a back-fill away.
    pub(crate) fn remove_backfill(&mut self, definition: u32, row: u32) {
        self.rows.push((backfill_key(definition, row), None));
    }

    fn put(&mut self, key: Vec<u8>, record: &impl Message) {
        self.rows.push((key, Some(record.encode_to_vec())));
    }
}

fn descriptor_key(id: &str) -> Vec<u8> {
    let mut key = vec![kind::DESCRIPTOR];
    key.extend_from_slice(id.as_bytes());
    key
}

fn audit_key(number: u64) -> Vec<u8> {
    let mut key = vec![kind::AUDIT];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn event_definition_key(number: u32, version: u32) -> Vec<u8> {
    twice_numbered(kind::EVENT_DEFINITION, number, version)
}

fn backfill_key(definition: u32, row: u32) -> Vec<u8> {
    twice_numbered(kind::BACKFILL, definition, row)
}

fn twice_numbered(kind: u8, first: u32, second: u32) -> Vec<u8> {
    let mut key = numbered(kind, first);
    key.extend_from_slice(&second.to_be_bytes());
    key
}

fn numbered(kind: u8, number: u32) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Everything that the catalog's tree holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatalogRecords {
    pub(crate) schemas: Vec<SchemaRecord>,
    pub(crate) datasets: Vec<DatasetRecord>,
    pub(crate) namespaces: Vec<NamespaceRecord>,
    pub(crate) audit: Vec<AuditRecord>,
    /// By number and version.
    pub(crate) event_definitions: Vec<EventDefinitionRecord>,
    pub(crate) descriptors: Vec<DescriptorRecord>,
    /// By definition and row.
    pub(crate) backfills: Vec<BackfillRecord>,
}

/// How many changes there were, and what all rows add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Witness {
    revision: u64,
    sum: u64,
}

/// The catalog on disk. One writer, the sequencer.
pub(crate) struct CatalogStore {
    directory: PathBuf,
    disk: Disk,
    tree: sled::Tree,
    witness: Mutex<Witness>,
}

impl CatalogStore {
    /// Opens or creates the catalog of a data directory.
    pub(crate) fn open(directory: &Path, poison: Arc<Poison>) -> Result<Self, StorageError> {
        let disk = Disk::open(&directory.join("catalog"), DISK, poison)?;
        let tree = disk.tree("catalog")?;
        draft::remove(&tree, &disk)?;
        let mut found = Witness::default();
        for row in &tree {
            let (key, value) = row?;
            if key.as_ref() == revision_key() {
                let revision = value.as_ref().try_into().map(u64::from_be_bytes);
                found.revision =
                    revision.map_err(|_length| StorageError::corrupt("catalog revision"))?;
            } else {
                found.sum = found.sum.wrapping_add(hash(&key, &value));
            }
        }
        let written = read_witness(directory)?;
        // The file follows the rows: a crash in between leaves it one change behind.
        let behind = found.revision == written.revision + 1;
        if found != written && !behind {
            return Err(StorageError::corrupt(format!(
                "the catalog is at change {} with sum {:x}, `{WITNESS}` at {} with {:x}: stored data \
                 is damaged",
                found.revision, found.sum, written.revision, written.sum
            )));
        }
        let directory = directory.to_owned();
        let store = Self { directory, disk, tree, witness: Mutex::new(found) };
        if behind {
            store.disk.sync()?;
            store.write_witness(found)?;
        }
        Ok(store)
    }

    /// Writes a change and makes it durable.
    pub(crate) fn write(&self, batch: CatalogBatch) -> Result<(), StorageError> {
        let mut witness = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Witness { revision: witness.revision + 1, ..*witness };
        let (mut rows, mut new_rows, mut new_bytes) = (sled::Batch::default(), Vec::new(), 0);
        for (key, value) in batch.rows {
            let old = self.tree.get(&key)?;
            let added = value.as_ref().map_or(0, |value| hash(&key, value));
            let lost = old.as_ref().map_or(0, |old| hash(&key, old));
            next.sum = next.sum.wrapping_add(added).wrapping_sub(lost);
            match value {
                Some(value) if old.is_none() => {
                    new_bytes += key.len() + value.len();
                    new_rows.push((key, value));
                }
                Some(value) => rows.insert(key, value),
                None => rows.remove(key),
            }
        }
        if new_bytes > draft::WITHOUT_DRAFT_BYTES {
            for draft in draft::write(&self.tree, &self.disk, &new_rows)? {
                rows.remove(draft);
            }
        } else {
            for (key, value) in new_rows {
                rows.insert(key, value);
            }
        }
        rows.insert(&revision_key(), &next.revision.to_be_bytes());
        self.tree.apply_batch(rows)?;
        self.disk.sync()?;
        *witness = next;
        self.write_witness(next)
    }

    fn write_witness(&self, witness: Witness) -> Result<(), StorageError> {
        let text = format!("{} {:016x}\n", witness.revision, witness.sum);
        Ok(write_file(&self.directory, WITNESS, &text)?)
    }

    /// Names the log; made with the store.
    pub(crate) fn epoch(&self) -> Result<Uuid, StorageError> {
        let meta = self.disk.tree("meta")?;
        if let Some(bytes) = meta.get(META_EPOCH)? {
            return Uuid::from_slice(&bytes)
                .map_err(|error| StorageError::corrupt(format!("log epoch: {error}")));
        }
        let epoch = Uuid::new_v4();
        meta.insert(META_EPOCH, epoch.as_bytes())?;
        self.disk.sync()?;
        Ok(epoch)
    }

    /// Makes this the catalog of the log with this name; only before anybody has asked for it.
    pub(crate) fn set_epoch(&self, epoch: Uuid) -> Result<(), StorageError> {
        self.disk.tree("meta")?.insert(META_EPOCH, epoch.as_bytes())?;
        self.disk.sync()
    }

    pub(crate) fn read(&self) -> Result<CatalogRecords, StorageError> {
        read(&self.tree)
    }

    /// Bytes of all its files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk.bytes()
    }
}

const fn revision_key() -> [u8; 1] {
    [kind::REVISION]
}

fn hash(key: &[u8], value: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(key);
    hash.update(value);
    hash.digest()
}

fn read_witness(directory: &Path) -> Result<Witness, StorageError> {
    let text = match fs::read(directory.join(WITNESS)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Witness::default()),
        Err(error) => return Err(error.into()),
    };
    let parse = || {
        let (revision, sum) = text.trim_end().split_once(' ')?;
        Some(Witness { revision: revision.parse().ok()?, sum: u64::from_str_radix(sum, 16).ok()? })
    };
    parse().ok_or_else(|| {
        StorageError::corrupt(format!("`{WITNESS}` is damaged: it holds `{}`", text.trim()))
    })
}

/// Reads the whole catalog.
fn read(tree: &sled::Tree) -> Result<CatalogRecords, StorageError> {
    let mut records = CatalogRecords::default();
    for row in tree {
        let (key, value) = row?;
        decode(&key, &value, &mut records)?;
    }
    Ok(records)
}

/// Decodes one row.
fn decode(key: &[u8], value: &[u8], records: &mut CatalogRecords) -> Result<(), StorageError> {
    let bad = |error| StorageError::corrupt(format!("catalog row {key:?}: {error}"));
    match key.first() {
        Some(&(kind::REVISION | kind::DRAFT)) => {}
        Some(&kind::SCHEMA) => records.schemas.push(SchemaRecord::decode(value).map_err(bad)?),
        Some(&kind::DATASET) => records.datasets.push(DatasetRecord::decode(value).map_err(bad)?),
        Some(&kind::NAMESPACE) => {
            records.namespaces.push(NamespaceRecord::decode(value).map_err(bad)?);
        }
        Some(&kind::DESCRIPTOR) => {
            records.descriptors.push(DescriptorRecord::decode(value).map_err(bad)?);
        }
        Some(&kind::AUDIT) => records.audit.push(AuditRecord::decode(value).map_err(bad)?),
        Some(&kind::EVENT_DEFINITION) => {
            records.event_definitions.push(EventDefinitionRecord::decode(value).map_err(bad)?);
        }
        Some(&kind::BACKFILL) => {
            records.backfills.push(BackfillRecord::decode(value).map_err(bad)?);
        }
        _ => return Err(StorageError::corrupt(format!("catalog row {key:?} of no kind"))),
    }
    Ok(())
}
