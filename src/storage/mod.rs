//! The disk: block log, index segments, catalog rows. The only module that names sled.
//!
//! Layout of a data directory: `LOCK` (held while open), `FORMAT` (checked before anything else),
//! `WATERMARK` (how far the log has come), `store/` (sled: trees `log`, `index`, `catalog`, `meta`). See `docs/format.md`.
//!
//! Invariant: nothing here decides; rules live in `store`.

mod block;
mod catalog;
mod codec;
mod disk;
mod error;
mod index;
mod log;
pub(crate) mod pb;
mod space;
mod watermark;

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use crate::{
    model::{Direction, Position, Timestamp},
    storage::{disk::Disk, index::Index, log::Log, pb::EventRecord},
};

pub(crate) use block::{Block, Body};
pub(crate) use catalog::{CatalogBatch, CatalogRecords};
pub use error::StorageError;
pub(crate) use index::{DatasetTotals, IndexFigures, Lookup, Query, Scan, Span, Term, id_hash};
pub(crate) use log::LogBatch;

/// Version of the disk format; see `docs/format.md`.
pub const FORMAT_VERSION: u32 = 1;
const META_EPOCH: &[u8] = b"epoch";

/// How a data directory is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StorageOptions {
    /// Bytes of decoded blocks kept in memory.
    pub(crate) cache_bytes: u64,
    /// Events indexed in memory before they become a segment.
    pub(crate) index_tail_events: u64,
}

/// An open data directory.
pub(crate) struct Storage {
    disk: Disk,
    log: Log,
    index: Index,
    catalog: sled::Tree,
    epoch: Uuid,
    last: Position,
    last_record_time: Option<Timestamp>,
    path: PathBuf,
    /// Dropped last: another process may open the directory only when all else is closed.
    _lock: File,
}

impl Storage {
    /// Opens or creates a data directory, and rebuilds the index tail from the log.
    pub(crate) fn open(path: &Path, options: StorageOptions) -> Result<Self, StorageError> {
        fs::create_dir_all(path)?;
        let lock = lock(path)?;
        check_format(path)?;
        let disk = Disk::open(&path.join("store"))?;
        let meta = disk.tree("meta")?;
        let epoch = if let Some(bytes) = meta.get(META_EPOCH)? {
            Uuid::from_slice(&bytes)
                .map_err(|error| StorageError::corrupt(format!("log epoch: {error}")))?
        } else {
            let epoch = Uuid::new_v4();
            meta.insert(META_EPOCH, epoch.as_bytes())?;
            disk.sync()?;
            epoch
        };
        let log = Log::new(disk.tree("log")?, options.cache_bytes);
        let index = Index::open(disk.tree("index")?, options.index_tail_events)?;
        let last = log.last()?;
        watermark::check(path, last)?;
        let last_record_time = log.last_record_time()?;
        let catalog = disk.tree("catalog")?;
        let path = path.to_owned();
        let storage =
            Self { disk, log, index, catalog, epoch, last, last_record_time, path, _lock: lock };
        storage.replay()?;
        // After a kill the last writes may be in the system's cache only; now they are seen.
        storage.disk.sync()?;
        watermark::write(&storage.path, last)?;
        Ok(storage)
    }

    /// Adds to the index what the log has after the index's checkpoint.
    fn replay(&self) -> Result<(), StorageError> {
        let mut at = self.index.checkpoint();
        if at > self.last {
            return Err(StorageError::corrupt(format!(
                "index goes to position {at}, the log to {}",
                self.last
            )));
        }
        while at < self.last {
            let block = self.block(at.next())?.ok_or_else(|| {
                StorageError::corrupt(format!("log has no position {}", at.next()))
            })?;
            let records: Vec<_> = block.iter().collect::<Result<_, _>>()?;
            self.index.add(records.iter().map(|(position, record)| {
                (*position, id_hash(record.dataset, &record.event_id), record)
            }));
            self.index.seal_frozen()?;
            at = block.last();
        }
        Ok(())
    }

    /// Writes a commit group and makes it durable.
    pub(crate) fn commit(&self, batch: &mut LogBatch) -> Result<(), StorageError> {
        self.disk.check()?;
        self.log.write(batch).inspect_err(|error| self.disk.poison(&error.to_string()))?;
        self.disk.sync()
    }

