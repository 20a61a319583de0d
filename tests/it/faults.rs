//! Disks that fail: ones that take no more, that break, that may not be written, and that give back
//! other bytes. Each ends as `docs/operating.md` and `docs/errors.md` say, and never with a wrong answer.
//!
//! `MILEPOST_FAULTS=50 cargo test --test it faults -- --nocapture` is the long form.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use milepost::grpc::pb;
use serde_json::json;
use tokio::task::JoinSet;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{
    Client, Server,
    client::{by_identity, json_of, reading, request},
    disk::{ALWAYS, Disk, EIO, ENOSPC},
    errors::{expect, seen},
    events::{PURCHASE, Random, purchase, purchase_text, purchases},
    known::Known,
    load::{DATASETS, Written, write},
    server::Dir,
};

mod damage;

const WRITERS: u64 = 4;
/// Batches of each writer, should no fault stop it.
const BATCHES_MAX: u64 = 40;

/// How often each kind of fault is tried.
fn rounds(short: u64) -> u64 {
    std::env::var("MILEPOST_FAULTS").map_or(short, |it| it.parse().unwrap())
}

/// An event that does not compress.
fn incompressible(random: &mut Random, id: &str) -> String {
    let mut event = purchase(id, "a@b.c");
    let noise: Vec<String> = (0..4_000).map(|_| random.below(u64::MAX).to_string()).collect();
    event["note"] = json!(noise.concat());
    event.to_string()
}

/// A server whose store is poisoned says so everywhere, and takes nothing.
async fn is_poisoned(server: &Server, client: &Client) {
    let again = client.append(DATASETS[0], &[purchase("small", "a@b.c").to_string()]).await;
    expect(again, "STORE_POISONED", &[]);
    expect(client.create("other", PURCHASE).await, "STORE_POISONED", &[]);
    assert_eq!(client.status().await.unwrap().state(), pb::StoreState::Poisoned);
    let mut health = HealthClient::new(client.channel.clone());
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// A store with both datasets, not running.
async fn store() -> Dir {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, DATASETS[0]).await;
    client.create(DATASETS[1], PURCHASE).await.unwrap();
    server.stop().await
}

/// Every round reads everything, so the store must not grow for ever.
async fn fresh_now_and_then(dir: Dir, round: u64) -> Dir {
    if round % 5 == 4 { store().await } else { dir }
}

/// What everybody was told is there.
fn has_all(known: &Known, written: &[Written]) {
    for (batch, positions) in written.iter().flat_map(|it| &it.acknowledged) {
        known.has(batch, positions);
    }
}

