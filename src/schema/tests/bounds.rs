//! Schemas and events made to cost: each must end soon, in a refusal.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    model::limits,
    schema::{
        SchemaDocument, SchemaProblem,
        tests::{Library, alone, judge, judge_text},
    },
};

/// Far above what any of this takes, even without optimization.
const SOON: Duration = Duration::from_secs(20);

fn keywords(found: &[crate::model::Violation]) -> Vec<&str> {
    found.iter().map(|it| it.keyword.as_str()).collect()
}

#[test]
fn a_nested_repetition_takes_linear_time() {
    let schema = alone(&json!({"$id": "https://x.test/p", "pattern": "^(a+)+$"})).unwrap();
    let begin = Instant::now();
    assert_eq!(keywords(&judge(&schema, &json!("a".repeat(40) + "!"))), ["pattern"]);
    assert_eq!(judge(&schema, &json!("a".repeat(40))), []);
    assert!(begin.elapsed() < SOON);
}

/// Needs a back-reference, and exponential time to find that `aaa…!` does not match.
const EXPONENTIAL: &str = r"^(?:(a|aa)\1?)+$";

#[test]
fn a_pattern_that_backtracks_too_long_is_a_violation() {
    let code = json!({"type": "string", "pattern": EXPONENTIAL});
    let schema = json!({"$id": "https://x.test/p", "properties": {
        "code": code, "not": {"not": code}, "plain": {"pattern": "^(a+)+$"}
    }});
    let schema = alone(&schema).unwrap();
    let long = "a".repeat(40) + "!";
    let begin = Instant::now();
    let found = judge(&schema, &json!({"other": [1, {"a": 2}], "code": long}));
    assert_eq!(keywords(&found), ["pattern"], "{found:?}");
    assert_eq!(found[0].instance_path, "/code");
    assert_eq!(found[0].schema_path, "https://x.test/p#/properties/code/pattern");
    assert!(found[0].message.contains("within 100000 steps"), "{}", found[0].message);
    // Nor is it taken for a match that must not be.
    assert_eq!(keywords(&judge(&schema, &json!({"not": long}))), ["pattern"]);
    // What is wrong for sure is told first.
    let found = judge(&schema, &json!({"code": long, "plain": long}));
    assert_eq!(found[0].instance_path, "/plain");
    assert_eq!(judge(&schema, &json!({"code": "aaaa", "not": "b", "plain": "a"})), []);
    assert!(begin.elapsed() < SOON);
}

#[test]
fn many_strings_that_backtrack_too_long_end_soon() {
    let schema = json!({"$id": "https://x.test/p", "items": {"pattern": EXPONENTIAL}});
    let schema = alone(&schema).unwrap();
    let strings: Vec<String> = (0..20_000).map(|it| format!("{}{it}", "a".repeat(30))).collect();
    let begin = Instant::now();
    let found = judge(&schema, &json!(strings));
    assert_eq!(found.last().map(|it| it.keyword.as_str()), Some("limit"), "{found:?}");
    assert!(begin.elapsed() < 3 * SOON, "{:?}", begin.elapsed());
    let short: Vec<String> = (0..20_000).map(|_| "aaaaaaaaaa".to_owned()).collect();
    assert_eq!(judge(&schema, &json!(short)), []);
}

#[test]
fn a_look_ahead_over_a_nested_repetition_ends_soon() {
    let schema = alone(&json!({"$id": "https://x.test/p", "pattern": "^(?=(a+)+$)b"})).unwrap();
    let begin = Instant::now();
    assert_eq!(keywords(&judge(&schema, &json!("a".repeat(40) + "!"))), ["pattern"]);
    assert!(begin.elapsed() < SOON);
}

#[test]
fn a_look_around_pattern_judges_as_written() {
    let schema = json!({"$id": "https://x.test/p", "pattern": "^(?!test-).+(?<!-draft)$"});
    let schema = alone(&schema).unwrap();
    assert_eq!(judge(&schema, &json!("order")), []);
    assert_eq!(keywords(&judge(&schema, &json!("test-order"))), ["pattern"]);
    assert_eq!(keywords(&judge(&schema, &json!("order-draft"))), ["pattern"]);
}

#[test]
fn a_pattern_that_compiles_to_too_much_is_refused() {
    for pattern in ["a{1000000}", "(?=a{1000000})b", "((a{1000}){1000}){1000}"] {
        let schema = json!({"$id": "https://x.test/p", "items": {"pattern": pattern}});
        let begin = Instant::now();
        let problem = alone(&schema).unwrap_err();
        assert!(begin.elapsed() < SOON);
        let SchemaProblem::Invalid(faults) = problem else { panic!("{problem}") };
        assert_eq!(faults[0].pointer, "/items/pattern", "{faults:?}");
        assert!(faults[0].message.contains("pattern"), "{faults:?}");
    }
}

/// `count` documents; each but the last includes the next one by `including`.
fn chain(count: usize, including: impl Fn(Value) -> Value) -> Library {
    let document = |place: usize| {
        let mut document = json!({"type": "object"});
        if place + 1 < count {
            document = including(json!({"$ref": format!("https://x.test/{}", place + 1)}));
        }
        document["$id"] = json!(format!("https://x.test/{place}"));
        document
    };
    Library::of(&(0..count).map(document).collect::<Vec<_>>())
}

