//! Watching what becomes of a subscription's parked events.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};

use crate::{
    delivery::{Parked, ParkedChange},
    model::{Position, Timestamp},
    store::{
        Error, EventStore,
        subscription::{EndReason, owner::Owner},
    },
};

/// What became of a parked event; durable.
#[derive(Clone, Debug)]
pub struct ParkedNews {
    /// Which.
    pub position: Position,
    /// What.
    pub change: ParkedChange,
    /// What is known of it when it is parked, unless it is not any more.
    pub parked: Option<Arc<Parked>>,
}

/// What whoever listens hears.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Changed(ParkedNews),
    End(EndReason),
}

/// What whoever watches is told.
#[derive(Debug)]
pub enum ParkedMessage {
    /// First, once: what happens from now on is told.
    Started {
        /// How many are parked.
        parked: usize,
        /// The interval in force.
        heartbeat_interval: Duration,
    },
    /// Something happened.
    Changed(ParkedNews),
    /// Nothing did for an interval.
    Heartbeat(Timestamp),
    /// Last.
    Ending(EndReason),
}

/// A watch under way.
pub struct ParkedWatch {
    store: EventStore,
    owner: Arc<Owner>,
    news: broadcast::Receiver<News>,
    heartbeat_interval: Duration,
    started: bool,
    ended: bool,
}

impl EventStore {
    /// Begins to watch; [`ParkedWatch::next`] tells.
    ///
    /// # Errors
    /// When there is no such subscription, or the store is closing.
    pub fn watch_parked(
        &self,
        name: &str,
        heartbeat_interval: Duration,
    ) -> Result<ParkedWatch, Error> {
        self.check_open()?;
        let owner = self.inner.subscriptions.get(name)?;
        let news = owner.state().watch();
        let (started, ended) = (false, false);
        Ok(ParkedWatch { store: self.clone(), owner, news, heartbeat_interval, started, ended })
    }
}

impl ParkedWatch {
    /// The next thing to tell; `None` after the end.
    pub async fn next(&mut self) -> Option<ParkedMessage> {
        if self.ended {
            return None;
        }
        if !std::mem::replace(&mut self.started, true) {
            let parked = self.owner.state().machine.durable().parked.len();
            let heartbeat_interval = self.heartbeat_interval;
            return Some(ParkedMessage::Started { parked, heartbeat_interval });
        }
        let closing = self.store.closing();
        let end = tokio::select! {
            biased;
            () = closing.cancelled() => EndReason::Shutdown,
            news = self.news.recv() => match news {
                Ok(News::Changed(news)) => return Some(ParkedMessage::Changed(news)),
                Ok(News::End(reason)) => reason,
                Err(RecvError::Lagged(_)) => EndReason::Slow,
                Err(RecvError::Closed) => EndReason::Deleted,
            },
            () = sleep_until(Instant::now() + self.heartbeat_interval) => {
                return Some(ParkedMessage::Heartbeat(self.store.now()));
            }
        };
        self.ended = true;
        Some(ParkedMessage::Ending(end))
    }
}
