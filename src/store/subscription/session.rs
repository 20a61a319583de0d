//! Consumers: connected by a stream, or pulling.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    delivery::{ConsumerId, Credit, Delivery, LeaseId, Outcome, Refused},
    model::{Position, RecordedEvent, Timestamp, limits},
    store::{
        Error, EventStore, Gap, blocking,
        subscription::{
            AckId, EndReason, Resolved, Subscription, ack_id, behind,
            driver::Driver,
            owner::{Answered, Owner, Session, Signal},
            work::check_outcomes,
        },
    },
};

/// Events in one message, and bytes of their payloads unless a single one has more.
const BATCH_EVENTS: usize = 512;
const BATCH_BYTES: usize = 1024 * 1024;
/// Batches of outcomes whose answers a consumer has not taken.
const ANSWERS_MAX: usize = 64;
/// Messages from the driver that wait for a consumer's stream: one for each event and each answer that it may have,
/// and some.
const SIGNALS_MAX: usize = limits::OUTSTANDING_EVENTS_MAX + ANSWERS_MAX + 64;
/// Time after which a checkpoint is sent if the position has moved.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Numbers connections.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// A consumer that wants to be connected.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The client's name for itself.
    pub client_id: String,
    /// Which of its lives this is.
    pub instance: u64,
    /// What it may have at a time.
    pub credit: Credit,
    /// Its stream is never silent for longer.
    pub heartbeat_interval: Duration,
    /// How long it has for an event; `None`: as the subscription's settings say.
    pub ack_deadline: Option<Duration>,
    /// It may renew its leases by telling that it is alive.
    pub keep_alive: bool,
}

/// What a consumer is told.
#[derive(Debug)]
pub enum ConsumeMessage {
    /// First, once.
    Started {
        /// Which generation of the subscription.
        generation: u64,
        /// The filter has been evaluated up to here.
        position: Position,
        /// The settings in force.
        subscription: Arc<Subscription>,
        /// The consumer has its former leases.
        resumed: bool,
        /// The interval in force.
        heartbeat_interval: Duration,
    },
    /// Events to work on, at least one.
    Events(Vec<Delivered>),
    /// What became of outcomes, in the order in which they were sent.
    Outcomes(Result<Resolved, Error>),
    /// Progress, with or without matches.
    Checkpoint {
        /// The filter has been evaluated up to here.
        position: Position,
        /// Everything up to here is done.
        floor: Position,
        /// The store's clock.
        time: Timestamp,
    },
    /// Everything durable has been looked at.
    CaughtUp(Position, Timestamp),
    /// That is so no longer.
    FellBehind(Position),
    /// Nothing else was sent for an interval.
    Heartbeat {
        /// The filter has been evaluated up to here.
        position: Position,
        /// The store's clock.
        time: Timestamp,
        /// Durable events not yet evaluated.
        lag: u64,
    },
    /// Events are missing.
    Gap(Gap),
    /// Consumers came or went; there are this many now.
    Rebalance(usize),
    /// Last.
    Ending(EndReason),
}

/// An event to work on.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The event.
    pub event: Arc<RecordedEvent>,
    /// This attempt.
    pub delivery: Delivery,
    /// What its outcome names.
    pub ack_id: AckId,
    /// The same for every attempt of the event.
    pub dedupe_key: String,
}

/// What a pull got.
#[derive(Debug)]
pub struct Pulled {
    /// Events to work on, perhaps none.
    pub events: Vec<Delivered>,
    /// Why there will be no more, if so.
    pub end: Option<EndReason>,
}

/// A connected consumer.
pub struct Connection {
    handle: Arc<Handle>,
    signals: mpsc::Receiver<Signal>,
    /// Given and not yet sent, before the events.
    answers: VecDeque<Answered>,
    /// Given and not yet sent.
    queue: VecDeque<Delivery>,
    /// The first messages.
    greetings: VecDeque<ConsumeMessage>,
    heartbeat_interval: Duration,
    heartbeat_due: Instant,
    checkpoint_due: Instant,
    /// In the last checkpoint.
    told: (Position, Position),
    ended: bool,
}

