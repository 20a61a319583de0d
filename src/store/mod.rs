//! The rules: what may be stored, in which order, and how it is read back.
//!
//! [`EventStore`] is the whole of it to the outside: a cloneable handle on shared state. Reads go to
//! storage directly; every write goes through the sequencer's queue.

mod admission;
mod append;
mod append_stream;
mod catalog;
mod clock;
mod compaction;
mod conditions;
mod deadline;
mod definitions;
mod digest;
mod envelope;
mod error;
mod faults;
mod follow;
mod ingest;
mod mend;
mod pages;
mod plan;
mod quarantine;
mod query;
mod read;
mod refusals;
mod registry;
mod retention;
mod schema_views;
mod sequencer;
mod space;
mod stage;
mod subscription;
#[cfg(test)]
mod tests;
mod trace;
mod trim;
mod verify;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    model::{Position, Tenant, Timestamp, limits},
    storage::{self, Storage, StorageError, StorageOptions},
    store::{
        admission::Paces,
        catalog::{Catalog, Change},
        quarantine::{Quarantine, QuarantineQuota},
        refusals::Refusals,
        registry::CompiledSchemas,
        retention::Retainer,
        sequencer::{Command, Sequencer, Writer},
        space::Space,
        subscription::Subscriptions,
    },
};

pub use admission::Admission;
pub use append::{AppendOutcome, Appended, check_batch};
pub use append_stream::AppendStream;
pub use catalog::{
    AuditEntry, Dataset, DatasetChanges, DatasetSettings, Deprecation, Namespace, NamespaceChanges,
    NamespaceSettings, NamespaceType, SchemaVersion, StoredDescriptor,
};
pub use clock::Clock;
pub use compaction::Compaction;
pub use conditions::{ConditionFailure, FailureKind, check_conditions};
pub use deadline::Deadline;
pub use definitions::{
    BackfillProgress, Backfilling, DefinitionChanges, DefinitionKind, DefinitionSettings,
    DefinitionSpec, DefinitionState, DefinitionVersion, Discard, DiscardReason, Discarded,
    EventDefinition, Explanation, History, Key, Preview, Tested, Trial, TrialOutcome, TrialPlace,
    Tried,
};
pub use error::{Error, EventFault, EventProblem, Resource};
pub use faults::{FaultFigures, NotedFault};
pub use follow::{Follow, FollowEnd, FollowMessage, Start};
pub use ingest::{Append, AppendMode, Durability, Payload, Policies, Unreadable, payload};
pub use plan::FilterIndex;
pub use quarantine::{
    FaultClass, FixedGroup, QuarantineFollow, QuarantineFollower, QuarantineGroup, QuarantineNews,
    QuarantinePage, QuarantineSelection, QuarantineStart, QuarantineTotals, Quarantined, Replay,
    ReplayProgress, ReplayRun, StillRefused, parse_id, show_id,
};
pub use query::EventReader;
pub use read::{BelowFloor, Gap, Page, Read};
pub use refusals::{Refusal, RefusalCount};
pub use registry::{
    Affected, CheckSchema, DescriptorFilter, HistoryCheck, HistorySample, Import, ImportOutcome,
    Imported, ImportedDocument, Others, RegisterSchema, Sample, SchemaChecked, SchemaFilter,
    SchemaInput, SchemaOrder, SchemaRegistered,
};
pub use retention::{AgeBy, Retention};
pub use subscription::{
    AckId, CommitWork, CommittedWork, Connect, Connection, ConsumeMessage, CreateSubscription,
    Delivered, EndReason, Explained, Handle, OutcomeResult, ParkedEvent, ParkedFilter,
    ParkedMessage, ParkedNews, ParkedSelector, ParkedWatch, Pulled, Resolved, Seek, SeekInFlight,
    SeekTo, Subscription, SubscriptionChanges, SubscriptionStatus, UpdateSubscription, Upkeep,
};
pub use trace::{EventState, Trace, TraceStep};
pub use trim::{TrimBefore, Trimmed};
pub use verify::{salvage, verify_directory};

