//! A subscription as its owner wants it.

use std::{sync::Arc, time::Duration};

use crate::{
    delivery::{LaneSelector, Ordering, Settings},
    model::{
        DatasetName, EventFilter, Invalid, Position, SubscriptionName, Timestamp,
        check_namespace_code, limits,
    },
    storage::pb::SubscriptionRecord,
    store::{
        Error,
        subscription::{
            codec::{delivery_record, duration_us, filter_of, filter_record, micros, settings_of},
            upkeep::Upkeep,
        },
    },
};

/// A subscription as its owner wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
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
    /// When a consumer was last there; only if it may expire, and not to the moment.
    pub used_time: Timestamp,
    /// Nothing is delivered.
    pub paused: bool,
    /// It began after this position.
    pub begin: Position,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    pub(crate) revision: u64,
}

/// What an update changes; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionChanges {
    /// For people.
    pub description: Option<String>,
    /// Which events.
    pub filter: Option<EventFilter>,
    /// When outcomes are durable.
    pub ack_flush_interval: Option<Option<Duration>>,
    /// Where parked events are stored, too.
    pub dead_letter_dataset: Option<Option<DatasetName>>,
    /// Events that may be looked at in a second while it catches up.
    pub scan_limit: Option<u32>,
    /// How it is kept: changes the settings that there are.
    pub upkeep: Vec<fn(&mut Upkeep, &Upkeep)>,
    /// What `upkeep` takes from.
    pub wanted_upkeep: Upkeep,
    /// How they are delivered: changes the settings that there are.
    pub delivery: Vec<fn(&mut Settings, &Settings)>,
    /// What `delivery` takes from.
    pub wanted: Settings,
}

