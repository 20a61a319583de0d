//! Too late, too much, too full: what is refused is refused for the documented reason, leaves nothing
//! behind, and the rest goes on.

use std::{
    collections::BTreeMap,
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use milepost::{grpc::pb, model::limits};
use prost::Message as _;
use serde_json::json;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::support::{
    Client, Server,
    client::{json_event, json_of, reading, request},
    errors::{expect, seen},
    events::{PURCHASE, Random, purchase, purchase_text, purchases, typed},
    skipped,
    wire::{self, Wire},
};

const APPEND: &str = "/milepost.v1.EventService/AppendEvents";
const MIB: usize = 1024 * 1024;

/// A value of the metadata of an error.
fn metadata(status: &Status, key: &str) -> String {
    let info = status.get_details_error_info().unwrap();
    info.metadata.get(key).unwrap_or_else(|| panic!("no `{key}`: {info:?}")).clone()
}

async fn append(wire: &Wire, id: &str, timeout: &str) -> Result<pb::AppendEventsResponse, Status> {
    wire.call(APPEND, &request("web", &[purchase_text(id, "a@b.c")]), timeout).await
}

#[tokio::test]
async fn an_append_that_comes_too_late_is_told_so_and_leaves_nothing() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let wire = Wire::connect(server.address()).await;
    for timeout in ["0n", "1n", "1u", "0S"] {
        let status = append(&wire, "late", timeout).await.expect_err("stored");
        assert_eq!(seen(&status).reason, "DEADLINE_EXCEEDED", "{timeout}");
        assert_eq!(metadata(&status, "written"), "nothing", "{timeout}");
    }
    // A timeout that is none, and one that is long enough.
    for (id, timeout) in [("e1", "soon"), ("e2", "1M"), ("e3", "99999999H")] {
        append(&wire, id, timeout).await.unwrap();
    }
    assert_eq!(client.last_position().await, 3);
    // Every call has the reason, not only appends.
    let status: Result<pb::GetStatusResponse, _> = wire
        .call("/milepost.v1.AdminService/GetStatus", &pb::GetStatusRequest::default(), "0n")
        .await;
    expect(status, "DEADLINE_EXCEEDED", &[]);
}

/// Large batches keep the queue full; small ones with little time come beside them. Each is stored,
/// or dropped and told so; where that is not sure the answer says so.
#[tokio::test]
async fn appends_that_expire_in_a_full_queue_leave_nothing() {
    const WRITERS: usize = 8;
    const HASTY: usize = 200;
    let server = Server::start_with(&["--queue-bytes", "16MiB"]);
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.client().await;
        writers.spawn(async move {
            let note = "x".repeat(MIB - 1024);
            for round in 0..2 {
                let event = |n| {
                    let mut event = purchase(&format!("w{writer}-{round}-{n}"), "a@b.c");
                    event["note"] = json!(note);
                    event.to_string()
                };
                let batch: Vec<_> = (0..14).map(event).collect();
                while let Err(status) = client.append("web", &batch).await {
                    assert_eq!(seen(&status).reason, "QUEUE_FULL");
                }
            }
        });
    }
    let wire = Wire::connect(server.address()).await;
    let mut hasty = tokio::task::JoinSet::new();
    let mut outcomes = BTreeMap::new();
    for n in 0..HASTY {
        let wire = wire.clone();
        let id = format!("h{n}");
        // From what is over on arrival to what a full queue may keep waiting.
        let timeout = format!("{}u", 50 << (n % 16));
        hasty.spawn(async move { (append(&wire, &id, &timeout).await, id) });
        if n % 4 == 0 {
            let (outcome, id) = hasty.join_next().await.unwrap().unwrap();
            outcomes.insert(id, outcome);
        }
    }
    outcomes.extend(hasty.join_all().await.into_iter().map(|(outcome, id)| (id, outcome)));
    writers.join_all().await;

    let mut all = reading(pb::EventFilter::default());
    all.set_payload_format(pb::PayloadFormat::None);
    let stored = client.read(all).await.unwrap();
    let mut dropped = 0;
    for (id, outcome) in &outcomes {
        let there = stored.iter().filter(|it| it.event_id == *id).count();
        match outcome {
            Ok(answer) => assert_eq!((there, answer.results.len()), (1, 1), "{id}"),
            Err(status) => {
                let reason = seen(status).reason;
                let sure =
                    reason != "DEADLINE_EXCEEDED" || metadata(status, "written") == "nothing";
                assert!(["DEADLINE_EXCEEDED", "QUEUE_FULL"].contains(&&*reason), "{status:?}");
                assert!(!sure || there == 0, "{id}: stored, and answered with {status:?}");
                dropped += usize::from(sure && reason == "DEADLINE_EXCEEDED");
            }
        }
    }
    eprintln!("{dropped} of {HASTY} were dropped");
    assert!(dropped > 0, "none was too late");
    assert_eq!(outcomes.len(), HASTY);
}

