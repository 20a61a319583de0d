//! Identity descriptors: which fields of an event name a person or a thing.

use serde_json::{Map, Value};

use crate::{
    model::limits,
    schema::{Fault, SchemaDocument, SchemaProblem},
};

/// A field that holds an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityField {
    /// JSON Pointer into the event, in wire form.
    pub path: String,
    /// Code of the identity namespace.
    pub namespace: String,
    /// Whether this is the primary identity.
    pub primary: bool,
}

/// The identity descriptors of one document; others stay annotations.
pub(super) fn read(document: &Value) -> Result<Vec<IdentityField>, SchemaProblem> {
    let Some(descriptors) = document.get("meta:descriptors") else { return Ok(Vec::new()) };
    let Some(descriptors) = descriptors.as_array() else {
        return Err(SchemaProblem::invalid("/meta:descriptors", "not a list of descriptors"));
    };
    let mut fields = Vec::new();
    let mut faults = Vec::new();
    for (place, descriptor) in descriptors.iter().enumerate() {
        let at = format!("/meta:descriptors/{place}");
        match descriptor.as_object().map(identity) {
            Some(Ok(field)) => fields.extend(field),
            Some(Err((key, message))) => {
                faults.push(Fault { pointer: format!("{at}/{key}"), message });
            }
            None => faults.push(Fault { pointer: at, message: "not an object".into() }),
        }
    }
    if faults.is_empty() { Ok(fields) } else { Err(SchemaProblem::Invalid(faults)) }
}

/// The identity fields of a schema: its own and those of the documents it includes, one for each
/// path. The schema's own descriptors win.
pub(super) fn collect<'a>(
    root: &SchemaDocument,
    included: impl Iterator<Item = &'a SchemaDocument>,
) -> Result<Vec<IdentityField>, SchemaProblem> {
    let mut fields: Vec<IdentityField> = Vec::new();
    let own_primary = root.identities().iter().any(|it| it.primary);
    let inherited = included
        .flat_map(SchemaDocument::identities)
        .cloned()
        .map(|it| IdentityField { primary: it.primary && !own_primary, ..it });
    for field in root.identities().iter().cloned().chain(inherited) {
        if fields.iter().all(|it| it.path != field.path) {
            fields.push(field);
        }
    }
    let primaries: Vec<&str> =
        fields.iter().filter(|it| it.primary).map(|it| it.path.as_str()).collect();
    if primaries.len() > 1 {
        let message = format!("`{}` are primary identities; at most one", primaries.join("`, `"));
        return Err(SchemaProblem::invalid("/meta:descriptors", message));
    }
    Ok(fields)
}

/// The namespace of the identity that a schema marks as the primary one.
#[must_use]
pub fn primary_namespace(
    root: &SchemaDocument,
    closure: &[std::sync::Arc<SchemaDocument>],
) -> Option<String> {
    let fields = collect(root, closure.iter().map(AsRef::as_ref)).ok()?;
    fields.into_iter().find(|it| it.primary).map(|it| it.namespace)
}

type Wrong = (&'static str, String);

/// `None` for a descriptor of another type.
fn identity(descriptor: &Map<String, Value>) -> Result<Option<IdentityField>, Wrong> {
    let get = |prefixed: &str| {
        let plain = prefixed.strip_prefix("xdm:").unwrap_or(prefixed);
        descriptor.get(prefixed).or_else(|| descriptor.get(plain))
    };
    let Some(type_) = get("@type").and_then(Value::as_str) else {
        return Err(("@type", "a descriptor needs an `@type`".into()));
    };
    if type_.strip_prefix("xdm:").unwrap_or(type_) != "descriptorIdentity" {
        return Ok(None);
    }
    let path = get("xdm:sourceProperty").and_then(Value::as_str).unwrap_or_default();
    if !path.starts_with('/') || path.ends_with('/') || path.contains("//") {
        let message = format!("`{path}` is not a path such as `/a/b`");
        return Err(("xdm:sourceProperty", message));
    }
    let namespace = get("xdm:namespace").and_then(Value::as_str).unwrap_or_default();
    if namespace.is_empty() || namespace.len() > limits::NAMESPACE_CODE_BYTES_MAX {
        let max = limits::NAMESPACE_CODE_BYTES_MAX;
        let message = format!("`{namespace}` is not a namespace code of 1 to {max} bytes");
        return Err(("xdm:namespace", message));
    }
    match get("xdm:property").and_then(Value::as_str).unwrap_or("xdm:code") {
        "xdm:code" | "code" => (),
        other => {
            let message = format!("`{other}` is not supported; name a namespace by `xdm:code`");
            return Err(("xdm:property", message));
        }
    }
    let primary = match get("xdm:isPrimary") {
        None => false,
        Some(Value::Bool(primary)) => *primary,
        Some(other) => {
            return Err(("xdm:isPrimary", format!("`{other}` is neither true nor false")));
        }
    };
    Ok(Some(IdentityField { path: path.to_owned(), namespace: namespace.to_owned(), primary }))
}