pub use crate::storage::{Finding, FindingKind, Loss, LostEvent, Salvaged, Verified, VerifyNews};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of packed blocks kept in memory.
    pub cache_bytes: u64,
    /// Bytes of appends that may wait for the sequencer.
    pub queue_bytes: usize,
    /// Free bytes of the disk below which nothing is taken that makes the store grow; 0: none.
    pub disk_reserve: u64,
    /// Events indexed in memory before they become an index segment.
    pub index_tail_events: u64,
    /// Positions in a volume before the next one is begun.
    pub volume_events: u64,
    /// Time between two looks at what retention removes.
    pub retention_interval: Duration,
    /// Bytes of events that are set aside; of more the oldest go.
    pub quarantine_bytes: u64,
    /// Events that are set aside; of more the oldest go.
    pub quarantine_events: u64,
    /// Events that were set aside longer ago go.
    pub quarantine_age: Duration,
    /// Under whose name custom fields of schemas must stand.
    pub tenant: Option<Tenant>,
    /// Appends may be answered before they are durable.
    pub buffered_appends: bool,
    /// What time it is.
    pub clock: Clock,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: limits::CACHE_BYTES,
            queue_bytes: limits::QUEUE_BYTES,
            disk_reserve: limits::DISK_RESERVE_BYTES,
            index_tail_events: limits::INDEX_TAIL_EVENTS,
            volume_events: limits::VOLUME_EVENTS,
            retention_interval: Duration::from_secs(limits::RETENTION_INTERVAL_SECONDS),
            quarantine_bytes: limits::QUARANTINE_BYTES,
            quarantine_events: limits::QUARANTINE_EVENTS_MAX,
            quarantine_age: Duration::from_secs(limits::QUARANTINE_AGE_SECONDS),
            tenant: None,
            buffered_appends: false,
            clock: Clock::system(),
        }
    }
}

/// An open store; clones share it.
#[derive(Clone)]
pub struct EventStore {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<Storage>,
    catalog: Arc<ArcSwap<Catalog>>,
    compiled: Arc<CompiledSchemas>,
    subscriptions: Arc<Subscriptions>,
    last_position: watch::Receiver<Position>,
    newest_quarantined: watch::Receiver<u64>,
    queue: Mutex<Option<mpsc::Sender<Command>>>,
    sequencer: Arc<Mutex<Sequencer>>,
    /// Appends under way.
    appending: AtomicU64,
    queue_bytes: Arc<Semaphore>,
    queue_bytes_max: usize,
    /// Who judges large batches: a tree of values is several times as large as its text, so few at
    /// a time, yet more than the cores, that one slow batch does not hold up the others.
    judges: Arc<Semaphore>,
    paces: Paces,
    refusals: Refusals,
    quarantine: Arc<Quarantine>,
    /// Who registers a schema: compiling one takes megabytes.
    registrars: Semaphore,
    readers: Arc<Semaphore>,
    /// Of which each open consumer of a subscription holds one.
    consumers: Arc<Semaphore>,
    append_streams: Arc<Semaphore>,
    space: Arc<Space>,
    tenant: Option<Tenant>,
    buffered_appends: bool,
    closing: CancellationToken,
    clock: Clock,
    start_time: Timestamp,
    followers: AtomicU64,
    /// Dropped to end the retention thread.
    retention: Mutex<Option<SyncSender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The right to hold pages of events in memory.
#[derive(Debug)]
pub struct ReaderPlace(#[expect(dead_code, reason = "held, not used")] OwnedSemaphorePermit);

/// What a dataset holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatasetStats {
    /// How many events.
    pub events: u64,
    /// `START` when empty.
    pub first: Position,
    /// `START` when empty.
    pub last: Position,
    /// Bytes of payload as sent, those of tagged events among them.
    pub payload_bytes: u64,
    /// Events that are set aside.
    pub quarantined: u64,
    /// Events that are stored although they are invalid; not among `events`.
    pub tagged: u64,
}

/// How the store is doing.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// A write failed; writes are refused.
    pub poisoned: bool,
    /// Shutting down.
    pub closing: bool,
    /// Last durable position.
    pub last_position: Position,
    /// When the last event was stored.
    pub last_record_time: Option<Timestamp>,
    /// Datasets.
    pub datasets: u64,
    /// Schema documents, whatever their versions.
    pub schemas: u64,
    /// Open follows.
    pub followers: u64,
    /// Bytes waiting for the sequencer.
    pub queue_bytes: u64,
    /// The bound of `queue_bytes`.
    pub queue_bytes_max: u64,
    /// Bytes of the store's files.
    pub disk_bytes: u64,
    /// Bytes that may still be written to the store's disk.
    pub disk_free_bytes: u64,
    /// Below so many free bytes nothing is taken that makes the store grow.
    pub disk_reserve_bytes: u64,
    /// That is so now.
    pub disk_low: bool,
    /// Bytes of what volumes hold.
    pub live_bytes: u64,
    /// Volumes.
    pub volumes: u64,
    /// Bytes of the journal's files.
    pub journal_bytes: u64,
    /// Index segments on disk.
    pub index_segments: u64,
    /// A restart reads the log from here.
    pub index_checkpoint: Position,
    /// Events indexed in memory.
    pub index_tail_events: u64,
}