#[test]
fn documents_that_include_the_next_one_twice_are_refused() {
    let library = chain(30, |next| json!({"allOf": [next, next]}));
    let begin = Instant::now();
    let problem = library.compile("https://x.test/0").unwrap_err();
    assert!(begin.elapsed() < SOON);
    let SchemaProblem::TooLarge { message, .. } = problem else { panic!("{problem}") };
    assert!(message.contains("at most 10000"), "{message}");
}

#[test]
fn the_richest_allowed_inclusion_is_judged_soon() {
    let library = chain(12, |next| json!({"allOf": [next, next]}));
    let schema = library.compile("https://x.test/0").unwrap();
    let begin = Instant::now();
    assert_eq!(judge(&schema, &json!({})), []);
    assert_eq!(judge(&schema, &json!(1)).len(), limits::VIOLATIONS_MAX);
    assert!(begin.elapsed() < SOON);
}

/// Each member of an event is judged twice as often as the object it is in.
fn doubling(event_levels: usize, innermost: &str) -> (Library, String) {
    let twice = json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]});
    let document = json!({
        "$id": "https://x.test/0",
        "type": "object",
        "properties": {"a": twice, "b": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}
    });
    let text = format!("{}{innermost}{}", "{\"a\":".repeat(event_levels), "}".repeat(event_levels));
    (Library::of(&[document]), text)
}

#[test]
fn a_recursion_that_doubles_at_each_level_ends_soon() {
    for innermost in ["{}", "1"] {
        let (library, event) = doubling(60, innermost);
        let schema = library.compile("https://x.test/0").unwrap();
        let begin = Instant::now();
        let found = judge_text(&schema, &event);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        assert_eq!(found.is_empty(), innermost == "{}", "{found:?}");
    }
}

#[test]
fn documents_that_double_at_each_level_end_soon() {
    let library = chain(40, |next| json!({"properties": {"a": {"allOf": [next, next]}}}));
    let schema = library.compile("https://x.test/0").unwrap();
    for innermost in ["{}", "1"] {
        let (_, event) = doubling(39, innermost);
        let begin = Instant::now();
        let found = judge_text(&schema, &event);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        assert!(keywords(&found).contains(&"limit"), "{found:?}");
    }
}

#[test]
fn an_event_wrong_everywhere_is_answered_soon() {
    let schema = json!({"$id": "https://x.test/0", "items": {"type": "string"}});
    let schema = alone(&schema).unwrap();
    let event = format!("[{}1]", "1,".repeat(400_000));
    let begin = Instant::now();
    let found = judge_text(&schema, &event);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(keywords(&found), ["type", "limit"], "{found:?}");
    assert_eq!(found[0].instance_path, "/0");
}

#[test]
fn a_chain_beyond_the_limit_is_refused() {
    // Each document counts twice: itself, and the member of its `allOf`.
    let library = chain(limits::SCHEMA_CHAIN_MAX / 2 + 1, |next| json!({"allOf": [next]}));
    let problem = library.compile("https://x.test/0").unwrap_err();
    let SchemaProblem::TooLarge { message, .. } = problem else { panic!("{problem}") };
    assert!(message.contains("at most 64"), "{message}");
    library.compile("https://x.test/1").unwrap();
}

#[test]
fn the_longest_chain_at_every_level_fits_a_thread() {
    let mut document =
        json!({"$id": "https://x.test/0", "$ref": "#/definitions/d0", "definitions": {}});
    for place in 0..30 {
        document["definitions"][format!("d{place}")] =
            json!({"allOf": [{"$ref": format!("#/definitions/d{}", place + 1)}]});
    }
    document["definitions"]["d30"] =
        json!({"anyOf": [{"properties": {"a": {"$ref": "#/definitions/d0"}}, "type": "object"}]});
    let text = |innermost: &str| {
        let levels = limits::JSON_DEPTH_MAX - 1;
        format!("{}{innermost}{}", "{\"a\":".repeat(levels), "}".repeat(levels))
    };
    let judge = move || {
        let schema = alone(&document).unwrap();
        assert_eq!(judge_text(&schema, &text("{}")), []);
        assert_eq!(judge_text(&schema, &text("1")).len(), 1);
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(judge).unwrap().join().unwrap();
}

#[test]
fn a_long_way_from_document_to_document_compiles() {
    let library = chain(1_500, |next| json!({"properties": {"a": next}}));
    let compile = move || library.compile("https://x.test/0").map(drop).unwrap();
    std::thread::Builder::new().stack_size(2 << 20).spawn(compile).unwrap().join().unwrap();
}

#[test]
fn more_documents_than_allowed_are_refused() {
    let library = chain(limits::SCHEMA_CLOSURE_MAX + 2, |next| json!({"properties": {"a": next}}));
    let problem = library.compile("https://x.test/0").unwrap_err();
    assert!(matches!(problem, SchemaProblem::TooLarge { .. }), "{problem}");
}

#[test]
fn a_document_beyond_the_limits_is_refused() {
    let long = "x".repeat(limits::SCHEMA_BYTES_MAX);
    let text = json!({"$id": "https://x.test/0", "title": long}).to_string();
    let problem = SchemaDocument::parse(&text).unwrap_err();
    assert!(matches!(problem, SchemaProblem::TooLarge { .. }), "{problem}");
    let levels = limits::JSON_DEPTH_MAX;
    let text = format!("{}{{}}{}", "{\"not\":".repeat(levels), "}".repeat(levels));
    let problem = SchemaDocument::parse(&text).unwrap_err();
    assert!(problem.to_string().contains("64 levels"), "{problem}");
}
