//! Where references lead, and where they must not.

use serde_json::{Value, json};

use crate::schema::{
    SchemaProblem,
    tests::{Library, alone, judge},
};

const D7: &str = "http://json-schema.org/draft-07/schema#";
const D19: &str = "https://json-schema.org/draft/2019-09/schema";
const D20: &str = "https://json-schema.org/draft/2020-12/schema";

/// Compiles the first document; `1` must be refused by it and `"s"` accepted.
#[track_caller]
fn check_string(documents: &[Value]) {
    let library = Library::of(documents);
    let id = documents[0]["$id"].as_str().unwrap();
    let schema = library.compile(id).unwrap_or_else(|it| panic!("{it}"));
    assert_eq!(judge(&schema, &json!("s")), []);
    assert_eq!(judge(&schema, &json!(1))[0].keyword, "type");
}

#[track_caller]
fn check_unresolved(documents: &[Value], document: &str, pointer: &str, reference: &str) {
    let library = Library::of(documents);
    let id = documents[0]["$id"].as_str().unwrap();
    let problem = library.compile(id).unwrap_err();
    let SchemaProblem::Unresolved { document: d, pointer: p, reference: r, message } = &problem
    else {
        panic!("{problem:?}")
    };
    assert_eq!((&**d, &**p, &**r), (document, pointer, reference), "{message}");
}

#[track_caller]
fn check_cycle(documents: &[Value], pointer: &str, named: &str) {
    let library = Library::of(documents);
    let id = documents[0]["$id"].as_str().unwrap();
    let problem = library.compile(id).unwrap_err();
    let SchemaProblem::Cycle { pointer: p, message } = &problem else { panic!("{problem:?}") };
    assert_eq!(p, pointer, "{message}");
    assert!(message.contains(named), "{message}");
}

#[test]
fn references_lead_to_documents_and_into_them() {
    let string = json!({"$id": "https://x.test/s", "type": "string", "definitions": {
        "a/b": {"type": "string"}, "named": {"$id": "#name", "type": "string"}
    }});
    for reference in [
        "https://x.test/s",
        "https://x.test/s#",
        "s",
        "/s",
        "./s#/definitions/a~1b",
        "s#/definitions/a%7E1b",
        "https://x.test/s#name",
    ] {
        for schema in [None, Some(D7), Some(D19), Some(D20)] {
            let mut document =
                json!({"$id": "https://x.test/root", "allOf": [{"$ref": reference}]});
            if let Some(schema) = schema {
                document["$schema"] = json!(schema);
            }
            check_string(&[document, string.clone()]);
        }
    }
}

#[test]
fn references_lead_within_the_document() {
    for (schema, name) in [(D7, json!({"$id": "#n"})), (D19, json!({"$anchor": "n"}))] {
        let mut named = name;
        named["type"] = json!("string");
        for reference in ["#n", "#/definitions/n", "https://x.test/r#n"] {
            check_string(&[json!({
                "$schema": schema, "$id": "https://x.test/r",
                "allOf": [{"$ref": reference}], "definitions": {"n": named}
            })]);
        }
    }
    check_string(&[json!({
        "$schema": D20, "$id": "https://x.test/r", "$dynamicRef": "#n",
        "$defs": {"n": {"$dynamicAnchor": "n", "type": "string"}}
    })]);
    check_string(&[json!({
        "$schema": D7, "$id": "https://x.test/r", "allOf": [{"$ref": "inner/s"}],
        "definitions": {"inner": {"$id": "inner/", "definitions": {
            "s": {"$id": "s", "type": "string"}
        }}}
    })]);
    check_string(&[json!({
        "$schema": D20, "$id": "https://x.test/r", "$ref": "inner#/$defs/s",
        "$defs": {"inner": {"$id": "inner", "$defs": {"s": {"type": "string"}}}}
    })]);
}

#[test]
fn what_stands_beside_a_reference_counts_by_draft() {
    let document = |schema: &str| {
        json!({
            "$schema": schema, "$id": "https://x.test/r",
            "properties": {"a": {"$ref": "#/definitions/s", "maxLength": 1}},
            "definitions": {"s": {"type": "string"}}
        })
    };
    let event = json!({"a": "long"});
    assert_eq!(judge(&alone(&document(D7)).unwrap(), &event), []);
    assert_eq!(judge(&alone(&document(D20)).unwrap(), &event)[0].keyword, "maxLength");
    let root = json!({
        "$id": "https://x.test/r", "$ref": "#/definitions/s", "type": "object",
        "definitions": {"s": {"type": "string"}}
    });
    check_string(&[root]);
}

#[test]
fn each_document_keeps_its_draft() {
    let tuple = json!([{"type": "string"}]);
    let old = json!({"$id": "https://x.test/old", "items": tuple, "format": "date"});
    let new = json!({"$id": "https://x.test/new", "$schema": D20, "prefixItems": tuple,
        "items": {"type": "number"}, "format": "date"});
    let both = json!({"$id": "https://x.test/r", "$schema": D19,
        "allOf": [{"$ref": "old"}, {"$ref": "new"}]});
    let schema = Library::of(&[both, old, new]).compile("https://x.test/r").unwrap();
    assert_eq!(judge(&schema, &json!(["s", 1])), []);
    assert_eq!(judge(&schema, &json!([1, 1])).len(), 2);
    let found = judge(&schema, &json!("today"));
    assert_eq!(found.len(), 1, "only the old draft asserts formats: {found:?}");
    assert_eq!(found[0].schema_path, "https://x.test/old#/format");
}

