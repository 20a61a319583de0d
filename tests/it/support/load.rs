//! A load whose every event tells where it belongs, and what a reader of the log can check of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use milepost::grpc::pb::{self, append_result::Outcome};
use serde_json::json;
use tonic::Status;

use super::{
    Client,
    client::{by_identity, by_type, json_of, reading},
    events::Random,
};

/// The datasets that writers write to, under the purchase schema.
pub(crate) const DATASETS: [&str; 2] = ["web", "shop"];
const EVENT_TYPES: [&str; 3] = ["commerce.purchases", "commerce.order.placed", "web.visit"];
const PEOPLE: u64 = 40;

/// One batch as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) dataset: &'static str,
    pub(crate) mode: pb::AppendMode,
    pub(crate) payloads: Vec<String>,
}

impl Batch {
    /// Sends it.
    pub(crate) async fn append(&self, client: &Client) -> Result<pb::AppendEventsResponse, Status> {
        match self.mode {
            pb::AppendMode::PerEvent => client.append_each(self.dataset, &self.payloads).await,
            _ => client.append(self.dataset, &self.payloads).await,
        }
    }

    /// Whether it must be there whole or not at all.
    pub(crate) fn is_atomic(&self) -> bool {
        self.mode != pb::AppendMode::PerEvent
    }

    /// Id and hash of each event's payload.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (String, u64)> {
        self.payloads.iter().map(|payload| {
            let event: serde_json::Value = serde_json::from_str(payload).unwrap();
            (event["_id"].as_str().unwrap().to_owned(), hash(payload))
        })
    }
}

/// What an event carries besides what is looked at.
#[derive(Clone, Copy)]
pub(crate) enum Note {
    /// Up to so many bytes that compress well.
    Filler(u64),
    /// Up to so many bytes that do not.
    Noise(u64),
}

impl Note {
    fn text(self, random: &mut Random) -> String {
        match self {
            Self::Filler(bytes_max) => {
                "x".repeat(usize::try_from(random.below(bytes_max)).unwrap())
            }
            Self::Noise(bytes_max) => {
                let numbers = random.below(bytes_max) / 16;
                (0..numbers).map(|_| format!("{:016x}", random.below(u64::MAX))).collect()
            }
        }
    }
}

/// A batch of 1 to 200 events, now and then a few large ones. Every id names its batch and the batch's
/// size, so a torn batch shows; every fourth writer's events stand for themselves.
pub(crate) fn batch(random: &mut Random, round: u64, writer: u64, number: u64) -> Batch {
    let sizes = [1, 1, 1, 2, 2, 10, 10, 50, 200];
    let (size, note) = match random.below(10) {
        0 => (random.below(3) + 1, Note::Noise(400_000)),
        _ => (*random.one_of(&sizes), Note::Filler(2_000)),
    };
    sized_batch(random, (round, writer, number), size, note)
}

/// A batch of so many events.
pub(crate) fn sized_batch(
    random: &mut Random,
    (round, writer, number): (u64, u64, u64),
    size: u64,
    note: Note,
) -> Batch {
    let mode = if writer % 4 == 3 { pb::AppendMode::PerEvent } else { pb::AppendMode::Unspecified };
    let payloads = (0..size).map(|index| {
        let place = match mode {
            pb::AppendMode::PerEvent => format!("{number}-{index}.0/1"),
            _ => format!("{number}.{index}/{size}"),
        };
        json!({
            "_id": format!("r{round}-w{writer}-b{place}"),
            "timestamp": "2026-11-20T17:26:04Z",
            "eventType": random.one_of(&EVENT_TYPES),
            "identityMap": {"Email": [{"id": format!("p{}@x.y", random.below(PEOPLE))}],
                            "crm": [{"id": format!("{}", random.below(3))}]},
            "note": note.text(random),
        })
        .to_string()
    });
    let payloads = payloads.collect();
    Batch { dataset: DATASETS[usize::from(!writer.is_multiple_of(2))], mode, payloads }
}

/// The positions that an append was answered with.
pub(crate) fn positions(answer: &pb::AppendEventsResponse) -> Vec<u64> {
    answer.results.iter().map(|it| it.position).collect()
}

/// Whether every event had this outcome.
pub(crate) fn all(answer: &pb::AppendEventsResponse, wanted: Outcome) -> bool {
    answer.results.iter().all(|it| it.outcome() == wanted)
}

/// What a writer knows when it can go on no more.
pub(crate) struct Written {
    pub(crate) acknowledged: Vec<(Batch, Vec<u64>)>,
    /// Sent and not answered, or refused, with what the writer was told: there whole, or not at all.
    pub(crate) in_flight: Option<(Batch, Status)>,
}

/// Sends batches until one fails, or there were so many; tells of each answer.
pub(crate) async fn write(
    client: Client,
    mut random: Random,
    (round, writer): (u64, u64),
    batches_max: u64,
    answered: impl Fn(),
) -> Written {
    let mut acknowledged = Vec::new();
    for number in 0..batches_max {
        let batch = batch(&mut random, round, writer, number);
        let answer = match batch.append(&client).await {
            Ok(answer) => answer,
            Err(status) => return Written { acknowledged, in_flight: Some((batch, status)) },
        };
        assert!(all(&answer, Outcome::Appended), "{answer:?}");
        let positions = positions(&answer);
        assert!(positions.windows(2).all(|it| it[0] + 1 == it[1]), "not contiguous: {positions:?}");
        acknowledged.push((batch, positions));
        answered();
    }
    Written { acknowledged, in_flight: None }
}

