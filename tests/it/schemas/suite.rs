//! The JSON Schema test suite, through `ValidateEvent`.
//!
//! A case's schema becomes a document, and an event has the instance under one property of a schema that
//! refers to it. What Milepost asks of every event (no nulls) is left out of the verdict.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use milepost::grpc::pb;
use serde_json::{Value, json};
use tonic::Status;

use super::import::import;
use crate::support::{Client, Server, client::json_event, skipped, tools};

/// Cases whose schema is not taken, and why; `docs/xdm.md` lists them. No verdict differs.
const EXCEPTIONS: [(&str, &str, &str); 8] = [
    ("draft6", "definitions: validate definition against metaschema", METASCHEMA),
    ("draft6", "ref: remote ref, containing refs itself", METASCHEMA),
    ("draft2020-12", "defs: validate definition against metaschema", METASCHEMA),
    ("draft2020-12", "ref: remote ref, containing refs itself", METASCHEMA),
    ("draft2020-12", "refRemote: remote HTTP ref with different $id", BY_ID),
    ("draft2020-12", "refRemote: remote HTTP ref with different URN $id", BY_ID),
    (
        "draft2020-12",
        "vocabulary: schema that uses custom metaschema with with no validation vocabulary",
        VOCABULARY,
    ),
    ("draft2020-12", "vocabulary: ignore unrecognized optional vocabulary", VOCABULARY),
];

const METASCHEMA: &str = "a metaschema is not a document of the registry";
const BY_ID: &str = "a document is known by its `$id` alone, not by where it was loaded from";
const VOCABULARY: &str = "there are no drafts of one's own";

/// A draft's folder in the suite, and what its schemas say they are.
const DRAFTS: [(&str, &str); 2] = [
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

const HOST: &str = "http://localhost:1234/";

fn suite() -> Option<PathBuf> {
    match tools::json_schema_suite() {
        Ok(suite) => Some(suite),
        Err(reason) => {
            skipped(&format!("the JSON Schema test suite: {reason}"));
            None
        }
    }
}

fn json_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|it| panic!("{}: {it}", folder.display()));
    let mut files: Vec<_> = entries.map(|it| it.unwrap().path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "json"));
    files.sort();
    files
}

fn read(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// The documents that a draft's schemas refer to as if they were on a host, by their addresses.
fn remotes(suite: &Path, draft: &str) -> BTreeMap<String, Value> {
    let base = suite.join("remotes");
    let mut folders = vec![base.clone()];
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let address = path.strip_prefix(&base).unwrap().to_string_lossy().into_owned();
            let of_another = address.starts_with("draft") && !address.starts_with(draft);
            if of_another {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "json") {
                found.insert(format!("{HOST}{address}"), read(&path));
            }
        }
    }
    found
}

/// A schema as a document: with an `$id`, and the draft it is of.
fn document(schema: &Value, id: &str, draft: &str) -> Option<Value> {
    let mut document = schema.as_object()?.clone();
    document.entry("$schema").or_insert_with(|| draft.into());
    let own = document.get("$id").and_then(Value::as_str).unwrap_or_default();
    if !own.contains("://") && !own.starts_with("urn:") {
        document.insert("$id".into(), id.into());
    }
    Some(document.into())
}

async fn take(client: &Client, documents: Vec<Value>) -> Result<(), String> {
    let documents = documents.iter().map(|it| super::import::document("", it)).collect();
    let request = pb::ImportSchemasRequest { documents, ..Default::default() };
    let imported = import(client, request).await.map_err(|it| it.message().to_owned())?;
    let error = imported.results.into_iter().find_map(|it| it.error);
    error.map_or(Ok(()), |it| Err(it.message))
}

async fn forget(client: &Client, id: &str) -> Result<(), Status> {
    let request = pb::DeleteSchemaRequest { id: id.into(), ..Default::default() };
    client.schemas.clone().delete_schema(request).await.map(drop)
}

/// Whether an instance has no violation of its schema.
async fn is_valid(client: &Client, schema: &str, instance: &Value) -> bool {
    let event = json!({"_id": "1", "timestamp": "2026-11-20T17:26:04Z", "case": instance});
    let request = pb::ValidateEventRequest {
        target: Some(pb::validate_event_request::Target::SchemaId(schema.into())),
        event: Some(json_event(&event.to_string())),
        ..Default::default()
    };
    let judged = client.schemas.clone().validate_event(request).await.unwrap().into_inner();
    judged.violations.iter().all(|it| it.schema_path.starts_with("milepost:event#"))
}

