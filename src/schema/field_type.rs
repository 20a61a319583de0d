//! XDM's type of a field, as its JSON Schema tells it.

use serde_json::Value;

use crate::schema::Fault;

/// XDM's types of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// Any text.
    String,
    /// Text that is a URI.
    Uri,
    /// One of a closed list of texts.
    Enum,
    /// A day.
    Date,
    /// A moment (RFC 3339).
    DateTime,
    /// Any number.
    Number,
    /// A whole number within 53 bits.
    Long,
    /// A whole number within 32 bits.
    Int,
    /// A whole number within 16 bits.
    Short,
    /// A whole number within 8 bits.
    Byte,
    /// True or false.
    Boolean,
    /// A list.
    Array,
    /// Named fields.
    Object,
    /// Values under keys that are data.
    Map,
}

const ALL: [FieldType; 14] = {
    use FieldType::{
        Array, Boolean, Byte, Date, DateTime, Enum, Int, Long, Map, Number, Object, Short, String,
        Uri,
    };
    [Byte, Short, Int, Long, Number, String, Uri, Enum, Date, DateTime, Boolean, Array, Object, Map]
};

impl FieldType {
    /// XDM's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Uri => "uri",
            Self::Enum => "enum",
            Self::Date => "date",
            Self::DateTime => "date-time",
            Self::Number => "number",
            Self::Long => "long",
            Self::Int => "int",
            Self::Short => "short",
            Self::Byte => "byte",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
            Self::Map => "map",
        }
    }

    /// What `meta:xdmType` says: URIs and closed lists are strings there.
    #[must_use]
    pub fn annotation(self) -> &'static str {
        let told = if matches!(self, Self::Uri | Self::Enum) { Self::String } else { self };
        told.name()
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "integer" => Some(Self::Int),
            "double" => Some(Self::Number),
            _ => ALL.into_iter().find(|it| it.name() == name),
        }
    }

    /// The bounds of a whole number; those of `Long` are what JavaScript counts exactly.
    fn bounds(self) -> Option<(i64, i64)> {
        match self {
            Self::Byte => Some((-128, 128)),
            Self::Short => Some((-32_768, 32_768)),
            Self::Int => Some((-2_147_483_648, 2_147_483_648)),
            Self::Long => Some((i64::MIN, i64::MAX)),
            Self::String
            | Self::Uri
            | Self::Enum
            | Self::Date
            | Self::DateTime
            | Self::Number
            | Self::Boolean
            | Self::Array
            | Self::Object
            | Self::Map => None,
        }
    }

    fn json_type(self) -> &'static str {
        match self {
            Self::String | Self::Uri | Self::Enum | Self::Date | Self::DateTime => "string",
            Self::Number => "number",
            Self::Long | Self::Int | Self::Short | Self::Byte => "integer",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object | Self::Map => "object",
        }
    }
}

/// The type that a schema by itself tells; `None` when it tells none, or several.
pub(super) fn derive(schema: &Value) -> Option<FieldType> {
    match json_type(schema)? {
        "string" => Some(text_type(schema)),
        "integer" => Some(whole_type(schema)),
        "number" => Some(FieldType::Number),
        "boolean" => Some(FieldType::Boolean),
        "array" => Some(FieldType::Array),
        "object" if is_map(schema) => Some(FieldType::Map),
        "object" => Some(FieldType::Object),
        _ => None,
    }
}

