//! The one place where errors become gRPC statuses.
//!
//! Every status carries `google.rpc.ErrorInfo`; `docs/errors.md` is the same table for people.

use std::{collections::HashMap, time::Duration};

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

use crate::{
    grpc::{pb::ErrorReason, subscriptions},
    model::{Invalid, Position, limits},
    schema::{Change, SchemaProblem},
    store::{Affected, ConditionFailure, Error, EventFault, EventProblem, FailureKind, Resource},
};

/// The domain of every reason.
pub const ERROR_DOMAIN: &str = "milepost";
/// How long a client should wait when the queue is full: a few commit groups.
const RETRY_BUSY: Duration = Duration::from_millis(50);
/// How long a client should wait when the server shuts down, or has all the readers it may have.
const RETRY_LATER: Duration = Duration::from_secs(1);
/// How long a client should wait when the disk is low: somebody has to make room.
const RETRY_DISK_LOW: Duration = Duration::from_secs(10);
/// Bytes of all descriptions in one status: gRPC carries it in a header, and clients refuse large
/// ones.
const DESCRIPTIONS_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a status's message, and of one name or value in its details. Percent-encoded it may be three
/// times as long, and it stands there twice.
const TEXT_BYTES_MAX: usize = 1024;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details = info(reason(&error), metadata(&error));
        let violations = field_violations(&error);
        if !violations.is_empty() {
            details.set_bad_request(fit(violations));
        }
        if let Error::SchemaInUse { name, users } | Error::DefinitionInUse { name, users, .. } =
            &error
        {
            let violation = |user: &String| PreconditionViolation::new("USED_BY", name, user);
            let violations: Vec<_> = users.iter().map(violation).collect();
            details.set_precondition_failure(violations);
        }
        if let Error::Incompatible(affected) = &error {
            details.set_precondition_failure(incompatibilities(affected));
        }
        if let Error::Conditions { failures, .. } = &error {
            let violation = |it: &ConditionFailure| {
                PreconditionViolation::new("CONDITION", condition_at(it), it.summary())
            };
            details.set_precondition_failure(failures.iter().map(violation).collect::<Vec<_>>());
        }
        if let Some(delay) = retry_delay(&error) {
            details.set_retry_info(Some(delay));
        }
        if let Error::NotFound { kind, name } | Error::Exists { kind, name, .. } = &error {
            details.set_resource_info(kind.to_string(), clip(name), "", "");
        }
        Self::with_error_details(code(&error), clip(&error.to_string()), details)
    }
}

/// As much of a text as a header carries: what a client sent, and is told again, may be long.
fn clip(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Event definitions that are not true to the schema any more, and breaking changes (kind, schema with
/// place, and what was and is): as many as a header carries.
fn incompatibilities(affected: &[Affected]) -> Vec<PreconditionViolation> {
    let changes =
        affected.iter().flat_map(|it| it.changes.breaking().map(move |change| (it, change)));
    let mut bytes = 0;
    let change = |(it, change): (&Affected, &Change)| {
        let subject = format!("{}#{}", it.schema_id, change.path);
        PreconditionViolation::new(change.kind.name(), subject, change.summary())
    };
    let definition = |(name, problem): &(String, String)| {
        PreconditionViolation::new("EVENT_DEFINITION", name, problem)
    };
    let definitions = affected.iter().flat_map(|it| &it.event_definitions).map(definition);
    definitions
        .chain(changes.map(change))
        .take_while(|it| {
            bytes += it.subject.len() + it.description.len();
            bytes <= DESCRIPTIONS_BYTES_MAX
        })
        .collect()
}

/// What the client sees of a fault of one event in a `PER_EVENT` batch.
pub(crate) fn event_status(problem: EventProblem) -> tonic_types::Status {
    let message = problem.fault.summary();
    let status = Status::from(Error::Events(vec![problem]));
    let details = tonic_types::Status::decode(status.details()).unwrap_or_default().details;
    tonic_types::Status { code: status.code().into(), message, details }
}

/// The reason of what is wrong with one event, as `ErrorInfo` has it.
pub(crate) fn event_reason(fault: &EventFault) -> &'static str {
    reason_of_event(Some(fault)).as_str_name()
}

/// The reason of an error, as `ErrorInfo` has it.
pub(crate) fn reason_name(error: &Error) -> &'static str {
    reason(error).as_str_name()
}

