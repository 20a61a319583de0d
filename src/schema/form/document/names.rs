//! The names of one object on their way to wire form: some become nested.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::model::json::push_token;

/// The wire names of one object.
#[derive(Default)]
pub(super) struct Names {
    /// Whether the schema has `properties` at all.
    pub(super) declared: bool,
    pub(super) required: Vec<String>,
    pub(super) tree: BTreeMap<String, Tree>,
}

/// A field, or an object that only holds a namespace's names.
pub(super) enum Tree {
    Field(Value),
    Namespace(Names),
}

impl Names {
    /// Puts a field, or nothing, at a path.
    pub(super) fn place(
        &mut self,
        path: &[String],
        field: Option<Value>,
    ) -> Result<(), &'static str> {
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

    pub(super) fn require(&mut self, path: &[String]) {
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
    pub(super) fn demand(self) -> Value {
        if self.tree.is_empty() {
            return self.required.into();
        }
        let mut schema = Map::new();
        schema.insert("required".into(), self.required.into());
        schema.insert("properties".into(), namespace(self.tree, false, None, ""));
        Value::Object(schema)
    }
}

/// The properties that names come to; those of a closed schema hold closed namespaces.
pub(super) fn namespace(
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

pub(super) fn join(pointer: &str, token: &str) -> String {
    let mut pointer = pointer.to_owned();
    push_token(&mut pointer, token);
    pointer
}
