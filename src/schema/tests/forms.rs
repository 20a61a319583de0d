//! Long form to wire form and back: by rows, and over the whole library.

use std::{fs, path::Path, sync::Arc};

use serde_json::{Value, json};

use crate::{
    model::json::Document,
    schema::{
        Form, Forms, SchemaDocument, SchemaProblem, closure,
        tests::{
            Library, judge_text,
            library::{data, rows, text},
        },
    },
};

/// One document in long form, what it is in wire form, and that it comes back.
#[track_caller]
fn check_document(long: Value, wire: Value) {
    let with_id = |mut document: Value| {
        document["$id"] = json!("https://x.test/r");
        document["$schema"] = json!("http://json-schema.org/draft-06/schema#");
        document
    };
    let (long, wire) = (with_id(long), with_id(wire));
    let document = SchemaDocument::parse(&long.to_string()).unwrap();
    assert_eq!(document.form(), Form::Long);
    assert_eq!(document.in_form(Form::Wire), wire);
    assert_eq!(document.in_form(Form::Long), long);
    let given = SchemaDocument::parse(&wire.to_string()).unwrap();
    assert_eq!((given.form(), given.in_form(Form::Wire)), (Form::Wire, wire));
    assert_eq!(given.in_form(Form::Long), long);
}

#[test]
fn names_of_properties_are_converted() {
    check_document(
        json!({"properties": {"xdm:a": {"type": "string"}, "@id": {"items": {"properties": {
            "xdm:b": {}
        }}}}}),
        json!({"properties": {
            "a": {"type": "string", "meta:xdmField": "xdm:a"},
            "_id": {"meta:xdmField": "@id", "items": {"properties": {
                "b": {"meta:xdmField": "xdm:b"}
            }}}
        }}),
    );
}

#[test]
fn other_namespaces_become_nested_objects() {
    check_document(
        json!({
            "properties": {
                "schema:latitude": true, "schema:longitude": false, "plain": {},
                "https://ns.adobe.com/experience/journeyOrchestration/stepEvents": {"properties": {
                    "https://ns.adobe.com/experience/journeyOrchestration/nodeID": {"type": "string"}
                }}
            },
            "required": ["plain", "schema:latitude", "xdm:elsewhere"],
            "additionalProperties": false
        }),
        json!({
            "properties": {
                "_schema": {
                    "type": "object", "required": ["latitude"], "additionalProperties": false,
                    "properties": {
                        "latitude": {"meta:xdmField": "schema:latitude", "meta:longForm": true},
                        "longitude": {
                            "meta:xdmField": "schema:longitude", "meta:longForm": false, "not": {}
                        }
                    }
                },
                "plain": {},
                "_experience": {
                    "type": "object", "additionalProperties": false,
                    "properties": {"journeyOrchestration": {
                        "type": "object", "additionalProperties": false,
                        "properties": {"stepEvents": {
                            "meta:xdmField":
                                "https://ns.adobe.com/experience/journeyOrchestration/stepEvents",
                            "properties": {"nodeID": {
                                "type": "string",
                                "meta:xdmField":
                                    "https://ns.adobe.com/experience/journeyOrchestration/nodeID"
                            }}
                        }}
                    }}
                }
            },
            "required": ["plain", "_schema", "elsewhere"],
            "additionalProperties": false,
            "meta:longForm": {"required": ["plain", "schema:latitude", "xdm:elsewhere"]}
        }),
    );
}

#[test]
fn everything_that_names_a_property_is_converted() {
    check_document(
        json!({
            "definitions": {"x": {"properties": {"xdm:a": {"properties": {"schema:b": {"type": "string"}}}}}},
            "properties": {"xdm:c": {"$ref": "#/definitions/x/properties/xdm:a/properties/schema:b"}},
            "dependencies": {"xdm:c": ["xdm:d", "schema:e"], "xdm:f": {"required": ["xdm:g"]}},
            "examples": [{"xdm:c": "1", "schema:e": {"xdm:f": 1}}],
            "meta:enum": {"xdm:a": "not a name"},
            "allOf": [{"$ref": "https://ns.adobe.com/xdm/common/extensible#/definitions/@context"}]
        }),
        json!({
            "definitions": {"x": {"properties": {"a": {"meta:xdmField": "xdm:a", "properties": {
                "_schema": {"type": "object", "properties": {
                    "b": {"meta:xdmField": "schema:b", "type": "string"}
                }}
            }}}}},
            "properties": {"c": {
                "$ref": "#/definitions/x/properties/a/properties/_schema/properties/b",
                "meta:xdmField": "xdm:c",
                "meta:longForm": {"$ref": "#/definitions/x/properties/xdm:a/properties/schema:b"}
            }},
            "dependencies": {
                "c": {"required": ["d", "_schema"], "properties": {"_schema": {
                    "type": "object", "properties": {}, "required": ["e"]
                }}},
                "f": {"required": ["g"], "meta:longForm": {"required": ["xdm:g"]}}
            },
            "examples": [{"c": "1", "_schema": {"e": {"f": 1}}}],
            "meta:enum": {"xdm:a": "not a name"},
            "allOf": [{"meta:longForm": {
                "$ref": "https://ns.adobe.com/xdm/common/extensible#/definitions/@context"
            }}],
            "meta:longForm": {
                "dependencies": {"xdm:c": ["xdm:d", "schema:e"], "xdm:f": {"required": ["xdm:g"]}},
                "examples": [{"xdm:c": "1", "schema:e": {"xdm:f": 1}}]
            }
        }),
    );
}