/// What a consumer's own messages go through.
pub struct Handle {
    store: EventStore,
    owner: Arc<Owner>,
    consumer: ConsumerId,
    /// Which connection of the consumer it is.
    number: u64,
    /// Places for batches of outcomes whose answers the consumer has not taken.
    places: Arc<Semaphore>,
    /// It may renew its leases by telling that it is alive.
    keep_alive: bool,
}

impl EventStore {
    /// Connects a consumer with a subscription.
    ///
    /// # Errors
    /// When there is no such subscription, or it has as many consumers as it may.
    pub async fn consume(&self, name: &str, connect: Connect) -> Result<Connection, Error> {
        self.check_open()?;
        let owner = self.inner.subscriptions.get(name)?;
        let (heartbeat_interval, keep_alive) = (connect.heartbeat_interval, connect.keep_alive);
        let Attached { consumer, number, resumed, signals } =
            self.attach(&owner, connect, None).await?;
        let mut greetings = VecDeque::new();
        let now = self.now();
        {
            let state = owner.state();
            let position = state.machine.scanned_to();
            greetings.push_back(ConsumeMessage::Started {
                generation: state.machine.durable().generation,
                position,
                subscription: Arc::clone(&state.subscription),
                resumed,
                heartbeat_interval,
            });
            if state.caught_up {
                greetings.push_back(ConsumeMessage::CaughtUp(position, now));
            }
        }
        let handle = Handle::new(self, owner, consumer, number, keep_alive);
        Ok(Connection {
            handle: Arc::new(handle),
            signals,
            answers: VecDeque::new(),
            queue: VecDeque::new(),
            greetings,
            heartbeat_interval,
            heartbeat_due: Instant::now() + heartbeat_interval,
            checkpoint_due: Instant::now() + CHECKPOINT_INTERVAL,
            told: (Position::START, Position::START),
            ended: false,
        })
    }

    /// Gets a consumer some events, and waits for the first of them.
    ///
    /// # Errors
    /// As [`EventStore::consume`].
    pub async fn pull(
        &self,
        name: &str,
        connect: Connect,
        events: u32,
        wait: Duration,
    ) -> Result<Pulled, Error> {
        self.check_open()?;
        let owner = self.inner.subscriptions.get(name)?;
        let until = Instant::now() + wait;
        let Attached { consumer, number, mut signals, .. } =
            self.attach(&owner, connect, Some(events)).await?;
        // Disconnects when it goes.
        let handle = Handle::new(self, owner, consumer, number, false);
        let (mut queue, mut end) = (VecDeque::new(), None);
        while queue.is_empty() && end.is_none() {
            match timeout_at(until, signals.recv()).await {
                Ok(Some(signal)) => take(signal, &mut queue, &mut end),
                Ok(None) => end = Some(EndReason::Slow),
                Err(_elapsed) => break,
            }
        }
        handle.disconnect();
        while let Ok(signal) = signals.try_recv() {
            take(signal, &mut queue, &mut end);
        }
        let mut events = Vec::new();
        while !queue.is_empty() {
            events.extend(handle.load(&mut queue).await?);
        }
        Ok(Pulled { events, end })
    }

