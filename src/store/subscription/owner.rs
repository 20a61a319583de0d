//! One subscription in memory: its state, and who is connected to it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, broadcast, futures::Notified, mpsc};

use crate::{
    delivery::{self, ConsumerId, Delivery, LeaseId, Note, Outcome, ParkedChange},
    model::{Position, RecordedEvent, SubscriptionName, Timestamp},
    storage::RowChange,
    store::{
        Error, Gap, Resource,
        faults::Faults,
        lock,
        subscription::{
            Resolved, Subscription,
            rows::Rows,
            watch::{News, ParkedNews},
        },
    },
};

/// Bytes of payloads kept between reading an event and sending it; what is not kept is read again.
const RING_BYTES: usize = 1024 * 1024;
/// The same in events.
const RING_EVENTS: usize = 1024;
/// News of parked events that wait for who watches them; whoever is further behind is told that it missed some.
const NEWS_MAX: usize = 4096;

/// A subscription. Its state is changed by the driver as far as nothing of it must survive, and by the
/// sequencer otherwise.
pub(crate) struct Owner {
    pub(crate) number: u32,
    pub(crate) name: SubscriptionName,
    /// Events of which the filter's condition came to nothing.
    pub(crate) faults: Arc<Faults>,
    /// Parked events of which no dead letter could be stored.
    pub(crate) dead_letter_faults: Faults,
    state: Mutex<State>,
    changed: Notify,
    settled: Notify,
}

/// What is known of a subscription.
pub(crate) struct State {
    pub(crate) machine: delivery::Subscription,
    pub(crate) subscription: Arc<Subscription>,
    rows: Rows,
    pub(crate) sessions: BTreeMap<ConsumerId, Session>,
    /// What became of what they sent, until the driver passes it on.
    answers: BTreeMap<ConsumerId, Vec<Answered>>,
    pub(crate) ring: Ring,
    /// A task moves events.
    pub(crate) driven: bool,
    /// Everything durable has been looked at.
    pub(crate) caught_up: bool,
    deleted: bool,
    /// Changes of which somebody was told already are to be durable by then.
    pub(crate) flush_due: Option<Timestamp>,
    /// When a consumer left, since the server started.
    pub(crate) left: Timestamp,
    /// Why reading ended.
    pub(crate) trouble: Option<String>,
    /// Where those listen who watch parked events, if any do.
    news: Option<broadcast::Sender<News>>,
}

/// A connected consumer.
pub(crate) struct Session {
    /// Which connection it is; a later one of the same client takes its place.
    pub(crate) number: u64,
    pub(crate) out: mpsc::Sender<Signal>,
}

/// What became of outcomes that a consumer sent together, with its place among those that it has not taken.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) result: Result<Resolved, Error>,
    pub(crate) _place: OwnedSemaphorePermit,
}

/// What a connected consumer is told by the driver.
#[derive(Debug)]
pub(crate) enum Signal {
    /// What became of its outcomes, and then its events, to be read and sent. They come together, so that one
    /// write on the network does for both.
    Work { answers: Vec<Answered>, deliveries: Vec<Delivery> },
    /// Everything durable has been looked at.
    CaughtUp(Position),
    /// That is so no longer.
    FellBehind(Position),
    /// Events are missing.
    Gap(Gap),
    /// Consumers came or went; there are this many now.
    Rebalance(usize),
    /// Nothing more comes.
    End(EndReason),
}

/// Why a consumer's stream ends that it did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The server shuts down.
    Shutdown,
    /// The subscription goes on from elsewhere.
    Seek,
    /// The subscription is deleted.
    Deleted,
    /// Another connection of the same client took its place.
    Replaced,
    /// It did not take what it had asked for.
    Slow,
    /// The filter names something that does not exist any more.
    FilterInvalid(String),
    /// The server failed.
    Failed(String),
    /// It drained, and nothing is left.
    Drained,
}

