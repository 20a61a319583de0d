//! What owners do with subscriptions.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    delivery::{SeekTarget, Settings},
    model::{DatasetName, EventFilter, Position, SubscriptionName, Timestamp, limits},
    store::{
        BelowFloor, Error, EventStore, Follow, Resource, Start,
        plan::Plan,
        subscription::{Ledger, Subscription, SubscriptionChanges, Upkeep, owner::Owner},
    },
};

/// A subscription to be made.
#[derive(Clone, Debug)]
pub struct CreateSubscription {
    /// Its name.
    pub name: SubscriptionName,
    /// For people.
    pub description: String,
    /// Which events.
    pub filter: EventFilter,
    /// How they are delivered.
    pub delivery: Settings,
    /// Within which time outcomes are durable that were answered before they are; `None`: none are.
    pub ack_flush_interval: Option<Duration>,
    /// Where parked events are stored, too.
    pub dead_letter_dataset: Option<DatasetName>,
    /// Events that may be looked at in a second while it catches up; 0: as many as can be.
    pub scan_limit: u32,
    /// How it is kept.
    pub upkeep: Upkeep,
    /// Where it begins.
    pub start: Start,
    /// Only checked.
    pub validate_only: bool,
}

/// A change of a subscription.
#[derive(Clone, Debug)]
pub struct UpdateSubscription {
    /// Which.
    pub name: SubscriptionName,
    /// What changes.
    pub changes: SubscriptionChanges,
    /// Only if it has this etag.
    pub etag: Option<String>,
    /// Only checked.
    pub validate_only: bool,
}

/// Where a subscription is to go on.
#[derive(Clone, Debug)]
pub struct Seek {
    /// Which.
    pub name: SubscriptionName,
    /// Where to.
    pub to: SeekTo,
    /// What happens to leases.
    pub in_flight: SeekInFlight,
}

/// Where to.
#[derive(Clone, Debug)]
pub enum SeekTo {
    /// A place in the log.
    Start(Start),
    /// What was done when the snapshot with this name was made.
    Snapshot(String),
}

/// What happens to leases when a subscription goes on from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekInFlight {
    /// They become void.
    Abandon,
    /// They come to an end first, while nothing is delivered.
    Drain,
}

impl EventStore {
    /// Makes a subscription; one that exists with the same settings is returned as it is.
    ///
    /// # Errors
    /// [`Error::Exists`] when it has other settings; when settings, filter or start are bad.
    pub async fn create_subscription(
        &self,
        create: CreateSubscription,
    ) -> Result<Arc<Subscription>, Error> {
        Plan::new(&create.filter, &self.catalog())?;
        if let Some(dataset) = &create.dead_letter_dataset {
            self.dataset(dataset.as_str())?;
        }
        let begin = self.resolve(&create.filter, create.start).await?;
        let store = self.clone();
        self.work(move |ledger, now| {
            let subscription = Subscription {
                name: create.name,
                description: create.description,
                filter: create.filter,
                delivery: create.delivery,
                ack_flush_interval: create.ack_flush_interval,
                dead_letter_dataset: create.dead_letter_dataset,
                scan_limit: create.scan_limit,
                upkeep: create.upkeep,
                used_time: now,
                paused: false,
                begin,
                create_time: now,
                update_time: now,
                revision: 1,
            };
            subscription.check()?;
            if let Ok(owner) = store.inner.subscriptions.get(subscription.name.as_str()) {
                let existing = Arc::clone(&owner.state().subscription);
                return match existing.difference(&subscription) {
                    None => Ok(existing),
                    Some(difference) => Err(Error::Exists {
                        kind: Resource::Subscription,
                        name: subscription.name.to_string(),
                        difference: difference.to_owned(),
                    }),
                };
            }
            if create.validate_only {
                return Ok(Arc::new(subscription));
            }
            let mut rows = Vec::new();
            let inner = &store.inner;
            let owner = inner.subscriptions.insert(&inner.storage, subscription, &mut rows)?;
            ledger.add(rows);
            ledger.touch(&owner);
            let made = Arc::clone(&owner.state().subscription);
            Ok(made)
        })
        .await
    }

    /// A subscription by name.
    ///
    /// # Errors
    /// When there is none.
    pub fn subscription(&self, name: &str) -> Result<Arc<Subscription>, Error> {
        let owner = self.inner.subscriptions.get(name)?;
        let subscription = Arc::clone(&owner.state().subscription);
        Ok(subscription)
    }