/// A status inside a message.
pub(crate) fn inner_status(error: Error) -> tonic_types::Status {
    let status = Status::from(error);
    let details = tonic_types::Status::decode(status.details()).unwrap_or_default().details;
    tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details,
    }
}

/// A status of the transport's own, given the details that every status has.
pub(crate) fn transport(code: Code, reason: ErrorReason, message: &str) -> Status {
    Status::with_error_details(code, message, info(reason, HashMap::new()))
}

fn info(reason: ErrorReason, metadata: HashMap<String, String>) -> ErrorDetails {
    let metadata: HashMap<_, _> =
        metadata.into_iter().map(|(key, value)| (key, clip(&value))).collect();
    ErrorDetails::with_error_info(reason.as_str_name(), ERROR_DOMAIN, metadata)
}

fn code(error: &Error) -> Code {
    match error {
        Error::Invalid(_)
        | Error::OutOfBounds(_)
        | Error::Filter(_)
        | Error::PageToken
        | Error::ResumeToken
        | Error::Batch(_)
        | Error::RepeatedId { .. }
        | Error::Definition(_)
        | Error::Descriptor(_)
        | Error::Schema(_) => Code::InvalidArgument,
        Error::Events(problems) => match problems.first().map(|it| &it.fault) {
            Some(EventFault::Conflict { .. }) => Code::AlreadyExists,
            Some(EventFault::Malformed(_) | EventFault::Violates(_) | EventFault::OutOfTime(_))
            | None => Code::InvalidArgument,
        },
        Error::Unimplemented(_) => Code::Unimplemented,
        Error::NotFound { .. } => Code::NotFound,
        Error::Exists { .. } => Code::AlreadyExists,
        Error::Etag { .. } | Error::Conditions { .. } => Code::Aborted,
        Error::EpochChanged { .. }
        | Error::NotRepresentable { .. }
        | Error::NotEmpty { .. }
        | Error::DatasetClosed(_)
        | Error::SchemaInUse { .. }
        | Error::DefinitionInUse { .. }
        | Error::Backfill { .. }
        | Error::SchemaBuiltIn(_)
        | Error::Incompatible(_)
        | Error::NoSample(_)
        | Error::Stale(_)
        | Error::BuiltIn(_) => Code::FailedPrecondition,
        Error::Beyond { .. } | Error::Trimmed { .. } => Code::OutOfRange,
        Error::Deadline { .. } => Code::DeadlineExceeded,
        Error::Limit { .. }
        | Error::Busy(_)
        | Error::Readers { .. }
        | Error::Streams
        | Error::TooFast { .. }
        | Error::DiskLow { .. }
        | Error::ConditionsCostly => Code::ResourceExhausted,
        Error::Closing | Error::Poisoned => Code::Unavailable,
        Error::Corrupt => Code::DataLoss,
        Error::Internal => Code::Internal,
    }
}

fn reason_of_event(fault: Option<&EventFault>) -> ErrorReason {
    match fault {
        Some(EventFault::Conflict { .. }) => ErrorReason::EventIdConflict,
        Some(EventFault::Violates(_)) => ErrorReason::EventViolatesSchema,
        Some(EventFault::OutOfTime(_)) => ErrorReason::EventTimeOutOfRange,
        Some(EventFault::Malformed(_)) | None => ErrorReason::EventInvalid,
    }
}

