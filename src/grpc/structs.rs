//! `google.protobuf.Struct` to JSON text and back: exact, or refused.

use std::collections::BTreeMap;

use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::Value as Json;

use crate::model::{Violation, limits};

/// The largest integer whose neighbours a double can tell apart: 2^53 - 1.
const SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Compact JSON with sorted keys.
pub(crate) fn to_json(data: &Struct) -> Result<String, Box<Violation>> {
    let mut path = String::new();
    let object = object_to_json(data, &mut path, 1)?;
    serde_json::to_string(&object)
        .map_err(|error| refused("", "json", format!("payload does not become JSON: {error}")))
}

fn object_to_json(data: &Struct, path: &mut String, depth: usize) -> Result<Json, Box<Violation>> {
    let mut members = serde_json::Map::new();
    // Struct's own map is not ordered; sort, so that one event has one text.
    for (key, value) in data.fields.iter().collect::<BTreeMap<_, _>>() {
        let length = path.len();
        crate::model::json::push_token(path, key);
        members.insert(key.clone(), value_to_json(value, path, depth)?);
        path.truncate(length);
    }
    Ok(Json::Object(members))
}

fn value_to_json(value: &Value, path: &mut String, depth: usize) -> Result<Json, Box<Violation>> {
    if depth > limits::JSON_DEPTH_MAX {
        let message = format!("deeper than {} levels", limits::JSON_DEPTH_MAX);
        return Err(refused(path, "depth", message));
    }
    match value.kind.as_ref() {
        None => Err(refused(path, "json", "a value of no kind".to_owned())),
        Some(Kind::NullValue(_)) => Ok(Json::Null),
        Some(Kind::BoolValue(value)) => Ok(Json::Bool(*value)),
        Some(Kind::StringValue(text)) => Ok(Json::String(text.clone())),
        Some(Kind::NumberValue(number)) => number_to_json(*number, path),
        Some(Kind::StructValue(data)) => object_to_json(data, path, depth + 1),
        Some(Kind::ListValue(list)) => {
            let mut items = Vec::with_capacity(list.values.len());
            for (index, item) in list.values.iter().enumerate() {
                let length = path.len();
                crate::model::json::push_token(path, &index.to_string());
                items.push(value_to_json(item, path, depth + 1)?);
                path.truncate(length);
            }
            Ok(Json::Array(items))
        }
    }
}

fn number_to_json(number: f64, path: &str) -> Result<Json, Box<Violation>> {
    if number.fract() == 0.0 && number.abs() > SAFE_INTEGER {
        let message = format!("integer {number} is beyond 2^53 - 1; send the event as `json`");
        return Err(refused(path, "integer", message));
    }
    if number.fract() == 0.0 {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53")]
        return Ok(Json::from(number as i64));
    }
    let json = serde_json::Number::from_f64(number).map(Json::Number);
    json.ok_or_else(|| refused(path, "number", format!("{number} is not a JSON number")))
}

fn refused(path: &str, keyword: &str, message: String) -> Box<Violation> {
    Box::new(Violation::of_event(path, keyword, message))
}

/// A stored payload as a `Struct`; an error names the number that does not fit.
pub(crate) fn from_json(payload: &[u8]) -> Result<Struct, String> {
    let value: Json = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    match value_from_json(value)?.kind {
        Some(Kind::StructValue(data)) => Ok(data),
        _ => Err("payload is not an object".to_owned()),
    }
}

fn value_from_json(value: Json) -> Result<Value, String> {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::String(text) => Kind::StringValue(text),
        Json::Number(number) => {
            let double = number.as_f64().unwrap_or(f64::INFINITY);
            if (number.is_i64() || number.is_u64()) && double.abs() > SAFE_INTEGER {
                return Err(format!("integer {number} is beyond 2^53 - 1; ask for JSON"));
            }
            Kind::NumberValue(double)
        }
        Json::Array(items) => {
            let values = items.into_iter().map(value_from_json).collect::<Result<_, _>>()?;
            Kind::ListValue(ListValue { values })
        }
        Json::Object(members) => {
            let member = |(key, value)| Ok::<_, String>((key, value_from_json(value)?));
            let fields = members.into_iter().map(member).collect::<Result<_, _>>()?;
            Kind::StructValue(Struct { fields })
        }
    };
    Ok(Value { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> Struct {
        let value = Value { kind: Some(Kind::NumberValue(value)) };
        Struct { fields: [("n".to_owned(), value)].into() }
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        for (value, text) in [
            (1.0, Some(r#"{"n":1}"#)),
            (-0.5, Some(r#"{"n":-0.5}"#)),
            (SAFE_INTEGER, Some(r#"{"n":9007199254740991}"#)),
            (SAFE_INTEGER + 1.0, None),
            (-SAFE_INTEGER - 1.0, None),
            (1e300, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            let made = to_json(&number(value));
            assert_eq!(made.as_deref().ok(), text, "{value}");
            if let Err(violation) = made {
                assert_eq!(violation.instance_path, "/n");
            }
        }
        assert!(from_json(br#"{"n":9007199254740993}"#).is_err());
        assert_eq!(from_json(br#"{"n":2}"#).unwrap(), number(2.0));
    }
}
