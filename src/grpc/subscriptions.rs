//! Subscriptions: from messages to the model, and back.

use std::{sync::Arc, time::Duration};

use crate::{
    delivery::{
        Answer, ConsumerFigures, Credit, Current, Failure, FailureKind, Lane, LaneSelector,
        NoLanePolicy, Ordering, Outcome, ParkPolicy, ParkedFull, Settings, Standing,
    },
    grpc::{
        from_proto::{duration, enumeration, filter_at, heartbeat, start},
        pb, to_proto,
    },
    model::{
        DatasetName, EventFilter, Invalid, Position, SubscriptionName, Tagged, TimeRange, limits,
    },
    store::{
        AckId, Connect, ConsumeMessage, CreateSubscription, Delivered, EndReason, Error, Explained,
        FilterIndex, NotedFault, OutcomeResult, Seek, SeekInFlight, SeekTo, Subscription,
        SubscriptionChanges, SubscriptionStatus, UpdateSubscription, Upkeep,
    },
};

/// Failures that a delivery tells of.
const FAILURES_SHOWN: usize = 3;
/// How long a client should wait before it reconnects.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

pub(crate) fn name(field: &str, text: &str) -> Result<SubscriptionName, Error> {
    Ok(SubscriptionName::parse(field, text)?)
}

pub(crate) fn create(request: pb::CreateSubscriptionRequest) -> Result<CreateSubscription, Error> {
    let subscription = request.subscription.ok_or_else(missing)?;
    let delivery = settings(&subscription)?;
    let ack_flush_interval = ack_flush(&subscription)?;
    let dead_letter_dataset = dead_letters(&subscription)?;
    let upkeep = upkeep(&subscription)?;
    Ok(CreateSubscription {
        name: name("subscription.name", &subscription.name)?,
        description: subscription.description,
        filter: filter_at("subscription.filter", subscription.filter)?,
        delivery,
        ack_flush_interval,
        dead_letter_dataset,
        scan_limit: subscription.scan_limit_per_second,
        upkeep,
        start: start(request.start)?,
        validate_only: request.validate_only,
    })
}

fn missing() -> Error {
    Error::invalid("subscription", "missing")
}

pub(crate) fn update(request: pb::UpdateSubscriptionRequest) -> Result<UpdateSubscription, Error> {
    let subscription = request.subscription.ok_or_else(missing)?;
    let name = name("subscription.name", &subscription.name)?;
    let wanted = settings(&subscription)?;
    let mask = request.update_mask.unwrap_or_default();
    if mask.paths.is_empty() {
        return Err(Error::invalid("update_mask", "names no field"));
    }
    let wanted_upkeep = upkeep(&subscription)?;
    let mut changes = SubscriptionChanges { wanted_upkeep, wanted, ..Default::default() };
    for path in &mask.paths {
        let change: fn(&mut Settings, &Settings) = match path.as_str() {
            "description" => {
                changes.description = Some(subscription.description.clone());
                continue;
            }
            "filter" => {
                let filter = subscription.filter.clone();
                changes.filter = Some(filter_at("subscription.filter", filter)?);
                continue;
            }
            "ack_durability" | "ack_flush_interval" => {
                changes.ack_flush_interval = Some(ack_flush(&subscription)?);
                continue;
            }
            "scan_limit_per_second" => {
                changes.scan_limit = Some(subscription.scan_limit_per_second);
                continue;
            }
            "max_lag" => {
                changes.upkeep.push(|to, from| to.max_lag = from.max_lag);
                continue;
            }
            "expire_after" => {
                changes.upkeep.push(|to, from| to.expire_after = from.expire_after);
                continue;
            }
            "expire_policy" => {
                changes.upkeep.push(|to, from| to.delete_expired = from.delete_expired);
                continue;
            }
            "pin_retention" | "pin_retention_bytes" => {
                changes.upkeep.push(|to, from| to.pin_bytes = from.pin_bytes);
                continue;
            }
            "dead_letter_dataset" => {
                changes.dead_letter_dataset = Some(dead_letters(&subscription)?);
                continue;
            }
            "ordering" => |to, from| to.ordering = from.ordering,
            "lane_selector" | "lane_namespaces" => {
                |to, from| to.lane_selector = from.lane_selector.clone()
            }
            "no_lane_policy" => |to, from| to.no_lane_policy = from.no_lane_policy,
            "max_in_flight_per_lane" => {
                |to, from| to.max_in_flight_per_lane = from.max_in_flight_per_lane
            }
            "ack_deadline" => |to, from| to.ack_deadline = from.ack_deadline,
            "max_attempts" => |to, from| to.max_attempts = from.max_attempts,
            "min_backoff" => |to, from| to.backoff.min = from.backoff.min,
            "max_backoff" => |to, from| to.backoff.max = from.backoff.max,
            "park_policy" => |to, from| to.park_policy = from.park_policy,
            "window_limit" => |to, from| to.window_limit = from.window_limit,
            "max_parked" => |to, from| to.max_parked = from.max_parked,
            "parked_full_policy" => |to, from| to.parked_full = from.parked_full,
            "restart_grace" => |to, from| to.restart_grace = from.restart_grace,
            "session_timeout" => |to, from| to.session_timeout = from.session_timeout,
            "quarantine_after" => |to, from| to.quarantine_after = from.quarantine_after,
            other => {
                let message = format!("`{other}` cannot be changed, or is no field");
                return Err(Error::invalid("update_mask", message));
            }
        };
        changes.delivery.push(change);
    }
    let etag = Some(subscription.etag).filter(|etag| !etag.is_empty());
    Ok(UpdateSubscription { name, changes, etag, validate_only: request.validate_only })
}

