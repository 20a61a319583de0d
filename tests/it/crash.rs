//! `kill -9` in the middle of a load: what was acknowledged is there, and nothing is torn.
//!
//! `MILEPOST_KILLS=50 cargo test --test it crash` is the long form.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use milepost::grpc::pb::{self, append_result::Outcome};
use serde_json::json;
use tokio::{sync::Notify, task::JoinSet};

use crate::support::{
    Client, Server,
    client::{by_identity, by_type, json_of, reading},
    events::{PURCHASE, Random, purchases},
    server::Dir,
};

const WRITERS: u64 = 8;
const PEOPLE: u64 = 40;

/// One batch as it was sent.
#[derive(Clone)]
struct Batch {
    dataset: &'static str,
    payloads: Vec<String>,
}

/// What a writer knows when the server is gone.
struct Written {
    acknowledged: Vec<(Batch, Vec<u64>)>,
    /// Sent and not answered: there whole, or not at all.
    in_flight: Option<Batch>,
}

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

/// Every id names its batch and the batch's size, so a torn batch shows.
fn batch(random: &mut Random, round: u64, writer: u64, number: u64) -> Batch {
    let size = [1, 1, 2, 10, 50, 200][usize::try_from(random.below(6)).unwrap()];
    let payloads = (0..size).map(|index| {
        let note = "x".repeat(usize::try_from(random.below(2_000)).unwrap());
        let event_type = ["commerce.purchases", "commerce.order.placed", "web.visit"]
            [usize::try_from(random.below(3)).unwrap()];
        json!({
            "_id": format!("r{round}-w{writer}-b{number}.{index}/{size}"),
            "timestamp": "2026-11-20T17:26:04Z",
            "eventType": event_type,
            "identityMap": {"Email": [{"id": format!("p{}@x.y", random.below(PEOPLE))}],
                            "crm": [{"id": format!("{}", random.below(3))}]},
            "note": note,
        })
        .to_string()
    });
    let payloads = payloads.collect();
    Batch { dataset: if writer.is_multiple_of(2) { "web" } else { "shop" }, payloads }
}

async fn write(
    client: Client,
    load: Arc<Load>,
    mut random: Random,
    round: u64,
    writer: u64,
) -> Written {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let batch = batch(&mut random, round, writer, number);
        let Ok(answer) = client.append(batch.dataset, &batch.payloads).await else {
            return Written { acknowledged, in_flight: Some(batch) };
        };
        let positions: Vec<u64> = answer.results.iter().map(|it| it.position).collect();
        assert!(answer.results.iter().all(|it| it.outcome() == Outcome::Appended), "{answer:?}");
        assert!(positions.windows(2).all(|it| it[0] + 1 == it[1]), "not contiguous: {positions:?}");
        acknowledged.push((batch, positions));
        if load.acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == load.kill_after {
            load.enough.notify_one();
        }
    }
    unreachable!("the server is killed")
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

