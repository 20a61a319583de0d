//! Subscriptions: durable, shared by competing consumers, in order for every identity.
//!
//! [`delivery`](crate::delivery) decides; this module gives it events, time and outcomes, and makes its notes
//! durable. An [`Owner`] is one subscription in memory. Whatever must survive is changed on the
//! sequencer's thread, in the same write as appends; what must not (leases, sessions) is changed by the
//! subscription's driver, a task that lives as long as it has consumers.

mod ack_id;
mod admin;
mod codec;
mod dead_letter;
mod driver;
mod explain;
mod ledger;
mod owner;
mod pace;
mod parked;
mod rows;
mod session;
mod settings;
mod upkeep;
mod watch;
mod work;

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use uuid::Uuid;

use crate::{
    delivery::{self, Durable},
    model::{Position, SubscriptionName, Timestamp, limits},
    storage::{Row, RowChange, Storage, StorageError, pb::SubscriptionRecord},
    store::{
        Error, Resource,
        subscription::{owner::Owner, rows::Rows},
    },
};

pub use admin::{CreateSubscription, Seek, SeekInFlight, SeekTo, UpdateSubscription};
pub use explain::{Explained, SubscriptionStatus};
pub(crate) use ledger::{Ledger, Outcomes, Work};
pub use owner::EndReason;
pub use parked::{ParkedEvent, ParkedFilter, ParkedSelector};
pub use session::{Connect, Connection, ConsumeMessage, Delivered, Handle, Pulled};
pub use settings::{Subscription, SubscriptionChanges};
pub use upkeep::Upkeep;
pub use watch::{ParkedMessage, ParkedNews, ParkedWatch};
pub use work::{AckId, CommitWork, CommittedWork, OutcomeResult, Resolved};

/// Rows read at a time when the store is opened.
const OPEN_ROWS: usize = 1_000;

/// All subscriptions.
#[derive(Default)]
pub(crate) struct Subscriptions {
    by_name: RwLock<BTreeMap<SubscriptionName, Arc<Owner>>>,
}

impl Subscriptions {
    /// The subscriptions as they survived.
    pub(crate) fn open(storage: &Storage, now: Timestamp) -> Result<Self, StorageError> {
        let mut owners = BTreeMap::new();
        let mut loading: Option<Loading> = None;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let prefix = [crate::storage::table_kind::SUBSCRIPTION];
            let rows = storage.rows(&prefix, after.as_deref(), OPEN_ROWS)?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.to_vec());
            for row in &rows {
                let number = rows::split_key(&row.0).map_or(0, |it| it.0);
                if number == 0 {
                    continue; // the last number
                }
                if loading.as_ref().is_none_or(|it| it.number != number) {
                    finish(loading.take(), now, &mut owners)?;
                }
                loading.get_or_insert_with(|| Loading::new(number)).add(row)?;
            }
        }
        finish(loading, now, &mut owners)?;
        Ok(Self { by_name: RwLock::new(owners) })
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<Owner>, Error> {
        let found = self.read().get(name).cloned();
        found.ok_or_else(|| Error::not_found(Resource::Subscription, name))
    }

    /// All, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Owner>> {
        self.read().values().cloned().collect()
    }

    /// Adds a subscription. Its number is never used again.
    fn insert(
        &self,
        storage: &Storage,
        subscription: Subscription,
        rows: &mut Vec<RowChange>,
    ) -> Result<Arc<Owner>, Error> {
        let mut by_name = self.by_name.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if by_name.len() >= limits::SUBSCRIPTIONS_MAX {
            return Err(Error::Limit { what: "subscriptions", max: limits::SUBSCRIPTIONS_MAX });
        }
        let key = rows::last_number_key();
        // Not yet durable ones are not in the storage's rows.
        let last = storage.row(&key)?.and_then(|it| it.as_ref().try_into().ok());
        let last = last.map_or(0, u32::from_be_bytes);
        let number = by_name.values().map(|it| it.number).fold(last, u32::max) + 1;
        rows.push(RowChange::put(key, number.to_be_bytes().to_vec()));
        let durable = Durable::after(subscription.begin);
        let (name, now) = (subscription.name.clone(), subscription.create_time);
        let machine = machine(durable, &subscription, now);
        let owner = Owner::new(number, Arc::new(subscription), machine, Rows::new(number));
        let owner = Arc::new(owner);
        {
            let mut state = owner.state();
            let subscription = Arc::clone(&state.subscription);
            state.set(subscription, rows);
        }
        by_name.insert(name, Arc::clone(&owner));
        Ok(owner)
    }

    /// Work that makes durable what is not yet, if there is any.
    pub(crate) fn flush(&self) -> impl Iterator<Item = Work> + use<> {
        let mut owners = self.all();
        owners.retain(|it| it.state().flush_due.is_some());
        owners.into_iter().map(|owner| {
            let work: Work = Box::new(move |ledger, _now| {
                ledger.touch(&owner);
                Box::new(|_written| {})
            });
            work
        })
    }

    fn remove(&self, name: &SubscriptionName) {
        self.by_name.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(name);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<SubscriptionName, Arc<Owner>>> {
        self.by_name.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A subscription whose rows are being read.
struct Loading {
    number: u32,
    rows: Rows,
    durable: Durable,
    settings: Option<Vec<u8>>,
}

impl Loading {
    fn new(number: u32) -> Self {
        Self { number, rows: Rows::new(number), durable: Durable::default(), settings: None }
    }

    fn add(&mut self, row: &Row) -> Result<(), StorageError> {
        if let Some(settings) = self.rows.read(row, &mut self.durable)? {
            self.settings = Some(settings.to_vec());
        }
        Ok(())
    }
}

fn finish(
    loading: Option<Loading>,
    now: Timestamp,
    owners: &mut BTreeMap<SubscriptionName, Arc<Owner>>,
) -> Result<(), StorageError> {
    let Some(Loading { number, rows, durable, settings }) = loading else { return Ok(()) };
    let settings = settings.ok_or_else(|| {
        StorageError::corrupt(format!("subscription {number} has rows and no settings"))
    })?;
    let record: SubscriptionRecord = rows::decode(&settings)?;
    let subscription = Subscription::load(record).map_err(|invalid| {
        StorageError::corrupt(format!("settings of subscription {number}: {invalid}"))
    })?;
    let opens_at = now.plus(subscription.delivery.restart_grace);
    let machine = machine(durable, &subscription, opens_at);
    let name = subscription.name.clone();
    let owner = Owner::new(number, Arc::new(subscription), machine, rows);
    owners.insert(name, Arc::new(owner));
    Ok(())
}

fn machine(
    durable: Durable,
    subscription: &Subscription,
    opens_at: Timestamp,
) -> delivery::Subscription {
    let (salt, _) = Uuid::new_v4().as_u64_pair();
    let settings = subscription.delivery.clone();
    let mut machine = delivery::Subscription::restore(durable, settings, salt, opens_at);
    machine.set_paused(subscription.paused);
    machine
}

/// How far behind a position another one is.
fn behind(last: Position, position: Position) -> u64 {
    last.since(position)
}
