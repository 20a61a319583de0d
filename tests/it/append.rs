//! Appending: what producers can rely on.

use milepost::grpc::pb::{self, append_result::Outcome};
use serde_json::json;
use tonic_types::StatusExt as _;

use crate::support::{
    Server,
    client::{by_identity, json_event, json_of, reading, request},
    errors::{self, expect},
    events::{purchase, purchase_text, purchases, typed},
};

/// Outcomes and positions of an append.
fn results(response: &pb::AppendEventsResponse) -> Vec<(Outcome, u64)> {
    response.results.iter().map(|it| (it.outcome(), it.position)).collect()
}

#[tokio::test]
async fn an_event_comes_back_byte_for_byte() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    // Odd spacing, key order, escapes, a number no double holds, and text beyond the BMP.
    let payload = "{ \"timestamp\":\"2026-11-20T17:26:04.123456789+02:00\",\n\t\"count\" : \
                   9007199254740993, \"_id\" : \"\\u006fdd-1\", \"note\":\"é \\\"😀 \\ud83d\\ude00\" ,\
                   \"eventType\": \"web.x\" }\r\n";
    let answer = client.append("web", &[payload]).await.unwrap();
    assert_eq!(results(&answer), [(Outcome::Appended, 1)]);
    assert_eq!(answer.durable_position, 1);

    let event = client.get(1).await.unwrap();
    assert_eq!(json_of(&event), payload);
    assert_eq!(event.event_id, "odd-1");
    assert_eq!(event.event_type, "web.x");
    assert_eq!(event.dataset, "web");
    assert_eq!(event.event_time.unwrap().nanos, 123_456_789);
    let server = Server::start_on(server.stop().await);
    assert_eq!(json_of(&server.client().await.read_all().await[0]), payload);
}

#[tokio::test]
async fn a_retry_keeps_the_first_position() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let batch: Vec<_> = (0..5).map(|n| purchase_text(&format!("e{n}"), "a@b.c")).collect();
    let first = client.append("web", &batch).await.unwrap();
    assert_eq!(first.results.iter().map(|it| it.position).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);

    // Again; then with other spelling: "the same content" is the same JSON value.
    let spelled: Vec<_> = (0..5)
        .map(|n| serde_json::to_string_pretty(&purchase(&format!("e{n}"), "a@b.c")).unwrap())
        .collect();
    for retry in [&batch, &spelled] {
        let again = client.append("web", retry).await.unwrap();
        let expected: Vec<_> = (1..=5).map(|it| (Outcome::Duplicate, it)).collect();
        assert_eq!(results(&again), expected);
    }
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let again = client.append("web", &batch).await.unwrap();
    assert!(again.results.iter().all(|it| it.outcome() == Outcome::Duplicate), "{again:?}");
    assert_eq!(client.last_position().await, 5);
}

#[tokio::test]
async fn another_event_with_the_same_id_is_a_conflict() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("shop", crate::support::events::PURCHASE).await.unwrap();
    client.append("web", &[purchase_text("e1", "a@b.c")]).await.unwrap();

    let conflict = client.append("web", &[purchase_text("e1", "x@y.z")]).await;
    expect(conflict, "EVENT_ID_CONFLICT", &["e1"]);
    // In one request too, and then nothing is written.
    let conflict =
        client.append("web", &[purchase_text("e2", "a@b.c"), purchase_text("e2", "x@y.z")]).await;
    expect(conflict, "EVENT_ID_CONFLICT", &["e2"]);
    assert_eq!(client.last_position().await, 1);
    // Ids belong to a dataset.
    let other = client.append("shop", &[purchase_text("e1", "x@y.z")]).await.unwrap();
    assert_eq!(results(&other), [(Outcome::Appended, 2)]);
}

#[tokio::test]
async fn the_same_event_twice_in_one_request_is_stored_once() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let event = purchase_text("e1", "a@b.c");
    let answer =
        client.append("web", &[&event, &purchase_text("e2", "a@b.c"), &event]).await.unwrap();
    assert_eq!(
        results(&answer),
        [(Outcome::Appended, 1), (Outcome::Appended, 2), (Outcome::Duplicate, 1)]
    );
}

#[tokio::test]
async fn an_atomic_batch_is_whole_or_absent() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut bad = purchase("e2", "a@b.c");
    bad["commerce"]["order"]["priceTotal"] = json!("much");
    let batch = [purchase_text("e1", "a@b.c"), "{".into(), bad.to_string()];

    let seen = expect(client.append("web", &batch).await, "EVENT_INVALID", &[]);
    assert_eq!(
        seen.fields.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(),
        ["events[1].payload", "events[2].payload/commerce/order/priceTotal"],
        "every problem of the batch is named: {seen:?}"
    );
    assert_eq!(client.last_position().await, 0);

    // One by one: good ones are stored, each bad one has its own error.
    let answer = client.append_each("web", &batch).await.unwrap();
    assert_eq!(
        results(&answer),
        [(Outcome::Appended, 1), (Outcome::Rejected, 0), (Outcome::Rejected, 0)]
    );
    let reasons = [(1, "EVENT_INVALID"), (2, "EVENT_VIOLATES_SCHEMA")];
    for (index, reason) in reasons {
        let error = answer.results[index].error.clone().unwrap();
        let seen = errors::seen(&errors::status_of(&error));
        assert_eq!(seen.reason, reason, "{seen:?}");
        assert!(seen.fields.iter().all(|(field, _)| field.starts_with("events[")), "{seen:?}");
    }
}

