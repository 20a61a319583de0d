//! Payloads that are no events.

use milepost::grpc::pb;
use prost_types::{ListValue, Struct, Value as ProtoValue, value::Kind};
use serde_json::{Value, json};

use super::{MIB, nested, padded, serves, with};
use crate::support::{
    Server,
    client::reading,
    errors::{self, expect},
    events::{purchase_text, purchases},
};

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

pub(super) fn struct_event(
    fields: impl IntoIterator<Item = (&'static str, ProtoValue)>,
) -> pb::Event {
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
