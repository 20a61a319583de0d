//! Schemas that cannot judge, or would never end.

use std::time::{Duration, Instant};

use milepost::grpc::pb;
use serde_json::{Value, json};

use super::{MIB, nested, serves};
use crate::support::{
    Server,
    errors::{self, expect},
    events::{EXPERIENCE_EVENT, purchase_text, purchases},
};

#[tokio::test]
async fn a_schema_that_cannot_judge_is_refused() {
    const ID: &str = "https://example.com/schemas/bad";
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let with = |rest: Value| {
        let mut document = json!({"$id": ID, "title": "Bad", "type": "object"});
        document.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        document.to_string()
    };
    let all_of = |rest: Value| with(json!({"allOf": [{"$ref": EXPERIENCE_EVENT}, rest]}));
    let property = |it: Value| all_of(json!({"properties": {"p": it}}));
    let deep = format!(r#"{{"$id":"{ID}","x":{}}}"#, nested(64));
    let large = with(json!({"description": "x".repeat(MIB)}));
    let invalid = "SCHEMA_INVALID";
    let rows: Vec<(String, &str, &[&str])> = vec![
        ("not json".into(), invalid, &["document"]),
        (String::new(), invalid, &["document"]),
        ("[]".into(), invalid, &["document"]),
        ("true".into(), invalid, &["document"]),
        (r#"{"$id":"a","$id":"b"}"#.into(), invalid, &["/$id"]),
        (json!({"title": "no id"}).to_string(), invalid, &["$id"]),
        (json!({"$id": 7}).to_string(), invalid, &["$id"]),
        (json!({"$id": "relative/path"}).to_string(), invalid, &["$id"]),
        (deep, invalid, &["64"]),
        (large, invalid, &["1048576"]),
        (with(json!({"$schema": "https://example.com/mine"})), invalid, &["$schema"]),
        (property(json!({"type": "strng"})), invalid, &["/allOf/1/properties/p/type"]),
        (property(json!({"minLength": -1})), invalid, &["/allOf/1/properties/p/minLength"]),
        (property(json!({"pattern": "("})), invalid, &["/allOf/1/properties/p/pattern"]),
        (
            property(json!({"pattern": "x{1,1000}{1,1000}"})),
            invalid,
            &["/allOf/1/properties/p/pattern"],
        ),
        (property(json!({"required": "a"})), invalid, &["/allOf/1/properties/p/required"]),
        (
            property(json!({"$ref": "https://example.com/schemas/none"})),
            "REFERENCE_UNRESOLVED",
            &["https://example.com/schemas/none"],
        ),
        (
            property(json!({"$ref": "#/definitions/none"})),
            "REFERENCE_UNRESOLVED",
            &["/definitions/none"],
        ),
        (
            property(json!({"$ref": format!("{EXPERIENCE_EVENT}#/definitions/none")})),
            "REFERENCE_UNRESOLVED",
            &["/definitions/none"],
        ),
        (with(json!({"allOf": [{"$ref": "#"}]})), "REFERENCE_CYCLE", &[]),
        (with(json!({"allOf": [{"$ref": ID}]})), "REFERENCE_CYCLE", &[]),
        (
            with(json!({
                "definitions": {
                    "a": {"anyOf": [{"$ref": "#/definitions/b"}]},
                    "b": {"allOf": [{"$ref": "#/definitions/a"}]}
                },
                "allOf": [{"$ref": "#/definitions/a"}]
            })),
            "REFERENCE_CYCLE",
            &[],
        ),
        (with(json!({"not": {"$ref": "#"}})), "REFERENCE_CYCLE", &[]),
        (
            with(json!({"meta:class": "https://example.com/classes/gone"})),
            "COMPOSITION_INVALID",
            &["document/meta:class", "https://example.com/classes/gone"],
        ),
        (
            with(json!({"meta:resourceType": "classes"})),
            "COMPOSITION_INVALID",
            &["a class extends a behaviour"],
        ),
        (
            with(json!({"properties": {"xdm:a": {}, "a": {}}})),
            "SCHEMA_INVALID",
            &["document/properties/xdm:a", "has the wire name of another property"],
        ),
        (
            with(json!({"properties": {"a": {"type": "string", "meta:xdmType": "int"}}})),
            "SCHEMA_INVALID",
            &["document/properties/a/meta:xdmType", "which make it `string`"],
        ),
    ];
    let mut wrong = Vec::new();
    for (document, reason, words) in rows {
        let shown = document[..document.len().min(200)].to_owned();
        wrong.extend(errors::mismatch(&shown, client.register(document).await, reason, "", words));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let get = pb::GetSchemaRequest { id: ID.into(), ..Default::default() };
    expect(client.schemas.clone().get_schema(get).await, "SCHEMA_NOT_FOUND", &[ID]);
    // A circle that goes deeper with every round is a tree, and is fine.
    let tree =
        all_of(json!({"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}));
    client.register(tree.replace("/bad", "/tree")).await.unwrap();
    serves(&server, &client, "after").await;
}

/// Patterns that cost a backtracking engine a time exponential in the text.
#[tokio::test]
async fn a_pattern_that_would_backtrack_for_ever_does_not() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let patterns = [
        "^(a+)+$",
        "^(a|aa)+$",
        "^(a|a?)+$",
        "(.*)*=x",
        "^(?=(a+)+$)a",
        "^(a+)+(?<!b)$",
        r"^(a+)\1+$",
    ];
    let begun = Instant::now();
    let mut taken = 0;
    for (index, pattern) in patterns.into_iter().enumerate() {
        let id = format!("https://example.com/schemas/pattern-{index}");
        let document = json!({
            "$id": id, "title": "Pattern", "type": "object",
            "allOf": [{"$ref": EXPERIENCE_EVENT},
                {"properties": {"text": {"type": "string", "pattern": pattern}}}]
        });
        if let Err(status) = client.register(document.to_string()).await {
            let seen = errors::seen(&status);
            assert_eq!(seen.reason, "SCHEMA_INVALID", "{pattern}: {seen:?}");
            continue;
        }
        taken += 1;
        let dataset = format!("p{index}");
        client.create(&dataset, &id).await.unwrap();
        let text = "a".repeat(50_000) + "!";
        let event = json!({"_id": "e", "timestamp": "2026-11-20T17:26:04Z", "text": text});
        let outcome = client.append(&dataset, &[event.to_string()]).await;
        let seen = errors::seen(&outcome.expect_err(pattern));
        assert_eq!(seen.reason, "EVENT_VIOLATES_SCHEMA", "{pattern}: {seen:?}");
        // Where it matched and was refused, or where judging was given up.
        let places = ["events[0].payload/text", "events[0].payload"];
        assert!(seen.fields.iter().all(|(it, _)| places.contains(&&**it)), "{pattern}: {seen:?}");
        eprintln!("{pattern}: {:?}", seen.fields);
    }
    let took = begun.elapsed();
    eprintln!("{taken} of {} patterns were taken; all of it took {took:?}", patterns.len());
    assert!(took < Duration::from_mins(1), "{took:?}");
    serves(&server, &client, "after").await;
}

/// Thirty definitions that each include the next one twice: 2^30 ways to judge one value.
#[tokio::test]
async fn a_schema_that_doubles_itself_does_not_hang_the_server() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut definitions = serde_json::Map::new();
    for n in 0..30 {
        let next = json!({"$ref": format!("#/definitions/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"allOf": [next.clone(), next]}));
    }
    definitions.insert("d30".into(), json!({"minProperties": 1}));
    let document = json!({
        "$id": "https://example.com/schemas/doubling", "title": "Doubling", "type": "object",
        "definitions": definitions, "allOf": [{"$ref": EXPERIENCE_EVENT}, {"$ref": "#/definitions/d0"}]
    });
    let begun = Instant::now();
    if client.register(document.to_string()).await.is_ok() {
        client.create("doubling", "https://example.com/schemas/doubling").await.unwrap();
        let _ = client.append("doubling", &[purchase_text("e", "a@b.c")]).await;
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    serves(&server, &client, "after").await;
}

/// Thousands of definitions, each referring to the next: a recursion that must not end the process.
#[tokio::test]
async fn a_long_chain_of_references_does_not_exhaust_the_stack() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    for length in [100, 1_000, 5_000, 15_000] {
        let mut definitions = serde_json::Map::new();
        for n in 0..length {
            definitions.insert(
                format!("d{n}"),
                json!({"allOf": [{"$ref": format!("#/definitions/d{}", n + 1)}]}),
            );
        }
        definitions.insert(format!("d{length}"), json!({"minProperties": 1}));
        let id = format!("https://example.com/schemas/chain-{length}");
        let document = json!({
            "$id": id, "title": "Chain", "type": "object", "definitions": definitions,
            "allOf": [{"$ref": EXPERIENCE_EVENT}, {"$ref": "#/definitions/d0"}]
        });
        let outcome = client.register(document.to_string()).await;
        eprintln!("chain of {length}: {:?}", outcome.as_ref().map(|it| it.created));
        if let Err(status) = outcome {
            errors::seen(&status);
        } else {
            let dataset = format!("chain-{length}");
            client.create(&dataset, &id).await.unwrap();
            client.append(&dataset, &[purchase_text("e", "a@b.c")]).await.unwrap();
        }
        serves(&server, &client, &format!("after-{length}")).await;
    }
}

/// The longest chain that is taken, again at each of the deepest levels that are taken.
#[tokio::test]
async fn the_longest_chain_at_every_level_does_not_exhaust_the_stack() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut taken = 0;
    for (form, length) in ["allOf", "anyOf", "oneOf", "not"]
        .into_iter()
        .flat_map(|form| [10, 20, 29, 40, 58].map(|length| (form, length)))
    {
        let refer = |n| {
            let next = json!({"$ref": format!("#/definitions/d{n}")});
            if form == "not" { json!({"not": {"not": next}}) } else { json!({form: [next]}) }
        };
        let mut definitions = serde_json::Map::new();
        for n in 0..length {
            definitions.insert(format!("d{n}"), refer(n + 1));
        }
        let deeper = json!({"$ref": "#/definitions/d0"});
        definitions.insert(format!("d{length}"), json!({"properties": {"x": deeper}}));
        let id = format!("https://example.com/schemas/deep-{}-{length}", form.to_lowercase());
        let document = json!({
            "$id": id, "title": "Deep", "type": "object", "definitions": definitions,
            "allOf": [{"$ref": EXPERIENCE_EVENT}, {"$ref": "#/definitions/d0"}]
        });
        if let Err(status) = client.register(document.to_string()).await {
            errors::seen(&status);
            continue;
        }
        taken += 1;
        let dataset = format!("deep-{}-{length}", form.to_lowercase());
        client.create(&dataset, &id).await.unwrap();
        for bottom in ["1", "{}"] {
            let levels = r#"{"x":"#.repeat(62) + bottom + &"}".repeat(62);
            let event =
                format!(r#"{{"_id":"{bottom}","timestamp":"2026-11-20T17:26:04Z","x":{levels}}}"#)
                    .replace(r#""_id":"{}""#, r#""_id":"b""#);
            if let Err(status) = client.append(&dataset, &[event]).await {
                errors::seen(&status);
            }
        }
        serves(&server, &client, &format!("after-{dataset}")).await;
    }
    assert!(taken > 0, "no chain was taken");
}
