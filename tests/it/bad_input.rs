//! Bad input, each with its exact error; the server keeps serving and its memory stays bounded.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::Bytes;
use milepost::grpc::pb;
use prost::Message as _;
use prost_types::{ListValue, Struct, Value as ProtoValue, value::Kind};
use serde_json::{Value, json};
use tonic::{Status, codec::CompressionEncoding};

use crate::support::{
    Client, Server,
    client::{by_identity, by_type, json_event, reading, request},
    errors::{self, expect},
    events::{EXPERIENCE_EVENT, PURCHASE, purchase, purchase_text, purchases, typed},
    raw,
};

const MIB: usize = 1024 * 1024;

/// The server still does its work, and nothing in it has panicked.
async fn serves(server: &Server, client: &Client, id: &str) {
    let answer = client.append("web", &[purchase_text(id, "a@b.c")]).await.unwrap();
    assert_eq!(client.get(answer.results[0].position).await.unwrap().event_id, id);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// An event with one member set to something else; `null` takes it away.
fn with(pointer: &str, value: Value) -> String {
    let mut event = purchase("bad", "a@b.c");
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = event.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.into(), value);
    }
    event.to_string()
}

/// A value within this many arrays.
fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

fn padded(bytes: usize) -> String {
    let shell = with("/note", json!(""));
    with("/note", json!("x".repeat(bytes - shell.len())))
}