/// What a store refuses and what it does while its disk is low.
async fn check_low_disk(client: &Client, events: usize) {
    let status = client.append("web", &[purchase_text("low", "a@b.c")]).await.expect_err("taken");
    assert_eq!(seen(&status).reason, "DISK_LOW");
    let (free, reserve) = (metadata(&status, "free_bytes"), metadata(&status, "reserve_bytes"));
    assert!(status.message().contains(&free) && status.message().contains(&reserve), "{status:?}");
    let retry = status.get_details_retry_info().and_then(|it| it.retry_delay).unwrap();
    assert!(retry >= Duration::from_secs(1), "{retry:?}");
    expect(client.create("more", PURCHASE).await, "DISK_LOW", &[]);
    let schema = json!({"$id": "https://example.com/schemas/more", "title": "More"});
    expect(client.register(schema.to_string()).await, "DISK_LOW", &[]);
    let namespace = pb::Namespace { code: "More".into(), ..Default::default() };
    let mut create =
        pb::CreateNamespaceRequest { namespace: Some(namespace), validate_only: false };
    create.namespace.as_mut().unwrap().set_type(pb::NamespaceType::Device);
    expect(client.identities.clone().create_namespace(create).await, "DISK_LOW", &[]);
    // What writes nothing goes on, and so does what makes room.
    let mut check = request("web", &[purchase_text("low", "a@b.c")]);
    check.validate_only = true;
    client.append_request(check).await.unwrap();
    assert_eq!(client.read_all().await.len(), events);
    let delete = |name: &str| pb::DeleteDatasetRequest { name: name.into(), ..Default::default() };
    client.datasets.clone().delete_dataset(delete("spare")).await.unwrap();
    let status = client.status().await.unwrap();
    assert_eq!(status.state(), pb::StoreState::DiskLow);
    assert!(status.disk_free_bytes < status.disk_reserve_bytes, "{status:?}");
    let mut health = tonic_health::pb::health_client::HealthClient::new(client.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let health = health.check(request).await.unwrap().into_inner();
    assert_eq!(health.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}

#[tokio::test]
async fn a_low_disk_refuses_what_grows_and_nothing_else() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("spare", PURCHASE).await.unwrap();
    client.append("web", &[purchase_text("e1", "a@b.c")]).await.unwrap();
    assert_eq!(client.status().await.unwrap().state(), pb::StoreState::Serving);
    let server = Server::start_on_with(server.stop().await, &["--disk-reserve", "1048576GiB"]);
    check_low_disk(&server.client().await, 1).await;
    // Without a reserve there is no low disk.
    let server = Server::start_on_with(server.stop().await, &["--disk-reserve", "0"]);
    let client = server.client().await;
    client.append("web", &[purchase_text("e2", "a@b.c")]).await.unwrap();
    assert_eq!(client.status().await.unwrap().disk_reserve_bytes, 0);
}

/// Text that hardly compresses.
fn noise(random: &mut Random, bytes: usize) -> String {
    let letters = |word: u64| {
        (0..10).map(move |at| char::from(b'0' + u8::try_from(word >> (6 * at) & 63).unwrap()))
    };
    (0..bytes / 10)
        .flat_map(|_| letters(random.below(u64::MAX)))
        .map(|it| if it == '\\' { '~' } else { it })
        .collect()
}

fn noisy(random: &mut Random, id: &str, bytes: usize) -> String {
    let mut event = purchase(id, "a@b.c");
    event["note"] = json!(noise(random, bytes));
    event.to_string()
}

/// A small disk, filled by somebody else, and writers that do not stop by themselves: the store is
/// never poisoned, and takes appends again by itself when there is room.
#[tokio::test]
async fn a_disk_that_fills_up_is_low_before_it_is_full_and_recovers() {
    const DISK_MIB: usize = 256;
    const RESERVE_MIB: usize = 64;
    const WRITERS: usize = 6;
    let flags = ["--disk-reserve", "64MiB", "--queue-bytes", "16MiB"];
    let server = match Server::start_on_own_disk(DISK_MIB, &flags) {
        Ok(server) => server,
        Err(reason) => return skipped(&format!("a full disk: cannot mount one ({reason})")),
    };
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("spare", PURCHASE).await.unwrap();
    let free = client.status().await.unwrap().disk_free_bytes;
    let mib = MIB as u64;
    assert!(free < (DISK_MIB * MIB) as u64, "{free}");
    let filler = server.own_disk().join("filler");
    let fill = usize::try_from(free).unwrap() - (RESERVE_MIB + 40) * MIB;
    std::fs::write(&filler, vec![1; fill]).unwrap();

    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.client().await;
        writers.spawn(async move {
            let mut random = Random::from_seed(writer as u64 + 1);
            let mut stored = 0;
            // On until it is refused a few times in a row, as a client that does not heed RetryInfo.
            let mut refused = 0;
            while refused < 5 {
                let id = |n| format!("w{writer}-{stored}-{n}");
                let batch: Vec<_> =
                    (0..4).map(|n| noisy(&mut random, &id(n), 256 * 1024)).collect();
                match client.append("web", &batch).await {
                    Ok(_) => (stored, refused) = (stored + 4, 0),
                    Err(status) => {
                        let reason = seen(&status).reason;
                        assert!(["DISK_LOW", "QUEUE_FULL"].contains(&&*reason), "{status:?}");
                        refused += usize::from(reason == "DISK_LOW");
                    }
                }
            }
            stored
        });
    }
    let stored: usize = writers.join_all().await.into_iter().sum();
    let status = client.status().await.unwrap();
    eprintln!("{stored} events until {} MiB were free", status.disk_free_bytes / mib);
    assert!(stored > 0);
    assert_eq!(status.state(), pb::StoreState::DiskLow);
    // What was under way took some of the reserve, and left most of it.
    assert!(status.disk_free_bytes > (RESERVE_MIB / 2) as u64 * mib, "{status:?}");
    check_low_disk(&client, stored).await;

    std::fs::remove_file(&filler).unwrap();
    let again = [purchase_text("again", "a@b.c")];
    let mut tries = 0;
    while let Err(status) = client.append("web", &again).await {
        assert_eq!(seen(&status).reason, "DISK_LOW");
        tries += 1;
        assert!(tries < 1_000_000, "still low with room on the disk");
    }
    assert_eq!(client.status().await.unwrap().state(), pb::StoreState::Serving);
    assert_eq!(client.read_all().await.len(), stored + 1);
    server.stop().await;
}

