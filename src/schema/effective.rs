//! What a schema comes to at one place of an event: the conjunction of all that `allOf` and `$ref`
//! apply there. For looking at schemas; judging is the JSON Schema crate's.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{Map, Value};

use crate::{
    model::json::push_token,
    schema::{
        SchemaDocument,
        keyword::{draft_of, reference_stands_alone},
    },
};

/// One schema of one document of a view.
pub(super) type Place = (usize, usize);

/// A document with all it refers to.
pub(super) struct View<'a> {
    pub(super) documents: Vec<&'a SchemaDocument>,
    owners: HashMap<&'a str, usize>,
}

/// Keywords whose value is a number, and whether a larger one accepts less.
pub(super) const BOUNDS: [(&str, bool); 10] = [
    ("minimum", true),
    ("exclusiveMinimum", true),
    ("minLength", true),
    ("minItems", true),
    ("minProperties", true),
    ("maximum", false),
    ("exclusiveMaximum", false),
    ("maxLength", false),
    ("maxItems", false),
    ("maxProperties", false),
];

/// Keywords with schemas that apply under conditions, or to other things than fields.
const CONDITIONS: [&str; 16] = [
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependencies",
    "dependentSchemas",
    "dependentRequired",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "additionalItems",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Everything that applies at one place.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a keyword's")]
pub(super) struct Facets<'a> {
    /// The schemas it is made of, ascending.
    pub(super) places: Vec<Place>,
    /// `false` stands among them: nothing is accepted.
    pub(super) never: bool,
    /// `None`: any.
    pub(super) types: Option<BTreeSet<&'a str>>,
    /// `None`: any.
    pub(super) values: Option<Vec<&'a Value>>,
    /// Keys of `meta:enum` where there is no `enum`.
    pub(super) suggested: BTreeSet<&'a str>,
    pub(super) bounds: BTreeMap<&'static str, f64>,
    pub(super) multiples: Vec<f64>,
    pub(super) unique: bool,
    pub(super) patterns: BTreeSet<&'a str>,
    pub(super) formats: BTreeSet<&'a str>,
    pub(super) required: BTreeSet<&'a str>,
    pub(super) properties: BTreeMap<&'a str, Vec<Place>>,
    pub(super) pattern_properties: BTreeMap<&'a str, Vec<Place>>,
    /// `additionalProperties` is false somewhere.
    pub(super) closed: bool,
    pub(super) additional: Vec<Place>,
    pub(super) items: Vec<Place>,
    /// Elements with schemas of their own.
    pub(super) elements: BTreeMap<usize, Vec<Place>>,
    pub(super) conditions: BTreeMap<&'static str, Vec<Condition<'a>>>,
    pub(super) title: Option<&'a str>,
    pub(super) description: Option<&'a str>,
    pub(super) deprecated: bool,
}

/// One keyword of conditional schemas.
pub(super) struct Condition<'a> {
    pub(super) value: &'a Value,
    /// Its schemas, by where they stand under the keyword.
    pub(super) branches: Vec<(String, Place)>,
}

impl<'a> View<'a> {
    pub(super) fn new(root: &'a SchemaDocument, closure: &'a [Arc<SchemaDocument>]) -> Self {
        let documents: Vec<_> =
            std::iter::once(root).chain(closure.iter().map(Arc::as_ref)).collect();
        let mut owners = HashMap::new();
        for (place, document) in documents.iter().enumerate() {
            let document: &'a SchemaDocument = document;
            owners.extend(document.outline.resources.keys().map(|id| (id.as_str(), place)));
        }
        Self { documents, owners }
    }

    /// Everything that applies where these schemas do.
    pub(super) fn gather(&self, begin: &[Place]) -> Facets<'a> {
        let mut facets = Facets::default();
        let mut seen: BTreeSet<Place> = BTreeSet::new();
        let mut left: Vec<Place> = begin.to_vec();
        while let Some(place) = left.pop() {
            if !seen.insert(place) {
                continue;
            }
            let Some((pointer, value)) = self.schema(place) else { continue };
            match value {
                Value::Bool(accepts) => facets.never |= !accepts,
                Value::Object(members) => {
                    let references = self.references(place);
                    let alone = !references.is_empty() && self.stands_alone(place.0);
                    left.extend(references);
                    if alone {
                        facets.annotate(members);
                    } else {
                        let at = Schema { view: self, document: place.0, pointer };
                        left.extend(at.list("allOf", members));
                        facets.add(&at, members);
                    }
                }
                Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {}
            }
        }
        facets.places = seen.into_iter().collect();
        facets
    }

    fn schema(&self, (document, schema): Place) -> Option<(&'a str, &'a Value)> {
        let document: &'a SchemaDocument = self.documents.get(document)?;
        let pointer = document.outline.schemas.get(schema)?.pointer.as_str();
        Some((pointer, document.value.pointer(pointer)?))
    }

    fn references(&self, (document, schema): Place) -> Vec<Place> {
        let Some(document) = self.documents.get(document) else { return Vec::new() };
        let Some(schema) = document.outline.schemas.get(schema) else { return Vec::new() };
        let references =
            schema.references.iter().filter_map(|it| document.outline.references.get(*it));
        references
            .filter_map(|(it, _)| {
                let owner = *self.owners.get(it.target.as_str())?;
                let found = self.documents.get(owner)?.outline.find(&it.target, &it.fragment)?;
                Some((owner, found))
            })
            .collect()
    }

    fn stands_alone(&self, document: usize) -> bool {
        let schema = self.documents.get(document).and_then(|it| it.value.get("$schema"));
        schema.and_then(Value::as_str).and_then(draft_of).is_some_and(reference_stands_alone)
    }
}

