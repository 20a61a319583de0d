//! Retention: datasets lose their oldest events by rules of their owners, and the quarantine what was set
//! aside too long ago.
//!
//! A thread of its own looks at every dataset with rules now and then, decides how many of its oldest
//! events have to go, and raises all floors in one change. What rules say is [`due`], which knows no
//! disk and no clock.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    model::{Position, Tagged, Timestamp, limits},
    storage::{Span, Storage},
    store::{
        Dataset, Error,
        catalog::Catalog,
        clock::Clock,
        plan::event_time,
        sequencer::{Command, Writer},
        subscription::{Subscriptions, Work},
    },
};

/// How long a dataset keeps its events; an event goes as soon as one of the rules says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Events older than this go.
    pub max_age: Option<Duration>,
    /// Which time tells an event's age.
    pub age_by: AgeBy,
    /// The newest so many stay; 0: any number.
    pub max_events: u64,
    /// Payload bytes that may stay; 0: any number.
    pub max_bytes: u64,
}

/// Which time tells an event's age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AgeBy {
    /// When it was stored.
    #[default]
    RecordTime,
    /// When it happened. Of events in log order the oldest run goes that are all too old.
    EventTime,
}

/// Events whose payload or time retention reads in one round, for all datasets; some tens of
/// milliseconds. With the pause it leaves most of a core to others.
const ROUND_READS_MAX: u64 = 16 * 1024;
/// How long the thread rests when a round had to leave something over.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

impl Retention {
    pub(crate) fn is_empty(&self) -> bool {
        self.max_age.is_none() && self.max_events == 0 && self.max_bytes == 0
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let bounds = Duration::from_secs(limits::RETENTION_AGE_SECONDS_MIN)
            ..=Duration::from_secs(limits::RETENTION_AGE_SECONDS_MAX);
        match self.max_age {
            Some(age) if !bounds.contains(&age) => {
                let (found, least, most) = (age.as_secs_f64(), bounds.start(), bounds.end());
                let (least, most) = (least.as_secs(), most.as_secs());
                Err(Error::invalid(
                    "dataset.retention.max_age",
                    format!("{found} s; wanted {least} to {most} s"),
                ))
            }
            None if self.age_by != AgeBy::RecordTime => {
                Err(Error::invalid("dataset.retention.age_by", "set without `max_age`"))
            }
            _ => Ok(()),
        }
    }

    /// Whether an event's payload or time decides.
    fn reads_events(&self) -> bool {
        self.max_bytes > 0 || (self.max_age.is_some() && self.age_by == AgeBy::EventTime)
    }
}

/// What rules mean at one moment.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// Events up to here are too old by record time.
    recorded_until: Position,
    /// Events that happened before are too old.
    happened_before: Option<Timestamp>,
    /// At most this many may stay.
    max_events: Option<u64>,
    /// At most this many bytes may stay.
    max_bytes: Option<u64>,
    /// What is kept now.
    events: u64,
    payload_bytes: u64,
}

/// Nothing has to go.
const NO_RULES: Due = Due {
    recorded_until: Position::START,
    happened_before: None,
    max_events: None,
    max_bytes: None,
    events: 0,
    payload_bytes: 0,
};

/// Neighbours among a dataset's kept events.
#[derive(Clone, Copy, Debug)]
struct Run {
    last: Position,
    events: u64,
    payload_bytes: u64,
    /// When the latest of them happened, if known.
    happened: Option<Timestamp>,
}

/// The last event that has to go. Runs come oldest first, and the first of which not every event has
/// to go ends it.
fn due(
    mut due: Due,
    runs: impl IntoIterator<Item = Result<Run, Error>>,
) -> Result<Option<Position>, Error> {
    let mut gone = None;
    for run in runs {
        let run = run?;
        let old = run.last <= due.recorded_until
            || run.happened.zip(due.happened_before).is_some_and(|(it, bound)| it < bound);
        let left = due.events.saturating_sub(run.events);
        let crowded = due.max_events.is_some_and(|most| left >= most);
        // The last event of a run goes if what stays with it is still too much. A run of many has
        // at least a byte in its last.
        let last_bytes = if run.events == 1 { run.payload_bytes } else { 1 };
        let left_bytes = due.payload_bytes.saturating_sub(run.payload_bytes);
        let heavy = due.max_bytes.is_some_and(|most| left_bytes + last_bytes > most);
        if !(old || crowded || heavy) {
            break;
        }
        gone = Some(run.last);
        due.events = left;
        due.payload_bytes = left_bytes;
    }
    Ok(gone)
}

/// Whether a round did all there was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// Nothing is due any more.
    Done,
    /// It had read enough; more is due.
    Interrupted,
}

