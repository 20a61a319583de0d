//! The driver of a subscription: reads what matches, lets time pass, and gives consumers their events.
//!
//! Catching up and being live are one loop over the log, as for a follow. It runs as long as there are consumers or
//! leases.

use std::{
    collections::VecDeque,
    future::{self, Future},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    delivery::{Arrival, PARK_BYTES},
    model::{Direction, Position, RecordedEvent, Timestamp},
    storage::{Floors, Span},
    store::{
        Error, EventStore, Gap,
        digest::stored_digest,
        plan::Plan,
        read::Reader,
        subscription::{
            EndReason, behind,
            owner::{Owner, Signal, State},
            pace::Pace,
        },
    },
};

/// Events that are given out at a time, so that outcomes need not wait long.
const DELIVERIES_MAX: usize = 1024;
/// Events that are parked at a time for what others did.
const PARKED_MAX: usize = 256;
/// Positions that the floor may be ahead of what is durable of it. As many are read again after a kill.
const FLOOR_LEAD_MAX: u64 = 10_000;
/// A subscription that was live and is further behind than this has fallen behind.
const LIVE_LAG_MAX: u64 = 10_000;

/// Moves the events of one subscription.
pub(super) struct Driver {
    store: EventStore,
    owner: Arc<Owner>,
    reading: Option<Reading>,
    /// Consumers have been told of these losses.
    floors: Arc<Floors>,
    pace: Pace,
}

/// A read under way, in one generation of the subscription.
struct Reading {
    generation: u64,
    reader: Option<Reader>,
    /// Read and not yet taken up.
    events: VecDeque<RecordedEvent>,
    /// The filter has been evaluated up to here once they are taken up.
    scanned_to: Position,
    until: Position,
}

/// What the driver does next.
enum Next {
    /// The same again.
    Again,
    /// Make durable what time or others bring.
    Maintain,
    /// Read on, and look at so many events at most.
    Read(usize),
    /// Wait, at most until then.
    Wait(Option<Timestamp>),
    /// Nothing, ever.
    End,
}

impl Driver {
    /// Lets a subscription be driven, if it is not yet.
    pub(super) fn start(store: &EventStore, owner: &Arc<Owner>) {
        let mut state = owner.state();
        if !std::mem::replace(&mut state.driven, true) {
            // One that has done nothing yet begins with the first event that is kept.
            let floors = match state.machine.floor() {
                Position::START => Arc::clone(store.catalog().floors()),
                _ => Arc::default(),
            };
            let (store, owner) = (store.clone(), Arc::clone(owner));
            let pace = Pace::default();
            let driver = Self { store, owner, reading: None, floors, pace };
            tokio::spawn(driver.run());
        }
    }

    async fn run(mut self) {
        let mut last_position = self.store.watch_last_position();
        let closing = self.store.closing();
        loop {
            if closing.is_cancelled() {
                return self.end(&EndReason::Shutdown);
            }
            let until = *last_position.borrow_and_update();
            if let Err(error) = self.tell_losses() {
                return self.fail(&error).await;
            }
            let due = match self.step(until) {
                Next::Again => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Next::Maintain => match self.answering(self.maintain()).await {
                    Ok(()) => continue,
                    Err(error) => return self.fail(&error).await,
                },
                Next::Read(most) => match self.read(until, most).await {
                    Ok(()) => continue,
                    Err(error) => return self.fail(&error).await,
                },
                Next::Wait(due) => due,
                Next::End => return,
            };
            let now = self.store.now();
            let wait = due.map(|at| at.since(now).max(Duration::from_micros(100)));
            tokio::select! {
                () = self.owner.changed() => {}
                changed = last_position.changed() => if changed.is_err() {
                    return self.end(&EndReason::Shutdown);
                },
                () = pause(wait) => {}
                () = closing.cancelled() => return self.end(&EndReason::Shutdown),
            }
        }
    }

    /// Tells of a trim that took events which are not done, read already or not.
    fn tell_losses(&mut self) -> Result<(), Error> {
        let catalog = self.store.catalog();
        if Arc::ptr_eq(catalog.floors(), &self.floors) {
            return Ok(());
        }
        let mut state = self.owner.state();
        if state.sessions.is_empty() {
            return Ok(()); // Somebody must hear it.
        }
        let mut plan = Plan::new(&state.subscription.filter, &catalog)?;
        plan.query.floors = std::mem::replace(&mut self.floors, Arc::clone(catalog.floors()));
        let done = state.machine.floor();
        let to = plan.lost(&catalog, done);
        if to > done {
            state.tell(|| Signal::Gap(Gap { from: done.next(), to }));
        }
        Ok(())
    }

    fn step(&mut self, until: Position) -> Next {
        let now = self.store.now();
        let mut guard = self.owner.state();
        let state = &mut *guard;
        if state.is_deleted() {
            state.driven = false;
            return Next::End;
        }
        state.machine.wake(now);
        let (floor, durable) = (state.machine.floor(), state.machine.durable().floor);
        if state.is_due(now)
            || state.machine.has_expired(now)
            || state.machine.has_to_park()
            || behind(floor, durable) > FLOOR_LEAD_MAX
        {
            return Next::Maintain;
        }
        let deliveries = state.machine.deliver(now, DELIVERIES_MAX);
        let more = deliveries.len() >= DELIVERIES_MAX;
        state.give(deliveries, now);
        end_drained(state);
        let scanned_to = state.machine.scanned_to();
        tell_progress(state, scanned_to, until);
        if state.sessions.is_empty() && state.machine.in_flight() == 0 {
            if floor > durable || state.machine.has_notes() {
                return Next::Maintain;
            }
            state.driven = false;
            return Next::End;
        }
        if more {
            return Next::Again;
        }
        let mut reads_at = None;
        if scanned_to < until && state.machine.wanted() > 0 {
            let limit = if state.caught_up { 0 } else { state.subscription.scan_limit };
            match self.pace.allows(limit, now) {
                Ok(most) => return Next::Read(most),
                Err(later) => reads_at = Some(later),
            }
        }
        let due = state.machine.next_due().into_iter().chain(state.flush_due).chain(reads_at);
        Next::Wait(due.min())
    }

