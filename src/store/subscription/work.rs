//! Outcomes, as consumers send them.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    delivery::{Answer, LeaseId, Outcome},
    model::{Invalid, SubscriptionName, Timestamp, limits},
    store::{
        Append, Appended, Error, EventStore,
        sequencer::Command,
        subscription::{Ledger, Outcomes, ack_id, ledger::Finish, owner::Owner, settings::cut},
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

/// What became of outcomes that were sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Of each, in order.
    pub results: Vec<OutcomeResult>,
    /// It is durable; otherwise it will be within the subscription's `ack_flush_interval`.
    pub durable: bool,
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
    /// Applies outcomes, each for itself; returns when they are durable, or applied if the subscription wants no
    /// more.
    ///
    /// # Errors
    /// When there is no such subscription, or too many outcomes.
    pub async fn resolve_deliveries(
        &self,
        name: &str,
        outcomes: Vec<(AckId, Outcome)>,
    ) -> Result<Resolved, Error> {
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

    /// Hands outcomes to the sequencer; `reply` gets what became of them, once they are as durable as the subscription
    /// wants.
    pub(super) async fn send_outcomes(
        &self,
        owner: &Arc<Owner>,
        outcomes: Vec<(AckId, Outcome)>,
        reply: impl FnOnce(Result<Resolved, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let owner = Arc::clone(owner);
        let dead_letter_bytes = check_outcomes(&owner, &outcomes)?;
        let work = move |ledger: &mut Ledger, now| -> Finish {
            let mut results = Vec::with_capacity(outcomes.len());
            let mut state = owner.state();
            let deleted = state.is_deleted();
            let flush = state.may_answer_early(now);
            for (ack_id, outcome) in outcomes {
                results.push(match ack_id::decode(&ack_id) {
                    Some((number, lease)) if number == owner.number && !deleted => {
                        OutcomeResult::Answer(state.machine.apply(lease, bounded(outcome), now))
                    }
                    _ => OutcomeResult::NotAnAckId,
                });
            }
            if let Some(due) = flush {
                state.flush_due.get_or_insert(due);
                drop(state);
                ledger.touch_lazily(&owner);
                reply(Ok(Resolved { results, durable: false }));
                owner.wake();
                return Box::new(|_written| {});
            }
            drop(state);
            ledger.touch(&owner);
            Box::new(move |written| {
                let resolved = Resolved { results, durable: true };
                let failed = written.is_err();
                reply(written.and(if deleted { Err(owner.not_found()) } else { Ok(resolved) }));
                // Otherwise it is woken when it can deliver more, too.
                if failed {
                    owner.wake();
                }
            })
        };
        self.queue_work(dead_letter_bytes, work).await
    }

    /// Has the sequencer do something for subscriptions.
    pub(super) async fn queue_work(
        &self,
        dead_letter_bytes: usize,
        work: impl FnOnce(&mut Ledger, Timestamp) -> Finish + Send + 'static,
    ) -> Result<(), Error> {
        let work = Command::Work(Box::new(work), dead_letter_bytes);
        self.queue()?.send(work).await.map_err(|_closed| self.no_answer())
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
        let said: Vec<_> = leases.iter().map(|(lease, outcome)| (*lease, outcome)).collect();
        let dead_letter_bytes = check_dead_letters(&owner, &said)?;
        let outcomes = Outcomes { owner: Arc::clone(&owner), said: leases, dead_letter_bytes };
        let appended = if let Some(append) = append {
            Some(self.append_with(append, Arc::new(outcomes)).await?)
        } else {
            self.on_heavily(owner, dead_letter_bytes, move |_owner, ledger, now| {
                outcomes.admit(false)?.apply(ledger, now);
                Ok(())
            })
            .await?;
            None
        };
        Ok(CommittedWork { appended })
    }
}

/// Bytes of dead letters that outcomes may come to, if that is not too much.
pub(super) fn check_outcomes(owner: &Owner, outcomes: &[(AckId, Outcome)]) -> Result<usize, Error> {
    let lease = |ack_id: &AckId| Some(ack_id::decode(ack_id)?.1);
    let parking = outcomes.iter().filter(|(_, outcome)| outcome.may_park());
    let said = parking.filter_map(|(ack_id, outcome)| Some((lease(ack_id)?, outcome)));
    check_dead_letters(owner, &said.collect::<Vec<_>>())
}

fn check_dead_letters(owner: &Owner, outcomes: &[(LeaseId, &Outcome)]) -> Result<usize, Error> {
    if !outcomes.iter().any(|it| it.1.may_park()) {
        return Ok(0);
    }
    let (found, most) = (owner.state().dead_letter_bytes(outcomes), limits::DEAD_LETTER_BYTES_MAX);
    if found > most {
        let message = format!(
            "may park {found} bytes, which are stored in the dead letter dataset at once; at most {most}"
        );
        return Err(Error::OutOfBounds(Invalid::new("outcomes", message)));
    }
    Ok(usize::try_from(found).unwrap_or(usize::MAX))
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
