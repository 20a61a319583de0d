//! Appends that one caller sends without waiting for the answers: judged side by side, stored in the
//! order in which they were sent.
//!
//! Each append has a [`Turn`]. It is given to the sequencer when the one before it has been, and the
//! sequencer places it only when the one before it has been decided; otherwise, which happens when the one
//! before it is judged again, it comes back and waits for that.

use std::{future::Future, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::store::{Append, Appended, Error, EventStore};

/// A caller's appends, in order.
#[derive(Debug)]
pub struct AppendStream {
    store: EventStore,
    order: Arc<Order>,
    sent: u64,
    _place: OwnedSemaphorePermit,
}

/// How far a stream's appends have come.
#[derive(Debug)]
struct Order {
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Appends up to this one have been given to the sequencer, or will not be.
    handed: u64,
    /// Appends up to this one are stored or have failed.
    decided: u64,
    /// One has failed after which nothing is to be carried out.
    halted: bool,
}

/// An append's place in its stream.
#[derive(Debug)]
pub(crate) struct Turn {
    order: Arc<Order>,
    number: u64,
    /// When it fails nothing after it is carried out.
    halts: bool,
}

/// A failed append before it asked that nothing more is carried out.
struct Halted;

impl EventStore {
    /// Appends to send one after the other.
    ///
    /// # Errors
    /// When there are too many such streams, or the store is closing.
    pub fn append_stream(&self) -> Result<AppendStream, Error> {
        self.check_open()?;
        let place = Arc::clone(&self.inner.append_streams).try_acquire_owned();
        let place = place.map_err(|_full| Error::Streams)?;
        let order = Arc::new(Order { progress: watch::Sender::default() });
        Ok(AppendStream { store: self.clone(), order, sent: 0, _place: place })
    }
}

impl AppendStream {
    /// Where it appends to.
    #[must_use]
    pub fn store(&self) -> &EventStore {
        &self.store
    }

    /// Takes an append as soon as there is room for it in the queue; what it returns carries it out and
    /// has to be polled whatever becomes of the others. `None` is an append that is not carried out,
    /// since one before it failed that was sent with `halts`.
    pub async fn send(
        &mut self,
        append: Result<Append, Error>,
        halts: bool,
    ) -> impl Future<Output = Option<Result<Appended, Error>>> + Send + 'static {
        self.sent += 1;
        let turn = Turn { order: Arc::clone(&self.order), number: self.sent, halts };
        let store = self.store.clone();
        // In turn: one that waited for room that the ones after it have taken would wait for ever.
        let admitted = match append {
            Ok(append) => store.admit(append, None).await,
            Err(error) => Err(error),
        };
        async move {
            let turn = Arc::new(turn);
            let outcome = match admitted {
                Ok(admitted) => store.carry_out(admitted, Some(Arc::clone(&turn)), None).await,
                Err(error) => Err(error),
            };
            let was_carried_out = turn.finish(outcome.is_err()).await.is_ok();
            was_carried_out.then_some(outcome)
        }
    }
}

impl Turn {
    /// Waits until it may be given to the sequencer: in the first round when the one before it has been,
    /// later when that is decided.
    pub(super) async fn wait(&self, first_round: bool) -> Result<(), Error> {
        let before = self.number - 1;
        let ready =
            |it: &Progress| if first_round { it.handed >= before } else { it.decided >= before };
        // An error of what is never carried out; nobody sees it.
        self.order.reach(ready).await.map_err(|Halted| Error::Closing)
    }

    /// It has been given to the sequencer.
    pub(super) fn hand_over(&self) {
        let handed = |it: &mut Progress| it.handed = it.handed.max(self.number);
        self.order.progress.send_modify(handed);
    }

    /// Whether the sequencer may place it.
    pub(super) fn has_come(&self) -> bool {
        let progress = self.order.progress.borrow();
        !progress.halted && progress.decided == self.number - 1
    }

    /// It has been placed, or has failed.
    pub(super) fn decide(&self, failed: bool) {
        self.order.progress.send_modify(|it| {
            it.handed = it.handed.max(self.number);
            it.decided = it.decided.max(self.number);
            it.halted |= failed && self.halts;
        });
    }

    /// Sees to it that it is decided, whatever became of it.
    async fn finish(&self, failed: bool) -> Result<(), Halted> {
        if self.order.progress.borrow().decided >= self.number {
            return Ok(());
        }
        let before = self.number - 1;
        self.order.reach(|it| it.decided >= before).await?;
        self.decide(failed);
        Ok(())
    }
}

impl Drop for Turn {
    /// Nobody waits for what will never be decided.
    fn drop(&mut self) {
        let number = self.number;
        self.order.progress.send_if_modified(|it| {
            let lost = it.decided < number && !it.halted;
            it.halted |= lost;
            lost
        });
    }
}

impl Order {
    /// Waits for progress.
    async fn reach(&self, ready: impl Fn(&Progress) -> bool) -> Result<(), Halted> {
        let mut progress = self.progress.subscribe();
        // The sender lives as long as `self`.
        match progress.wait_for(|it| it.halted || ready(it)).await {
            Ok(it) if ready(&it) && !it.halted => Ok(()),
            Ok(_) | Err(_) => Err(Halted),
        }
    }
}
