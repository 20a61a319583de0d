//! The disk: journal, volumes of packed blocks and index segments, catalog rows. The only module that
//! names sled.
//!
//! Layout of a data directory: `LOCK` (held while open), `FORMAT` (checked before anything else),
//! `journal/` (what was committed last), `volumes/` (the log and its index, one sled database for
//! each span of positions), `catalog/` (sled: schemas, datasets, namespaces), `table/` (sled: rows that
//! change together with the log). See `docs/format.md`.
//!
//! Invariant: nothing here decides; rules live in `store`.

mod block;
mod catalog;
mod chain;
mod codec;
mod compaction;
mod dictionaries;
mod disk;
mod error;
mod floors;
mod held;
mod index;
mod journal;
mod log;
mod packed;
mod packer;
pub(crate) mod pb;
mod rewrite;
mod space;
mod table;
mod tagged;
mod tree;
mod verify;
mod volume;
mod writer;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    model::{Direction, Position, Timestamp},
    storage::{
        catalog::CatalogStore,
        chain::Chain,
        disk::Poison,
        held::HeldCache,
        index::Index,
        journal::{Holds, Journal},
        log::Log,
        packer::{Packer, Signal},
        pb::EventRecord,
        table::Table,
    },
};

pub(crate) use block::{Block, encode_record};
pub(crate) use catalog::{CatalogBatch, CatalogRecords};
pub(crate) use compaction::CompactionProgress;
pub use error::StorageError;
pub(crate) use floors::Floors;
pub(crate) use index::{
    Budget, DatasetTotals, IndexFigures, Lookup, Part, Query, Scan, Span, Tail, Term, id_hash,
};
pub(crate) use journal::FrameBuffer;
pub(crate) use table::{Row, RowChange, kind as table_kind};
pub(crate) use tagged::{dataset_of, holders};
pub use verify::{Finding, FindingKind, Loss, LostEvent, Salvaged, Verified, VerifyNews};
pub(crate) use verify::{MakeUp, salvage, verify_directory};

/// Version of the disk format; see `docs/format.md`.
pub const FORMAT_VERSION: u32 = 4;
/// The oldest version that is read; opening a store makes it the newest.
const FORMAT_READ_SINCE: u32 = 3;

/// The index has this part of what is kept in memory.
const INDEX_PART: u64 = 4;

/// How a data directory is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StorageOptions {
    /// Bytes of packed blocks and rows of the index kept in memory.
    pub(crate) cache_bytes: u64,
    /// Events indexed in memory before they become a segment.
    pub(crate) index_tail_events: u64,
    /// Positions in a volume before the next one is begun.
    pub(crate) volume_events: u64,
}

/// An open data directory.
pub(crate) struct Storage {
    log: Log,
    index: Index,
    journal: Journal,
    poison: Arc<Poison>,
    signal: Signal,
    held_cache: HeldCache,
    /// Held by the one compaction under way.
    compacting: Mutex<()>,
    catalog: CatalogStore,
    table: Table,
    volume_events: u64,
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
        check_begun(path)?;
        for name in ["catalog", "journal", "table", "volumes"] {
            fs::create_dir_all(path.join(name))?;
        }
        // What is synced in a directory is lost with the directory's own name.
        disk::sync_directory(path)?;
        let poison = Arc::new(Poison::default());
        let catalog = CatalogStore::open(path, Arc::clone(&poison))?;
        let epoch = catalog.epoch()?;
        let table = Table::open(path, Arc::clone(&poison))?;

