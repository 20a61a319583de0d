//! Which keys of an event its schema describes.
//!
//! An object is described if some schema that may apply to it names a field, a pattern of names, or what
//! all other keys hold. What a schema says nothing of, `{"type": "object"}` for example, is free.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::{
    model::{
        Violation,
        json::{Node, push_token},
        limits, shorten,
    },
    schema::{
        compile,
        space::{At, ROOT, Space, Walk},
    },
};

/// What becomes of keys that a schema does not describe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnknownFields {
    /// As the schema says: they are taken where it is not closed.
    #[default]
    AsSchema,
    /// They are taken, also where the schema is closed.
    Allow,
    /// They are refused.
    Refuse,
}

/// What every event may have at its top, whatever its schema.
const OF_EVERY_EVENT: [&str; 4] = ["_id", "timestamp", "eventType", "identityMap"];

/// The keys that a schema describes, found out as events ask for them.
pub(super) struct Described {
    space: Arc<Space>,
    known: RwLock<HashMap<Vec<At>, Arc<Place>>>,
}

/// What schemas come to at one place of an event.
#[derive(Default)]
struct Place {
    fields: HashMap<String, Vec<At>>,
    /// Patterns of names.
    patterns: Vec<(Validator, Vec<At>)>,
    /// What all other keys hold; empty when nothing describes them.
    others: Vec<At>,
    elements: Vec<At>,
}

impl Described {
    pub(super) fn new(space: Arc<Space>) -> Self {
        Self { space, known: RwLock::default() }
    }

    /// The keys of an event that are not described, at most `max`.
    pub(super) fn unknown(&self, event: Node<'_>, max: usize) -> Vec<Violation> {
        let mut found = Vec::new();
        self.look(event, &[ROOT], &mut String::new(), &mut found, max);
        found
    }

    /// Recursion is bounded by the depth of a document.
    fn look(
        &self,
        node: Node<'_>,
        schemas: &[At],
        path: &mut String,
        found: &mut Vec<Violation>,
        max: usize,
    ) {
        if found.len() >= max || schemas.is_empty() || !(node.is_object() || node.is_array()) {
            return;
        }
        let Some(place) = self.place(schemas) else {
            let message =
                format!("the schema of this place takes more than {STEPS} steps to look up");
            found.push(violation(path, message));
            return;
        };
        let end = path.len();
        for (index, element) in node.elements().enumerate() {
            push_token(path, &index.to_string());
            self.look(element, &place.elements, path, found, max);
            path.truncate(end);
        }
        if !place.is_described() {
            return;
        }
        for (key, value) in node.members() {
            push_token(path, key);
            match place.below(key) {
                Some(schemas) => self.look(value, &schemas, path, found, max),
                None if end == 0 && OF_EVERY_EVENT.contains(&key) => {}
                None if found.len() >= max => return,
                None => {
                    let message = format!("`{}` is not a field of the schema", shorten(key));
                    found.push(violation(path, message));
                }
            }
            path.truncate(end);
        }
    }

    /// `None` when looking takes too long.
    fn place(&self, schemas: &[At]) -> Option<Arc<Place>> {
        if let Some(place) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(schemas)
        {
            return Some(Arc::clone(place));
        }
        let walk = Walk::new(&self.space, STEPS);
        let place = Arc::new(Place::find(&walk, schemas));
        if walk.is_exhausted() {
            return None;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= limits::DESCRIBED_PLACES_MAX {
            known.clear(); // they are found again
        }
        known.insert(schemas.to_vec(), Arc::clone(&place));
        Some(place)
    }
}

const STEPS: u32 = limits::FORM_STEPS_MAX;

impl Place {
    fn find(walk: &Walk<'_>, schemas: &[At]) -> Self {
        let schemas = walk.expand(schemas);
        let mut place = Self { elements: walk.elements(&schemas), ..Self::default() };
        for at in &schemas {
            let Some(json) = walk.json(*at) else { continue };
            let names = |keyword: &str| json.get(keyword).and_then(Value::as_object);
            for name in names("properties").into_iter().flat_map(|it| it.keys()) {
                let below = walk.below(&[*at], &["properties", name]);
                place.fields.entry(name.clone()).or_default().extend(below);
            }
            for pattern in names("patternProperties").into_iter().flat_map(|it| it.keys()) {
                let below = walk.below(&[*at], &["patternProperties", pattern]);
                // It has compiled as part of the schema.
                place.patterns.extend(compile::pattern(pattern).map(|it| (it, below)));
            }
            for keyword in ["additionalProperties", "unevaluatedProperties"] {
                if names(keyword).is_some_and(|it| !it.is_empty()) {
                    place.others.extend(walk.below(&[*at], &[keyword]));
                }
            }
        }
        place
    }

    fn is_described(&self) -> bool {
        !(self.fields.is_empty() && self.patterns.is_empty() && self.others.is_empty())
    }

    /// The schemas of what a key holds; `None` when the key is unknown.
    fn below(&self, key: &str) -> Option<Vec<At>> {
        let field = self.fields.get(key);
        let name = json!(key);
        let matching = self.patterns.iter().filter(|(pattern, _)| pattern.is_valid(&name));
        let matching: Vec<&Vec<At>> = matching.map(|(_, schemas)| schemas).collect();
        if field.is_none() && matching.is_empty() {
            return (!self.others.is_empty()).then(|| self.others.clone());
        }
        Some(field.into_iter().chain(matching).flatten().copied().collect())
    }
}

fn violation(path: &str, message: String) -> Violation {
    let mut violation = Violation::of_event(path, "unknownField", message);
    violation.shorten_path();
    violation
}