/// Clients that announce ten times what there is room for and do not finish: the first get the room,
/// the others are refused, and calls of another kind are not held up.
#[tokio::test]
async fn ten_times_the_room_in_unfinished_requests_is_refused_and_costs_little() {
    const ROOM_MIB: usize = 32;
    const REQUEST_MIB: usize = 15;
    const SENDERS: usize = 10 * ROOM_MIB / REQUEST_MIB;
    let server = Server::start_with(&["--queue-bytes", "32MiB"]);
    let client = server.client().await;
    purchases(&client, "web").await;
    let (before, _) = server.memory();
    let mut calls = Vec::new();
    let mut message = request("web", &[] as &[&str]);
    for n in 0..REQUEST_MIB {
        let mut event = purchase(&format!("e{n}"), "a@b.c");
        event["note"] = json!("x".repeat(MIB - 1024));
        message.events.push(json_event(&event.to_string()));
    }
    let message = wire::framed(&message.encode_to_vec());
    let (most, last) = message.split_at(message.len() - 1);
    for _ in 0..SENDERS {
        let wire = Wire::connect(server.address()).await;
        let mut call = wire.begin(APPEND, &[]).await;
        call.body.send_data(Bytes::copy_from_slice(most), false).unwrap();
        calls.push(call);
    }
    // Those without room are refused; two are still being received.
    let (mut waiting, mut refused) = (Vec::new(), 0);
    for call in &mut calls {
        waiting.push(tokio::time::timeout(Duration::from_secs(5), call.ended()));
    }
    let mut held = Vec::new();
    for (index, wait) in waiting.into_iter().enumerate() {
        match wait.await {
            Ok(outcome) => {
                let status = outcome.expect_err("taken unfinished");
                assert_eq!(seen(&status).reason, "QUEUE_FULL");
                assert!(status.get_details_retry_info().is_some(), "{status:?}");
                refused += 1;
            }
            Err(_elapsed) => held.push(index),
        }
    }
    assert_eq!((held.len(), refused), (2, SENDERS - 2));
    // Beside them everything but large appends goes on.
    assert_eq!(client.read_all().await.len(), 0);
    client.append("web", &[purchase_text("small", "a@b.c")]).await.unwrap();
    client.create("other", PURCHASE).await.unwrap();
    let larger = client.append("web", &vec!["x".repeat(MIB); ROOM_MIB - 2 * REQUEST_MIB + 1]).await;
    expect(larger, "QUEUE_FULL", &["room"]);
    let (_, most_memory) = server.memory();
    eprintln!("{} MiB before, {} MiB at most", before / MIB as u64, most_memory / MIB as u64);
    // The room, what flow control lets the others send, and what an allocator keeps.
    let bound = before + ((ROOM_MIB + 2 * SENDERS) * MIB) as u64 + 64 * MIB as u64;
    assert!(most_memory < bound, "{most_memory} bytes; at most {bound}");
    for (index, mut call) in calls.into_iter().enumerate() {
        if held.contains(&index) {
            call.body.send_data(Bytes::copy_from_slice(last), true).unwrap();
            let answer = call.answer().await.unwrap();
            let answer = pb::AppendEventsResponse::decode(&answer[5..]).unwrap();
            assert_eq!(answer.results.len(), REQUEST_MIB);
        }
    }
    client.append("web", &[purchase_text("yes", "a@b.c")]).await.unwrap();
}

