//! Definitions as they are printed.

use serde_json::{Value, json};

use crate::{
    cli::{output, time},
    grpc::pb,
};

pub(super) fn row(definition: &pb::EventDefinition) -> Vec<String> {
    vec![
        definition.name.clone(),
        definition.state().as_str_name().to_owned(),
        definition.kind().as_str_name().to_owned(),
        definition.version.to_string(),
        definition.schema_id.clone(),
        output::printable(&condition(definition)),
    ]
}

/// What it is known by.
fn condition(definition: &pb::EventDefinition) -> String {
    match definition.event_id.as_str() {
        "" => definition.condition.clone(),
        id => format!("event id {id}"),
    }
}

pub(super) fn details(definition: &pb::EventDefinition) -> String {
    let window = definition.coalescing_window.as_ref().map(|it| format!("{} s", it.seconds));
    output::fields(&[
        ("name", definition.name.clone()),
        ("display name", definition.display_name.clone()),
        ("description", definition.description.clone()),
        ("kind", definition.kind().as_str_name().to_owned()),
        ("state", definition.state().as_str_name().to_owned()),
        ("schema", format!("{} version {}", definition.schema_id, definition.schema_version)),
        ("condition", definition.condition.clone()),
        ("event id", definition.event_id.clone()),
        ("namespace", definition.namespace.clone()),
        ("key", definition.key.clone()),
        ("fields", definition.fields.join(", ")),
        ("effective", effective(definition.effective.as_ref())),
        ("coalescing", window.unwrap_or_default()),
        ("used by", definition.used_by.join(", ")),
        ("version", format!("{} from position {}", definition.version, definition.effective_from)),
        ("back-filled", definition.backfill.as_ref().map(backfill).unwrap_or_default()),
        ("etag", definition.etag.clone()),
        ("created", time::show(definition.create_time.as_ref())),
        ("updated", time::show(definition.update_time.as_ref())),
    ])
}

fn backfill(backfill: &pb::EventDefinitionBackfill) -> String {
    let pb::EventDefinitionBackfill { version, until, matched } = backfill;
    format!("{matched} events up to position {until}, by version {version}")
}

fn effective(range: Option<&pb::TimeRange>) -> String {
    let Some(range) = range else { return String::new() };
    let bound = |time: Option<&_>| if time.is_some() { time::show(time) } else { "…".to_owned() };
    format!("{} to {}", bound(range.start.as_ref()), bound(range.end.as_ref()))
}

/// As in a file, and what the server adds.
pub(super) fn definition_json(definition: &pb::EventDefinition) -> Value {
    let labels: std::collections::BTreeMap<_, _> = definition.labels.iter().collect();
    let range = definition.effective.as_ref().map(
        |it| json!({"start": time::show(it.start.as_ref()), "end": time::show(it.end.as_ref())}),
    );
    json!({
        "name": definition.name,
        "display_name": definition.display_name,
        "description": definition.description,
        "kind": definition.kind().as_str_name(),
        "schema_id": definition.schema_id,
        "condition": definition.condition,
        "namespace": definition.namespace,
        "key": definition.key,
        "fields": definition.fields,
        "state": definition.state().as_str_name(),
        "effective": range,
        "coalescing_seconds": definition.coalescing_window.as_ref().map_or(0, |it| it.seconds),
        "labels": labels,
        "used_by": definition.used_by,
        "event_id": definition.event_id,
        "version": definition.version,
        "effective_from": definition.effective_from,
        "schema_version": definition.schema_version,
        "backfill": definition.backfill.as_ref().map(
            |it| json!({"version": it.version, "until": it.until, "matched": it.matched})
        ),
        "etag": definition.etag,
        "create_time": time::show(definition.create_time.as_ref()),
        "update_time": time::show(definition.update_time.as_ref()),
    })
}
