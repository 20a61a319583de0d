//! Appending, from the caller's side of the queue.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytestring::ByteString;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::timeout_at,
};

use crate::{
    model::{Condition, OnInvalid, Position, Release, Violation, limits},
    schema::Form,
    store::{
        Append, AppendMode, Deadline, Durability, Error, EventStore,
        append_stream::Turn,
        blocking,
        conditions::Conditions,
        error::EventProblem,
        ingest::{self, Batch, Handling, Judge, Payload},
        sequencer::{Command, Pending, Placed},
        stage::Decision,
        subscription::Outcomes,
    },
};

/// How long an append waits for a place in the queue before it is refused.
const QUEUE_WAIT: Duration = Duration::from_millis(500);
/// A payload is held as sent and as part of its record.
const PAYLOAD_COPIES: usize = 2;
/// What an event holds in the queue beside its payload: its envelope and index terms.
const EVENT_OVERHEAD_BYTES: usize = 512;
/// From this many payload bytes judging is moved off the async workers, and so is writing.
const INLINE_BYTES_MAX: usize = 32 * 1024;

/// What became of a batch.
#[derive(Debug)]
pub struct Appended {
    /// One outcome per event, in request order.
    pub outcomes: Vec<AppendOutcome>,
    /// The last durable position when it was answered.
    pub durable: Position,
}

impl Appended {
    /// What was reached: whether all that it is about is durable.
    #[must_use]
    pub fn durability(&self) -> Durability {
        let is_ahead = |it: &AppendOutcome| match it {
            AppendOutcome::Appended(position)
            | AppendOutcome::Tagged(position, _)
            | AppendOutcome::Duplicate(position) => *position > self.durable,
            AppendOutcome::Quarantined(_) | AppendOutcome::Rejected(_) | AppendOutcome::Gone => {
                false
            }
        };
        if self.outcomes.iter().any(is_ahead) { Durability::Buffered } else { Durability::Sync }
    }
}

/// What became of one event.
#[derive(Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Stored now; `START` when only checked.
    Appended(Position),
    /// The same, although it is invalid, with what is wrong with it.
    Tagged(Position, Vec<Violation>),
    /// Stored before, with the same content.
    Duplicate(Position),
    /// Not stored, but durably set aside, under this id.
    Quarantined(u64),
    /// Not stored.
    Rejected(EventProblem),
    /// The record of the quarantine that it is made of is not there any more.
    Gone,
}

impl EventStore {
    /// Stores events and returns once they are durable.
    ///
    /// # Errors
    /// Nothing is stored on any error, [`Error::Conditions`] among them, except that after [`Error::Closing`] and [`Error::Poisoned`]
    /// a batch may be; appending it again finds out. The same holds for a call that is dropped.
    pub async fn append(&self, append: Append) -> Result<Appended, Error> {
        let admitted = self.admit(append, Some(QUEUE_WAIT)).await?;
        self.carry_out(admitted, None, None).await
    }

    /// Stores events and applies outcomes, or neither.
    pub(super) async fn append_with(
        &self,
        append: Append,
        outcomes: Arc<Outcomes>,
    ) -> Result<Appended, Error> {
        let admitted = self.admit(append, Some(QUEUE_WAIT)).await?;
        self.carry_out(admitted, None, Some(outcomes)).await
    }

    /// Waits for room in the queue: without `patience` for as long as it takes.
    pub(super) async fn admit(
        &self,
        append: Append,
        patience: Option<Duration>,
    ) -> Result<Admitted, Error> {
        self.check_open()?;
        if append.durability == Durability::Buffered && !self.inner.buffered_appends {
            return Err(Error::Unimplemented("buffered durability"));
        }
        check_batch(append.events.len())?;
        check_deadline(append.deadline.as_ref())?;
        if !append.validate_only {
            self.check_space()?;
        }
        let catalog = self.catalog();
        let dataset = catalog.dataset(append.dataset.as_str())?;
        if dataset.settings.closed {
            return Err(Error::DatasetClosed(dataset.name.to_string()));
        }
        let admission = &dataset.settings.admission;
        admission.check_batch(append.events.len())?;
        if !append.validate_only {
            let (number, pace) = (dataset.number, admission.max_events_per_second);
            self.keep_pace(number, pace, append.events.len(), patience.is_some()).await?;
        }
        // Before judging: what cannot be queued costs nothing but its wait.
        let place = self.reserve(&append.events, append.deadline.as_ref(), patience).await?;
        Ok(Admitted { append, dataset: dataset.number, place })
    }

