//! Which fields of an event are delivered.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    model::json::Node,
    schema::{Field, FieldType, Fields},
};

/// Members that are kept, and what of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection(BTreeMap<String, Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Of(Selection),
}

impl Selection {
    /// What these paths and the schema's own demands select; `None`: everything.
    pub(crate) fn new(paths: &[String], fields: &Fields) -> Option<Self> {
        if paths.is_empty() {
            return None;
        }
        let mut selection = Self::default();
        for path in paths {
            selection.add(path.split('.'));
        }
        selection.force(fields, &fields.root());
        Some(selection)
    }

    fn add<'a>(&mut self, mut path: impl Iterator<Item = &'a str>) {
        let Some(name) = path.next() else { return };
        let rest: Vec<&str> = path.collect();
        let part = self.0.entry(name.to_owned()).or_insert_with(|| Part::Of(Self::default()));
        match part {
            Part::Whole => {}
            Part::Of(_) if rest.is_empty() => *part = Part::Whole,
            Part::Of(inside) => inside.add(rest.into_iter()),
        }
    }

    /// Adds what an object must have: what is left of it is then still true to the schema.
    fn force(&mut self, fields: &Fields, object: &Field) {
        for name in fields.required(object) {
            self.0.entry(name).or_insert(Part::Whole);
        }
        for (name, part) in &mut self.0 {
            let Part::Of(inside) = part else { continue };
            let Some(mut field) = fields.member(object, name) else { continue };
            while fields.type_of(&field) == Some(FieldType::Array) {
                field = fields.element(&field);
            }
            inside.force(fields, &field);
        }
    }

    /// The paths that it selects, each with all below it.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        for (name, part) in &self.0 {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match part {
                Part::Whole => paths.push(path),
                Part::Of(inside) => inside.collect(&path, paths),
            }
        }
    }

    /// What it leaves of an event. Numbers keep their value, not their spelling.
    pub(crate) fn of(&self, event: Node<'_>) -> Value {
        if event.is_array() {
            return event.elements().map(|it| self.of(it)).collect();
        }
        if !event.is_object() {
            return event.to_value();
        }
        let mut kept = serde_json::Map::new();
        for (name, value) in event.members() {
            match self.0.get(name) {
                Some(Part::Whole) => drop(kept.insert(name.to_owned(), value.to_value())),
                Some(Part::Of(inside)) => drop(kept.insert(name.to_owned(), inside.of(value))),
                None => {}
            }
        }
        Value::Object(kept)
    }
}
