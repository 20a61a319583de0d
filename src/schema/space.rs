//! The fields of a schema, found through all that it refers to.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    model::json::push_token,
    schema::{SchemaDocument, form::long_name, outline::SchemaIndex},
};

/// A schema and the documents of its closure.
pub(super) struct Space {
    pub(super) documents: Vec<Arc<SchemaDocument>>,
    /// Documents by the ids that they define.
    owners: HashMap<String, usize>,
}

/// One schema of one of the documents.
pub(super) type At = (usize, SchemaIndex);

/// The schema itself.
pub(super) const ROOT: At = (0, 0);

impl Space {
    pub(super) fn new(root: Arc<SchemaDocument>, closure: &[Arc<SchemaDocument>]) -> Self {
        let documents: Vec<_> = std::iter::once(root).chain(closure.iter().cloned()).collect();
        let mut owners = HashMap::new();
        for (place, document) in documents.iter().enumerate() {
            for id in document.outline.resources.keys() {
                owners.entry(id.clone()).or_insert(place);
            }
        }
        Self { documents, owners }
    }
}

/// Looks around in a space, within a number of steps.
pub(super) struct Walk<'a> {
    pub(super) space: &'a Space,
    steps: Cell<u32>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(space: &'a Space, steps: u32) -> Self {
        Self { space, steps: Cell::new(steps) }
    }

    /// Whether the steps ran out, which voids what was found.
    pub(super) fn is_exhausted(&self) -> bool {
        self.steps.get() == 0
    }

    /// All schemas that may apply to the value that these apply to.
    pub(super) fn expand(&self, schemas: &[At]) -> Vec<At> {
        let mut found = Vec::new();
        let mut seen: HashSet<At> = HashSet::new();
        let mut open = schemas.to_vec();
        while let Some(at) = open.pop() {
            if !seen.insert(at) || !self.take(1) {
                continue;
            }
            found.push(at);
            let (document, index) = at;
            let Some(outline) = self.space.documents.get(document).map(|it| &it.outline) else {
                continue;
            };
            let Some(schema) = outline.schemas.get(index) else { continue };
            open.extend(schema.in_place.iter().map(|it| (document, *it)));
            for reference in schema.references.iter().filter_map(|it| outline.references.get(*it)) {
                let (reference, _) = reference;
                let owner = self.space.owners.get(&reference.target).copied();
                let target = owner.and_then(|owner| {
                    let outline = &self.space.documents.get(owner)?.outline;
                    Some((owner, outline.find(&reference.target, &reference.fragment)?))
                });
                open.extend(target);
            }
        }
        found
    }

    /// The schema below one of the schemas, at a keyword or a keyword and a name.
    pub(super) fn below(&self, schemas: &[At], tokens: &[&str]) -> Vec<At> {
        self.take(schemas.len());
        let below = |(document, index): &At| {
            let outline = &self.space.documents.get(*document)?.outline;
            let mut pointer = outline.schemas.get(*index)?.pointer.clone();
            for it in tokens {
                push_token(&mut pointer, it);
            }
            outline.by_pointer.get(&pointer).map(|found| (*document, *found))
        };
        schemas.iter().filter_map(below).collect()
    }

    fn take(&self, steps: usize) -> bool {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.steps.set(self.steps.get().saturating_sub(steps));
        self.steps.get() > 0
    }

    pub(super) fn json(&self, (document, index): At) -> Option<&'a Value> {
        let document = self.space.documents.get(document)?;
        document.value.pointer(&document.outline.schemas.get(index)?.pointer)
    }

    /// The fields at a path of names.
    pub(super) fn fields(&self, schemas: &[At], path: &[String]) -> Vec<At> {
        let mut found: Vec<At> = Vec::new();
        for (level, name) in path.iter().enumerate() {
            let from = if level == 0 { schemas.to_vec() } else { self.expand(&found) };
            found = self.below(&from, &["properties", name]);
        }
        found
    }

    pub(super) fn long_name(&self, fields: &[At]) -> Option<&'a str> {
        fields.iter().find_map(|it| self.json(*it).and_then(long_name))
    }

    /// The schemas of values whose keys are data, not names.
    pub(super) fn data(&self, schemas: &[At]) -> Vec<At> {
        let mut found = self.below(schemas, &["additionalProperties"]);
        found.retain(|it| self.json(*it).is_some_and(Value::is_object));
        for (document, index) in schemas {
            let patterns =
                self.json((*document, *index)).and_then(|it| it.get("patternProperties"));
            for pattern in patterns.and_then(Value::as_object).into_iter().flatten() {
                found.extend(self.below(&[(*document, *index)], &["patternProperties", pattern.0]));
            }
        }
        found
    }

    pub(super) fn elements(&self, schemas: &[At]) -> Vec<At> {
        let mut found = Vec::new();
        for keyword in ["items", "additionalItems", "contains"] {
            found.extend(self.below(schemas, &[keyword]));
        }
        for (document, index) in schemas {
            for keyword in ["items", "prefixItems"] {
                let list = self.json((*document, *index)).and_then(|it| it.get(keyword));
                for place in 0..list.and_then(Value::as_array).map_or(0, Vec::len) {
                    let place = place.to_string();
                    found.extend(self.below(&[(*document, *index)], &[keyword, &place]));
                }
            }
        }
        found
    }
}
