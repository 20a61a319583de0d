//! Composition, resolved documents and summaries, over the whole library.

use std::{collections::BTreeMap, fs, sync::Arc};

use serde_json::Value;

use crate::{
    model::json::Document,
    schema::{
        CompiledSchema, SchemaDocument, SchemaKind, SchemaProblem, check_composition, closure,
        compile, resolve, summarize,
        tests::{
            Library,
            library::{data, library, rows, text},
        },
    },
};

#[test]
fn the_whole_library_is_put_together_well() {
    let Some(data) = data() else { return };
    let mut library = library(&data, "xed");
    library.add_built_ins();
    let (mut kinds, mut wrong) = (BTreeMap::<(String, String), usize>::new(), Vec::new());
    for row in rows(&data, "schemas/index.jsonl").iter().filter(|row| row["form"] == "xed") {
        let document = &library.0[text(row, "id").trim_end_matches('#')];
        let key = (text(row, "kind").to_owned(), format!("{:?}", document.kind()));
        *kinds.entry(key).or_default() += 1;
        let found = closure(document, |id| library.0.get(id).cloned()).unwrap();
        if let Err(problem) = check_composition(document, &found) {
            assert!(problem.to_string().contains("is intended for"), "{problem}");
            wrong.push(document.id().to_owned());
        }
    }
    eprintln!("kinds: {kinds:#?}");
    // Put together for tests, not XDM's: a group for profiles in a schema of events, and such.
    wrong.sort();
    let own = ["event-any", "luma-inventory", "luma-profile"];
    assert_eq!(wrong, own.map(|it| format!("https://ns.example.com/acme/schemas/{it}")));
}

/// The schema in one document, and what of the library it was made of.
fn resolved(library: &Library, id: &str) -> (String, CompiledSchema, usize) {
    let root = &library.0[id];
    let closure = closure(root, |id| library.0.get(id).cloned()).unwrap();
    let text = resolve(root, &closure).unwrap_or_else(|it| panic!("{id}: {it}"));
    let document = SchemaDocument::restore(&text, None).unwrap_or_else(|it| panic!("{id}: {it}"));
    assert!(document.references().iter().all(|it| it.target == id), "{id}");
    let compiled = compile(&Arc::new(document), &[]).unwrap_or_else(|it| panic!("{id}: {it}"));
    (text, compiled, closure.len())
}

#[test]
fn a_resolved_document_judges_as_the_original() {
    let Some(data) = data() else { return };
    let library = library(&data, "xed");
    let mut both = BTreeMap::new();
    let (mut largest, mut judged, mut invalid) = (0, 0, 0);
    let mut check = |id: &str, event: &str| {
        let id = id.trim_end_matches('#').to_owned();
        let (original, resolved) = both.entry(id.clone()).or_insert_with(|| {
            let (text, compiled, _) = resolved(&library, &id);
            largest = largest.max(text.len());
            (library.compile(&id).unwrap(), compiled)
        });
        let Ok(event) = Document::parse(event) else { return };
        let places = |schema: &CompiledSchema| {
            let found = schema.violations(&event, 1_000);
            let mut places: Vec<_> =
                found.into_iter().map(|it| (it.instance_path, it.keyword, it.message)).collect();
            places.sort();
            places
        };
        let found = places(original);
        assert_eq!(found, places(resolved), "{id}");
        judged += 1;
        invalid += usize::from(!found.is_empty());
    };
    for row in rows(&data, "pairs.jsonl").iter().filter(|row| row["form"] == "xed") {
        let event = fs::read_to_string(data.join(text(row, "file"))).unwrap();
        check(text(row, "schema"), &event);
    }
    for file in ["mutations.jsonl", "controls.jsonl"] {
        for row in rows(&data, file).iter().filter(|row| row["form"] == "xed") {
            check(text(row, "schema"), &row["data"].to_string());
        }
    }
    for row in rows(&data, "payloads.jsonl").iter().filter(|row| row["form"] == "xed") {
        let payload = fs::read_to_string(data.join(text(row, "file"))).unwrap();
        let payload: Value = serde_json::from_str(&payload).unwrap();
        for event in row["events"].as_array().unwrap().iter().take(20) {
            let value = payload.pointer(text(event, "at")).unwrap();
            check(text(event, "schema"), &value.to_string());
            for mutated in mutations(value) {
                check(text(event, "schema"), &mutated.to_string());
            }
        }
    }
    eprintln!(
        "{judged} events judged twice, {invalid} invalid; the largest document has {largest} bytes"
    );
    assert!(judged > 1_000 && invalid > 100);
}

