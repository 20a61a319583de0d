//! What a commit group changes about subscriptions, gathered on the sequencer's thread.

use std::sync::{Arc, MutexGuard};

use crate::{
    delivery::{LeaseId, Outcome},
    model::Timestamp,
    storage::RowChange,
    store::{
        Error,
        subscription::{
            dead_letter::DeadLetter,
            owner::{Owner, State},
        },
    },
};

/// Changes subscriptions on the sequencer's thread; what it returns answers whoever waits, when the change
/// is durable or has failed.
pub(crate) type Work = Box<dyn FnOnce(&mut Ledger, Timestamp) -> Finish + Send>;
/// See [`Work`].
pub(crate) type Finish = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// The subscriptions that a commit group has changed, and other rows.
#[derive(Default)]
pub(crate) struct Ledger {
    owners: Vec<Arc<Owner>>,
    /// Those whose changes may wait, and go along if anything else is written.
    waiting: Vec<Arc<Owner>>,
    rows: Vec<RowChange>,
    letters: Vec<DeadLetter>,
}

impl Ledger {
    /// A subscription has changed.
    pub(crate) fn touch(&mut self, owner: &Arc<Owner>) {
        add(&mut self.owners, owner);
    }

    /// A subscription has changed, which need not be durable yet.
    pub(crate) fn touch_lazily(&mut self, owner: &Arc<Owner>) {
        add(&mut self.waiting, owner);
    }

    pub(crate) fn add(&mut self, rows: impl IntoIterator<Item = RowChange>) {
        self.rows.extend(rows);
    }

    /// All that is to be written, beside events or not.
    pub(crate) fn changes(&mut self, beside_events: bool) -> Vec<RowChange> {
        if beside_events || !self.owners.is_empty() || !self.rows.is_empty() {
            for owner in std::mem::take(&mut self.waiting) {
                self.touch(&owner);
            }
        }
        let mut rows = std::mem::take(&mut self.rows);
        for owner in &self.owners {
            let parked = owner.state().write(&mut rows);
            self.letters.extend(parked.iter().filter_map(|note| DeadLetter::of(owner, note)));
        }
        rows
    }

    /// Parked events that are to be stored beside those changes.
    pub(crate) fn take_letters(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.letters)
    }

    /// It is durable: the subscriptions go on.
    pub(crate) fn written(&self) {
        for owner in &self.owners {
            owner.state().kept();
            owner.wake();
            owner.settle();
        }
        // Consumers have room again, and somebody has to make the changes durable in time.
        for owner in &self.waiting {
            owner.wake();
        }
    }
}

fn add(owners: &mut Vec<Arc<Owner>>, owner: &Arc<Owner>) {
    if !owners.iter().any(|it| Arc::ptr_eq(it, owner)) {
        owners.push(Arc::clone(owner));
    }
}

/// Outcomes that are applied all or not at all.
pub(crate) struct Outcomes {
    pub(crate) owner: Arc<Owner>,
    pub(crate) said: Vec<(LeaseId, Outcome)>,
    /// Bytes of dead letters that they may come to.
    pub(crate) dead_letter_bytes: usize,
}

impl Outcomes {
    /// Makes sure that all of them can be applied. Until they are, nobody else changes the subscription. When what goes with them is `known`, that is, stored before, events
    /// that are done pass: it is the same work again.
    pub(crate) fn admit(&self, known: bool) -> Result<Admitted<'_>, Error> {
        let state = self.owner.state();
        if state.is_deleted() {
            return Err(self.owner.not_found());
        }
        let refused: Vec<_> = self
            .said
            .iter()
            .enumerate()
            .filter(|(_, (lease, _))| !state.machine.is_valid(*lease))
            .map(|(index, (lease, _))| {
                (index, lease.position, state.machine.current(lease.position))
            })
            .filter(|(.., current)| !(known && *current == crate::delivery::Current::Resolved))
            .collect();
        if refused.is_empty() {
            Ok(Admitted { outcomes: self, state })
        } else {
            Err(Error::Stale(refused))
        }
    }
}

/// Outcomes that can be applied.
pub(crate) struct Admitted<'a> {
    outcomes: &'a Outcomes,
    state: MutexGuard<'a, State>,
}

impl Admitted<'_> {
    /// Applies them, in the commit group that `ledger` is of.
    pub(crate) fn apply(mut self, ledger: &mut Ledger, now: Timestamp) {
        ledger.touch(&self.outcomes.owner);
        for (lease, outcome) in &self.outcomes.said {
            self.state.machine.apply(*lease, outcome.clone(), now);
        }
    }
}
