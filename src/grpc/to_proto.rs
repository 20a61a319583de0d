//! From the model to messages.

use std::time::Duration;

use crate::{
    grpc::{
        pb::{self, append_result::Outcome},
        status::{event_status, inner_status},
        structs,
    },
    model::{Mending, MendingRule, OnInvalid, RecordedEvent, Timestamp, Violation, hex, limits},
    schema::{FieldSummary, FieldType, Form, SchemaKind, Summary, UnknownFields},
    store::{
        Admission, AgeBy, AppendOutcome, Appended, Dataset, DatasetStats, Durability, Error,
        FollowMessage, Gap, Namespace, NamespaceType, RefusalCount, Resource, Retention,
        SchemaVersion, show_id,
    },
};

pub(crate) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: time.seconds(), nanos }
}

pub(crate) fn append_response(appended: Appended) -> pb::AppendEventsResponse {
    let durability = match appended.durability() {
        Durability::Sync => pb::Durability::Sync,
        Durability::Buffered => pb::Durability::Buffered,
    };
    pb::AppendEventsResponse {
        results: appended.outcomes.into_iter().map(append_result).collect(),
        durable_position: appended.durable.get(),
        durability: durability.into(),
    }
}

fn append_result(outcome: AppendOutcome) -> pb::AppendResult {
    let mut result = pb::AppendResult::default();
    match outcome {
        AppendOutcome::Appended(position) => {
            result.set_outcome(Outcome::Appended);
            result.position = position.get();
        }
        AppendOutcome::Tagged(position, violations) => {
            result.set_outcome(Outcome::Tagged);
            result.position = position.get();
            result.violations = violations.into_iter().map(violation).collect();
        }
        AppendOutcome::Duplicate(position) => {
            result.set_outcome(Outcome::Duplicate);
            result.position = position.get();
        }
        AppendOutcome::Quarantined(id) => {
            result.set_outcome(Outcome::Quarantined);
            result.quarantine_id = show_id(id);
        }
        // Of replays only, which are not answered so.
        AppendOutcome::Gone => {
            result.set_outcome(Outcome::Rejected);
            let gone = Error::not_found(Resource::Quarantined, "");
            result.error = Some(inner_status(gone));
        }
        AppendOutcome::Rejected(problem) => {
            result.set_outcome(Outcome::Rejected);
            let violations =
                problem.fault.violations().iter().take(limits::QUARANTINE_VIOLATIONS_MAX);
            result.violations = violations.cloned().map(violation).collect();
            result.error = Some(event_status(problem));
        }
    }
    result
}

/// An event with its payload in the format asked for.
pub(crate) fn recorded_event(
    event: RecordedEvent,
    format: pb::PayloadFormat,
) -> Result<pb::RecordedEvent, Error> {
    let payload = match format {
        pb::PayloadFormat::Unspecified | pb::PayloadFormat::Json => {
            Some(pb::event::Payload::Json(event.payload))
        }
        pb::PayloadFormat::Struct => {
            let data = structs::from_json(&event.payload)
                .map_err(|message| Error::NotRepresentable { position: event.position, message })?;
            Some(pb::event::Payload::Data(data))
        }
        pb::PayloadFormat::None => None,
    };
    let identity = |it: crate::model::Identity| pb::Identity {
        namespace: it.namespace.into_bytes(),
        id: it.id.into_bytes(),
        primary: it.primary,
    };
    Ok(pb::RecordedEvent {
        position: event.position.get(),
        record_time: Some(timestamp(event.record_time)),
        dataset: event.dataset.to_string(),
        event_id: event.event_id.into_bytes(),
        event_type: event.event_type.into_bytes(),
        event_time: Some(timestamp(event.event_time)),
        identities: event.identities.into_iter().map(identity).collect(),
        schema_id: event.schema_id.to_string(),
        schema_version: event.schema_version,
        event_definitions: event.event_definitions.iter().map(ToString::to_string).collect(),
        delivery: event.delivery.map(|it| pb::Delivery {
            event_definition: it.event_definition.to_string(),
            version: it.version,
            namespace: it.namespace,
            key: it.key,
        }),
        mendings: event.mendings.into_iter().map(mending).collect(),
        quarantine_id: event.release.map(|it| show_id(it.id)).unwrap_or_default(),
        receive_time: event.release.map(|it| timestamp(it.receive_time)),
        dead_letter: event.dead_letter.map(|it| pb::DeadLetter {
            subscription: it.subscription,
            position: it.position.get(),
            reason: it.reason,
        }),
        event: payload.map(|payload| pb::Event { payload: Some(payload) }),
        violations: event.violations.into_iter().map(violation).collect(),
    })
}

