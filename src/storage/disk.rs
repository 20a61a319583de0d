//! Durability: the only place that knows what sled leaves to the operating system.
//!
//! Invariant: when [`Disk::sync`] returns `Ok`, everything written to it before survives a power cut.
//! sled's own `flush` ends in `sync_file_range`, which promises neither the file's size nor the
//! drive's cache; our own `fdatasync` on the same file does.

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::storage::StorageError;

/// Whether a write has failed. After that nothing is known about what is on disk, so all writes are
/// refused until the store is opened again.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    poisoned: AtomicBool,
    cause: OnceLock<String>,
}

impl Poison {
    /// Refuses all further writes.
    pub(crate) fn set(&self, cause: &str) {
        if self.cause.set(cause.to_owned()).is_ok() {
            tracing::error!(cause, "store poisoned: writes are refused until restart");
        }
        self.poisoned.store(true, Ordering::Release);
    }

    /// Passes a write's outcome on, and poisons the store when it failed.
    pub(crate) fn watch<T>(&self, outcome: Result<T, StorageError>) -> Result<T, StorageError> {
        outcome.inspect_err(|error| self.set(&error.to_string()))
    }

    /// Fails when the store is poisoned.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        if self.is_set() {
            return Err(StorageError::Poisoned(self.cause.get().cloned().unwrap_or_default()));
        }
        Ok(())
    }

    pub(crate) fn is_set(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }
}

/// How often, and how long, to wait for sled's lock.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How a sled database is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskOptions {
    /// sled writes a leaf larger than a quarter of a segment to a file of its own, and does not
    /// sync it. A leaf has at most 17 rows, so with rows of at most a seventieth of this none ever
    /// gets there; `sync` still looks.
    pub(crate) segment_bytes: usize,
    /// sled's own page cache. Small: Milepost caches packed blocks instead.
    pub(crate) cache_bytes: u64,
}

/// The files of one sled database.
#[derive(Debug)]
pub(crate) struct Disk {
    db: sled::Db,
    file: File,
    blobs: PathBuf,
    poison: Arc<Poison>,
    /// Bytes written since the file was last synced.
    unsynced: AtomicU64,
    /// As many as there may be.
    unsynced_max: u64,
}

/// A database's file is synced after so many bytes, as a part of a segment, also when nothing need be durable yet.
///
/// sled copies what still counts out of an old segment and writes over that one, two segments later at the earliest,
/// and takes the copy for durable when `sync_file_range` has returned. A power cut could lose the copy, and the
/// original would be gone, also if it was durable before. What is written grows fivefold at most on its
/// way through sled's pages.
const UNSYNCED_PART: usize = 4;

impl Disk {
    /// Opens or creates the database in `path`.
    pub(crate) fn open(
        path: &Path,
        options: DiskOptions,
        poison: Arc<Poison>,
    ) -> Result<Self, StorageError> {
        let fresh = !path.join("conf").exists();
        remove_drafts(path)?;
        let db = open_engine(path, options)?;
        let file = File::options().write(true).open(path.join("db"))?;
        let blobs = path.join("blobs");
        let unsynced_max = (options.segment_bytes / UNSYNCED_PART) as u64;
        let unsynced = AtomicU64::new(0);
        let disk = Self { db, file, blobs, poison, unsynced, unsynced_max };
        if fresh {
            disk.sync()?;
            // sled writes `conf` once and never syncs it; without it the database does not open.
            File::open(path.join("conf"))?.sync_all()?;
            sync_directories(path)?;
        }
        Ok(disk)
    }

    pub(crate) fn tree(&self, name: &str) -> Result<sled::Tree, StorageError> {
        Ok(self.db.open_tree(name)?)
    }

    /// A tree, if it was ever opened with [`Disk::tree`].
    pub(crate) fn existing_tree(&self, name: &str) -> Result<Option<sled::Tree>, StorageError> {
        let exists = self.db.tree_names().iter().any(|it| it == name.as_bytes());
        exists.then(|| self.tree(name)).transpose()
    }

    /// Makes everything written so far durable; never tried again after a failure.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.poison.check()?;
        self.poison.watch(self.try_sync())
    }

    /// So many bytes were written, and need not be durable yet.
    pub(crate) fn wrote(&self, bytes: usize) -> Result<(), StorageError> {
        let bytes = bytes as u64;
        if self.unsynced.fetch_add(bytes, Ordering::Relaxed) + bytes < self.unsynced_max {
            return Ok(());
        }
        self.poison.check()?;
        self.unsynced.store(0, Ordering::Relaxed);
        self.poison.watch(self.file.sync_data().map_err(StorageError::from))
    }

    fn try_sync(&self) -> Result<(), StorageError> {
        // What goes to a segment now may be written over an old one.
        if self.unsynced.swap(0, Ordering::Relaxed) > self.unsynced_max / 2 {
            self.file.sync_data()?;
        }
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
        if found { sync_directory(&self.blobs) } else { Ok(()) }
    }

    /// Bytes of all its files.
    pub(crate) fn bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

/// Opens a sled database. Whatever it makes of damaged files, also a panic, is an error that names
/// the directory.
fn open_engine(path: &Path, options: DiskOptions) -> Result<sled::Db, StorageError> {
    let config = sled::Config::new()
        .path(path)
        .segment_size(options.segment_bytes)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(None)
        .mode(sled::Mode::HighThroughput);
    let name = path.file_name().unwrap_or_default().display();
    let open = || catch_unwind(AssertUnwindSafe(|| config.open()));
    let mut opened = open();
    // The data directory's own lock keeps other processes out. What may still hold sled's lock is a
    // task of the database that this process has just closed.
    for _ in 0..LOCK_TRIES {
        if !matches!(&opened, Ok(Err(sled::Error::Io(error))) if is_lock(error)) {
            break;
        }
        thread::park_timeout(LOCK_PAUSE);
        opened = open();
    }
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error @ sled::Error::Io(_))) => Err(error.into()),
        Ok(Err(error)) => Err(StorageError::corrupt(format!("database `{name}`: {error}"))),
        Err(_panic) => Err(StorageError::corrupt(format!(
            "database `{name}`: the embedded store gave up on it"
        ))),
    }
}

/// Whether sled says that its file is locked: it wraps the system's answer in words.
fn is_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("acquire lock")
}

impl Drop for Disk {
    fn drop(&mut self) {
        // sled syncs its file when its last handle goes, and panics should that fail.
        if self.poison.is_set() || self.file.sync_all().is_err() {
            std::mem::forget(self.db.clone());
        }
    }
}

/// Removes what sled leaves when it ends while it writes a snapshot. It would take it for the newest
/// snapshot, find it cut short, and not open; it means to skip such files, but by another name.
fn remove_drafts(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Syncs a directory, so that names made, changed and removed in it survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Syncs a directory and its parent.
pub(crate) fn sync_directories(path: &Path) -> io::Result<()> {
    sync_directory(path)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_directory(parent)?;
    }
    Ok(())
}

/// Writes a small file whole or not at all, durably.
pub(crate) fn write_file(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let draft = directory.join(format!("{name}.new"));
    fs::write(&draft, text)?;
    File::open(&draft)?.sync_all()?;
    fs::rename(draft, directory.join(name))?;
    sync_directory(directory)
}
