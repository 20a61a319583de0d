//! Where an organisation's own fields belong: under the one name that is its own.

use serde_json::Value;

use crate::{
    model::json::push_token,
    schema::{Fault, Reference, SchemaDocument, SchemaKind},
};

/// Where XDM's own documents are; an organisation's stand beside them.
const STANDARD: [&str; 2] = ["https://ns.adobe.com/xdm/", "https://ns.adobe.com/experience/"];

impl SchemaDocument {
    /// The fields of the organisation's own documents that do not stand under `_{tenant}`. XDM's own
    /// documents, and without a tenant all documents, have none.
    ///
    /// Only what the document itself adds at the top of an event counts: a data type's fields stand
    /// wherever it is used.
    #[must_use]
    pub fn fields_outside(&self, tenant: Option<&str>) -> Vec<Fault> {
        let standard = STANDARD.iter().any(|it| self.id().starts_with(it));
        let exempt = standard || self.kind() == SchemaKind::DataType;
        let Some(tenant) = tenant.filter(|_| !exempt) else { return Vec::new() };
        let mut faults = Vec::new();
        let wanted = format!("_{tenant}");
        let mut roots = vec![(&self.value, String::new())];
        if let Some(Value::Object(definitions)) = self.value.get("definitions") {
            let included = |name: &str| {
                let target = format!("/definitions/{name}");
                let applied = |it: &&Reference| it.pointer.starts_with("/allOf/");
                self.references()
                    .iter()
                    .filter(applied)
                    .any(|it| it.target == self.id() && it.fragment == target)
            };
            for (name, schema) in definitions.iter().filter(|(name, _)| included(name)) {
                let mut pointer = "/definitions".to_owned();
                push_token(&mut pointer, name);
                roots.push((schema, pointer));
            }
        }
        for (place, schema) in
            self.value.get("allOf").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            roots.push((schema, format!("/allOf/{place}")));
        }
        for (schema, at) in roots {
            let properties = schema.get("properties").and_then(Value::as_object);
            for name in properties.into_iter().flatten().map(|(name, _)| name) {
                if *name != wanted {
                    let mut pointer = format!("{at}/properties");
                    push_token(&mut pointer, name);
                    let message =
                        format!("`{name}` is a field of your own; wanted under `{wanted}`");
                    faults.push(Fault { pointer: self.given_pointer(&pointer), message });
                }
            }
        }
        faults
    }
}
