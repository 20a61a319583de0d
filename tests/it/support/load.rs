//! A load whose every event tells where it belongs; what a reader can check of it is in `known`.

use milepost::grpc::pb::{self, append_result::Outcome};
use serde_json::json;
use tonic::Status;

use super::{Client, events::Random, known::hash};

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
                let numbers: Vec<_> =
                    (0..numbers).map(|_| format!("{:016x}", random.below(u64::MAX))).collect();
                numbers.concat()
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
