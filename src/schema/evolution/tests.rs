use serde_json::{Value, json};

use super::{ChangeKind, Verdict, changes};
use crate::schema::{SchemaDocument, closure, tests::Library};

fn document(id: &str, body: &Value) -> SchemaDocument {
    let mut document = body.clone();
    document["$id"] = json!(format!("https://example.com/{id}"));
    SchemaDocument::parse(&document.to_string()).unwrap()
}

/// Path, kind and verdict of every change.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "rows read better")]
fn check(old: Value, new: Value, expected: &[(&str, &str, Verdict)]) {
    let (old, new) = (document("a", &old), document("a", &new));
    let found = changes((&old, &[]), (&new, &[]));
    let found: Vec<_> =
        found.listed.iter().map(|it| (&*it.path, it.kind.name(), it.verdict)).collect();
    assert_eq!(found, expected);
}

#[expect(clippy::needless_pass_by_value, reason = "rows read better")]
fn field(definition: Value) -> Value {
    json!({"properties": {"f": definition}})
}

#[track_caller]
fn check_field(old: Value, new: Value, kinds: &[(&str, Verdict)]) {
    let expected: Vec<_> = kinds.iter().map(|(kind, verdict)| ("/f", *kind, *verdict)).collect();
    check(field(old), field(new), &expected);
}

use Verdict::{Breaking, Compatible, Warning};

#[test]
fn fields_are_added_and_stay() {
    let text = || json!({"type": "string"});
    check(json!({}), field(text()), &[("/f", "FIELD_ADDED", Compatible)]);
    check(field(text()), json!({}), &[("/f", "FIELD_REMOVED", Breaking)]);
    let renamed = json!({"properties": {"g": {"type": "string"}}});
    check(field(text()), renamed, &[("/f", "FIELD_RENAMED", Breaking)]);
    let both = json!({"properties": {"f": text(), "F": {"type": "number"}}});
    check(field(text()), both, &[("/F", "CASE_VARIANT", Breaking)]);
    let deep = |inner: Value| field(json!({"properties": {"x/y": inner}}));
    check(deep(json!({"enum": [1]})), deep(json!({})), &[("/f/x~1y", "ENUM_DROPPED", Compatible)]);
    check(field(text()), field(json!({"type": "string", "title": "t"})), &[]);
}

#[test]
fn values_are_not_narrowed() {
    let rows = [
        (json!({"type": "string"}), json!({"type": "number"}), "TYPE_CHANGED", Breaking),
        (json!({"type": "integer"}), json!({"type": "number"}), "TYPE_CHANGED", Breaking),
        (json!({}), json!({"type": "number"}), "TYPE_CHANGED", Breaking),
        (json!({"minimum": 1}), json!({"minimum": 2}), "BOUND_NARROWED", Breaking),
        (json!({"minimum": 2}), json!({"minimum": 1}), "BOUND_WIDENED", Compatible),
        (json!({"maximum": 2}), json!({"maximum": 1}), "BOUND_NARROWED", Breaking),
        (json!({}), json!({"maxLength": 1}), "BOUND_NARROWED", Breaking),
        (json!({"maxItems": 1}), json!({}), "BOUND_WIDENED", Compatible),
        (json!({"multipleOf": 2}), json!({"multipleOf": 3}), "BOUND_NARROWED", Breaking),
        (json!({}), json!({"uniqueItems": true}), "BOUND_NARROWED", Breaking),
        (json!({}), json!({"pattern": "a"}), "PATTERN_CHANGED", Breaking),
        (json!({"pattern": "a"}), json!({"pattern": "b"}), "PATTERN_CHANGED", Breaking),
        (json!({"pattern": "a"}), json!({}), "PATTERN_DROPPED", Compatible),
        (json!({"format": "uri"}), json!({"format": "email"}), "FORMAT_CHANGED", Breaking),
        (json!({"format": "uri"}), json!({}), "FORMAT_DROPPED", Compatible),
        (json!({"format": "date"}), json!({}), "FORMAT_CHANGED", Breaking),
        (json!({"enum": [1, 2]}), json!({"enum": [1]}), "ENUM_NARROWED", Breaking),
        (json!({"enum": [1]}), json!({"enum": [1, 2]}), "ENUM_WIDENED", Compatible),
        (json!({"enum": [1]}), json!({"meta:enum": {"1": ""}}), "ENUM_DROPPED", Compatible),
        (json!({"meta:enum": {"1": ""}}), json!({"enum": ["1"]}), "ENUM_ADDED", Breaking),
        (json!({}), json!({"const": 1}), "ENUM_ADDED", Breaking),
        (json!({"const": 1}), json!({"enum": [1, 2]}), "ENUM_WIDENED", Compatible),
        (json!({}), json!({"meta:enum": {"1": ""}}), "SUGGESTION_ADDED", Compatible),
        (json!({"meta:enum": {"1": ""}}), json!({}), "SUGGESTION_REMOVED", Compatible),
        (json!({}), json!({"meta:status": "deprecated"}), "FIELD_DEPRECATED", Compatible),
        (json!({}), json!({"additionalProperties": false}), "KEYS_CLOSED", Breaking),
        (json!({"additionalProperties": false}), json!({}), "KEYS_OPENED", Compatible),
        (json!({}), json!({"not": {"type": "null"}}), "CONDITION_CHANGED", Breaking),
        (json!({"not": {"type": "null"}}), json!({}), "CONDITION_DROPPED", Compatible),
        (json!({}), json!(false), "TYPE_CHANGED", Breaking),
    ];
    for (old, new, kind, verdict) in rows {
        check_field(old, new, &[(kind, verdict)]);
    }
}

