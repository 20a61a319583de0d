//! A schema as one document that needs no other.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use serde_json::{Map, Value};

use crate::{
    model::{json::push_token, limits},
    schema::{
        SchemaDocument, SchemaProblem, field_type,
        outline::{Binding, Outline},
    },
};

/// What only an outer document may say: within another it would begin a resource of its own.
const OF_A_RESOURCE: [&str; 4] = ["$id", "$schema", "$anchor", "id"];

/// One document, in wire form, that judges exactly as `root` with its `closure` does: what it refers to
/// stands in its `definitions`, under its `$id`, and every field has its `meta:xdmType`.
///
/// # Errors
///
/// `TooLarge` above `limits::RESOLVED_BYTES_MAX`; `Invalid` when documents of different drafts, or
/// references that depend on the way to them, cannot stand in one document.
pub fn resolve(
    root: &SchemaDocument,
    closure: &[Arc<SchemaDocument>],
) -> Result<String, SchemaProblem> {
    let refuse = |message: String| Err(SchemaProblem::invalid("", message));
    let documents: Vec<&SchemaDocument> =
        std::iter::once(root).chain(closure.iter().map(Arc::as_ref)).collect();
    for document in &documents {
        if document.draft != root.draft {
            let (id, root) = (document.id(), root.id());
            return refuse(format!("`{id}` has another draft than `{root}`"));
        }
        let mut references = document.outline.references.iter();
        if let Some((reference, _)) = references.find(|(_, it)| *it != Binding::Fixed) {
            let (id, pointer) = (document.id(), &reference.pointer);
            return refuse(format!("`{id}#{pointer}` leads to what depends on the way to it"));
        }
    }
    let bundle = Bundle::new(&documents);
    let mut resolved = Value::Null;
    let mut definitions = Map::new();
    for (place, document) in documents.iter().enumerate() {
        let value = bundle.document(place, document)?;
        match bundle.keys.get(place).and_then(Option::as_ref) {
            None => resolved = value,
            Some(key) => drop(definitions.insert(key.clone(), value)),
        }
    }
    if let Value::Object(members) = &mut resolved {
        members.insert("$id".into(), root.id().into());
        members.insert("$schema".into(), root.value.get("$schema").cloned().unwrap_or_default());
        if !definitions.is_empty() {
            let own = members.entry("definitions").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(own) = own {
                own.append(&mut definitions);
            }
        }
    }
    let text = resolved.to_string();
    let (found, max) = (text.len(), limits::RESOLVED_BYTES_MAX);
    if found > max {
        let message = format!("resolved, the document has {found} bytes; at most {max}");
        return Err(SchemaProblem::TooLarge { pointer: String::new(), message });
    }
    Ok(text)
}

/// Where each document goes.
struct Bundle<'a> {
    documents: &'a [&'a SchemaDocument],
    /// Under which of the root's `definitions`; the root itself has none.
    keys: Vec<Option<String>>,
    owners: HashMap<&'a str, usize>,
}