    /// Judges, places and writes.
    pub(super) async fn carry_out(
        &self,
        admitted: Admitted,
        turn: Option<Arc<Turn>>,
        outcomes_too: Option<Arc<Outcomes>>,
    ) -> Result<Appended, Error> {
        let Admitted { append, dataset, mut place } = admitted;
        let _appending = Counted::new(&self.inner.appending);
        let deadline = append.deadline;
        let requested = append.events.len();
        let mut events: Vec<_> = append.events.into_iter().enumerate().collect();
        let mut problems = Vec::new();
        let conditions: Arc<[Condition]> = append.conditions.into();
        let mut first_round = true;
        // A second round is rare: only when the schema changed while the batch waited, or the stream's
        // batch before this one is in its second round.
        loop {
            let deadline_of_this = deadline.clone();
            let unjudged = Unjudged {
                events,
                mode: append.mode,
                on_invalid: append.on_invalid,
                validate_only: append.validate_only,
                releases: append.releases.clone(),
                deadline: deadline_of_this,
                place,
            };
            let (batch, found, held) = self.prepare(dataset, unjudged).await?;
            problems.extend(found);
            if append.mode == AppendMode::Atomic && !problems.is_empty() {
                return Err(Error::Events(problems));
            }
            let refused = batch.refused.iter().map(|(index, _)| *index);
            let indexes: Vec<_> = batch.indexes.iter().copied().chain(refused).collect();
            if append.validate_only || indexes.is_empty() {
                let events = batch.events.iter();
                let decisions =
                    events.map(|it| Decision::stored(Position::START, &it.record)).collect();
                let durable = self.last_position();
                return Ok(outcomes(requested, &indexes, decisions, problems, durable));
            }
            let conditions = self.look(&conditions).await;
            if let Some(turn) = &turn {
                turn.wait(first_round).await?;
            }
            let (deadline, turn) = (deadline.clone(), turn.clone());
            let outcomes_too = outcomes_too.clone();
            let pending = |reply| Pending {
                batch,
                conditions,
                reply,
                outcomes: outcomes_too,
                place: held,
                deadline,
                turn,
                buffered: append.durability == Durability::Buffered,
            };
            match self.place(pending).await? {
                Placed::Done { decisions, durable } => {
                    return Ok(outcomes(requested, &indexes, decisions, problems, durable));
                }
                Placed::Stale { batch, place: again } => {
                    events = batch.into_payloads();
                    place = again;
                    first_round = false;
                }
            }
        }
    }