    async fn attach(
        &self,
        owner: &Arc<Owner>,
        connect: Connect,
        quota: Option<u32>,
    ) -> Result<Attached, Error> {
        let Connect { client_id, instance, credit, ack_deadline, .. } = connect;
        let client_id: Arc<str> = client_id.into();
        let attached = self
            .on(Arc::clone(owner), move |owner, ledger, now| {
                let mut state = owner.state();
                if let Some(trouble) = state.trouble.take() {
                    tracing::info!(subscription = %owner.name, trouble, "trying again");
                }
                let joined = state.machine.join(&client_id, instance, credit, quota, now);
                let joined = joined.map_err(|Refused::TooMany| Error::Limit {
                    what: "consumers of one subscription",
                    max: limits::CONSUMERS_MAX,
                })?;
                state.machine.set_ack_deadline(joined.consumer, ack_deadline);
                let (out, signals) = mpsc::channel(SIGNALS_MAX);
                let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
                state.dismiss(joined.consumer, EndReason::Replaced);
                state.sessions.insert(joined.consumer, Session { number, out });
                if !joined.resumed && quota.is_none() {
                    let count = state.sessions.len();
                    state.tell(|| Signal::Rebalance(count));
                }
                let mut rows = Vec::new();
                state.note_use(now, &mut rows);
                ledger.add(rows);
                let (consumer, resumed) = (joined.consumer, joined.resumed);
                Ok(Attached { consumer, number, resumed, signals })
            })
            .await?;
        Driver::start(self, owner);
        owner.wake();
        Ok(attached)
    }
}

struct Attached {
    consumer: ConsumerId,
    number: u64,
    resumed: bool,
    signals: mpsc::Receiver<Signal>,
}

fn take(signal: Signal, queue: &mut VecDeque<Delivery>, end: &mut Option<EndReason>) {
    match signal {
        Signal::Work { deliveries, .. } => queue.extend(deliveries),
        Signal::End(reason) => *end = Some(reason),
        Signal::CaughtUp(_) | Signal::FellBehind(_) | Signal::Gap(_) | Signal::Rebalance(_) => {}
    }
}

impl Connection {
    /// What the consumer's own messages go through.
    #[must_use]
    pub fn handle(&self) -> Arc<Handle> {
        Arc::clone(&self.handle)
    }

    /// The next thing to tell the consumer; `None` after the end.
    pub async fn next(&mut self) -> Option<ConsumeMessage> {
        if self.ended {
            return None;
        }
        let message = loop {
            if let Some(greeting) = self.greetings.pop_front() {
                break greeting;
            }
            if let Some(Answered { result, .. }) = self.answers.pop_front() {
                break ConsumeMessage::Outcomes(result);
            }
            if !self.queue.is_empty() {
                match self.handle.load(&mut self.queue).await {
                    Ok(events) if events.is_empty() => continue,
                    Ok(events) => break ConsumeMessage::Events(events),
                    Err(error) => break self.end(EndReason::Failed(error.to_string())),
                }
            }
            tokio::select! {
                biased;
                signal = self.signals.recv() => match signal {
                    Some(Signal::Work { answers, deliveries }) => {
                        self.answers.extend(answers);
                        self.queue.extend(deliveries);
                    }
                    Some(Signal::CaughtUp(position)) => {
                        break ConsumeMessage::CaughtUp(position, self.handle.store.now());
                    }
                    Some(Signal::FellBehind(position)) => {
                        break ConsumeMessage::FellBehind(position);
                    }
                    Some(Signal::Gap(gap)) => break ConsumeMessage::Gap(gap),
                    Some(Signal::Rebalance(count)) => break ConsumeMessage::Rebalance(count),
                    Some(Signal::End(reason)) => break self.end(reason),
                    // The driver gave it up.
                    None => break self.end(EndReason::Slow),
                },
                () = sleep_until(self.checkpoint_due) => {
                    self.checkpoint_due = Instant::now() + CHECKPOINT_INTERVAL;
                    if let Some(checkpoint) = self.checkpoint() {
                        break checkpoint;
                    }
                }
                () = sleep_until(self.heartbeat_due) => break self.heartbeat(),
            }
        };
        self.heartbeat_due = Instant::now() + self.heartbeat_interval;
        Some(message)
    }

    fn end(&mut self, reason: EndReason) -> ConsumeMessage {
        self.ended = true;
        ConsumeMessage::Ending(reason)
    }

