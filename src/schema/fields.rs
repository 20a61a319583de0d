//! The fields of a schema, looked up by name: what a condition may speak of.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use crate::{
    model::limits,
    schema::{
        FieldType, SchemaDocument, field_type,
        space::{At, ROOT, Space, Walk},
    },
};

/// A schema with its closure, to look up fields in.
pub struct Fields {
    id: String,
    space: Space,
}

/// A place in an event, by all schemas that may apply there; the empty one is a place of which no
/// schema says anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(Vec<At>);

/// Keywords under which a place may be one thing or another.
const ALTERNATIVES: [&str; 5] = ["anyOf", "oneOf", "if", "not", "dependentSchemas"];

impl Fields {
    /// The fields of a schema.
    #[must_use]
    pub fn new(root: Arc<SchemaDocument>, closure: &[Arc<SchemaDocument>]) -> Self {
        Self { id: root.id().to_owned(), space: Space::new(root, closure) }
    }

    /// `$id` of the schema.
    #[must_use]
    pub fn schema_id(&self) -> &str {
        &self.id
    }

    /// The event itself.
    #[must_use]
    pub fn root(&self) -> Field {
        Field(vec![ROOT])
    }

    /// The member of an object with this name, or the value that a map has under it.
    #[must_use]
    pub fn member(&self, of: &Field, name: &str) -> Option<Field> {
        let walk = self.walk();
        let all = walk.expand(&of.0);
        let named = walk.below(&all, &["properties", name]);
        let found = if named.is_empty() { walk.data(&all) } else { named };
        (!found.is_empty()).then_some(Field(found))
    }

    /// The elements of a list.
    #[must_use]
    pub fn element(&self, of: &Field) -> Field {
        let walk = self.walk();
        Field(walk.elements(&walk.expand(&of.0)))
    }

    /// What it is; `None` when the schema does not tell.
    #[must_use]
    pub fn type_of(&self, field: &Field) -> Option<FieldType> {
        let walk = self.walk();
        let own = field.0.iter().filter_map(|it| walk.json(*it)).find_map(field_type::derive);
        own.or_else(|| {
            let mut all = walk.expand(&field.0);
            all.sort_unstable();
            all.into_iter().filter_map(|it| walk.json(it)).find_map(field_type::derive)
        })
    }

    /// The texts that alone may stand there; `None` when the schema does not tell.
    #[must_use]
    pub fn values(&self, field: &Field) -> Option<Vec<String>> {
        let walk = self.walk();
        let all = walk.expand(&field.0);
        let json: Vec<_> = all.iter().filter_map(|it| walk.json(*it)).collect();
        if json.iter().any(|it| ALTERNATIVES.iter().any(|keyword| it.get(keyword).is_some())) {
            return None;
        }
        let lists = json.iter().filter_map(|it| match it.get("const") {
            Some(only) => Some(vec![only]),
            None => Some(it.get("enum")?.as_array()?.iter().collect()),
        });
        let texts = |list: Vec<&Value>| -> Option<BTreeSet<String>> {
            list.into_iter().map(|it| it.as_str().map(str::to_owned)).collect()
        };
        let mut allowed: Option<BTreeSet<String>> = None;
        for list in lists {
            let list = texts(list)?;
            allowed = Some(match allowed {
                Some(before) => before.intersection(&list).cloned().collect(),
                None => list,
            });
        }
        allowed.map(|it| it.into_iter().collect())
    }

    /// The names of an object's members.
    #[must_use]
    pub fn names(&self, of: &Field) -> Vec<String> {
        let walk = self.walk();
        let mut names = BTreeSet::new();
        for schema in walk.expand(&of.0) {
            let properties = walk.json(schema).and_then(|it| it.get("properties")?.as_object());
            names.extend(properties.into_iter().flatten().map(|(name, _)| name.clone()));
        }
        names.into_iter().collect()
    }

    /// The names of an object's members that it must have.
    #[must_use]
    pub fn required(&self, of: &Field) -> BTreeSet<String> {
        let walk = self.walk();
        let mut names = BTreeSet::new();
        for schema in walk.expand(&of.0) {
            let required = walk.json(schema).and_then(|it| it.get("required")?.as_array());
            let required = required.into_iter().flatten().filter_map(Value::as_str);
            names.extend(required.map(str::to_owned));
        }
        names
    }

    fn walk(&self) -> Walk<'_> {
        Walk::new(&self.space, limits::FORM_STEPS_MAX)
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fields({})", self.id)
    }
}