impl EventStore {
    /// Opens or creates the store in a directory.
    ///
    /// # Errors
    /// When the directory is in use, of another format, damaged, or cannot be read or written.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, StorageError> {
        let StoreOptions { cache_bytes, index_tail_events, volume_events, .. } = options;
        let storage = StorageOptions { cache_bytes, index_tail_events, volume_events };
        let storage = Arc::new(Storage::open(path, storage)?);
        let catalog = Catalog::load(storage.read_catalog()?)
            .map_err(|error| StorageError::Corrupt(format!("catalog: {error}")))?;
        let catalog = Arc::new(ArcSwap::from_pointee(catalog));
        let subscriptions = Arc::new(Subscriptions::open(&storage, options.clock.now())?);
        let (publish, last_position) = watch::channel(storage.last_at_open());
        let quota = QuarantineQuota {
            bytes: options.quarantine_bytes,
            events: options.quarantine_events,
            age: options.quarantine_age,
        };
        let unreadable = |error| StorageError::Corrupt(format!("quarantine: {error}"));
        let quarantine =
            Quarantine::open(&storage, quota, options.clock.now()).map_err(unreadable)?;
        let quarantine = Arc::new(quarantine);
        let newest = quarantine::newest(&storage).map_err(unreadable)?;
        let (publish_quarantined, newest_quarantined) = watch::channel(newest);
        let clock = options.clock;
        let space = Space::new(Arc::clone(&storage), options.disk_reserve, Instant::now());
        let space = Arc::new(space);
        let compiled: Arc<CompiledSchemas> = Arc::default();
        let writer = Writer {
            quarantine: Arc::clone(&quarantine),
            compiled: Arc::clone(&compiled),
            storage: Arc::clone(&storage),
            catalog: Arc::clone(&catalog),
            last_position: publish,
            newest_quarantined: publish_quarantined,
            clock: clock.clone(),
            space: Arc::clone(&space),
        };
        registry::register_built_in(&writer)
            .map_err(|error| StorageError::Corrupt(format!("built-in schemas: {error}")))?;