#[tokio::test]
async fn one_id_from_many_connections_is_stored_once() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut storms = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = server.client().await;
        storms.spawn(async move {
            let mut appended = 0;
            for n in 0..50 {
                let event = purchase_text(&format!("e{n}"), "a@b.c");
                let answer = client.append("web", &[event]).await.unwrap();
                appended += usize::from(answer.results[0].outcome() == Outcome::Appended);
            }
            appended
        });
    }
    let appended: usize = storms.join_all().await.into_iter().sum();
    assert_eq!(appended, 50);
    assert_eq!(client.read_all().await.len(), 50);
    assert_eq!(client.last_position().await, 50);
}

#[tokio::test]
async fn a_dry_run_judges_and_writes_nothing() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut dry = request("web", &[purchase_text("e1", "a@b.c")]);
    dry.validate_only = true;
    let answer = client.append_request(dry.clone()).await.unwrap();
    assert_eq!(results(&answer), [(Outcome::Appended, 0)]);
    dry.events.push(json_event("{}"));
    expect(client.append_request(dry).await, "EVENT_INVALID", &["events[1].payload"]);
    assert_eq!(client.last_position().await, 0);
}

#[tokio::test]
async fn struct_data_is_stored_as_compact_json_with_sorted_keys() {
    use prost_types::{Struct, Value, value::Kind};
    let text = |it: &str| Value { kind: Some(Kind::StringValue(it.into())) };
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let fields = [
        ("timestamp", text("2026-11-20T17:26:04Z")),
        ("count", Value { kind: Some(Kind::NumberValue(9_007_199_254_740_991.0)) }),
        ("_id", text("s1")),
        ("ratio", Value { kind: Some(Kind::NumberValue(0.1)) }),
    ];
    let data = Struct { fields: fields.map(|(name, it)| (name.to_owned(), it)).into() };
    let append = pb::AppendEventsRequest {
        dataset: "web".into(),
        events: vec![pb::Event { payload: Some(pb::event::Payload::Data(data.clone())) }],
        ..Default::default()
    };
    client.append_request(append).await.unwrap();
    let stored = client.get(1).await.unwrap();
    assert_eq!(
        json_of(&stored),
        r#"{"_id":"s1","count":9007199254740991,"ratio":0.1,"timestamp":"2026-11-20T17:26:04Z"}"#
    );
    let mut read = reading(pb::EventFilter::default());
    read.set_payload_format(pb::PayloadFormat::Struct);
    let event = client.read(read).await.unwrap().remove(0).event.unwrap();
    assert_eq!(event.payload, Some(pb::event::Payload::Data(data)));
}

#[tokio::test]
async fn record_time_never_decreases_and_event_time_orders_nothing() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    for n in 0..20 {
        let mut event = purchase(&format!("e{n}"), "a@b.c");
        event["timestamp"] = json!(format!("20{:02}-01-01T00:00:00Z", 40 - n));
        client.append("web", &[event.to_string()]).await.unwrap();
    }
    let events = client.read(reading(by_identity("Email", "a@b.c"))).await.unwrap();
    let ids: Vec<_> = events.iter().map(|it| it.event_id.clone()).collect();
    assert_eq!(ids, (0..20).map(|n| format!("e{n}")).collect::<Vec<_>>());
    let times: Vec<_> = events.iter().map(|it| it.record_time.unwrap()).collect();
    assert!(
        times.windows(2).all(|it| (it[0].seconds, it[0].nanos) <= (it[1].seconds, it[1].nanos))
    );
}

#[tokio::test]
async fn a_closed_dataset_takes_no_events_and_still_reads() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.append("web", &[typed("e1", "a.b")]).await.unwrap();
    let mut dataset = client.dataset("web").await.unwrap();
    dataset.set_state(pb::DatasetState::Closed);
    let update = pb::UpdateDatasetRequest {
        dataset: Some(dataset),
        update_mask: Some(prost_types::FieldMask { paths: vec!["state".into()] }),
        validate_only: false,
    };
    client.datasets.clone().update_dataset(update).await.unwrap();
    expect(client.append("web", &[typed("e2", "a.b")]).await, "DATASET_CLOSED", &["web"]);
    assert_eq!(client.read_all().await.len(), 1);
}

/// Sixteen connections send more than the queue holds: each batch is taken or refused for now, and
/// what was refused succeeds when it is sent again.
// Threads: who makes a large request must not keep another from sending its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_queue_refuses_for_now_and_loses_nothing() {
    const BATCH: usize = 14;
    let server = Server::start_with(&["--queue-bytes", "16MiB"]);
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..16 {
        let client = server.client().await;
        senders.spawn(async move {
            let batch: Vec<_> = (0..BATCH)
                .map(|n| {
                    let mut event = purchase(&format!("s{sender}-{n}"), "a@b.c");
                    event["note"] = json!("x".repeat(1024 * 1024 - 1024));
                    event.to_string()
                })
                .collect();
            let mut refused = 0;
            loop {
                let Err(status) = client.append("web", &batch).await else { return refused };
                assert_eq!(errors::seen(&status).reason, "QUEUE_FULL");
                let retry = status.get_details_retry_info().and_then(|it| it.retry_delay);
                tokio::time::sleep(retry.expect("QUEUE_FULL says when to come back")).await;
                refused += 1;
            }
        });
    }
    let refused: usize = senders.join_all().await.into_iter().sum();
    eprintln!("{refused} batches were refused for now");
    assert!(refused > 0, "the queue was never full");
    let mut none = reading(by_identity("Email", "a@b.c"));
    none.set_payload_format(pb::PayloadFormat::None);
    assert_eq!(client.read(none).await.unwrap().len(), 16 * BATCH);
    assert_eq!(client.last_position().await, 16 * BATCH as u64);
    let (_, most) = server.memory();
    eprintln!("memory: {} MiB at most", most / (1024 * 1024));
}
