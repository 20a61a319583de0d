//! The largest requests, and clients that do not read.

use std::time::{Duration, Instant};

use milepost::grpc::pb;
use prost_types::{ListValue, Value as ProtoValue, value::Kind};
use serde_json::json;
use tonic::{Status, codec::CompressionEncoding};

use super::{MIB, events::struct_event, padded, serves};
use crate::support::{
    Client, Server,
    client::request,
    errors::{self, expect},
    events::{purchase, purchases},
    raw,
};

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
    /// A request in flight may be held as bytes, as text and as parsed values; the queue has
    /// 64 MiB and the cache 128. This is that with room for a debug build and its allocator.
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