    /// Keeps a dataset's pace: refuses who comes too early, or lets them wait.
    async fn keep_pace(
        &self,
        dataset: u32,
        per_second: u32,
        events: usize,
        refuses: bool,
    ) -> Result<(), Error> {
        loop {
            let taken = self.inner.paces.take(dataset, per_second, events, Instant::now());
            match taken {
                Ok(()) => return Ok(()),
                Err(wait) if refuses => return Err(Error::TooFast { per_second, wait }),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Waits for a place in the queue, as large as what the batch will hold there.
    async fn reserve(
        &self,
        events: &[Payload],
        deadline: Option<&Deadline>,
        patience: Option<Duration>,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let payloads: usize = events.iter().flatten().map(|text| text.len()).sum();
        let bytes = PAYLOAD_COPIES * payloads + events.len() * EVENT_OVERHEAD_BYTES;
        // A batch larger than the whole queue goes alone.
        let bytes = u32::try_from(bytes.min(self.inner.queue_bytes_max)).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.inner.queue_bytes).acquire_many_owned(bytes);
        let patience = patience.map(|it| Instant::now() + it);
        let until = [deadline.map(Deadline::at), patience].into_iter().flatten().min();
        let acquired = match until {
            Some(until) => timeout_at(until.into(), place).await,
            None => Ok(place.await),
        };
        match acquired {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(Error::Closing),
            Err(_elapsed) => check_deadline(deadline).and(Err(Error::Busy("append queue"))),
        }
    }

    /// All that is wrong with an event that would go to a dataset; without a form it is in the dataset's.
    ///
    /// # Errors
    /// When the dataset does not exist.
    pub async fn validate_for_dataset(
        &self,
        dataset: &str,
        event: ByteString,
        form: Option<Form>,
    ) -> Result<Vec<Violation>, Error> {
        let catalog = self.catalog();
        let judge = self.judge(catalog.dataset(dataset)?.number)?;
        self.validate(judge, event, form).await
    }

    /// All that is wrong with an event under a schema's latest version.
    ///
    /// # Errors
    /// When the schema does not exist.
    pub async fn validate_for_schema(
        &self,
        schema: &str,
        event: ByteString,
        form: Option<Form>,
    ) -> Result<Vec<Violation>, Error> {
        let version = self.find_schema(schema, 0)?;
        let compiled = self.compiled(&self.catalog(), &version)?;
        let mut judge = Judge::by_schema(0, version.number, compiled);
        judge.fields = self.catalog().event_fields(&version.id, &judge.fields);
        self.validate(judge, event, form).await
    }

    /// What judges a dataset's events now: its settings may have changed since the caller saw it.
    pub(super) fn judge(&self, dataset: u32) -> Result<Judge, Error> {
        let catalog = self.catalog();
        let dataset = catalog.dataset_by_number(dataset).ok_or(Error::Internal)?;
        Judge::by_dataset(&catalog, &self.inner.compiled, dataset, self.now())
    }

    async fn prepare(
        &self,
        dataset: u32,
        unjudged: Unjudged,
    ) -> Result<(Batch, Vec<EventProblem>, OwnedSemaphorePermit), Error> {
        let store = self.clone();
        let payloads = unjudged.events.iter().flat_map(|(_, event)| event);
        let bytes: usize = payloads.map(|text| text.len()).sum();
        // The place goes along: a caller who leaves does not take it from a batch still in memory.
        let work = move || {
            let Unjudged { events, mode, on_invalid, validate_only, releases, deadline, place } =
                unjudged;
            check_deadline(deadline.as_ref())?;
            let mut judge = store.judge(dataset)?;
            judge.on_invalid = stricter(on_invalid, judge.on_invalid)?;
            let handling = Handling { mode, validate_only, releases: &releases };
            let (batch, problems) = ingest::prepare(&judge, events, handling);
            Ok((batch, problems, place))
        };
        if bytes <= INLINE_BYTES_MAX {
            return work();
        }
        self.judging(work).await
    }

    /// What the index says about conditions now. That they cannot be decided counts only when they have
    /// to be.
    async fn look(&self, conditions: &Arc<[Condition]>) -> Option<Result<Conditions, Error>> {
        if conditions.is_empty() {
            return None;
        }
        let (store, conditions) = (self.clone(), Arc::clone(conditions));
        let work = move || {
            let durable = store.last_position();
            Conditions::look(conditions, &store.inner.storage, &store.catalog(), durable)
        };
        Some(blocking(work).await)
    }

    async fn validate(
        &self,
        mut judge: Judge,
        event: ByteString,
        form: Option<Form>,
    ) -> Result<Vec<Violation>, Error> {
        judge.policies.payload_form = form.unwrap_or(judge.policies.payload_form);
        self.judging(move || Ok(judge.violations(&event))).await
    }

    /// Judges away from the async workers, when it is its turn.
    async fn judging<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.inner.judges).acquire_owned();
        let turn = turn.await.map_err(|_closed| Error::Closing)?;
        blocking(move || {
            let _turn = turn;
            work()
        })
        .await
    }

    async fn place(
        &self,
        pending: impl FnOnce(oneshot::Sender<Result<Placed, Error>>) -> Pending,
    ) -> Result<Placed, Error> {
        let (reply, answer) = oneshot::channel();
        let pending = pending(reply);
        let small = pending.batch.bytes() <= INLINE_BYTES_MAX;
        let turn = pending.turn.clone();
        let command = Command::Append(Box::new(pending));
        match turn {
            None => self.hand_over(command, small)?,
            // A stream waits where a single call would be refused.
            Some(turn) => {
                self.queue()?.send(command).await.map_err(|_closed| self.no_answer())?;
                turn.hand_over();
            }
        }
        answer.await.map_err(|_dropped| self.no_answer())?
    }

