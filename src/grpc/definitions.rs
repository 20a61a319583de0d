//! Event definitions, from messages and to messages.

use std::time::Duration;

use prost_types::FieldMask;

use crate::{
    grpc::{dataset_service::bad_path, from_proto, pb, to_proto},
    model::{DefinitionName, TimeRange},
    store::{
        DefinitionChanges, DefinitionKind, DefinitionSettings, DefinitionSpec, DefinitionState,
        DefinitionVersion, Error, EventDefinition, EventStore,
    },
};

/// Versions in one answer.
const VERSIONS_SHOWN_MAX: usize = 100;
const AT: &str = "event_definition";

pub(super) fn required(
    definition: Option<pb::EventDefinition>,
) -> Result<pb::EventDefinition, Error> {
    definition.ok_or_else(|| Error::invalid(AT, "missing"))
}

/// What a definition's owner chooses.
pub(super) fn settings(
    definition: pb::EventDefinition,
) -> Result<(DefinitionName, DefinitionSettings), Error> {
    let name = DefinitionName::parse(&format!("{AT}.name"), &definition.name)?;
    if definition.schema_id.is_empty() {
        return Err(Error::invalid(format!("{AT}.schema_id"), "missing"));
    }
    let spec = DefinitionSpec {
        kind: kind(definition.kind)?,
        schema_id: definition.schema_id.into(),
        condition: definition.condition,
        namespace: definition.namespace,
        key: definition.key,
        fields: definition.fields,
        state: state(definition.state)?,
        effective: effective(definition.effective)?,
        coalescing: coalescing(definition.coalescing_window)?,
    };
    let settings = DefinitionSettings {
        spec,
        display_name: definition.display_name,
        description: definition.description,
        labels: definition.labels.into_iter().collect(),
        used_by: definition.used_by,
    };
    Ok((name, settings))
}

/// What an update changes.
pub(super) fn changes(
    definition: &pb::EventDefinition,
    mask: &FieldMask,
) -> Result<DefinitionChanges, Error> {
    if mask.paths.is_empty() {
        return Err(Error::invalid("update_mask", "names no field"));
    }
    let mut changes = DefinitionChanges::default();
    for path in &mask.paths {
        match path.as_str() {
            "display_name" => changes.display_name = Some(definition.display_name.clone()),
            "description" => changes.description = Some(definition.description.clone()),
            "condition" => changes.condition = Some(definition.condition.clone()),
            "namespace" => changes.namespace = Some(definition.namespace.clone()),
            "key" => changes.key = Some(definition.key.clone()),
            "fields" => changes.fields = Some(definition.fields.clone()),
            "state" => changes.state = Some(state(definition.state)?),
            "effective" => changes.effective = Some(effective(definition.effective)?),
            "coalescing_window" => {
                changes.coalescing = Some(coalescing(definition.coalescing_window)?);
            }
            "labels" => changes.labels = Some(definition.labels.clone().into_iter().collect()),
            "used_by" => changes.used_by = Some(definition.used_by.clone()),
            other => {
                let immutable = ["name", "kind", "schema_id", "event_id"];
                return Err(bad_path(other, &immutable));
            }
        }
    }
    Ok(changes)
}

/// The state that a list is of, if it names one.
pub(super) fn list_state(number: i32) -> Result<Option<DefinitionState>, Error> {
    match from_proto::enumeration::<pb::EventDefinitionState>("state", number)? {
        pb::EventDefinitionState::Unspecified => Ok(None),
        pb::EventDefinitionState::Draft
        | pb::EventDefinitionState::Live
        | pb::EventDefinitionState::Paused
        | pb::EventDefinitionState::Archived => state(number).map(Some),
    }
}

fn kind(number: i32) -> Result<DefinitionKind, Error> {
    let field = format!("{AT}.kind");
    Ok(match from_proto::enumeration(&field, number)? {
        pb::EventDefinitionKind::Unspecified => {
            let wanted = "missing; wanted UNITARY_RULE, UNITARY_SYSTEM or BUSINESS";
            return Err(Error::invalid(field, wanted));
        }
        pb::EventDefinitionKind::UnitaryRule => DefinitionKind::UnitaryRule,
        pb::EventDefinitionKind::UnitarySystem => DefinitionKind::UnitarySystem,
        pb::EventDefinitionKind::Business => DefinitionKind::Business,
    })
}

