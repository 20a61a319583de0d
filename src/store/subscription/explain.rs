//! How a subscription does, and why an event was delivered or not.

use std::{sync::Arc, time::Duration};

use crate::{
    delivery::{Figures, Lane, Ordering, Standing},
    model::{
        Direction, EventFilter, EventTypePattern, Position, RecordedEvent, SchemaVersions,
        Timestamp,
    },
    storage::Span,
    store::{
        Error, EventStore, FaultFigures, Resource, blocking,
        plan::{FilterIndex, Plan},
        read,
        subscription::{Subscription, owner::Owner, upkeep::Use},
    },
};

/// Blocked lanes that are told of.
const BLOCKED_LANES: usize = 10;

/// How a subscription does.
#[derive(Clone, Debug)]
pub struct SubscriptionStatus {
    /// What its owner wants.
    pub subscription: Arc<Subscription>,
    /// What it has done.
    pub figures: Figures,
    /// Matching events that are neither done nor parked.
    pub lag_events: u64,
    /// How long the oldest of them has been stored.
    pub lag: Duration,
    /// The oldest of them.
    pub oldest_unresolved: Option<Position>,
    /// The last durable position.
    pub head: Position,
    /// Lanes in which events wait for a failed or parked one, the fullest first.
    pub blocked_lanes: Vec<BlockedLane>,
    /// Names of snapshots, and when they were made.
    pub snapshots: Vec<(Arc<str>, Timestamp)>,
    /// It is further behind than it may be.
    pub lagging: bool,
    /// Nobody has used it for longer than it wants to be kept.
    pub expired: bool,
    /// Retention leaves what is after this position.
    pub pinned_after: Option<Position>,
    /// By what the filter's events are found; `None` when it names something that is not there.
    pub index: Option<FilterIndex>,
    /// Why reading ended.
    pub trouble: Option<String>,
    /// Events of which the filter's condition came to nothing.
    pub filter_faults: FaultFigures,
    /// Parked events of which no dead letter could be stored.
    pub dead_letter_faults: FaultFigures,
}

/// A lane in which events wait.
#[derive(Clone, Debug)]
pub struct BlockedLane {
    /// Namespace and id; `None` for a lane that is no identity.
    pub identity: Option<(String, String)>,
    /// What they wait for.
    pub position: Position,
    /// How many.
    pub waiting: usize,
}

/// Why an event was delivered or not.
#[derive(Clone, Debug)]
pub enum Explained {
    /// The filter does not select it; the field that excludes it.
    NotMatched(&'static str),
    /// It stands before the subscription's start.
    BeforeBegin,
    /// It matches.
    Matched {
        /// Where it stands.
        standing: Standing,
        /// The identity of the lane in which it waits, if it does.
        identity: Option<(String, String)>,
    },
}

impl EventStore {
    /// How a subscription does.
    ///
    /// # Errors
    /// When there is none, or its filter names something that does not exist any more.
    pub async fn subscription_status(&self, name: &str) -> Result<SubscriptionStatus, Error> {
        let owner = self.inner.subscriptions.get(name)?;
        let (head, now) = (self.last_position(), self.now());
        let (mut status, done, blocked) = {
            let state = owner.state();
            let saved = &state.machine.durable().saved;
            let status = SubscriptionStatus {
                subscription: Arc::clone(&state.subscription),
                figures: state.machine.figures(now),
                lag_events: 0,
                lag: Duration::ZERO,
                oldest_unresolved: None,
                head,
                blocked_lanes: Vec::new(),
                snapshots: saved.iter().map(|(name, it)| (Arc::clone(name), it.at)).collect(),
                lagging: false,
                expired: state.usage(now) == Use::Expired,
                pinned_after: state.pinned_after(),
                index: None,
                trouble: state.trouble.clone(),
                filter_faults: owner.faults.figures(),
                dead_letter_faults: owner.dead_letter_faults.figures(),
            };
            let resolved = &state.machine.durable().resolved;
            let done = resolved.count_after(status.figures.floor) as u64;
            (status, done, state.machine.blocked_lanes(BLOCKED_LANES))
        };
        let filter = status.subscription.filter.clone();
        status.index = self.filter_index(&filter);
        let span = Span { after: status.figures.floor, until: head };
        if !span.is_empty() {
            let (storage, catalogs) =
                (Arc::clone(&self.inner.storage), Arc::clone(&self.inner.catalog));
            let counted = filter.clone();
            let matching =
                blocking(move || read::count(&storage, &catalogs, &counted, span)).await?;
            status.lag_events = matching.saturating_sub(done);
        }
        status.oldest_unresolved = match status.figures.oldest_unresolved {
            Some(position) => Some(position),
            None if status.lag_events > 0 => {
                self.first_match(&filter, status.figures.scanned_to, head).await?
            }
            None => None,
        };
        if let Some(oldest) = status.oldest_unresolved {
            let stored = self.inner.storage.record_time(oldest)?;
            status.lag = stored.map(|it| now.since(it)).unwrap_or_default();
        }
        let max_lag = status.subscription.upkeep.max_lag;
        status.lagging = max_lag.is_some_and(|most| status.lag > most);
        for (lane, position, waiting) in blocked {
            let identity = self.lane_identity(&owner, lane, position)?;
            status.blocked_lanes.push(BlockedLane { identity, position, waiting });
        }
        Ok(status)
    }

    async fn first_match(
        &self,
        filter: &EventFilter,
        after: Position,
        until: Position,
    ) -> Result<Option<Position>, Error> {
        let catalog = self.catalog();
        let (plan, floors) = (Plan::new(filter, &catalog)?, Arc::clone(catalog.floors()));
        let span = Span { after: after.min(until), until };
        let mut pages = self.pages(self.reader(plan, floors, span, Direction::Forward, 1));
        while let Some(page) = pages.next().await.transpose()? {
            if let Some(event) = page.events.first() {
                return Ok(Some(event.position));
            }
        }
        Ok(None)
    }