/// Within which time outcomes are durable that are answered before, if they may be.
fn ack_flush(subscription: &pb::Subscription) -> Result<Option<Duration>, Error> {
    let given = duration("subscription.ack_flush_interval", subscription.ack_flush_interval)?;
    let given = given.filter(|it| !it.is_zero());
    match enumeration("subscription.ack_durability", subscription.ack_durability)? {
        pb::AckDurability::Async => Ok(Some(given.unwrap_or(limits::ACK_FLUSH_DEFAULT))),
        pb::AckDurability::Unspecified | pb::AckDurability::Sync if given.is_some() => {
            let message = "set; only with ack_durability ASYNC";
            Err(Error::invalid("subscription.ack_flush_interval", message))
        }
        pb::AckDurability::Unspecified | pb::AckDurability::Sync => Ok(None),
    }
}

/// How it is kept.
fn upkeep(subscription: &pb::Subscription) -> Result<Upkeep, Error> {
    let it = subscription;
    let time = |field: &str, value: Option<prost_types::Duration>| {
        let given = duration(&format!("subscription.{field}"), value)?;
        Ok::<_, Error>(given.filter(|it| !it.is_zero()))
    };
    let pin_bytes = match (it.pin_retention, it.pin_retention_bytes) {
        (true, 0) => Some(limits::PIN_BYTES_DEFAULT),
        (true, bytes) => Some(bytes),
        (false, 0) => None,
        (false, _) => {
            let message = "set; only with `pin_retention`";
            return Err(Error::invalid("subscription.pin_retention_bytes", message));
        }
    };
    let policy: pb::ExpirePolicy = enumeration("subscription.expire_policy", it.expire_policy)?;
    Ok(Upkeep {
        max_lag: time("max_lag", it.max_lag)?,
        expire_after: time("expire_after", it.expire_after)?,
        delete_expired: policy == pb::ExpirePolicy::Delete,
        pin_bytes,
    })
}

/// Where parked events are stored, too.
fn dead_letters(subscription: &pb::Subscription) -> Result<Option<DatasetName>, Error> {
    match subscription.dead_letter_dataset.as_str() {
        "" => Ok(None),
        name => Ok(Some(DatasetName::parse("subscription.dead_letter_dataset", name)?)),
    }
}