    /// Gives a command to the sequencer's thread, or carries it out here when it is small and nobody
    /// else has anything to write.
    fn hand_over(&self, command: Command, small: bool) -> Result<(), Error> {
        // Holding the queue keeps the store from closing meanwhile.
        let queue = self.queue()?;
        let alone = small
            && self.inner.appending.load(Ordering::Relaxed) == 1
            && queue.capacity() == queue.max_capacity();
        if alone && let Ok(mut sequencer) = self.inner.sequencer.try_lock() {
            sequencer.carry_out(iter::once(command));
            return Ok(());
        }
        queue.try_send(command).map_err(|error| match error {
            tokio::sync::mpsc::error::TrySendError::Full(_) => Error::Busy("append queue"),
            tokio::sync::mpsc::error::TrySendError::Closed(_) => self.no_answer(),
        })
    }
}

/// An append for which there is room in the queue.
pub(super) struct Admitted {
    append: Append,
    /// The dataset's number.
    dataset: u32,
    place: OwnedSemaphorePermit,
}

/// Counts an append for as long as it is under way.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Events on their way to judging, with what they hold and how long they may take.
struct Unjudged {
    /// Each with its place in the request.
    events: Vec<(usize, Payload)>,
    mode: AppendMode,
    on_invalid: Option<OnInvalid>,
    validate_only: bool,
    releases: Vec<Release>,
    deadline: Option<Deadline>,
    place: OwnedSemaphorePermit,
}

fn check_deadline(deadline: Option<&Deadline>) -> Result<(), Error> {
    deadline.map_or(Ok(()), |it| it.check(Instant::now()))
}

/// What becomes of a request's invalid events: it may ask for more than its dataset, never for less.
fn stricter(asked: Option<OnInvalid>, dataset: OnInvalid) -> Result<OnInvalid, Error> {
    match asked {
        Some(asked) if asked > dataset => {
            let name = |it: OnInvalid| format!("{it:?}").to_uppercase();
            let (asked, dataset) = (name(asked), name(dataset));
            let message = format!("{asked} is laxer than the dataset's {dataset}");
            Err(Error::invalid("on_invalid", message))
        }
        asked => Ok(asked.unwrap_or(dataset)),
    }
}

/// Whether a batch may have this many events.
///
/// # Errors
/// When it may not.
pub fn check_batch(events: usize) -> Result<(), Error> {
    let (found, most) = (events, limits::BATCH_EVENTS_MAX);
    if found == 0 {
        return Err(Error::Batch(format!("batch has no events; wanted 1 to {most}")));
    }
    if found > most {
        return Err(Error::Batch(format!("batch has {found} events; at most {most}")));
    }
    Ok(())
}

fn outcomes(
    requested: usize,
    indexes: &[usize],
    decisions: Vec<Decision>,
    problems: Vec<EventProblem>,
    durable: Position,
) -> Appended {
    let mut outcomes: Vec<_> = Vec::with_capacity(requested);
    outcomes.resize_with(requested, || AppendOutcome::Appended(Position::START));
    let decided = indexes.iter().copied().zip(decisions).map(|(index, decision)| {
        let outcome = match decision {
            Decision::Appended(position) => AppendOutcome::Appended(position),
            Decision::Tagged(position, violations) => AppendOutcome::Tagged(position, violations),
            Decision::Duplicate(position) => AppendOutcome::Duplicate(position),
            Decision::Conflict(fault) => {
                let event_id = fault.event_id().to_owned();
                AppendOutcome::Rejected(EventProblem { index, event_id, fault })
            }
            Decision::Quarantined(id) => AppendOutcome::Quarantined(id),
            Decision::Gone => AppendOutcome::Gone,
        };
        (index, outcome)
    });
    let rejected = problems.into_iter().map(|it| (it.index, AppendOutcome::Rejected(it)));
    for (index, outcome) in decided.chain(rejected) {
        if let Some(slot) = outcomes.get_mut(index) {
            *slot = outcome;
        }
    }
    Appended { outcomes, durable }
}