impl Subscription {
    /// Changes with every change of the subscription.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("{:x}", self.revision)
    }

    pub(crate) fn record(&self) -> SubscriptionRecord {
        SubscriptionRecord {
            name: self.name.to_string(),
            description: self.description.clone(),
            filter: Some(filter_record(&self.filter)),
            delivery: Some(delivery_record(&self.delivery)),
            scan_limit: self.scan_limit,
            max_lag_us: self.upkeep.max_lag.map_or(0, duration_us),
            expire_after_us: self.upkeep.expire_after.map_or(0, duration_us),
            delete_expired: self.upkeep.delete_expired,
            pin_bytes: self.upkeep.pin_bytes,
            used_time_us: self.used_time.micros(),
            dead_letter_dataset: self
                .dead_letter_dataset
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            ack_flush_us: self.ack_flush_interval.map_or(0, duration_us),
            paused: self.paused,
            revision: self.revision,
            create_time_us: self.create_time.micros(),
            update_time_us: self.update_time.micros(),
            begin: self.begin.get(),
        }
    }

    pub(crate) fn load(record: SubscriptionRecord) -> Result<Self, Invalid> {
        let duration = |us: u64| (us > 0).then(|| Duration::from_micros(us));
        Ok(Self {
            upkeep: Upkeep {
                max_lag: duration(record.max_lag_us),
                expire_after: duration(record.expire_after_us),
                delete_expired: record.delete_expired,
                pin_bytes: record.pin_bytes,
            },
            scan_limit: record.scan_limit,
            used_time: micros(record.used_time_us),
            name: SubscriptionName::parse("name", &record.name)?,
            description: record.description,
            filter: filter_of(record.filter.unwrap_or_default())?,
            delivery: settings_of(&record.delivery.unwrap_or_default()),
            dead_letter_dataset: match record.dead_letter_dataset.as_str() {
                "" => None,
                name => Some(DatasetName::parse("dead_letter_dataset", name)?),
            },
            ack_flush_interval: duration(record.ack_flush_us),
            paused: record.paused,
            begin: Position::new(record.begin),
            create_time: micros(record.create_time_us),
            update_time: micros(record.update_time_us),
            revision: record.revision,
        })
    }

    /// What is different from another one, as far as its owner chose it.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.filter != other.filter {
            Some("another filter")
        } else if self.delivery != other.delivery {
            Some("other settings of delivery")
        } else if self.ack_flush_interval != other.ack_flush_interval {
            Some("another durability of outcomes")
        } else if self.dead_letter_dataset != other.dead_letter_dataset {
            Some("another dataset for dead letters")
        } else if self.scan_limit != other.scan_limit {
            Some("another limit of what is looked at")
        } else if self.upkeep != other.upkeep {
            Some("other settings of lag, expiry or retention")
        } else if self.description != other.description {
            Some("another description")
        } else {
            None
        }
    }

    /// Whether all settings are within their bounds.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut invalid = Vec::new();
        let at = |field: &str| format!("subscription.{field}");
        let mut bound = |field: &str, found: Duration, min: Duration, max: Duration| {
            if found < min || found > max {
                let message = format!("{found:?}; wanted {min:?} to {max:?}");
                invalid.push(Invalid::new(at(field), message));
            }
        };
        let it = &self.delivery;
        let second = Duration::from_secs(1);
        bound("ack_deadline", it.ack_deadline, second, limits::ACK_DEADLINE_MAX);
        bound("min_backoff", it.backoff.min, Duration::ZERO, limits::BACKOFF_MAX);
        bound("max_backoff", it.backoff.max, it.backoff.min, limits::BACKOFF_MAX);
        bound("restart_grace", it.restart_grace, Duration::ZERO, limits::RESTART_GRACE_MAX);
        if let Some(interval) = self.ack_flush_interval {
            let (min, max) = (limits::ACK_FLUSH_MIN, limits::ACK_FLUSH_MAX);
            bound("ack_flush_interval", interval, min, max);
        }
        bound("session_timeout", it.session_timeout, second, limits::ACK_DEADLINE_MAX);
        let mut count = |field: &str, found: usize, max: usize| {
            if found == 0 || found > max {
                let message = format!("{found}; wanted 1 to {max}");
                invalid.push(Invalid::new(at(field), message));
            }
        };
        let per_lane = usize::try_from(it.max_in_flight_per_lane).unwrap_or(usize::MAX);
        count("max_in_flight_per_lane", per_lane, limits::LANE_IN_FLIGHT_MAX);
        count("window_limit", it.window_limit, limits::WINDOW_MAX);
        count("max_parked", it.max_parked, limits::PARKED_MAX);
        if let LaneSelector::Namespaces(codes) = &it.lane_selector {
            if it.ordering == Ordering::PerIdentity {
                count("lane_namespaces", codes.len(), limits::EVENT_IDENTITIES_MAX);
            }
            for (index, code) in codes.iter().enumerate() {
                let field = at(&format!("lane_namespaces[{index}]"));
                invalid.extend(check_namespace_code(&field, code).err());
            }
        }
        let faults = self.upkeep.faults().into_iter();
        invalid.extend(faults.map(|(field, message)| Invalid::new(at(field), message)));
        let bytes = self.description.len();
        if bytes > limits::DESCRIPTION_BYTES_MAX {
            let message = format!("{bytes} bytes; at most {}", limits::DESCRIPTION_BYTES_MAX);
            invalid.push(Invalid::new(at("description"), message));
        }
        if invalid.is_empty() { Ok(()) } else { Err(Error::Invalid(invalid)) }
    }

    /// With changes; nothing else is different.
    pub(crate) fn with(&self, changes: &SubscriptionChanges, now: Timestamp) -> Self {
        let mut next = self.clone();
        if let Some(description) = &changes.description {
            next.description.clone_from(description);
        }
        if let Some(filter) = &changes.filter {
            next.filter = filter.clone();
        }
        if let Some(interval) = changes.ack_flush_interval {
            next.ack_flush_interval = interval;
        }
        if let Some(dataset) = &changes.dead_letter_dataset {
            next.dead_letter_dataset.clone_from(dataset);
        }
        if let Some(limit) = changes.scan_limit {
            next.scan_limit = limit;
        }
        for change in &changes.upkeep {
            change(&mut next.upkeep, &changes.wanted_upkeep);
        }
        if next.upkeep != self.upkeep {
            next.used_time = now;
        }
        for change in &changes.delivery {
            change(&mut next.delivery, &changes.wanted);
        }
        if next != *self {
            next.revision += 1;
            next.update_time = now;
        }
        next
    }
}

/// Text that a consumer sent, cut so that it fits its row.
pub(crate) fn cut(text: &str, most: usize) -> Arc<str> {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}
