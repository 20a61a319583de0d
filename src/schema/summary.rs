//! What a schema allows, field by field.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    model::limits,
    schema::{
        FieldType, SchemaDocument, SchemaKind,
        composition::{BEHAVIORS, TIME_SERIES},
        document::strings,
        field_type, form,
        space::{At, ROOT, Space, Walk},
    },
};

/// A schema at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// `$id` of the class; empty when there is none.
    pub class: String,
    /// `$id` of the behaviour; empty when there is none.
    pub behavior: String,
    /// `$id`s of the field groups that it includes, in their order.
    pub field_groups: Vec<String>,
    /// All fields, each after the one that holds it.
    pub fields: Vec<FieldSummary>,
    /// Whether there are more fields than are told.
    pub truncated: bool,
}

/// One field of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldSummary {
    /// Names with dots between them; `[]` stands for the elements of a list, `*` for a map's keys.
    pub path: String,
    /// Its name in long form; empty when it is the same.
    pub long_name: String,
    /// `None` when the schema does not tell.
    pub type_: Option<FieldType>,
    /// Whether what holds it must have it.
    pub required: bool,
    /// The field's title.
    pub title: String,
    /// Whether it holds one of the fields above it again; those are not told twice.
    pub recursive: bool,
}

/// Summarizes a schema with its closure.
#[must_use]
pub fn summarize(root: &Arc<SchemaDocument>, closure: &[Arc<SchemaDocument>]) -> Summary {
    let space = Space::new(Arc::clone(root), closure);
    let mut writer = Writer {
        walk: Walk::new(&space, limits::FORM_STEPS_MAX),
        fields: Vec::new(),
        open: Vec::new(),
    };
    writer.object(&[ROOT], "");
    let truncated = writer.fields.len() >= limits::SUMMARY_FIELDS_MAX || writer.walk.is_exhausted();
    let of_kind = |kind: SchemaKind| closure.iter().filter(move |it| it.kind() == kind);
    let class = class_of(root, closure);
    let behavior = behavior_of(root, closure);
    Summary {
        class: class.unwrap_or_default(),
        behavior: behavior.unwrap_or_default().to_owned(),
        field_groups: root
            .references()
            .iter()
            .filter_map(|it| of_kind(SchemaKind::FieldGroup).find(|group| group.id() == it.target))
            .map(|it| it.id().to_owned())
            .collect(),
        fields: writer.fields,
        truncated,
    }
}

/// Whether a schema is of events, as far as it says what it is of.
#[must_use]
pub fn is_time_series(root: &SchemaDocument, closure: &[Arc<SchemaDocument>]) -> bool {
    let behavior = behavior_of(root, closure);
    behavior.is_none_or(|it| it == TIME_SERIES)
}

fn behavior_of<'a>(root: &'a SchemaDocument, closure: &[Arc<SchemaDocument>]) -> Option<&'a str> {
    let stated = || strings(root.value.get("meta:extends")).find(|it| BEHAVIORS.contains(it));
    let included = |id: &&str| closure.iter().any(|found| found.id() == *id);
    BEHAVIORS.into_iter().find(included).or_else(stated)
}

/// `$id` of a schema's class, if it has one.
#[must_use]
pub fn class_of(root: &SchemaDocument, closure: &[Arc<SchemaDocument>]) -> Option<String> {
    if root.kind() == SchemaKind::Class {
        return Some(root.id().to_owned());
    }
    let included = |it: &&Arc<SchemaDocument>| {
        let is_class = it.kind() == SchemaKind::Class;
        is_class && root.references().iter().any(|reference| reference.target == it.id())
    };
    let stated = root.value.get("meta:class").and_then(Value::as_str).map(str::to_owned);
    stated.or_else(|| closure.iter().find(included).map(|it| it.id().to_owned()))
}

struct Writer<'a> {
    walk: Walk<'a>,
    fields: Vec<FieldSummary>,
    /// The fields that hold the present one.
    open: Vec<Vec<At>>,
}

impl Writer<'_> {
    fn object(&mut self, schemas: &[At], path: &str) {
        let schemas = self.walk.expand(schemas);
        let mut names: BTreeMap<String, Vec<At>> = BTreeMap::new();
        for schema in &schemas {
            let properties = self.walk.json(*schema).and_then(|it| it.get("properties"));
            for (name, _) in properties.and_then(Value::as_object).into_iter().flatten() {
                let found = self.walk.below(&[*schema], &["properties", name]);
                names.entry(name.clone()).or_default().extend(found);
            }
        }
        let required: Vec<&str> = schemas
            .iter()
            .filter_map(|it| self.walk.json(*it)?.get("required")?.as_array())
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (name, fields) in names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            self.field(&fields, &path, required.contains(&name.as_str()));
        }
        let data = self.walk.data(&schemas);
        if !data.is_empty() {
            let path = if path.is_empty() { "*".to_owned() } else { format!("{path}.*") };
            self.field(&data, &path, false);
        }
    }

    fn field(&mut self, fields: &[At], path: &str, required: bool) {
        if self.fields.len() >= limits::SUMMARY_FIELDS_MAX || self.walk.is_exhausted() {
            return;
        }
        let mut all = self.walk.expand(fields);
        all.sort_unstable();
        let json = || all.iter().filter_map(|it| self.walk.json(*it));
        let own = || fields.iter().filter_map(|it| self.walk.json(*it));
        let recursive = self.open.contains(&all) || self.open.len() >= limits::JSON_DEPTH_MAX;
        let title = own().chain(json()).find_map(|it| it.get("title")?.as_str());
        self.fields.push(FieldSummary {
            long_name: own().find_map(form::long_name).unwrap_or_default().to_owned(),
            type_: own().chain(json()).find_map(field_type::derive),
            required,
            title: title.unwrap_or_default().to_owned(),
            recursive,
            path: path.to_owned(),
        });
        if recursive {
            return;
        }
        let elements = self.walk.elements(&all);
        self.open.push(all);
        self.object(fields, path);
        if !elements.is_empty() {
            self.field(&elements, &format!("{path}[]"), false);
        }
        self.open.pop();
    }
}
