//! Where an organisation's own fields belong: under the one name that is its own.
//!
//! XDM's documents, and those that others publish with them, have their fields where they are. What any
//! other document adds to events stands under `_{tenant}`, at the top or within an object of theirs.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    model::{Tenant, json::push_token, limits},
    schema::{
        Fault, SchemaDocument, SchemaKind, SchemaProblem,
        space::{At, ROOT, Space, Walk},
    },
};

/// Where the public XDM library has its documents.
const STANDARD: [&str; 12] = [
    "ns.adobe.com/xdm/",
    "ns.adobe.com/experience/",
    "ns.adobe.com/b2b/",
    "ns.adobe.com/adobecloud/",
    "ns.adobe.com/adobecloudplatform/",
    "ns.fhir.org/",
    "ns.algolia.com/xdm/",
    "ns.braze.com/currents",
    "ns.airship.com/airship-event",
    "id3.org/id3v2.4/",
    "schema.org/",
    "www.iptc.org/",
];

impl SchemaDocument {
    /// Whether the document is one of the public XDM library's, by its `$id`.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        let id = self.id().strip_prefix("https://").or_else(|| self.id().strip_prefix("http://"));
        id.is_some_and(|id| STANDARD.iter().any(|it| id.starts_with(it)))
    }
}

/// Checks that the fields that a document adds to events stand under `_{tenant}`. Standard documents are
/// exempt, and so are data types, whose fields stand wherever they are used.
///
/// # Errors
///
/// `Tenant` with every field that stands elsewhere.
pub fn check_tenant(
    root: &Arc<SchemaDocument>,
    closure: &[Arc<SchemaDocument>],
    tenant: &Tenant,
) -> Result<(), SchemaProblem> {
    if root.is_standard() || root.kind() == SchemaKind::DataType {
        return Ok(());
    }
    let space = Space::new(Arc::clone(root), closure);
    let walk = Walk::new(&space, limits::FORM_STEPS_MAX);
    let mut check = Check { walk, own: format!("_{tenant}"), faults: Vec::new() };
    check.object(&[ROOT], "", 0);
    check.finish(root)
}

struct Check<'a> {
    walk: Walk<'a>,
    own: String,
    faults: Vec<Fault>,
}

impl<'a> Check<'a> {
    /// `at` is the place in the document that leads to these schemas. Recursion is bounded by `depth`.
    fn object(&mut self, schemas: &[At], at: &str, depth: usize) {
        let all = self.walk.expand(schemas);
        let own: Vec<At> = all.iter().copied().filter(|it| self.is_added(*it)).collect();
        for schema in &own {
            for name in self.names(*schema) {
                if name == self.own {
                    continue;
                }
                let at = self.place(*schema, name).unwrap_or_else(|| at.to_owned());
                let fields = self.walk.below(&all, &["properties", name]);
                let standard = fields.iter().any(|it| self.is_standard(*it));
                if standard && depth < limits::JSON_DEPTH_MAX {
                    // XDM's own field, said again: what is added within it counts.
                    self.object(&fields, &at, depth + 1);
                } else if !self.only_holds_own(&fields, depth) {
                    let own = &self.own;
                    let message = format!("`{name}` is a field of your own; wanted under `{own}`");
                    let fault = Fault { pointer: at, message };
                    if !self.faults.contains(&fault) {
                        self.faults.push(fault);
                    }
                }
            }
        }
    }

    /// Whether a field is there only for what stands under the tenant's name in it.
    fn only_holds_own(&self, fields: &[At], depth: usize) -> bool {
        let all = self.walk.expand(fields);
        let mut names = all.iter().flat_map(|it| self.names(*it)).peekable();
        let below = |name: &str| self.walk.below(&all, &["properties", name]);
        depth < limits::JSON_DEPTH_MAX
            && names.peek().is_some()
            && names.all(|it| it == self.own || self.only_holds_own(&below(it), depth + 1))
    }

    fn names(&self, schema: At) -> impl Iterator<Item = &'a str> + use<'a> {
        let properties = self.walk.json(schema).and_then(|it| it.get("properties"));
        properties
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|it| it.keys().map(String::as_str))
    }

    /// Whether a schema is part of what the document adds: groups and classes answer for themselves.
    fn is_added(&self, (document, index): At) -> bool {
        let documents = &self.walk.space.documents;
        let is_type = documents.get(document).is_some_and(|it| it.kind() == SchemaKind::DataType);
        document == ROOT.0 || is_type && !self.is_standard((document, index))
    }

    fn is_standard(&self, (document, _): At) -> bool {
        self.walk.space.documents.get(document).is_some_and(|it| it.is_standard())
    }

    /// Where the document itself names a field; `None` for another document's.
    fn place(&self, (document, index): At, name: &str) -> Option<String> {
        let root = self.walk.space.documents.first().filter(|_| document == ROOT.0)?;
        let mut pointer = root.outline.schemas.get(index)?.pointer.clone();
        push_token(&mut pointer, "properties");
        push_token(&mut pointer, name);
        Some(pointer)
    }

    fn finish(mut self, root: &SchemaDocument) -> Result<(), SchemaProblem> {
        if self.walk.is_exhausted() {
            let message =
                format!("finding all fields takes more than {} steps", limits::FORM_STEPS_MAX);
            return Err(SchemaProblem::TooLarge { pointer: String::new(), message });
        }
        if self.faults.is_empty() {
            return Ok(());
        }
        self.faults.truncate(limits::VIOLATIONS_MAX);
        Err(SchemaProblem::Tenant(self.faults).told_of(root))
    }
}