#[test]
fn names_that_become_one_are_refused() {
    #[track_caller]
    fn check(properties: &Value, pointer: &str, message: &str) {
        let document = json!({"$id": "https://x.test/r", "properties": properties});
        let problem = SchemaDocument::parse(&document.to_string()).unwrap_err();
        let SchemaProblem::Invalid(faults) = &problem else { panic!("{problem:?}") };
        let found = faults.iter().any(|it| it.pointer == pointer && it.message.contains(message));
        assert!(found, "{faults:?}");
    }
    check(&json!({"a": {}, "xdm:a": {}}), "/properties/xdm:a", "has the wire name of another");
    check(&json!({"_schema": {}, "schema:a": {}}), "/properties/schema:a", "becomes nested in");
}

#[test]
fn a_problem_is_told_where_it_stands_in_the_document_as_given() {
    let document = json!({"$id": "https://x.test/r", "properties": {
        "https://ns.adobe.com/experience/a/b": {"items": {"$ref": "gone"}}
    }});
    let problem = Library::default()
        .compile_document(&Arc::new(SchemaDocument::parse(&document.to_string()).unwrap()))
        .unwrap_err();
    let SchemaProblem::Unresolved { pointer, .. } = &problem else { panic!("{problem:?}") };
    assert_eq!(pointer, "/properties/https:~1~1ns.adobe.com~1experience~1a~1b/items/$ref");
}

#[test]
fn a_document_keeps_the_wire_form_that_it_was_stored_with() {
    let text = json!({"$id": "https://x.test/r", "properties": {"xdm:a": {}}}).to_string();
    let wire = json!({"$id": "https://x.test/r", "properties": {"b": {}}}).to_string();
    let restored = SchemaDocument::restore(&text, Some(&wire)).unwrap();
    assert_eq!((restored.form(), &**restored.text()), (Form::Long, &*text));
    assert_eq!(restored.in_form(Form::Wire)["properties"], json!({"b": {}}));
    let wire_only = SchemaDocument::restore(&text, None).unwrap();
    assert_eq!(wire_only.in_form(Form::Wire)["properties"], json!({"xdm:a": {}}));
}

fn forms(library: &Library, id: &str) -> Forms {
    let root = &library.0[id];
    Forms::new(Arc::clone(root), &closure(root, |id| library.0.get(id).cloned()).unwrap())
}

/// Fields of both kinds, a map whose keys are data, and room for unknown names.
fn event_forms() -> Forms {
    let id = "https://x.test/r";
    forms(
        &Library::of(&[
            json!({"$id": id, "allOf": [{"$ref": "#/definitions/own"}], "definitions": {"own": {
                "properties": {
                    "xdm:name": {}, "@id": {}, "plain": {}, "schema:latitude": {},
                    "xdm:map": {"additionalProperties": {"items": {"properties": {"xdm:id": {}}}}},
                    "https://ns.adobe.com/experience/journeyOrchestration/stepEvents": {"properties": {
                        "https://ns.adobe.com/experience/journeyOrchestration/nodeID": {}
                    }}
                }
            }}}),
        ]),
        id,
    )
}

#[track_caller]
fn check_event(long: &Value, wire: &Value) {
    let forms = event_forms();
    let (long, wire) = (long.to_string(), wire.to_string());
    let there = forms.to_wire(&Document::parse(&long).unwrap()).unwrap().text;
    let same = |a: &str, b: &str| {
        assert_eq!(
            serde_json::from_str::<Value>(a).unwrap(),
            serde_json::from_str::<Value>(b).unwrap()
        );
    };
    same(&there, &wire);
    same(&forms.to_long(&Document::parse(&there).unwrap()).unwrap(), &long);
}