fn reason(error: &Error) -> ErrorReason {
    match error {
        Error::Invalid(_) => ErrorReason::ArgumentInvalid,
        Error::OutOfBounds(_) => ErrorReason::ArgumentOutOfBounds,
        Error::Filter(_) => ErrorReason::FilterInvalid,
        Error::Unimplemented(_) => ErrorReason::NotImplemented,
        Error::PageToken => ErrorReason::PageTokenInvalid,
        Error::ResumeToken => ErrorReason::ResumeTokenInvalid,
        Error::EpochChanged { .. } => ErrorReason::LogEpochChanged,
        Error::Beyond { .. } => ErrorReason::PositionOutOfRange,
        Error::Trimmed { .. } => ErrorReason::PositionTrimmed,
        Error::Events(problems) => reason_of_event(problems.first().map(|it| &it.fault)),
        Error::Stale(_) => ErrorReason::LeaseStale,
        Error::Conditions { .. } => ErrorReason::ConditionFailed,
        Error::ConditionsCostly => ErrorReason::ConditionsTooCostly,
        Error::Batch(_) => ErrorReason::BatchTooLarge,
        Error::NotRepresentable { .. } => ErrorReason::PayloadNotRepresentable,
        Error::NotFound { kind, .. } => match kind {
            Resource::Dataset => ErrorReason::DatasetNotFound,
            Resource::Schema => ErrorReason::SchemaNotFound,
            Resource::Descriptor => ErrorReason::DescriptorNotFound,
            Resource::Namespace => ErrorReason::NamespaceNotFound,
            Resource::Event => ErrorReason::EventNotFound,
            Resource::Quarantined => ErrorReason::QuarantinedNotFound,
            Resource::EventDefinition => ErrorReason::EventDefinitionNotFound,
            Resource::Subscription => ErrorReason::SubscriptionNotFound,
            Resource::Snapshot => ErrorReason::SnapshotNotFound,
            Resource::Parked => ErrorReason::ParkedNotFound,
        },
        Error::Exists { kind, .. } => match kind {
            Resource::Descriptor => ErrorReason::DescriptorExists,
            Resource::Namespace => ErrorReason::NamespaceExists,
            Resource::EventDefinition => ErrorReason::EventDefinitionExists,
            Resource::Subscription => ErrorReason::SubscriptionExists,
            Resource::Snapshot => ErrorReason::SnapshotExists,
            Resource::Dataset
            | Resource::Schema
            | Resource::Event
            | Resource::Quarantined
            | Resource::Parked => ErrorReason::DatasetExists,
        },
        Error::NotEmpty { .. } => ErrorReason::DatasetNotEmpty,
        Error::DatasetClosed(_) => ErrorReason::DatasetClosed,
        Error::Etag { .. } => ErrorReason::EtagMismatch,
        Error::BuiltIn(_) => ErrorReason::NamespaceBuiltIn,
        Error::Descriptor(_) => ErrorReason::DescriptorInvalid,
        Error::Schema(problem) => match problem {
            SchemaProblem::Descriptors(_) => ErrorReason::DescriptorInvalid,
            SchemaProblem::Invalid(_) | SchemaProblem::TooLarge { .. } => {
                ErrorReason::SchemaInvalid
            }
            SchemaProblem::Composition(_) => ErrorReason::CompositionInvalid,
            SchemaProblem::Tenant(_) => ErrorReason::FieldOutsideTenant,
            SchemaProblem::Unresolved { .. } => ErrorReason::ReferenceUnresolved,
            SchemaProblem::Cycle { .. } => ErrorReason::ReferenceCycle,
        },
        Error::SchemaInUse { .. } => ErrorReason::SchemaInUse,
        Error::Definition(_) => ErrorReason::EventDefinitionInvalid,
        Error::DefinitionInUse { .. } => ErrorReason::EventDefinitionInUse,
        Error::Backfill { .. } => ErrorReason::BackfillRefused,
        Error::NoSample(_) => ErrorReason::SampleNotFound,
        Error::Incompatible(_) => ErrorReason::SchemaIncompatible,
        Error::SchemaBuiltIn(_) => ErrorReason::SchemaBuiltIn,
        Error::RepeatedId { .. } => ErrorReason::SchemaIdRepeated,
        Error::Limit { .. } => ErrorReason::LimitExceeded,
        Error::Busy(_) => ErrorReason::QueueFull,
        Error::Readers { .. } => ErrorReason::ReadersFull,
        Error::Streams => ErrorReason::StreamsFull,
        Error::TooFast { .. } => ErrorReason::RateExceeded,
        Error::DiskLow { .. } => ErrorReason::DiskLow,
        Error::Deadline { .. } => ErrorReason::DeadlineExceeded,
        Error::Closing => ErrorReason::ServerClosing,
        Error::Poisoned => ErrorReason::StorePoisoned,
        Error::Corrupt => ErrorReason::DataCorrupt,
        Error::Internal => ErrorReason::Internal,
    }
}

