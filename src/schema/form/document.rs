//! Schema documents from long form to wire form and back.
//!
//! What the way back needs stands in the wire document: `meta:xdmField` holds a property's long name,
//! `meta:longForm` the keywords of a schema whose long form does not follow from the rest.

use std::collections::BTreeMap;

use jsonschema::Draft;
use serde_json::{Map, Value};

use crate::{
    model::json::{push_token, unescape_token},
    schema::{
        Fault,
        form::name::{self, wire_path},
        keyword::{Applies, Holds, subschemas},
    },
};

pub(super) const XDM_FIELD: &str = "meta:xdmField";
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

/// The wire names of one object.
#[derive(Default)]
struct Names {
    declared: bool,
    required: Vec<String>,
    tree: BTreeMap<String, Tree>,
}

/// A field, or an object that only holds a namespace's names.
enum Tree {
    Field(Value),
    Namespace(Names),
}

impl Names {
    /// Puts a field, or nothing, at a path.
    fn place(&mut self, path: &[String], field: Option<Value>) -> Result<(), &'static str> {
        let Some((first, rest)) = path.split_first() else { return Ok(()) };
        if rest.is_empty() {
            let Some(field) = field else { return Ok(()) };
            return match self.tree.insert(first.clone(), Tree::Field(field)) {
                None => Ok(()),
                Some(_) => Err("has the wire name of another property"),
            };
        }
        let empty = || Tree::Namespace(Self::default());
        match self.tree.entry(first.clone()).or_insert_with(empty) {
            Tree::Namespace(names) => names.place(rest, field),
            Tree::Field(_) => Err("becomes nested in what another property is in wire form"),
        }
    }

    fn require(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        if !self.required.contains(first) {
            self.required.push(first.clone());
        }
        if rest.is_empty() {
            return;
        }
        let empty = || Tree::Namespace(Self::default());
        if let Tree::Namespace(names) = self.tree.entry(first.clone()).or_insert_with(empty) {
            names.require(rest);
        }
    }

    /// A list of names if that says it all, else a schema.
    fn demand(self) -> Value {
        if self.tree.is_empty() {
            return self.required.into();
        }
        let mut schema = Map::new();
        schema.insert("required".into(), self.required.into());
        schema.insert("properties".into(), namespace(self.tree, false, None, ""));
        Value::Object(schema)
    }
}

fn namespace(
    tree: BTreeMap<String, Tree>,
    closed: bool,
    extras: Option<&Value>,
    at: &str,
) -> Value {
    let members = tree.into_iter().map(|(name, it)| match it {
        Tree::Field(field) => (name, field),
        Tree::Namespace(names) => {
            let at = join(at, &name);
            let extra = extras.and_then(|it| it.get(&at)).and_then(Value::as_object);
            let mut object = extra.cloned().unwrap_or_default();
            object.insert("type".into(), "object".into());
            object.insert("properties".into(), namespace(names.tree, closed, extras, &at));
            if !names.required.is_empty() {
                object.insert("required".into(), names.required.into());
            }
            if closed {
                object.insert("additionalProperties".into(), false.into());
            }
            (name, Value::Object(object))
        }
    });
    Value::Object(members.collect())
}

fn is_empty(properties: &Value) -> bool {
    properties.as_object().is_some_and(Map::is_empty)
}

