//! The schemas inside one document: where they are, what they apply, what they refer to.

use std::collections::HashMap;

use jsonschema::{Draft, uri};
use serde_json::{Map, Value};

use crate::{
    model::json::push_token,
    schema::{
        Fault,
        keyword::{Applies, Holds, draft_of, reference_stands_alone, subschemas},
    },
};

/// One reference of a document, to itself or to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// JSON Pointer of the referring keyword.
    pub pointer: String,
    /// Absolute `$id` referred to, without fragment.
    pub target: String,
    /// What follows `#`, decoded: empty, a JSON Pointer or an anchor.
    pub fragment: String,
}

/// How the target of a reference is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// The target as written.
    Fixed,
    /// `$recursiveRef`: the target, or any resource with `$recursiveAnchor`.
    Recursive,
    /// `$dynamicRef`: the target, or any `$dynamicAnchor` of that name.
    Dynamic,
}

/// A schema's place among the schemas of its document; 0 is the document itself.
pub(super) type SchemaIndex = usize;

/// One schema of a document.
#[derive(Debug, Default)]
pub(super) struct Subschema {
    pub(super) pointer: String,
    /// Schemas within this one that apply to the same value.
    pub(super) in_place: Vec<SchemaIndex>,
    /// References of this schema, by their place in `Outline::references`.
    pub(super) references: Vec<usize>,
}

/// Everything about one document's schemas that resolving and checking needs.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) schemas: Vec<Subschema>,
    pub(super) references: Vec<(Reference, Binding)>,
    /// Schemas by pointer.
    pub(super) by_pointer: HashMap<String, SchemaIndex>,
    /// The document and the schemas with an `$id` of their own, by that id.
    pub(super) resources: HashMap<String, SchemaIndex>,
    /// Schemas with a name, by the id of their resource and the name.
    pub(super) anchors: HashMap<(String, String), SchemaIndex>,
    /// Schemas with a `$dynamicAnchor`.
    pub(super) dynamic_anchors: Vec<(String, SchemaIndex)>,
    /// Resources with a `$recursiveAnchor`.
    pub(super) recursive_anchors: Vec<SchemaIndex>,
}

impl Outline {
    /// Reads the outline of a document that its metaschema accepts.
    pub(super) fn read(id: &str, value: &Value, draft: Draft) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { draft, outline: Self::default(), faults: Vec::new() };
        reader.schema(value, "", id);
        if reader.faults.is_empty() { Ok(reader.outline) } else { Err(reader.faults) }
    }

    /// The schema that a fragment of one of this document's resources names.
    pub(super) fn find(&self, resource: &str, fragment: &str) -> Option<SchemaIndex> {
        let root = *self.resources.get(resource)?;
        if fragment.is_empty() {
            return Some(root);
        }
        if !fragment.starts_with('/') {
            let anchor = (resource.to_owned(), fragment.to_owned());
            return self.anchors.get(&anchor).copied();
        }
        let pointer = format!("{}{fragment}", self.schemas.get(root)?.pointer);
        self.by_pointer.get(&pointer).copied()
    }
}

struct Reader {
    draft: Draft,
    outline: Outline,
    faults: Vec<Fault>,
}

impl Reader {
    /// Recursion is bounded: a document has at most `limits::JSON_DEPTH_MAX` levels.
    fn schema(&mut self, value: &Value, pointer: &str, base: &str) -> SchemaIndex {
        let index = self.outline.schemas.len();
        self.outline.by_pointer.insert(pointer.to_owned(), index);
        let schema = Subschema { pointer: pointer.to_owned(), ..Subschema::default() };
        self.outline.schemas.push(schema);
        let Value::Object(members) = value else {
            if index == 0 {
                self.outline.resources.insert(base.to_owned(), index);
            }
            return index;
        };
        let alone = reference_stands_alone(self.draft) && members.contains_key("$ref");
        let base = self.identify(members, index, pointer, base, alone);
        self.refer(members, index, pointer, &base);
        for (key, held) in members {
            let Some((applies, holds)) = subschemas(key, self.draft) else { continue };
            let mut at = pointer.to_owned();
            push_token(&mut at, key);
            for (child, at) in children(held, holds, &at) {
                let child = self.schema(child, &at, &base);
                if applies == Applies::InPlace && !alone {
                    self.at(index).in_place.push(child);
                }
            }
        }
        index
    }

