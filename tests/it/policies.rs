//! What datasets make of payloads: unknown fields, and the form in which they are sent.

use milepost::grpc::pb::{self, append_result::Outcome};
use prost_types::FieldMask;
use serde_json::{Value, json};
use tonic::Status;

use crate::support::{
    Client, Server,
    client::{json_event, json_of, request},
    errors::expect,
    events::{EXPERIENCE_EVENT, PURCHASE, purchase, purchase_schema},
};

async fn set(
    client: &Client,
    name: &str,
    field: &str,
    set: impl FnOnce(&mut pb::Dataset),
) -> Result<pb::Dataset, Status> {
    let mut dataset = pb::Dataset { name: name.into(), ..Default::default() };
    set(&mut dataset);
    let request = pb::UpdateDatasetRequest {
        dataset: Some(dataset),
        update_mask: Some(FieldMask { paths: vec![field.into()] }),
        validate_only: false,
    };
    Ok(client.datasets.clone().update_dataset(request).await?.into_inner().dataset.unwrap())
}

/// Places that validation by a dataset finds wrong.
async fn wrong(client: &Client, dataset: &str, payload: &Value) -> Vec<String> {
    let target = pb::validate_event_request::Target::Dataset(dataset.into());
    let request = pb::ValidateEventRequest {
        target: Some(target),
        event: Some(json_event(&payload.to_string())),
        ..Default::default()
    };
    let found = client.schemas.clone().validate_event(request).await.unwrap().into_inner();
    found.violations.into_iter().map(|it| it.instance_path).collect()
}

#[tokio::test]
async fn a_dataset_decides_about_keys_that_its_schema_does_not_describe() {
    let server = Server::start();
    let client = server.client().await;
    let mut schema = purchase_schema();
    schema["allOf"][1]["properties"]["commerce"]["additionalProperties"] = json!(false);
    client.register(schema.to_string()).await.unwrap();
    let created = client.create("web", PURCHASE).await.unwrap();
    assert_eq!(created.unknown_fields(), pb::UnknownFields::AsSchema);
    let mut dataset =
        pb::Dataset { name: "strict".into(), schema_id: PURCHASE.into(), ..Default::default() };
    dataset.set_unknown_fields(pb::UnknownFields::Refuse);
    client.create_dataset(dataset.clone()).await.unwrap();
    dataset.set_unknown_fields(pb::UnknownFields::Allow);
    expect(client.create_dataset(dataset.clone()).await, "DATASET_EXISTS", &["unknown_fields"]);
    dataset.name = "lax".into();
    client.create_dataset(dataset).await.unwrap();

    let mut event = purchase("e1", "a@b.c");
    event["commerce"]["order"]["colour"] = json!("red");
    event["spare"] = json!({"a": 1});
    assert_eq!(wrong(&client, "web", &event).await, [""; 0]);
    assert_eq!(wrong(&client, "lax", &event).await, [""; 0]);
    let places = ["/commerce/order/colour", "/spare"];
    assert_eq!(wrong(&client, "strict", &event).await, places);
    let refused = client.append("strict", &[event.to_string()]).await;
    let words = places.map(|it| format!("events[0].payload{it}"));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    expect(refused, "EVENT_VIOLATES_SCHEMA", &words);
    event["commerce"]["cart"] = json!({});
    assert_eq!(wrong(&client, "web", &event).await, ["/commerce"]);
    assert_eq!(wrong(&client, "lax", &event).await, [""; 0]);
    client.append("lax", &[event.to_string()]).await.unwrap();

    // A change counts for the next append, and outlives the server.
    let strict = set(&client, "lax", "unknown_fields", |it| {
        it.set_unknown_fields(pb::UnknownFields::Refuse);
    });
    let strict = strict.await.unwrap();
    event["_id"] = json!("e2");
    expect(
        client.append("lax", &[event.to_string()]).await,
        "EVENT_VIOLATES_SCHEMA",
        &["/commerce/cart"],
    );
    let unknown = set(&client, "lax", "unknown_fields", |it| it.unknown_fields = 9).await;
    expect(unknown, "ARGUMENT_INVALID", &["dataset.unknown_fields"]);
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let found = client.dataset("lax").await.unwrap();
    assert_eq!((found.unknown_fields(), found.etag), (pb::UnknownFields::Refuse, strict.etag));
    assert!(client.append("lax", &[event.to_string()]).await.is_err());
}

const LONG: &str = "https://example.com/schemas/long";