fn mending(mending: Mending) -> pb::Mending {
    let rule = match mending.rule {
        MendingRule::NumberFromText => pb::MendingRule::NumberFromText,
        MendingRule::NullLeftOut => pb::MendingRule::NullLeftOut,
    };
    pb::Mending { path: mending.path, rule: rule.into(), original: mending.original }
}

pub(crate) fn recorded_events(
    events: Vec<RecordedEvent>,
    format: pb::PayloadFormat,
) -> Result<Vec<pb::RecordedEvent>, Error> {
    events.into_iter().map(|event| recorded_event(event, format)).collect()
}

/// A follow's message; `token` makes the resume token of a position.
pub(crate) fn follow_message(
    message: FollowMessage,
    format: pb::PayloadFormat,
    token: impl Fn(crate::model::Position) -> Vec<u8>,
) -> Result<pb::FollowEventsResponse, Error> {
    use pb::follow_events_response::Message;
    let message = match message {
        FollowMessage::Started { position, heartbeat_interval } => {
            Message::Started(pb::FollowStarted {
                position: position.get(),
                resume_token: token(position),
                heartbeat_interval: prost_types::Duration::try_from(heartbeat_interval).ok(),
            })
        }
        FollowMessage::Events(events) => {
            let last = events.last().map(|event| event.position).unwrap_or_default();
            let events = recorded_events(events, format)?;
            Message::Events(pb::EventBatch { events, resume_token: token(last) })
        }
        FollowMessage::Checkpoint { position, time } => Message::Checkpoint(pb::FollowCheckpoint {
            position: position.get(),
            time: Some(timestamp(time)),
            resume_token: token(position),
        }),
        FollowMessage::CaughtUp { position, time } => Message::CaughtUp(pb::CaughtUp {
            position: position.get(),
            time: Some(timestamp(time)),
        }),
        FollowMessage::FellBehind { position, lag } => Message::FellBehind(pb::FellBehind {
            position: position.get(),
            reason: format!("{lag} events behind; catching up from storage"),
        }),
        FollowMessage::Gap(missing) => Message::Gap(gap(missing)),
        FollowMessage::Heartbeat { position, time, lag } => Message::Heartbeat(pb::Heartbeat {
            position: position.get(),
            time: Some(timestamp(time)),
            lag,
        }),
    };
    Ok(pb::FollowEventsResponse { message: Some(message) })
}

/// How long a follower should wait before it reconnects to a server that restarts.
const RECONNECT_AFTER_SECONDS: i64 = 1;

/// The last message of a follow that ends with this error.
pub(crate) fn ending(error: &Error, resume_token: Vec<u8>) -> pb::FollowEventsResponse {
    let reason = if matches!(error, Error::Closing) {
        pb::ending::Reason::Shutdown
    } else if matches!(error, Error::NotFound { .. }) {
        pb::ending::Reason::FilterInvalid
    } else {
        pb::ending::Reason::Error
    };
    let ending = ending_message(reason, resume_token);
    let message = pb::follow_events_response::Message::Ending(ending);
    pb::FollowEventsResponse { message: Some(message) }
}

pub(crate) fn ending_message(reason: pb::ending::Reason, resume_token: Vec<u8>) -> pb::Ending {
    let retry_after = prost_types::Duration { seconds: RECONNECT_AFTER_SECONDS, nanos: 0 };
    pb::Ending { reason: reason.into(), resume_token, retry_after: Some(retry_after) }
}

pub(crate) fn violation(violation: Violation) -> pb::Violation {
    pb::Violation {
        instance_path: violation.instance_path,
        schema_path: violation.schema_path,
        keyword: violation.keyword,
        message: violation.message,
        expected: violation.expected,
        found: violation.found,
    }
}

