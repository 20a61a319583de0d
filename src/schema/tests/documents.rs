//! What a document must be by itself, and what is read from it.

use serde_json::{Value, json};

use crate::schema::{
    SchemaDocument, SchemaKind, SchemaProblem, built_in,
    tests::{Library, alone},
};

fn parse(document: &Value) -> Result<SchemaDocument, SchemaProblem> {
    SchemaDocument::parse(&document.to_string())
}

#[track_caller]
fn check_invalid(document: &Value, pointer: &str, message: &str) {
    let problem = parse(document).unwrap_err();
    let SchemaProblem::Invalid(faults) = &problem else { panic!("{problem:?}") };
    let found = faults.iter().any(|it| it.pointer == pointer && it.message.contains(message));
    assert!(found, "{faults:?}");
}

#[test]
fn a_document_needs_an_absolute_id() {
    check_invalid(&json!({}), "/$id", "needs an `$id`");
    check_invalid(&json!({"$id": 1}), "/$id", "needs an `$id`");
    check_invalid(&json!([]), "", "a schema document is a JSON object");
    check_invalid(&json!(true), "", "a schema document is a JSON object");
    for relative in ["", "a", "/a", "//x.test/a", "#", "?q", "1:2"] {
        check_invalid(&json!({"$id": relative}), "/$id", "not an absolute URI");
    }
    check_invalid(&json!({"$id": "https://x.test/a#b"}), "/$id", "has a fragment");
    check_invalid(&json!({"$id": "https://x.test/a b"}), "/$id", "not an absolute URI");
    check_invalid(&json!({"$id": "HTTPS://X.test/a/../b"}), "/$id", "write `https://x.test/b`");
    let long = format!("https://x.test/{}", "a".repeat(1024));
    check_invalid(&json!({"$id": long}), "/$id", "at most 1024");
    let metaschema = "http://json-schema.org/draft-07/schema#";
    check_invalid(&json!({"$id": metaschema}), "/$id", "cannot be replaced");
    for id in ["https://x.test/a#", "urn:x:a", "https://ns.adobe.com/xdm/data/record"] {
        assert_eq!(parse(&json!({"$id": id})).unwrap().id(), id.trim_end_matches('#'));
    }
}

#[test]
fn known_drafts_are_taken_and_others_refused() {
    for known in [
        "http://json-schema.org/draft-06/schema#",
        "https://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-07/schema",
        "https://json-schema.org/draft/2019-09/schema#",
        "http://json-schema.org/draft/2020-12/schema",
    ] {
        assert!(parse(&json!({"$id": "https://x.test/a", "$schema": known})).is_ok(), "{known}");
    }
    for unknown in [
        json!("http://json-schema.org/draft-04/schema#"),
        json!("http://json-schema.org/draft-03/schema#"),
        json!("http://json-schema.org/schema#"),
        json!("https://x.test/meta"),
        json!(6),
    ] {
        check_invalid(
            &json!({"$id": "https://x.test/a", "$schema": unknown}),
            "/$schema",
            "not a known draft",
        );
    }
    check_invalid(
        &json!({"$id": "https://x.test/a", "items": {"$schema": "http://json-schema.org/draft-07/schema#"}}),
        "/items/$schema",
        "differs from the document's draft",
    );
}

