use proptest::prelude::*;
use serde_json::{Value, json};

use crate::model::{
    json::{Document, JsonError, Kind, push_token, unescape_token},
    limits,
};

#[track_caller]
fn check_refused(text: &str, keyword: &str, path: &str) -> JsonError {
    let error = Document::parse(text).unwrap_err();
    assert_eq!((error.keyword, error.path.as_str()), (keyword, path), "{error}");
    error
}

#[track_caller]
fn check_same(a: &str, b: &str, same: bool) {
    let (first, second) = (Document::parse(a).unwrap(), Document::parse(b).unwrap());
    assert_eq!(first.root().same_json(&second.root()), same, "{a} and {b}");
    assert_eq!(second.root().same_json(&first.root()), same, "{b} and {a}");
    let digests = first.root().canonical_digest() == second.root().canonical_digest();
    assert_eq!(digests, same, "digests of {a} and {b}");
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn a_text_reads_back_as_the_same_tree() {
    let text = r#" {"a":[1,-2,2.5,1e3,true,false,null],"b\n\u00e9":"x\ty","":{"deep":{"er":""}}} "#;
    let document = Document::parse(text).unwrap();
    assert_eq!(document.root().to_value(), serde_json::from_str::<Value>(text).unwrap());
}

#[test]
fn broken_text_is_refused_with_its_place() {
    let broken = [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "+1",
        "1.",
        ".5",
        "tru",
        "nul",
        "'a'",
        "\"\t\"",
        "\"\\x\"",
        "\"\\ud800\"",
        "\u{feff}{}",
        "NaN",
        "Infinity",
        "/**/1",
        "[1 2]",
    ];
    for text in broken {
        let error = Document::parse(text).unwrap_err();
        assert_eq!(error.keyword, "json", "{text}");
        assert!(error.message.contains("line 1 column"), "{error}");
    }
    check_refused(r#"{"a":{"b":[1,{"c":x}]}}"#, "json", "/a/b/1");
}

#[test]
fn data_after_the_value_is_refused() {
    check_refused("{} {}", "json", "");
    check_refused("1 x", "json", "");
}

#[test]
fn numbers_beyond_doubles_are_refused() {
    check_refused("[1e400]", "json", "");
    check_refused("[-1e400]", "json", "");
}

#[test]
fn a_repeated_key_is_refused_with_its_pointer() {
    check_refused(r#"{"a":1,"a":1}"#, "duplicateKey", "/a");
    check_refused(r#"{"x":[0,{"a/b":1,"a\/b":2}]}"#, "duplicateKey", "/x/1/a~1b");
    check_refused(r#"{"a":1,"\u0061":2}"#, "duplicateKey", "/a");
    check_refused(r#"{"":1,"":2}"#, "duplicateKey", "/");
    assert!(Document::parse(r#"{"a":{"a":{"a":1}},"b":{"a":1}}"#).is_ok());
}

#[test]
fn a_repeated_key_is_found_among_many() {
    let mut keys: Vec<String> = (0..5_000).map(|it| format!("\"k{it}\":{it}")).collect();
    let text = format!("{{{}}}", keys.join(","));
    let document = Document::parse(&text).unwrap();
    assert_eq!(document.root().get("k4321").and_then(|it| it.as_u64()), Some(4321));
    assert!(document.root().get("k5000").is_none());
    keys.push("\"k17\":0".into());
    check_refused(&format!("{{\"o\":{{{}}}}}", keys.join(",")), "duplicateKey", "/o/k17");
}

#[test]
fn every_count_of_members_finds_its_repeated_key() {
    for count in 1..80 {
        let mut keys: Vec<String> = (0..count).map(|it| format!("\"k{it}\":0")).collect();
        assert!(Document::parse(&format!("{{{}}}", keys.join(","))).is_ok());
        keys.push(format!("\"k{}\":1", count / 2));
        check_refused(
            &format!("{{{}}}", keys.join(",")),
            "duplicateKey",
            &format!("/k{}", count / 2),
        );
    }
}

#[test]
fn levels_are_limited() {
    assert!(Document::parse(&nested(limits::JSON_DEPTH_MAX)).is_ok());
    let too_deep = nested(limits::JSON_DEPTH_MAX + 1);
    check_refused(&too_deep, "depth", &"/0".repeat(limits::JSON_DEPTH_MAX));
    check_refused(&nested(100_000), "depth", &"/0".repeat(limits::JSON_DEPTH_MAX));
}

#[test]
fn spelling_does_not_matter() {
    check_same(r#"{"a":1,"b":2}"#, r#" { "b" : 2 , "a" : 1 } "#, true);
    check_same(r#""\u00e9\/""#, r#""é/""#, true);
    check_same("[]", "{}", false);
    check_same("[1,2]", "[2,1]", false);
    check_same(r#"{"a":null}"#, "{}", false);
    check_same(r#"{"a":null}"#, r#"{"b":null}"#, false);
    check_same("true", "1", false);
    check_same(r#""1""#, "1", false);
    check_same("null", "false", false);
}

#[test]
fn numbers_compare_by_value() {
    for (a, b, same) in [
        ("1", "1.0", true),
        ("1", "1e0", true),
        ("100", "1E+2", true),
        ("0", "-0", true),
        ("0", "-0.0e5", true),
        ("-5", "-5.0", true),
        ("0.1", "1e-1", true),
        ("9007199254740992", "9007199254740992.0", true),
        ("9007199254740993", "9007199254740992.0", false),
        ("9007199254740993", "9007199254740992", false),
        ("18446744073709551615", "18446744073709551614", false),
        ("18446744073709551615", "18446744073709551616.0", false),
        ("18446744073709551616", "18446744073709551616.0", true),
        ("-9223372036854775808", "-9223372036854775808.0", true),
        ("1e300", "10e299", true),
        ("1.5", "1.25", false),
        ("1e-320", "1e-321", false),
    ] {
        check_same(a, b, same);
    }
}

#[test]
fn canonical_json_is_sorted_and_tight() {
    let document = Document::parse(r#"{ "b" : [1.0, 2.5, "\u00e9"], "a" : {"z":null,"y":true} }"#);
    let text = document.unwrap().root().canonical_json();
    let expected = r#"{"a":{"y":true,"z":null},"b":[1,2.5e0,"é"]}"#;
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn fields_are_reached_by_name_and_by_pointer() {
    let document = Document::parse(r#"{"a":{"b/c":[10,{"~":-7}]},"n":1e2,"s":"t"}"#).unwrap();
    let root = document.root();
    assert_eq!(root.pointer("").map(|it| it.kind()), Some(Kind::Object));
    assert_eq!(root.pointer("/a/b~1c/1/~0").and_then(|it| it.as_i64()), Some(-7));
    assert_eq!(root.pointer("/a/b~1c/0").and_then(|it| it.as_u64()), Some(10));
    for nowhere in ["/x", "/a/b~1c/2", "/a/b~1c/00", "/a/b~1c/+1", "/a/b~1c/-", "/n/x", "a"] {
        assert!(root.pointer(nowhere).is_none(), "{nowhere}");
    }
    assert_eq!(root.get("n").and_then(|it| it.as_i64()), Some(100));
    assert_eq!(root.get("n").and_then(|it| it.as_f64()), Some(100.0));
    assert_eq!(root.get("s").and_then(|it| it.as_str()), Some("t"));
    assert_eq!(root.get("s").and_then(|it| it.get("t")).map(|it| it.kind()), None);
    let keys: Vec<&str> = root.members().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a", "n", "s"]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |it| it.is_finite()).prop_map(Value::from),
        (-1000_i32..1000).prop_map(|it| json!(f64::from(it))),
        any::<String>().prop_map(Value::from),
        "[a-c\\n\"\\\\/~é]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 120, 12, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::hash_map("[a-d\\n/~é]{0,3}", inner.clone(), 0..8)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
            prop::collection::hash_map(any::<String>(), inner, 30..50)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

/// Every value of a tree with its pointer.
fn walk(value: &Value, pointer: &str, seen: &mut Vec<(String, Value)>) {
    seen.push((pointer.to_owned(), value.clone()));
    let mut visit = |token: &str, child: &Value| {
        let mut at = pointer.to_owned();
        push_token(&mut at, token);
        walk(child, &at, seen);
    };
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, it)| visit(&place.to_string(), it));
        }
        Value::Object(members) => members.iter().for_each(|(key, it)| visit(key, it)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

proptest! {
    #[test]
    fn any_tree_survives_the_arena(value in any_json()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let document = Document::parse(&text).unwrap();
            prop_assert_eq!(document.root().to_value(), serde_json::from_str::<Value>(&text).unwrap());
            let mut seen = Vec::new();
            walk(&value, "", &mut seen);
            prop_assert_eq!(seen.len(), document.len());
            for (pointer, expected) in seen {
                let found = document.root().pointer(&pointer).unwrap().to_value();
                prop_assert_eq!(found.to_string(), expected.to_string());
            }
        }
    }

    #[test]
    fn canonical_json_is_the_same_value(value in any_json()) {
        let text = value.to_string();
        let document = Document::parse(&text).unwrap();
        let canonical = String::from_utf8(document.root().canonical_json()).unwrap();
        let again = Document::parse(&canonical).unwrap();
        prop_assert!(document.root().same_json(&again.root()));
        prop_assert_eq!(again.root().canonical_json(), canonical.as_bytes());
    }

    #[test]
    fn two_trees_are_the_same_exactly_when_their_digests_are(a in any_json(), b in any_json()) {
        let (first, second) = (a.to_string(), b.to_string());
        let (first, second) = (Document::parse(&first).unwrap(), Document::parse(&second).unwrap());
        let same = first.root().same_json(&second.root());
        prop_assert_eq!(
            same,
            first.root().canonical_digest() == second.root().canonical_digest()
        );
        if a == b {
            prop_assert!(same);
        }
    }

    #[test]
    fn any_text_is_judged_as_the_json_crate_judges_it(text in "[\\[\\]{}\",:0-9a-b\\\\u.eE+\\- ntrufalse]{0,24}") {
        let ours = Document::parse(&text);
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => match ours {
                Ok(document) => prop_assert_eq!(document.root().to_value(), value),
                Err(error) => prop_assert_eq!(error.keyword, "duplicateKey"),
            },
            Err(_) => prop_assert!(ours.is_err()),
        }
    }

    #[test]
    fn tokens_survive_escaping(token in any::<String>()) {
        let mut pointer = String::new();
        push_token(&mut pointer, &token);
        prop_assert_eq!(unescape_token(&pointer[1..]), token);
    }
}
