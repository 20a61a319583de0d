//! The sequencer: decides duplicates and conditions, assigns positions and writes, one commit group at a time.
//!
//! It has a thread, which takes its work from a queue. A caller with a small batch that finds nobody
//! at work and nothing in the queue does the work itself, and is spared two changes of threads, which
//! take as long as the disk. While one commit group is on its way to disk the next one forms in the queue: no timer, no sleep.
//! Order is the contract: durable, indexed, visible, answered.
//!
//! With one exception that senders have to ask for: a group of buffered appends alone is written *ahead*, and
//! they are answered. It then goes on as the group of what comes next, until something else wants to be durable,
//! or it is large or old enough; then it is synced, indexed and visible. So there is never more than one
//! group that is not durable, and what reads, conditions of later groups and catalog changes see is durable as ever.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::{
    model::{Position, Timestamp, limits},
    storage::{Storage, StorageError},
    store::{
        Deadline, Error,
        append_stream::Turn,
        catalog::{Catalog, Change},
        clock::Clock,
        conditions::Conditions,
        ingest::Batch,
        quarantine::Quarantine,
        registry::CompiledSchemas,
        space::{Low, Space},
        stage::{Decision, Group, Run},
        subscription::{Ledger, Outcomes, Work},
    },
};

/// Requests in one commit group. With `GROUP_RAW_BYTES_MAX` it bounds how long a group takes.
const GROUP_BATCHES_MAX: usize = 1024;
/// Events in one commit group, unless a single batch has more.
const GROUP_EVENTS_MAX: usize = 8192;
/// Raw bytes in one commit group, unless a single batch has more.
const GROUP_RAW_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of records that are written ahead: what is lost at most with the power.
const AHEAD_BYTES_MAX: usize = 1024 * 1024;
/// What such a group takes in the journal at most.
const AHEAD_FRAME_BYTES_MAX: u64 = 1024 * 1024 + 128;
/// How long a group stays written ahead; the rest of what is promised is for the sync.
const AHEAD_TIME_MAX: Duration = Duration::from_millis(limits::BUFFERED_WINDOW_MS - 10);

/// What the sequencer is asked to do.
pub(crate) enum Command {
    /// Place a batch.
    Append(Box<Pending>),
    /// Change what subscriptions have done, in the same write as appends, and store at most so many bytes of
    /// dead letters.
    Work(Work, usize),
    /// Change the catalog.
    Change(Box<dyn FnOnce(&Writer) + Send>),
}

/// Goes into a commit group.
enum Item {
    Append(Box<Pending>),
    Work(Work),
}

/// A batch that waits for its place.
pub(crate) struct Pending {
    pub(crate) batch: Batch,
    /// Or why they cannot be decided.
    pub(crate) conditions: Option<Result<Conditions, Error>>,
    pub(crate) reply: oneshot::Sender<Result<Placed, Error>>,
    /// Outcomes that are applied if and only if the batch is placed.
    pub(crate) outcomes: Option<Arc<Outcomes>>,
    /// Its share of the queue's bytes, given back when it is answered or dropped.
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) deadline: Option<Deadline>,
    /// Its place in the caller's stream, if it has one.
    pub(crate) turn: Option<Arc<Turn>>,
    /// It may be answered before it is durable.
    pub(crate) buffered: bool,
}

impl Pending {
    /// Whether somebody waits for it; from now on it may be written.
    fn begins(&self, now: Instant) -> bool {
        self.deadline.as_ref().is_none_or(|it| it.begin(now))
    }

    fn dead_letter_bytes(&self) -> usize {
        self.outcomes.as_ref().map_or(0, |it| it.dead_letter_bytes)
    }
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Placed {
    /// One decision per event; all of them durable, or written if that was enough.
    Done { decisions: Vec<Decision>, durable: Position },
    /// The dataset is judged by another schema version now, or matched by other event definitions, or
    /// its turn has not come: again.
    Stale { batch: Batch, place: OwnedSemaphorePermit },
}

/// What the sequencer alone writes.
pub(crate) struct Writer {
    pub(crate) storage: Arc<Storage>,
    pub(crate) catalog: Arc<ArcSwap<Catalog>>,
    pub(crate) last_position: watch::Sender<Position>,
    /// The id of the last event that was set aside.
    pub(crate) newest_quarantined: watch::Sender<u64>,
    pub(crate) clock: Clock,
    pub(crate) space: Arc<Space>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) compiled: Arc<CompiledSchemas>,
}