#[test]
fn a_reference_to_nothing_is_refused_where_it_stands() {
    let id = "https://x.test/r";
    let to = |reference: &str| json!({"$id": id, "properties": {"a/b": {"$ref": reference}}});
    let at = "/properties/a~1b/$ref";
    check_unresolved(&[to("https://y.test/s")], id, at, "https://y.test/s");
    check_unresolved(&[to(D19)], id, at, D19);
    check_unresolved(&[to("s#x")], id, at, "https://x.test/s#x");
    check_unresolved(&[to("#/definitions/s")], id, at, "https://x.test/r#/definitions/s");
    check_unresolved(&[to("#name")], id, at, "https://x.test/r#name");
    check_unresolved(&[to("#/properties")], id, at, "https://x.test/r#/properties");
    check_unresolved(&[to("file:///etc/passwd")], id, at, "file:///etc/passwd");
    let other = json!({"$id": "https://x.test/s", "definitions": {"a": {}}});
    check_unresolved(&[to("s#/definitions/b"), other], id, at, "https://x.test/s#/definitions/b");
    let middle = json!({"$id": "https://x.test/m", "not": {"$ref": "gone"}});
    check_unresolved(&[to("m"), middle], "https://x.test/m", "/not/$ref", "https://x.test/gone");
    let unused = json!({"$id": id, "definitions": {"a": {"$ref": "gone"}}});
    check_unresolved(&[unused], id, "/definitions/a/$ref", "https://x.test/gone");
}

#[test]
fn text_that_looks_like_a_reference_is_not_one() {
    let document = json!({
        "$id": "https://x.test/r",
        "enum": [{"$ref": "gone"}], "default": {"$ref": "gone"}, "const": {"$ref": "gone"},
        "examples": [{"$ref": "gone"}], "meta:x": {"$ref": "gone"},
        "properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}
    });
    let schema = alone(&document).unwrap();
    assert_eq!(judge(&schema, &json!({"$ref": "gone"})), []);
}

#[test]
fn schemas_that_apply_each_other_are_refused() {
    let r = "https://x.test/r";
    let with = |keyword: &str, value: Value| {
        let mut document = json!({"$id": r, "$schema": D19});
        document[keyword] = value;
        document
    };
    let this = || json!({"$ref": "#"});
    check_cycle(&[with("$ref", json!("#"))], "", "https://x.test/r# -> https://x.test/r#");
    for (keyword, value) in [
        ("allOf", json!([this()])),
        ("anyOf", json!([{}, this()])),
        ("oneOf", json!([this()])),
        ("not", this()),
        ("if", this()),
        ("then", this()),
        ("else", this()),
        ("dependentSchemas", json!({"a": this()})),
        ("dependencies", json!({"a": this(), "b": ["c"]})),
        ("$recursiveRef", json!("#")),
    ] {
        check_cycle(&[with(keyword, value)], "", "without end");
    }
    check_cycle(
        &[
            json!({"$id": r, "$schema": D20, "$dynamicAnchor": "n", "allOf": [{"$dynamicRef": "#n"}]}),
        ],
        "",
        "without end",
    );
    check_cycle(
        &[
            json!({"$id": r, "allOf": [{"$ref": "b#/definitions/x"}]}),
            json!({"$id": "https://x.test/b", "definitions": {"x": {"anyOf": [{"$ref": "r"}]}}}),
        ],
        "",
        "https://x.test/b#/definitions/x/anyOf/0",
    );
    check_cycle(
        &[json!({"$id": r, "properties": {"a": {"$ref": "#/definitions/x"}}, "definitions": {
            "x": {"not": {"$ref": "#/definitions/y"}}, "y": {"$ref": "#/definitions/x"}
        }})],
        "/definitions/x",
        "https://x.test/r#/definitions/y",
    );
}

#[test]
fn recursion_through_parts_is_taken() {
    let tree = json!({
        "$id": "https://x.test/r", "type": "object",
        "properties": {"child": {"$ref": "#"}, "children": {"items": {"allOf": [{"$ref": "#"}]}}},
        "patternProperties": {"^x": {"$ref": "#"}}
    });
    let schema = alone(&tree).unwrap();
    assert_eq!(judge(&schema, &json!({"child": {"children": [{"x1": {}}]}})), []);
    let found = judge(&schema, &json!({"child": {"children": [{"x1": 1}]}}));
    assert_eq!(found[0].instance_path, "/child/children/0/x1");
    let a = json!({"$id": "https://x.test/a", "properties": {"b": {"$ref": "b"}}});
    let b = json!({"$id": "https://x.test/b", "type": "object", "items": {"$ref": "a"}});
    let schema = Library::of(&[a, b]).compile("https://x.test/a").unwrap();
    assert_eq!(judge(&schema, &json!({"b": 1})).len(), 1);
}

#[test]
fn an_id_defined_twice_is_refused() {
    let thief = json!({"$id": "https://x.test/r", "allOf": [{"$ref": "s"}],
        "definitions": {"x": {"$id": "https://x.test/t"}}});
    let s = json!({"$id": "https://x.test/s", "allOf": [{"$ref": "t"}]});
    let t = json!({"$id": "https://x.test/t", "type": "string"});
    let problem = Library::of(&[thief, s, t]).compile("https://x.test/r").unwrap_err();
    assert!(problem.to_string().contains("both define `$id` `https://x.test/t`"), "{problem}");
}
