//! From long form to wire form.

use jsonschema::Draft;
use serde_json::{Map, Value};

use crate::{
    model::json::{push_token, unescape_token},
    schema::{
        Fault,
        form::{
            document::{
                LONG_FORM, WIRE_FORM, XDM_FIELD, is_name_check,
                names::{Names, join, namespace},
            },
            name::wire_path,
        },
        keyword::{Applies, Holds, subschemas},
    },
};

/// The wire form of a document in long form.
///
/// # Errors
///
/// Two names that become one, and dependencies on names that become nested.
pub(in crate::schema) fn to_wire(document: &Value, draft: Draft) -> Result<Value, Vec<Fault>> {
    let id = document.get("$id").and_then(Value::as_str).unwrap_or_default();
    let mut writer = Writer { id, draft, faults: Vec::new() };
    let wire = writer.schema(document, None, "");
    if writer.faults.is_empty() { Ok(wire) } else { Err(writer.faults) }
}

struct Writer<'a> {
    id: &'a str,
    draft: Draft,
    faults: Vec<Fault>,
}

impl Writer<'_> {
    /// `above` is the long name of the property that the schema is for. Recursion is bounded by the
    /// depth of a document.
    fn schema(&mut self, schema: &Value, above: Option<&str>, at: &str) -> Value {
        let Value::Object(members) = schema else { return schema.clone() };
        let mut wire = Map::new();
        let mut kept = Map::new();
        let mut names = Names::default();
        for (key, held) in members {
            match (key.as_str(), held) {
                ("properties", Value::Object(properties)) => {
                    self.properties(properties, above, at, &mut names);
                    names.declared = true;
                }
                ("required", Value::Array(required)) => {
                    if !put_required(required, members, above, &mut names) {
                        kept.insert(key.clone(), held.clone());
                    }
                }
                ("dependencies" | "dependentRequired" | "dependentSchemas", Value::Object(map)) => {
                    let converted = self.dependencies(key, map, above, at);
                    keep(&mut wire, &mut kept, key, held, converted);
                }
                ("$ref", Value::String(reference)) => {
                    if is_name_check(reference, self.id) {
                        kept.insert(key.clone(), held.clone());
                    } else {
                        let converted = wire_reference(reference, self.draft).into();
                        keep(&mut wire, &mut kept, key, held, converted);
                    }
                }
                ("const" | "default" | "enum" | "examples", _) => {
                    let converted = value_to_wire(held, above);
                    keep(&mut wire, &mut kept, key, held, converted);
                }
                ("meta:descriptors", _) if at.is_empty() => {
                    keep(&mut wire, &mut kept, key, held, descriptors(held));
                }
                (XDM_FIELD | LONG_FORM, _) => {
                    kept.insert(key.clone(), held.clone());
                }
                (WIRE_FORM, _) => (),
                _ => {
                    wire.insert(key.clone(), self.keyword(key, held, above, at));
                }
            }
        }
        let closed = members.get("additionalProperties") == Some(&Value::Bool(false));
        if names.declared || !names.tree.is_empty() {
            if let Some(empty) = members.get("properties").filter(|it| is_empty(it))
                && !names.tree.is_empty()
            {
                kept.insert("properties".into(), empty.clone());
            }
            let extras = members.get(WIRE_FORM);
            wire.insert("properties".into(), namespace(names.tree, closed, extras, ""));
        }
        if members.contains_key("required") {
            wire.insert("required".into(), names.required.into());
        }
        if !kept.is_empty() {
            wire.insert(LONG_FORM.into(), Value::Object(kept));
        }
        Value::Object(wire)
    }

    fn keyword(&mut self, key: &str, held: &Value, above: Option<&str>, at: &str) -> Value {
        let Some((applies, holds)) = subschemas(key, self.draft) else { return held.clone() };
        let above = match applies {
            // Names that match a pattern are data, and a definition stands for itself.
            Applies::Apart => None,
            _ if key == "patternProperties" => None,
            Applies::InPlace | Applies::Inside => above,
        };
        let at = join(at, key);
        match (holds, held) {
            (Holds::List | Holds::SchemaOrList, Value::Array(items)) => {
                let places = items.iter().enumerate();
                places
                    .map(|(place, it)| self.schema(it, above, &join(&at, &place.to_string())))
                    .collect()
            }
            (Holds::Map, Value::Object(map)) => {
                let schemas = map
                    .iter()
                    .map(|(key, it)| (key.clone(), self.schema(it, above, &join(&at, key))));
                Value::Object(schemas.collect())
            }
            (Holds::Schema | Holds::SchemaOrList, _) => self.schema(held, above, &at),
            (Holds::Map | Holds::List, _) => held.clone(),
        }
    }

    fn properties(
        &mut self,
        properties: &Map<String, Value>,
        above: Option<&str>,
        at: &str,
        names: &mut Names,
    ) {
        for (name, schema) in properties {
            let at = join(&join(at, "properties"), name);
            let wire = self.schema(schema, Some(name), &at);
            let path = wire_path(name, above);
            let renamed = path != [name.as_str()];
            let leaf = if renamed { with_long_name(wire, name) } else { wire };
            if let Err(message) = names.place(&path, Some(leaf)) {
                self.faults.push(Fault { pointer: at, message: format!("`{name}` {message}") });
            }
        }
    }

    fn dependencies(
        &mut self,
        key: &str,
        map: &Map<String, Value>,
        above: Option<&str>,
        at: &str,
    ) -> Value {
        let mut wire = Map::new();
        for (name, held) in map {
            let at = join(&join(at, key), name);
            let [own] = wire_path(name, above).try_into().unwrap_or_else(|_| [String::new()]);
            if own.is_empty() {
                let message = format!("nothing can depend on `{name}`, which becomes nested");
                self.faults.push(Fault { pointer: at, message });
                continue;
            }
            let held = match held {
                Value::Array(needed) => {
                    let mut names = Names::default();
                    for name in needed.iter().filter_map(Value::as_str) {
                        names.require(&wire_path(name, above));
                    }
                    if !names.tree.is_empty() && key == "dependentRequired" {
                        let message = "`dependentRequired` cannot name what becomes nested";
                        self.faults.push(Fault { pointer: at, message: message.into() });
                    }
                    names.demand()
                }
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Object(_) => self.schema(held, above, &at),
            };
            wire.insert(own, held);
        }
        Value::Object(wire)
    }
}