#[derive(Default)]
struct Tally {
    passed: usize,
    /// Tests of cases whose schema is not taken.
    refused: usize,
    failed: usize,
    /// What is not as the suite has it.
    found: Vec<(String, String)>,
}

async fn run(client: &Client, folder: &Path, schema_of_draft: &str) -> Tally {
    const WRAPPER: &str = "https://suite.test/wrapper";
    let mut tally = Tally::default();
    for file in json_files(folder) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        for (place, case) in read(&file).as_array().unwrap().iter().enumerate() {
            let described = case["description"].as_str().unwrap();
            let id = format!("https://suite.test/{name}/{place}");
            let tests = case["tests"].as_array().unwrap();
            let (inner, documents) = match document(&case["schema"], &id, schema_of_draft) {
                Some(document) => {
                    let id = document["$id"].as_str().unwrap().to_owned();
                    (json!({"$ref": id}), vec![document])
                }
                None => (case["schema"].clone(), Vec::new()),
            };
            let wrapper = json!({"$id": WRAPPER, "$schema": schema_of_draft,
                "properties": {"case": inner}});
            let taken = take(client, documents.iter().cloned().chain([wrapper]).collect()).await;
            if let Err(reason) = taken {
                tally.refused += tests.len();
                tally.found.push((format!("{name}: {described}"), format!("not taken: {reason}")));
                continue;
            }
            for test in tests {
                let expected = test["valid"].as_bool().unwrap();
                if is_valid(client, WRAPPER, &test["data"]).await == expected {
                    tally.passed += 1;
                } else {
                    tally.failed += 1;
                    let test = test["description"].as_str().unwrap();
                    let place = format!("{name}: {described}: {test}");
                    tally.found.push((place, format!("the suite says {expected}")));
                }
            }
            forget(client, WRAPPER).await.unwrap();
            for document in &documents {
                // It may be one that others refer to.
                drop(forget(client, document["$id"].as_str().unwrap().trim_end_matches('#')).await);
            }
        }
    }
    tally
}

#[tokio::test]
async fn the_json_schema_test_suite_passes_but_for_what_is_listed() {
    let Some(suite) = suite() else { return };
    let mut unlisted = Vec::new();
    for (draft, schema) in DRAFTS {
        let server = Server::start();
        let client = server.client().await;
        let remotes = remotes(&suite, draft);
        let documents: Vec<_> = remotes
            .iter()
            .filter_map(|(address, it)| Some((address, document(it, address, schema)?)))
            .map(|(address, it)| super::import::document(address, &it))
            .collect();
        let count = documents.len();
        let request =
            pb::ImportSchemasRequest { documents, keep_going: true, ..Default::default() };
        let imported = import(&client, request).await.unwrap();
        let refused: Vec<_> = imported
            .results
            .iter()
            .filter_map(|it| Some(format!("{}: {}", it.name, it.error.as_ref()?.message)))
            .collect();
        eprintln!(
            "{draft}: {} of {count} remote documents taken: {refused:#?}",
            count - refused.len()
        );
        let tests = suite.join("tests").join(draft);
        let tally = run(&client, &tests, schema).await;
        eprintln!(
            "{draft}: {} passed, {} failed, {} of schemas that are not taken",
            tally.passed, tally.failed, tally.refused
        );
        assert_eq!(tally.failed, 0, "{:#?}", tally.found);
        let mut listed: Vec<_> = EXCEPTIONS.iter().filter(|it| it.0 == draft).collect();
        for (place, why) in tally.found {
            match listed.iter().position(|it| it.1 == place) {
                Some(found) => {
                    let (_, place, reason) = listed.remove(found);
                    eprintln!("{draft}: {place}: not taken: {reason}");
                }
                None => unlisted.push(format!("{draft}: {place}: {why}")),
            }
        }
        assert!(listed.is_empty(), "listed, but taken: {listed:?}");
        for folder in ["optional", "optional/format"] {
            let tally = run(&client, &tests.join(folder), schema).await;
            eprintln!(
                "{draft}/{folder}: {} passed, {} failed, {} of schemas that are not taken",
                tally.passed, tally.failed, tally.refused
            );
            if std::env::var_os("MILEPOST_LONG").is_some() {
                eprintln!("{:#?}", tally.found);
            }
        }
    }
    assert!(
        unlisted.is_empty(),
        "{} not as the suite has it:\n{}",
        unlisted.len(),
        unlisted.join("\n")
    );
}
