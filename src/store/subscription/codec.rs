//! Records of subscriptions: between what is on disk and what is in memory.

use std::{sync::Arc, time::Duration};

use crate::{
    delivery::{
        Attempts, Backoff, Failure, FailureKind, Hold, Lane, LaneSelector, NoLanePolicy, Ordering,
        ParkPolicy, Parked, ParkedBy, ParkedFull, ParkedState, Settings,
    },
    model::{
        DatasetName, EventFilter, EventTypePattern, IdentityPattern, Invalid, Position,
        SchemaVersions, Tagged, TimeRange, Timestamp,
    },
    storage::pb::{
        AttemptsRecord, DeliveryRecord, FailureRecord, FilterRecord, IdentityPatternRecord,
        ParkedRecord, SchemaVersionsRecord, delivery_record, failure_record, parked_record,
    },
};

pub(crate) fn micros(time: i64) -> Timestamp {
    Timestamp::from_micros(time)
}

pub(crate) fn duration_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn attempts_record(attempts: &Attempts) -> AttemptsRecord {
    let failures = attempts.failures.iter().map(|it| FailureRecord {
        time_us: it.at.micros(),
        consumer: it.consumer.to_string(),
        kind: match it.kind {
            FailureKind::Nacked => failure_record::Kind::Nacked,
            FailureKind::Expired => failure_record::Kind::Expired,
            FailureKind::Replaced => failure_record::Kind::Replaced,
        }
        .into(),
        reason: it.reason.to_string(),
    });
    AttemptsRecord {
        count: attempts.count,
        total: attempts.total,
        first_delivered_us: attempts.first_delivered_at.map(Timestamp::micros),
        retry_us: attempts.retry_at.micros(),
        failures: failures.collect(),
    }
}

pub(crate) fn attempts_of(record: AttemptsRecord) -> Attempts {
    let failures = record.failures.into_iter().map(|it| Failure {
        at: micros(it.time_us),
        kind: match it.kind() {
            failure_record::Kind::Nacked => FailureKind::Nacked,
            failure_record::Kind::Expired => FailureKind::Expired,
            failure_record::Kind::Replaced => FailureKind::Replaced,
        },
        consumer: it.consumer.into(),
        reason: it.reason.into(),
    });
    Attempts {
        count: record.count,
        total: record.total,
        first_delivered_at: record.first_delivered_us.map(micros),
        retry_at: micros(record.retry_us),
        failures: failures.collect(),
    }
}

pub(crate) fn parked_record(parked: &Parked) -> ParkedRecord {
    let (by, behind) = match parked.by {
        ParkedBy::MaxAttempts => (parked_record::By::MaxAttempts, Position::START),
        ParkedBy::Client => (parked_record::By::Client, Position::START),
        ParkedBy::NoLane => (parked_record::By::NoLane, Position::START),
        ParkedBy::Convoy(behind) => (parked_record::By::Convoy, behind),
    };
    let (hold, head) = match parked.hold {
        Hold::None => (parked_record::Hold::None, Position::START),
        Hold::Block => (parked_record::Hold::Block, Position::START),
        Hold::Convoy(head) => (parked_record::Hold::ConvoyHold, head),
    };
    ParkedRecord {
        replaying: parked.state == ParkedState::Replaying,
        time_us: parked.at.micros(),
        by: by.into(),
        behind: behind.get(),
        reason: parked.reason.to_string(),
        lanes: parked.lanes.iter().map(|it| it.get()).collect(),
        bytes: parked.bytes,
        payload_digest: parked.digest,
        hold: hold.into(),
        head: head.get(),
        attempts: Some(attempts_record(&parked.attempts)),
    }
}