#[test]
fn every_fault_is_named() {
    let document = json!({
        "$id": "https://x.test/a", "type": "strng", "required": [1], "minLength": -1,
        "properties": {"b": {"pattern": "("}}
    });
    let SchemaProblem::Invalid(faults) = parse(&document).unwrap_err() else { panic!() };
    let mut pointers: Vec<&str> = faults.iter().map(|it| it.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/minLength", "/properties/b/pattern", "/required/0", "/type"]);
    assert!(parse(&json!({"$id": "https://x.test/a", "required": []})).is_ok());
}

#[test]
fn text_that_is_not_strict_json_is_refused() {
    for (text, pointer) in [("{", ""), (r#"{"$id":"https://x.test/a","a":{"b":1,"b":2}}"#, "/a/b")]
    {
        let problem = SchemaDocument::parse(text).unwrap_err();
        let SchemaProblem::Invalid(faults) = &problem else { panic!("{problem:?}") };
        assert_eq!(faults[0].pointer, pointer);
    }
}

#[test]
fn the_kind_follows_from_the_annotations() {
    use SchemaKind::{Behavior, Class, DataType, FieldGroup, Schema};
    let series = "https://ns.adobe.com/xdm/data/time-series";
    let event = "https://ns.adobe.com/xdm/context/experienceevent";
    let rows = [
        (json!({"meta:resourceType": "behaviors"}), Behavior),
        (json!({"meta:resourceType": "classes"}), Class),
        (json!({"meta:resourceType": "fieldgroups"}), FieldGroup),
        (json!({"meta:resourceType": "mixins"}), FieldGroup),
        (json!({"meta:resourceType": "datatypes"}), DataType),
        (json!({"meta:resourceType": "schemas", "meta:intendedToExtend": []}), Schema),
        (json!({"$id": series, "meta:abstract": true}), Behavior),
        (json!({"$id": event, "meta:abstract": true}), Class),
        (json!({"meta:extends": [series], "meta:abstract": true}), Class),
        (json!({"meta:class": event, "meta:extends": [series, event]}), Schema),
        (json!({"meta:intendedToExtend": [event], "meta:abstract": true}), FieldGroup),
        (json!({"allOf": [{"$ref": event}], "meta:extensible": true}), Schema),
        (json!({"meta:extensible": true}), DataType),
        (json!({}), Schema),
    ];
    for (mut document, expected) in rows {
        if document.get("$id").is_none() {
            document["$id"] = json!("https://x.test/a");
        }
        assert_eq!(parse(&document).unwrap().kind(), expected, "{document}");
    }
    let kinds: Vec<_> = built_in().iter().map(SchemaDocument::kind).collect();
    assert_eq!(kinds, [Behavior, Behavior, Behavior, DataType, FieldGroup, Class]);
}

#[test]
fn the_digest_is_of_the_document_as_given() {
    let digest = |text: &str| *SchemaDocument::parse(text).unwrap().digest();
    let plain = digest(r#"{"$id":"https://x.test/a","minLength":1}"#);
    assert_eq!(plain, digest(r#" { "minLength": 1.0, "$id": "https://x.test/\u0061" } "#));
    assert_ne!(plain, digest(r#"{"$id":"https://x.test/a","minLength":2}"#));
    let schema = "http://json-schema.org/draft-06/schema#";
    let named = format!(r#"{{"$id":"https://x.test/a","minLength":1,"$schema":"{schema}"}}"#);
    assert_ne!(plain, digest(&named));
    let document = SchemaDocument::parse(&named).unwrap();
    assert_eq!((&**document.text(), document.title()), (&*named, ""));
}

fn described(id: &str, refs: &[&str], descriptors: &Value) -> Value {
    let all_of: Vec<Value> = refs.iter().map(|it| json!({"$ref": it})).chain([json!({})]).collect();
    json!({"$id": id, "allOf": all_of, "meta:descriptors": descriptors})
}

fn identity(path: &str, namespace: &str, primary: bool) -> Value {
    json!({"@type": "xdm:descriptorIdentity", "xdm:sourceProperty": path,
        "xdm:namespace": namespace, "xdm:property": "xdm:code", "xdm:isPrimary": primary})
}

#[test]
fn identity_fields_come_from_the_whole_closure() {
    let other = json!({"@type": "xdm:descriptorOneToOne", "xdm:sourceProperty": "/c"});
    let plain = json!({"@type": "descriptorIdentity", "sourceProperty": "/_x/b",
        "namespace": "Email", "isPrimary": false});
    let library = Library::of(&[
        described("https://x.test/r", &["s"], &json!([identity("/a", "CRMID", true), other])),
        described(
            "https://x.test/s",
            &[],
            &json!([plain, identity("/a", "ECID", false), identity("/d", "ECID", true)]),
        ),
    ]);
    let schema = library.compile("https://x.test/r").unwrap();
    let fields: Vec<_> = schema
        .fields()
        .identities
        .iter()
        .map(|it| (it.path.as_str(), it.namespace.as_str(), it.primary))
        .collect();
    // The root's primary and its namespace for `/a` win.
    assert_eq!(fields, [("/a", "CRMID", true), ("/_x/b", "Email", false), ("/d", "ECID", false)]);
}

#[test]
fn two_primary_identities_are_refused() {
    let two = json!([identity("/a", "CRMID", true), identity("/b", "ECID", true)]);
    let problem = alone(&described("https://x.test/r", &[], &two)).unwrap_err();
    assert!(problem.to_string().contains("`/a`, `/b` are primary"), "{problem}");
}

#[test]
fn a_bad_descriptor_is_refused_where_it_stands() {
    let rows = [
        (json!({}), "/meta:descriptors", "not a list"),
        (json!([1]), "/meta:descriptors/0", "not an object"),
        (json!([{}]), "/meta:descriptors/0/@type", "needs an `@type`"),
        (
            json!([identity("a", "X", false)]),
            "/meta:descriptors/0/xdm:sourceProperty",
            "not a path",
        ),
        (
            json!([identity("/a/", "X", false)]),
            "/meta:descriptors/0/xdm:sourceProperty",
            "not a path",
        ),
        (
            json!([identity("/a", "", false)]),
            "/meta:descriptors/0/xdm:namespace",
            "not a namespace",
        ),
    ];
    for (descriptors, pointer, message) in rows {
        check_invalid(&described("https://x.test/r", &[], &descriptors), pointer, message);
    }
    let mut odd = identity("/a", "X", false);
    odd["xdm:isPrimary"] = json!("yes");
    check_invalid(
        &described("https://x.test/r", &[], &json!([odd])),
        "/meta:descriptors/0/xdm:isPrimary",
        "neither true nor false",
    );
}

#[track_caller]
fn check_composition(documents: &[Value], expected: &[(&str, &str)]) {
    let library = Library::of(documents);
    let root = &library.0[documents[0]["$id"].as_str().unwrap()];
    let closure = crate::schema::closure(root, |id| library.0.get(id).cloned()).unwrap();
    let found = crate::schema::check_composition(root, &closure);
    let faults = match &found {
        Ok(()) => &[][..],
        Err(SchemaProblem::Composition(faults)) => faults,
        Err(problem) => panic!("{problem:?}"),
    };
    let all = faults.iter().zip(expected);
    let named = |(fault, (pointer, message)): (&crate::schema::Fault, &(&str, &str))| {
        fault.pointer == *pointer && fault.message.contains(message)
    };
    assert!(faults.len() == expected.len() && all.into_iter().all(named), "{faults:?}");
}

#[test]
fn a_schema_is_one_class_and_field_groups_for_it() {
    let id = |name: &str| format!("https://x.test/{name}");
    let refer = |names: &[&str]| -> Value { names.iter().map(|it| json!({"$ref": *it})).collect() };
    let series = json!({"$id": "https://ns.adobe.com/xdm/data/time-series"});
    let record = json!({"$id": "https://ns.adobe.com/xdm/data/record"});
    let class = |name: &str, behavior: &Value| json!({"$id": id(name), "meta:resourceType": "classes", "allOf": [{"$ref": behavior["$id"]}]});
    let group = |name: &str, class: &str| json!({"$id": id(name), "meta:resourceType": "mixins", "meta:intendedToExtend": [class]});
    let (visit, person) = (class("visit", &series), class("person", &record));
    let special = json!({"$id": id("special"), "meta:resourceType": "classes",
        "meta:extends": [id("visit")], "allOf": [{"$ref": "visit"}]});
    let all = |root: &Value| {
        let rest = [
            visit.clone(),
            person.clone(),
            special.clone(),
            series.clone(),
            record.clone(),
            group("of-visit", &id("visit")),
            group("of-series", "https://ns.adobe.com/xdm/data/time-series"),
            group("of-person", &id("person")),
            json!({"$id": id("open"), "meta:resourceType": "fieldgroups", "meta:intendedToExtend": []}),
        ];
        [vec![root.clone()], rest.to_vec()].concat()
    };
    let schema = |names: &[&str]| json!({"$id": id("root"), "allOf": refer(names)});
    check_composition(&all(&schema(&["visit", "of-visit", "of-series", "open"])), &[]);
    check_composition(&all(&schema(&["special", "of-visit"])), &[]);
    check_composition(&all(&schema(&["visit", "special", "of-visit"])), &[]);
    check_composition(&all(&schema(&["of-visit"])), &[]);
    check_composition(
        &all(&schema(&["visit", "of-person"])),
        &[("/allOf/1/$ref", "is intended for `https://x.test/person`; the class is")],
    );
    check_composition(
        &all(&schema(&["visit", "person"])),
        &[("/allOf/1/$ref", "`https://x.test/person` is a second class beside")],
    );
    let mut stated = schema(&["visit"]);
    stated["meta:class"] = json!(id("person"));
    check_composition(&all(&stated), &[("/meta:class", "not a class that `allOf` includes")]);
    let bare =
        json!({"$id": id("root"), "meta:resourceType": "classes", "allOf": refer(&["open"])});
    check_composition(&all(&bare), &[("/allOf", "a class extends a behaviour: one of")]);
    let both = json!({"$id": id("root"), "meta:resourceType": "classes",
        "allOf": refer(&["visit", "person"])});
    check_composition(&all(&both), &[("/allOf", "a class extends one behaviour, not")]);
}
