//! Leases that a client renews as long as it is alive.

use std::time::Duration;

use milepost::grpc::pb::{
    self,
    consume_request::{KeepAlive, Message as Request},
    outcome::Outcome as Said,
    outcome_result::{Current, State},
};
use tokio::time::sleep;
use tonic::Code;

use super::{Consumer, bought, create, expect, named, open, position, seconds, status};
use crate::support::{Server, server::milepost};

/// A subscription whose leases are short, and failures of which come again at once.
fn impatient() -> pb::Subscription {
    let backoff = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    pb::Subscription { ack_deadline: seconds(1), min_backoff: backoff, ..named("journey") }
}

fn lively(client_id: &str) -> pb::consume_request::Open {
    pb::consume_request::Open { keep_alive: true, ..open("journey", client_id) }
}

/// Is alive for three times as long as a lease lasts.
async fn live(consumer: &Consumer) {
    for _ in 0..12 {
        sleep(Duration::from_millis(250)).await;
        consumer.send(Request::KeepAlive(KeepAlive {})).await;
    }
}

#[tokio::test]
async fn leases_last_as_long_as_their_consumer_says_that_it_is_alive() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob"]).await;
    create(&client, impatient()).await.unwrap();
    let mut consumer = Consumer::open(&client, lively("one")).await.unwrap();
    let first = consumer.events(2).await;
    live(&consumer).await;
    let at = status(&client, "journey").await;
    assert_eq!((at.in_flight, at.failed_total), (2, 0));
    consumer.ack(&first[..1]).await;
    // Silence ends them, and that counts.
    let again = consumer.events(1).await;
    assert_eq!((position(&again[0]), again[0].attempt), (2, 2));
    consumer.send(Request::KeepAlive(KeepAlive {})).await;
    let late = consumer.say(&first[1..], Said::Ack(pb::outcome::Ack {})).await;
    assert_eq!((late[0].state(), late[0].current()), (State::Stale, Current::InFlight));
}

#[tokio::test]
async fn a_consumer_that_did_not_ask_for_it_cannot_renew_its_leases() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    consumer.events(1).await;
    consumer.send(Request::KeepAlive(KeepAlive {})).await;
    assert_eq!(consumer.ending().await.reason(), pb::consume_ending::Reason::Error);
    let refused = consumer.next().await.unwrap_err();
    expect(&refused, Code::InvalidArgument, "ARGUMENT_INVALID");
}

#[tokio::test]
async fn a_command_has_its_event_until_it_ends() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "cid", "dan"]).await;
    create(&client, impatient()).await.unwrap();
    let consume = |limit: &str, keep_alive: &[&str]| {
        let mut command = milepost();
        command.args(["consume", "journey", "--server", server.address()]);
        command.args(["--parallel", "2", "--limit", limit, "--exec", "sleep 2.5"]);
        command.args(keep_alive);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let kept = consume("3", &["--keep-alive"]).await.unwrap();
    assert!(kept.status.success(), "{kept:?}");
    let at = status(&client, "journey").await;
    assert_eq!((at.resolved_total, at.failed_total, at.in_flight), (3, 0, 0));
    let lost = consume("1", &[]).await.unwrap();
    assert!(String::from_utf8_lossy(&lost.stderr).contains("1 leases were over"), "{lost:?}");
}