#[test]
fn what_was_optional_stays_so() {
    let with = |required: &[&str], names: &[&str]| {
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|it| ((*it).to_owned(), json!({"type": "string"}))).collect();
        json!({"properties": properties, "required": required})
    };
    check(with(&[], &["a"]), with(&["a"], &["a"]), &[("/a", "REQUIRED_ADDED", Breaking)]);
    check(with(&["a"], &["a"]), with(&[], &["a"]), &[("/a", "REQUIRED_DROPPED", Compatible)]);
    let new = [("/b", "FIELD_ADDED", Compatible), ("/b", "REQUIRED_FIELD_ADDED", Warning)];
    check(with(&[], &["a"]), with(&["b"], &["a", "b"]), &new);
    // Asking for what is not defined anywhere.
    check(with(&[], &[]), with(&["c"], &[]), &[("/c", "REQUIRED_ADDED", Breaking)]);
}

#[test]
fn elements_and_other_keys_are_compared() {
    let items = |it: Value| field(json!({"items": it}));
    let (old, new) = (json!({"type": "string"}), json!({"type": "number"}));
    check(items(old.clone()), items(new.clone()), &[("/f/*", "TYPE_CHANGED", Breaking)]);
    check(field(json!({})), items(new.clone()), &[("/f/*", "ELEMENTS_CHANGED", Breaking)]);
    let map = |it: Value| field(json!({"additionalProperties": it}));
    check(map(old.clone()), map(new.clone()), &[("/f/*", "TYPE_CHANGED", Breaking)]);
    check(field(json!({})), map(new), &[("/f/*", "CONDITION_CHANGED", Breaking)]);
    check(map(old), field(json!({})), &[("/f/*", "FIELD_REMOVED", Breaking)]);
}

#[test]
fn accepting_more_under_a_condition_may_be_accepting_less() {
    let under = |keyword: &str, it: Value| field(json!({keyword: it}));
    let (narrow, wide) = (json!({"maximum": 1}), json!({"maximum": 2}));
    let not = |it: &Value| under("not", it.clone());
    check(not(&narrow), not(&wide), &[("/f", "BOUND_WIDENED", Breaking)]);
    let any = |it: &Value| under("anyOf", json!([it]));
    check(any(&narrow), any(&wide), &[("/f", "BOUND_WIDENED", Compatible)]);
    check(any(&wide), any(&narrow), &[("/f", "BOUND_NARROWED", Breaking)]);
    let two = |keyword| under(keyword, json!([narrow, wide]));
    check(any(&narrow), two("anyOf"), &[("/f", "CONDITION_DROPPED", Compatible)]);
    let one = under("oneOf", json!([narrow]));
    check(one, two("oneOf"), &[("/f", "CONDITION_CHANGED", Breaking)]);
    check(two("anyOf"), any(&narrow), &[("/f", "CONDITION_CHANGED", Breaking)]);
}

#[test]
fn what_comes_through_references_counts_and_its_form_does_not() {
    let top = |body: Value| json!({"$id": "https://example.com/top", "allOf": [body]});
    let group = |max: u32| {
        json!({"$id": "https://example.com/group", "definitions": {"d": {"maxLength": max}},
            "properties": {"f": {"$ref": "#/definitions/d"}, "self": {"$ref": "#"}}})
    };
    let refer = json!({"$ref": "https://example.com/group"});
    let closed = |documents: &[Value]| {
        let library = Library::of(documents);
        let top = library.get("https://example.com/top");
        let closure = closure(&top, |id| library.find(id)).unwrap();
        (top, closure)
    };
    let old = closed(&[top(refer.clone()), group(5)]);
    let new = closed(&[top(refer), group(3)]);
    let found = changes((&old.0, &old.1), (&new.0, &new.1));
    let paths: Vec<_> = found.listed.iter().map(|it| (&*it.path, it.kind)).collect();
    assert_eq!(paths, [("/f", ChangeKind::BoundNarrowed)]);
    // The same fields, written into the document.
    let mut inline = group(5);
    inline["$id"] = json!("https://example.com/top");
    let inline = closed(&[inline]);
    assert_eq!(changes((&old.0, &old.1), (&inline.0, &inline.1)).listed, []);
}

#[test]
fn the_primary_identity_stays() {
    let with = |path: &str| {
        json!({"meta:descriptors": [{"@type": "xdm:descriptorIdentity", "xdm:isPrimary": true,
            "xdm:namespace": "Email", "xdm:sourceProperty": path}]})
    };
    check(with("/a"), with("/b"), &[("", "PRIMARY_IDENTITY_CHANGED", Breaking)]);
    check(with("/a"), json!({}), &[("", "PRIMARY_IDENTITY_CHANGED", Breaking)]);
    check(json!({}), with("/a"), &[]);
}

#[test]
fn a_deep_or_wide_schema_ends() {
    let mut definitions = serde_json::Map::new();
    for n in 0..5_000 {
        let next = json!({"$ref": format!("#/definitions/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"properties": {"x": next}}));
    }
    let with = |last: Value| {
        let mut definitions = definitions.clone();
        definitions.insert("d5000".into(), last);
        let top = json!({"$ref": "#/definitions/d0"});
        json!({"definitions": definitions, "allOf": [top]})
    };
    // Deeper than any event.
    check(with(json!({"maximum": 2})), with(json!({"maximum": 1})), &[]);
    let fields = |max: usize| {
        let field = |n: usize| (format!("f{n}"), json!({"maximum": max}));
        json!({"properties": (0..3_000).map(field).collect::<serde_json::Map<_, _>>()})
    };
    let (old, new) = (document("a", &fields(2)), document("a", &fields(1)));
    let found = changes((&old, &[]), (&new, &[]));
    assert_eq!((found.listed.len(), found.left_out), (1_000, 2_000));
    assert_eq!(found.verdict(), Breaking);
}
