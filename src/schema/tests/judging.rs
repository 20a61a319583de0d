//! What is said about an event.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    model::{Violation, json::Document, limits},
    schema::{
        CompiledSchema,
        tests::{alone, judge, judge_text},
    },
};

fn schema(mut document: Value) -> CompiledSchema {
    document["$id"] = json!("https://x.test/s");
    alone(&document).unwrap()
}

/// `expected` is `instance_path keyword schema_path` for each violation.
#[track_caller]
fn check(document: Value, event: &str, expected: &[&str]) -> Vec<Violation> {
    let found = judge_text(&schema(document), event);
    let short = |it: &Violation| {
        let path = it.schema_path.strip_prefix("https://x.test/s#").unwrap();
        format!("{} {} {path}", it.instance_path, it.keyword)
    };
    assert_eq!(found.iter().map(short).collect::<Vec<_>>(), expected, "{found:?}");
    found
}

#[test]
fn a_missing_property_is_named_at_the_object_that_lacks_it() {
    let document = json!({"properties": {"a": {"required": ["b", "c"]}}});
    let found = check(
        document,
        r#"{"a":{}}"#,
        &["/a required /properties/a/required", "/a required /properties/a/required"],
    );
    assert_eq!(found[0].message, "property `b` is missing; it is required");
}

#[test]
fn paths_are_json_pointers() {
    let document =
        json!({"properties": {"a/b": {"items": {"properties": {"~ü": {"type": "null"}}}}}});
    check(
        document,
        r#"{"a/b":[{},{"~ü":1}]}"#,
        &["/a~1b/1/~0ü type /properties/a~1b/items/properties/~0ü/type"],
    );
}

#[test]
fn a_choice_of_forms_tells_the_nearest() {
    let forms = json!([
        {"type": "string"},
        {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]}
    ]);
    for keyword in ["anyOf", "oneOf"] {
        let mut document = json!({});
        document["properties"] = json!({"price": {keyword: forms}});
        let at = format!("/price {keyword} /properties/price/{keyword}");
        let found = check(document, r#"{"price":{"amount":"7"}}"#, &[&at]);
        let expected = "an object of 1 fits none of the 2 forms allowed; nearest: at `/price/amount` \
                        \"7\" is not of type \"number\"";
        assert_eq!(found[0].message, expected);
    }
    let both = json!({"oneOf": [{"minimum": 1}, {}, {"maximum": 0}]});
    let found = check(both, "5", &[" oneOf /oneOf"]);
    let expected = "5 fits more than one of the forms allowed (0, 1); exactly one must";
    assert_eq!(found[0].message, expected);
}

#[test]
fn messages_are_short_and_lowercase() {
    let document = json!({
        "additionalProperties": false,
        "properties": {"a": {"maxLength": 3}, "b": {"enum": ["x".repeat(900)]}, "c": {"items": [{}],
            "additionalItems": false}},
        "propertyNames": {"maxLength": 5},
        "patternProperties": {"^z": false}
    });
    let long = "é\u{1}".repeat(5_000);
    let event = json!({"a": long, "b": 1, "c": [1, 2], "zzzz": 1, "unknown member": 1});
    let found = judge(&schema(document), &event);
    assert!(found.len() >= 6, "{found:?}");
    for violation in found {
        let message = &violation.message;
        assert!(message.len() <= limits::MESSAGE_BYTES_MAX, "{message}");
        assert!(!message.starts_with(char::is_uppercase), "{message}");
        assert!(!message.contains(char::is_control), "{message}");
    }
}

#[test]
fn at_most_as_many_violations_as_asked() {
    let schema = schema(json!({"items": {"type": "string"}}));
    let text = json!(vec![1; 50]).to_string();
    let event = Document::parse(&text).unwrap();
    assert_eq!(schema.violations(&event, 7).len(), 7);
    assert_eq!(schema.violations(&event, 100).len(), 50);
}

#[test]
fn formats_are_asserted_and_unknown_ones_ignored() {
    let document = json!({"properties": {
        "at": {"format": "date-time"}, "on": {"format": "date"}, "to": {"format": "email"},
        "ref": {"format": "uri-reference"}, "link": {"format": "url"}, "ip": {"format": "ipv4"}
    }});
    check(
        document,
        r#"{"at":"2026-13-01T00:00:00Z","on":"today","to":"x","ref":"a b","link":"::","ip":"1.2.3"}"#,
        &[
            "/at format /properties/at/format",
            "/on format /properties/on/format",
            "/to format /properties/to/format",
            "/ref format /properties/ref/format",
            "/ip format /properties/ip/format",
        ],
    );
}