#[tokio::test]
async fn an_event_that_is_none_is_named_with_its_place() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let deep = |levels| {
        format!(r#"{{"_id":"d","timestamp":"2026-11-20T17:26:04Z","x":{}}}"#, nested(levels))
    };
    let at_64 = "/x".to_owned() + &"/0".repeat(63);
    let (invalid, violates) = ("EVENT_INVALID", "EVENT_VIOLATES_SCHEMA");
    let rows: Vec<(String, &str, &str, &[&str])> = vec![
        // Not JSON.
        ("not json".into(), invalid, "", &[]),
        (String::new(), invalid, "", &[]),
        ("{\"_id\":\"e\",".into(), invalid, "", &[]),
        (purchase_text("e", "a@b.c") + "{}", invalid, "", &[]),
        ("\u{feff}{}".into(), invalid, "", &[]),
        (with("/note", json!("N")).replace("\"N\"", "NaN"), invalid, "", &[]),
        (with("/note", json!("N")).replace("\"N\"", "1e999"), invalid, "", &["out of range"]),
        (with("/note", json!("N")).replace("\"N\"", "\"\\ud800\""), invalid, "", &[]),
        // JSON, but not an object.
        ("[]".into(), invalid, "", &["object"]),
        ("7".into(), invalid, "", &["object"]),
        ("null".into(), invalid, "", &["object"]),
        ("\"{}\"".into(), invalid, "", &["object"]),
        // The members that every event has.
        (with("/_id", Value::Null), invalid, "", &["_id"]),
        (with("/_id", json!(7)), invalid, "/_id", &["string"]),
        (with("/_id", json!("")), invalid, "/_id", &[]),
        (with("/_id", json!("x".repeat(1025))), invalid, "/_id", &["1025", "1024"]),
        (with("/timestamp", Value::Null), invalid, "", &["timestamp"]),
        (with("/timestamp", json!(1_700_000_000)), invalid, "/timestamp", &[]),
        (with("/timestamp", json!("yesterday")), invalid, "/timestamp", &["yesterday"]),
        (with("/timestamp", json!("2026-11-20")), invalid, "/timestamp", &[]),
        (with("/timestamp", json!("2026-11-20T17:26:04")), invalid, "/timestamp", &[]),
        (with("/timestamp", json!("2026-02-30T17:26:04Z")), invalid, "/timestamp", &[]),
        (with("/timestamp", json!("2026-11-20T17:26:04+0000")), invalid, "/timestamp", &[]),
        (with("/eventType", json!(["a"])), invalid, "/eventType", &["string"]),
        (with("/eventType", json!("x".repeat(257))), invalid, "/eventType", &["257", "256"]),
        // Last key does not win.
        (r#"{"_id":"a","_id":"b"}"#.into(), invalid, "/_id", &[]),
        (
            with("/note", json!("N")).replace("\"N\"", r#"{"k":1,"o":{"z":1,"z":1}}"#),
            invalid,
            "/note/o/z",
            &[],
        ),
        (
            with("/note", json!("N")).replace("\"N\"", r#"{"k":1,"\u006b":1}"#),
            invalid,
            "/note/k",
            &[],
        ),
        // Bounds.
        (deep(64), invalid, &at_64, &["64"]),
        (deep(400_000), invalid, &at_64, &["64"]),
        (padded(MIB + 1), invalid, "", &["1048577", "1048576"]),
        // The dataset's schema.
        (with("/commerce", json!(7)), violates, "/commerce", &["object"]),
        (
            with("/commerce/order/priceTotal", json!("9")),
            violates,
            "/commerce/order/priceTotal",
            &[],
        ),
        (
            with("/commerce/order/priceTotal", json!(-1)),
            violates,
            "/commerce/order/priceTotal",
            &[],
        ),
        (
            with("/commerce/order/purchaseID", Value::Null),
            violates,
            "/commerce/order",
            &["purchaseID"],
        ),
        (
            with("/commerce/order/currencyCode", json!("eur")),
            violates,
            "/commerce/order/currencyCode",
            &[],
        ),
        (with("/count", json!(1.5)), violates, "/count", &["integer"]),
    ];
    let good = purchase_text("good", "a@b.c");
    let mut wrong = Vec::new();
    for (payload, reason, pointer, words) in rows {
        let shown = &payload[..payload.len().min(200)];
        let field = format!("events[1].payload{pointer}");
        let outcome = client.append("web", &[&good, &payload]).await;
        wrong.extend(errors::mismatch(shown, outcome, reason, &field, words));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(client.last_position().await, 0);
    // The largest and the deepest that are taken.
    client.append("web", &[deep(63), padded(MIB)]).await.unwrap();
    serves(&server, &client, "after").await;
}

fn number(it: f64) -> ProtoValue {
    ProtoValue { kind: Some(Kind::NumberValue(it)) }
}

fn struct_event(fields: impl IntoIterator<Item = (&'static str, ProtoValue)>) -> pb::Event {
    let text = |it: &str| ProtoValue { kind: Some(Kind::StringValue(it.into())) };
    let mut data = Struct::default();
    data.fields.insert("_id".into(), text("s"));
    data.fields.insert("timestamp".into(), text("2026-11-20T17:26:04Z"));
    data.fields.extend(fields.into_iter().map(|(name, it)| (name.to_owned(), it)));
    pb::Event { payload: Some(pb::event::Payload::Data(data)) }
}

#[tokio::test]
async fn a_number_that_a_struct_cannot_carry_is_refused_not_rounded() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut deep = number(1.0);
    for _ in 0..80 {
        deep = ProtoValue { kind: Some(Kind::ListValue(ListValue { values: vec![deep] })) };
    }
    let rows = [
        ("count", number(9_007_199_254_740_992.0), "/count"),
        ("count", number(-9_007_199_254_740_992.0), "/count"),
        ("x", number(1e300), "/x"),
        ("x", number(f64::NAN), "/x"),
        ("x", number(f64::INFINITY), "/x"),
        ("x", ProtoValue { kind: None }, "/x"),
        ("x", deep, "/x"),
    ];
    for (name, value, pointer) in rows {
        let event = struct_event([(name, value.clone())]);
        let append = pb::AppendEventsRequest {
            dataset: "web".into(),
            events: vec![event],
            ..Default::default()
        };
        let outcome = client.append_request(append).await;
        let shown = format!("{value:?}").chars().take(100).collect::<String>();
        let status = outcome.expect_err(&shown);
        let seen = errors::seen(&status);
        // Protobuf itself refuses what is nested too deeply for its decoder.
        if seen.reason != "REQUEST_MALFORMED" {
            assert_eq!(seen.reason, "EVENT_INVALID", "{shown}: {seen:?}");
            let field = format!("events[0].payload{pointer}");
            assert!(seen.fields.iter().any(|(it, _)| it.starts_with(&field)), "{shown}: {seen:?}");
        }
    }
    assert_eq!(client.last_position().await, 0);
    // As JSON it is stored exactly, and reading it as Struct is refused.
    let exact = with("/count", json!(9_007_199_254_740_993_u64));
    client.append("web", &[&exact]).await.unwrap();
    assert_eq!(crate::support::client::json_of(&client.get(1).await.unwrap()), exact);
    let mut read = reading(pb::EventFilter::default());
    read.set_payload_format(pb::PayloadFormat::Struct);
    expect(client.read(read).await, "PAYLOAD_NOT_REPRESENTABLE", &[]);
    serves(&server, &client, "after").await;
}

#[tokio::test]
async fn an_append_that_cannot_be_is_refused_whole() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let good = || request("web", &[purchase_text("e", "a@b.c")]);
    let many: Vec<_> = (0..10_001).map(|n| typed(&format!("m{n}"), "a.b")).collect();
    let rows = [
        (request("none", &[purchase_text("e", "a@b.c")]), "DATASET_NOT_FOUND", "none"),
        (request("", &[purchase_text("e", "a@b.c")]), "ARGUMENT_INVALID", "dataset"),
        (request("No Name", &[purchase_text("e", "a@b.c")]), "ARGUMENT_INVALID", "dataset"),
        (request::<&str>("web", &[]), "BATCH_TOO_LARGE", ""),
        (request("web", &many), "BATCH_TOO_LARGE", "10001"),
        (pb::AppendEventsRequest { mode: 99, ..good() }, "ARGUMENT_INVALID", "mode"),
        (pb::AppendEventsRequest { durability: 99, ..good() }, "ARGUMENT_INVALID", "durability"),
        (pb::AppendEventsRequest { durability: 2, ..good() }, "NOT_IMPLEMENTED", "buffered"),
        (
            pb::AppendEventsRequest { events: vec![pb::Event { payload: None }], ..good() },
            "EVENT_INVALID",
            "events[0].payload",
        ),
    ];
    let mut wrong = Vec::new();
    for (append, reason, word) in rows {
        let shown = format!("{append:?}").chars().take(200).collect::<String>();
        wrong.extend(errors::mismatch(
            &shown,
            client.append_request(append).await,
            reason,
            "",
            &[word],
        ));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(client.last_position().await, 0);
    client.append("web", &many[..10_000]).await.unwrap();
    assert_eq!(client.last_position().await, 10_000);
}

#[tokio::test]
async fn bytes_that_are_no_request_are_refused() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let append = "/milepost.v1.EventService/AppendEvents";
    let event = |json: &[u8]| raw::field(2, &raw::field(1, json));
    let with_dataset = |dataset: &[u8], event: Vec<u8>| [raw::field(1, dataset), event].concat();
    let good = purchase_text("e", "a@b.c");
    let rows: Vec<(&'static str, Vec<u8>, &str)> = vec![
        (append, vec![0xff; 64], "REQUEST_MALFORMED"),
        (append, vec![0x0a, 0x7f], "REQUEST_MALFORMED"),
        (append, with_dataset(b"we\xff", event(good.as_bytes())), "REQUEST_MALFORMED"),
        (append, with_dataset(b"web", event(b"{\"_id\":\"\xff\"}")), "EVENT_INVALID"),
        (append, with_dataset(b"web", event(b"\xed\xa0\x80")), "EVENT_INVALID"),
        (append, vec![0; 16 * MIB + 1], "REQUEST_TOO_LARGE"),
        ("/milepost.v1.EventService/Append", vec![], "METHOD_UNKNOWN"),
        ("/milepost.v2.EventService/AppendEvents", vec![], "METHOD_UNKNOWN"),
        ("/nothing", vec![], "METHOD_UNKNOWN"),
        (
            "/milepost.v1.SchemaService/RegisterSchema",
            raw::field(1, b"\xc3\x28"),
            "REQUEST_MALFORMED",
        ),
        ("/milepost.v1.DatasetService/GetDataset", raw::field(1, b"\x80"), "REQUEST_MALFORMED"),
        ("/milepost.v1.EventService/CountEvents", vec![0x0a, 0x05, 0x0a], "REQUEST_MALFORMED"),
    ];
    for (path, body, reason) in rows {
        let shown = format!("{path} {:02x?}", &body[..body.len().min(32)]);
        eprintln!("{shown}");
        expect(raw::call(&client.channel, path, Bytes::from(body)).await, reason, &[]);
    }
    // An event that is not text spoils no other.
    let mixed = [
        with_dataset(b"web", event(b"{\"_id\":\"\xff\"}")),
        event(purchase_text("good", "a@b.c").as_bytes()),
        vec![3 << 3, 2], /* PER_EVENT */
    ];
    let answer = raw::call(&client.channel, append, Bytes::from(mixed.concat())).await.unwrap();
    let answer = pb::AppendEventsResponse::decode(answer).unwrap();
    let error = answer.results[0].error.as_ref().unwrap();
    assert!(error.message.contains("UTF-8 from byte 8"), "{error:?}");
    assert_eq!(answer.results[1].outcome(), pb::append_result::Outcome::Appended);
    // Unknown fields are not an error: a newer client may send them.
    let newer = [with_dataset(b"web", event(good.as_bytes())), raw::field(15, b"new")].concat();
    raw::call(&client.channel, append, Bytes::from(newer)).await.unwrap();
    assert_eq!(client.last_position().await, 2);

    // Small on the wire, large in memory.
    let mut squeezed = client.events.clone().send_compressed(CompressionEncoding::Gzip);
    let bomb = request("web", &["{".to_owned() + &" ".repeat(48 * MIB)]);
    expect(squeezed.append_events(bomb).await, "REQUEST_TOO_LARGE", &[]);
    serves(&server, &client, "after").await;
}

#[tokio::test]
async fn a_connection_that_does_not_speak_grpc_harms_nobody() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let openings: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: milepost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0; 4096],
        b"",
    ];
    for (index, opening) in openings.into_iter().enumerate() {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(opening).unwrap();
        // Whatever it answers, and however it ends: it ends.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
        serves(&server, &client, &format!("after-{index}")).await;
    }
}