/// Applies retention.
pub(crate) struct Retainer {
    storage: Arc<Storage>,
    catalog: Arc<ArcSwap<Catalog>>,
    last_position: watch::Receiver<Position>,
    /// Weak: the sequencer ends when nobody else can send to it.
    queue: mpsc::WeakSender<Command>,
    /// What retention leaves for these.
    subscriptions: Arc<Subscriptions>,
    clock: Clock,
    /// Number of the dataset after which the next round begins, so that none waits for ever.
    after: u32,
}

impl Retainer {
    pub(crate) fn new(
        storage: Arc<Storage>,
        catalog: Arc<ArcSwap<Catalog>>,
        last_position: watch::Receiver<Position>,
        queue: mpsc::WeakSender<Command>,
        subscriptions: Arc<Subscriptions>,
        clock: Clock,
    ) -> Self {
        Self { storage, catalog, last_position, queue, subscriptions, clock, after: 0 }
    }

    /// Runs until `stop` hears of it or is dropped.
    pub(crate) fn run(mut self, stop: &Receiver<()>, interval: Duration) {
        let mut wait = interval;
        while stop.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let round = self
                .round()
                .and_then(|round| Ok(if self.expire()? { Round::Interrupted } else { round }))
                .and_then(|round| self.keep_subscriptions().map(|()| round));
            wait = match round {
                Ok(Round::Done) => interval,
                Ok(Round::Interrupted) => BUSY_PAUSE,
                Err(Error::Closing) => return,
                Err(error) => {
                    tracing::error!(%error, "retention not applied");
                    interval
                }
            };
        }
    }

    /// Looks at every dataset once, or at as many as it may read events of.
    pub(crate) fn round(&mut self) -> Result<Round, Error> {
        if self.storage.is_poisoned() {
            return Ok(Round::Done);
        }
        let catalog = self.catalog.load_full();
        let mut datasets: Vec<_> =
            catalog.datasets().filter(|it| !it.settings.retention.is_empty()).collect();
        datasets.sort_by_key(|it| (it.number <= self.after, it.number));
        let (mut reads_left, mut floors, mut round) = (ROUND_READS_MAX, Vec::new(), Round::Done);
        for dataset in datasets {
            if let Some(floor) = self.floor(dataset, &mut reads_left)?
                && let Some(floor) = self.held_back(dataset, floor, &mut reads_left)?
            {
                tracing::debug!(dataset = %dataset.name, %floor, "retention removes events");
                floors.push((Arc::clone(dataset), floor));
            }
            if reads_left == 0 {
                self.after = dataset.number;
                round = Round::Interrupted;
                break;
            }
        }
        if !floors.is_empty() {
            self.raise(floors)?;
        }
        Ok(round)
    }

    /// Up to where a dataset's events have to go now.
    fn floor(&self, dataset: &Dataset, reads_left: &mut u64) -> Result<Option<Position>, Error> {
        let retention = &dataset.settings.retention;
        let rules = self.rules(retention)?;
        self.floor_by(dataset.number, dataset.floor, rules, retention.reads_events(), reads_left)
    }

    /// As much of that as subscriptions let go.
    fn held_back(
        &self,
        dataset: &Dataset,
        due: Position,
        reads_left: &mut u64,
    ) -> Result<Option<Position>, Error> {
        let mut floor = due;
        for pin in self.subscriptions.pins(&dataset.name) {
            let after = pin.after.max(dataset.floor);
            if after >= floor {
                continue;
            }
            // Of what it holds back the newest bytes stay.
            let kept = self.storage.held_by_part(dataset.number, Tagged::Included, due)?;
            let kept: u64 = kept.iter().map(|it| it.payload_bytes).sum();
            let rules = Due { max_bytes: Some(kept.saturating_add(pin.bytes)), ..NO_RULES };
            let given = self.floor_by(dataset.number, after, rules, true, reads_left)?;
            floor = given.unwrap_or(after).min(floor);
            let (subscription, dataset) = (&pin.subscription, &dataset.name);
            tracing::debug!(%subscription, %dataset, %floor, "retention waits for a subscription");
        }
        Ok((floor > dataset.floor).then_some(floor))
    }

    /// Up to where the events of a dataset after `floor` have to go by these rules.
    fn floor_by(
        &self,
        number: u32,
        floor: Position,
        mut rules: Due,
        reads: bool,
        reads_left: &mut u64,
    ) -> Result<Option<Position>, Error> {
        let parts = if rules.max_bytes.is_some() {
            self.storage.held_by_part(number, Tagged::Included, floor)?
        } else {
            self.storage.events_by_part(number, Tagged::Included, floor)?
        };
        let Some(last) = parts.last().map(|it| it.last) else { return Ok(None) };
        rules.events = parts.iter().map(|it| it.events).sum();
        rules.payload_bytes = parts.iter().map(|it| it.payload_bytes).sum();

        let whole = due(
            rules,
            parts.iter().map(|it| {
                let (last, events, payload_bytes) = (it.last, it.events, it.payload_bytes);
                Ok(Run { last, events, payload_bytes, happened: None })
            }),
        )?;
        let after = whole.unwrap_or(floor);
        for part in parts.iter().take_while(|it| it.last <= after) {
            rules.events -= part.events;
            rules.payload_bytes -= part.payload_bytes;
        }
        let span = Span { after, until: last };
        let positions = self.storage.each_position_of(number, Tagged::Included, span);
        let singles = positions.map_while(|position| {
            if reads {
                *reads_left = reads_left.checked_sub(1)?;
            }
            Some(position.map_err(Error::from).and_then(|it| self.single(it, reads)))
        });
        Ok(due(rules, singles)?.or(whole))
    }

    /// Notes which subscriptions are used, and takes away those that have expired.
    pub(crate) fn keep_subscriptions(&self) -> Result<(), Error> {
        if self.storage.is_poisoned() {
            return Ok(());
        }
        let now = self.clock.now();
        let queue = self.queue.upgrade().ok_or(Error::Closing)?;
        for work in self.subscriptions.note_use(now) {
            queue.blocking_send(Command::Work(work, 0)).map_err(|_closed| Error::Closing)?;
        }
        for name in self.subscriptions.expired(now) {
            let (reply, answer) = oneshot::channel();
            let (subscriptions, expired) = (Arc::clone(&self.subscriptions), name.clone());
            let work: Work = Box::new(move |ledger, now| {
                let deleted = subscriptions.delete_expired(&expired, ledger, now);
                Box::new(move |written| drop(reply.send(written.and(deleted))))
            });
            queue.blocking_send(Command::Work(work, 0)).map_err(|_closed| Error::Closing)?;
            match answer.blocking_recv().map_err(|_dropped| Error::Closing)? {
                Ok(true) => {
                    tracing::info!(subscription = name, "deleted: nobody has used it for long");
                    self.write(move |writer| {
                        writer.change(|catalog, now| Ok(catalog.audit_expired(&name, now)))
                    })?;
                }
                // Somebody came, or deleted it.
                Ok(false) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn rules(&self, retention: &Retention) -> Result<Due, Error> {
        let bound = retention.max_age.map(|age| {
            let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_micros(self.clock.now().micros().saturating_sub(age))
        });
        let (mut recorded_until, mut happened_before) = (Position::START, None);
        match (bound, retention.age_by) {
            (Some(bound), AgeBy::RecordTime) => {
                let last = *self.last_position.borrow();
                recorded_until = self.storage.last_before(bound.micros(), last)?;
            }
            (bound, AgeBy::EventTime) => happened_before = bound,
            (None, AgeBy::RecordTime) => {}
        }
        let some = |most: u64| (most > 0).then_some(most);
        let (max_events, max_bytes) = (some(retention.max_events), some(retention.max_bytes));
        let (events, payload_bytes) = (0, 0);
        Ok(Due { recorded_until, happened_before, max_events, max_bytes, events, payload_bytes })
    }

    /// A run of one event.
    fn single(&self, last: Position, reads: bool) -> Result<Run, Error> {
        let mut run = Run { last, events: 1, payload_bytes: 0, happened: None };
        if reads {
            let block = self.storage.block(last)?.ok_or(Error::Corrupt)?;
            // `None`: a trim and then compaction came first.
            if let Some(record) = block.get(last)? {
                run.payload_bytes = record.payload.len() as u64;
                run.happened = Some(event_time(&record));
            }
        }
        Ok(run)
    }

    /// Drops some of what was set aside too long ago; whether there may be more.
    fn expire(&self) -> Result<bool, Error> {
        if self.storage.is_poisoned() {
            return Ok(false);
        }
        self.write(Writer::expire_quarantined)
    }

    /// Raises floors, unless a dataset's rules are others now, and waits until that is durable.
    fn raise(&self, floors: Vec<(Arc<Dataset>, Position)>) -> Result<(), Error> {
        self.write(move |writer| writer.change(|catalog, _now| Ok(catalog.raise_floors(&floors))))
    }

    /// Carries out a write on the sequencer's thread and waits until it is durable.
    fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Writer) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let queue = self.queue.upgrade().ok_or(Error::Closing)?;
        let (reply, answer) = oneshot::channel();
        let command = Command::Change(Box::new(move |writer: &Writer| {
            drop(reply.send(write(writer)));
        }));
        queue.blocking_send(command).map_err(|_closed| Error::Closing)?;
        drop(queue);
        answer.blocking_recv().map_err(|_dropped| Error::Closing)?
    }
}

#[cfg(test)]
mod tests;