impl Writer {
    /// Carries out a change of the catalog; visible once durable.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&Catalog, Timestamp) -> Result<Change<T>, Error>,
    ) -> Result<T, Error> {
        let now = self.clock.now();
        match change(&self.catalog.load(), now)? {
            Change::Nothing(answer) => Ok(answer),
            Change::Write { rows, next, answer } => {
                self.storage.commit_catalog(rows)?;
                self.catalog.store(Arc::from(next));
                Ok(answer)
            }
        }
    }
}

/// What places and writes: held by the sequencer's thread while it works, or for one append by a
/// caller that is alone.
pub(crate) struct Sequencer {
    writer: Writer,
    last_record_time: Timestamp,
    /// Written, and answered to who wanted no more, but not durable.
    ahead: Option<Ahead>,
    /// Tells the syncer that there is such; `None` once there is nothing to do any more.
    syncer: Option<SyncSender<()>>,
}

/// A group that is written ahead.
struct Ahead {
    run: Run,
    since: Instant,
}

impl Sequencer {
    pub(crate) fn new(writer: Writer, syncer: SyncSender<()>) -> Self {
        let last_record_time = writer.storage.last_record_time_at_open().unwrap_or_default();
        Self { writer, last_record_time, ahead: None, syncer: Some(syncer) }
    }

    /// Carries out commands, in commit groups. A panic poisons the store; whoever waits learns it
    /// from the dropped reply.
    pub(crate) fn carry_out(&mut self, commands: impl Iterator<Item = Command>) {
        self.guarded(|this| {
            let mut items = Vec::new();
            let (mut events, mut bytes) = (0, 0);
            for command in commands {
                match command {
                    Command::Append(pending) if pending.reply.is_closed() => {} // the caller left
                    Command::Append(pending) if !pending.begins(Instant::now()) => {
                        answer(pending.reply, Err(Error::Deadline { begun: false }));
                    }
                    Command::Append(pending) => {
                        events += pending.batch.events.len();
                        bytes += pending.batch.bytes() + pending.dead_letter_bytes();
                        items.push(Item::Append(pending));
                    }
                    Command::Work(work, dead_letter_bytes) => {
                        bytes += dead_letter_bytes;
                        items.push(Item::Work(work));
                    }
                    Command::Change(change) => {
                        // Appends sent before the change must not see it.
                        this.commit(std::mem::take(&mut items));
                        this.sync();
                        change(&this.writer);
                    }
                }
                if events >= GROUP_EVENTS_MAX || bytes >= GROUP_RAW_BYTES_MAX {
                    this.commit(std::mem::take(&mut items));
                    (events, bytes) = (0, 0);
                }
            }
            this.commit(items);
        });
    }

    /// Makes what was written ahead durable, and visible. Nobody waits for it: a failure poisons the store,
    /// which is all there is to tell.
    fn sync(&mut self) {
        let Some(Ahead { run, .. }) = self.ahead.take() else { return };
        let record_time = run.record_time();
        let catalog = self.writer.catalog.load_full();
        let writer = &self.writer;
        let group = Group::of(run, &writer.storage, &catalog, &writer.quarantine);
        match group.write() {
            Ok(durable) => self.publish(durable, record_time),
            Err(error) => tracing::error!(%error, "buffered appends not made durable"),
        }
    }

    /// Lets readers see what is durable.
    fn publish(&mut self, durable: Position, record_time: Timestamp) {
        let is_new = |last: &mut Position| {
            let is_new = *last < durable;
            *last = durable.max(*last);
            is_new
        };
        if self.writer.last_position.send_if_modified(is_new) {
            self.last_record_time = record_time;
        }
    }

