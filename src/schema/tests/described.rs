//! Keys that a schema does not describe.

use serde_json::{Value, json};

use crate::{
    model::{json::Document, limits},
    schema::{CompiledSchema, UnknownFields, tests::alone},
};

#[track_caller]
fn check(schema: &CompiledSchema, policy: UnknownFields, event: &Value, expected: &[(&str, &str)]) {
    let text = event.to_string();
    let document = Document::parse(&text).unwrap();
    // Once more from what was kept.
    for _ in 0..2 {
        let found = schema.judge(&document, policy, limits::VIOLATIONS_MAX);
        let found: Vec<_> =
            found.iter().map(|it| (it.instance_path.as_str(), it.keyword.as_str())).collect();
        assert_eq!(found, expected, "{policy:?} {event}");
    }
}

fn schema() -> CompiledSchema {
    alone(&json!({
        "$id": "https://x.test/r",
        "definitions": {"tree": {"properties": {"left": {"$ref": "#/definitions/tree"}, "size": {}}}},
        "allOf": [{"$ref": "#/definitions/tree"}, {"properties": {"open": {"properties": {"a": {}}}}}],
        "properties": {
            "shut": {"properties": {"a": {}}, "additionalProperties": false},
            "empty": {"additionalProperties": false},
            "free": {"type": "object"},
            "map": {"additionalProperties": {"properties": {"a": {}}}},
            "named": {"patternProperties": {"^x-": {"properties": {"a": {}}}}},
            "list": {"items": {"properties": {"a": {}}}},
            "either": {"oneOf": [
                {"properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false},
                {"properties": {"b": {}}, "required": ["b"], "additionalProperties": false}
            ]}
        }
    }))
    .unwrap()
}

#[test]
fn keys_that_are_not_described_are_refused_at_any_depth() {
    let schema = schema();
    let refuse = |event: Value, expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|it| (*it, "unknownField")).collect();
        check(&schema, UnknownFields::Refuse, &event, &expected);
        check(&schema, UnknownFields::AsSchema, &event, &[]);
    };
    refuse(json!({"_id": "e", "timestamp": "t", "eventType": "a", "identityMap": {"x": 1}}), &[]);
    refuse(json!({"open": {"a": 1, "b": 1}, "other": {"c": 1}}), &["/open/b", "/other"]);
    refuse(
        json!({"left": {"left": {"size": 1, "_id": 1}, "a/b": 1}}),
        &["/left/a~1b", "/left/left/_id"],
    );
    refuse(json!({"free": {"a": {"b": 1}}}), &[]);
    refuse(json!({"map": {"k": {"a": 1}, "l": {"b": 1}}}), &["/map/l/b"]);
    refuse(json!({"named": {"x-1": {"a": 1, "b": 1}, "y": 1}}), &["/named/x-1/b", "/named/y"]);
    refuse(json!({"list": [{"a": 1}, {"b": 1}, [1], 2]}), &["/list/1/b"]);
    refuse(json!({"either": {"a": 1}}), &[]);
}

#[test]
fn keys_that_are_not_described_are_taken_where_the_schema_is_closed() {
    let schema = schema();
    let shut = json!({"shut": {"a": 1, "b": 2}, "empty": {"c": 1}, "open": {"b": 1}});
    check(&schema, UnknownFields::Allow, &shut, &[]);
    let closed = [("/empty", "falseSchema"), ("/shut", "additionalProperties")];
    let found = |policy| {
        let text = shut.to_string();
        let document = Document::parse(&text).unwrap();
        let mut found: Vec<_> = schema
            .judge(&document, policy, limits::VIOLATIONS_MAX)
            .into_iter()
            .map(|it| it.instance_path)
            .collect();
        found.sort();
        found
    };
    assert_eq!(found(UnknownFields::AsSchema), closed.map(|it| it.0));
    // What is wrong besides stays wrong, and alternatives stay apart.
    let wrong = json!({"shut": {"b": 2}, "either": {"a": "x"}});
    check(&schema, UnknownFields::Allow, &wrong, &[("/either", "oneOf")]);
    check(
        &schema,
        UnknownFields::Allow,
        &json!({"either": {"a": 1, "c": 1}}),
        &[("/either", "oneOf")],
    );
}

#[test]
fn unevaluated_keys_are_unknown_keys() {
    let schema = alone(&json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://x.test/r",
        "allOf": [{"properties": {"a": {"type": "integer"}}}], "unevaluatedProperties": false
    }))
    .unwrap();
    let event = json!({"a": 1, "b": 2});
    check(&schema, UnknownFields::AsSchema, &event, &[("", "unevaluatedProperties")]);
    check(&schema, UnknownFields::Allow, &event, &[]);
    check(
        &schema,
        UnknownFields::Refuse,
        &event,
        &[("", "unevaluatedProperties"), ("/b", "unknownField")],
    );
}
