//! The other validator.

use std::collections::{BTreeSet, HashMap};

use boon::{Compiler, Draft, ErrorKind, SchemaIndex, Schemas, ValidationError};
use serde_json::Value;

/// Places, as JSON Pointers, and keywords.
type Places = BTreeSet<(String, String)>;

/// What is wrong with an event.
#[derive(Default)]
pub(super) struct Wrong {
    /// By the schema.
    pub(super) places: Places,
    /// By what Milepost asks of every event, whatever the schema. What is wrong by both is told once.
    pub(super) own: Places,
    /// Whether it lies too deep to be read, so that no schema is asked.
    pub(super) unread: bool,
    /// Whether a name is wrong. The other does not say of which object.
    pub(super) names: bool,
    /// Whether there may be more.
    pub(super) cut_off: bool,
}

impl Wrong {
    /// How Milepost and the other differ, if they do. By which keyword a place is wrong is not compared: of
    /// several, each may stop at another.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let of = |places: &Places| -> BTreeSet<String> {
            places.iter().map(|it| it.0.clone()).collect()
        };
        let (here, own, there) = (of(&self.places), of(&self.own), of(&other.places));
        let same = if self.unread {
            true
        } else if self.cut_off {
            other.names || !there.is_empty()
        } else {
            self.names == other.names
                && here.is_subset(&there)
                && there.iter().all(|it| here.contains(it) || own.contains(it))
        };
        let only = |one: &Places, two: &BTreeSet<String>| -> Vec<String> {
            let only = one.iter().filter(|it| !two.contains(&it.0));
            only.map(|(place, keyword)| format!("{place} {keyword}")).collect()
        };
        (!same).then(|| {
            let (here, there) = (only(&self.places, &there), only(&other.places, &here));
            format!("only here {here:?}, only there {there:?}, by rules of our own {:?}", self.own)
        })
    }
}

pub(super) struct Other {
    compiler: Compiler,
    schemas: Schemas,
    compiled: HashMap<String, SchemaIndex>,
}

impl Other {
    pub(super) fn new<'a>(documents: impl Iterator<Item = &'a str>) -> Self {
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V6);
        compiler.enable_format_assertions();
        for document in documents {
            let document: Value = serde_json::from_str(document).unwrap();
            let id = document["$id"].as_str().unwrap().trim_end_matches('#').to_owned();
            compiler.add_resource(&id, document).unwrap();
        }
        Self { compiler, schemas: Schemas::new(), compiled: HashMap::new() }
    }

    pub(super) fn wrong(&mut self, schema: &str, event: &Value) -> Wrong {
        let known = self.compiled.get(schema).copied();
        let index = known.unwrap_or_else(|| {
            let compiled = self.compiler.compile(schema, &mut self.schemas);
            compiled.unwrap_or_else(|it| panic!("{schema}: {it:#}"))
        });
        self.compiled.insert(schema.to_owned(), index);
        let mut wrong = Wrong::default();
        if let Err(error) = self.schemas.validate(event, index) {
            collect(&error, &mut wrong);
        }
        wrong
    }
}

/// The places of what is wrong by itself: not of what only says that something below it is.
fn collect(error: &ValidationError<'_, '_>, wrong: &mut Wrong) {
    match &error.kind {
        ErrorKind::Group
        | ErrorKind::Schema { .. }
        | ErrorKind::Reference { .. }
        | ErrorKind::AllOf => error.causes.iter().for_each(|it| collect(it, wrong)),
        ErrorKind::PropertyName { .. } => wrong.names = true,
        kind => {
            let keyword = format!("{kind:?}");
            let keyword = keyword.split([' ', '(']).next().unwrap_or_default().to_owned();
            wrong.places.insert((error.instance_location.to_string(), keyword));
        }
    }
}