    /// Makes everything durable; afterwards there is nothing to do any more.
    fn end(&mut self) {
        self.guarded(Self::sync);
        self.syncer = None;
    }

    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.writer.storage.poison("the sequencer panicked");
        }
    }
}

/// Runs until the queue is closed and empty.
pub(crate) fn run(sequencer: &Mutex<Sequencer>, mut queue: mpsc::Receiver<Command>) {
    let mut commands = Vec::with_capacity(GROUP_BATCHES_MAX);
    while queue.blocking_recv_many(&mut commands, GROUP_BATCHES_MAX) > 0 {
        let mut sequencer = sequencer.lock().unwrap_or_else(PoisonError::into_inner);
        sequencer.carry_out(commands.drain(..));
    }
    sequencer.lock().unwrap_or_else(PoisonError::into_inner).end();
}

/// Syncs what was written ahead when it is old enough, until there is no sequencer any more.
pub(crate) fn run_syncer(sequencer: &Mutex<Sequencer>, written: &Receiver<()>) {
    while written.recv().is_ok() {
        // Whatever is written ahead then is no older than this.
        let until = Instant::now() + AHEAD_TIME_MAX;
        loop {
            match written.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        let mut sequencer = sequencer.lock().unwrap_or_else(PoisonError::into_inner);
        sequencer.guarded(Sequencer::sync);
    }
}

impl Sequencer {
    /// Places and writes one commit group, then answers it.
    fn commit(&mut self, items: Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let raw_bytes: usize = items.iter().map(Item::raw_bytes).sum();
        // What is larger is synced at once: that takes no longer than for others.
        let goes_ahead = raw_bytes <= AHEAD_BYTES_MAX && items.iter().all(Item::goes_ahead);
        let joins = |it: &Ahead| {
            it.since.elapsed() < AHEAD_TIME_MAX
                && it.run.raw_bytes() + raw_bytes <= AHEAD_BYTES_MAX
                && items.iter().all(Item::is_plain)
        };
        if !self.ahead.as_ref().is_some_and(joins) {
            self.sync();
        }
        let writer = &self.writer;
        let low = low(&writer.space, &items);
        let now = writer.clock.now();
        let catalog = writer.catalog.load_full();
        let last = *writer.last_position.borrow();
        let (run, since) = match self.ahead.take() {
            Some(Ahead { run, since }) => (run, Some(since)),
            None => (Run::after(last, now.max(self.last_record_time), raw_bytes), None),
        };
        let record_time = run.record_time();
        let mut group = Group::of(run, &writer.storage, &catalog, &writer.quarantine);
        let mut waiting = Vec::with_capacity(items.len());
        let (mut ledger, mut finishes) = (Ledger::default(), Vec::new());
        for item in items {
            let pending = match item {
                Item::Append(pending) => *pending,
                Item::Work(work) => {
                    finishes.push(work(&mut ledger, now));
                    continue;
                }
            };
            let Pending { batch, conditions, reply, place, turn, outcomes, .. } = pending;
            if let Some(low) = low {
                answer(reply, Err(low.into()));
                continue;
            }
            if turn.as_ref().is_some_and(|turn| !turn.has_come()) {
                answer(reply, Ok(Placed::Stale { batch, place }));
                continue;
            }
            let mut admitted = None;
            let admit = |known: bool| {
                admitted = outcomes.as_ref().map(|it| it.admit(known)).transpose()?;
                Ok(())
            };
            let placed = match group.place(batch, conditions, admit) {
                Ok(Ok(decisions)) => Ok(decisions),
                Ok(Err(batch)) => {
                    answer(reply, Ok(Placed::Stale { batch, place }));
                    continue;
                }
                Err(error) => Err(error),
            };
            if let Some(turn) = turn {
                turn.decide(placed.is_err());
            }
            if let Some(admitted) = admitted.filter(|_| placed.is_ok()) {
                admitted.apply(&mut ledger, now);
            }
            // Also a failure waits: it may rest on what this group writes.
            waiting.push((placed, reply, place));
        }
        if goes_ahead {
            match group.write_ahead(AHEAD_FRAME_BYTES_MAX) {
                Ok(true) => {
                    self.stay_ahead(group.into_run(), since);
                    return answer_all(waiting, Ok(last));
                }
                Ok(false) => {}
                Err(error) => return answer_all(waiting, Err(error)),
            }
        }
        group.change(ledger.changes(group.has_events()));
        for letter in ledger.take_letters() {
            letter.store(writer, &catalog, &mut group, now);
        }
        let newest_quarantined = group.newest_quarantined();
        let written = group.write();
        if let Ok(durable) = written {
            // Flush before publish: a reader must never see what a crash can take back.
            self.publish(durable, record_time);
            if let Some(newest) = newest_quarantined {
                let is_new = |known: &mut u64| std::mem::replace(known, newest) < newest;
                self.writer.newest_quarantined.send_if_modified(is_new);
            }
        }
        let is_written = written.is_ok();
        answer_all(waiting, written);
        for finish in finishes {
            finish(if is_written { Ok(()) } else { Err(Error::Poisoned) });
        }
        if is_written {
            ledger.written();
        }
    }

    /// Keeps what was written ahead, and has it looked after if it is new.
    fn stay_ahead(&mut self, run: Run, since: Option<Instant>) {
        let begun = since.is_some();
        self.ahead = Some(Ahead { run, since: since.unwrap_or_else(Instant::now) });
        if let (false, Some(syncer)) = (begun, &self.syncer) {
            let _knows_already = syncer.try_send(());
        }
    }
}

/// Whether there is no room for the appends of a group. What subscriptions have done takes none to speak of,
/// and working it off may make some.
fn low(space: &Space, items: &[Item]) -> Option<Low> {
    let mut appends = items.iter().filter(|it| matches!(it, Item::Append(_))).peekable();
    appends.peek()?;
    let bytes: usize = appends.map(Item::bytes).sum();
    space.take(bytes as u64, Instant::now()).err()
}

/// A batch that was placed, or why not; who waits for it, and its share of the queue's bytes.
type Waiting =
    (Result<Vec<Decision>, Error>, oneshot::Sender<Result<Placed, Error>>, OwnedSemaphorePermit);

/// Answers a group that was written, when so much of the log was durable, or that could not be.
fn answer_all(waiting: Vec<Waiting>, written: Result<Position, StorageError>) {
    let written = written.map_err(|error| {
        tracing::error!(%error, "commit group not written");
    });
    for (decisions, reply, _place) in waiting {
        let placed = match written {
            Ok(durable) => decisions.map(|decisions| Placed::Done { decisions, durable }),
            Err(()) => Err(Error::Poisoned),
        };
        answer(reply, placed);
    }
}

impl Item {
    fn raw_bytes(&self) -> usize {
        match self {
            Self::Append(pending) => pending.batch.raw.len(),
            Self::Work(_) => 0,
        }
    }

    /// Whether it may be answered once it is written.
    fn goes_ahead(&self) -> bool {
        self.is_plain() && matches!(self, Self::Append(pending) if pending.buffered)
    }

    /// Whether all it can write is events.
    fn is_plain(&self) -> bool {
        match self {
            Self::Append(pending) => {
                pending.outcomes.is_none()
                    && pending.batch.refused.is_empty()
                    && !pending.batch.quarantines
                    && pending.batch.events.iter().all(|it| it.record.release.is_none())
            }
            Self::Work(_) => false,
        }
    }

    /// Bytes that it adds to the log and the table.
    fn bytes(&self) -> usize {
        match self {
            Self::Append(pending) => pending.batch.bytes(),
            Self::Work(_) => 0,
        }
    }
}

/// A caller that left is not an error: its events are stored and its retry is a duplicate.
fn answer(reply: oneshot::Sender<Result<Placed, Error>>, placed: Result<Placed, Error>) {
    drop(reply.send(placed));
}