fn json_type(schema: &Value) -> Option<&str> {
    if let Some(type_) = schema.get("type") {
        return type_.as_str();
    }
    let values = schema.get("enum").and_then(Value::as_array);
    let mut values = values.into_iter().flatten().chain(schema.get("const"));
    if let Some(first) = values.next() {
        let same = values.all(|it| type_of(it) == type_of(first));
        return same.then(|| type_of(first));
    }
    let has = |key: &str| schema.get(key).is_some();
    if has("properties") || schema.get("additionalProperties").is_some_and(Value::is_object) {
        Some("object")
    } else if has("items") {
        Some("array")
    } else {
        None
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn text_type(schema: &Value) -> FieldType {
    match schema.get("format").and_then(Value::as_str) {
        Some("date") => FieldType::Date,
        Some("date-time") => FieldType::DateTime,
        _ if schema.get("enum").is_some() => FieldType::Enum,
        Some("uri") => FieldType::Uri,
        _ => FieldType::String,
    }
}

/// The narrowest type that holds what the bounds allow; `Int` when they are open.
fn whole_type(schema: &Value) -> FieldType {
    let bound = |inclusive: &str, exclusive: &str| {
        [inclusive, exclusive].iter().filter_map(|it| schema.get(*it)).find_map(Value::as_f64)
    };
    let low = bound("minimum", "exclusiveMinimum");
    let high = bound("maximum", "exclusiveMaximum");
    let within =
        |bounds: (i64, i64), value: f64| value >= nearest(bounds.0) && value <= nearest(bounds.1);
    let holds = |type_: FieldType| {
        let bounds = type_.bounds().unwrap_or((i64::MIN, i64::MAX));
        low.is_none_or(|it| within(bounds, it)) && high.is_none_or(|it| within(bounds, it))
    };
    if low.is_some() && high.is_some() {
        [FieldType::Byte, FieldType::Short]
            .into_iter()
            .find(|it| holds(*it))
            .unwrap_or_else(|| if holds(FieldType::Int) { FieldType::Int } else { FieldType::Long })
    } else if holds(FieldType::Int) {
        FieldType::Int
    } else {
        FieldType::Long
    }
}

#[expect(clippy::cast_precision_loss, reason = "compared with bounds that are doubles themselves")]
fn nearest(bound: i64) -> f64 {
    bound as f64
}

fn is_map(schema: &Value) -> bool {
    let named =
        schema.get("properties").and_then(Value::as_object).is_some_and(|it| !it.is_empty());
    !named && schema.get("additionalProperties").is_some_and(Value::is_object)
}

/// What is wrong with the `meta:xdmType` that a schema states.
pub(super) fn conflict(schema: &Value, pointer: &str) -> Option<Fault> {
    let stated = schema.get("meta:xdmType")?;
    let fault =
        |message: String| Some(Fault { pointer: format!("{pointer}/meta:xdmType"), message });
    let Some(name) = stated.as_str() else {
        return fault(format!("`{stated}` is not the name of a type"));
    };
    let Some(type_) = FieldType::parse(name) else {
        return fault(format!("`{name}` is not one of XDM's types"));
    };
    let found = derive(schema)?;
    let alike = match (type_.json_type(), found.json_type()) {
        // Any whole number is a number.
        ("number", "integer") => true,
        (stated, found) => stated == found,
    };
    let format = schema.get("format").and_then(Value::as_str);
    let dated = matches!(type_, FieldType::Date | FieldType::DateTime);
    let other_format = dated && format.is_some_and(|it| it != type_.name());
    let narrower = match (type_.bounds(), found.bounds()) {
        (Some(stated), Some(found)) if has_bounds(schema) => {
            found.0 < stated.0 || found.1 > stated.1
        }
        _ => false,
    };
    if alike && !other_format && !narrower {
        return None;
    }
    fault(format!("`{name}` contradicts the field's keywords, which make it `{}`", found.name()))
}

fn has_bounds(schema: &Value) -> bool {
    ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
        .iter()
        .any(|it| schema.get(*it).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_type_follows_from_the_keywords() {
        let whole =
            |low: i64, high: i64| json!({"type": "integer", "minimum": low, "maximum": high});
        let rows = [
            (json!({"type": "string"}), "string"),
            (json!({"type": "string", "pattern": "^a"}), "string"),
            (json!({"type": "string", "format": "uri"}), "uri"),
            (json!({"type": "string", "format": "url"}), "string"),
            (json!({"type": "string", "format": "date"}), "date"),
            (json!({"type": "string", "format": "date-time"}), "date-time"),
            (json!({"type": "string", "enum": ["a"]}), "enum"),
            (json!({"enum": ["a", "b"]}), "enum"),
            (json!({"type": "string", "meta:enum": {"a": ""}}), "string"),
            (json!({"type": "number"}), "number"),
            (json!({"type": "integer"}), "int"),
            (whole(-128, 127), "byte"),
            (whole(0, 129), "short"),
            (whole(-32_768, 32_768), "short"),
            (whole(0, 32_769), "int"),
            (whole(-2_147_483_648, 2_147_483_647), "int"),
            (whole(-9_007_199_254_740_991, 9_007_199_254_740_991), "long"),
            (json!({"type": "integer", "minimum": 0}), "int"),
            (json!({"type": "integer", "maximum": 9_007_199_254_740_991_i64}), "long"),
            (json!({"type": "boolean"}), "boolean"),
            (json!({"type": "array"}), "array"),
            (json!({"items": {}}), "array"),
            (json!({"type": "object"}), "object"),
            (json!({"properties": {"a": {}}}), "object"),
            (json!({"type": "object", "additionalProperties": {}}), "map"),
            (json!({"type": "object", "additionalProperties": true}), "object"),
            (json!({"properties": {"a": {}}, "additionalProperties": {}}), "object"),
            (json!({"const": 1}), "int"),
        ];
        for (schema, expected) in rows {
            assert_eq!(derive(&schema).map(FieldType::name), Some(expected), "{schema}");
        }
        for untold in
            [json!({}), json!(true), json!({"type": ["string", "null"]}), json!({"enum": [1, "a"]})]
        {
            assert_eq!(derive(&untold), None, "{untold}");
        }
    }

    #[test]
    fn a_stated_type_must_not_contradict() {
        let rows = [
            (json!({"type": "string", "meta:xdmType": "string"}), None),
            (json!({"type": "string", "format": "uri", "meta:xdmType": "string"}), None),
            (json!({"type": "integer", "meta:xdmType": "byte"}), None),
            (json!({"type": "integer", "meta:xdmType": "number"}), None),
            (json!({"meta:xdmType": "map"}), None),
            (json!({"type": "string", "meta:xdmType": "int"}), Some("which make it `string`")),
            (json!({"type": "number", "meta:xdmType": "int"}), Some("which make it `number`")),
            (json!({"type": "object", "meta:xdmType": "array"}), Some("which make it `object`")),
            (
                json!({"type": "string", "format": "date", "meta:xdmType": "date-time"}),
                Some("which make it `date`"),
            ),
            (
                json!({"type": "integer", "minimum": 0, "maximum": 999, "meta:xdmType": "byte"}),
                Some("which make it `short`"),
            ),
            (json!({"meta:xdmType": "text"}), Some("not one of XDM's types")),
            (json!({"meta:xdmType": 1}), Some("not the name of a type")),
        ];
        for (schema, expected) in rows {
            let found = conflict(&schema, "/a");
            match (&found, expected) {
                (None, None) => (),
                (Some(fault), Some(message)) => {
                    assert_eq!(fault.pointer, "/a/meta:xdmType");
                    assert!(fault.message.contains(message), "{fault:?}");
                }
                _ => panic!("{schema}: {found:?}"),
            }
        }
    }
}