#[test]
fn numbers_are_judged_by_value() {
    let whole = json!({"type": "integer", "maximum": 9_007_199_254_740_993_u64});
    let schema_of = |document: &Value| schema(document.clone());
    for (event, valid) in [
        ("1", true),
        ("1.0", true),
        ("1e2", true),
        ("1.5", false),
        ("9007199254740993", true),
        ("9007199254740994", false),
        ("-9223372036854775808", true),
    ] {
        assert_eq!(judge_text(&schema_of(&whole), event).is_empty(), valid, "{event}");
    }
    check(json!({"const": 1}), "1.0", &[]);
    check(json!({"enum": [{"a": [1, null]}]}), r#"{"a":[1e0,null]}"#, &[]);
    check(json!({"enum": [{"a": [1, null]}]}), r#"{"a":[1,false]}"#, &[" enum /enum"]);
    check(json!({"multipleOf": 0.01}), "19.99", &[]);
}

#[test]
fn repeated_elements_are_found() {
    let document = json!({"uniqueItems": true});
    check(document.clone(), "[1,2,3]", &[]);
    check(document.clone(), r#"[{"a":1,"b":2},{"b":2.0,"a":1}]"#, &[" uniqueItems /uniqueItems"]);
    check(document.clone(), "[1,true,\"1\",[1],null,0,false]", &[]);
    let many: Vec<String> = (0..20).map(|it| format!("{{\"k\":{it}}}")).collect();
    check(document.clone(), &format!("[{}]", many.join(",")), &[]);
    check(document, &format!("[{},{{\"k\":7.0}}]", many.join(",")), &[" uniqueItems /uniqueItems"]);
}

#[test]
fn lengths_count_characters() {
    let document = json!({"minLength": 2, "maxLength": 3});
    for (event, valid) in [("é", false), ("éé", true), ("🦀🦀🦀", true), ("🦀🦀🦀🦀", false)]
    {
        assert_eq!(judge(&schema(document.clone()), &json!(event)).is_empty(), valid, "{event}");
    }
}

#[test]
fn large_objects_are_judged_like_small_ones() {
    let document = json!({
        "properties": {"k3": {"type": "string"}, "k70": {"type": "null"}},
        "required": ["k0", "k99", "k100"], "patternProperties": {"^k5": {"maximum": 10}}
    });
    let members: Vec<String> = (0..100).map(|it| format!("\"k{it}\":{it}")).collect();
    let found = judge_text(&schema(document), &format!("{{{}}}", members.join(",")));
    let mut paths: Vec<_> = found.iter().map(|it| it.instance_path.as_str()).collect();
    paths.sort_unstable();
    let fifties = (50..60).map(|it| format!("/k{it}")).collect::<Vec<_>>();
    let mut expected = vec!["", "/k3"];
    expected.extend(fifties.iter().map(String::as_str));
    expected.push("/k70");
    assert_eq!(paths, expected);
}

/// A document with every keyword that looks at a value in its own way.
fn rich() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": ["object", "array", "string", "number", "null"],
        "properties": {"a": {"$ref": "#"}, "b": {"type": "string", "pattern": "^(?!x)[a-c]*$"},
            "c": {"enum": [1, "a", null, {"a": 1}]}},
        "patternProperties": {"^[bc]": {"minLength": 1, "maxLength": 3}},
        "required": ["a"], "dependentRequired": {"b": ["c"]}, "minProperties": 1,
        "propertyNames": {"maxLength": 2}, "unevaluatedProperties": {"type": "boolean"},
        "prefixItems": [{"const": 1}], "items": {"anyOf": [{"$ref": "#"}, {"multipleOf": 0.5}]},
        "uniqueItems": true, "contains": {"type": "number"}, "minContains": 0, "maxContains": 3,
        "oneOf": [{"minimum": 0}, {"maxItems": 2}, {"not": {"type": "string"}}],
        "if": {"type": "object"}, "then": {"maxProperties": 4}, "else": {"format": "date"}
    })
}

fn any_event() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        (-8_i32..8).prop_map(|it| json!(f64::from(it) / 4.0)),
        "[a-dx]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 200, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map("[a-d]{1,2}", inner, 0..6)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_event_is_judged_as_a_tree_is(event in any_event()) {
        let mut document = rich();
        document["$id"] = json!("https://x.test/s");
        let ours = judge(&alone(&document).unwrap(), &event);
        let options = jsonschema::options().offline();
        let theirs = options.build(&document).unwrap();
        let mut expected: Vec<String> =
            theirs.iter_errors(&event).map(|it| it.instance_path().to_string()).collect();
        let mut found: Vec<String> = ours.into_iter().map(|it| it.instance_path).collect();
        expected.truncate(limits::VIOLATIONS_MAX);
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_text_is_judged_without_a_panic(text in "[\\[\\]{}\",:0-9a-c. \\-]{0,40}") {
        if let Ok(event) = Document::parse(&text) {
            let mut document = rich();
            document["$id"] = json!("https://x.test/s");
            let _ = alone(&document).unwrap().violations(&event, 10);
        }
    }
}
