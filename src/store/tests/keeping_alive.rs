//! Who may renew leases.

use std::time::Duration;

use super::{harness::Harness, trimming::filled};
use crate::{
    delivery::{Answer, Credit, Outcome, Settings},
    model::{EventFilter, SubscriptionName},
    store::{
        AckId, Connect, Connection, ConsumeMessage, CreateSubscription, OutcomeResult, Start,
        Upkeep,
    },
};

const SECOND_US: i64 = 1_000_000;

/// A consumer of a subscription to one event, and what it is to acknowledge the event by.
pub(super) async fn consumer(harness: &Harness) -> (Connection, AckId) {
    let create = CreateSubscription {
        name: SubscriptionName::parse("name", "journey").unwrap(),
        description: String::new(),
        filter: EventFilter::default(),
        delivery: Settings::default(),
        ack_flush_interval: None,
        dead_letter_dataset: None,
        scan_limit: 0,
        upkeep: Upkeep::default(),
        start: Start::Beginning,
        validate_only: false,
    };
    harness.store.create_subscription(create).await.unwrap();
    let mut connection = harness.store.consume("journey", connect()).await.unwrap();
    loop {
        if let ConsumeMessage::Events(mut events) = connection.next().await.unwrap() {
            assert_eq!(events.len(), 1);
            return (connection, events.remove(0).ack_id);
        }
    }
}

fn connect() -> Connect {
    Connect {
        client_id: "one".to_owned(),
        instance: 1,
        credit: Credit { events: 1, bytes: 0 },
        heartbeat_interval: Duration::from_secs(10),
        ack_deadline: None,
        keep_alive: true,
    }
}

/// Acknowledges after the driver has looked at the clock; whether that counted.
async fn is_acknowledged(harness: &Harness, ack_id: AckId) -> bool {
    // Who connects wakes the driver, and the status is told after it.
    let other = Connect { client_id: "two".to_owned(), ..connect() };
    let mut other = harness.store.consume("journey", other).await.unwrap();
    while !matches!(other.next().await.unwrap(), ConsumeMessage::Checkpoint { .. }) {}
    let outcomes = vec![(ack_id, Outcome::Ack)];
    let resolved = harness.store.resolve_deliveries("journey", outcomes).await.unwrap();
    resolved.results == [OutcomeResult::Answer(Answer::Done)]
}

#[tokio::test]
async fn a_lease_is_renewed_by_the_connection_that_the_consumer_has_now() {
    let harness = filled(1).await;
    let (former, ack_id) = consumer(&harness).await;
    let current = harness.store.consume("journey", connect()).await.unwrap();
    harness.advance(20 * SECOND_US);
    current.handle().keep_alive().unwrap();
    harness.advance(20 * SECOND_US);
    assert!(is_acknowledged(&harness, ack_id).await);
    drop(former);
}

#[tokio::test]
async fn a_connection_whose_place_was_taken_renews_nothing() {
    let harness = filled(1).await;
    let (former, ack_id) = consumer(&harness).await;
    let current = harness.store.consume("journey", connect()).await.unwrap();
    harness.advance(20 * SECOND_US);
    former.handle().keep_alive().unwrap();
    harness.advance(20 * SECOND_US);
    assert!(!is_acknowledged(&harness, ack_id).await);
    drop(current);
}