    /// All subscriptions by name.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        let owners = self.inner.subscriptions.all();
        owners.iter().map(|it| Arc::clone(&it.state().subscription)).collect()
    }

    /// Changes a subscription. Under another filter or order leases are void, and what is above the floor
    /// and not done is looked at anew.
    ///
    /// # Errors
    /// When there is none, its etag is another, or the settings would be bad.
    pub async fn update_subscription(
        &self,
        update: UpdateSubscription,
    ) -> Result<Arc<Subscription>, Error> {
        let owner = self.inner.subscriptions.get(update.name.as_str())?;
        if let Some(filter) = &update.changes.filter {
            Plan::new(filter, &self.catalog())?;
        }
        if let Some(Some(dataset)) = &update.changes.dead_letter_dataset {
            self.dataset(dataset.as_str())?;
        }
        self.on(owner, move |owner, ledger, now| {
            let mut state = owner.state();
            check_etag(&state.subscription, update.etag.as_deref())?;
            let changed = state.subscription.with(&update.changes, now);
            changed.check()?;
            if update.validate_only || changed == *state.subscription {
                return Ok(Arc::new(changed));
            }
            let other_events = changed.filter != state.subscription.filter;
            state.machine.update(changed.delivery.clone(), other_events);
            let changed = Arc::new(changed);
            let mut rows = Vec::new();
            state.set(Arc::clone(&changed), &mut rows);
            ledger.add(rows);
            Ok(changed)
        })
        .await
    }

    /// Takes a subscription away, with all that it has done.
    ///
    /// # Errors
    /// When there is none, or its etag is another.
    pub async fn delete_subscription(&self, name: &str, etag: Option<String>) -> Result<(), Error> {
        let owner = self.inner.subscriptions.get(name)?;
        let store = self.clone();
        self.on(owner, move |owner, ledger, now| {
            let mut state = owner.state();
            check_etag(&state.subscription, etag.as_deref())?;
            let mut rows = Vec::new();
            state.delete(&mut rows, now);
            ledger.add(rows);
            store.inner.subscriptions.remove(&owner.name);
            Ok(())
        })
        .await
    }

    /// Lets a subscription deliver nothing, or go on.
    ///
    /// # Errors
    /// When there is none.
    pub async fn pause_subscription(
        &self,
        name: &str,
        paused: bool,
    ) -> Result<Arc<Subscription>, Error> {
        let owner = self.inner.subscriptions.get(name)?;
        self.on(owner, move |owner, ledger, now| {
            let mut state = owner.state();
            if state.subscription.paused == paused {
                return Ok(Arc::clone(&state.subscription));
            }
            let mut changed = Subscription::clone(&state.subscription);
            changed.paused = paused;
            changed.revision += 1;
            changed.update_time = now;
            state.machine.set_paused(paused);
            let changed = Arc::new(changed);
            let mut rows = Vec::new();
            state.set(Arc::clone(&changed), &mut rows);
            ledger.add(rows);
            Ok(changed)
        })
        .await
    }

    /// Lets a subscription go on from elsewhere; the position after which it does. Streams of consumers end with
    /// [`EndReason::Seek`](crate::store::EndReason::Seek).
    ///
    /// # Errors
    /// When there is no such subscription, place or snapshot.
    pub async fn seek_subscription(&self, seek: Seek) -> Result<Position, Error> {
        let owner = self.inner.subscriptions.get(seek.name.as_str())?;
        let target = match seek.to {
            SeekTo::Start(start) => {
                let filter = owner.state().subscription.filter.clone();
                SeekTarget::After(self.resolve(&filter, start).await?)
            }
            SeekTo::Snapshot(name) => {
                if !owner.state().machine.durable().saved.contains_key(name.as_str()) {
                    return Err(Error::not_found(Resource::Snapshot, name));
                }
                SeekTarget::Saved(name.into())
            }
        };
        let draining = match seek.in_flight {
            SeekInFlight::Abandon => None,
            SeekInFlight::Drain => Some(self.drain(&owner).await),
        };
        self.on(owner, move |owner, _ledger, now| {
            let _draining = draining; // until it is done
            let mut state = owner.state();
            if !state.machine.seek(&target, now) {
                let SeekTarget::Saved(name) = &target else { return Err(Error::Internal) };
                return Err(Error::not_found(Resource::Snapshot, name.to_string()));
            }
            state.sought(now);
            Ok(state.machine.durable().floor)
        })
        .await
    }

    /// Waits until no lease is left.
    async fn drain(&self, owner: &Arc<Owner>) -> Draining {
        let draining = Draining(Arc::clone(owner));
        owner.state().machine.set_draining(true);
        loop {
            let settled = owner.settled();
            if owner.state().machine.in_flight() == 0 {
                return draining;
            }
            settled.await;
        }
    }

    /// Keeps under a name what a subscription has done; when that was.
    ///
    /// # Errors
    /// When there is no such subscription, or it has too many snapshots.
    pub async fn create_snapshot(&self, name: &str, snapshot: &str) -> Result<Timestamp, Error> {
        let owner = self.inner.subscriptions.get(name)?;
        let snapshot: Arc<str> = Arc::from(SubscriptionName::parse("snapshot", snapshot)?.as_str());
        self.on(owner, move |owner, _ledger, now| {
            let mut state = owner.state();
            let saved = &state.machine.durable().saved;
            let name = snapshot.to_string();
            if saved.contains_key(&snapshot) {
                let difference = "what was done when it was made".to_owned();
                return Err(Error::Exists { kind: Resource::Snapshot, name, difference });
            }
            if saved.len() >= limits::SNAPSHOTS_MAX {
                let max = limits::SNAPSHOTS_MAX;
                return Err(Error::Limit { what: "snapshots of one subscription", max });
            }
            state.machine.save(&snapshot, now);
            Ok(now)
        })
        .await
    }

    /// Forgets a snapshot.
    ///
    /// # Errors
    /// When there is no such subscription or snapshot.
    pub async fn delete_snapshot(&self, name: &str, snapshot: &str) -> Result<(), Error> {
        let owner = self.inner.subscriptions.get(name)?;
        let snapshot: Arc<str> = snapshot.into();
        self.on(owner, move |owner, _ledger, _now| {
            if owner.state().machine.forget(&snapshot) {
                return Ok(());
            }
            Err(Error::not_found(Resource::Snapshot, snapshot.to_string()))
        })
        .await
    }

    /// Changes a subscription on the sequencer's thread, durably, and lets its driver look again.
    pub(super) async fn on<T: Send + 'static>(
        &self,
        owner: Arc<Owner>,
        change: impl FnOnce(&Arc<Owner>, &mut Ledger, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.on_heavily(owner, 0, change).await
    }

    /// The same with something that may store so many bytes of dead letters.
    pub(super) async fn on_heavily<T: Send + 'static>(
        &self,
        owner: Arc<Owner>,
        dead_letter_bytes: usize,
        change: impl FnOnce(&Arc<Owner>, &mut Ledger, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.work_heavily(dead_letter_bytes, move |ledger, now| {
            if owner.state().is_deleted() {
                return Err(owner.not_found());
            }
            ledger.touch(&owner);
            change(&owner, ledger, now)
        })
        .await
    }

    /// Does work on the sequencer's thread; returns when it is durable.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.work_heavily(0, work).await
    }

    async fn work_heavily<T: Send + 'static>(
        &self,
        dead_letter_bytes: usize,
        work: impl FnOnce(&mut Ledger, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue_work(dead_letter_bytes, move |ledger, now| {
            let done = work(ledger, now);
            Box::new(move |written| drop(reply.send(written.and(done))))
        })
        .await?;
        answer.await.map_err(|_dropped| self.no_answer())?
    }

    /// The position after which a subscription begins.
    async fn resolve(&self, filter: &EventFilter, start: Start) -> Result<Position, Error> {
        let follow = Follow {
            filter: filter.clone(),
            start,
            heartbeat_interval: Duration::ZERO,
            below_floor: BelowFloor::Clamp,
        };
        self.resolve_start(&follow).await
    }
}

/// Nothing is delivered as long as it lives.
struct Draining(Arc<Owner>);

impl Drop for Draining {
    fn drop(&mut self) {
        self.0.end_draining();
    }
}

fn check_etag(subscription: &Subscription, found: Option<&str>) -> Result<(), Error> {
    let current = subscription.etag();
    match found {
        Some(found) if found != current => Err(Error::Etag {
            kind: Resource::Subscription,
            name: subscription.name.to_string(),
            current,
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}
