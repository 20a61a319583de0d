//! Outcomes, as consumers send them.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    delivery::{Answer, LeaseId, Outcome},
    model::{SubscriptionName, limits},
    store::{
        Append, Appended, Error, EventStore,
        sequencer::Command,
        subscription::{Outcomes, Work, ack_id, owner::Owner, settings::cut},
    },
};

/// What a consumer names an attempt by.
pub type AckId = Vec<u8>;

/// What became of an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutcomeResult {
    /// See [`Answer`].
    Answer(Answer),
    /// Not an ack id of this subscription.
    NotAnAckId,
}

/// Outcomes and events that are stored together or not at all.
#[derive(Debug)]
pub struct CommitWork {
    /// Which subscription.
    pub name: SubscriptionName,
    /// Of its deliveries.
    pub outcomes: Vec<(AckId, Outcome)>,
    /// Events, perhaps none.
    pub append: Option<Append>,
}

/// What became of such work.
#[derive(Debug)]
pub struct CommittedWork {
    /// Of the events, if there were any.
    pub appended: Option<Appended>,
}

impl EventStore {
    /// Applies outcomes, each for itself; returns when they are durable.
    ///
    /// # Errors
    /// When there is no such subscription, or too many outcomes.
    pub async fn resolve_deliveries(
        &self,
        name: &str,
        outcomes: Vec<(AckId, Outcome)>,
    ) -> Result<Vec<OutcomeResult>, Error> {
        let owner = self.inner.subscriptions.get(name)?;
        check_count(outcomes.len())?;
        let (results, mut answers) = mpsc::channel(1);
        let permit = results.reserve_owned().await.map_err(|_closed| Error::Internal)?;
        self.send_outcomes(&owner, outcomes, move |answers| {
            permit.send(answers);
        })
        .await?;
        answers.recv().await.ok_or_else(|| self.no_answer())?
    }

    /// Hands outcomes to the sequencer; `reply` gets what became of them, once durable.
    pub(super) async fn send_outcomes(
        &self,
        owner: &Arc<Owner>,
        outcomes: Vec<(AckId, Outcome)>,
        reply: impl FnOnce(Result<Vec<OutcomeResult>, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let owner = Arc::clone(owner);
        let work: Work = Box::new(move |ledger, now| {
            let mut results = Vec::with_capacity(outcomes.len());
            let mut state = owner.state();
            let deleted = state.is_deleted();
            for (ack_id, outcome) in outcomes {
                results.push(match ack_id::decode(&ack_id) {
                    Some((number, lease)) if number == owner.number && !deleted => {
                        OutcomeResult::Answer(state.machine.apply(lease, bounded(outcome), now))
                    }
                    _ => OutcomeResult::NotAnAckId,
                });
            }
            drop(state);
            ledger.touch(&owner);
            Box::new(move |written| {
                reply(written.and(if deleted { Err(owner.not_found()) } else { Ok(results) }));
            })
        });
        self.queue()?.send(Command::Work(work)).await.map_err(|_closed| self.no_answer())
    }

    /// Stores events and applies outcomes, all or nothing. The same work again is no error when all of it was
    /// done before.
    ///
    /// # Errors
    /// [`Error::Stale`] when an outcome would not be applied; those of an append.
    pub async fn commit_work(&self, work: CommitWork) -> Result<CommittedWork, Error> {
        let CommitWork { name, outcomes, append } = work;
        let owner = self.inner.subscriptions.get(name.as_str())?;
        check_count(outcomes.len())?;
        let mut leases: Vec<(LeaseId, Outcome)> = Vec::with_capacity(outcomes.len());
        for (index, (ack_id, outcome)) in outcomes.into_iter().enumerate() {
            match ack_id::decode(&ack_id) {
                Some((number, lease)) if number == owner.number => {
                    leases.push((lease, bounded(outcome)));
                }
                _ => {
                    let field = format!("outcomes[{index}].ack_id");
                    return Err(Error::invalid(field, "not an ack id of this subscription"));
                }
            }
        }
        let outcomes = Outcomes { owner: Arc::clone(&owner), outcomes: leases };
        let appended = if let Some(append) = append {
            Some(self.append_with(append, Arc::new(outcomes)).await?)
        } else {
            self.on(owner, move |_owner, ledger, now| {
                outcomes.admit(false)?;
                outcomes.apply(ledger, now);
                Ok(())
            })
            .await?;
            None
        };
        Ok(CommittedWork { appended })
    }
}

fn check_count(found: usize) -> Result<(), Error> {
    if found == 0 || found > limits::OUTCOMES_MAX {
        let message = format!("{found} outcomes; wanted 1 to {}", limits::OUTCOMES_MAX);
        return Err(Error::invalid("outcomes", message));
    }
    Ok(())
}

/// What a consumer says, cut so that it fits its row, and within the bounds of time.
fn bounded(outcome: Outcome) -> Outcome {
    let cut = |reason: &str| cut(reason, limits::REASON_BYTES_MAX);
    match outcome {
        Outcome::Ack => Outcome::Ack,
        Outcome::Nack { delay, reason } => Outcome::Nack {
            delay: delay.map(|it| it.min(limits::BACKOFF_MAX)),
            reason: cut(&reason),
        },
        Outcome::Park { reason } => Outcome::Park { reason: cut(&reason) },
        Outcome::Skip { reason } => Outcome::Skip { reason: cut(&reason) },
        Outcome::Extend(by) => Outcome::Extend(by.min(limits::ACK_DEADLINE_MAX)),
    }
}