#[test]
fn events_are_converted_as_their_schema_names_the_fields() {
    check_event(
        &json!({"@id": "1", "xdm:name": "n", "plain": 1, "schema:latitude": 1.5, "schema:new": [1, 2]}),
        &json!({"_id": "1", "name": "n", "plain": 1, "_schema": {"latitude": 1.5, "new": [1, 2]}}),
    );
    check_event(
        &json!({"https://ns.adobe.com/experience/journeyOrchestration/stepEvents": {
            "https://ns.adobe.com/experience/journeyOrchestration/nodeID": "n"
        }}),
        &json!({"_experience": {"journeyOrchestration": {"stepEvents": {"nodeID": "n"}}}}),
    );
    let data = json!([{"xdm:id": 1}]);
    check_event(
        &json!({"xdm:map": {"schema:key": data, "xdm:key": [], "https://a/b": []}}),
        &json!({"map": {"schema:key": [{"id": 1}], "xdm:key": [], "https://a/b": []}}),
    );
    let unknown = json!({"xdm:unknown": {"@type": "t"}, "other": {"a": 1}, "_x": {"b": 1}});
    check_event(&unknown, &unknown);
}

#[test]
fn an_event_whose_names_collide_is_refused_where() {
    #[track_caller]
    fn check(long: &Value, at: &str, message: &str) {
        let text = long.to_string();
        let found = event_forms().to_wire(&Document::parse(&text).unwrap()).unwrap_err();
        assert_eq!((&*found[0].instance_path, &*found[0].keyword), (at, "form"));
        assert!(found[0].message.contains(message), "{found:?}");
    }
    check(
        &json!({"_id": 1, "@id": 1}),
        "/_id",
        "`_id` is a name of the wire form; in long form it is `@id`",
    );
    check(&json!({"name": 1}), "/name", "in long form it is `xdm:name`");
    check(&json!({"_schema": {}, "schema:latitude": 1}), "/_schema", "it is `schema:latitude`");
    let map = json!({"xdm:map": {"k": [{"xdm:id": 1, "id": 2}]}});
    check(&map, "/xdm:map/k/0/id", "in long form it is `xdm:id`");
}

#[test]
fn places_of_the_wire_form_lead_back() {
    let text = json!({"xdm:map": {"k": [{"xdm:id": 1}]}, "schema:latitude": {"a": 1}}).to_string();
    let wire = event_forms().to_wire(&Document::parse(&text).unwrap()).unwrap();
    assert_eq!(wire.long_path("/map/k/0/id"), "/xdm:map/k/0/xdm:id");
    assert_eq!(wire.long_path("/_schema/latitude/a/b"), "/schema:latitude/a/b");
    assert_eq!(wire.long_path("/other"), "/other");
    assert_eq!(wire.long_path(""), "");
}

#[test]
fn converting_an_event_is_bounded() {
    let forms = event_forms();
    let members: Vec<String> = (0..60_000).map(|it| format!("\"k{it}\":1")).collect();
    let objects = vec![format!("{{{}}}", members.join(",")); 30];
    let text = format!("{{\"plain\":[{}]}}", objects.join(","));
    let document = Document::parse(&text).unwrap();
    match forms.to_wire(&document) {
        Ok(_) => (),
        Err(found) => assert!(found[0].message.contains("steps"), "{found:?}"),
    }
}

/// The library's documents of the long form, as they are registered.
fn registered(data: &Path) -> Library {
    let mut library = Library::default();
    for row in rows(data, "schemas/index.jsonl").iter().filter(|row| row["form"] == "xdm") {
        let text = fs::read_to_string(data.join(text(row, "file"))).unwrap();
        library.add(SchemaDocument::parse_last(&text).unwrap_or_else(|it| panic!("{row}: {it}")).0);
    }
    library
}

