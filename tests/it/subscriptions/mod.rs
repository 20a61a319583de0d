//! Subscriptions over gRPC: consuming, admin, crashes, chaos.

mod admin;
mod chaos;
mod consuming;
mod dead_letters;
mod durable;
mod early;
mod example;
mod keep_alive;
mod parked;
mod scan_limit;
mod status;
mod upkeep;
mod work;
mod worker;

use std::{collections::HashMap, time::Duration};

use milepost::grpc::pb::{
    self, consume_request::Message as Request, consume_response::Message, outcome::Outcome as Said,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::support::{
    Client,
    errors::seen,
    events::{PURCHASE, purchase_text, purchases},
};

/// Longer than anything here takes; a message that has not come by then will not come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A consumer's stream, and what it sends.
struct Consumer {
    requests: mpsc::Sender<pb::ConsumeRequest>,
    responses: Streaming<pb::ConsumeResponse>,
    /// Events that came while something else was waited for.
    early: Vec<pb::Delivered>,
}

impl Consumer {
    async fn open(client: &Client, open: pb::consume_request::Open) -> Result<Self, Status> {
        let (requests, sent) = mpsc::channel(16);
        let first = pb::ConsumeRequest { message: Some(Request::Open(open)) };
        requests.send(first).await.unwrap();
        let stream = ReceiverStream::new(sent);
        let responses = client.subscriptions.clone().consume(stream).await?.into_inner();
        Ok(Self { requests, responses, early: Vec::new() })
    }

    async fn send(&self, request: Request) {
        self.requests.send(pb::ConsumeRequest { message: Some(request) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<Option<Message>, Status> {
        let message = tokio::time::timeout(PATIENCE, self.responses.message());
        let message = message.await.expect("no message came")?;
        Ok(message.map(|it| it.message.expect("an empty message")))
    }

    /// What `wanted` makes of the first message of which it makes something.
    async fn until<T>(&mut self, wanted: impl Fn(Message) -> Option<T>) -> T {
        loop {
            let message = self.next().await.unwrap().expect("the stream ended");
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    /// The next events, so many.
    async fn events(&mut self, count: usize) -> Vec<pb::Delivered> {
        let mut events = std::mem::take(&mut self.early);
        while events.len() < count {
            events.extend(
                self.until(|it| match it {
                    Message::Events(batch) => Some(batch.events),
                    _ => None,
                })
                .await,
            );
        }
        assert_eq!(events.len(), count, "{:?}", positions(&events));
        events
    }

    async fn say(&mut self, delivered: &[pb::Delivered], said: Said) -> Vec<pb::OutcomeResult> {
        let outcomes = delivered.iter().map(|it| outcome(it, said.clone())).collect();
        self.send(Request::Outcomes(pb::consume_request::Outcomes { outcomes })).await;
        let answered = loop {
            match self.next().await.unwrap().expect("the stream ended") {
                Message::OutcomeResults(results) => break results,
                Message::Events(batch) => self.early.extend(batch.events),
                _ => {}
            }
        };
        assert_eq!(answered.error, None);
        answered.results
    }

    /// Acknowledges, and is told that it counts.
    async fn ack(&mut self, delivered: &[pb::Delivered]) {
        let results = self.say(delivered, Said::Ack(pb::outcome::Ack {})).await;
        assert!(results.iter().all(is_ok), "{results:?}");
    }

    async fn ending(&mut self) -> pb::ConsumeEnding {
        self.until(|it| match it {
            Message::Ending(ending) => Some(ending),
            _ => None,
        })
        .await
    }
}

/// The metadata of an error, which must be this one.
fn expect(status: &Status, code: Code, reason: &str) -> HashMap<String, String> {
    let seen = seen(status);
    assert_eq!((status.code(), seen.reason.as_str()), (code, reason), "{status:?}");
    status.get_details_error_info().unwrap().metadata
}

fn is_ok(result: &pb::OutcomeResult) -> bool {
    result.state() == pb::outcome_result::State::Ok
}

fn outcome(delivered: &pb::Delivered, said: Said) -> pb::Outcome {
    pb::Outcome { ack_id: delivered.ack_id.clone(), outcome: Some(said) }
}

fn nack(delay_ms: i32) -> Said {
    let delay = prost_types::Duration { seconds: 0, nanos: delay_ms * 1_000_000 };
    Said::Nack(pb::outcome::Nack { delay: Some(delay), reason: "not now".into() })
}

fn open(subscription: &str, client_id: &str) -> pb::consume_request::Open {
    pb::consume_request::Open {
        subscription: subscription.into(),
        client_id: client_id.into(),
        ..Default::default()
    }
}

fn position(delivered: &pb::Delivered) -> u64 {
    delivered.event.as_ref().unwrap().position
}

fn positions(delivered: &[pb::Delivered]) -> Vec<u64> {
    delivered.iter().map(position).collect()
}

fn named(name: &str) -> pb::Subscription {
    pb::Subscription { name: name.into(), ..Default::default() }
}

#[expect(clippy::unnecessary_wraps, reason = "messages have it so")]
fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

async fn create(
    client: &Client,
    subscription: pb::Subscription,
) -> Result<pb::Subscription, Status> {
    let beginning = pb::start::Start::Beginning(pb::start::Beginning {});
    let request = pb::CreateSubscriptionRequest {
        subscription: Some(subscription),
        start: Some(pb::Start { start: Some(beginning) }),
        validate_only: false,
    };
    let created = client.subscriptions.clone().create_subscription(request).await?;
    Ok(created.into_inner().subscription.unwrap())
}

async fn status(client: &Client, name: &str) -> pb::SubscriptionStatus {
    let request = pb::GetSubscriptionRequest { name: name.into() };
    let got = client.subscriptions.clone().get_subscription(request).await.unwrap();
    got.into_inner().status.unwrap()
}

async fn pull(client: &Client, name: &str, events: u32) -> Vec<pb::Delivered> {
    let request = pb::PullRequest {
        subscription: name.into(),
        client_id: "puller".into(),
        max_events: events,
        wait: seconds(20),
        ..Default::default()
    };
    client.subscriptions.clone().pull(request).await.unwrap().into_inner().events
}

async fn resolve(
    client: &Client,
    name: &str,
    outcomes: Vec<pb::Outcome>,
) -> Result<Vec<pb::OutcomeResult>, Status> {
    let request = pb::ResolveRequest { subscription: name.into(), outcomes };
    Ok(client.subscriptions.clone().resolve(request).await?.into_inner().results)
}

/// What a journey of buyers listens for.
fn bought_definition() -> pb::EventDefinition {
    pb::EventDefinition {
        name: "bought".into(),
        schema_id: PURCHASE.into(),
        kind: pb::EventDefinitionKind::UnitaryRule.into(),
        condition: "commerce.order.priceTotal > 1.0".into(),
        namespace: "Email".into(),
        ..Default::default()
    }
}

/// A dataset with one purchase by each of these people, in order.
async fn bought(client: &Client, people: &[&str]) {
    purchases(client, "store").await;
    buy(client, "first", people).await;
}

async fn buy(client: &Client, batch: &str, people: &[&str]) {
    let events: Vec<_> = people
        .iter()
        .enumerate()
        .map(|(index, person)| purchase_text(&format!("{batch}-{index}"), person))
        .collect();
    client.append("store", &events).await.unwrap();
}
