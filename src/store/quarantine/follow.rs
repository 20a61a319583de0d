//! Following the quarantine: what is in it, and then what is set aside.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::store::{
    Error, EventStore,
    quarantine::{QuarantineSelection, Quarantined, rows, show_id},
};

/// Events in one piece of news.
const AT_ONCE_MAX: usize = 100;

/// What to follow.
#[derive(Clone, Debug)]
pub struct QuarantineFollow {
    /// Which events; without ids.
    pub selection: QuarantineSelection,
    /// Where to begin.
    pub start: QuarantineStart,
    /// There is news at least as often.
    pub heartbeat_interval: Duration,
}

/// Where a follow of the quarantine begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuarantineStart {
    /// With the oldest that is kept.
    Oldest,
    /// With the next that is set aside.
    Next,
    /// With the one after this.
    After(u64),
}

/// What a follower of the quarantine is told.
#[derive(Debug)]
pub struct QuarantineNews {
    /// Selected events, by id; without their payloads.
    pub events: Vec<Quarantined>,
    /// All up to this id have been told of.
    pub last: u64,
    /// These were all.
    pub caught_up: bool,
}

/// A follow under way.
pub struct QuarantineFollower {
    store: EventStore,
    selection: QuarantineSelection,
    heartbeat_interval: Duration,
    newest: watch::Receiver<u64>,
    after: u64,
    /// Whether it has been told that it has.
    caught_up: bool,
}

impl EventStore {
    /// Begins to follow; [`QuarantineFollower::next`] tells.
    ///
    /// # Errors
    /// When the dataset does not exist, ids are selected, or no event has been set aside under the id to begin
    /// after.
    pub fn follow_quarantined(
        &self,
        follow: QuarantineFollow,
    ) -> Result<QuarantineFollower, Error> {
        let QuarantineFollow { selection, start, heartbeat_interval } = follow;
        self.check_open()?;
        if !selection.ids.is_empty() {
            return Err(Error::invalid(
                "selection.ids",
                "set; a follow is of a dataset, or of all",
            ));
        }
        if !selection.dataset.is_empty() {
            self.dataset(&selection.dataset)?;
        }
        let newest = self.inner.newest_quarantined.clone();
        let last = *newest.borrow();
        let after = match start {
            QuarantineStart::Oldest => 0,
            QuarantineStart::Next => last,
            QuarantineStart::After(id) if id <= last => id,
            QuarantineStart::After(id) => {
                let message = format!(
                    "`{}` has not been set aside; the last that was is `{}`",
                    show_id(id),
                    show_id(last)
                );
                return Err(Error::invalid("after_quarantine_id", message));
            }
        };
        let (store, caught_up) = (self.clone(), false);
        Ok(QuarantineFollower { store, selection, heartbeat_interval, newest, after, caught_up })
    }
}

impl QuarantineFollower {
    /// Waits for news, which may be that there is none.
    ///
    /// # Errors
    /// When the store closes, the dataset has been deleted, or stored data cannot be read.
    pub async fn next(&mut self) -> Result<QuarantineNews, Error> {
        let heartbeat = Instant::now() + self.heartbeat_interval;
        let closing = self.store.closing();
        loop {
            // Before the rows are read: what is set aside meanwhile wakes.
            let newest = *self.newest.borrow_and_update();
            if (self.after < newest || !self.caught_up)
                && let Some(news) = self.read(newest).await?
            {
                return Ok(news);
            }
            tokio::select! {
                () = closing.cancelled() => return Err(Error::Closing),
                () = sleep_until(heartbeat) => {
                    if !self.selection.dataset.is_empty() {
                        self.store.dataset(&self.selection.dataset)?;
                    }
                    return Ok(QuarantineNews { events: Vec::new(), last: self.after, caught_up: true });
                }
                changed = self.newest.changed() => changed.map_err(|_closed| Error::Closing)?,
            }
        }
    }

    /// The next events, unless there are none and that has been said.
    async fn read(&mut self, newest: u64) -> Result<Option<QuarantineNews>, Error> {
        let after = (self.after > 0).then_some(self.after);
        let (events, next) =
            self.store.quarantined_after(self.selection.clone(), after, AT_ONCE_MAX).await?;
        let reached = match next.as_deref().and_then(rows::id_of) {
            Some(id) => id,
            None => events.last().map_or(newest, |it| it.id.max(newest)),
        };
        self.after = self.after.max(reached);
        let was_caught_up = std::mem::replace(&mut self.caught_up, next.is_none());
        let (last, caught_up) = (self.after, self.caught_up);
        let is_news = !events.is_empty() || !caught_up || !was_caught_up;
        Ok(is_news.then_some(QuarantineNews { events, last, caught_up }))
    }
}
