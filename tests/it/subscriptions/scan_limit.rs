//! How fast a subscription may catch up.

use std::time::{Duration, Instant};

use milepost::grpc::pb::{self, consume_response::Message};

use super::{Consumer, bought, buy, create, named, open, positions};
use crate::{
    cli::check,
    support::{Client, Server, client::by_identity},
};

/// Its events, in any order, each by whoever.
fn limited(name: &str, scan_limit_per_second: u32) -> pb::Subscription {
    let ordering = pb::Ordering::Unordered.into();
    pb::Subscription { ordering, scan_limit_per_second, ..named(name) }
}

async fn caught_up(consumer: &mut Consumer) -> u64 {
    let caught_up = consumer.until(|it| match it {
        Message::CaughtUp(it) => Some(it.position),
        _ => None,
    });
    caught_up.await
}

async fn set_limit(client: &Client, name: &str, scan_limit_per_second: u32) -> pb::Subscription {
    let request = pb::UpdateSubscriptionRequest {
        subscription: Some(limited(name, scan_limit_per_second)),
        update_mask: Some(prost_types::FieldMask { paths: vec!["scan_limit_per_second".into()] }),
        validate_only: false,
    };
    let updated = client.subscriptions.clone().update_subscription(request).await.unwrap();
    updated.into_inner().subscription.unwrap()
}

#[tokio::test]
async fn a_subscription_that_catches_up_looks_at_no_more_events_than_it_may() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"; 400]).await;
    create(&client, limited("free", 0)).await.unwrap();
    let mut free = Consumer::open(&client, open("free", "one")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(caught_up(&mut free).await, 400);
    let unlimited = begun.elapsed();

    let made = create(&client, limited("slow", 100)).await.unwrap();
    assert_eq!(made.scan_limit_per_second, 100);
    let mut slow = Consumer::open(&client, open("slow", "one")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(caught_up(&mut slow).await, 400);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(3_500), "{took:?}, without a limit {unlimited:?}");

    // Events that no index finds cost as much, whether they are selected or not.
    let filter = pb::EventFilter { r#where: "1 > 2".into(), ..Default::default() };
    let none = pb::Subscription { filter: Some(filter), ..limited("none", 200) };
    create(&client, none).await.unwrap();
    let mut none = Consumer::open(&client, open("none", "one")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(caught_up(&mut none).await, 400);
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "{:?}", begun.elapsed());

    // Once it has caught up, events come as they are stored.
    let begun = Instant::now();
    buy(&client, "second", &["bob"; 300]).await;
    let mut seen = 0;
    while seen < 300 {
        let events = slow.until(|it| match it {
            Message::Events(batch) => Some(batch.events),
            _ => None,
        });
        let events = positions(&events.await);
        seen += events.iter().filter(|it| **it > 400).count();
    }
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_an_index_passes_over_costs_nothing() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"; 400]).await;
    buy(&client, "second", &["bob"; 3]).await;
    let filter = Some(by_identity("Email", "bob"));
    create(&client, pb::Subscription { filter, ..limited("bob", 10) }).await.unwrap();
    let mut consumer = Consumer::open(&client, open("bob", "one")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(caught_up(&mut consumer).await, 403);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_limit_is_kept_through_a_restart_and_changed_at_once() {
    let server = Server::start();
    bought(&server.client().await, &["ann"; 400]).await;
    let create = ["subscription", "create", "slow", "--from", "beginning", "--scan-limit", "2"];
    check(&server, &create, 0, &["2/s"]);
    let server = Server::start_on(server.kill());
    check(&server, &["subscription", "show", "slow"], 0, &["scan limit", "2/s"]);
    let client = server.client().await;
    let mut consumer = Consumer::open(&client, open("slow", "one")).await.unwrap();
    let begun = Instant::now();
    let first = consumer.until(|it| match it {
        Message::Checkpoint(it) => Some(it.position),
        _ => None,
    });
    assert!(first.await < 10);
    assert_eq!(set_limit(&client, "slow", 0).await.scan_limit_per_second, 0);
    assert_eq!(caught_up(&mut consumer).await, 400);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    check(&server, &["subscription", "show", "slow"], 0, &["scan limit", "none"]);
}
