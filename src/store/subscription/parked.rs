//! Parked events, for people.

use crate::{
    delivery::{Parked, ParkedState},
    model::{Position, RecordedEvent, limits},
    store::{Error, EventStore, blocking},
};

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

/// Which parked events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkedSelector {
    /// These.
    Positions(Vec<Position>),
    /// All, the oldest first, at most so many.
    First(usize),
}

impl EventStore {
    /// Parked events after a position, the oldest first, and whether there are more.
    ///
    /// # Errors
    /// When there is no such subscription.
    pub async fn parked_events(
        &self,
        name: &str,
        after: Position,
        most: usize,
    ) -> Result<(Vec<ParkedEvent>, bool), Error> {
        let owner = self.inner.subscriptions.get(name)?;
        let mut parked: Vec<_> = {
            let state = owner.state();
            let parked = &state.machine.durable().parked;
            let after = parked.range(after.next()..);
            after.take(most + 1).map(|(position, it)| (*position, it.clone())).collect()
        };
        let more = parked.len() > most;
        parked.truncate(most);
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

    /// Delivers parked events again, each with what is parked behind it; how many that are.
    ///
    /// # Errors
    /// When there is no such subscription, or one of the positions has no parked event; then nothing is
    /// replayed.
    pub async fn replay_parked(
        &self,
        name: &str,
        selector: ParkedSelector,
        reset_attempts: bool,
    ) -> Result<usize, Error> {
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

    async fn change_parked(
        &self,
        name: &str,
        selector: ParkedSelector,
        change: impl Fn(&mut crate::delivery::Subscription, Position) -> usize + Send + 'static,
    ) -> Result<usize, Error> {
        let owner = self.inner.subscriptions.get(name)?;
        self.on(owner, move |owner, _ledger, _now| {
            let mut state = owner.state();
            let parked = &state.machine.durable().parked;
            let waits = |position: &Position| {
                parked.get(position).is_some_and(|it| it.state == ParkedState::Waiting)
            };
            let positions: Vec<Position> = match selector {
                ParkedSelector::Positions(positions) => {
                    if let Some(absent) = positions.iter().position(|it| !waits(it)) {
                        let field = format!("positions[{absent}]");
                        return Err(Error::invalid(field, "no event is parked there"));
                    }
                    positions
                }
                ParkedSelector::First(most) => {
                    let most = most.min(limits::PARKED_CHANGE_MAX);
                    let all = parked.keys().filter(|it| waits(it));
                    all.take(most).copied().collect()
                }
            };
            Ok(positions.into_iter().map(|it| change(&mut state.machine, it)).sum())
        })
        .await
    }
}