/// Settings with defaults for what is absent; the bounds are the store's.
fn settings(subscription: &pb::Subscription) -> Result<Settings, Error> {
    let default = Settings::default();
    let at = |field: &str| format!("subscription.{field}");
    let time = |field: &str, value: Option<prost_types::Duration>, default: Duration| {
        let given = duration(&at(field), value)?;
        Ok::<_, Error>(given.filter(|it| !it.is_zero()).unwrap_or(default))
    };
    let size = |value: u32, default: usize| match usize::try_from(value) {
        Ok(0) => default,
        Ok(value) => value,
        Err(_larger) => usize::MAX,
    };
    let it = subscription;
    let mut backoff = default.backoff;
    backoff.min = time("min_backoff", it.min_backoff, backoff.min)?;
    // A long first wait is the longest, too.
    backoff.max = time("max_backoff", it.max_backoff, backoff.max.max(backoff.min))?;
    Ok(Settings {
        ordering: match enumeration(&at("ordering"), it.ordering)? {
            pb::Ordering::Unspecified | pb::Ordering::PerIdentity => Ordering::PerIdentity,
            pb::Ordering::Unordered => Ordering::Unordered,
            pb::Ordering::Total => Ordering::Total,
        },
        lane_selector: match enumeration(&at("lane_selector"), it.lane_selector)? {
            pb::LaneSelector::Unspecified | pb::LaneSelector::All => LaneSelector::All,
            pb::LaneSelector::Primary => LaneSelector::Primary,
            pb::LaneSelector::Namespaces => {
                let codes = it.lane_namespaces.iter().map(|it| Arc::from(it.as_str()));
                LaneSelector::Namespaces(codes.collect())
            }
        },
        no_lane_policy: match enumeration(&at("no_lane_policy"), it.no_lane_policy)? {
            pb::NoLanePolicy::Unspecified | pb::NoLanePolicy::Unordered => NoLanePolicy::Unordered,
            pb::NoLanePolicy::SingleLane => NoLanePolicy::SingleLane,
            pb::NoLanePolicy::Park => NoLanePolicy::Park,
        },
        max_in_flight_per_lane: it.max_in_flight_per_lane.max(1),
        ack_deadline: time("ack_deadline", it.ack_deadline, default.ack_deadline)?,
        max_attempts: it.max_attempts.unwrap_or(default.max_attempts),
        backoff,
        park_policy: match enumeration(&at("park_policy"), it.park_policy)? {
            pb::ParkPolicy::Unspecified | pb::ParkPolicy::Skip => ParkPolicy::Skip,
            pb::ParkPolicy::Block => ParkPolicy::Block,
            pb::ParkPolicy::Convoy => ParkPolicy::Convoy,
        },
        window_limit: size(it.window_limit, default.window_limit),
        max_parked: size(it.max_parked, default.max_parked),
        parked_full: match enumeration(&at("parked_full_policy"), it.parked_full_policy)? {
            pb::ParkedFullPolicy::Unspecified | pb::ParkedFullPolicy::DiscardOldest => {
                ParkedFull::DiscardOldest
            }
            pb::ParkedFullPolicy::Stop => ParkedFull::Stop,
        },
        session_timeout: time("session_timeout", it.session_timeout, default.session_timeout)?,
        quarantine_after: it.quarantine_after.unwrap_or(default.quarantine_after),
        restart_grace: time("restart_grace", it.restart_grace, default.restart_grace)?,
    })
}

pub(crate) fn seek(request: pb::SeekSubscriptionRequest) -> Result<Seek, Error> {
    use pb::seek_subscription_request::{InFlight, Target};
    let to = match request.target {
        Some(Target::Start(wanted)) if wanted.start.is_some() => {
            SeekTo::Start(start(Some(wanted))?)
        }
        Some(Target::Snapshot(name)) => SeekTo::Snapshot(name),
        Some(Target::Start(_)) | None => {
            return Err(Error::invalid("target", "missing; wanted `start` or `snapshot`"));
        }
    };
    let in_flight = match enumeration("in_flight", request.in_flight)? {
        InFlight::Unspecified | InFlight::Abandon => SeekInFlight::Abandon,
        InFlight::Drain => SeekInFlight::Drain,
    };
    Ok(Seek { name: name("name", &request.name)?, to, in_flight })
}

/// A consumer of a stream or a pull; `at` is where its fields stand.
pub(crate) fn connect(
    at: &str,
    client_id: String,
    instance: u64,
    given: Option<pb::ConsumerCredit>,
    interval: Option<prost_types::Duration>,
    ack_deadline: Option<prost_types::Duration>,
) -> Result<Connect, Error> {
    let (bytes, most) = (client_id.len(), limits::CLIENT_ID_BYTES_MAX);
    if bytes == 0 || bytes > most {
        let message = format!("{bytes} bytes; wanted 1 to {most}");
        return Err(Error::invalid(format!("{at}client_id"), message));
    }
    let credit = credit(at, given)?;
    let field = format!("{at}ack_deadline");
    let ack_deadline = duration(&field, ack_deadline)?.filter(|it| !it.is_zero());
    let (min, max) = (Duration::from_secs(1), limits::ACK_DEADLINE_MAX);
    if let Some(found) = ack_deadline.filter(|it| *it < min || *it > max) {
        let message = format!("{found:?}; wanted {min:?} to {max:?}");
        return Err(Error::OutOfBounds(Invalid::new(field, message)));
    }
    let heartbeat_interval = heartbeat(interval)?;
    let keep_alive = false;
    Ok(Connect { client_id, instance, credit, heartbeat_interval, ack_deadline, keep_alive })
}