#[tokio::test]
async fn a_request_is_one_message() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let wire = Wire::connect(server.address()).await;
    let one = wire::framed(&request("web", &[purchase_text("e1", "a@b.c")]).encode_to_vec());
    let rows: [(Vec<Bytes>, &str); 5] = [
        (vec![one.clone(), one.clone()], "REQUEST_MALFORMED"),
        (vec![one.clone(), Bytes::from_static(b"x")], "REQUEST_MALFORMED"),
        (vec![one.slice(..one.len() - 1)], "REQUEST_MALFORMED"),
        (vec![one.slice(..3)], "REQUEST_MALFORMED"),
        (vec![Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff])], "REQUEST_TOO_LARGE"),
    ];
    for (pieces, reason) in rows {
        let mut call = wire.begin(APPEND, &[]).await;
        for piece in pieces {
            call.body.send_data(piece, false).unwrap();
        }
        // The server may have answered before the end.
        let _ = call.body.send_data(Bytes::new(), true);
        expect(call.answer().await, reason, &[]);
    }
    assert_eq!(client.last_position().await, 0);
    // In pieces of any size it is the same message.
    let mut call = wire.begin(APPEND, &[]).await;
    for byte in &one {
        call.body.send_data(Bytes::copy_from_slice(&[*byte]), false).unwrap();
    }
    call.body.send_data(Bytes::new(), true).unwrap();
    call.answer().await.unwrap();
    assert_eq!(client.last_position().await, 1);
}