        let volumes = path.join("volumes");
        let chain = Chain::open(&volumes, &poison)?;
        let active = chain.active()?;
        let (packed, reached) = (active.last()?, Position::new(active.record()?.reached));
        // After a kill the last writes may be in the system's cache only; now they are seen.
        active.sync(&active.record()?)?;
        let elsewhere = Holds { records: packed, changes: table.kept() };
        let (journal, frames) = Journal::open(&path.join("journal"), elsewhere)?;
        for frame in frames.iter().filter(|it| it.sequence > elsewhere.changes) {
            table.replay(frame)?;
        }
        let frames: Vec<_> = frames.into_iter().filter(|it| it.has_after(packed)).collect();
        let last = frames.last().map_or(packed, journal::Frame::last);
        if last < reached || frames.first().is_some_and(|it| it.first > packed.next()) {
            return Err(StorageError::corrupt(format!(
                "the log ends at position {packed} and has reached {}: stored data is damaged",
                frames.first().map_or(reached, |frame| frame.first)
            )));
        }
        let mut segments = Vec::new();
        for volume in chain.volumes() {
            segments.extend(index::open_segments(volume.index())?);
            volume.rest()?;
        }
        let index_bytes = options.cache_bytes / INDEX_PART;
        let rows = index::RowCache::new(index_bytes);
        let StorageOptions { index_tail_events, volume_events, .. } = options;
        let index = Index::new(segments, active.after, index_tail_events, volume_events, rows)?;
        let log = Log::new(&volumes, chain, packed, options.cache_bytes - index_bytes);
        let mut storage = Self {
            log,
            index,
            journal,
            poison,
            signal: Signal::default(),
            held_cache: HeldCache::default(),
            compacting: Mutex::new(()),
            catalog,
            table,
            volume_events: options.volume_events,
            epoch,
            last,
            last_record_time: None,
            path: path.to_owned(),
            _lock: lock,
        };
        storage.replay(packed, frames)?;
        storage.last_record_time = storage.log.record_time(last)?;
        let elsewhere = Holds { records: storage.log.packed(), changes: storage.table.kept() };
        storage.journal.release(&elsewhere)?;
        Ok(storage)
    }

    /// Adds to the index what the log has after the index's checkpoint, and to the log what the
    /// journal has after the volumes.
    fn replay(&self, packed: Position, frames: Vec<journal::Frame>) -> Result<(), StorageError> {
        let mut at = self.index.checkpoint();
        if at > self.last {
            return Err(StorageError::corrupt(format!(
                "index goes to position {at}, the log to {}",
                self.last
            )));
        }
        let mut worker = self.packer();
        while at < packed {
            let run = self.block(at.next())?.ok_or_else(|| {
                StorageError::corrupt(format!("log has no position {}", at.next()))
            })?;
            self.replay_run(&run)?;
            at = run.last();
            if self.index.first_frozen().is_some() {
                worker.work(false)?;
            }
        }
        for frame in frames {
            let run = Block::new(frame.first, frame.record_time, frame.body)?;
            self.replay_run(&run)?;
            self.log.add(run);
            if self.index.first_frozen().is_some() {
                worker.work(false)?;
            }
        }
        Ok(())
    }

    /// Indexes what is not indexed of a run.
    fn replay_run(&self, run: &Block) -> Result<(), StorageError> {
        let indexed = self.index.last();
        let records: Vec<_> = run.iter().collect::<Result<_, _>>()?;
        let new = records.iter().filter(|(position, _)| *position > indexed);
        self.index.add(
            run.last(),
            new.map(|(position, record)| {
                (*position, id_hash(record.dataset, &record.event_id), record)
            }),
        );
        Ok(())
    }

    /// Writes a commit group and makes it durable; its changes of the table are visible then. Waits while
    /// the packer is too far behind.
    pub(crate) fn commit(
        &self,
        first: Position,
        count: u32,
        record_time: Timestamp,
        frame: &mut FrameBuffer,
    ) -> Result<(), StorageError> {
        self.poison.check()?;
        let written = self.journal.append(first, count, record_time, frame);
        let (sequence, changes) = self.poison.watch(written)?;
        if !changes.is_empty() {
            self.table.apply(sequence, changes);
            if self.table.is_worth_moving() || self.journal.is_long() {
                self.signal.wake();
            }
        }
        Ok(())
    }

    /// Writes a commit group that has no changes of the table ahead of [`Storage::commit`], which must come next
    /// for it; until then it may grow to `bytes_max`. False when that cannot be now.
    pub(crate) fn write_ahead(
        &self,
        first: Position,
        count: u32,
        record_time: Timestamp,
        frame: &mut FrameBuffer,
        bytes_max: u64,
    ) -> Result<bool, StorageError> {
        self.poison.check()?;
        let written = self.journal.write_ahead(first, count, record_time, frame, bytes_max);
        self.poison.watch(written)
    }

    /// Writes changes of the table alone, durably.
    pub(crate) fn commit_rows(
        &self,
        record_time: Timestamp,
        changes: Vec<RowChange>,
    ) -> Result<(), StorageError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut frame = FrameBuffer::with_capacity(0);
        frame.change(changes);
        self.commit(self.log.newest().next(), 0, record_time, &mut frame)
    }

    /// A row of the table.
    pub(crate) fn row(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.table.get(key)
    }

    /// At most `limit` rows of the table, ascending, whose keys begin with `prefix` and come after
    /// `after`.
    pub(crate) fn rows(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<table::Row>, StorageError> {
        self.table.scan(prefix, after, limit)
    }

    /// Makes a durable commit group visible to index queries and to readers of the log.
    pub(crate) fn publish<'a>(
        &self,
        run: Block,
        events: impl Iterator<Item = (Position, u64, &'a EventRecord)>,
    ) -> Result<(), StorageError> {
        self.index.add(run.last(), events);
        self.log.add(run);
        let unpacked = self.log.unpacked_bytes();
        if packer::is_worth_waking(unpacked) || self.index.first_frozen().is_some() {
            self.signal.wake();
        }
        if self.index.is_behind() && !self.signal.wait_until(|| !self.index.is_behind()) {
            return self.poison.check();
        }
        Ok(())
    }

    /// Writes a catalog change and makes it durable.
    pub(crate) fn commit_catalog(&self, batch: CatalogBatch) -> Result<(), StorageError> {
        self.poison.check()?;
        self.poison.watch(self.catalog.write(batch))
    }

    pub(crate) fn read_catalog(&self) -> Result<CatalogRecords, StorageError> {
        self.catalog.read()
    }

    /// The run of records that holds a position; `None` beyond the log's ends.
    pub(crate) fn block(&self, position: Position) -> Result<Option<Arc<Block>>, StorageError> {
        self.log.block(position)
    }

    /// When the event at a position was stored, also of one that was removed since.
    pub(crate) fn record_time(
        &self,
        position: Position,
    ) -> Result<Option<Timestamp>, StorageError> {
        self.log.record_time(position)
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

    /// See [`Index::edge`].
    pub(crate) fn edge(
        &self,
        query: &Query,
        span: Span,
        direction: Direction,
        budget: &mut Budget,
    ) -> Result<Option<Position>, StorageError> {
        self.index.edge(query, span, direction, budget)
    }

    pub(crate) fn ids_with(&self, hash: u64) -> Result<Vec<Position>, StorageError> {
        self.index.ids_with(hash)
    }

    pub(crate) fn count(&self, query: &Query, span: Span) -> Result<u64, StorageError> {
        self.index.count(query, span)
    }

    pub(crate) fn index_figures(&self) -> IndexFigures {
        self.index.figures()
    }

    /// Bytes of the journal's files.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.journal.figures().bytes
    }

    /// Volumes that the log consists of.
    pub(crate) fn volumes(&self) -> u64 {
        self.log.chain().volumes().count() as u64
    }

    /// Bytes of blocks and index segments, as of each volume's last sync.
    pub(crate) fn live_bytes(&self) -> u64 {
        let chain = self.log.chain();
        let records = chain.volumes().filter_map(|volume| volume.record().ok());
        records.map(|record| record.log_bytes + record.index_bytes).sum()
    }

    /// The packer thread; see [`Packer`].
    pub(crate) fn run_packer(&self) {
        self.packer().run();
    }

    /// Does once what the packer does, before it runs: many changes of the table would not fit into the journal.
    pub(crate) fn settle(&self) -> Result<(), StorageError> {
        self.packer().work(false)
    }

    pub(crate) fn stop_packer(&self) {
        self.signal.stop();
    }

    fn packer(&self) -> Packer<'_> {
        let Self { log, index, journal, table, poison, signal, volume_events, .. } = self;
        Packer::new(log, index, journal, table, poison, signal, *volume_events)
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
        self.poison.set(cause);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Notes how far the log has come, for an orderly close.
    pub(crate) fn close(&self) -> Result<(), StorageError> {
        self.packer().close()
    }

    /// Bytes that may still be written to the file system of the data directory.
    pub(crate) fn free_bytes(&self) -> std::io::Result<u64> {
        space::free_bytes(&self.path)
    }

    /// Bytes of all files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let volumes: u64 = self.log.chain().volumes().map(|volume| volume.disk_bytes()).sum();
        let rows = self.catalog.disk_bytes() + self.table.disk_bytes();
        volumes + self.journal.figures().bytes + rows
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

/// Removes what is left of a store whose making was cut off, and refuses one that has lost the list of
/// its volumes. The list is written before the catalog's first change, and before the journal's first
/// file: without any of them nothing was ever stored.
fn check_begun(path: &Path) -> Result<(), StorageError> {
    let (journal, volumes) = (path.join("journal"), path.join("volumes"));
    if volumes.join(chain::MANIFEST).exists() {
        return Ok(());
    }
    let has_journal = fs::read_dir(&journal).is_ok_and(|mut files| files.next().is_some());
    if has_journal || [catalog::WITNESS, table::WITNESS].iter().any(|it| path.join(it).exists()) {
        return Err(StorageError::corrupt(format!(
            "`volumes/{}` is missing: it says which volumes the log is made of",
            chain::MANIFEST
        )));
    }
    for directory in [path.join("catalog"), path.join("table"), volumes] {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// What `FORMAT` holds.
fn format_text(version: u32) -> String {
    format!("milepost {version}\n")
}

/// Whether a store whose `FORMAT` holds this text can be read.
fn is_readable(format: &str) -> bool {
    (FORMAT_READ_SINCE..=FORMAT_VERSION).any(|it| format == format_text(it))
}

/// Refuses a directory of a format that cannot be read; marks a new one, and one that is older.
fn check_format(path: &Path) -> Result<(), StorageError> {
    let wanted = format_text(FORMAT_VERSION);
    let refused = |found: &str| {
        let (found, wanted) = (found.trim().to_owned(), wanted.trim().to_owned());
        Err(StorageError::Format { found, wanted })
    };
    match fs::read(path.join("FORMAT")) {
        Ok(found) if found == wanted.as_bytes() => Ok(()),
        // Before anything in it is written anew: an older server must not open what is half old.
        Ok(found) if is_readable(&String::from_utf8_lossy(&found)) => {
            Ok(disk::write_file(path, "FORMAT", &wanted)?)
        }
        Ok(found) => refused(&String::from_utf8_lossy(&found)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let stores = ["store", "volumes", "catalog", "journal"];
            if stores.iter().any(|it| path.join(it).exists()) {
                return refused("no FORMAT file beside a store");
            }
            disk::write_file(path, "FORMAT", &wanted)?;
            Ok(disk::sync_directories(path)?)
        }
        Err(error) => Err(error.into()),
    }
}
