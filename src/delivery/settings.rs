//! What a subscription's owner may choose about delivering.

use std::{sync::Arc, time::Duration};

use xxhash_rust::xxh3::xxh3_64;

use crate::model::{Position, Timestamp, limits};

/// How events of a subscription are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which events wait for which.
    pub ordering: Ordering,
    /// Which identities of an event are lanes, when ordered by identity.
    pub lane_selector: LaneSelector,
    /// What happens to an event without a lane, when ordered by identity.
    pub no_lane_policy: NoLanePolicy,
    /// Events of one lane that one consumer may have at a time; at least 1.
    pub max_in_flight_per_lane: u32,
    /// How long a consumer has for an event.
    pub ack_deadline: Duration,
    /// Failed attempts after which an event is parked; 0: never.
    pub max_attempts: u32,
    /// The wait before an attempt.
    pub backoff: Backoff,
    /// What happens to the lanes of a parked event.
    pub park_policy: ParkPolicy,
    /// Matching events above the floor that are known one by one.
    pub window_limit: usize,
    /// Parked events that are kept.
    pub max_parked: usize,
    /// What happens when there are more.
    pub parked_full: ParkedFull,
    /// How long a consumer that is gone may come back to its leases.
    pub session_timeout: Duration,
    /// Leases of a consumer that expire in a row before it gets nothing for a while; 0: never.
    pub quarantine_after: u32,
    /// How long after a restart nothing is delivered, so that who has events still can finish them.
    pub restart_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ordering: Ordering::PerIdentity,
            lane_selector: LaneSelector::All,
            no_lane_policy: NoLanePolicy::Unordered,
            max_in_flight_per_lane: 1,
            ack_deadline: Duration::from_secs(30),
            max_attempts: 10,
            backoff: Backoff::default(),
            park_policy: ParkPolicy::Skip,
            window_limit: limits::WINDOW_DEFAULT,
            max_parked: limits::PARKED_DEFAULT,
            parked_full: ParkedFull::DiscardOldest,
            session_timeout: Duration::from_secs(30),
            quarantine_after: 20,
            restart_grace: Duration::ZERO,
        }
    }
}

impl Settings {
    /// Whether events have the same lanes, and lanes the same bounds, under both.
    #[must_use]
    pub fn orders_like(&self, other: &Self) -> bool {
        self.ordering == other.ordering
            && self.lane_selector == other.lane_selector
            && self.no_lane_policy == other.no_lane_policy
            && self.max_in_flight_per_lane == other.max_in_flight_per_lane
    }
}

/// Which events wait for which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// None: the oldest first.
    Unordered,
    /// Those that share a lane, in position order.
    PerIdentity,
    /// All, in position order.
    Total,
}

/// Which identities of an event are lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneSelector {
    /// Every identity.
    All,
    /// The primary one.
    Primary,
    /// Those of these namespaces.
    Namespaces(Vec<Arc<str>>),
}

/// What happens to an event without a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLanePolicy {
    /// It waits for nothing.
    Unordered,
    /// All such events are one lane.
    SingleLane,
    /// It is parked.
    Park,
}

/// What happens to the lanes of a parked event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkPolicy {
    /// They go on without it.
    Skip,
    /// They wait until it is replayed or discarded.
    Block,
    /// Later events of them are parked behind it.
    Convoy,
}

/// What happens when more events are parked than are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedFull {
    /// The oldest is discarded.
    DiscardOldest,
    /// Nothing is delivered until there is room.
    Stop,
}

/// How long an event waits for its next attempt: twice as long after each, within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_mins(10) }
    }
}

/// Per mille that a wait may be shorter or longer, so that what failed together does not come back together.
const JITTER: u64 = 200;

impl Backoff {
    /// When the next attempt may begin after `failures`, at least 1. `salt` and the event give the jitter.
    pub(crate) fn next(
        self,
        failures: u32,
        now: Timestamp,
        position: Position,
        salt: u64,
    ) -> Timestamp {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let wait = self.min.saturating_mul(doubled).min(self.max);
        let mut seed = [0; 20];
        let (first, rest) = seed.split_at_mut(8);
        let (second, third) = rest.split_at_mut(8);
        first.copy_from_slice(&salt.to_be_bytes());
        second.copy_from_slice(&position.get().to_be_bytes());
        third.copy_from_slice(&failures.to_be_bytes());
        let per_mille = 1000 - JITTER + xxh3_64(&seed) % (2 * JITTER + 1);
        let per_mille = u32::try_from(per_mille).unwrap_or(1000);
        now.plus(wait.saturating_mul(per_mille) / 1000)
    }
}
