//! Following: catch-up and live are one loop over the log.
//!
//! The last position is read before the log, so no append slips between; a wake-up says only that it
//! moved.

use std::{future, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    model::{Direction, EventFilter, Position, RecordedEvent, Timestamp},
    storage::{Floors, Span},
    store::{BelowFloor, Error, EventStore, Gap, plan::Plan, read::Reader},
};

/// Scanned events after which a checkpoint is sent at the latest.
const CHECKPOINT_EVENTS: u64 = 1_000;
/// Time after which a checkpoint is sent if the position has moved.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// A live follower further behind than this has fallen behind, and will catch up from storage.
const LIVE_LAG_MAX: u64 = 10_000;

/// What to follow.
#[derive(Clone, Debug)]
pub struct Follow {
    /// Which events.
    pub filter: EventFilter,
    /// Where to begin.
    pub start: Start,
    /// The stream is never silent for longer.
    pub heartbeat_interval: Duration,
    /// What happens when `start` is below lost events.
    pub below_floor: BelowFloor,
}

/// Where a follow begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the first event that is kept.
    Beginning,
    /// From the next event.
    End,
    /// After this position.
    After(Position),
    /// From the first event stored at this time or later.
    RecordTime(Timestamp),
    /// From the first event, in log order, that happened at this time or later.
    EventTime(Timestamp),
    /// Right after the message that carried this token.
    Token(Vec<u8>),
}

/// What a follower is told. Positions say up to where the filter has been evaluated, times are the
/// store's, lag is in events.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are described above")]
pub enum FollowMessage {
    /// First, once.
    Started { position: Position, heartbeat_interval: Duration },
    /// Matching events, at least one.
    Events(Vec<RecordedEvent>),
    /// Progress, with or without matches.
    Checkpoint { position: Position, time: Timestamp },
    /// All that was durable has been delivered.
    CaughtUp { position: Position, time: Timestamp },
    /// Too slow to be live; goes on from storage.
    FellBehind { position: Position, lag: u64 },
    /// Events are missing; those in between that are kept follow.
    Gap(Gap),
    /// Nothing else was sent for an interval.
    Heartbeat { position: Position, time: Timestamp, lag: u64 },
}

/// How a follow ends that the client did not end.
#[derive(Debug)]
pub struct FollowEnd {
    /// What has been evaluated.
    pub position: Position,
    /// Why.
    pub error: Error,
}

impl FollowMessage {
    /// What has been delivered or evaluated with this message.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Started { position, .. }
            | Self::Checkpoint { position, .. }
            | Self::CaughtUp { position, .. }
            | Self::FellBehind { position, .. }
            | Self::Heartbeat { position, .. } => *position,
            Self::Gap(gap) => gap.from.previous(),
            Self::Events(events) => events.last().map(|it| it.position).unwrap_or_default(),
        }
    }
}

/// A follow that has been checked and can run.
pub(crate) struct Follower {
    store: EventStore,
    follow: Follow,
    after: Position,
    /// The losses that it has been told of.
    floors: Arc<Floors>,
    out: mpsc::Sender<Result<FollowMessage, FollowEnd>>,
    caught_up: bool,
    scanned: u64,
    /// When the next checkpoint is due; set while the position has moved without a message.
    checkpoint_due: Option<Instant>,
    heartbeat_due: Instant,
}

/// The client left: nobody to tell.
struct Gone;

impl Follower {
    pub(crate) fn new(
        store: EventStore,
        follow: Follow,
        after: Position,
        floors: Arc<Floors>,
        out: mpsc::Sender<Result<FollowMessage, FollowEnd>>,
    ) -> Self {
        let heartbeat_due = Instant::now() + follow.heartbeat_interval;
        Self {
            store,
            follow,
            after,
            floors,
            out,
            caught_up: false,
            scanned: 0,
            checkpoint_due: None,
            heartbeat_due,
        }
    }

    /// Runs until the client leaves, the server closes, or the filter loses its meaning.
    pub(crate) async fn run(mut self) {
        let heartbeat_interval = self.follow.heartbeat_interval;
        let started = FollowMessage::Started { position: self.after, heartbeat_interval };
        if self.send(started).await.is_err() {
            return;
        }
        if let Ok(Err(error)) = self.deliver_until_end().await {
            let end = FollowEnd { position: self.after, error };
            drop(self.out.send(Err(end)).await);
        }
    }

    /// `Ok(Err(_))` is an end that the client is told; `Err(Gone)` one that it made.
    async fn deliver_until_end(&mut self) -> Result<Result<(), Error>, Gone> {
        let mut last_position = self.store.watch_last_position();
        let closing = self.store.closing();
        loop {
            let until = *last_position.borrow_and_update();
            if let Err(error) = self.catch_up(until).await? {
                return Ok(Err(error));
            }
            if !self.caught_up && self.after >= *last_position.borrow() {
                self.caught_up = true;
                let (position, time) = (self.after, self.store.now());
                self.send(FollowMessage::CaughtUp { position, time }).await?;
            }
            tokio::select! {
                biased;
                () = self.out.closed() => return Err(Gone),
                changed = last_position.changed() => if changed.is_err() {
                    return Ok(Err(Error::Closing));
                },
                () = closing.cancelled() => return Ok(Err(Error::Closing)),
                () = due(self.checkpoint_due) => self.checkpoint().await?,
                () = sleep_until(self.heartbeat_due) => {
                    let lag = last_position.borrow().since(self.after);
                    let (position, time) = (self.after, self.store.now());
                    self.send(FollowMessage::Heartbeat { position, time, lag }).await?;
                }
            }
        }
    }