fn join(pointer: &str, token: &str) -> String {
    let mut pointer = pointer.to_owned();
    push_token(&mut pointer, token);
    pointer
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
pub(super) fn value_to_wire(value: &Value, above: Option<&str>) -> Value {
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

/// The long form of a document in wire form; of one that came from the long form exactly that.
pub(in crate::schema) fn to_long(document: &Value, draft: Draft) -> Value {
    Reader { draft }.schema(document, None)
}

struct Reader {
    draft: Draft,
}

impl Reader {
    fn schema(&self, schema: &Value, above: Option<&str>) -> Value {
        let Value::Object(members) = schema else { return schema.clone() };
        let kept = members.get(LONG_FORM);
        let mut long = Map::new();
        let mut extras = Map::new();
        for (key, held) in members {
            match (key.as_str(), held) {
                (LONG_FORM, _) => (),
                ("properties", Value::Object(properties)) => {
                    let mut found = Map::new();
                    let mut folded = false;
                    for (name, field) in properties {
                        let mut path = vec![name.clone()];
                        folded |= self.field(field, above, &mut path, &mut found, &mut extras);
                    }
                    if !(folded && found.is_empty()) {
                        long.insert(key.clone(), Value::Object(found));
                    }
                }
                ("required", Value::Array(_)) => {
                    long.insert(key.clone(), long_required(members));
                }
                _ => {
                    long.insert(key.clone(), self.keyword(key, held, above));
                }
            }
        }
        if let Some(Value::Object(kept)) = kept {
            for (key, original) in kept {
                long.insert(key.clone(), original.clone());
            }
        }
        if !extras.is_empty() {
            long.insert(WIRE_FORM.into(), Value::Object(extras));
        }
        Value::Object(long)
    }

    /// Adds the field at `path`, or all below it when it is a namespace; tells whether it was one.
    fn field(
        &self,
        field: &Value,
        above: Option<&str>,
        path: &mut Vec<String>,
        found: &mut Map<String, Value>,
        extras: &mut Map<String, Value>,
    ) -> bool {
        if let Some(name) = long_name(field) {
            let mut members = field.as_object().cloned().unwrap_or_default();
            members.remove(XDM_FIELD);
            let long = match members.get(LONG_FORM) {
                Some(Value::Object(_)) | None => self.schema(&Value::Object(members), Some(name)),
                Some(original) => original.clone(),
            };
            found.insert(name.to_owned(), long);
            return false;
        }
        let inner = field.get("properties").and_then(Value::as_object);
        if let Some(inner) = inner.filter(|_| is_namespace(field, above, path)) {
            let extra = field.as_object().into_iter().flatten().filter(|(key, _)| {
                !matches!(key.as_str(), "type" | "properties" | "required" | "additionalProperties")
            });
            let extra: Map<String, Value> =
                extra.map(|(key, it)| (key.clone(), it.clone())).collect();
            if !extra.is_empty() {
                let mut at = String::new();
                for it in path.iter() {
                    push_token(&mut at, it);
                }
                extras.insert(at, Value::Object(extra));
            }
            for (name, field) in inner {
                path.push(name.clone());
                self.field(field, above, path, found, extras);
                path.pop();
            }
            return true;
        }
        let name = path.last().cloned().unwrap_or_default();
        let long = self.schema(field, Some(&name));
        found.insert(name, long);
        false
    }

    fn keyword(&self, key: &str, held: &Value, above: Option<&str>) -> Value {
        let Some((applies, holds)) = subschemas(key, self.draft) else { return held.clone() };
        let above = above.filter(|_| applies != Applies::Apart && key != "patternProperties");
        match (holds, held) {
            (Holds::List | Holds::SchemaOrList, Value::Array(items)) => {
                items.iter().map(|it| self.schema(it, above)).collect()
            }
            (Holds::Map, Value::Object(map)) => {
                let schemas = map.iter().map(|(key, it)| (key.clone(), self.schema(it, above)));
                Value::Object(schemas.collect())
            }
            (Holds::Schema | Holds::SchemaOrList, _) => self.schema(held, above),
            (Holds::Map | Holds::List, _) => held.clone(),
        }
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

/// The long names of the properties that must be there, as far as the schema itself tells.
fn long_required(members: &Map<String, Value>) -> Value {
    let required = members.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let properties = members.get("properties");
    let long = |name: &str| {
        let field = properties.and_then(|it| it.get(name));
        field.and_then(long_name).unwrap_or(name).to_owned()
    };
    required.iter().map(|it| it.as_str().map_or_else(|| it.clone(), |it| long(it).into())).collect()
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