#[tokio::test]
async fn absurd_pages_and_tokens_are_refused() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    for n in 0..3 {
        client.create(&format!("d{n}"), PURCHASE).await.unwrap();
    }
    let datasets = async |page_size, page_token: &str| {
        let request = pb::ListDatasetsRequest { page_size, page_token: page_token.into() };
        client.datasets.clone().list_datasets(request).await.map(tonic::Response::into_inner)
    };
    let schemas = async |page_size, page_token: &str, exclude_built_in| {
        let request = pb::ListSchemasRequest {
            page_size,
            page_token: page_token.into(),
            exclude_built_in,
            ..Default::default()
        };
        client.schemas.clone().list_schemas(request).await.map(tonic::Response::into_inner)
    };
    let namespaces = async |page_size, page_token: &str| {
        let request = pb::ListNamespacesRequest { page_size, page_token: page_token.into() };
        client.identities.clone().list_namespaces(request).await.map(tonic::Response::into_inner)
    };
    for page_size in [-1, i32::MIN, 1001, i32::MAX] {
        let words = [&*page_size.to_string(), "1000"];
        expect(datasets(page_size, "").await, "ARGUMENT_OUT_OF_BOUNDS", &words);
        expect(schemas(page_size, "", false).await, "ARGUMENT_OUT_OF_BOUNDS", &words);
        expect(namespaces(page_size, "").await, "ARGUMENT_OUT_OF_BOUNDS", &words);
    }
    let token = datasets(1, "").await.unwrap().next_page_token;
    let of_schemas = schemas(1, "", false).await.unwrap().next_page_token;
    assert!(!token.is_empty() && !of_schemas.is_empty());
    let long = "A".repeat(100_000);
    for wrong in ["nonsense", "AAAA", "é", &long, &format!("{token}A"), &token[1..]] {
        expect(datasets(1, wrong).await, "PAGE_TOKEN_INVALID", &[]);
        expect(schemas(1, wrong, false).await, "PAGE_TOKEN_INVALID", &[]);
        expect(namespaces(1, wrong).await, "PAGE_TOKEN_INVALID", &[]);
    }
    expect(schemas(1, &token, false).await, "PAGE_TOKEN_INVALID", &[]);
    expect(namespaces(1, &token).await, "PAGE_TOKEN_INVALID", &[]);
    expect(datasets(1, &of_schemas).await, "PAGE_TOKEN_INVALID", &[]);
    expect(schemas(1, &of_schemas, true).await, "PAGE_TOKEN_INVALID", &[]);
    datasets(2, &token).await.unwrap();
    serves(&server, &client, "after").await;
}

