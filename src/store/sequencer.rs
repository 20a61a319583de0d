//! The sequencer: decides duplicates and conditions, assigns positions and writes, one commit group at a time.
//!
//! It has a thread, which takes its work from a queue. A caller with a small batch that finds nobody
//! at work and nothing in the queue does the work itself, and is spared two changes of threads, which
//! take as long as the disk. While one commit group is on its way to disk the next one forms in the queue: no timer, no sleep.
//! Order is the contract: durable, indexed, visible, answered.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::{
    model::{Position, Timestamp},
    storage::Storage,
    store::{
        Deadline, Error,
        append_stream::Turn,
        catalog::{Catalog, Change},
        clock::Clock,
        conditions::Conditions,
        ingest::Batch,
        quarantine::QuarantineQuota,
        registry::CompiledSchemas,
        space::Space,
        stage::{Decision, Group},
        subscription::{Ledger, Outcomes, Work},
    },
};

/// Requests in one commit group. With `GROUP_RAW_BYTES_MAX` it bounds how long a group takes.
const GROUP_BATCHES_MAX: usize = 1024;
/// Events in one commit group, unless a single batch has more.
const GROUP_EVENTS_MAX: usize = 8192;
/// Raw bytes in one commit group, unless a single batch has more.
const GROUP_RAW_BYTES_MAX: usize = 4 * 1024 * 1024;

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
    /// One decision per event; all of them durable.
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
    pub(crate) quarantine: QuarantineQuota,
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
}

impl Sequencer {
    pub(crate) fn new(writer: Writer) -> Self {
        let last_record_time = writer.storage.last_record_time_at_open().unwrap_or_default();
        Self { writer, last_record_time }
    }

    /// Carries out commands, in commit groups. A panic poisons the store; whoever waits learns it
    /// from the dropped reply.
    pub(crate) fn carry_out(&mut self, commands: impl Iterator<Item = Command>) {
        let Self { writer, last_record_time } = self;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
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
                        commit(writer, std::mem::take(&mut items), last_record_time);
                        change(writer);
                    }
                }
                if events >= GROUP_EVENTS_MAX || bytes >= GROUP_RAW_BYTES_MAX {
                    commit(writer, std::mem::take(&mut items), last_record_time);
                    (events, bytes) = (0, 0);
                }
            }
            commit(writer, items, last_record_time);
        }));
        if outcome.is_err() {
            writer.storage.poison("the sequencer panicked");
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
}

/// Places and writes one commit group, then answers it.
fn commit(writer: &Writer, items: Vec<Item>, last_record_time: &mut Timestamp) {
    if items.is_empty() {
        return;
    }
    let appends = || items.iter().filter(|it| matches!(it, Item::Append(_)));
    let raw_bytes: usize = appends().map(Item::raw_bytes).sum();
    // What subscriptions have done takes no room to speak of, and working it off may make some.
    let bytes: usize = appends().map(Item::bytes).sum();
    let low = match appends().next() {
        Some(_) => writer.space.take(bytes as u64, Instant::now()).err(),
        None => None,
    };
    let now = writer.clock.now();
    let record_time = now.max(*last_record_time);
    let catalog = writer.catalog.load_full();
    let last = *writer.last_position.borrow();
    let quota = writer.quarantine;
    let mut group = Group::new(&writer.storage, &catalog, last, record_time, raw_bytes, quota);
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
        let admit = |known: bool| outcomes.as_ref().map_or(Ok(()), |it| it.admit(known));
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
        if let Some(outcomes) = outcomes.filter(|_| placed.is_ok()) {
            outcomes.apply(&mut ledger, now);
        }
        // Also a failure waits: it may rest on what this group writes.
        waiting.push((placed, reply, place));
    }
    group.change(ledger.changes(group.has_events()));
    for letter in ledger.take_letters() {
        letter.store(writer, &catalog, &mut group, now);
    }
    let newest_quarantined = group.newest_quarantined();
    let outcome = group.write();
    match outcome {
        Ok(durable) => {
            // Flush before publish: a reader must never see what a crash can take back.
            if durable > last {
                *last_record_time = record_time;
                writer.last_position.send_replace(durable);
            }
            if let Some(newest) = newest_quarantined {
                let is_new = |known: &mut u64| std::mem::replace(known, newest) < newest;
                writer.newest_quarantined.send_if_modified(is_new);
            }
            for (decisions, reply, _place) in waiting {
                answer(reply, decisions.map(|decisions| Placed::Done { decisions, durable }));
            }
            for finish in finishes {
                finish(Ok(()));
            }
            ledger.written();
        }
        Err(error) => {
            let error = Error::from(error);
            tracing::error!(%error, "commit group not written");
            for (_, reply, _place) in waiting {
                answer(reply, Err(Error::Poisoned));
            }
            for finish in finishes {
                finish(Err(Error::Poisoned));
            }
        }
    }
}

impl Item {
    fn raw_bytes(&self) -> usize {
        match self {
            Self::Append(pending) => pending.batch.raw.len(),
            Self::Work(_) => 0,
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