    /// Waits for something; consumers get their answers meanwhile.
    async fn answering<T>(&self, something: impl Future<Output = T>) -> T {
        let mut something = pin!(something);
        loop {
            tokio::select! {
                biased;
                done = &mut something => return done,
                () = self.owner.changed() => self.owner.state().give(Vec::new(), self.store.now()),
            }
        }
    }

    /// Ends leases that are over, parks what is to be parked and raises the floor, durably.
    async fn maintain(&self) -> Result<(), Error> {
        let stores = self.owner.state().subscription.dead_letter_dataset.is_some();
        let bytes = if stores { 2 * usize::try_from(PARK_BYTES).unwrap_or_default() } else { 0 };
        self.store
            .on_heavily(Arc::clone(&self.owner), bytes, |owner, _ledger, now| {
                let mut state = owner.state();
                state.machine.expire(now);
                state.machine.park_some(now, PARKED_MAX);
                Ok(())
            })
            .await
    }

    /// Takes up some matching events.
    async fn read(&mut self, until: Position, most: usize) -> Result<(), Error> {
        let mut reading = match self.reading.take() {
            Some(reading) if self.is_current(&reading) => reading,
            _ => self.begin(until)?,
        };
        if reading.events.is_empty() {
            let Some(mut reader) = reading.reader.take() else { return Ok(()) };
            reader.look_at_most(most);
            let (reader, page) = self.answering(self.store.next_page(reader)).await?;
            self.pace.take(page.looked_at);
            reading.events = page.events.into();
            reading.scanned_to =
                if page.done { reading.until } else { page.scanned_to.max(reading.scanned_to) };
            reading.reader = (!page.done).then_some(reader);
        }
        let mut guard = self.owner.state();
        let state = &mut *guard;
        if state.machine.durable().generation != reading.generation {
            return Ok(());
        }
        while state.machine.room() > 0
            && let Some(event) = reading.events.pop_front()
        {
            let bytes = u32::try_from(event.payload.len()).unwrap_or(u32::MAX);
            let (position, identities) = (event.position, event.identities.as_slice());
            let digest = stored_digest(&event);
            state.machine.enter(&Arrival { position, identities, bytes, digest });
            state.ring.add(event);
        }
        if reading.events.is_empty() {
            state.machine.scanned(reading.scanned_to);
        }
        drop(guard);
        if !reading.events.is_empty() || reading.reader.is_some() {
            self.reading = Some(reading);
        }
        Ok(())
    }

    fn is_current(&self, reading: &Reading) -> bool {
        self.owner.state().machine.durable().generation == reading.generation
    }

    /// A read from where the subscription is.
    fn begin(&self, until: Position) -> Result<Reading, Error> {
        let catalog = self.store.catalog();
        let state = self.owner.state();
        let after = state.machine.scanned_to();
        let mut plan = Plan::new(&state.subscription.filter, &catalog)?;
        plan.count_faults(&self.owner.faults);
        let floors = Arc::clone(catalog.floors());
        let span = Span { after, until };
        let reader = self.store.reader(plan, floors, span, Direction::Forward, u64::MAX);
        Ok(Reading {
            generation: state.machine.durable().generation,
            reader: Some(reader),
            events: VecDeque::new(),
            scanned_to: after,
            until,
        })
    }

    async fn fail(&self, error: &Error) {
        let reason = if matches!(error, Error::Closing) {
            EndReason::Shutdown
        } else if self.owner.state().is_deleted() {
            EndReason::Deleted
        } else if matches!(error, Error::NotFound { .. }) {
            EndReason::FilterInvalid(error.to_string())
        } else {
            EndReason::Failed(error.to_string())
        };
        self.owner.state().trouble = Some(error.to_string());
        self.end(&reason);
        // From now on outcomes are answered when they are durable; these were answered before.
        if self.owner.state().machine.has_notes() {
            drop(self.maintain().await);
        }
    }

    fn end(&self, reason: &EndReason) {
        let now = self.store.now();
        let mut state = self.owner.state();
        state.driven = false;
        state.end_all(reason, now);
    }
}

/// A driver that panics leaves nobody waiting.
impl Drop for Driver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end(&EndReason::Failed("the subscription's driver failed".to_owned()));
        }
    }
}

fn end_drained(state: &mut State) {
    let drained: Vec<_> =
        state.sessions.keys().copied().filter(|it| state.machine.is_drained(*it)).collect();
    for consumer in drained {
        state.dismiss(consumer, EndReason::Drained);
        state.machine.leave(consumer);
    }
}

fn tell_progress(state: &mut State, scanned_to: Position, until: Position) {
    if !state.caught_up && scanned_to >= until {
        state.caught_up = true;
        state.tell(|| Signal::CaughtUp(scanned_to));
    } else if state.caught_up && behind(until, scanned_to) > LIVE_LAG_MAX {
        state.caught_up = false;
        state.tell(|| Signal::FellBehind(scanned_to));
    }
}

async fn pause(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => future::pending().await,
    }
}
