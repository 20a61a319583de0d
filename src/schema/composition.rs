//! What a class and a schema are made of: one behaviour, one class, field groups that fit it.

use std::{collections::HashSet, sync::Arc};

use serde_json::Value;

use crate::schema::{Fault, SchemaDocument, SchemaKind, SchemaProblem, document::strings};

/// Checks that a document is put together as XDM wants it, as far as it says that it is XDM's.
///
/// A schema that names or includes a class includes exactly that one, and only field groups that are
/// intended for it. A class extends one behaviour. What says nothing of this is plain JSON Schema.
///
/// # Errors
///
/// `Composition` with everything found wrong.
pub fn check_composition(
    root: &SchemaDocument,
    closure: &[Arc<SchemaDocument>],
) -> Result<(), SchemaProblem> {
    let documents = Documents(closure);
    let faults = match root.kind() {
        SchemaKind::Schema => documents.check_schema(root),
        SchemaKind::Class => documents.check_class(root),
        SchemaKind::Behavior | SchemaKind::FieldGroup | SchemaKind::DataType => Vec::new(),
    };
    if faults.is_empty() { Ok(()) } else { Err(SchemaProblem::Composition(faults)) }
}

struct Documents<'a>(&'a [Arc<SchemaDocument>]);

/// A document that another includes as a whole, and where.
struct Included<'a> {
    pointer: &'a str,
    document: &'a SchemaDocument,
}

impl<'a> Documents<'a> {
    fn get(&self, id: &str) -> Option<&'a SchemaDocument> {
        self.0.iter().find(|it| it.id() == id).map(Arc::as_ref)
    }

    /// What `allOf` of the document itself includes.
    fn included(&self, root: &'a SchemaDocument) -> Vec<Included<'a>> {
        let own = root.references().iter().filter(|it| {
            let parts: Vec<&str> = it.pointer.split('/').collect();
            matches!(parts.as_slice(), ["", "allOf", _, "$ref"]) && it.fragment.is_empty()
        });
        let found = own.filter_map(|it| {
            Some(Included { pointer: &it.pointer, document: self.get(&it.target)? })
        });
        found.collect()
    }

    fn check_schema(&self, root: &'a SchemaDocument) -> Vec<Fault> {
        let included = self.included(root);
        let classes: Vec<_> =
            included.iter().filter(|it| it.document.kind() == SchemaKind::Class).collect();
        let stated = root.value.get("meta:class").and_then(Value::as_str);
        let own = match (stated, classes.as_slice()) {
            (None, []) => return Vec::new(),
            (Some(stated), _) => classes.iter().find(|it| it.document.id() == stated),
            // Of a class and those that it extends the most special one counts.
            (None, [first, ..]) => classes
                .iter()
                .find(|it| {
                    classes.iter().all(|other| self.extends(it.document, other.document.id()))
                })
                .or(Some(first)),
        };
        let Some(own) = own else {
            let stated = stated.unwrap_or_default();
            let message = format!("`{stated}` is not a class that `allOf` includes");
            return vec![Fault { pointer: "/meta:class".into(), message }];
        };
        let class = own.document;
        let mut faults = Vec::new();
        for it in &classes {
            let id = it.document.id();
            if !self.extends(class, id) {
                let message =
                    format!("`{id}` is a second class beside `{}`; wanted one", class.id());
                faults.push(Fault { pointer: it.pointer.to_owned(), message });
            }
        }
        for it in included.iter().filter(|it| it.document.kind() == SchemaKind::FieldGroup) {
            let intended: Vec<&str> =
                strings(it.document.value.get("meta:intendedToExtend")).collect();
            if !intended.is_empty() && !intended.iter().any(|it| self.extends(class, it)) {
                let (id, intended) = (it.document.id(), intended.join("`, `"));
                let message = format!(
                    "field group `{id}` is intended for `{intended}`; the class is `{}`",
                    class.id()
                );
                faults.push(Fault { pointer: it.pointer.to_owned(), message });
            }
        }
        faults
    }

    fn check_class(&self, root: &'a SchemaDocument) -> Vec<Fault> {
        let ancestors = self.ancestors(root);
        let behaviors: Vec<&str> =
            BEHAVIORS.into_iter().filter(|it| ancestors.contains(*it)).collect();
        let message = match behaviors.as_slice() {
            [_] => return Vec::new(),
            [] => format!("a class extends a behaviour: one of `{}`", BEHAVIORS.join("`, `")),
            several => format!("a class extends one behaviour, not `{}`", several.join("` and `")),
        };
        let pointer =
            if root.value.get("meta:extends").is_some() { "/meta:extends" } else { "/allOf" };
        vec![Fault { pointer: pointer.into(), message }]
    }

    fn extends(&self, document: &'a SchemaDocument, ancestor: &str) -> bool {
        self.ancestors(document).contains(ancestor)
    }

    /// A document's own id and those that it extends or includes, directly or through others.
    fn ancestors(&self, document: &'a SchemaDocument) -> HashSet<&'a str> {
        let mut found = HashSet::from([document.id()]);
        let mut open = vec![document];
        while let Some(document) = open.pop() {
            let included =
                document.references().iter().filter(|it| it.pointer.starts_with("/allOf/"));
            let stated = strings(document.value.get("meta:extends"));
            for id in included.map(|it| it.target.as_str()).chain(stated) {
                if found.insert(id) {
                    open.extend(self.get(id));
                }
            }
        }
        found
    }
}

/// The behaviour of events.
pub(super) const TIME_SERIES: &str = "https://ns.adobe.com/xdm/data/time-series";
/// The behaviours that every registry has.
pub(super) const BEHAVIORS: [&str; 3] =
    ["https://ns.adobe.com/xdm/data/record", TIME_SERIES, "https://ns.adobe.com/xdm/data/adhoc"];