pub(crate) fn credit(at: &str, given: Option<pb::ConsumerCredit>) -> Result<Credit, Error> {
    let given = given.unwrap_or_default();
    let events = match given.max_outstanding_events {
        0 => limits::OUTSTANDING_EVENTS_DEFAULT,
        events => events,
    };
    let bytes = match given.max_outstanding_bytes {
        0 => limits::OUTSTANDING_BYTES_DEFAULT,
        bytes => bytes,
    };
    let out_of_bounds = |field: &str, found: u64, most: u64| {
        let message = format!("{found}; at most {most}");
        Err(Error::OutOfBounds(Invalid::new(format!("{at}credit.{field}"), message)))
    };
    if usize::try_from(events).unwrap_or(usize::MAX) > limits::OUTSTANDING_EVENTS_MAX {
        let most = limits::OUTSTANDING_EVENTS_MAX as u64;
        return out_of_bounds("max_outstanding_events", events.into(), most);
    }
    if bytes > limits::OUTSTANDING_BYTES_MAX {
        return out_of_bounds("max_outstanding_bytes", bytes, limits::OUTSTANDING_BYTES_MAX);
    }
    Ok(Credit { events, bytes })
}

/// How many events a pull wants.
pub(crate) fn pull_events(found: u32) -> Result<u32, Error> {
    let most = u32::try_from(limits::PAGE_SIZE_MAX).unwrap_or(u32::MAX);
    if found > most {
        let message = format!("{found}; at most {most}");
        return Err(Error::OutOfBounds(Invalid::new("max_events", message)));
    }
    Ok(found.max(1))
}

/// How long a pull waits.
pub(crate) fn pull_wait(wait: Option<prost_types::Duration>) -> Result<Duration, Error> {
    let wait = duration("wait", wait)?.unwrap_or_default();
    if wait > limits::PULL_WAIT_MAX {
        let message = format!("{wait:?}; at most {:?}", limits::PULL_WAIT_MAX);
        return Err(Error::OutOfBounds(Invalid::new("wait", message)));
    }
    Ok(wait)
}

pub(crate) fn outcomes(outcomes: Vec<pb::Outcome>) -> Result<Vec<(AckId, Outcome)>, Error> {
    let (found, most) = (outcomes.len(), limits::OUTCOMES_MAX);
    if found == 0 || found > most {
        let message = format!("{found}; wanted 1 to {most}");
        return Err(Error::OutOfBounds(Invalid::new("outcomes", message)));
    }
    outcomes.into_iter().enumerate().map(outcome).collect()
}

fn outcome((index, outcome): (usize, pb::Outcome)) -> Result<(AckId, Outcome), Error> {
    use pb::outcome::Outcome as Said;
    let at = |field: &str| format!("outcomes[{index}].{field}");
    let said = match outcome.outcome {
        Some(Said::Ack(_)) => Outcome::Ack,
        Some(Said::Nack(nack)) => Outcome::Nack {
            delay: duration(&at("nack.delay"), nack.delay)?,
            reason: nack.reason.into(),
        },
        Some(Said::Park(park)) => Outcome::Park { reason: park.reason.into() },
        Some(Said::Skip(skip)) => Outcome::Skip { reason: skip.reason.into() },
        Some(Said::Extend(extend)) => {
            let by = duration(&at("extend.by"), extend.by)?;
            Outcome::Extend(by.ok_or_else(|| Error::invalid(at("extend.by"), "missing"))?)
        }
        None => return Err(Error::invalid(at("outcome"), "missing")),
    };
    Ok((outcome.ack_id, said))
}

