//! Outcomes that are answered before they are durable.

use std::time::{Duration, Instant};

use milepost::grpc::pb::{self, AckDurability, outcome::Outcome as Said};
use tonic::Code;

use super::{
    Consumer, bought, create, expect, is_ok, named, open, outcome, positions, seconds, status,
};
use crate::support::{Client, Server};

/// Longer than a test takes, as a rule.
const LONG: Duration = Duration::from_secs(10);

async fn create_async(client: &Client, flush: Duration) -> pb::Subscription {
    let subscription = pb::Subscription {
        ack_durability: AckDurability::Async.into(),
        ack_flush_interval: prost_types::Duration::try_from(flush).ok(),
        ..named("journey")
    };
    create(client, subscription).await.unwrap()
}

/// Acknowledges by a call of its own; how durable that is.
async fn ack(client: &Client, delivered: &[pb::Delivered]) -> AckDurability {
    let ack = |it| outcome(it, Said::Ack(pb::outcome::Ack {}));
    let outcomes = delivered.iter().map(ack).collect();
    let request = pb::ResolveRequest { subscription: "journey".into(), outcomes };
    let answered = client.subscriptions.clone().resolve(request).await.unwrap().into_inner();
    assert!(answered.results.iter().all(is_ok), "{:?}", answered.results);
    answered.durability()
}

#[tokio::test]
async fn what_was_answered_early_may_be_lost_and_no_later_event_has_overtaken_it() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "ann", "bob"]).await;
    let made = create_async(&client, LONG).await;
    assert_eq!(made.ack_durability(), AckDurability::Async);
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(2).await;
    assert_eq!(positions(&first), [1, 3]);
    let began = Instant::now();
    assert_eq!(ack(&client, &first).await, AckDurability::Async);
    assert_eq!(status(&client, "journey").await.lag_events, 1);
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let lost = began.elapsed() < LONG;
    let again = consumer.events(if lost { 2 } else { 1 }).await;
    // The second one has waited until the first is durably done.
    assert_eq!(positions(&again), if lost { vec![1, 3] } else { vec![2] });
    assert_eq!(again[0].attempt, 1);
}

#[tokio::test]
async fn what_was_answered_early_is_durable_soon_and_then_its_lane_goes_on() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "ann"]).await;
    create_async(&client, Duration::from_millis(1)).await;
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    consumer.ack(&first).await;
    assert_eq!(positions(&consumer.events(1).await), [2]);
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    assert_eq!(positions(&consumer.events(1).await), [2]);
}

#[tokio::test]
async fn an_orderly_end_loses_no_outcome() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "ann"]).await;
    create_async(&client, LONG).await;
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    assert_eq!(ack(&client, &first).await, AckDurability::Async);
    server.terminate();
    let (ended, dir) = server.wait().await;
    assert!(ended.success());
    let server = Server::start_on(dir);
    let client = server.client().await;
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    assert_eq!(positions(&consumer.events(1).await), [2]);
}

#[tokio::test]
async fn how_durable_outcomes_are_can_be_changed_and_is_told() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob"]).await;
    let bad = |interval, durability: AckDurability| pb::Subscription {
        ack_durability: durability.into(),
        ack_flush_interval: interval,
        ..named("journey")
    };
    for wrong in [bad(seconds(11), AckDurability::Async), bad(seconds(1), AckDurability::Sync)] {
        let refused = create(&client, wrong).await.unwrap_err();
        expect(&refused, Code::InvalidArgument, "ARGUMENT_INVALID");
    }
    let made = create(&client, bad(None, AckDurability::Async)).await.unwrap();
    let flush = made.ack_flush_interval.unwrap();
    assert_eq!((flush.seconds, flush.nanos), (0, 200_000_000));
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let delivered = consumer.events(2).await;
    assert_eq!(ack(&client, &delivered[..1]).await, AckDurability::Async);
    let request = pb::UpdateSubscriptionRequest {
        subscription: Some(named("journey")),
        update_mask: Some(prost_types::FieldMask { paths: vec!["ack_durability".into()] }),
        validate_only: false,
    };
    let changed = client.subscriptions.clone().update_subscription(request).await.unwrap();
    let changed = changed.into_inner().subscription.unwrap();
    assert_eq!((changed.ack_durability(), changed.ack_flush_interval), (AckDurability::Sync, None));
    assert_eq!(ack(&client, &delivered[1..]).await, AckDurability::Sync);
    // Both are: the change was a write.
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(status(&client, "journey").await.lag_events, 0);
}