pub(crate) fn parked_of(record: ParkedRecord) -> Parked {
    let (behind, head) = (Position::new(record.behind), Position::new(record.head));
    Parked {
        state: if record.replaying { ParkedState::Replaying } else { ParkedState::Waiting },
        at: micros(record.time_us),
        by: match record.by() {
            parked_record::By::MaxAttempts => ParkedBy::MaxAttempts,
            parked_record::By::Client => ParkedBy::Client,
            parked_record::By::NoLane => ParkedBy::NoLane,
            parked_record::By::Convoy => ParkedBy::Convoy(behind),
        },
        hold: match record.hold() {
            parked_record::Hold::None => Hold::None,
            parked_record::Hold::Block => Hold::Block,
            parked_record::Hold::ConvoyHold => Hold::Convoy(head),
        },
        reason: record.reason.into(),
        lanes: record.lanes.iter().map(|it| Lane::new(*it)).collect(),
        bytes: record.bytes,
        digest: record.payload_digest,
        attempts: record.attempts.map(attempts_of).unwrap_or_default(),
    }
}

pub(crate) fn delivery_record(settings: &Settings) -> DeliveryRecord {
    let us = duration_us;
    let (lanes, namespaces) = match &settings.lane_selector {
        LaneSelector::All => (delivery_record::Lanes::All, Vec::new()),
        LaneSelector::Primary => (delivery_record::Lanes::Primary, Vec::new()),
        LaneSelector::Namespaces(codes) => {
            (delivery_record::Lanes::Namespaces, codes.iter().map(ToString::to_string).collect())
        }
    };
    DeliveryRecord {
        ordering: match settings.ordering {
            Ordering::PerIdentity => delivery_record::Ordering::PerIdentity,
            Ordering::Unordered => delivery_record::Ordering::Unordered,
            Ordering::Total => delivery_record::Ordering::Total,
        }
        .into(),
        lanes: lanes.into(),
        namespaces,
        no_lane: match settings.no_lane_policy {
            NoLanePolicy::Unordered => delivery_record::NoLane::Free,
            NoLanePolicy::SingleLane => delivery_record::NoLane::Single,
            NoLanePolicy::Park => delivery_record::NoLane::Park,
        }
        .into(),
        max_in_flight_per_lane: settings.max_in_flight_per_lane,
        ack_deadline_us: us(settings.ack_deadline),
        max_attempts: settings.max_attempts,
        backoff_min_us: us(settings.backoff.min),
        backoff_max_us: us(settings.backoff.max),
        park_policy: match settings.park_policy {
            ParkPolicy::Skip => delivery_record::ParkPolicy::Skip,
            ParkPolicy::Block => delivery_record::ParkPolicy::Block,
            ParkPolicy::Convoy => delivery_record::ParkPolicy::Convoy,
        }
        .into(),
        window_limit: settings.window_limit as u64,
        max_parked: settings.max_parked as u64,
        stop_when_parked_full: settings.parked_full == ParkedFull::Stop,
        session_timeout_us: us(settings.session_timeout),
        quarantine_after: settings.quarantine_after,
        restart_grace_us: us(settings.restart_grace),
    }
}

pub(crate) fn settings_of(record: &DeliveryRecord) -> Settings {
    let size = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
    Settings {
        ordering: match record.ordering() {
            delivery_record::Ordering::PerIdentity => Ordering::PerIdentity,
            delivery_record::Ordering::Unordered => Ordering::Unordered,
            delivery_record::Ordering::Total => Ordering::Total,
        },
        lane_selector: match record.lanes() {
            delivery_record::Lanes::All => LaneSelector::All,
            delivery_record::Lanes::Primary => LaneSelector::Primary,
            delivery_record::Lanes::Namespaces => {
                let codes = record.namespaces.iter().map(|it| Arc::from(it.as_str()));
                LaneSelector::Namespaces(codes.collect())
            }
        },
        no_lane_policy: match record.no_lane() {
            delivery_record::NoLane::Free => NoLanePolicy::Unordered,
            delivery_record::NoLane::Single => NoLanePolicy::SingleLane,
            delivery_record::NoLane::Park => NoLanePolicy::Park,
        },
        max_in_flight_per_lane: record.max_in_flight_per_lane,
        ack_deadline: Duration::from_micros(record.ack_deadline_us),
        max_attempts: record.max_attempts,
        backoff: Backoff {
            min: Duration::from_micros(record.backoff_min_us),
            max: Duration::from_micros(record.backoff_max_us),
        },
        park_policy: match record.park_policy() {
            delivery_record::ParkPolicy::Skip => ParkPolicy::Skip,
            delivery_record::ParkPolicy::Block => ParkPolicy::Block,
            delivery_record::ParkPolicy::Convoy => ParkPolicy::Convoy,
        },
        window_limit: size(record.window_limit),
        max_parked: size(record.max_parked),
        parked_full: if record.stop_when_parked_full {
            ParkedFull::Stop
        } else {
            ParkedFull::DiscardOldest
        },
        session_timeout: Duration::from_micros(record.session_timeout_us),
        quarantine_after: record.quarantine_after,
        restart_grace: Duration::from_micros(record.restart_grace_us),
    }
}