impl<'a> Bundle<'a> {
    fn new(documents: &'a [&'a SchemaDocument]) -> Self {
        let root = documents.first().map(|it| &it.value);
        let taken = root.and_then(|it| it.get("definitions")).and_then(Value::as_object);
        let key = |document: &SchemaDocument| {
            let mut key = document.id().to_owned();
            while taken.is_some_and(|it| it.contains_key(&key)) {
                key.push('\'');
            }
            key
        };
        let keys = documents.iter().enumerate();
        let keys = keys.map(|(place, it)| (place > 0).then(|| key(it))).collect();
        let mut owners = HashMap::new();
        for (place, document) in documents.iter().enumerate() {
            for id in document.outline.resources.keys() {
                owners.entry(id.as_str()).or_insert(place);
            }
        }
        Self { documents, keys, owners }
    }

    /// A document's value as it stands in the bundle.
    fn document(&self, place: usize, document: &SchemaDocument) -> Result<Value, SchemaProblem> {
        let mut value = document.value.clone();
        for schema in &document.outline.schemas {
            let Some(members) = value.pointer_mut(&schema.pointer).and_then(Value::as_object_mut)
            else {
                continue;
            };
            for key in OF_A_RESOURCE {
                members.remove(key);
            }
        }
        for (reference, _) in &document.outline.references {
            let owner = self.owners.get(reference.target.as_str()).copied();
            let target = owner.and_then(|owner| {
                let outline = &self.documents.get(owner)?.outline;
                let found = outline.find(&reference.target, &reference.fragment)?;
                Some(self.place_of(owner, &outline.schemas.get(found)?.pointer))
            });
            let Some(target) = target else {
                let message = "where there is no schema";
                return Err(crate::schema::closure::unresolved(document, reference, message));
            };
            if let Some(written) = value.pointer_mut(&reference.pointer) {
                *written = target.into();
            }
        }
        type_fields(&mut value, &document.outline, |it| self.type_of(place, it));
        Ok(value)
    }

    /// The reference that leads to a schema in the bundle.
    fn place_of(&self, document: usize, pointer: &str) -> String {
        let mut whole = String::new();
        if let Some(Some(key)) = self.keys.get(document) {
            whole.push_str("/definitions");
            push_token(&mut whole, key);
        }
        whole.push_str(pointer);
        format!("#{}", encode(&whole))
    }

    /// The type of a field, by its own keywords or those of what it includes.
    fn type_of(&self, document: usize, pointer: &str) -> Option<field_type::FieldType> {
        let mut open = vec![(document, pointer.to_owned())];
        let mut looked = 0;
        while let Some((document, pointer)) = open.pop() {
            looked += 1;
            let found = *self.documents.get(document)?;
            let schema = found.value.pointer(&pointer)?;
            let alone = crate::schema::keyword::reference_stands_alone(found.draft)
                && schema.get("$ref").is_some();
            if let Some(type_) = field_type::derive(schema).filter(|_| !alone) {
                return Some(type_);
            }
            if looked > limits::SCHEMA_CHAIN_MAX {
                return None;
            }
            let index = *found.outline.by_pointer.get(&pointer)?;
            let node = found.outline.schemas.get(index)?;
            let pointer_of = |index: &usize| found.outline.schemas.get(*index);
            let included = node.in_place.iter().filter_map(pointer_of);
            let included =
                included.filter(|it| it.pointer.starts_with(&format!("{pointer}/allOf/")));
            open.extend(included.map(|it| (document, it.pointer.clone())));
            for reference in
                node.references.iter().filter_map(|it| found.outline.references.get(*it))
            {
                let owner = *self.owners.get(reference.0.target.as_str())?;
                let outline = &self.documents.get(owner)?.outline;
                let target = outline.find(&reference.0.target, &reference.0.fragment)?;
                open.push((owner, outline.schemas.get(target)?.pointer.clone()));
            }
        }
        None
    }
}

/// States the type of every field that does not state it.
fn type_fields(
    value: &mut Value,
    outline: &Outline,
    type_of: impl Fn(&str) -> Option<field_type::FieldType>,
) {
    let mut fields: BTreeMap<&str, _> = BTreeMap::new();
    for schema in &outline.schemas {
        let mut tokens = schema.pointer.rsplit('/').skip(1);
        let parent = tokens.next();
        let is_field = parent == Some("properties") || schema.pointer.ends_with("/items");
        if is_field && let Some(type_) = type_of(&schema.pointer) {
            fields.insert(&schema.pointer, type_);
        }
    }
    for (pointer, type_) in fields {
        if let Some(Value::Object(members)) = value.pointer_mut(pointer) {
            members.entry("meta:xdmType").or_insert_with(|| type_.annotation().into());
        }
    }
}

/// A JSON Pointer as a URI fragment.
fn encode(pointer: &str) -> String {
    let mut out = String::with_capacity(pointer.len());
    for byte in pointer.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // to memory: cannot fail
        }
    }
    out
}