fn long_schema() -> Value {
    json!({"$id": LONG, "meta:class": EXPERIENCE_EVENT, "allOf": [
        {"$ref": EXPERIENCE_EVENT},
        {"properties": {
            "xdm:amount": {"type": "number"},
            "schema:latitude": {"type": "number", "maximum": 90},
            "https://ns.adobe.com/acme/points": {"type": "integer"},
            "xdm:tags": {"type": "object", "additionalProperties": {"type": "string"}}
        }}
    ]})
}

fn long_event(id: &str) -> Value {
    json!({"@id": id, "xdm:timestamp": "2026-11-20T17:26:04Z", "xdm:eventType": "visit",
        "xdm:identityMap": {"Email": [{"xdm:id": "a@b.c", "xdm:primary": true}]},
        "xdm:amount": 1.5, "schema:latitude": 48.1, "https://ns.adobe.com/acme/points": 7,
        "xdm:tags": {"xdm:kept": "x"}})
}

#[tokio::test]
async fn payloads_in_long_form_are_stored_in_wire_form() {
    let server = Server::start();
    let client = server.client().await;
    client.register(long_schema().to_string()).await.unwrap();
    let mut dataset =
        pb::Dataset { name: "long".into(), schema_id: LONG.into(), ..Default::default() };
    dataset.set_payload_form(pb::Form::Long);
    let created = client.create_dataset(dataset).await.unwrap();
    assert_eq!(created.payload_form(), pb::Form::Long);
    client.append("long", &[long_event("e1").to_string()]).await.unwrap();
    let stored = client.get(1).await.unwrap();
    let wire: Value = serde_json::from_str(json_of(&stored)).unwrap();
    let expected = json!({"_id": "e1", "timestamp": "2026-11-20T17:26:04Z", "eventType": "visit",
        "identityMap": {"Email": [{"id": "a@b.c", "primary": true}]},
        "amount": 1.5, "_schema": {"latitude": 48.1}, "_acme": {"points": 7},
        "tags": {"xdm:kept": "x"}});
    assert_eq!(wire, expected);
    assert_eq!((&*stored.event_id, &*stored.event_type), (&b"e1"[..], &b"visit"[..]));
    assert_eq!(stored.identities[0].id, "a@b.c");

    // The same again is a duplicate; what is wrong is told where it was sent.
    let again = client.append("long", &[long_event("e1").to_string()]).await.unwrap();
    assert_eq!(again.results[0].outcome(), Outcome::Duplicate);
    let mut bad = long_event("e2");
    bad["schema:latitude"] = json!(91);
    bad["https://ns.adobe.com/acme/points"] = json!("many");
    let places = ["/schema:latitude", "/https:~1~1ns.adobe.com~1acme~1points"];
    let words = places.map(|it| format!("events[0].payload{it}"));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    expect(client.append("long", &[bad.to_string()]).await, "EVENT_VIOLATES_SCHEMA", &words);
    let mut found = wrong(&client, "long", &bad).await;
    found.sort();
    assert_eq!(found, [places[1], places[0]]);
    expect(
        client.append("long", &[expected.to_string()]).await,
        "EVENT_VIOLATES_SCHEMA",
        &["events[0].payload/_id", "`@id`"],
    );
    expect(client.append("long", &["[1]"]).await, "EVENT_INVALID", &["not a JSON object"]);
    expect(client.append("long", &["{"]).await, "EVENT_INVALID", &["events[0].payload"]);
    let nested = format!("{}1{}", "{\"schema:a\":".repeat(40), "}".repeat(40));
    expect(client.append("long", &[nested]).await, "EVENT_INVALID", &["events[0].payload"]);

    // Each event by itself, and in wire form after a change.
    let payloads = [bad, long_event("e3")].map(|it| it.to_string());
    let results = client.append_each("long", &payloads);
    let outcomes: Vec<_> =
        results.await.unwrap().results.iter().map(pb::AppendResult::outcome).collect();
    assert_eq!(outcomes, [Outcome::Rejected, Outcome::Appended]);
    let set_wire = set(&client, "long", "payload_form", |it| it.set_payload_form(pb::Form::Wire));
    assert_eq!(set_wire.await.unwrap().payload_form(), pb::Form::Wire);
    let again = client.append_request(request("long", &[expected.to_string()])).await.unwrap();
    assert_eq!(again.results[0].outcome(), Outcome::Duplicate);
    let unknown = set(&client, "long", "payload_form", |it| it.payload_form = 9).await;
    expect(unknown, "ARGUMENT_INVALID", &["dataset.payload_form"]);
    client.verify().await.unwrap();
}