/// The event with each of its members turned into something else, one at a time.
fn mutations(event: &Value) -> Vec<Value> {
    let names = event.as_object().into_iter().flatten().map(|(name, _)| name);
    let with = |name: &String, value: Value| {
        let mut event = event.clone();
        event[name] = value;
        event
    };
    let others = |name| [with(name, Value::from(1)), with(name, Value::from("x"))];
    names.flat_map(others).collect()
}

#[test]
fn every_field_of_a_resolved_document_has_its_type() {
    let Some(data) = data() else { return };
    let library = library(&data, "xed");
    let (mut typed, mut untold) = (0, 0);
    for row in rows(&data, "schemas/index.jsonl").iter().filter(|row| row["kind"] == "composed") {
        if row["form"] != "xed" {
            continue;
        }
        let (text, _, documents) = resolved(&library, text(row, "id"));
        assert!(documents > 0);
        count_fields(&serde_json::from_str(&text).unwrap(), &mut typed, &mut untold);
    }
    eprintln!("{typed} fields with a type, {untold} whose schema tells none");
    assert!(typed > 1_000 && untold * 20 < typed, "{typed} {untold}");
}

fn count_fields(schema: &Value, typed: &mut usize, untold: &mut usize) {
    let Value::Object(members) = schema else { return };
    if let Some(Value::Object(properties)) = members.get("properties") {
        for field in properties.values() {
            match field.get("meta:xdmType") {
                Some(_) => *typed += 1,
                None => *untold += 1,
            }
        }
    }
    for (key, held) in members.iter().filter(|(key, _)| *key != "meta:enum") {
        let inner: Vec<&Value> = match key.as_str() {
            "allOf" => held.as_array().unwrap().iter().collect(),
            "properties" | "definitions" => held.as_object().unwrap().values().collect(),
            "items" => vec![held],
            _ => Vec::new(),
        };
        for schema in inner {
            count_fields(schema, typed, untold);
        }
    }
}

#[test]
fn a_summary_lists_every_field_of_a_schema() {
    let Some(data) = data() else { return };
    let library = library(&data, "xed");
    for row in rows(&data, "schemas/index.jsonl").iter().filter(|row| row["form"] == "xed") {
        let root = &library.0[text(row, "id").trim_end_matches('#')];
        let closure = closure(root, |id| library.0.get(id).cloned()).unwrap();
        let summary = summarize(root, &closure);
        assert!(!summary.truncated, "{}: {} fields", root.id(), summary.fields.len());
        if root.kind() == SchemaKind::Schema && row["kind"] == "composed" {
            assert!(!summary.class.is_empty() && !summary.behavior.is_empty(), "{}", root.id());
        }
        let paths: std::collections::HashSet<_> =
            summary.fields.iter().map(|it| &it.path).collect();
        assert_eq!(paths.len(), summary.fields.len(), "{}", root.id());
    }
    let commerce = &library.0["https://ns.adobe.com/xdm/context/experienceevent-commerce"];
    let found = closure(commerce, |id| library.0.get(id).cloned()).unwrap();
    let summary = summarize(commerce, &found);
    let field = |path: &str| summary.fields.iter().find(|it| it.path == path).unwrap().clone();
    let type_of = |path: &str| field(path).type_.unwrap().name();
    assert_eq!(type_of("commerce.order.priceTotal"), "number");
    assert_eq!(type_of("productListItems"), "array");
    assert_eq!(type_of("productListItems[].quantity"), "int");
    assert_eq!(field("productListItems").long_name, "xdm:productListItems");
}

#[test]
fn what_cannot_stand_in_one_document_is_refused() {
    let seven = serde_json::json!({"$id": "https://x.test/b", "$schema": "http://json-schema.org/draft-07/schema#"});
    let six = serde_json::json!({"$id": "https://x.test/a", "allOf": [{"$ref": "b"}]});
    let library = Library::of(&[six, seven]);
    let root = Arc::clone(&library.0["https://x.test/a"]);
    let found = closure(&root, |id| library.0.get(id).cloned()).unwrap();
    let problem = resolve(&root, &found).unwrap_err();
    assert!(matches!(&problem, SchemaProblem::Invalid(_)), "{problem}");
    assert!(problem.to_string().contains("has another draft"), "{problem}");
}
