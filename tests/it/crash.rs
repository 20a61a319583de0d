//! `kill -9` in the middle of a load: what was acknowledged is there, and nothing is torn.
//!
//! `MILEPOST_KILLS=50 cargo test --test it crash` is the long form.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use milepost::grpc::pb;
use tokio::{sync::Notify, task::JoinSet};

use crate::support::{
    Client, Server,
    events::{PURCHASE, Random, purchases},
    known::Known,
    load::{Written, write},
    server::Dir,
};

const WRITERS: u64 = 8;

/// What all who worked on a server know when it is gone.
struct Round {
    written: Vec<Written>,
    datasets: Vec<String>,
}

/// The load: wakes the killer when enough was acknowledged.
struct Load {
    acknowledged: AtomicU64,
    kill_after: u64,
    enough: Notify,
}

impl Load {
    fn answered(&self) {
        if self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == self.kill_after {
            self.enough.notify_one();
        }
    }
}

/// Creates datasets beside the load; the names of those that were acknowledged.
async fn create(client: Client, round: u64) -> Vec<String> {
    let mut created = Vec::new();
    for number in 0.. {
        let name = format!("r{round}-{number}");
        if client.create(&name, PURCHASE).await.is_err() {
            break;
        }
        created.push(name);
    }
    created
}

/// A follower beside the load: dense positions as far as it gets.
async fn watch(client: Client, after: u64) -> u64 {
    let start = Some(pb::Start { start: Some(pb::start::Start::AfterPosition(after)) });
    let request = pb::FollowEventsRequest { start, ..Default::default() };
    // The kill may come before the follow.
    let Ok(mut stream) = client.follow(request).await else { return after };
    let mut reached = after;
    while let Ok(Some(message)) = stream.message().await {
        if let Some(pb::follow_events_response::Message::Events(batch)) = message.message {
            for event in batch.events {
                assert_eq!(event.position, reached + 1, "a gap or a repetition in a follow");
                reached = event.position;
            }
        }
    }
    reached
}

/// What all rounds together have found.
#[derive(Default)]
struct Found {
    known: Known,
    acknowledged: u64,
    /// Batches without an answer: found whole, and not found.
    in_flight: [u64; 2],
    datasets: Vec<String>,
}

/// Runs the load on the directory until it is killed.
async fn load_until_killed(dir: Dir, random: &mut Random, round: u64, after: u64) -> (Dir, Round) {
    let server = Server::start_on(dir);
    let load = Arc::new(Load {
        acknowledged: AtomicU64::new(0),
        kill_after: 5 + random.below(60),
        enough: Notify::new(),
    });
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.client().await;
        let seed = Random::from_seed(random.below(u64::MAX));
        let load = Arc::clone(&load);
        writers.spawn(write(client, seed, (round, writer), u64::MAX, move || load.answered()));
    }
    let creator = tokio::spawn(create(server.client().await, round));
    let follower = tokio::spawn(watch(server.client().await, after));
    load.enough.notified().await;
    let dir = server.kill();
    let written = writers.join_all().await;
    let reached = follower.await.unwrap();
    assert!(reached >= after);
    (dir, Round { written, datasets: creator.await.unwrap() })
}

/// What was acknowledged is there; what was in flight is there whole or not, and a retry tells.
async fn check_round(client: &Client, found: &mut Found, round: Round) {
    let known = &mut found.known;
    let from = known.last();
    known.catch_up(client).await;
    known.is_whole(from);
    for writer in round.written {
        for (batch, positions) in &writer.acknowledged {
            known.has(batch, positions);
            found.acknowledged += positions.len() as u64;
        }
        let Some((batch, _)) = writer.in_flight else { continue };
        let (first, _) = batch.ids().next().unwrap();
        found.in_flight[usize::from(known.position_of(&first).is_none())] += 1;
        known.settle(client, &batch).await;
        found.acknowledged += batch.payloads.len() as u64;
    }
    for name in &round.datasets {
        client.dataset(name).await.unwrap_or_else(|status| panic!("`{name}`: {status}"));
    }
    found.datasets.extend(round.datasets);
    found.known.counts_agree(client).await;
    client.verify().await.unwrap();
}

/// What kills have left over on the disk is given back.
async fn is_small_again(client: &Client) {
    let before = client.status().await.unwrap().disk_bytes;
    client.compact().await.unwrap();
    let after = client.status().await.unwrap();
    let (bytes, live) = (after.disk_bytes - after.journal_bytes, after.live_bytes);
    eprintln!("{before} bytes on disk, {bytes} and a journal after compaction, {live} live");
    // The volume that is begun, the catalog and the table take some, however little they hold.
    assert!(bytes <= 2 * live + 32 * 1024 * 1024, "{bytes} of {live}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_event_survives_kill_9_and_no_batch_is_torn() {
    let kills: u64 = std::env::var("MILEPOST_KILLS").map_or(5, |it| it.parse().unwrap());
    let mut random = Random::seeded("crash", 20_261_123);
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("shop", PURCHASE).await.unwrap();
    let mut dir = server.kill();
    let mut found = Found::default();
    for round in 0..kills {
        let after = found.known.last();
        let (left, known_by_all) = load_until_killed(dir, &mut random, round, after).await;
        let server = Server::start_on(left);
        check_round(&server.client().await, &mut found, known_by_all).await;
        dir = server.kill();
        if (round + 1).is_multiple_of(10) {
            eprintln!("{} kills, {} events acknowledged", round + 1, found.acknowledged);
        }
    }
    // Nothing that an earlier round found has changed since.
    let server = Server::start_on(dir);
    let client = server.client().await;
    let mut again = Known::default();
    again.catch_up(&client).await;
    assert_eq!(again.events, found.known.events);
    again.counts_agree(&client).await;
    again.reads_agree(&client).await;
    for name in &found.datasets {
        client.dataset(name).await.unwrap();
    }
    is_small_again(&client).await;
    let [whole, absent] = found.in_flight;
    eprintln!(
        "{kills} kills: {} events acknowledged, all there; of the batches without an answer {whole} \
         were there whole and {absent} not at all; {} datasets",
        found.acknowledged,
        found.datasets.len()
    );
    assert!(found.acknowledged > 0);
}