/// A schema version without its document and references.
pub(crate) fn schema(version: &SchemaVersion) -> pb::Schema {
    pb::Schema {
        id: version.id.to_string(),
        version: version.version,
        kind: schema_kind(version.document.kind()).into(),
        title: version.document.title().to_owned(),
        document: String::new(),
        digest: hex(version.document.digest()),
        create_time: Some(timestamp(version.create_time)),
        built_in: version.built_in,
        references: Vec::new(),
        form: form(version.document.form()).into(),
        alt_id: version.document.alt_id().unwrap_or_default().to_owned(),
        deprecation: version.deprecation.as_ref().map(|it| pb::SchemaDeprecation {
            successor: it.successor.clone(),
            reason: it.reason.clone(),
            time: Some(timestamp(it.time)),
        }),
        status: schema_status(version).into(),
        etag: version.etag(),
    }
}

fn unknown_fields(unknown_fields: UnknownFields) -> pb::UnknownFields {
    match unknown_fields {
        UnknownFields::AsSchema => pb::UnknownFields::AsSchema,
        UnknownFields::Allow => pb::UnknownFields::Allow,
        UnknownFields::Refuse => pb::UnknownFields::Refuse,
    }
}

fn form(form: Form) -> pb::Form {
    match form {
        Form::Wire => pb::Form::Wire,
        Form::Long => pb::Form::Long,
    }
}

pub(crate) fn summary(summary: Summary) -> pb::SchemaSummary {
    let field = |it: FieldSummary| pb::SchemaField {
        path: it.path,
        long_name: it.long_name,
        r#type: it.type_.map_or("", FieldType::name).to_owned(),
        required: it.required,
        title: it.title,
        recursive: it.recursive,
    };
    pb::SchemaSummary {
        class: summary.class,
        behavior: summary.behavior,
        field_groups: summary.field_groups,
        fields: summary.fields.into_iter().map(field).collect(),
        truncated: summary.truncated,
        descriptors: Vec::new(),
    }
}

fn schema_status(version: &SchemaVersion) -> pb::SchemaStatus {
    if version.is_deprecated() { pb::SchemaStatus::Deprecated } else { pb::SchemaStatus::Active }
}

pub(crate) fn schema_reference(version: &SchemaVersion) -> pb::SchemaReference {
    pb::SchemaReference { id: version.id.to_string(), version: version.version }
}

pub(crate) fn schema_kind(kind: SchemaKind) -> pb::SchemaKind {
    match kind {
        SchemaKind::Behavior => pb::SchemaKind::Behavior,
        SchemaKind::Class => pb::SchemaKind::Class,
        SchemaKind::FieldGroup => pb::SchemaKind::FieldGroup,
        SchemaKind::DataType => pb::SchemaKind::DataType,
        SchemaKind::Schema => pb::SchemaKind::Schema,
    }
}

/// A dataset; `in_force` is the schema version that judges its next event.
pub(crate) fn dataset(
    dataset: &Dataset,
    in_force: u32,
    stats: Option<DatasetStats>,
    refused: Vec<RefusalCount>,
) -> pb::Dataset {
    let settings = &dataset.settings;
    let policy = match settings.pinned_version {
        0 => pb::VersionPolicy::Latest,
        _ => pb::VersionPolicy::Pinned,
    };
    pb::Dataset {
        name: dataset.name.to_string(),
        schema_id: settings.schema_id.to_string(),
        version_policy: policy.into(),
        schema_version: in_force,
        on_invalid: on_invalid(settings.on_invalid).into(),
        state: dataset_state(settings.closed).into(),
        description: settings.description.clone(),
        labels: settings.labels.clone().into_iter().collect(),
        etag: dataset.etag(),
        create_time: Some(timestamp(dataset.create_time)),
        update_time: Some(timestamp(dataset.update_time)),
        stats: stats.map(|stats| pb::DatasetStats {
            events: stats.events,
            first_position: stats.first.get(),
            last_position: stats.last.get(),
            payload_bytes: stats.payload_bytes,
            quarantined_events: stats.quarantined,
            tagged_events: stats.tagged,
            refused: refused.into_iter().map(refusal_count).collect(),
        }),
        retention: retention(&settings.retention),
        floor_position: dataset.floor.get(),
        unknown_fields: unknown_fields(settings.policies.unknown_fields).into(),
        payload_form: form(settings.policies.payload_form).into(),
        lenient: settings.policies.lenient,
        timestamps: timestamps(&settings.admission),
        limits: limits(&settings.admission),
        dedupe_horizon: settings
            .dedupe_horizon
            .and_then(|it| prost_types::Duration::try_from(it).ok()),
    }
}