fn state(number: i32) -> Result<DefinitionState, Error> {
    Ok(match from_proto::enumeration(&format!("{AT}.state"), number)? {
        pb::EventDefinitionState::Unspecified | pb::EventDefinitionState::Draft => {
            DefinitionState::Draft
        }
        pb::EventDefinitionState::Live => DefinitionState::Live,
        pb::EventDefinitionState::Paused => DefinitionState::Paused,
        pb::EventDefinitionState::Archived => DefinitionState::Archived,
    })
}

fn effective(range: Option<pb::TimeRange>) -> Result<TimeRange, Error> {
    from_proto::time_range(&format!("{AT}.effective"), range).map_err(Error::Invalid)
}

fn coalescing(window: Option<prost_types::Duration>) -> Result<Duration, Error> {
    let window = from_proto::duration(&format!("{AT}.coalescing_window"), window)?;
    Ok(window.unwrap_or_default())
}

pub(super) fn message(
    store: &EventStore,
    definition: &EventDefinition,
) -> Result<pb::EventDefinition, Error> {
    let DefinitionSettings { spec, display_name, description, labels, used_by } =
        &definition.settings;
    let latest = definition.versions().last().ok_or(Error::Internal)?;
    Ok(pb::EventDefinition {
        name: definition.name.to_string(),
        display_name: display_name.clone(),
        description: description.clone(),
        kind: kind_message(spec.kind).into(),
        schema_id: spec.schema_id.to_string(),
        condition: spec.condition.clone(),
        namespace: spec.namespace.clone(),
        key: spec.key.clone(),
        fields: spec.fields.clone(),
        state: state_message(spec.state).into(),
        effective: range_message(spec.effective),
        coalescing_window: Some(spec.coalescing)
            .filter(|it| !it.is_zero())
            .and_then(|it| prost_types::Duration::try_from(it).ok()),
        labels: labels.clone().into_iter().collect(),
        used_by: used_by.clone(),
        event_id: definition.event_id.to_string(),
        version: latest.version,
        effective_from: latest.effective_from.get(),
        schema_version: store.checked_against(latest),
        etag: definition.etag(),
        create_time: Some(to_proto::timestamp(definition.create_time)),
        update_time: Some(to_proto::timestamp(definition.update_time)),
        backfill: definition.backfilled().map(|(version, until, matched)| {
            pb::EventDefinitionBackfill { version, until: until.get(), matched }
        }),
    })
}

/// A definition's versions, the newest first.
pub(super) fn versions(definition: &EventDefinition) -> Vec<pb::EventDefinitionVersion> {
    let newest = definition.versions().iter().rev().take(VERSIONS_SHOWN_MAX);
    newest.map(|it| version_message(it)).collect()
}

fn version_message(version: &DefinitionVersion) -> pb::EventDefinitionVersion {
    let spec = &version.spec;
    pb::EventDefinitionVersion {
        version: version.version,
        effective_from: version.effective_from.get(),
        time: Some(to_proto::timestamp(version.time)),
        state: state_message(spec.state).into(),
        condition: spec.condition.clone(),
        namespace: spec.namespace.clone(),
        key: spec.key.clone(),
        fields: spec.fields.clone(),
        effective: range_message(spec.effective),
    }
}

fn kind_message(kind: DefinitionKind) -> pb::EventDefinitionKind {
    match kind {
        DefinitionKind::UnitaryRule => pb::EventDefinitionKind::UnitaryRule,
        DefinitionKind::UnitarySystem => pb::EventDefinitionKind::UnitarySystem,
        DefinitionKind::Business => pb::EventDefinitionKind::Business,
    }
}

pub(super) fn state_message(state: DefinitionState) -> pb::EventDefinitionState {
    match state {
        DefinitionState::Draft => pb::EventDefinitionState::Draft,
        DefinitionState::Live => pb::EventDefinitionState::Live,
        DefinitionState::Paused => pb::EventDefinitionState::Paused,
        DefinitionState::Archived => pb::EventDefinitionState::Archived,
    }
}

fn range_message(range: TimeRange) -> Option<pb::TimeRange> {
    let bound = |time| Option::map(time, to_proto::timestamp);
    let message = pb::TimeRange { start: bound(range.start), end: bound(range.end) };
    (!range.is_unbounded()).then_some(message)
}