impl Owner {
    pub(crate) fn new(
        number: u32,
        subscription: Arc<Subscription>,
        machine: delivery::Subscription,
        rows: Rows,
    ) -> Self {
        let name = subscription.name.clone();
        let state = State {
            machine,
            subscription,
            rows,
            sessions: BTreeMap::new(),
            answers: BTreeMap::new(),
            ring: Ring::default(),
            driven: false,
            caught_up: false,
            deleted: false,
            flush_due: None,
            left: Timestamp::EPOCH,
            trouble: None,
            news: None,
        };
        Self {
            number,
            name,
            faults: Arc::default(),
            dead_letter_faults: Faults::default(),
            state: Mutex::new(state),
            changed: Notify::new(),
            settled: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Tells the driver to look again.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Tells whoever waits for leases to end.
    pub(crate) fn settle(&self) {
        self.settled.notify_waiters();
    }

    /// Resolves at the next time that leases may have ended, from now on.
    pub(crate) fn settled(&self) -> Notified<'_> {
        self.settled.notified()
    }

    pub(crate) fn end_draining(&self) {
        self.state().machine.set_draining(false);
        self.wake();
    }

    pub(crate) fn not_found(&self) -> Error {
        Error::not_found(Resource::Subscription, self.name.as_str())
    }
}

impl State {
    /// The rows that make the last changes durable, and the notes of what they park if that is to be stored, too.
    pub(crate) fn write(&mut self, rows: &mut Vec<RowChange>) -> Vec<Note> {
        if self.deleted {
            return Vec::new();
        }
        self.flush_due = None;
        self.machine.raise_floor();
        let notes = self.machine.take_notes();
        self.rows.write(self.machine.durable(), &notes, rows);
        if self.subscription.dead_letter_dataset.is_none() {
            return Vec::new();
        }
        notes.into_iter().filter(|it| matches!(it, Note::Parked { .. })).collect()
    }

    /// Bytes of dead letters that outcomes may come to.
    pub(crate) fn dead_letter_bytes(&self, outcomes: &[(LeaseId, &Outcome)]) -> u64 {
        if self.subscription.dead_letter_dataset.is_none() {
            return 0;
        }
        let parking = outcomes.iter().filter(|it| it.1.may_park());
        parking.map(|(lease, _)| u64::from(self.machine.bytes(lease.position))).sum()
    }

    /// The last changes are durable: they take effect, and whoever watches is told.
    pub(crate) fn kept(&mut self) {
        let changes = self.machine.kept();
        let Some(news) = &self.news else { return };
        for (position, change) in changes {
            let parked = match change {
                ParkedChange::Parked => self.machine.durable().parked.get(&position).cloned(),
                ParkedChange::Replayed | ParkedChange::Resolved | ParkedChange::Discarded => None,
            };
            let parked = parked.map(Arc::new);
            drop(news.send(News::Changed(ParkedNews { position, change, parked })));
        }
        if news.receiver_count() == 0 {
            self.news = None;
        }
    }

    /// Listens to what becomes of parked events from now on.
    pub(crate) fn watch(&mut self) -> broadcast::Receiver<News> {
        if let Some(news) = &self.news {
            return news.subscribe();
        }
        let (news, listening) = broadcast::channel(NEWS_MAX);
        self.news = Some(news);
        listening
    }

    fn end_watches(&mut self, reason: &EndReason) {
        if let Some(news) = self.news.take() {
            drop(news.send(News::End(reason.clone())));
        }
    }

    /// Whether there are changes that are to be made durable now.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.machine.has_notes() && self.flush_due.is_none_or(|due| due <= now)
    }

    /// Until when outcomes that are applied now must be durable, if they may be answered before.
    pub(crate) fn may_answer_early(&self, now: Timestamp) -> Option<Timestamp> {
        // Nobody else makes them durable.
        let driven = self.driven && !self.deleted;
        self.subscription.ack_flush_interval.filter(|_| driven).map(|it| now.plus(it))
    }

    /// Also writes the settings.
    pub(crate) fn set(&mut self, subscription: Arc<Subscription>, rows: &mut Vec<RowChange>) {
        rows.push(self.rows.settings(&subscription));
        self.subscription = subscription;
    }

    /// The rows that take it away.
    pub(crate) fn delete(&mut self, rows: &mut Vec<RowChange>, now: Timestamp) {
        self.deleted = true;
        self.rows.delete(rows);
        self.end_all(&EndReason::Deleted, now);
        self.end_watches(&EndReason::Deleted);
    }