        let (queue, commands) = mpsc::channel(limits::QUEUE_COMMANDS);
        let (syncer, written) = sync_channel(1);
        let sequencer = Arc::new(Mutex::new(Sequencer::new(writer, syncer)));
        let (placing, syncing) = (Arc::clone(&sequencer), Arc::clone(&sequencer));
        let (packed, compacted) = (Arc::clone(&storage), Arc::clone(&storage));
        let floors = Arc::clone(&catalog);
        let retainer = Retainer::new(
            Arc::clone(&storage),
            Arc::clone(&catalog),
            last_position.clone(),
            queue.downgrade(),
            Arc::clone(&subscriptions),
            clock.clone(),
        );
        let (retention, stop) = sync_channel(0);
        let interval = options.retention_interval;
        let threads = vec![
            spawn("sequencer", move || {
                sequencer::run(&placing, commands);
            })?,
            spawn("syncer", move || sequencer::run_syncer(&syncing, &written))?,
            spawn("packer", move || packed.run_packer())?,
            spawn("compactor", move || {
                compacted.run_compactor(|| Arc::clone(floors.load().floors()));
            })?,
            spawn("retention", move || retainer.run(&stop, interval))?,
        ];
        let inner = Inner {
            storage,
            catalog,
            compiled,
            subscriptions,
            last_position,
            newest_quarantined,
            queue: Mutex::new(Some(queue)),
            sequencer,
            appending: AtomicU64::new(0),
            queue_bytes: Arc::new(Semaphore::new(options.queue_bytes)),
            queue_bytes_max: options.queue_bytes,
            judges: Arc::new(Semaphore::new(judges())),
            paces: Paces::default(),
            refusals: Refusals::default(),
            quarantine,
            registrars: Semaphore::new(limits::REGISTRARS_MAX),
            readers: Arc::new(Semaphore::new(limits::READERS_MAX)),
            consumers: Arc::new(Semaphore::new(limits::CONSUMERS_OPEN_MAX)),
            append_streams: Arc::new(Semaphore::new(limits::APPEND_STREAMS_MAX)),
            space,
            tenant: options.tenant,
            buffered_appends: options.buffered_appends,
            closing: CancellationToken::new(),
            start_time: clock.now(),
            clock,
            followers: AtomicU64::new(0),
            retention: Mutex::new(Some(retention)),
            threads: Mutex::new(threads),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The last durable position.
    #[must_use]
    pub fn last_position(&self) -> Position {
        *self.inner.last_position.borrow()
    }

    /// Whether a write failed; writes are refused until the store is opened again.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.inner.storage.is_poisoned()
    }

    /// Names this log; changes when it starts anew.
    #[must_use]
    pub fn epoch(&self) -> Uuid {
        self.inner.storage.epoch()
    }

    /// Under whose name custom fields of schemas must stand.
    #[must_use]
    pub fn tenant(&self) -> Option<&Tenant> {
        self.inner.tenant.as_ref()
    }

    /// When the store was opened.
    #[must_use]
    pub fn start_time(&self) -> Timestamp {
        self.inner.start_time
    }

    /// The store's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// An opaque token that names a place in this log.
    #[must_use]
    pub fn resume_token(&self, position: Position) -> Vec<u8> {
        follow::token(self.epoch(), position)
    }

    fn watch_last_position(&self) -> watch::Receiver<Position> {
        self.inner.last_position.clone()
    }

    pub(crate) fn closing(&self) -> CancellationToken {
        self.inner.closing.clone()
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.inner.catalog.load_full()
    }

