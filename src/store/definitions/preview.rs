//! The skeleton of an event that a definition matches, for whoever is to send it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::{
    condition::Structured,
    model::limits,
    schema::{Field, FieldType, Fields},
    store::{
        DefinitionKind, Error, EventDefinition, EventStore,
        definitions::{Selection, rules::EVENT_ID_PATH},
        registry::stoppable,
    },
};

/// An event with placeholders.
#[derive(Clone, Debug)]
pub struct Preview {
    /// JSON text, indented.
    pub json: String,
    /// A dataset under the definition's schema that takes events; empty when there is none.
    pub dataset: String,
}

impl EventStore {
    /// The skeleton of an event that a definition matches: the selected fields, or the whole event's first
    /// levels, with placeholders by type, and with the texts that the condition wants where it wants
    /// certain ones.
    ///
    /// # Errors
    /// When there is no such definition.
    pub async fn preview_payload(&self, name: &str) -> Result<Preview, Error> {
        let definition = self.event_definition(name)?;
        let catalog = self.catalog();
        stoppable(move |_stop| {
            let version = definition.latest()?;
            let schema = catalog.schema_by_number(version.schema).ok_or(Error::Internal)?;
            let fields = Fields::new(Arc::clone(&schema.document), &catalog.closure(schema)?);
            let skeleton = skeleton(&definition, &fields);
            let of_schema = |it: &&Arc<crate::store::Dataset>| {
                it.settings.schema_id == version.spec.schema_id && !it.settings.closed
            };
            let dataset = catalog.datasets().find(of_schema).map(|it| it.name.to_string());
            let json = serde_json::to_string_pretty(&skeleton).unwrap_or_default();
            Ok(Preview { json, dataset: dataset.unwrap_or_default() })
        })
        .await
    }
}

fn skeleton(definition: &EventDefinition, fields: &Fields) -> Value {
    let spec = &definition.settings.spec;
    let mut wanted: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let compiled = definition.versions.last().and_then(|it| it.compiled.as_ref());
    if let Some(compiled) = compiled {
        for (path, texts) in compiled.condition.anchors() {
            wanted.extend(texts.into_iter().next().map(|text| (path, text)));
        }
    }
    // What the condition speaks of must be there, too.
    let mut paths = spec.fields.clone();
    paths.extend(wanted.keys().map(|it| it.join(".")));
    if let Ok(Some(tests)) = Structured::of_text(&spec.condition) {
        paths.extend(tests.fields().into_iter().map(str::to_owned));
    }
    paths.push("eventType".to_owned());
    if spec.kind == DefinitionKind::UnitarySystem {
        paths.push(EVENT_ID_PATH.to_owned());
    }
    let selection = Selection::new(&paths, fields).unwrap_or_default();
    let mut event = json!({});
    for path in selection.paths() {
        let names: Vec<&str> = path.split('.').collect();
        put(&mut event, &fields.root(), &names, fields);
    }
    if fields.member(&fields.root(), "identityMap").is_some() && spec.key.is_empty() {
        let namespace = if spec.namespace.is_empty() { "Email" } else { &spec.namespace };
        let map = json!({ namespace: [{"id": "string", "primary": true}] });
        if let Some(members) = event.as_object_mut() {
            members.insert("identityMap".to_owned(), map);
        }
    }
    for (path, text) in wanted {
        let pointer: String = path.iter().flat_map(|it| ["/", it]).collect();
        if let Some(place) = event.pointer_mut(&pointer) {
            *place = text.into();
        }
    }
    event
}

/// Puts a placeholder at a path, and what holds it.
fn put(holder: &mut Value, object: &Field, path: &[&str], fields: &Fields) {
    let Some((name, rest)) = path.split_first() else { return };
    let Some(mut field) = fields.member(object, name) else { return };
    let Some(members) = holder.as_object_mut() else { return };
    if rest.is_empty() {
        let made = placeholder(&field, fields, 0);
        members.insert((*name).to_owned(), made);
        return;
    }
    let is_list = fields.type_of(&field) == Some(FieldType::Array);
    if is_list {
        field = fields.element(&field);
    }
    let place =
        members.entry(*name).or_insert_with(|| if is_list { json!([{}]) } else { json!({}) });
    let inside = if is_list { place.get_mut(0) } else { Some(place) };
    if let Some(inside) = inside {
        put(inside, &field, rest, fields);
    }
}

/// Levels below a selected field that are spelt out.
const LEVELS_MAX: usize = 3;

fn placeholder(field: &Field, fields: &Fields, level: usize) -> Value {
    match fields.type_of(field) {
        None | Some(FieldType::String) => json!("string"),
        Some(FieldType::Enum) => {
            let first = fields.values(field).and_then(|it| it.into_iter().next());
            first.map_or(json!("string"), Value::from)
        }
        Some(FieldType::Uri) => json!("https://example.com/"),
        Some(FieldType::Date) => json!("2026-11-23"),
        Some(FieldType::DateTime) => json!("2026-11-23T09:30:00Z"),
        Some(FieldType::Number) => json!(10.5),
        Some(FieldType::Long | FieldType::Int | FieldType::Short | FieldType::Byte) => json!(10),
        Some(FieldType::Boolean) => json!(true),
        Some(FieldType::Array) if level < LEVELS_MAX => {
            json!([placeholder(&fields.element(field), fields, level + 1)])
        }
        Some(FieldType::Object) if level < LEVELS_MAX => {
            let names = fields.names(field).into_iter().take(limits::CONDITION_LIST_MAX);
            let member = |name: String| {
                let member = fields.member(field, &name)?;
                Some((name, placeholder(&member, fields, level + 1)))
            };
            Value::Object(names.filter_map(member).collect())
        }
        Some(FieldType::Array) => json!([]),
        Some(FieldType::Object | FieldType::Map) => json!({}),
    }
}