pub(crate) fn refusal_count(count: RefusalCount) -> pb::RefusalCount {
    let RefusalCount { reason, last_hour, since_start } = count;
    pb::RefusalCount { reason: reason.to_owned(), last_hour, since_start }
}

/// `None` when there is no rule.
fn timestamps(admission: &Admission) -> Option<pb::TimestampPolicy> {
    let duration = |it: Option<Duration>| prost_types::Duration::try_from(it?).ok();
    let message = pb::TimestampPolicy {
        max_age: duration(admission.max_age),
        max_ahead: duration(admission.max_ahead),
    };
    (message != pb::TimestampPolicy::default()).then_some(message)
}

/// `None` when there is no rule.
fn limits(admission: &Admission) -> Option<pb::DatasetLimits> {
    let message = pb::DatasetLimits {
        max_event_bytes: admission.max_event_bytes,
        max_batch_events: admission.max_batch_events,
        max_events_per_second: admission.max_events_per_second,
    };
    (message != pb::DatasetLimits::default()).then_some(message)
}

/// `None` when there is no rule.
fn retention(retention: &Retention) -> Option<pb::Retention> {
    let age_by = match retention.age_by {
        AgeBy::RecordTime => pb::AgeBy::RecordTime,
        AgeBy::EventTime => pb::AgeBy::EventTime,
    };
    let max_age = retention.max_age.and_then(|age| prost_types::Duration::try_from(age).ok());
    let age_by = if max_age.is_some() { age_by } else { pb::AgeBy::Unspecified };
    let Retention { max_events, max_bytes, .. } = *retention;
    let message = pb::Retention { max_age, age_by: age_by.into(), max_events, max_bytes };
    (message != pb::Retention::default()).then_some(message)
}

pub(crate) fn gap(gap: Gap) -> pb::Gap {
    let reason = pb::gap::Reason::Retention.into();
    pb::Gap { from: gap.from.get(), to: gap.to.get(), reason }
}

fn on_invalid(policy: OnInvalid) -> pb::OnInvalid {
    match policy {
        OnInvalid::Reject => pb::OnInvalid::Reject,
        OnInvalid::Quarantine => pb::OnInvalid::Quarantine,
        OnInvalid::Tag => pb::OnInvalid::Tag,
    }
}

fn dataset_state(closed: bool) -> pb::DatasetState {
    if closed { pb::DatasetState::Closed } else { pb::DatasetState::Open }
}

pub(crate) fn namespace(namespace: &Namespace) -> pb::Namespace {
    let time = |time| (!namespace.built_in).then(|| timestamp(time));
    pb::Namespace {
        code: namespace.code.to_string(),
        r#type: namespace_type(namespace.settings.kind).into(),
        display_name: namespace.settings.display_name.clone(),
        description: namespace.settings.description.clone(),
        built_in: namespace.built_in,
        etag: namespace.etag(),
        create_time: time(namespace.create_time),
        update_time: time(namespace.update_time),
    }
}

fn namespace_type(kind: NamespaceType) -> pb::NamespaceType {
    match kind {
        NamespaceType::Cookie => pb::NamespaceType::Cookie,
        NamespaceType::CrossDevice => pb::NamespaceType::CrossDevice,
        NamespaceType::Device => pb::NamespaceType::Device,
        NamespaceType::Email => pb::NamespaceType::Email,
        NamespaceType::Phone => pb::NamespaceType::Phone,
        NamespaceType::NonPeople => pb::NamespaceType::NonPeople,
        NamespaceType::Partner => pb::NamespaceType::Partner,
    }
}
