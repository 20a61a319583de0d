//! All fields of several schemas in one, for looking at: nothing is judged by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use crate::{
    model::{json::push_token, limits},
    schema::{
        SchemaDocument, SchemaProblem,
        effective::{Facets, Place, View},
    },
};

/// Fields of several schemas.
#[derive(Clone, Debug)]
pub struct Union {
    /// A JSON Schema document that refers to nothing.
    pub document: Value,
    /// Where the schemas disagree on the type.
    pub conflicts: Vec<String>,
}

/// Merges schemas of a class, each with all it refers to. A field is as wide as the widest of them,
/// and nothing is required.
///
/// # Errors
/// `TooLarge` above `limits::UNION_FIELDS_MAX` fields.
pub fn union(
    class: &str,
    schemas: &[(Arc<SchemaDocument>, Vec<Arc<SchemaDocument>>)],
) -> Result<Union, SchemaProblem> {
    let views: Vec<View<'_>> = schemas.iter().map(|(it, closure)| View::new(it, closure)).collect();
    let begin = (0..views.len()).map(|view| (view, vec![(0, 0)])).collect();
    let mut merger = Merger { views: &views, fields: 0, conflicts: Vec::new(), open: Vec::new() };
    let Value::Object(mut document) = merger.merge(&begin, "")? else {
        return Err(Merger::too_large());
    };
    let ids: Vec<&str> = schemas.iter().map(|(it, _)| it.id()).collect();
    document.insert("$schema".into(), json!("http://json-schema.org/draft-06/schema#"));
    document.insert("$id".into(), json!(format!("{class}__union")));
    document.insert("title".into(), json!(format!("Union of {class}")));
    document.insert("meta:class".into(), json!(class));
    document.insert("meta:resourceType".into(), json!("unions"));
    document.insert("meta:schemas".into(), json!(ids));
    Ok(Union { document: Value::Object(document), conflicts: merger.conflicts })
}

/// The schemas of each view that apply at one place.
type Places = BTreeMap<usize, Vec<Place>>;

struct Merger<'v, 'a> {
    views: &'v [View<'a>],
    fields: usize,
    conflicts: Vec<String>,
    /// What is being merged, to notice a schema within itself.
    open: Vec<Places>,
}

impl<'a> Merger<'_, 'a> {
    fn too_large() -> SchemaProblem {
        let max = limits::UNION_FIELDS_MAX;
        let message = format!("the union has more than {max} fields");
        SchemaProblem::TooLarge { pointer: String::new(), message }
    }

    /// Recursion is bounded: no deeper than events are.
    fn merge(&mut self, places: &Places, path: &str) -> Result<Value, SchemaProblem> {
        self.fields += 1;
        if self.fields > limits::UNION_FIELDS_MAX {
            return Err(Self::too_large());
        }
        let all: Vec<(usize, Facets<'a>)> = places
            .iter()
            .filter_map(|(view, places)| Some((*view, self.views.get(*view)?.gather(places))))
            .collect();
        let key: Places = all.iter().map(|(view, it)| (*view, it.places.clone())).collect();
        let mut merged = self.values(&all, path);
        if self.open.contains(&key) || self.open.len() >= limits::JSON_DEPTH_MAX {
            return Ok(Value::Object(merged));
        }
        self.open.push(key);
        let mut properties: BTreeMap<&str, Places> = BTreeMap::new();
        let (mut items, mut additional) = (Places::new(), Places::new());
        for (view, facets) in &all {
            for (name, places) in &facets.properties {
                properties.entry(name).or_default().insert(*view, places.clone());
            }
            for (from, to) in [(&facets.items, &mut items), (&facets.additional, &mut additional)] {
                if !from.is_empty() {
                    to.insert(*view, from.clone());
                }
            }
        }
        if !properties.is_empty() {
            let mut fields = Map::new();
            for (name, places) in properties {
                let mut path = path.to_owned();
                push_token(&mut path, name);
                fields.insert(name.to_owned(), self.merge(&places, &path)?);
            }
            merged.insert("properties".into(), Value::Object(fields));
        }
        for (keyword, places) in [("items", items), ("additionalProperties", additional)] {
            if !places.is_empty() {
                merged.insert(keyword.into(), self.merge(&places, &format!("{path}/*"))?);
            }
        }
        self.open.pop();
        Ok(Value::Object(merged))
    }

    /// The keywords of a place that are not about what is below it.
    fn values(&mut self, all: &[(usize, Facets<'a>)], path: &str) -> Map<String, Value> {
        let mut merged = Map::new();
        let each = || all.iter().map(|(_, it)| it);
        let types: Vec<&BTreeSet<&str>> = each().filter_map(|it| it.types.as_ref()).collect();
        if types.iter().any(|it| Some(it) != types.first()) {
            self.conflicts.push(path.to_owned());
        }
        let types: BTreeSet<&str> = types.into_iter().flatten().copied().collect();
        match types.len() {
            0 => {}
            1 => drop(merged.insert("type".into(), json!(types.first()))),
            _ => drop(merged.insert("type".into(), json!(types))),
        }
        for (key, text) in [
            ("title", each().find_map(|it| it.title)),
            ("description", each().find_map(|it| it.description)),
        ] {
            if let Some(text) = text {
                merged.insert(key.into(), json!(text));
            }
        }
        let formats: BTreeSet<&BTreeSet<&str>> = each().map(|it| &it.formats).collect();
        if let (1, Some(format)) = (formats.len(), formats.first().and_then(|it| it.first())) {
            merged.insert("format".into(), json!(format));
        }
        if each().all(|it| it.values.is_some()) {
            let mut values: Vec<&Value> = Vec::new();
            for value in each().filter_map(|it| it.values.as_ref()).flatten() {
                if !values.contains(value) {
                    values.push(value);
                }
            }
            merged.insert("enum".into(), json!(values));
        }
        let suggested: BTreeSet<&str> =
            each().flat_map(|it| it.suggested.iter().copied()).collect();
        if !suggested.is_empty() {
            let suggested: Map<String, Value> =
                suggested.into_iter().map(|it| (it.to_owned(), json!(it))).collect();
            merged.insert("meta:enum".into(), Value::Object(suggested));
        }
        merged
    }
}
