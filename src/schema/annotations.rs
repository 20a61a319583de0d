//! What XDM's annotations say of a document.

use serde_json::Value;

use crate::schema::SchemaDocument;

impl SchemaDocument {
    /// Whether the document itself says that it is not for new uses.
    #[must_use]
    pub fn is_deprecated(&self) -> bool {
        self.value.get("meta:status").and_then(Value::as_str) == Some("deprecated")
    }

    /// Whether the document belongs to a class: is it, is a schema of it, or extends it.
    #[must_use]
    pub fn is_of_class(&self, class: &str) -> bool {
        let names = |key: &str| match self.value.get(key) {
            Some(Value::String(name)) => name == class,
            Some(Value::Array(names)) => names.iter().any(|it| it.as_str() == Some(class)),
            _ => false,
        };
        self.id() == class
            || ["meta:class", "meta:intendedToExtend", "meta:extends"].into_iter().any(names)
            || self.included().any(|it| it == class)
    }

    /// Documents that this one includes as a whole, each named by `allOf` at its top.
    pub fn included(&self) -> impl Iterator<Item = &str> {
        let own = |pointer: &str| {
            let place = pointer.strip_prefix("/allOf/").and_then(|it| it.strip_suffix("/$ref"));
            place.is_some_and(|it| !it.contains('/'))
        };
        let whole = self.references().iter().filter(|it| it.fragment.is_empty());
        whole.filter(move |it| own(&it.pointer)).map(|it| it.target.as_str())
    }
}