/// The log as read back, and what follows from it.
#[derive(Default)]
pub(crate) struct Known {
    /// By position, from 1.
    pub(crate) ids: Vec<String>,
    pub(crate) payloads: Vec<u64>,
    by_identity: BTreeMap<(String, String), Vec<u64>>,
    by_type: BTreeMap<String, Vec<u64>>,
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Known {
    pub(crate) fn last(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Reads what is new; positions must go on without a hole.
    pub(crate) async fn catch_up(&mut self, client: &Client) {
        let request = pb::ReadEventsRequest { after: self.last(), ..Default::default() };
        for event in client.read(request).await.unwrap() {
            assert_eq!(event.position, self.last() + 1, "positions are dense");
            self.ids.push(event.event_id.clone());
            self.payloads.push(hash(json_of(&event)));
            for identity in event.identities {
                let place = (identity.namespace, identity.id);
                self.by_identity.entry(place).or_default().push(event.position);
            }
            self.by_type.entry(event.event_type).or_default().push(event.position);
        }
        let mut seen = HashSet::new();
        let twice = self.ids.iter().find(|id| !seen.insert(*id));
        assert_eq!(twice, None, "an event is stored twice");
    }

    /// The batch is at these positions, byte for byte.
    pub(crate) fn has(&self, batch: &Batch, positions: &[u64]) {
        for ((id, payload), position) in batch.ids().zip(positions) {
            let at = usize::try_from(*position).unwrap() - 1;
            assert!(at < self.payloads.len(), "acknowledged position {position} is lost");
            assert_eq!(self.ids[at], id, "position {position} has another event");
            assert_eq!(self.payloads[at], payload, "position {position} has another payload");
        }
    }

    /// Every event is one that was sent, byte for byte.
    pub(crate) fn was_sent(&self, sent: &HashMap<String, u64>) {
        for (id, payload) in self.ids.iter().zip(&self.payloads) {
            assert_eq!(sent.get(id), Some(payload), "`{id}` was not sent like this");
        }
    }

    /// No batch of the log is torn: all its events are there, side by side, in order.
    pub(crate) fn is_whole(&self, from: u64) {
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

    /// A batch without an answer is there whole or not at all, and a retry tells. Returns where it is
    /// now.
    pub(crate) async fn settle(&mut self, client: &Client, batch: &Batch) -> Vec<u64> {
        let stored = self.position_of(batch);
        let answer = batch.append(client).await.unwrap();
        let wanted = if stored.is_some() { Outcome::Duplicate } else { Outcome::Appended };
        if batch.is_atomic() {
            assert!(all(&answer, wanted), "{stored:?}: {answer:?}");
        }
        let positions = positions(&answer);
        assert!(stored.is_none_or(|it| it == positions[0]), "{stored:?}: {positions:?}");
        self.catch_up(client).await;
        self.has(batch, &positions);
        positions
    }

    /// Where a batch's first event is.
    pub(crate) fn position_of(&self, batch: &Batch) -> Option<u64> {
        let (first, _) = batch.ids().next().unwrap();
        self.ids.iter().zip(1..).find(|(id, _)| **id == first).map(|(_, position)| position)
    }

    /// Counts say what the log says.
    pub(crate) async fn counts_agree(&self, client: &Client) {
        assert_eq!(client.count(pb::EventFilter::default()).await.unwrap(), self.last());
        assert_eq!(client.last_position().await, self.last());
        for ((namespace, id), positions) in &self.by_identity {
            let count = client.count(by_identity(namespace, id)).await.unwrap();
            assert_eq!(count, positions.len() as u64, "{namespace}:{id}");
        }
        for (event_type, positions) in &self.by_type {
            let count = client.count(by_type(event_type)).await.unwrap();
            assert_eq!(count, positions.len() as u64, "{event_type}");
        }
        let under = self.by_type.range("commerce.".to_owned().."commerce/".to_owned());
        let under: usize = under.map(|(_, positions)| positions.len()).sum();
        assert_eq!(client.count(by_type("commerce.*")).await.unwrap(), under as u64);
        let mut of_datasets = 0;
        for name in DATASETS {
            // It may not have been created yet; then it has no events either.
            of_datasets += client.dataset(name).await.map_or(0, |it| it.stats.unwrap().events);
        }
        assert_eq!(of_datasets, self.last(), "events of the datasets");
    }

    /// Reads by identity and by type find what the log says.
    pub(crate) async fn reads_agree(&self, client: &Client) {
        let found = async |filter| {
            let mut request = reading(filter);
            request.set_payload_format(pb::PayloadFormat::None);
            let events = client.read(request).await.unwrap();
            events.iter().map(|it| it.position).collect::<Vec<_>>()
        };
        for ((namespace, id), positions) in &self.by_identity {
            assert_eq!(found(by_identity(namespace, id)).await, *positions, "{namespace}:{id}");
        }
        for (event_type, positions) in &self.by_type {
            assert_eq!(found(by_type(event_type)).await, *positions, "{event_type}");
        }
    }
}