pub(crate) fn filter_record(filter: &EventFilter) -> FilterRecord {
    let us = |it: Option<Timestamp>| it.map(Timestamp::micros);
    FilterRecord {
        datasets: filter.datasets.iter().map(ToString::to_string).collect(),
        event_types: filter.event_types.iter().map(ToString::to_string).collect(),
        schemas: filter.schemas.iter().map(ToString::to_string).collect(),
        schema_versions: filter
            .schema_versions
            .iter()
            .map(|it| SchemaVersionsRecord {
                schema_id: it.id.to_string(),
                from: it.from,
                to: it.to,
            })
            .collect(),
        identities: filter
            .identities
            .iter()
            .map(|it| IdentityPatternRecord {
                namespace: it.namespace.to_string(),
                id: it.id.as_ref().map(ToString::to_string),
            })
            .collect(),
        event_time_start_us: us(filter.event_time.start),
        event_time_end_us: us(filter.event_time.end),
        record_time_start_us: us(filter.record_time.start),
        record_time_end_us: us(filter.record_time.end),
        event_definitions: filter.event_definitions.iter().map(ToString::to_string).collect(),
        r#where: filter.condition.as_deref().unwrap_or_default().to_owned(),
        deliver_as: filter.deliver_as.as_deref().unwrap_or_default().to_owned(),
        tagged: match filter.tagged {
            Tagged::LeftOut => 0,
            Tagged::Included => 1,
            Tagged::Only => 2,
        },
    }
}

pub(crate) fn filter_of(record: FilterRecord) -> Result<EventFilter, Invalid> {
    let time = |it: Option<i64>| it.map(micros);
    let text = |it: String| (!it.is_empty()).then(|| Arc::from(it));
    let datasets = record.datasets.iter().map(|it| DatasetName::parse("dataset", it));
    Ok(EventFilter {
        datasets: datasets.collect::<Result<_, _>>()?,
        event_types: record
            .event_types
            .iter()
            .map(|it| match it.strip_suffix('*') {
                Some(prefix) => EventTypePattern::Prefix(prefix.into()),
                None => EventTypePattern::Exact(it.as_str().into()),
            })
            .collect(),
        schemas: record.schemas.into_iter().map(Arc::from).collect(),
        schema_versions: record
            .schema_versions
            .into_iter()
            .map(|it| SchemaVersions { id: it.schema_id.into(), from: it.from, to: it.to })
            .collect(),
        identities: record
            .identities
            .into_iter()
            .map(|it| IdentityPattern { namespace: it.namespace.into(), id: it.id.map(Arc::from) })
            .collect(),
        event_time: TimeRange {
            start: time(record.event_time_start_us),
            end: time(record.event_time_end_us),
        },
        record_time: TimeRange {
            start: time(record.record_time_start_us),
            end: time(record.record_time_end_us),
        },
        event_definitions: record.event_definitions.into_iter().map(Arc::from).collect(),
        condition: text(record.r#where),
        deliver_as: text(record.deliver_as),
        tagged: match record.tagged {
            1 => Tagged::Included,
            2 => Tagged::Only,
            _ => Tagged::LeftOut,
        },
    })
}