    /// How the store is doing.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        let inner = &self.inner;
        let catalog = self.catalog();
        let index = inner.storage.index_figures();
        let last_position = self.last_position();
        let free = inner.queue_bytes.available_permits();
        let (disk_free_bytes, disk_low) = inner.space.state(Instant::now());
        StoreStatus {
            poisoned: inner.storage.is_poisoned(),
            closing: inner.closing.is_cancelled(),
            last_position,
            last_record_time: inner.storage.record_time(last_position).ok().flatten(),
            datasets: catalog.datasets().count() as u64,
            schemas: catalog.schemas().count() as u64,
            followers: inner.followers.load(Ordering::Relaxed),
            queue_bytes: inner.queue_bytes_max.saturating_sub(free) as u64,
            queue_bytes_max: inner.queue_bytes_max as u64,
            disk_bytes: inner.storage.disk_bytes(),
            disk_free_bytes,
            disk_reserve_bytes: inner.space.reserve(),
            disk_low,
            live_bytes: inner.storage.live_bytes(),
            volumes: inner.storage.volumes(),
            journal_bytes: inner.storage.journal_bytes(),
            index_segments: index.segments,
            index_checkpoint: index.checkpoint,
            index_tail_events: index.tail_events,
        }
    }

    /// Bytes of appends that may wait for the sequencer.
    #[must_use]
    pub fn queue_bytes_max(&self) -> usize {
        self.inner.queue_bytes_max
    }

    /// Ends every follow and refuses new work; what is queued is still carried out.
    pub fn start_closing(&self) {
        self.inner.closing.cancel();
    }

    /// Carries out what is queued, writes everything and stops the threads. Blocks.
    ///
    /// # Errors
    /// When the last write fails.
    pub fn close(&self) -> Result<(), StorageError> {
        self.start_closing();
        drop(lock(&self.inner.retention).take());
        drop(lock(&self.inner.queue).take());
        for thread in lock(&self.inner.threads).drain(..) {
            if thread.join().is_err() {
                self.inner.storage.poison("a store thread panicked");
            }
            // The sequencer comes first: it may wait for the packer.
            self.flush_subscriptions();
            self.inner.storage.stop_packer();
        }
        self.inner.storage.close()
    }

    /// Makes durable what consumers were told before it was. Once the sequencer has ended nothing is added.
    fn flush_subscriptions(&self) {
        if self.is_poisoned() {
            return;
        }
        let work = self.inner.subscriptions.flush();
        let flush = work.map(|it| Command::Work(it, 0));
        self.inner.sequencer.lock().unwrap_or_else(PoisonError::into_inner).carry_out(flush);
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.inner.closing.is_cancelled() { Err(Error::Closing) } else { Ok(()) }
    }

    /// Refuses what makes the store grow while the disk is low.
    fn check_space(&self) -> Result<(), Error> {
        Ok(self.inner.space.take(0, Instant::now())?)
    }

    /// A place for one more reader; given back when it is dropped.
    ///
    /// # Errors
    /// When there is none.
    pub fn reader_place(&self) -> Result<ReaderPlace, Error> {
        place_of(&self.inner.readers, "reads and follows", limits::READERS_MAX)
    }

    /// The same for one more consumer of a subscription, which waits most of the time.
    ///
    /// # Errors
    /// When there is none.
    pub fn consumer_place(&self) -> Result<ReaderPlace, Error> {
        place_of(&self.inner.consumers, "consumers", limits::CONSUMERS_OPEN_MAX)
    }

    fn queue(&self) -> Result<mpsc::Sender<Command>, Error> {
        self.check_open()?;
        if self.inner.storage.is_poisoned() {
            return Err(Error::Poisoned);
        }
        lock(&self.inner.queue).clone().ok_or(Error::Closing)
    }

    /// Carries out a change of the catalog, in order with appends.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Catalog, Timestamp) -> Result<Change<T>, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.write(|writer| writer.change(change)).await
    }

    /// Carries out a write, in order with appends.
    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Writer) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Change(Box::new(move |writer: &Writer| {
            drop(reply.send(write(writer)));
        }));
        self.queue()?.send(command).await.map_err(|_closed| Error::Closing)?;
        answer.await.map_err(|_dropped| self.no_answer())?
    }

    /// The same, told the position that the next event gets.
    async fn change_at<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Catalog, Timestamp, Position) -> Result<Change<T>, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Change(Box::new(move |writer: &Writer| {
            let next = writer.last_position.borrow().next();
            drop(reply.send(writer.change(|catalog, now| change(catalog, now, next))));
        }));
        self.queue()?.send(command).await.map_err(|_closed| Error::Closing)?;
        answer.await.map_err(|_dropped| self.no_answer())?
    }

    /// Why the sequencer dropped a request.
    fn no_answer(&self) -> Error {
        if self.inner.storage.is_poisoned() { Error::Poisoned } else { Error::Closing }
    }
}

fn place_of(places: &Arc<Semaphore>, what: &'static str, max: usize) -> Result<ReaderPlace, Error> {
    let place = Arc::clone(places).try_acquire_owned();
    place.map(ReaderPlace).map_err(|_full| Error::Readers { what, max })
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventStore({})", self.inner.storage.path().display())
    }
}

/// Version of the disk format.
pub const FORMAT_VERSION: u32 = storage::FORMAT_VERSION;

/// Runs what may wait for the disk or takes long away from the async workers.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a task failed");
        Error::Internal
    })?
}

/// How many batches are judged at a time.
fn judges() -> usize {
    limits::JUDGES_PER_CORE * thread::available_parallelism().map_or(1, usize::from)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StorageError> {
    Ok(thread::Builder::new().name(format!("milepost-{name}")).spawn(run)?)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