#[tokio::test]
async fn readers_and_connections_are_so_many_and_no_more() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut follows = Vec::new();
    for _ in 0..limits::READERS_MAX / 128 {
        let client = server.client().await;
        for _ in 0..128 {
            follows.push(client.follow(pb::FollowEventsRequest::default()).await.unwrap());
        }
    }
    let other = client.follow(pb::FollowEventsRequest::default()).await;
    let status = other.expect_err("one more follow than there may be");
    assert_eq!(seen(&status).reason, "READERS_FULL");
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
    expect(client.read(pb::ReadEventsRequest::default()).await, "READERS_FULL", &["512"]);
    // Everything else goes on, and one that ends makes room for another.
    client.append("web", &[purchase_text("e1", "a@b.c")]).await.unwrap();
    follows.pop();
    while client.read(pb::ReadEventsRequest::default()).await.is_err() {}
    drop(follows);

    let mut connections = Vec::new();
    let refused = loop {
        let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // The server speaks first, unless it closes the connection.
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => break connections.len(),
            _ => connections.push(stream),
        }
        assert!(connections.len() <= limits::CONNECTIONS_MAX, "never refused");
    };
    eprintln!("{refused} connections beside the client's");
    assert!(refused + 8 > limits::CONNECTIONS_MAX);
    client.append("web", &[purchase_text("e2", "a@b.c")]).await.unwrap();
    connections.clear();
    server.client_when_free().await.append("web", &[purchase_text("e3", "a@b.c")]).await.unwrap();
}

/// Minutes of a debug build: every dataset is one change, and a change copies the catalog.
#[tokio::test]
async fn a_store_with_all_the_datasets_it_may_hold_takes_no_more() {
    if std::env::var_os("MILEPOST_LONG").is_none() {
        return skipped("as many datasets as a store may hold: takes minutes, set MILEPOST_LONG");
    }
    // In memory, where a sync costs nothing.
    let server = Server::start_on_own_disk(512, &[]).unwrap_or_else(|_cannot| Server::start());
    let client = server.client().await;
    purchases(&client, "d0").await;
    let begun = Instant::now();
    let mut creating = tokio::task::JoinSet::new();
    for n in 1..limits::DATASETS_MAX {
        let client = client.clone();
        creating.spawn(async move { client.create(&format!("d{n}"), PURCHASE).await });
        if creating.len() >= 64 {
            creating.join_next().await.unwrap().unwrap().unwrap();
        }
    }
    creating.join_all().await.into_iter().for_each(|it| drop(it.unwrap()));
    eprintln!("{} datasets in {:?}", limits::DATASETS_MAX, begun.elapsed());
    let status = client.create("more", PURCHASE).await.expect_err("one more than there may be");
    assert_eq!(seen(&status).reason, "LIMIT_EXCEEDED");
    assert_eq!(metadata(&status, "max"), limits::DATASETS_MAX.to_string());
    // One that is there already is not one more.
    client.create("d1", PURCHASE).await.unwrap();
}

/// Damage under a running server: what cannot be read is said to be damaged; nothing else is given.
#[tokio::test]
async fn damage_found_while_reading_is_told() {
    /// More than the index's tail, so that a restart does not read the first of them.
    const BATCHES: usize = 7;
    const EVENTS: usize = BATCHES * 10_000;
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let sent: Vec<_> = (0..EVENTS).map(|n| typed(&format!("e{n}"), "a.b")).collect();
    for batch in sent.chunks(10_000) {
        client.append("web", batch).await.unwrap();
    }
    while client.status().await.unwrap().index.unwrap().checkpoint == 0 {
        tokio::task::yield_now().await;
    }
    let server = Server::start_on(server.stop().await);
    let client = server.client().await;
    for path in files_in(&server.dir().data()) {
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        for at in (0..file.metadata().unwrap().len()).step_by(4096) {
            file.write_all_at(&[0xa5; 64], at).unwrap();
        }
    }
    expect(client.read(pb::ReadEventsRequest::default()).await, "DATA_CORRUPT", &[]);
    let mut found = 0;
    for position in (1..=EVENTS as u64).step_by(997) {
        match client.get(position).await {
            Ok(event) => {
                let sent = &sent[usize::try_from(position).unwrap() - 1];
                assert_eq!(json_of(&event), sent, "position {position} came back changed");
            }
            Err(status) => {
                assert_eq!(seen(&status).reason, "DATA_CORRUPT", "{status:?}");
                found += 1;
            }
        }
    }
    eprintln!("{found} of {} events are damaged", EVENTS.div_ceil(997));
    assert!(found > 0, "no damage was found");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    entries.flat_map(|it| if it.is_dir() { files_in(&it) } else { vec![it] }).collect()
}
