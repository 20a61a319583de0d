//! Durability: the only place that knows what sled leaves to the operating system.
//!
//! Invariant: when [`Disk::sync`] returns `Ok`, everything written before it survives a power cut.
//! sled's own `flush` ends in `sync_file_range`, which promises neither the file's size nor the
//! drive's cache; our own `fdatasync` on the same file does.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::storage::StorageError;

/// sled writes a value larger than a quarter of a segment to a file of its own, and does not sync
/// it. A leaf has at most 17 values of at most `PART_BYTES_MAX`, so with 8 MiB segments no leaf
/// ever gets there; `sync` still looks.
pub(crate) const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
/// sled's own page cache. Small: Milepost caches decoded blocks instead.
const ENGINE_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// The embedded store's files.
#[derive(Debug)]
pub(crate) struct Disk {
    db: sled::Db,
    file: File,
    blobs: PathBuf,
    poisoned: AtomicBool,
    cause: OnceLock<String>,
}

impl Disk {
    /// Opens or creates the store in `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let fresh = !path.join("conf").exists();
        let db = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(ENGINE_CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput)
            .open()?;
        let file = File::options().write(true).open(path.join("db"))?;
        let disk = Self {
            db,
            file,
            blobs: path.join("blobs"),
            poisoned: AtomicBool::new(false),
            cause: OnceLock::new(),
        };
        if fresh {
            disk.sync()?;
            // sled writes `conf` once and never syncs it; without it the store does not open.
            File::open(path.join("conf"))?.sync_all()?;
            sync_directories(path)?;
        }
        Ok(disk)
    }

    pub(crate) fn tree(&self, name: &str) -> Result<sled::Tree, StorageError> {
        Ok(self.db.open_tree(name)?)
    }

    /// Makes everything written so far durable. After a failure nothing is known about what is on
    /// disk, so the store is poisoned and never retries.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.check()?;
        self.try_sync().inspect_err(|error| self.poison(&error.to_string()))
    }

    fn try_sync(&self) -> Result<(), StorageError> {
        self.db.flush()?;
        self.sync_blobs()?;
        self.file.sync_data()?;
        Ok(())
    }

    /// Syncs values that sled put into files of their own; normally there are none.
    fn sync_blobs(&self) -> io::Result<()> {
        let mut found = false;
        for entry in fs::read_dir(&self.blobs)? {
            File::open(entry?.path())?.sync_all()?;
            found = true;
        }
        if found {
            File::open(&self.blobs)?.sync_all()?;
        }
        Ok(())
    }

    /// Refuses all further writes.
    pub(crate) fn poison(&self, cause: &str) {
        if self.cause.set(cause.to_owned()).is_ok() {
            tracing::error!(cause, "store poisoned: writes are refused until restart");
        }
        self.poisoned.store(true, Ordering::Release);
    }

    /// Fails when the store is poisoned.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        if self.is_poisoned() {
            let cause = self.cause.get().cloned().unwrap_or_default();
            return Err(StorageError::Poisoned(cause));
        }
        Ok(())
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Bytes of all files of the store.
    pub(crate) fn bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

/// Syncs a directory and its parent, so that names created in them survive a power cut.
pub(crate) fn sync_directories(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}