/// Where a schema's own keywords are looked up.
struct Schema<'v, 'a> {
    view: &'v View<'a>,
    document: usize,
    pointer: &'a str,
}

impl Schema<'_, '_> {
    /// The schema below this one.
    fn child(&self, tokens: &[&str]) -> Option<Place> {
        let mut pointer = self.pointer.to_owned();
        for token in tokens {
            push_token(&mut pointer, token);
        }
        let outline = &self.view.documents.get(self.document)?.outline;
        outline.by_pointer.get(&pointer).map(|it| (self.document, *it))
    }

    /// The schemas of a keyword that has a list of them.
    fn list(&self, keyword: &str, members: &Map<String, Value>) -> Vec<Place> {
        let length = members.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
        (0..length).filter_map(|it| self.child(&[keyword, &it.to_string()])).collect()
    }

    /// All schemas directly under a keyword.
    fn branches(&self, keyword: &str, value: &Value) -> Vec<(String, Place)> {
        let tokens: Vec<String> = match value {
            Value::Array(items) => (0..items.len()).map(|it| it.to_string()).collect(),
            Value::Object(members) if self.child(&[keyword]).is_none() => {
                members.keys().cloned().collect()
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => {
                let child = self.child(&[keyword]);
                return child.map(|it| (String::new(), it)).into_iter().collect();
            }
        };
        let found = tokens.into_iter().filter_map(|it| {
            let place = self.child(&[keyword, &it])?;
            Some((it, place))
        });
        found.collect()
    }
}

impl<'a> Facets<'a> {
    fn add(&mut self, at: &Schema<'_, 'a>, members: &'a Map<String, Value>) {
        self.annotate(members);
        self.add_values(members);
        self.add_fields(at, members);
        if let Some(items) = members.get("items").or_else(|| members.get("prefixItems")) {
            let tuple = if members.contains_key("prefixItems") { "prefixItems" } else { "items" };
            self.items.extend(at.child(&["items"]));
            let length = items.as_array().or_else(|| members.get(tuple)?.as_array());
            for place in 0..length.map_or(0, Vec::len) {
                let child = at.child(&[tuple, &place.to_string()]);
                self.elements.entry(place).or_default().extend(child);
            }
        }
        for keyword in CONDITIONS {
            if let Some(value) = members.get(keyword) {
                let branches = at.branches(keyword, value);
                self.conditions.entry(keyword).or_default().push(Condition { value, branches });
            }
        }
    }

    fn annotate(&mut self, members: &'a Map<String, Value>) {
        let text = |key: &str| members.get(key).and_then(Value::as_str);
        self.title = self.title.or(text("title"));
        self.description = self.description.or(text("description"));
        self.deprecated |= text("meta:status") == Some("deprecated");
    }

    fn add_values(&mut self, members: &'a Map<String, Value>) {
        let types: Option<BTreeSet<&str>> = match members.get("type") {
            Some(Value::String(one)) => Some(BTreeSet::from([one.as_str()])),
            Some(Value::Array(many)) => Some(many.iter().filter_map(Value::as_str).collect()),
            _ => None,
        };
        if let Some(types) = types {
            self.types = Some(match self.types.take() {
                None => types,
                Some(before) => common(&before, &types),
            });
        }
        let one = members.get("const").map(|it| vec![it]);
        let listed = members.get("enum").and_then(Value::as_array);
        for values in one.into_iter().chain(listed.map(|it| it.iter().collect())) {
            self.values = Some(match self.values.take() {
                None => values,
                Some(before) => before.into_iter().filter(|it| values.contains(it)).collect(),
            });
        }
        if let Some(suggested) = members.get("meta:enum").and_then(Value::as_object)
            && listed.is_none()
        {
            self.suggested.extend(suggested.keys().map(String::as_str));
        }
        for (keyword, is_lower) in BOUNDS {
            let Some(bound) = members.get(keyword).and_then(Value::as_f64) else { continue };
            let tighter = |a: f64, b: f64| if is_lower { a.max(b) } else { a.min(b) };
            self.bounds.entry(keyword).and_modify(|it| *it = tighter(*it, bound)).or_insert(bound);
        }
        self.multiples.extend(members.get("multipleOf").and_then(Value::as_f64));
        self.unique |= members.get("uniqueItems") == Some(&Value::Bool(true));
        self.patterns.extend(members.get("pattern").and_then(Value::as_str));
        self.formats.extend(members.get("format").and_then(Value::as_str));
    }

    fn add_fields(&mut self, at: &Schema<'_, 'a>, members: &'a Map<String, Value>) {
        let names =
            members.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        self.required.extend(names.iter().filter_map(Value::as_str));
        let keys = |keyword: &str| {
            members.get(keyword).and_then(Value::as_object).into_iter().flat_map(Map::keys)
        };
        for name in keys("properties") {
            self.properties.entry(name).or_default().extend(at.child(&["properties", name]));
        }
        for name in keys("patternProperties") {
            let child = at.child(&["patternProperties", name]);
            self.pattern_properties.entry(name).or_default().extend(child);
        }
        match members.get("additionalProperties") {
            Some(Value::Bool(false)) => self.closed = true,
            Some(Value::Object(_)) => self.additional.extend(at.child(&["additionalProperties"])),
            _ => {}
        }
    }
}

/// Types that both accept; an integer is a number.
fn common<'a>(a: &BTreeSet<&'a str>, b: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let has = |types: &BTreeSet<&str>, it: &str| {
        types.contains(it) || it == "integer" && types.contains("number")
    };
    a.union(b).copied().filter(|it| has(a, it) && has(b, it)).collect()
}