    /// Progress since the last one.
    fn checkpoint(&mut self) -> Option<ConsumeMessage> {
        let state = self.handle.owner.state();
        let (position, floor) = (state.machine.scanned_to(), state.machine.floor());
        drop(state);
        let moved = std::mem::replace(&mut self.told, (position, floor)) != (position, floor);
        let time = self.handle.store.now();
        moved.then_some(ConsumeMessage::Checkpoint { position, floor, time })
    }

    fn heartbeat(&self) -> ConsumeMessage {
        let position = self.handle.owner.state().machine.scanned_to();
        let lag = behind(self.handle.store.last_position(), position);
        ConsumeMessage::Heartbeat { position, time: self.handle.store.now(), lag }
    }
}

impl Handle {
    fn new(
        store: &EventStore,
        owner: Arc<Owner>,
        consumer: ConsumerId,
        number: u64,
        keep_alive: bool,
    ) -> Self {
        let places = Arc::new(Semaphore::new(ANSWERS_MAX));
        Self { store: store.clone(), owner, consumer, number, places, keep_alive }
    }

    /// Applies outcomes; what became of them is told in the stream.
    ///
    /// # Errors
    /// When the store is closing or poisoned.
    pub async fn outcomes(&self, outcomes: Vec<(AckId, Outcome)>) -> Result<(), Error> {
        if let Err(error) = check_outcomes(&self.owner, &outcomes) {
            return self.refuse(error).await;
        }
        let reply = self.reply().await?;
        self.store.send_outcomes(&self.owner, outcomes, reply).await
    }

    /// Tells the consumer that what it sent was refused, after the answers to what it sent before.
    ///
    /// # Errors
    /// When the store is closing or poisoned.
    pub async fn refuse(&self, error: Error) -> Result<(), Error> {
        let reply = self.reply().await?;
        let owner = Arc::clone(&self.owner);
        self.store
            .queue_work(0, move |_ledger, _now| {
                Box::new(move |_written| {
                    reply(Err(error));
                    owner.wake();
                })
            })
            .await
    }