/// A load on a server whose disk fails at some moment.
async fn fail_under_load(dir: Dir, round: u64, random: &mut Random, fail: impl Fn(&Disk)) -> Dir {
    let Some(disk) = Disk::below(&dir) else { return dir };
    let server = Server::start_under(dir, &disk);
    let mut known = Known::default();
    known.catch_up(&server.client().await).await;
    let from = known.last();
    let answers = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (client, answers) = (server.client().await, Arc::clone(&answers));
        let random = Random::from_seed(random.below(u64::MAX));
        writers.spawn(write(client, random, (round, writer), BATCHES_MAX, move || {
            answers.fetch_add(1, Ordering::Relaxed);
        }));
    }
    fail(&disk);
    let written = writers.join_all().await;

    // Whoever was told that it failed was told why; reads go on, up to what was acknowledged.
    let refused: Vec<_> = written.iter().filter_map(|it| it.in_flight.as_ref()).collect();
    for (_, status) in &refused {
        assert_eq!(seen(status).reason, "STORE_POISONED");
    }
    let client = server.client().await;
    known.catch_up(&client).await;
    known.is_whole(from);
    has_all(&known, &written);
    let acknowledged: usize =
        written.iter().flat_map(|it| &it.acknowledged).map(|(_, positions)| positions.len()).sum();
    assert_eq!(known.last() - from, acknowledged as u64, "only what is durable is visible");
    known.counts_agree(&client).await;
    known.reads_agree(&client).await;
    let injected = disk.injected();
    if !refused.is_empty() {
        assert!(injected > 0, "poisoned without a fault");
        is_poisoned(&server, &client).await;
    }

    // On a disk that works again all is there, and what failed can be sent once more.
    disk.mend();
    let dir = if random.below(2) == 0 {
        server.kill()
    } else {
        server.terminate();
        let (status, dir) = server.wait().await;
        assert!(status.code() == Some(if refused.is_empty() { 0 } else { 4 }), "{status}");
        dir
    };
    let server = Server::start_on(dir);
    let client = server.client().await;
    let mut again = Known::default();
    again.catch_up(&client).await;
    again.is_whole(0);
    has_all(&again, &written);
    known.events.iter().for_each(|(position, event)| again.has_event(*position, event));
    for (batch, _) in refused {
        again.settle(&client, batch).await;
    }
    again.counts_agree(&client).await;
    again.reads_agree(&client).await;
    client.verify().await.unwrap();
    eprintln!(
        "{} answers, {injected} faults, {} refused",
        answers.load(Ordering::Relaxed),
        written.iter().filter(|it| it.in_flight.is_some()).count()
    );
    server.kill()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_poisons_the_store_and_loses_nothing() {
    let mut random = Random::seeded("failed sync", 21);
    let mut dir = store().await;
    for round in 0..rounds(3) {
        dir = fresh_now_and_then(dir, round).await;
        let (after, once) = (random.below(30), random.below(2) == 0);
        let times = if once { 1 } else { ALWAYS };
        let fail = |disk: &Disk| disk.fail_syncs(EIO, u32::try_from(after).unwrap(), times);
        dir = fail_under_load(dir, round, &mut random, fail).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_any_write_poisons_the_store_and_loses_nothing() {
    let mut random = Random::seeded("full disk", 22);
    let mut dir = store().await;
    for round in 0..rounds(3) {
        dir = fresh_now_and_then(dir, round).await;
        let after = u32::try_from(random.below(60)).unwrap();
        let times = *random.one_of(&[1, 2, ALWAYS]);
        let fail = |disk: &Disk| disk.fail_space(ENOSPC, after, times);
        dir = fail_under_load(dir, round, &mut random, fail).await;
    }
}

/// The same with a limit that the system enforces.
#[tokio::test]
async fn a_file_that_cannot_grow_poisons_the_store_and_loses_nothing() {
    let mut random = Random::seeded("poison", 7);
    let server = Server::start_on_small_disk(store().await, 12 * 1024);
    let client = server.client().await;
    let mut acknowledged = Vec::new();
    let failed = loop {
        let payload = incompressible(&mut random, &format!("e{}", acknowledged.len()));
        match client.append("web", &[&payload]).await {
            Ok(answer) => acknowledged.push((answer.results[0].position, payload)),
            Err(status) => break status,
        }
        assert!(acknowledged.len() < 1_000, "the disk is never full");
    };
    eprintln!("{} events until: {failed:?}", acknowledged.len());
    assert!(!acknowledged.is_empty());
    assert_eq!(seen(&failed).reason, "STORE_POISONED");
    let read = client.read(reading(by_identity("Email", "a@b.c"))).await.unwrap();
    assert_eq!(read.len(), acknowledged.len());
    is_poisoned(&server, &client).await;

    // With room again, all is there and the failed append can be sent once more.
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let all = client.read_all().await;
    for ((position, payload), event) in acknowledged.iter().zip(&all) {
        assert_eq!((event.position, json_of(event)), (*position, payload.as_str()));
    }
    assert!(all.len() <= acknowledged.len() + 1, "the failed append is there once or not at all");
    client.append("web", &[purchase("small", "a@b.c").to_string()]).await.unwrap();
}

#[tokio::test]
async fn a_sync_that_fails_after_a_buffered_answer_poisons_the_store() {
    let dir = Dir::new();
    let Some(disk) = Disk::below(&dir) else { return };
    let flags = ["--buffered-appends", "allow"];
    let server = Server::try_start_under_with(dir, &disk, &flags).unwrap();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.append("web", &[purchase_text("s1", "a@b.c")]).await.unwrap();
    disk.fail_syncs(EIO, 0, ALWAYS);
    let mut append = request("web", &[purchase_text("b2", "a@b.c")]);
    append.set_durability(pb::Durability::Buffered);
    let answer = client.append_request(append.clone()).await.unwrap();
    assert_eq!((answer.durability(), answer.results[0].position), (pb::Durability::Buffered, 2));
    // The sync comes by itself.
    while client.status().await.unwrap().state() != pb::StoreState::Poisoned {}
    is_poisoned(&server, &client).await;
    expect(client.append_request(append.clone()).await, "STORE_POISONED", &[]);
    // Nobody has seen it, and nobody does.
    assert_eq!(client.read_all().await.len(), 1);
    assert_eq!(client.last_position().await, 1);
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    // The system had it; sent again it is the same in any case.
    append.durability = 0;
    let again = client.append_request(append).await.unwrap();
    assert_eq!((again.results[0].position, client.last_position().await), (2, 2));
    client.verify().await.unwrap();
}

#[tokio::test]
async fn a_poisoned_server_still_ends_when_told() {
    let mut random = Random::seeded("poison", 8);
    let server = Server::start_on_small_disk(store().await, 8 * 1024);
    let client = server.client().await;
    for n in 0.. {
        let payload = incompressible(&mut random, &format!("e{n}"));
        if client.append("web", &[payload]).await.is_err() {
            break;
        }
    }
    server.terminate();
    let (status, dir) = server.wait().await;
    assert_eq!(status.code(), Some(4), "{status}");
    let server = Server::start_on(dir);
    let count = server.client().await.count(pb::EventFilter::default()).await.unwrap();
    assert!(count > 0);
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_is_refused_and_is_not_changed() {
    let dir = store().await;
    let Some(disk) = Disk::below(&dir) else { return };
    let before = damage::contents(&dir.disk());
    disk.set_read_only(true);
    let Err(said) = Server::try_start_under(dir.clone(), &disk) else { panic!("served") };
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(damage::contents(&dir.disk()), before);
    assert!(before.len() > 1);
}

#[tokio::test]
async fn a_disk_that_becomes_read_only_poisons_the_store() {
    let dir = store().await;
    let Some(disk) = Disk::below(&dir) else { return };
    let server = Server::start_under(dir, &disk);
    let client = server.client().await;
    let payload = purchase("e1", "a@b.c").to_string();
    client.append(DATASETS[0], &[&payload]).await.unwrap();
    disk.set_read_only(true);
    let refused = client.append(DATASETS[0], &[purchase("e2", "a@b.c").to_string()]).await;
    expect(refused, "STORE_POISONED", &[]);
    is_poisoned(&server, &client).await;
    assert_eq!(json_of(&client.get(1).await.unwrap()), payload);
    disk.mend();
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(json_of(&client.get(1).await.unwrap()), payload);
}

/// Whatever fails while a server starts: it does not serve, says why, and leaves everything as usable as
/// it was.
#[tokio::test]
async fn a_disk_that_fails_while_the_server_starts_is_refused_and_loses_nothing() {
    let mut random = Random::seeded("failed start", 23);
    let server = Server::start_on(store().await);
    let client = server.client().await;
    let written = write(client, random.clone(), (0, 0), 10, || {}).await;
    let original = server.kill();
    for round in 0..rounds(4) {
        let dir = damage::copy(&original);
        let Some(disk) = Disk::below(&dir) else { return };
        let after = u32::try_from(random.below(8)).unwrap();
        if round % 2 == 0 {
            disk.fail_syncs(EIO, after, *random.one_of(&[1, ALWAYS]));
        } else {
            disk.fail_space(ENOSPC, after, *random.one_of(&[1, ALWAYS]));
        }
        let server = match Server::try_start_under(dir.clone(), &disk) {
            Err(said) => {
                assert!(disk.injected() > 0, "{said}");
                // What sled says in between, and how, is not ours.
                let ours = said.rfind("error: ").map_or("", |at| &said[at..]);
                let precise = ours.contains("os error") || ours.contains("cannot be synced");
                assert!(precise && said.contains("exit status: 4"), "{said}");
                Server::start_on(dir)
            }
            Ok(server) if disk.injected() > 0 => {
                panic!("served although {} operations failed: {}", disk.injected(), server.log())
            }
            Ok(server) => server,
        };
        disk.mend();
        let client = server.client().await;
        let mut known = Known::default();
        known.catch_up(&client).await;
        has_all(&known, std::slice::from_ref(&written));
        known.counts_agree(&client).await;
    }
}