    /// Makes a durable commit group visible to index queries and to the block cache. Waits while
    /// the indexer is too far behind.
    pub(crate) fn publish<'a>(
        &self,
        batch: LogBatch,
        events: impl Iterator<Item = (Position, u64, &'a EventRecord)>,
    ) -> Result<(), StorageError> {
        self.index.add(events);
        self.log.remember(batch);
        self.index.wait_for_indexer().inspect_err(|error| self.disk.poison(&error.to_string()))
    }

    /// Writes a catalog change and makes it durable.
    pub(crate) fn commit_catalog(&self, batch: CatalogBatch) -> Result<(), StorageError> {
        self.disk.check()?;
        catalog::write(&self.catalog, batch)
            .inspect_err(|error| self.disk.poison(&error.to_string()))?;
        self.disk.sync()
    }

    pub(crate) fn read_catalog(&self) -> Result<CatalogRecords, StorageError> {
        catalog::read(&self.catalog)
    }

    /// The block that holds a position.
    pub(crate) fn block(&self, position: Position) -> Result<Option<Arc<Block>>, StorageError> {
        self.log.block(position)
    }

    /// The last position, up to `last`, whose event was stored before `time_us`.
    pub(crate) fn last_before(
        &self,
        time_us: i64,
        last: Position,
    ) -> Result<Position, StorageError> {
        self.log.last_before(time_us, last)
    }

    pub(crate) fn scan(&self, query: Query, span: Span, direction: Direction) -> Scan {
        self.index.scan(query, span, direction)
    }

    pub(crate) fn ids_with(&self, hash: u64) -> Result<Vec<Position>, StorageError> {
        self.index.ids_with(hash)
    }

    pub(crate) fn dataset_totals(&self, dataset: u32) -> DatasetTotals {
        self.index.totals(dataset)
    }

    pub(crate) fn index_figures(&self) -> IndexFigures {
        self.index.figures()
    }

    /// The indexer thread; see [`Index::run_indexer`].
    pub(crate) fn run_indexer(&self) {
        self.index.run_indexer(|checkpoint| {
            // What is indexed is durable.
            if let Err(error) = watermark::write(&self.path, checkpoint) {
                tracing::error!(%error, "watermark not written");
            }
        });
    }

    pub(crate) fn stop_indexer(&self) {
        self.index.stop_indexer();
    }

    /// Names this log; changes when it starts anew.
    pub(crate) fn epoch(&self) -> Uuid {
        self.epoch
    }

    /// The last position when the directory was opened.
    pub(crate) fn last_at_open(&self) -> Position {
        self.last
    }

    /// When the last event had been stored when the directory was opened.
    pub(crate) fn last_record_time_at_open(&self) -> Option<Timestamp> {
        self.last_record_time
    }

    pub(crate) fn poison(&self, cause: &str) {
        self.disk.poison(cause);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.disk.is_poisoned()
    }

    /// Writes what is buffered, for an orderly close; `last` is the last position.
    pub(crate) fn close(&self, last: Position) -> Result<(), StorageError> {
        self.disk.sync()?;
        Ok(watermark::write(&self.path, last)?)
    }

    /// Bytes that may still be written to the file system of the data directory.
    pub(crate) fn free_bytes(&self) -> std::io::Result<u64> {
        space::free_bytes(&self.path)
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk.bytes()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn lock(path: &Path) -> Result<File, StorageError> {
    let lock = File::options().create(true).truncate(false).write(true).open(path.join("LOCK"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Refuses a directory of another format; marks a new one.
fn check_format(path: &Path) -> Result<(), StorageError> {
    let wanted = format!("milepost {FORMAT_VERSION}\n");
    let file = path.join("FORMAT");
    match fs::read_to_string(&file) {
        Ok(found) if found == wanted => Ok(()),
        Ok(found) => Err(StorageError::Format {
            found: found.trim().to_owned(),
            wanted: wanted.trim().to_owned(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if path.join("store").exists() {
                let found = "no FORMAT file beside a store".to_owned();
                return Err(StorageError::Format { found, wanted: wanted.trim().to_owned() });
            }
            let draft = path.join("FORMAT.new");
            let mut new = File::create(&draft)?;
            new.write_all(wanted.as_bytes())?;
            new.sync_all()?;
            fs::rename(draft, file)?;
            disk::sync_directories(path)?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