    /// The identity that is a lane, found among those of an event in it.
    fn lane_identity(
        &self,
        owner: &Owner,
        lane: Lane,
        position: Position,
    ) -> Result<Option<(String, String)>, Error> {
        if owner.state().machine.settings().ordering != Ordering::PerIdentity {
            return Ok(None);
        }
        let Some((event, _)) = self.load(position)? else { return Ok(None) };
        let found = event.identities.into_iter().find(|it| Lane::of(&it.namespace, &it.id) == lane);
        Ok(found.map(|it| (it.namespace.to_string(), it.id.to_string())))
    }

    /// Whether all of a filter selects an event.
    async fn selects(&self, filter: &EventFilter, position: Position) -> Result<bool, Error> {
        let (storage, catalogs) =
            (Arc::clone(&self.inner.storage), Arc::clone(&self.inner.catalog));
        let (filter, span) = (filter.clone(), Span { after: position.previous(), until: position });
        let found = blocking(move || read::count(&storage, &catalogs, &filter, span)).await?;
        Ok(found > 0)
    }

    /// How each subscription that an event matches stands to it, by name.
    ///
    /// # Errors
    /// When there is no such event.
    pub async fn explain_deliveries(
        &self,
        position: Position,
    ) -> Result<Vec<(Arc<Subscription>, Explained)>, Error> {
        let mut found = Vec::new();
        for subscription in self.subscriptions() {
            match self.explain_delivery(subscription.name.as_str(), position).await {
                Ok((Explained::NotMatched(_), _)) => {}
                Ok((explained, _)) => found.push((subscription, explained)),
                // Deleted meanwhile, or its filter names what is.
                Err(Error::NotFound { kind, .. }) if kind != Resource::Event => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// By what a filter's events are found, unless it names something that is not there.
    fn filter_index(&self, filter: &EventFilter) -> Option<FilterIndex> {
        Plan::new(filter, &self.catalog()).ok().map(|it| it.index)
    }

    /// Why an event was delivered or not, and by what the subscription's events are found.
    ///
    /// # Errors
    /// When there is no such subscription or event.
    pub async fn explain_delivery(
        &self,
        name: &str,
        position: Position,
    ) -> Result<(Explained, Option<FilterIndex>), Error> {
        let owner = self.inner.subscriptions.get(name)?;
        let event = self.event_at(position).await?;
        let index = self.filter_index(&owner.state().subscription.filter);
        Ok((self.explain(&owner, &event).await?, index))
    }

    async fn explain(&self, owner: &Owner, event: &RecordedEvent) -> Result<Explained, Error> {
        let position = event.position;
        let (subscription, standing) = {
            let state = owner.state();
            (Arc::clone(&state.subscription), state.machine.explain(position))
        };
        if let Standing::Parked(_) | Standing::InFlight { .. } = standing {
            return Ok(Explained::Matched { standing, identity: None });
        }
        if let Some(field) = mismatch(&subscription.filter, event) {
            return Ok(Explained::NotMatched(field));
        }
        if !self.selects(&subscription.filter, position).await? {
            let by_condition = subscription.filter.condition.is_some();
            return Ok(Explained::NotMatched(if by_condition { "where" } else { "deliver_as" }));
        }
        if position <= subscription.begin && matches!(standing, Standing::Done { .. }) {
            return Ok(Explained::BeforeBegin);
        }
        let identity = if let Standing::Behind { lane, .. } = standing {
            self.lane_identity(owner, lane, position)?
        } else {
            None
        };
        Ok(Explained::Matched { standing, identity })
    }
}

/// The first field of a filter that excludes an event.
fn mismatch(filter: &EventFilter, event: &RecordedEvent) -> Option<&'static str> {
    let any = |empty: bool, found: bool| empty || found;
    let datasets = &filter.datasets;
    let types = &filter.event_types;
    let is_type = |it: &EventTypePattern| match it {
        EventTypePattern::Exact(name) => **name == *event.event_type,
        EventTypePattern::Prefix(prefix) => event.event_type.starts_with(&**prefix),
    };
    let identities = &filter.identities;
    let is_about = |namespace: &str, id: Option<&str>| {
        let mut about = event.identities.iter();
        about.any(|it| it.namespace == namespace && id.is_none_or(|id| it.id == id))
    };
    let versions = &filter.schema_versions;
    let has_judged =
        |it: &SchemaVersions| it.id == event.schema_id && it.contains(event.schema_version);
    let checks = [
        ("tagged", filter.tagged.wants(!event.violations.is_empty())),
        (
            "datasets",
            any(datasets.is_empty(), datasets.iter().any(|it| *it.as_str() == *event.dataset)),
        ),
        ("event_types", any(types.is_empty(), types.iter().any(is_type))),
        ("schemas", any(filter.schemas.is_empty(), filter.schemas.contains(&event.schema_id))),
        ("schema_versions", any(versions.is_empty(), versions.iter().any(has_judged))),
        (
            "identities",
            any(
                identities.is_empty(),
                identities.iter().any(|it| is_about(&it.namespace, it.id.as_deref())),
            ),
        ),
        (
            "event_definitions",
            any(
                filter.event_definitions.is_empty(),
                filter.event_definitions.iter().any(|it| event.event_definitions.contains(it)),
            ),
        ),
        ("event_time", filter.event_time.contains(event.event_time)),
        ("record_time", filter.record_time.contains(event.record_time)),
    ];
    checks.into_iter().find(|it| !it.1).map(|it| it.0)
}
