//! A worker of the chaos test: consumes, and does everything wrong that a worker can; what it saw and said goes
//! to the judge.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use milepost::grpc::pb::{
    self, consume_request::Message as Request, consume_response::Message, outcome::Outcome as Said,
    outcome_result::State,
};

use super::{Consumer, open};
use crate::support::{
    Client,
    events::Random,
    judge::{History, Said as Told, Seen, Verdict, Word},
};

/// What all workers saw and said.
#[derive(Clone, Default)]
pub(super) struct Record(Arc<Mutex<History>>);

impl Record {
    pub(super) fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.0.lock().unwrap()
    }

    /// How many different events were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        let history = self.history();
        let done = history
            .said
            .iter()
            .filter(|it| matches!(it.word, Word::Ack | Word::Skip) && it.result == Verdict::Done);
        done.map(|it| it.position).collect::<BTreeSet<_>>().len()
    }

    fn saw(&self, consumer: &str, delivered: &pb::Delivered) {
        let deadline = delivered.lease_deadline.unwrap();
        self.history().seen.push(Seen {
            at: now(),
            position: super::position(delivered),
            consumer: consumer.to_owned(),
            epoch: delivered.fencing_epoch,
            attempt: delivered.total_attempts,
            deadline: deadline.seconds * 1_000_000 + i64::from(deadline.nanos / 1000),
            replay: delivered.replay,
        });
    }

    /// Notes what is about to be said, not knowing what will come of it; where it stands.
    fn says(&self, delivered: &pb::Delivered, word: Word) -> usize {
        let mut history = self.history();
        history.said.push(Told {
            sent: now(),
            position: super::position(delivered),
            epoch: delivered.fencing_epoch,
            attempt: delivered.total_attempts,
            word,
            result: Verdict::Unknown,
        });
        history.said.len() - 1
    }

    fn heard(&self, at: usize, result: &pb::OutcomeResult) {
        self.history().said[at].result = match result.state() {
            State::Ok => Verdict::Done,
            _ => Verdict::Stale,
        };
    }
}

/// Microseconds since 1970, by the clock that the server has, too.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

/// Works until the connection breaks, or it has a mind to stop. Each life is another consumer.
pub(super) async fn live(client: &Client, name: &str, record: &Record, random: &mut Random) {
    let credit = pb::ConsumerCredit {
        max_outstanding_events: u32::try_from(1 + random.below(40)).unwrap(),
        max_outstanding_bytes: 0,
    };
    let opening = pb::consume_request::Open {
        credit: Some(credit),
        instance: random.below(u64::MAX),
        ..open("chaos", name)
    };
    let Ok(mut consumer) = Consumer::open(client, opening).await else { return };
    let mut told: std::collections::VecDeque<Vec<usize>> = std::collections::VecDeque::new();
    let batches = 5 + random.below(60);
    for _ in 0..batches {
        let Ok(Ok(Some(message))) =
            tokio::time::timeout(Duration::from_millis(1_500), consumer.next()).await
        else {
            return;
        };
        match message {
            Message::Events(batch) => {
                for delivered in &batch.events {
                    record.saw(name, delivered);
                }
                let (outcomes, places) = judge(batch.events, record, random);
                if outcomes.is_empty() {
                    continue;
                }
                told.push_back(places);
                let request = Request::Outcomes(pb::consume_request::Outcomes { outcomes });
                let request = pb::ConsumeRequest { message: Some(request) };
                if consumer.requests.send(request).await.is_err() {
                    return;
                }
            }
            Message::OutcomeResults(results) => {
                let places = told.pop_front().expect("results without outcomes");
                for (at, result) in places.into_iter().zip(&results.results) {
                    record.heard(at, result);
                }
            }
            Message::Ending(_) => return,
            _ => {}
        }
        if random.below(200) == 0 {
            // It stalls for longer than its leases last.
            tokio::time::sleep(Duration::from_millis(1_200)).await;
        }
    }
}

/// What is said of these events, now or never.
fn judge(
    events: Vec<pb::Delivered>,
    record: &Record,
    random: &mut Random,
) -> (Vec<pb::Outcome>, Vec<usize>) {
    let (mut outcomes, mut places) = (Vec::new(), Vec::new());
    for delivered in events {
        let (said, word) = match random.below(100) {
            0..3 => {
                let delay = Some(prost_types::Duration {
                    seconds: 0,
                    nanos: i32::try_from(random.below(50_000_000)).unwrap(),
                });
                (Said::Nack(pb::outcome::Nack { delay, reason: "chaos".into() }), Word::Nack)
            }
            3 => continue, // forgotten: the lease ends
            4 => (Said::Skip(pb::outcome::Skip { reason: "chaos".into() }), Word::Skip),
            _ => (Said::Ack(pb::outcome::Ack {}), Word::Ack),
        };
        places.push(record.says(&delivered, word));
        outcomes.push(super::outcome(&delivered, said));
    }
    (outcomes, places)
}
