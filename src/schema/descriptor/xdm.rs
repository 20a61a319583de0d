//! Descriptors as XDM writes them: JSON with `@type`, `xdm:sourceSchema`, `xdm:sourceProperty`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::schema::{Cardinality, Descriptor, DescriptorKind, Relationship};

const CARDINALITIES: [(&str, Cardinality); 4] = [
    ("1:1", Cardinality::OneToOne),
    ("1:0", Cardinality::OneToZero),
    ("M:1", Cardinality::ManyToOne),
    ("M:0", Cardinality::ManyToZero),
];

impl Descriptor {
    /// The descriptor as XDM writes it.
    #[must_use]
    pub fn to_xdm(&self) -> Value {
        let (type_, more) = match &self.kind {
            DescriptorKind::Identity { namespace, primary } => (
                "xdm:descriptorIdentity",
                json!({"xdm:namespace": namespace, "xdm:property": "xdm:code", "xdm:isPrimary": primary}),
            ),
            DescriptorKind::Timestamp => ("xdm:descriptorTimestamp", json!({})),
            DescriptorKind::Version => ("xdm:descriptorVersion", json!({})),
            DescriptorKind::Relationship(it) => {
                let cardinality = CARDINALITIES.iter().find(|(_, value)| *value == it.cardinality);
                let more = json!({
                    "xdm:destinationSchema": it.schema_id, "xdm:destinationVersion": 1,
                    "xdm:destinationProperty": it.path, "xdm:destinationNamespace": it.namespace,
                    "xdm:cardinality": cardinality.map(|(text, _)| text),
                });
                ("xdm:descriptorRelationship", more)
            }
            DescriptorKind::FriendlyName { titles, descriptions } => (
                "xdm:alternateDisplayInfo",
                json!({"xdm:title": titles, "xdm:description": descriptions}),
            ),
            DescriptorKind::Label(labels) => ("xdm:descriptorLabel", json!({"xdm:labels": labels})),
            DescriptorKind::Deprecated { successor, reason } => (
                "xdm:descriptorDeprecated",
                json!({"meta:successorProperty": successor, "meta:reason": reason}),
            ),
        };
        let mut value = json!({
            "@type": type_, "xdm:sourceSchema": self.schema_id, "xdm:sourceVersion": 1,
            "xdm:sourceProperty": self.path,
        });
        if let (Value::Object(members), Value::Object(more)) = (&mut value, more) {
            members.extend(more.into_iter().filter(|(_, it)| *it != json!("") && *it != json!({})));
        }
        value
    }

    /// Reads a descriptor that XDM has written. The error is for people.
    ///
    /// # Errors
    ///
    /// A type that is not one of ours, a value of another type than wanted. Bounds are not looked at.
    pub fn from_xdm(value: &Value) -> Result<Self, String> {
        let members = value.as_object().ok_or("a descriptor is an object")?;
        let type_ = text(members, "@type")?;
        let kind = match type_.strip_prefix("xdm:").unwrap_or(&type_) {
            "descriptorIdentity" => {
                if !matches!(text(members, "xdm:property")?.as_str(), "" | "xdm:code" | "code") {
                    return Err(
                        "`xdm:property` names no `xdm:code`; nothing else is supported".into()
                    );
                }
                let primary = match get(members, "xdm:isPrimary") {
                    None => false,
                    Some(Value::Bool(primary)) => *primary,
                    Some(_) => return Err("`xdm:isPrimary` is neither true nor false".into()),
                };
                DescriptorKind::Identity { namespace: text(members, "xdm:namespace")?, primary }
            }
            "descriptorTimestamp" => DescriptorKind::Timestamp,
            "descriptorVersion" => DescriptorKind::Version,
            "descriptorOneToOne" | "descriptorRelationship" => {
                let cardinality = text(members, "xdm:cardinality")?;
                let found = CARDINALITIES.iter().find(|(text, _)| *text == cardinality);
                if found.is_none() && !cardinality.is_empty() {
                    return Err(format!("`{cardinality}` is no cardinality such as `M:1`"));
                }
                DescriptorKind::Relationship(Relationship {
                    schema_id: text(members, "xdm:destinationSchema")?,
                    path: text(members, "xdm:destinationProperty")?,
                    namespace: text(members, "xdm:destinationNamespace")?,
                    cardinality: found.map(|(_, value)| *value).unwrap_or_default(),
                })
            }
            "alternateDisplayInfo" => DescriptorKind::FriendlyName {
                titles: texts(members, "xdm:title")?,
                descriptions: texts(members, "xdm:description")?,
            },
            "descriptorLabel" => DescriptorKind::Label(labels(members)?),
            "descriptorDeprecated" => DescriptorKind::Deprecated {
                successor: text(members, "meta:successorProperty")?,
                reason: text(members, "meta:reason")?,
            },
            other => return Err(format!("`{other}` is not a type of descriptor that is known")),
        };
        let schema_id = text(members, "xdm:sourceSchema")?;
        Ok(Self { schema_id, path: text(members, "xdm:sourceProperty")?, kind })
    }
}

/// A member, by its name with or without XDM's prefix.
fn get<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.get(name).or_else(|| members.get(name.strip_prefix("xdm:")?))
}

fn text(members: &Map<String, Value>, name: &str) -> Result<String, String> {
    match get(members, name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("`{name}` is no text")),
    }
}

fn texts(members: &Map<String, Value>, name: &str) -> Result<BTreeMap<String, String>, String> {
    let Some(found) = get(members, name) else { return Ok(BTreeMap::new()) };
    let pair = |(key, text): (&String, &Value)| Some((key.clone(), text.as_str()?.to_owned()));
    let all = found.as_object().and_then(|it| it.iter().map(pair).collect());
    all.ok_or_else(|| format!("`{name}` has no text for each language"))
}

fn labels(members: &Map<String, Value>) -> Result<Vec<String>, String> {
    let found = get(members, "xdm:labels").and_then(Value::as_array);
    let texts = found.and_then(|it| it.iter().map(|it| Some(it.as_str()?.to_owned())).collect());
    texts.ok_or_else(|| "`xdm:labels` is no list of texts".to_owned())
}