/// What a program needs beside the reason.
fn metadata(error: &Error) -> HashMap<String, String> {
    if let Error::Conditions { failures, last } = error {
        return condition_metadata(failures, *last);
    }
    let pairs: Vec<(&str, String)> = match error {
        Error::EpochChanged { nearest } => vec![("nearest_position", nearest.to_string())],
        Error::Beyond { position, last } => {
            vec![("position", position.to_string()), ("last_position", last.to_string())]
        }
        Error::Trimmed { position, floor } => {
            vec![("position", position.to_string()), ("floor_position", floor.to_string())]
        }
        Error::NotRepresentable { position, .. } => vec![("position", position.to_string())],
        Error::NotEmpty { name, events } => {
            vec![("dataset", name.clone()), ("events", events.to_string())]
        }
        Error::Etag { current, .. } => vec![("etag", current.clone())],
        Error::Deadline { begun } => {
            vec![("written", if *begun { "perhaps" } else { "nothing" }.to_owned())]
        }
        Error::Limit { max, .. } | Error::Readers { max, .. } => vec![("max", max.to_string())],
        Error::ConditionsCostly => vec![("max", limits::CONDITION_ENTRIES_MAX.to_string())],
        Error::Stale(outcomes) => match outcomes.first() {
            Some((index, position, current)) => vec![
                ("outcome", index.to_string()),
                ("position", position.to_string()),
                ("current", subscriptions::current(*current).as_str_name().to_owned()),
            ],
            None => Vec::new(),
        },
        Error::Streams => vec![("max", limits::APPEND_STREAMS_MAX.to_string())],
        Error::TooFast { per_second, .. } => {
            vec![("max_events_per_second", per_second.to_string())]
        }
        Error::DiskLow { free, reserve } => {
            vec![("free_bytes", free.to_string()), ("reserve_bytes", reserve.to_string())]
        }
        Error::Events(problems) => {
            let mut pairs = vec![("events", problems.len().to_string())];
            if let Some(EventFault::Conflict { event_id, position, sent_digest, stored_digest }) =
                problems.first().map(|it| &it.fault)
            {
                pairs.push(("event_id", event_id.clone()));
                pairs.push(("position", position.to_string()));
                pairs.push(("sent_digest", sent_digest.clone()));
                pairs.push(("stored_digest", stored_digest.clone()));
            }
            pairs
        }
        Error::Schema(SchemaProblem::Unresolved { reference, .. }) => {
            vec![("reference", reference.clone())]
        }
        Error::Invalid(_)
        | Error::OutOfBounds(_)
        | Error::Filter(_)
        | Error::Unimplemented(_)
        | Error::PageToken
        | Error::ResumeToken
        | Error::Batch(_)
        | Error::NotFound { .. }
        | Error::Exists { .. }
        | Error::DatasetClosed(_)
        | Error::BuiltIn(_)
        | Error::Conditions { .. }
        | Error::Schema(_)
        | Error::Descriptor(_)
        | Error::RepeatedId { .. }
        | Error::SchemaInUse { .. }
        | Error::Definition(_)
        | Error::DefinitionInUse { .. }
        | Error::Backfill { .. }
        | Error::SchemaBuiltIn(_)
        | Error::Incompatible(_)
        | Error::NoSample(_)
        | Error::Busy(_)
        | Error::Closing
        | Error::Poisoned
        | Error::Corrupt
        | Error::Internal => Vec::new(),
    };
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn condition_at(failure: &ConditionFailure) -> String {
    format!("conditions[{}]", failure.index)
}

/// For each condition that does not hold, what a sender needs to decide anew.
fn condition_metadata(failures: &[ConditionFailure], last: Position) -> HashMap<String, String> {
    let mut pairs = HashMap::from([("last_position".to_owned(), last.to_string())]);
    for ConditionFailure { index, kind } in failures {
        let mut put = |name: &str, value: String| {
            pairs.insert(format!("condition_{index}_{name}"), value);
        };
        match kind {
            FailureKind::LastPosition { first, last, .. }
            | FailureKind::Match { first, last, .. } => {
                put("first_position", first.to_string());
                put("last_position", last.to_string());
            }
            FailureKind::SchemaVersion { found, .. } => put("schema_version", found.to_string()),
        }
    }
    pairs
}

fn retry_delay(error: &Error) -> Option<Duration> {
    if let Error::TooFast { wait, .. } = error {
        Some(*wait)
    } else if matches!(error, Error::Busy(_)) {
        Some(RETRY_BUSY)
    } else if matches!(error, Error::Closing | Error::Readers { .. } | Error::Streams) {
        Some(RETRY_LATER)
    } else if matches!(error, Error::DiskLow { .. }) {
        Some(RETRY_DISK_LOW)
    } else {
        None
    }
}

fn field_violations(error: &Error) -> Vec<FieldViolation> {
    let one = |field: &str, message: &str| vec![FieldViolation::new(field, message)];
    if let Error::Invalid(invalid) | Error::Filter(invalid) | Error::Definition(invalid) = error {
        invalid.iter().map(field).collect()
    } else if let Error::OutOfBounds(invalid) = error {
        vec![field(invalid)]
    } else if let Error::Events(problems) = error {
        let all = problems.iter().flat_map(problem_violations);
        all.take(limits::VIOLATIONS_MAX).collect()
    } else if let Error::Schema(problem) = error {
        schema_violations(problem)
    } else if let Error::Descriptor(faults) = error {
        let at = |it: &Invalid| format!("descriptor.{}", it.field);
        faults.iter().map(|it| FieldViolation::new(at(it), &it.message)).collect()
    } else if matches!(error, Error::RepeatedId { .. }) {
        one("document/$id", &error.to_string())
    } else if let Error::Batch(message) = error {
        one("events", message)
    } else if matches!(error, Error::PageToken) {
        one("page_token", "not a token of this list")
    } else if matches!(error, Error::ResumeToken) {
        one("start.resume_token", "not a token of this server")
    } else {
        Vec::new()
    }
}

fn field(invalid: &Invalid) -> FieldViolation {
    FieldViolation::new(&invalid.field, &invalid.message)
}

fn problem_violations(problem: &EventProblem) -> Vec<FieldViolation> {
    let at = format!("events[{}].payload", problem.index);
    match &problem.fault {
        EventFault::Malformed(violations)
        | EventFault::Violates(violations)
        | EventFault::OutOfTime(violations) => violations
            .iter()
            .map(|it| {
                let description = format!("{}: {}", it.keyword, it.message);
                FieldViolation::new(format!("{at}{}", it.instance_path), description)
            })
            .collect(),
        EventFault::Conflict { .. } => {
            vec![FieldViolation::new(format!("{at}/_id"), problem.fault.summary())]
        }
    }
}

fn schema_violations(problem: &SchemaProblem) -> Vec<FieldViolation> {
    let at = |pointer: &str| format!("document{pointer}");
    match problem {
        SchemaProblem::Invalid(faults)
        | SchemaProblem::Composition(faults)
        | SchemaProblem::Tenant(faults)
        | SchemaProblem::Descriptors(faults) => faults
            .iter()
            .take(limits::VIOLATIONS_MAX)
            .map(|it| FieldViolation::new(at(&it.pointer), &it.message))
            .collect(),
        SchemaProblem::Unresolved { pointer, .. } => {
            vec![FieldViolation::new(at(pointer), problem.to_string())]
        }
        SchemaProblem::Cycle { pointer, message }
        | SchemaProblem::TooLarge { pointer, message } => {
            vec![FieldViolation::new(at(pointer), message)]
        }
    }
}

/// As many violations as a header carries; the last one says how many are left out.
fn fit(violations: Vec<FieldViolation>) -> Vec<FieldViolation> {
    let all = violations.len();
    let mut bytes = 0;
    let mut kept: Vec<_> = violations
        .into_iter()
        .take_while(|it| {
            bytes += it.field.len() + it.description.len();
            bytes <= DESCRIPTIONS_BYTES_MAX
        })
        .collect();
    if kept.len() < all {
        let left = all - kept.len();
        kept.push(FieldViolation::new("", format!("and {left} more that do not fit here")));
    }
    kept
}