/// The log as read back, and what has been checked of it.
#[derive(Default)]
struct Known {
    /// By position, from 1.
    ids: Vec<String>,
    payloads: Vec<u64>,
    by_identity: BTreeMap<(String, String), u64>,
    by_type: BTreeMap<String, u64>,
    acknowledged: u64,
    /// Batches without an answer: found whole, and not found.
    in_flight: [u64; 2],
    datasets: Vec<String>,
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Known {
    fn last(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Reads what is new; positions must go on without a hole.
    async fn catch_up(&mut self, client: &Client) {
        let request = pb::ReadEventsRequest { after: self.last(), ..Default::default() };
        for event in client.read(request).await.unwrap() {
            assert_eq!(event.position, self.last() + 1, "positions are dense");
            self.ids.push(event.event_id.clone());
            self.payloads.push(hash(json_of(&event)));
            for identity in event.identities {
                *self.by_identity.entry((identity.namespace, identity.id)).or_default() += 1;
            }
            *self.by_type.entry(event.event_type).or_default() += 1;
        }
    }

    /// The batch is at these positions, byte for byte.
    fn has(&self, batch: &Batch, positions: &[u64]) {
        for (payload, position) in batch.payloads.iter().zip(positions) {
            let at = usize::try_from(*position).unwrap() - 1;
            assert!(at < self.payloads.len(), "acknowledged position {position} is lost");
            assert_eq!(self.payloads[at], hash(payload), "position {position} has another payload");
        }
    }

    /// No batch of the log is torn: all its events are there, side by side, in order.
    fn is_whole(&self, from: u64) {
        let mut at = usize::try_from(from).unwrap();
        while at < self.ids.len() {
            let (batch, rest) = self.ids[at].split_once('.').unwrap();
            let (index, size) = rest.split_once('/').unwrap();
            let size: usize = size.parse().unwrap();
            assert_eq!(index, "0", "a batch starts in its middle: {}", self.ids[at]);
            for index in 0..size {
                let wanted = format!("{batch}.{index}/{size}");
                assert_eq!(self.ids.get(at + index), Some(&wanted), "a torn batch");
            }
            at += size;
        }
    }

    /// Indexes and counts say what the log says.
    async fn indexes_agree(&self, client: &Client) {
        assert_eq!(client.count(pb::EventFilter::default()).await.unwrap(), self.last());
        for ((namespace, id), count) in &self.by_identity {
            let filter = by_identity(namespace, id);
            assert_eq!(client.count(filter).await.unwrap(), *count, "{namespace}:{id}");
        }
        for (event_type, count) in &self.by_type {
            assert_eq!(client.count(by_type(event_type)).await.unwrap(), *count, "{event_type}");
        }
        let under: u64 = self
            .by_type
            .range("commerce.".to_owned().."commerce/".to_owned())
            .map(|(_, it)| it)
            .sum();
        assert_eq!(client.count(by_type("commerce.*")).await.unwrap(), under);
        let of_dataset = |it: pb::Dataset| it.stats.unwrap().events;
        let datasets = of_dataset(client.dataset("web").await.unwrap())
            + of_dataset(client.dataset("shop").await.unwrap());
        assert_eq!(datasets, self.last());
        let (mut unique, mut seen) = (0, BTreeSet::new());
        for id in &self.ids {
            unique += usize::from(seen.insert(id));
        }
        assert_eq!(unique, self.ids.len(), "an event is stored twice");
    }
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
        writers.spawn(write(client, Arc::clone(&load), seed, round, writer));
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
async fn check_round(client: &Client, known: &mut Known, round: Round) {
    let from = known.last();
    known.catch_up(client).await;
    known.is_whole(from);
    let place: HashMap<String, u64> = known
        .ids
        .iter()
        .zip(1..)
        .skip(usize::try_from(from).unwrap())
        .map(|(id, at)| (id.clone(), at))
        .collect();
    for writer in round.written {
        for (batch, positions) in &writer.acknowledged {
            known.has(batch, positions);
            known.acknowledged += positions.len() as u64;
        }
        let Some(batch) = writer.in_flight else { continue };
        let first: serde_json::Value = serde_json::from_str(&batch.payloads[0]).unwrap();
        let stored = place.get(first["_id"].as_str().unwrap()).copied();
        let answer = client.append(batch.dataset, &batch.payloads).await.unwrap();
        known.in_flight[usize::from(stored.is_none())] += 1;
        let wanted = if stored.is_some() { Outcome::Duplicate } else { Outcome::Appended };
        assert!(answer.results.iter().all(|it| it.outcome() == wanted), "{stored:?}: {answer:?}");
        let positions: Vec<u64> = answer.results.iter().map(|it| it.position).collect();
        assert!(stored.is_none_or(|it| it == positions[0]), "{stored:?}: {positions:?}");
        known.catch_up(client).await;
        known.has(&batch, &positions);
        known.acknowledged += positions.len() as u64;
    }
    for name in &round.datasets {
        client.dataset(name).await.unwrap_or_else(|status| panic!("`{name}`: {status}"));
    }
    known.datasets.extend(round.datasets);
    known.indexes_agree(client).await;
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
    let mut known = Known::default();
    for round in 0..kills {
        let (left, known_by_all) = load_until_killed(dir, &mut random, round, known.last()).await;
        let server = Server::start_on(left);
        check_round(&server.client().await, &mut known, known_by_all).await;
        dir = server.kill();
    }
    // Nothing that an earlier round found has changed since.
    let server = Server::start_on(dir);
    let client = server.client().await;
    let mut again = Known::default();
    again.catch_up(&client).await;
    assert_eq!(again.ids, known.ids);
    assert_eq!(again.payloads, known.payloads);
    again.indexes_agree(&client).await;
    for name in &known.datasets {
        client.dataset(name).await.unwrap();
    }
    let by_one = client.read(reading(by_identity("Email", "p1@x.y"))).await.unwrap();
    assert!(by_one.windows(2).all(|it| it[0].position < it[1].position));
    let [whole, absent] = known.in_flight;
    eprintln!(
        "{kills} kills: {} events acknowledged, all there; of the batches without an answer {whole} \
         were there whole and {absent} not at all; {} datasets",
        known.acknowledged,
        known.datasets.len()
    );
    assert!(known.acknowledged > 0);
}