    /// The subscription goes on from elsewhere: who consumes or watches begins anew.
    pub(crate) fn sought(&mut self, now: Timestamp) {
        self.caught_up = false;
        self.end_all(&EndReason::Seek, now);
        self.end_watches(&EndReason::Seek);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Ends every stream.
    pub(crate) fn end_all(&mut self, reason: &EndReason, now: Timestamp) {
        let consumers: Vec<_> = self.sessions.keys().copied().collect();
        for consumer in consumers {
            self.end(consumer, reason.clone(), now);
        }
    }

    /// Ends a consumer's stream. It may come back to its leases.
    pub(crate) fn end(&mut self, consumer: ConsumerId, reason: EndReason, now: Timestamp) {
        if self.dismiss(consumer, reason) {
            self.leave(consumer, now);
        }
    }

    /// A consumer has left. It may come back to its leases.
    pub(crate) fn leave(&mut self, consumer: ConsumerId, now: Timestamp) {
        self.answers.remove(&consumer);
        self.sessions.remove(&consumer);
        self.machine.disconnect(consumer, now);
        self.left = now;
    }

    /// Ends a consumer's stream when it has its answers; whether it had one.
    pub(crate) fn dismiss(&mut self, consumer: ConsumerId, reason: EndReason) -> bool {
        let answers = self.answers.remove(&consumer).unwrap_or_default();
        let Some(session) = self.sessions.remove(&consumer) else { return false };
        if !answers.is_empty() {
            drop(session.out.try_send(Signal::Work { answers, deliveries: Vec::new() }));
        }
        drop(session.out.try_send(Signal::End(reason)));
        true
    }

    /// A consumer is to learn what became of what it sent by a connection, if that is still its own.
    pub(crate) fn answer(&mut self, consumer: ConsumerId, number: u64, answered: Answered) {
        if self.sessions.get(&consumer).is_some_and(|it| it.number == number) {
            self.answers.entry(consumer).or_default().push(answered);
        }
    }

    /// Hands each consumer its answers and its events. One whose queue is full has not taken what it had asked for.
    pub(crate) fn give(&mut self, deliveries: Vec<Delivery>, now: Timestamp) {
        let mut of: BTreeMap<ConsumerId, (Vec<Answered>, Vec<Delivery>)> = BTreeMap::new();
        for (consumer, answers) in std::mem::take(&mut self.answers) {
            of.entry(consumer).or_default().0 = answers;
        }
        for delivery in deliveries {
            of.entry(delivery.consumer).or_default().1.push(delivery);
        }
        for (consumer, (answers, deliveries)) in of {
            let Some(session) = self.sessions.get(&consumer) else {
                self.machine.give_back(consumer);
                self.machine.stop_asking(consumer);
                continue;
            };
            if session.out.try_send(Signal::Work { answers, deliveries }).is_err() {
                self.end(consumer, EndReason::Slow, now);
            }
        }
    }

    /// Tells every consumer.
    pub(crate) fn tell(&mut self, signal: impl Fn() -> Signal) {
        for session in self.sessions.values() {
            drop(session.out.try_send(signal()));
        }
    }
}

/// Events that were just read, until they are sent.
#[derive(Default)]
pub(crate) struct Ring {
    events: BTreeMap<Position, Arc<RecordedEvent>>,
    order: VecDeque<Position>,
    bytes: usize,
}

impl Ring {
    pub(crate) fn add(&mut self, event: RecordedEvent) {
        self.bytes += event.payload.len();
        self.order.push_back(event.position);
        self.events.insert(event.position, Arc::new(event));
        while self.bytes > RING_BYTES || self.order.len() > RING_EVENTS {
            let Some(oldest) = self.order.pop_front() else { return };
            self.take(oldest);
        }
    }

    pub(crate) fn take(&mut self, position: Position) -> Option<Arc<RecordedEvent>> {
        let event = self.events.remove(&position)?;
        self.bytes = self.bytes.saturating_sub(event.payload.len());
        Some(event)
    }
}