    /// Hands an answer to the driver, which passes it on when it is woken; waits for a place for it.
    async fn reply(&self) -> Result<impl FnOnce(Result<Resolved, Error>) + use<>, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_closed| Error::Closing)?;
        let (owner, consumer, number) = (Arc::clone(&self.owner), self.consumer, self.number);
        Ok(move |result| {
            let answered = Answered { result, _place: place };
            owner.state().answer(consumer, number, answered);
        })
    }

    /// Resolves everything that the consumer has up to a position.
    ///
    /// # Errors
    /// When the subscription is not ordered in total.
    pub async fn ack_up_to(&self, position: Position) -> Result<(), Error> {
        let consumer = self.consumer;
        let owner = Arc::clone(&self.owner);
        self.store
            .on(owner, move |owner, _ledger, now| {
                let acked = owner.state().machine.ack_up_to(consumer, position, now);
                acked.map(drop).ok_or_else(|| {
                    Error::invalid("ack_up_to", "only for subscriptions with ordering TOTAL")
                })
            })
            .await
    }

    /// Renews the consumer's leases, unless another connection has taken this one's place.
    ///
    /// # Errors
    /// When it was not asked for at the connection's beginning.
    pub fn keep_alive(&self) -> Result<(), Error> {
        if !self.keep_alive {
            let message = "not asked for; only with `open.keep_alive`";
            return Err(Error::invalid("keep_alive", message));
        }
        let now = self.store.now();
        let mut state = self.owner.state();
        if state.sessions.get(&self.consumer).is_some_and(|it| it.number == self.number) {
            state.machine.keep_alive(self.consumer, now);
        }
        Ok(())
    }

    /// Changes what the consumer may have at a time.
    pub fn set_credit(&self, credit: Credit) {
        self.owner.state().machine.set_credit(self.consumer, credit);
        self.owner.wake();
    }

    /// The consumer gets nothing new; the stream ends when it has finished what it has, or at once when it
    /// gives that back.
    pub fn drain(&self, give_back: bool) {
        let mut state = self.owner.state();
        state.machine.drain(self.consumer);
        if give_back {
            state.machine.give_back(self.consumer);
        }
        drop(state);
        self.owner.wake();
    }

    /// The consumer is gone without a word: it may come back to its leases.
    fn disconnect(&self) {
        let now = self.store.now();
        let mut state = self.owner.state();
        let current = state.sessions.get(&self.consumer).map(|it| it.number);
        // Otherwise another connection has taken its place, or the stream has ended.
        if current == Some(self.number) {
            state.leave(self.consumer, now);
            drop(state);
            self.owner.wake();
        }
    }

    /// The events of the next deliveries, as many as one message takes. Those whose leases are over are left
    /// out, and those that are gone from the log are resolved. They leave the queue at the end, so that none is lost
    /// with a call that is dropped.
    async fn load(&self, queue: &mut VecDeque<Delivery>) -> Result<Vec<Delivered>, Error> {
        let (mut events, mut missing, mut bytes, mut looked_at) = (Vec::new(), Vec::new(), 0, 0);
        let catalog = self.store.catalog();
        // What a trim has taken since it was read is not to be seen.
        let is_kept = |event: &RecordedEvent| {
            let dataset = catalog.dataset(&event.dataset);
            dataset.is_ok_and(|it| !catalog.floors().removes(it.number, event.position))
        };
        {
            let mut state = self.owner.state();
            for delivery in queue.iter() {
                if events.len() >= BATCH_EVENTS || bytes >= BATCH_BYTES {
                    break;
                }
                looked_at += 1;
                if !state.machine.is_valid(delivery.lease) {
                    continue;
                }
                let event = state.ring.take(delivery.lease.position).filter(|it| is_kept(it));
                match &event {
                    Some(event) => bytes += event.payload.len(),
                    None => missing.push(delivery.lease.position),
                }
                events.push((delivery.clone(), event));
                // Not known how large they are.
                if missing.len() >= BATCH_EVENTS / 8 {
                    break;
                }
            }
        }
        let mut found = self.read(missing).await?.into_iter();
        let (mut delivered, mut gone) = (Vec::with_capacity(events.len()), Vec::new());
        for (delivery, event) in events {
            let event = match event {
                Some(event) => Some(event),
                None => found.next().flatten(),
            };
            match event {
                Some(event) => delivered.push(self.delivered(event, delivery)),
                None => gone.push(delivery.lease),
            }
        }
        if !gone.is_empty() {
            self.resolve_gone(gone).await?;
        }
        queue.drain(..looked_at);
        Ok(delivered)
    }

    fn delivered(&self, event: Arc<RecordedEvent>, delivery: Delivery) -> Delivered {
        let ack_id = ack_id::encode(self.owner.number, delivery.lease);
        let dedupe_key = format!("{}/{}", self.owner.name, event.position);
        Delivered { event, delivery, ack_id, dedupe_key }
    }

    /// Events by position, in order; `None` for those that are gone.
    async fn read(
        &self,
        positions: Vec<Position>,
    ) -> Result<Vec<Option<Arc<RecordedEvent>>>, Error> {
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.store.clone();
        blocking(move || {
            let load = |it: Position| Ok(store.load(it)?.map(|(event, _)| Arc::new(event)));
            positions.into_iter().map(load).collect()
        })
        .await
    }

    /// What was trimmed since it matched cannot hold up its lanes.
    async fn resolve_gone(&self, leases: Vec<LeaseId>) -> Result<(), Error> {
        self.store
            .on(Arc::clone(&self.owner), move |owner, _ledger, now| {
                let mut state = owner.state();
                for lease in leases {
                    let reason = "the event is gone from the log".into();
                    state.machine.apply(lease, Outcome::Skip { reason }, now);
                }
                Ok(())
            })
            .await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disconnect();
    }
}