/// Demands the wire names; tells whether the long form follows from them.
fn put_required(
    required: &[Value],
    members: &Map<String, Value>,
    above: Option<&str>,
    names: &mut Names,
) -> bool {
    let mut follows = true;
    for name in required.iter().filter_map(Value::as_str) {
        let path = wire_path(name, above);
        let declared = members.get("properties").is_some_and(|it| it.get(name).is_some());
        follows &= path.len() == 1 && (declared || path == [name]);
        names.require(&path);
    }
    follows
}

fn is_empty(properties: &Value) -> bool {
    properties.as_object().is_some_and(Map::is_empty)
}

/// Puts the converted keyword, and keeps the original beside it where they differ.
fn keep(
    wire: &mut Map<String, Value>,
    kept: &mut Map<String, Value>,
    key: &str,
    original: &Value,
    converted: Value,
) {
    if converted != *original {
        kept.insert(key.to_owned(), original.clone());
    }
    wire.insert(key.to_owned(), converted);
}

fn with_long_name(schema: Value, name: &str) -> Value {
    let mut members = Map::new();
    if let Value::Object(found) = schema {
        members = found;
    } else {
        if schema == Value::Bool(false) {
            members.insert("not".into(), Value::Object(Map::new()));
        }
        members.insert(LONG_FORM.into(), schema);
    }
    members.insert(XDM_FIELD.into(), name.into());
    Value::Object(members)
}

/// A reference whose pointer leads through properties.
fn wire_reference(reference: &str, draft: Draft) -> String {
    let Some((document, pointer)) = reference.split_once("#/") else { return reference.to_owned() };
    let mut out = format!("{document}#");
    let mut above: Option<String> = None;
    let mut holds = None;
    let mut in_properties = false;
    for token in pointer.split('/') {
        if in_properties {
            in_properties = false;
            holds = None;
            let decoded = crate::schema::outline::decode(token);
            let name = unescape_token(&decoded).into_owned();
            let path = wire_path(&name, above.as_deref());
            if path == [name.as_str()] {
                out.push('/');
                out.push_str(token);
            } else {
                let mut pointer = String::new();
                for (place, name) in path.iter().enumerate() {
                    if place > 0 {
                        pointer.push_str("/properties");
                    }
                    push_token(&mut pointer, name);
                }
                out.push_str(&pointer);
            }
            above = Some(name);
            continue;
        }
        out.push('/');
        out.push_str(token);
        let is_place = token.bytes().all(|it| it.is_ascii_digit());
        match holds.take() {
            Some(Holds::Map | Holds::List) => continue,
            Some(Holds::SchemaOrList) if is_place => continue,
            _ => (),
        }
        if token == "properties" {
            in_properties = true;
        } else if let Some((applies, held)) = subschemas(token, draft) {
            holds = Some(held);
            if applies == Applies::Apart || token == "patternProperties" {
                above = None;
            }
        }
    }
    out
}

/// A value, its names converted by the rules alone.
fn value_to_wire(value: &Value, above: Option<&str>) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|it| value_to_wire(it, above)).collect(),
        Value::Object(members) => {
            let mut wire = Map::new();
            for (name, it) in members {
                let path = wire_path(name, above);
                put(&mut wire, &path, value_to_wire(it, Some(name)));
            }
            Value::Object(wire)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Puts a value at a path; where another value is in the way, the later one wins.
fn put(wire: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        wire.insert(first.clone(), value);
        return;
    }
    let inner = wire.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        put(inner, rest, value);
    }
}

/// Descriptors, with the paths of their fields in wire form.
fn descriptors(held: &Value) -> Value {
    let Value::Array(items) = held else { return held.clone() };
    let convert = |descriptor: &Value| {
        let mut descriptor = descriptor.clone();
        for key in ["xdm:sourceProperty", "sourceProperty"] {
            if let Some(Value::String(path)) = descriptor.get_mut(key) {
                *path = wire_pointer(path);
            }
        }
        descriptor
    };
    items.iter().map(convert).collect()
}

/// A path of long names as one of wire names.
fn wire_pointer(pointer: &str) -> String {
    let mut out = String::new();
    let mut above: Option<String> = None;
    for token in pointer.split('/').skip(1) {
        let name = unescape_token(token).into_owned();
        for token in wire_path(&name, above.as_deref()) {
            push_token(&mut out, &token);
        }
        above = Some(name);
    }
    if pointer.starts_with('/') { out } else { pointer.to_owned() }
}