pub(crate) fn time(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

pub(crate) fn subscription(subscription: &Subscription) -> pb::Subscription {
    let (it, upkeep) = (&subscription.delivery, &subscription.upkeep);
    let expire_policy =
        if upkeep.delete_expired { pb::ExpirePolicy::Delete } else { pb::ExpirePolicy::Keep };
    let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    let (lane_selector, lane_namespaces) = match &it.lane_selector {
        LaneSelector::All => (pb::LaneSelector::All, Vec::new()),
        LaneSelector::Primary => (pb::LaneSelector::Primary, Vec::new()),
        LaneSelector::Namespaces(codes) => {
            (pb::LaneSelector::Namespaces, codes.iter().map(ToString::to_string).collect())
        }
    };
    pb::Subscription {
        name: subscription.name.to_string(),
        description: subscription.description.clone(),
        filter: filter(&subscription.filter),
        ordering: match it.ordering {
            Ordering::PerIdentity => pb::Ordering::PerIdentity,
            Ordering::Unordered => pb::Ordering::Unordered,
            Ordering::Total => pb::Ordering::Total,
        }
        .into(),
        lane_selector: lane_selector.into(),
        lane_namespaces,
        no_lane_policy: match it.no_lane_policy {
            NoLanePolicy::Unordered => pb::NoLanePolicy::Unordered,
            NoLanePolicy::SingleLane => pb::NoLanePolicy::SingleLane,
            NoLanePolicy::Park => pb::NoLanePolicy::Park,
        }
        .into(),
        max_in_flight_per_lane: it.max_in_flight_per_lane,
        ack_deadline: time(it.ack_deadline),
        max_attempts: Some(it.max_attempts),
        min_backoff: time(it.backoff.min),
        max_backoff: time(it.backoff.max),
        park_policy: match it.park_policy {
            ParkPolicy::Skip => pb::ParkPolicy::Skip,
            ParkPolicy::Block => pb::ParkPolicy::Block,
            ParkPolicy::Convoy => pb::ParkPolicy::Convoy,
        }
        .into(),
        window_limit: number(it.window_limit),
        max_parked: number(it.max_parked),
        parked_full_policy: match it.parked_full {
            ParkedFull::DiscardOldest => pb::ParkedFullPolicy::DiscardOldest,
            ParkedFull::Stop => pb::ParkedFullPolicy::Stop,
        }
        .into(),
        session_timeout: time(it.session_timeout),
        quarantine_after: Some(it.quarantine_after),
        paused: subscription.paused,
        begin_position: subscription.begin.get(),
        etag: subscription.etag(),
        create_time: Some(to_proto::timestamp(subscription.create_time)),
        update_time: Some(to_proto::timestamp(subscription.update_time)),
        ack_durability: durability(subscription.ack_flush_interval.is_none()).into(),
        ack_flush_interval: subscription.ack_flush_interval.and_then(time),
        restart_grace: time(it.restart_grace),
        scan_limit_per_second: subscription.scan_limit,
        max_lag: upkeep.max_lag.and_then(time),
        expire_after: upkeep.expire_after.and_then(time),
        expire_policy: expire_policy.into(),
        pin_retention: upkeep.pin_bytes.is_some(),
        pin_retention_bytes: upkeep.pin_bytes.unwrap_or_default(),
        dead_letter_dataset: subscription
            .dead_letter_dataset
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
    }
}

/// Absent when it selects everything.
fn filter(filter: &EventFilter) -> Option<pb::EventFilter> {
    let range = |range: TimeRange| {
        (!range.is_unbounded()).then(|| pb::TimeRange {
            start: range.start.map(to_proto::timestamp),
            end: range.end.map(to_proto::timestamp),
        })
    };
    let message = pb::EventFilter {
        datasets: filter.datasets.iter().map(ToString::to_string).collect(),
        event_types: filter.event_types.iter().map(ToString::to_string).collect(),
        schemas: filter.schemas.iter().map(ToString::to_string).collect(),
        schema_versions: filter
            .schema_versions
            .iter()
            .map(|it| pb::SchemaVersions {
                schema_id: it.id.to_string(),
                from_version: it.from,
                to_version: it.to.unwrap_or_default(),
            })
            .collect(),
        identities: filter
            .identities
            .iter()
            .map(|it| pb::Identity {
                namespace: it.namespace.to_string().into(),
                id: it.id.as_ref().map(ToString::to_string).unwrap_or_default().into(),
                primary: false,
            })
            .collect(),
        event_time: range(filter.event_time),
        record_time: range(filter.record_time),
        event_definitions: filter.event_definitions.iter().map(ToString::to_string).collect(),
        r#where: filter.condition.as_deref().unwrap_or_default().to_owned(),
        deliver_as: filter.deliver_as.as_deref().unwrap_or_default().to_owned(),
        tagged: match filter.tagged {
            Tagged::LeftOut => pb::TaggedEvents::Unspecified,
            Tagged::Included => pb::TaggedEvents::Included,
            Tagged::Only => pb::TaggedEvents::Only,
        }
        .into(),
    };
    (message != pb::EventFilter::default()).then_some(message)
}

pub(crate) fn status(status: SubscriptionStatus) -> pb::SubscriptionStatus {
    use pb::subscription_status::State;
    let figures = status.figures;
    let settings = &status.subscription.delivery;
    let parked_full = settings.parked_full == ParkedFull::Stop
        && figures.parked + figures.replaying >= settings.max_parked;
    let state = if status.subscription.paused {
        State::Paused
    } else if status.trouble.is_some() {
        State::Failed
    } else if parked_full {
        State::ParkedFull
    } else if figures.window_full {
        State::WindowFull
    } else if status.lagging {
        State::Lagging
    } else if status.expired {
        State::Expired
    } else {
        State::Active
    };
    pb::SubscriptionStatus {
        state: state.into(),
        floor_position: figures.floor.get(),
        scanned_position: figures.scanned_to.get(),
        last_position: status.head.get(),
        lag_events: status.lag_events,
        lag: time(status.lag),
        oldest_unresolved_position: status.oldest_unresolved.map_or(0, Position::get),
        in_flight: figures.in_flight as u64,
        retrying: figures.retrying as u64,
        parked: figures.parked as u64,
        replaying: figures.replaying as u64,
        window_used: figures.window as u64,
        blocked_lanes: status
            .blocked_lanes
            .into_iter()
            .map(|it| pb::BlockedLane {
                identity: identity(it.identity),
                position: it.position.get(),
                waiting: it.waiting as u64,
            })
            .collect(),
        consumers: figures.consumers.iter().map(consumer).collect(),
        snapshots: status
            .snapshots
            .into_iter()
            .map(|(name, at)| pb::SubscriptionSnapshot {
                name: name.to_string(),
                create_time: Some(to_proto::timestamp(at)),
            })
            .collect(),
        generation: figures.generation,
        resolved_total: figures.resolved_total,
        failed_total: figures.failed_total,
        discarded_total: figures.discarded_total,
        trouble: status.trouble.unwrap_or_default(),
        filter_errors_total: status.filter_faults.total,
        filter_errors: status.filter_faults.last.into_iter().map(fault).collect(),
        pinned_after_position: status.pinned_after.map_or(0, Position::get),
        filter_index: filter_index(status.index).into(),
        dead_letter_failures_total: status.dead_letter_faults.total,
        dead_letter_failures: status.dead_letter_faults.last.into_iter().map(fault).collect(),
    }
}

pub(crate) fn filter_index(index: Option<FilterIndex>) -> pb::FilterIndex {
    match index {
        None => pb::FilterIndex::Unspecified,
        Some(FilterIndex::Identity) => pb::FilterIndex::Identity,
        Some(FilterIndex::EventDefinition) => pb::FilterIndex::EventDefinition,
        Some(FilterIndex::EventType) => pb::FilterIndex::EventType,
        Some(FilterIndex::Schema) => pb::FilterIndex::Schema,
        Some(FilterIndex::Dataset) => pb::FilterIndex::Dataset,
        Some(FilterIndex::FullScan) => pb::FilterIndex::FullScan,
    }
}

fn fault(fault: NotedFault) -> pb::EventFault {
    pb::EventFault {
        position: fault.position.get(),
        time: Some(to_proto::timestamp(fault.at)),
        message: fault.message,
    }
}

fn consumer(figures: &ConsumerFigures) -> pb::ConsumerStatus {
    let lately = &figures.lately;
    let per_second = |count: u32| f64::from(count) / lately.over.as_secs_f64();
    pb::ConsumerStatus {
        client_id: figures.client_id.to_string(),
        connected: figures.connected,
        draining: figures.draining,
        quarantined_until: figures.quarantined_until.map(to_proto::timestamp),
        in_flight: figures.in_flight.events.into(),
        in_flight_bytes: figures.in_flight.bytes,
        delivered_total: figures.delivered_total,
        resolved_total: figures.resolved_total,
        failed_total: figures.failed_total,
        delivered_per_second: per_second(lately.counts.delivered),
        resolved_per_second: per_second(lately.counts.resolved),
        failed_per_second: per_second(lately.counts.failed),
    }
}

fn identity(identity: Option<(String, String)>) -> Option<pb::Identity> {
    identity.map(|(namespace, id)| pb::Identity {
        namespace: namespace.into(),
        id: id.into(),
        primary: false,
    })
}

pub(crate) fn delivered(
    delivered: Delivered,
    format: pb::PayloadFormat,
) -> Result<pb::Delivered, Error> {
    let Delivered { event, delivery, ack_id, dedupe_key } = delivered;
    let event = Arc::unwrap_or_clone(event);
    let skipped = delivery.failures.len().saturating_sub(FAILURES_SHOWN);
    Ok(pb::Delivered {
        event: Some(to_proto::recorded_event(event, format)?),
        ack_id,
        attempt: delivery.attempt,
        lease_deadline: Some(to_proto::timestamp(delivery.deadline)),
        first_delivered_at: Some(to_proto::timestamp(delivery.first_delivered_at)),
        previous_failures: delivery.failures.iter().skip(skipped).map(failure).collect(),
        dedupe_key,
        fencing_epoch: delivery.lease.generation,
        replay: delivery.replay,
        total_attempts: delivery.total_attempts,
    })
}

pub(crate) fn failure(failure: &Failure) -> pb::DeliveryFailure {
    use pb::delivery_failure::Kind;
    pb::DeliveryFailure {
        time: Some(to_proto::timestamp(failure.at)),
        client_id: failure.consumer.to_string(),
        kind: match failure.kind {
            FailureKind::Nacked => Kind::Nacked,
            FailureKind::Expired => Kind::Expired,
            FailureKind::Replaced => Kind::Replaced,
        }
        .into(),
        reason: failure.reason.to_string(),
    }
}

pub(crate) fn current(current: Current) -> pb::outcome_result::Current {
    match current {
        Current::Resolved => pb::outcome_result::Current::Resolved,
        Current::InFlight => pb::outcome_result::Current::InFlight,
        Current::Waiting => pb::outcome_result::Current::Waiting,
        Current::Parked => pb::outcome_result::Current::Parked,
        Current::Unknown => pb::outcome_result::Current::NotDelivered,
    }
}

pub(crate) fn result(result: &OutcomeResult) -> pb::OutcomeResult {
    use pb::outcome_result::State;
    let mut message = pb::OutcomeResult::default();
    let state = match result {
        OutcomeResult::Answer(Answer::Done) => State::Ok,
        OutcomeResult::Answer(Answer::Extended(deadline)) => {
            message.lease_deadline = Some(to_proto::timestamp(*deadline));
            State::Ok
        }
        OutcomeResult::Answer(Answer::Stale(found)) => {
            message.current = current(*found).into();
            State::Stale
        }
        OutcomeResult::NotAnAckId => State::Unknown,
    };
    message.state = state.into();
    message
}

pub(crate) fn durability(durable: bool) -> pb::AckDurability {
    if durable { pb::AckDurability::Sync } else { pb::AckDurability::Async }
}

/// What a consumer is told.
pub(crate) fn message(
    message: ConsumeMessage,
    format: pb::PayloadFormat,
) -> Result<pb::ConsumeResponse, Error> {
    use pb::consume_response::Message;
    let message = match message {
        ConsumeMessage::Started {
            generation,
            position,
            subscription: settings,
            resumed,
            heartbeat_interval,
        } => Message::Started(pb::ConsumeStarted {
            position: position.get(),
            generation,
            subscription: Some(subscription(&settings)),
            resumed,
            heartbeat_interval: time(heartbeat_interval),
        }),
        ConsumeMessage::Events(events) => {
            let events = events.into_iter().map(|it| delivered(it, format));
            Message::Events(pb::DeliveredBatch { events: events.collect::<Result<_, _>>()? })
        }
        ConsumeMessage::Outcomes(Ok(resolved)) => {
            let durability = durability(resolved.durable).into();
            let results = resolved.results.iter().map(result).collect();
            Message::OutcomeResults(pb::OutcomeResults { results, error: None, durability })
        }
        ConsumeMessage::Outcomes(Err(error)) => {
            let error = Some(crate::grpc::status::inner_status(error));
            Message::OutcomeResults(pb::OutcomeResults { error, ..Default::default() })
        }
        ConsumeMessage::Checkpoint { position, floor, time } => {
            Message::Checkpoint(pb::ConsumeCheckpoint {
                position: position.get(),
                floor_position: floor.get(),
                time: Some(to_proto::timestamp(time)),
            })
        }
        ConsumeMessage::CaughtUp(position, time) => Message::CaughtUp(pb::CaughtUp {
            position: position.get(),
            time: Some(to_proto::timestamp(time)),
        }),
        ConsumeMessage::FellBehind(position) => Message::FellBehind(pb::FellBehind {
            position: position.get(),
            reason: "events arrive faster than consumers take them".to_owned(),
        }),
        ConsumeMessage::Heartbeat { position, time, lag } => Message::Heartbeat(pb::Heartbeat {
            position: position.get(),
            time: Some(to_proto::timestamp(time)),
            lag,
        }),
        ConsumeMessage::Gap(gap) => Message::Gap(to_proto::gap(gap)),
        ConsumeMessage::Rebalance(count) => Message::Rebalance(pb::Rebalance {
            consumers: u32::try_from(count).unwrap_or(u32::MAX),
        }),
        ConsumeMessage::Ending(reason) => Message::Ending(ending(&reason)),
    };
    Ok(pb::ConsumeResponse { message: Some(message) })
}

pub(crate) fn ending(end: &EndReason) -> pb::ConsumeEnding {
    use pb::consume_ending::Reason;
    let (reason, message) = match end {
        EndReason::Shutdown => (Reason::Shutdown, "the server shuts down"),
        EndReason::Seek => (Reason::Seek, "the subscription goes on from elsewhere"),
        EndReason::Deleted => (Reason::SubscriptionDeleted, "the subscription was deleted"),
        EndReason::Replaced => (Reason::Replaced, "another stream of this client took its place"),
        EndReason::Slow => {
            (Reason::SlowHardLimit, "the consumer did not take what it had asked for")
        }
        EndReason::FilterInvalid(why) => (Reason::FilterInvalid, why.as_str()),
        EndReason::Failed(why) => (Reason::Error, why.as_str()),
        EndReason::Drained => (Reason::Drained, "nothing is left"),
    };
    let retry_after = time(RECONNECT_AFTER);
    pb::ConsumeEnding { reason: reason.into(), message: message.to_owned(), retry_after }
}

/// The status after an ending; none when it is no failure.
pub(crate) fn end_error(end: &EndReason, subscription: &str) -> Option<Error> {
    match end {
        EndReason::Shutdown => Some(Error::Closing),
        EndReason::Deleted => Some(Error::NotFound {
            kind: crate::store::Resource::Subscription,
            name: subscription.to_owned(),
        }),
        EndReason::FilterInvalid(why) => {
            Some(Error::Filter(vec![Invalid::new("subscription.filter", why)]))
        }
        EndReason::Failed(_) => Some(Error::Internal),
        EndReason::Seek | EndReason::Replaced | EndReason::Slow | EndReason::Drained => None,
    }
}

pub(crate) fn explained(explained: Explained) -> pb::ExplainDeliveryResponse {
    use pb::explain_delivery_response::Standing as Shown;
    let mut message = pb::ExplainDeliveryResponse::default();
    let standing = match explained {
        Explained::NotMatched(field) => {
            field.clone_into(&mut message.filter_field);
            Shown::NotMatched
        }
        Explained::BeforeBegin => Shown::BeforeBegin,
        Explained::Matched { standing, identity: lane } => {
            message.identity = identity(lane);
            match standing {
                Standing::Done { acked_at } => {
                    message.time = acked_at.map(to_proto::timestamp);
                    Shown::Resolved
                }
                Standing::Skipped(skip) => {
                    message.client_id = skip.consumer.to_string();
                    message.reason = skip.reason.to_string();
                    message.time = Some(to_proto::timestamp(skip.at));
                    Shown::Skipped
                }
                Standing::InFlight { client_id, attempt, deadline, .. } => {
                    message.client_id = client_id.to_string();
                    message.attempt = attempt;
                    message.time = Some(to_proto::timestamp(deadline));
                    Shown::InFlight
                }
                Standing::RetryAt(at) => {
                    message.time = Some(to_proto::timestamp(at));
                    Shown::RetryAt
                }
                Standing::Behind { position, lane } => {
                    message.blocking_position = position.get();
                    if lane == Lane::ALL {
                        "ordered among all events".clone_into(&mut message.reason);
                    }
                    Shown::Blocked
                }
                Standing::Ready => Shown::Ready,
                Standing::Parked(parked) => {
                    message.reason = parked.reason.to_string();
                    message.attempt = parked.attempts.count;
                    message.time = Some(to_proto::timestamp(parked.at));
                    Shown::Parked
                }
                Standing::Ahead => Shown::NotScanned,
            }
        }
    };
    message.standing = standing.into();
    message
}