#[test]
fn every_document_of_the_library_comes_back_as_it_was() {
    let Some(data) = data() else { return };
    let (mut long, mut wire, mut wrong) = (0, 0, Vec::new());
    for row in rows(&data, "schemas/index.jsonl").iter().filter(|row| row["form"] == "xdm") {
        let given = fs::read_to_string(data.join(text(row, "file"))).unwrap();
        let (document, _repeated) = SchemaDocument::parse_last(&given).unwrap();
        match document.form() {
            Form::Long => long += 1,
            Form::Wire => wire += 1,
        }
        let mut expected: Value = serde_json::from_str(&given).unwrap();
        expected["$schema"] = document.in_form(Form::Wire)["$schema"].clone();
        expected["$id"] = json!(document.id());
        if document.in_form(Form::Long) != expected {
            let differ = difference(&expected, &document.in_form(Form::Long), "");
            wrong.push(format!("{}: {differ}", document.id()));
        }
    }
    eprintln!("{long} documents in long form, {wire} without names that tell");
    assert!(wrong.is_empty(), "{} differ: {wrong:#?}", wrong.len());
    assert!(long > 800);
}

#[test]
fn every_example_of_the_library_comes_back_and_is_judged_as_in_long_form() {
    let Some(data) = data() else { return };
    let library = registered(&data);
    let mut forms_of = std::collections::HashMap::new();
    let mut compiled = std::collections::HashMap::new();
    let (mut same, mut unknown, mut wrong, mut mixed) = (0, Vec::new(), Vec::new(), Vec::new());
    let mut verdicts = std::collections::BTreeMap::<_, usize>::new();
    for row in rows(&data, "pairs.jsonl").iter().filter(|row| row["form"] == "xdm") {
        let id = text(row, "schema").trim_end_matches('#');
        let case = text(row, "file");
        let given = fs::read_to_string(data.join(case)).unwrap();
        let forms = forms_of.entry(id.to_owned()).or_insert_with(|| forms(&library, id));
        let schema = compiled.entry(id.to_owned()).or_insert_with(|| library.compile(id).unwrap());
        let Ok(document) = Document::parse(&given) else {
            *verdicts.entry(("not strict JSON", row["valid"] == true)).or_default() += 1;
            continue;
        };
        let wire = match forms.to_wire(&document) {
            Ok(wire) => wire,
            Err(found) => {
                // Examples that nobody checked: names of both forms, where nothing is closed.
                assert!(
                    found.iter().all(|it| it.message.contains("in long form it is")),
                    "{found:?}"
                );
                mixed.push(format!("{case} {}", found[0].instance_path));
                continue;
            }
        };
        let back = forms.to_long(&Document::parse(&wire.text).unwrap()).unwrap();
        if serde_json::from_str::<Value>(&back).unwrap() == document.root().to_value() {
            same += 1;
        } else {
            let back: Value = serde_json::from_str(&back).unwrap();
            let differ = difference(&document.root().to_value(), &back, "");
            unknown.push(format!("{case}: {differ}"));
        }
        let found = judge_text(schema, &wire.text);
        let valid = found.is_empty();
        let verdict = match (row["valid"] == true, valid) {
            (true, true) => "valid in both",
            (false, false) => "invalid in both",
            (false, true) if only_name_check(row) => "only names without a prefix",
            _ => {
                wrong.push(format!("{case}: {:.300} {found:?}", row["errors"].to_string()));
                "differs"
            }
        };
        *verdicts.entry((verdict, row["valid"] == true)).or_default() += 1;
    }
    eprintln!(
        "{same} examples come back; {} mix names: {mixed:#?}; verdicts {verdicts:?}",
        mixed.len()
    );
    assert!(unknown.is_empty(), "{} differ: {unknown:#?}", unknown.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The first place where two values differ.
fn difference(a: &Value, b: &Value, at: &str) -> String {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys = x.keys().chain(y.keys().filter(|it| !x.contains_key(*it)));
            let differ = keys.filter(|it| x.get(*it) != y.get(*it));
            let inner = |key: &String| match (x.get(key), y.get(key)) {
                (Some(a), Some(b)) => difference(a, b, &format!("{at}/{key}")),
                (a, b) => format!("{at}/{key}: {a:.200?} | {b:.200?}"),
            };
            differ.map(inner).next().unwrap_or_default()
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let place = x.iter().zip(y).position(|(a, b)| a != b).unwrap();
            difference(&x[place], &y[place], &format!("{at}/{place}"))
        }
        (a, b) => format!("{at}: {a:.200} | {b:.200}"),
    }
}

/// Whether all that is wrong is what the check of names finds, which wire form has not.
fn only_name_check(row: &Value) -> bool {
    let errors = row["errors"].as_array().unwrap();
    errors.iter().all(|it| ["oneOf", "additionalProperties", "required"].contains(&text(it, "kw")))
        && errors.iter().any(|it| it["kw"] == "oneOf")
}