    /// Delivers what is durable up to `until`.
    async fn catch_up(&mut self, until: Position) -> Result<Result<(), Error>, Gone> {
        let lag = until.since(self.after);
        if lag == 0 {
            return Ok(Ok(()));
        }
        if self.caught_up && lag > LIVE_LAG_MAX {
            self.caught_up = false;
            self.send(FollowMessage::FellBehind { position: self.after, lag }).await?;
        }
        let span = Span { after: self.after, until };
        let mut pages = match self.reader(span) {
            Ok(reader) => self.store.pages(reader),
            Err(error) => return Ok(Err(error)),
        };
        let closing = self.store.closing();
        while let Some(page) = pages.next().await {
            if closing.is_cancelled() {
                return Ok(Err(Error::Closing));
            }
            let page = match page {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            self.floors = page.floors;
            if let Some(gap) = page.gap {
                self.send(FollowMessage::Gap(gap)).await?;
            }
            self.scanned += page.scanned_to.since(self.after);
            self.after = page.scanned_to.max(self.after);
            if page.done {
                self.after = until;
            }
            if !page.events.is_empty() {
                self.send(FollowMessage::Events(page.events)).await?;
            } else if self.checkpoint_due.is_none() {
                self.checkpoint_due = Some(Instant::now() + CHECKPOINT_INTERVAL);
            }
            let overdue = self.checkpoint_due.is_some_and(|due| due <= Instant::now());
            if self.scanned >= CHECKPOINT_EVENTS || overdue {
                self.checkpoint().await?;
            }
        }
        Ok(Ok(()))
    }

    /// The filter is looked up for each span: a dataset may have been deleted in between.
    fn reader(&self, span: Span) -> Result<Reader, Error> {
        let plan = Plan::new(&self.follow.filter, &self.store.catalog())?;
        let floors = Arc::clone(&self.floors);
        Ok(self.store.reader(plan, floors, span, Direction::Forward, u64::MAX))
    }

    async fn checkpoint(&mut self) -> Result<(), Gone> {
        let (position, time) = (self.after, self.store.now());
        self.send(FollowMessage::Checkpoint { position, time }).await
    }

    async fn send(&mut self, message: FollowMessage) -> Result<(), Gone> {
        // Both carry a position to resume from.
        if matches!(message, FollowMessage::Checkpoint { .. } | FollowMessage::Events(_)) {
            self.checkpoint_due = None;
        }
        if matches!(message, FollowMessage::Checkpoint { .. }) {
            self.scanned = 0;
        }
        self.out.send(Ok(message)).await.map_err(|_closed| Gone)?;
        self.heartbeat_due = Instant::now() + self.follow.heartbeat_interval;
        Ok(())
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => future::pending().await,
    }
}

const TOKEN_VERSION: u8 = 1;
const TOKEN_BYTES: usize = 1 + 16 + 8 + 8;

/// `[version: u8][log epoch: 16][position: u64][checksum of the rest: u64]`; opaque to clients.
pub(crate) fn token(epoch: Uuid, position: Position) -> Vec<u8> {
    let mut token = Vec::with_capacity(TOKEN_BYTES);
    token.push(TOKEN_VERSION);
    token.extend_from_slice(epoch.as_bytes());
    token.extend_from_slice(&position.get().to_be_bytes());
    let checksum = xxh3_64(&token);
    token.extend_from_slice(&checksum.to_be_bytes());
    token
}

/// The log epoch and position of a token.
pub(crate) fn parse_token(token: &[u8]) -> Option<(Uuid, Position)> {
    let (rest, checksum) = token.split_last_chunk()?;
    if xxh3_64(rest) != u64::from_be_bytes(*checksum) {
        return None;
    }
    let (version, rest) = rest.split_first()?;
    let (epoch, rest) = rest.split_first_chunk::<16>()?;
    let position = u64::from_be_bytes(rest.try_into().ok()?);
    (*version == TOKEN_VERSION).then(|| (Uuid::from_bytes(*epoch), Position::new(position)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_and_a_broken_one_does_not() {
        let epoch = Uuid::from_u128(7);
        let made = token(epoch, Position::new(42));
        assert_eq!(parse_token(&made), Some((epoch, Position::new(42))));
        for at in 0..made.len() {
            let mut broken = made.clone();
            broken[at] ^= 1;
            assert_eq!(parse_token(&broken), None);
        }
        assert_eq!(parse_token(&[]), None);
        assert_eq!(parse_token(&made[1..]), None);
    }
}
