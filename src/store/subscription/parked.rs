//! Parked events, for people.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::{Discriminant, discriminant},
};

use crate::{
    delivery::{Parked, ParkedBy, ParkedState},
    model::{Position, RecordedEvent, TimeRange, limits},
    store::{
        Error, EventStore, Resource, blocking, digest::stored_digest, subscription::owner::State,
    },
};

/// Bytes of payloads in one page, unless a single event has more.
const PAGE_BYTES: u64 = 1024 * 1024;

/// A parked event.
#[derive(Clone, Debug)]
pub struct ParkedEvent {
    /// Which.
    pub position: Position,
    /// What is known of it.
    pub parked: Parked,
    /// The event; `None` when it is gone from the log.
    pub event: Option<RecordedEvent>,
}

impl ParkedEvent {
    /// Whether the log has another payload than the one that was parked.
    #[must_use]
    pub fn payload_differs(&self) -> bool {
        let found = self.event.as_ref().map(stored_digest);
        found.zip(self.parked.digest).is_some_and(|(found, parked)| found != parked)
    }
}

/// Which parked events: those of which all of this holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParkedFilter {
    /// One of these parked it; empty: anybody.
    pub by: Vec<Discriminant<ParkedBy>>,
    /// The reason has this text in it.
    pub reason: String,
    /// When it was parked.
    pub time: TimeRange,
}

impl ParkedFilter {
    fn selects(&self, parked: &Parked) -> bool {
        (self.by.is_empty() || self.by.contains(&discriminant(&parked.by)))
            && parked.reason.contains(&self.reason)
            && self.time.contains(parked.at)
    }
}

/// Which parked events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkedSelector {
    /// These.
    Positions(Vec<Position>),
    /// Those that a filter selects, the oldest first, at most so many.
    First(ParkedFilter, usize),
}

impl ParkedSelector {
    /// The events that it selects of all that are parked; those that are replayed already are not among them.
    fn positions(&self, parked: &BTreeMap<Position, Parked>) -> Result<Vec<Position>, Error> {
        let waits = |position: &Position| {
            parked.get(position).is_some_and(|it| it.state == ParkedState::Waiting)
        };
        match self {
            Self::Positions(positions) => {
                if let Some(absent) = positions.iter().position(|it| !waits(it)) {
                    let field = format!("positions[{absent}]");
                    return Err(Error::invalid(field, "no event is parked there"));
                }
                Ok(positions.clone())
            }
            Self::First(filter, most) => {
                let most = (*most).min(limits::PARKED_CHANGE_MAX);
                let selected = parked.iter().filter(|it| filter.selects(it.1));
                Ok(selected.map(|it| *it.0).filter(waits).take(most).collect())
            }
        }
    }
}

impl EventStore {
    /// Parked events after a position, the oldest first, at most `most`, and whether there are more. There may be
    /// fewer, so that their payloads fit one response.
    ///
    /// # Errors
    /// When there is no such subscription.
    pub async fn parked_events(
        &self,
        name: &str,
        filter: &ParkedFilter,
        after: Position,
        most: usize,
    ) -> Result<(Vec<ParkedEvent>, bool), Error> {
        let owner = self.inner.subscriptions.get(name)?;
        let (parked, more) = page(&owner.state(), filter, after, most);
        let store = self.clone();
        let events = blocking(move || {
            let load = |(position, parked)| {
                let event = store.load(position)?.map(|it| it.0);
                Ok(ParkedEvent { position, parked, event })
            };
            parked.into_iter().map(load).collect::<Result<Vec<_>, Error>>()
        });
        Ok((events.await?, more))
    }

    /// A parked event.
    ///
    /// # Errors
    /// When there is no such subscription, or no event is parked there.
    pub async fn parked_event(&self, name: &str, position: Position) -> Result<ParkedEvent, Error> {
        let (filter, after) = (ParkedFilter::default(), position.previous());
        let (found, _) = self.parked_events(name, &filter, after, 1).await?;
        let found = found.into_iter().next().filter(|it| it.position == position);
        found.ok_or_else(|| Error::not_found(Resource::Parked, position.to_string()))
    }

    /// Delivers parked events again, each with what is parked behind it; how many that are.
    ///
    /// # Errors
    /// When there is no such subscription, one of the positions has no parked event, or the log has another payload
    /// than was parked; then nothing is replayed.
    pub async fn replay_parked(
        &self,
        name: &str,
        selector: ParkedSelector,
        reset_attempts: bool,
    ) -> Result<usize, Error> {
        self.check_payloads(name, &selector).await?;
        self.change_parked(name, selector, move |machine, position| {
            machine.replay(position, reset_attempts)
        })
        .await
    }

    /// Gives up parked events; how many that are.
    ///
    /// # Errors
    /// As [`EventStore::replay_parked`].
    pub async fn discard_parked(
        &self,
        name: &str,
        selector: ParkedSelector,
    ) -> Result<usize, Error> {
        let discard = |machine: &mut crate::delivery::Subscription, position| {
            usize::from(machine.discard(position))
        };
        self.change_parked(name, selector, discard).await
    }

    /// Fails when the log has another payload than was parked, of what is to be replayed.
    async fn check_payloads(&self, name: &str, selector: &ParkedSelector) -> Result<(), Error> {
        let owner = self.inner.subscriptions.get(name)?;
        let parked: Vec<_> = {
            let state = owner.state();
            let all = &state.machine.durable().parked;
            let chosen: BTreeSet<_> = selector.positions(all)?.into_iter().collect();
            let behind =
                |it: &Parked| matches!(it.by, ParkedBy::Convoy(it) if chosen.contains(&it));
            let replayed = all.iter().filter(|it| chosen.contains(it.0) || behind(it.1));
            replayed.map(|(position, it)| (*position, it.clone())).collect()
        };
        let store = self.clone();
        blocking(move || {
            for (position, parked) in parked {
                let event = store.load(position)?.map(|it| it.0);
                if (ParkedEvent { position, parked, event }).payload_differs() {
                    tracing::error!(%position, "the log has another payload than was parked");
                    return Err(Error::Corrupt);
                }
            }
            Ok(())
        })
        .await
    }

    async fn change_parked(
        &self,
        name: &str,
        selector: ParkedSelector,
        change: impl Fn(&mut crate::delivery::Subscription, Position) -> usize + Send + 'static,
    ) -> Result<usize, Error> {
        let owner = self.inner.subscriptions.get(name)?;
        self.on(owner, move |owner, _ledger, _now| {
            let mut state = owner.state();
            let positions = selector.positions(&state.machine.durable().parked)?;
            Ok(positions.into_iter().map(|it| change(&mut state.machine, it)).sum())
        })
        .await
    }
}

/// What one response takes of the parked events after a position, and whether there are more.
fn page(
    state: &State,
    filter: &ParkedFilter,
    after: Position,
    most: usize,
) -> (Vec<(Position, Parked)>, bool) {
    let after = state.machine.durable().parked.range(after.next()..);
    let selected = after.filter(|it| filter.selects(it.1));
    let (mut page, mut bytes) = (Vec::new(), 0);
    for (position, parked) in selected {
        bytes += u64::from(parked.bytes);
        if page.len() >= most || (bytes > PAGE_BYTES && !page.is_empty()) {
            return (page, true);
        }
        page.push((*position, parked.clone()));
    }
    (page, false)
}
