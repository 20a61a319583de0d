//! Schema documents from long form to wire form and back.
//!
//! What the way back needs stands in the wire document: `meta:xdmField` holds a property's long name,
//! `meta:longForm` the keywords of a schema whose long form does not follow from the rest.

mod long;
mod names;
mod wire;

use jsonschema::Draft;
use serde_json::Value;

use crate::{
    model::json::{push_token, unescape_token},
    schema::{
        form::name::{self, wire_path},
        keyword::{Holds, subschemas},
    },
};

pub(in crate::schema) use long::to_long;
pub(in crate::schema) use wire::to_wire;

const XDM_FIELD: &str = "meta:xdmField";
const LONG_FORM: &str = "meta:longForm";
const WIRE_FORM: &str = "meta:wireForm";

/// What makes a published schema refuse names without a known prefix. In wire form there are none.
const EXTENSIBLE: &str = "https://ns.adobe.com/xdm/common/extensible";
const NAME_CHECK: &str = "#/definitions/@context";

/// Whether a document is in long form: some property has a name that only the long form has, or the
/// document asks for the long form's check of names.
pub(in crate::schema) fn is_long(document: &Value, draft: Draft) -> bool {
    let id = document.get("$id").and_then(Value::as_str).unwrap_or_default();
    has_long_names(document, id, draft)
}

fn has_long_names(schema: &Value, id: &str, draft: Draft) -> bool {
    let Value::Object(members) = schema else { return false };
    members.iter().any(|(key, held)| {
        let named = match (key.as_str(), held) {
            ("properties", Value::Object(properties)) => {
                properties.keys().any(|it| name::is_long(it))
            }
            ("$ref", Value::String(reference)) => is_name_check(reference, id),
            _ => false,
        };
        named
            || subschemas(key, draft).is_some_and(|(_, holds)| {
                children(held, holds).any(|(_, child)| has_long_names(child, id, draft))
            })
    })
}

fn is_name_check(reference: &str, id: &str) -> bool {
    let document = reference.strip_suffix(NAME_CHECK);
    document.is_some_and(|it| it == EXTENSIBLE || it.is_empty() && id == EXTENSIBLE)
}

/// The schemas under one keyword, each with its key; a single schema has none.
fn children(held: &Value, holds: Holds) -> Box<dyn Iterator<Item = (Option<&str>, &Value)> + '_> {
    match (holds, held) {
        (Holds::List | Holds::SchemaOrList, Value::Array(items)) => {
            Box::new(items.iter().map(|it| (None, it)))
        }
        (Holds::Schema | Holds::SchemaOrList, _) => Box::new(std::iter::once((None, held))),
        (Holds::Map, Value::Object(members)) => {
            Box::new(members.iter().map(|(key, it)| (Some(key.as_str()), it)))
        }
        (Holds::Map | Holds::List, _) => Box::new(std::iter::empty()),
    }
}

/// The long name that a field of the wire form states.
pub(in crate::schema) fn long_name(field: &Value) -> Option<&str> {
    field.get(XDM_FIELD).and_then(Value::as_str)
}

/// The long names that a schema demands without describing them.
pub(super) fn demanded(schema: &Value) -> impl Iterator<Item = &str> {
    let kept = schema.get(LONG_FORM).and_then(|it| it.get("required"));
    kept.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Whether the schema at `path` only holds the names of a namespace: all fields below it have long
/// names that lead there.
pub(super) fn is_namespace(schema: &Value, above: Option<&str>, path: &[String]) -> bool {
    let starts_well = path.first().is_some_and(|it| path.len() > 1 || it.starts_with('_'));
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return false;
    };
    starts_well
        && long_name(schema).is_none()
        && schema.get("type").and_then(Value::as_str) == Some("object")
        && !schema.as_object().is_some_and(|it| it.keys().any(|it| it == "$ref" || it == "allOf"))
        && properties.iter().all(|(name, field)| {
            let path = [path, std::slice::from_ref(name)].concat();
            match long_name(field) {
                Some(long) => [wire_path(long, above), wire_path(long, None)].contains(&path),
                None => is_namespace(field, above, &path),
            }
        })
}

/// Where a place of a wire document is in its long form.
pub(in crate::schema) fn long_pointer(wire: &Value, pointer: &str) -> String {
    let mut long = String::new();
    let mut value = Some(wire);
    let mut path: Vec<String> = Vec::new();
    let mut tokens = pointer.split('/').skip(1).peekable();
    while let Some(token) = tokens.next() {
        let name = unescape_token(token);
        value = value.and_then(|it| it.get(&*name).or_else(|| it.get(name.parse::<usize>().ok()?)));
        if token != "properties" || tokens.peek().is_none() {
            long.push('/');
            long.push_str(token);
            continue;
        }
        let Some(token) = tokens.next() else { break };
        let name = unescape_token(token).into_owned();
        value = value.and_then(|it| it.get(&name));
        path.push(name.clone());
        let named = value.and_then(long_name);
        if named.is_none() && value.is_some_and(|it| is_namespace(it, None, &path)) {
            continue; // the long form has no such object
        }
        path.clear();
        push_token(&mut long, "properties");
        push_token(&mut long, named.unwrap_or(&name));
    }
    long
}