    /// Notes the schema's `$id` and anchors; returns the base of what it holds.
    fn identify(
        &mut self,
        members: &Map<String, Value>,
        index: SchemaIndex,
        pointer: &str,
        base: &str,
        alone: bool,
    ) -> String {
        let text = |key: &str| members.get(key).and_then(Value::as_str);
        let named_by_id = reference_stands_alone(self.draft);
        let id = if alone && index != 0 { None } else { text("$id") };
        let mut base = base.to_owned();
        match id {
            _ if index == 0 => {
                self.outline.resources.insert(base.clone(), index);
            }
            Some(name) if named_by_id && name.starts_with('#') => {
                self.name(&base, name.trim_start_matches('#'), index, pointer);
            }
            Some(id) => match resolve(&base, id) {
                Ok((id, _)) => {
                    if self.outline.resources.insert(id.clone(), index).is_some() {
                        self.fault(pointer, "/$id", format!("`$id` `{id}` stands twice"));
                    }
                    base = id;
                }
                Err(message) => self.fault(pointer, "/$id", message),
            },
            None => (),
        }
        if let Some(schema) = text("$schema").filter(|it| draft_of(it) != Some(self.draft)) {
            let message = format!("`{schema}` differs from the document's draft");
            self.fault(pointer, "/$schema", message);
        }
        if !named_by_id && let Some(name) = text("$anchor") {
            self.name(&base, name, index, pointer);
        }
        if self.draft == Draft::Draft202012
            && let Some(name) = text("$dynamicAnchor")
        {
            self.name(&base, name, index, pointer);
            self.outline.dynamic_anchors.push((name.to_owned(), index));
        }
        let recursive = members.get("$recursiveAnchor") == Some(&Value::Bool(true));
        if self.draft == Draft::Draft201909 && recursive {
            self.outline.recursive_anchors.push(index);
        }
        base
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "two drafts have more than `$ref`")]
    fn refer(
        &mut self,
        members: &Map<String, Value>,
        index: SchemaIndex,
        pointer: &str,
        base: &str,
    ) {
        let keywords: &[(&str, Binding)] = match self.draft {
            Draft::Draft201909 => {
                &[("$ref", Binding::Fixed), ("$recursiveRef", Binding::Recursive)]
            }
            Draft::Draft202012 => &[("$ref", Binding::Fixed), ("$dynamicRef", Binding::Dynamic)],
            _ => &[("$ref", Binding::Fixed)],
        };
        for (keyword, binding) in keywords {
            let Some(written) = members.get(*keyword).and_then(Value::as_str) else { continue };
            let mut at = pointer.to_owned();
            push_token(&mut at, keyword);
            match resolve(base, written) {
                Ok((target, fragment)) => {
                    let place = self.outline.references.len();
                    let reference = Reference { pointer: at, target, fragment };
                    self.outline.references.push((reference, *binding));
                    self.at(index).references.push(place);
                }
                Err(message) => self.faults.push(Fault { pointer: at, message }),
            }
        }
    }

    fn name(&mut self, base: &str, name: &str, index: SchemaIndex, pointer: &str) {
        let anchor = (base.to_owned(), name.to_owned());
        let before = self.outline.anchors.insert(anchor, index);
        if before.is_some_and(|before| before != index) {
            self.fault(pointer, "", format!("anchor `{name}` stands twice"));
        }
    }

    fn fault(&mut self, pointer: &str, keyword: &str, message: String) {
        self.faults.push(Fault { pointer: format!("{pointer}{keyword}"), message });
    }

    #[expect(clippy::indexing_slicing, reason = "the index of a schema pushed before")]
    fn at(&mut self, index: SchemaIndex) -> &mut Subschema {
        &mut self.outline.schemas[index]
    }
}

/// The schemas under one keyword, with their pointers.
fn children<'a>(held: &'a Value, holds: Holds, at: &str) -> Vec<(&'a Value, String)> {
    let below = |token: &str| {
        let mut pointer = at.to_owned();
        push_token(&mut pointer, token);
        pointer
    };
    match (holds, held) {
        (Holds::List | Holds::SchemaOrList, Value::Array(items)) => {
            let places = items.iter().enumerate();
            places.map(|(place, item)| (item, below(&place.to_string()))).collect()
        }
        (Holds::Schema | Holds::SchemaOrList, schema) if is_schema(schema) => {
            vec![(schema, at.to_owned())]
        }
        (Holds::Map, Value::Object(members)) => {
            // A list under `dependencies` names properties.
            let schemas = members.iter().filter(|(_, it)| is_schema(it));
            schemas.map(|(key, it)| (it, below(key))).collect()
        }
        _ => Vec::new(),
    }
}

fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

/// Resolves a reference (RFC 3986) to an absolute URI and its decoded fragment.
pub(super) fn resolve(base: &str, reference: &str) -> Result<(String, String), String> {
    let base = uri::from_str(base).map_err(|error| error.to_string())?;
    let resolved = uri::resolve_against(&base.borrow(), reference)
        .map_err(|error| format!("`{reference}` is not a URI reference: {error}"))?;
    let (target, fragment) = split_fragment(resolved.as_str());
    Ok((target.to_owned(), decode(fragment)))
}

/// The parts before and after the first `#`.
pub(super) fn split_fragment(uri: &str) -> (&str, &str) {
    uri.split_once('#').unwrap_or((uri, ""))
}

/// Undoes percent-encoding; what is not encoded well stays as it is.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let byte = hex.and_then(|it| u8::from_str_radix(it, 16).ok());
        if let (b'%', Some(byte)) = (first, byte) {
            bytes.push(byte);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}