#[tokio::test]
async fn a_filter_that_cannot_be_is_refused_by_read_count_and_follow_alike() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let types = |it: &[&str]| pb::EventFilter {
        event_types: it.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let at = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let range = |start, end| pb::EventFilter {
        event_time: Some(pb::TimeRange { start, end }),
        ..Default::default()
    };
    let many = pb::EventFilter {
        event_types: (0..1001).map(|n| format!("t{n}")).collect(),
        ..Default::default()
    };
    let rows = [
        (types(&["*"]), "FILTER_INVALID"),
        (types(&[""]), "FILTER_INVALID"),
        (types(&[".*"]), "FILTER_INVALID"),
        (types(&["a*"]), "FILTER_INVALID"),
        (types(&[&"x".repeat(300)]), "FILTER_INVALID"),
        (by_identity("", "x"), "FILTER_INVALID"),
        (by_identity("", ""), "FILTER_INVALID"),
        (by_identity("Email", &"x".repeat(1025)), "FILTER_INVALID"),
        (range(at(10, 0), at(9, 0)), "FILTER_INVALID"),
        (range(at(0, -1), None), "FILTER_INVALID"),
        (range(at(i64::MAX, 0), None), "FILTER_INVALID"),
        (many, "ARGUMENT_OUT_OF_BOUNDS"),
        (
            pb::EventFilter { datasets: vec!["none".into()], ..Default::default() },
            "DATASET_NOT_FOUND",
        ),
        (
            pb::EventFilter { datasets: vec!["No Name".into()], ..Default::default() },
            "FILTER_INVALID",
        ),
        (pb::EventFilter { r#where: "a ==".into(), ..Default::default() }, "FILTER_INVALID"),
        (pb::EventFilter { r#where: "1 + 1".into(), ..Default::default() }, "FILTER_INVALID"),
        (
            pb::EventFilter { event_definitions: vec!["d".into()], ..Default::default() },
            "EVENT_DEFINITION_NOT_FOUND",
        ),
    ];
    let mut wrong = Vec::new();
    for (filter, reason) in rows {
        let mut shown = format!("{filter:?}");
        shown.truncate(200);
        let read = client.read(reading(filter.clone())).await;
        wrong.extend(errors::mismatch(&format!("read {shown}"), read, reason, "", &[]));
        let count = client.count(filter.clone()).await;
        wrong.extend(errors::mismatch(&format!("count {shown}"), count, reason, "", &[]));
        let follow = pb::FollowEventsRequest { filter: Some(filter), ..Default::default() };
        let follow = match client.follow(follow).await {
            Err(status) => Err(status),
            Ok(mut stream) => stream.message().await.map(drop),
        };
        wrong.extend(errors::mismatch(&format!("follow {shown}"), follow, reason, "", &[]));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for (direction, payload_format, below_floor) in [(99, 0, 0), (0, 99, 0), (0, 0, 99)] {
        let read =
            pb::ReadEventsRequest { direction, payload_format, below_floor, ..Default::default() };
        expect(client.read(read).await, "ARGUMENT_INVALID", &[]);
    }
    let follow = pb::FollowEventsRequest { below_floor: 99, ..Default::default() };
    expect(client.follow(follow).await.map(drop), "ARGUMENT_INVALID", &["below_floor"]);
    let none = pb::GetEventRequest::default();
    expect(client.events.clone().get_event(none).await, "ARGUMENT_INVALID", &["key"]);
    let mut most = by_type("a.b");
    most.event_types = (0..1000).map(|n| format!("t{n}")).collect();
    assert_eq!(client.count(most).await.unwrap(), 0);
    serves(&server, &client, "after").await;
}

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

/// Requests that are many times as large in memory as on the wire.
async fn amplifiers(client: Client) {
    let path = "/milepost.v1.EventService/AppendEvents";
    let empty = [raw::field(1, b"web"), [0x12, 0].repeat(8 * MIB - 64)].concat();
    expect(raw::call(&client.channel, path, empty.into()).await, "BATCH_TOO_LARGE", &["8388544"]);
    let null = ProtoValue { kind: Some(Kind::NullValue(0)) };
    let list = ListValue { values: vec![null; MIB / 2] };
    let list = ProtoValue { kind: Some(Kind::ListValue(list)) };
    let structs = pb::AppendEventsRequest {
        dataset: "web".into(),
        events: vec![struct_event([("x", list)])],
        ..Default::default()
    };
    expect(client.append_request(structs).await, "EVENT_INVALID", &["1048576"]);
    // Nothing but what is wrong, ten thousand times.
    let long = "k".repeat(400);
    let wrong = format!(r#"{{"{long}":{{"a":1,"a":1}},"commerce":7}}"#);
    let answer = client.append_each("web", &vec![wrong; 10_000]).await.unwrap();
    assert_eq!(answer.results.len(), 10_000);
    let mut squeezed = client.events.clone().send_compressed(CompressionEncoding::Gzip);
    squeezed.append_events(request("web", &[padded(MIB)])).await.unwrap();
}

/// Sixteen connections each send the largest requests there are, good and bad; then four send those
/// that grow the most when they are decoded.
// Threads: a connection must answer the server's pings while a request of 15 MiB is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_stays_bounded_under_the_largest_requests() {
    const CONNECTIONS: usize = 16;
    /// A request in flight may be held as bytes, as text and as parsed values; the queue and the
    /// caches have 64 MiB each. This is that with room for a debug build and its allocator.
    const MEMORY_MAX: u64 = 2 * 1024 * MIB as u64;
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut senders = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let client = server.client().await;
        senders.spawn(async move {
            for round in 0..3 {
                let large: Vec<_> = (0..15)
                    .map(|n| {
                        padded(MIB - 64)
                            .replace("\"bad\"", &format!("\"l{connection}-{round}-{n}\""))
                    })
                    .collect();
                // Numbers make the largest tree of values for their bytes.
                let values = format!(
                    r#"{{"_id":"v","timestamp":"2026-11-20T17:26:04Z","commerce":[{}0]}}"#,
                    "0,".repeat(MIB / 2 - 100)
                );
                let outcomes: [Result<(), Status>; 3] = [
                    client.append("web", &large).await.map(drop),
                    client.append("web", &vec![values; 15]).await.map(drop),
                    client.append("web", &vec!["[".repeat(MIB); 15]).await.map(drop),
                ];
                for outcome in outcomes {
                    if let Err(status) = outcome {
                        errors::seen(&status);
                    }
                }
            }
        });
    }
    senders.join_all().await;
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..4 {
        senders.spawn(amplifiers(server.client().await));
    }
    senders.join_all().await;
    let (now, most) = server.memory();
    eprintln!("memory: {} MiB now, {} MiB at most", now / MIB as u64, most / MIB as u64);
    assert!(most < MEMORY_MAX, "{most} bytes");
    serves(&server, &client, "after").await;
}

/// Readers that ask and never take the answer, and calls that are dropped at once.
#[tokio::test]
async fn clients_that_do_not_read_cost_little() {
    /// A few pages of 1 MiB wait for a reader that does not take them.
    const STREAM_BYTES_MAX: u64 = 10 * MIB as u64;
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let note = "x".repeat(100 * 1024);
    for n in 0..40 {
        let batch: Vec<_> = (0..10)
            .map(|at| {
                let mut event = purchase(&format!("e{n}-{at}"), "a@b.c");
                event["note"] = json!(note);
                event.to_string()
            })
            .collect();
        client.append("web", &batch).await.unwrap();
    }
    let (before, _) = server.memory();
    let mut held = Vec::new();
    for _ in 0..100 {
        let other = server.client().await;
        let read =
            other.events.clone().read_events(pb::ReadEventsRequest::default()).await.unwrap();
        let start = Some(pb::Start { start: Some(pb::start::Start::AfterPosition(0)) });
        let follow = pb::FollowEventsRequest { start, ..Default::default() };
        let follow = other.follow(follow).await.unwrap();
        held.push((other, read, follow));
    }
    serves(&server, &client, "beside").await;
    assert_eq!(client.status().await.unwrap().followers, 100);
    let (now, most) = server.memory();
    eprintln!(
        "memory: {} MiB before, {} MiB now, {} MiB at most",
        before / MIB as u64,
        now / MIB as u64,
        most / MIB as u64
    );
    assert!(most < before + 200 * STREAM_BYTES_MAX, "{most} bytes");
    drop(held);
    // Gone clients are noticed.
    let begun = Instant::now();
    while client.status().await.unwrap().followers > 0 {
        assert!(begun.elapsed() < Duration::from_mins(1), "follows of gone clients stay open");
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_raw_fields_are_what_protobuf_writes() {
    let append = request("web", &["x".repeat(300)]);
    let bytes =
        [raw::field(1, b"web"), raw::field(2, &json_event(&"x".repeat(300)).encode_to_vec())];
    assert_eq!(bytes.concat(), append.encode_to_vec());
}
