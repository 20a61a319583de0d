//! Delivering, and what becomes of it.

use milepost::grpc::pb::{
    self,
    consume_ending::Reason,
    consume_request::Message as Request,
    consume_response::Message,
    outcome::Outcome as Said,
    outcome_result::{Current, State},
};
use tonic::Code;

use super::{
    Consumer, bought, buy, create, expect, is_ok, nack, named, open, outcome, position, positions,
    pull, resolve, seconds, status,
};
use crate::support::Server;

#[tokio::test]
async fn a_person_waits_for_their_own_events_and_for_nobody_elses() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "ann", "cid", "bob"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let Message::Started(started) = consumer.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!(started.subscription.unwrap().name, "journey");
    let first = consumer.events(3).await;
    assert_eq!(positions(&first), [1, 2, 4]);
    assert_eq!(first[0].dedupe_key, "journey/1");
    assert_eq!((first[0].attempt, first[0].total_attempts, first[0].replay), (1, 1, false));
    consumer.ack(&first[..1]).await;
    let second = consumer.events(1).await;
    assert_eq!(positions(&second), [3]);
    consumer.ack(&first[1..]).await;
    let third = consumer.events(1).await;
    assert_eq!(positions(&third), [5]);
    consumer.ack(&[second, third].concat()).await;
    // New events come without being asked for.
    buy(&client, "second", &["dan"]).await;
    let live = consumer.events(1).await;
    assert_eq!(positions(&live), [6]);
    consumer.ack(&live).await;
    let status = status(&client, "journey").await;
    assert_eq!((status.floor_position, status.lag_events, status.in_flight), (6, 0, 0));
    assert_eq!(status.resolved_total, 6);
}

#[tokio::test]
async fn what_was_refused_is_told_after_the_answers_to_what_came_before() {
    let server = Server::start();
    let client = server.client().await;
    let customers: Vec<_> = (0..30).map(|it| format!("customer-{it}")).collect();
    bought(&client, &customers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let events = consumer.events(customers.len()).await;
    let answer = |it| match it {
        Message::OutcomeResults(answer) => Some(answer),
        _ => None,
    };
    for event in &events {
        let outcomes = vec![outcome(event, Said::Ack(pb::outcome::Ack {}))];
        for outcomes in [outcomes, Vec::new()] {
            let outcomes = pb::consume_request::Outcomes { outcomes };
            consumer.send(Request::Outcomes(outcomes)).await;
        }
    }
    for _ in &events {
        let applied = consumer.until(answer).await;
        assert!(applied.error.is_none() && applied.results.iter().all(is_ok), "{applied:?}");
        let refused = consumer.until(answer).await;
        assert!(refused.error.is_some() && refused.results.is_empty(), "{refused:?}");
    }
}

#[tokio::test]
async fn a_failed_attempt_comes_again_with_its_history_and_then_is_parked() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "ann"]).await;
    let subscription = pb::Subscription { max_attempts: Some(2), ..named("journey") };
    create(&client, subscription).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    assert!(is_ok(&consumer.say(&first, nack(1)).await[0]));
    let again = consumer.events(1).await;
    assert_eq!((position(&again[0]), again[0].attempt), (1, 2));
    let failure = &again[0].previous_failures[0];
    assert_eq!((failure.client_id.as_str(), failure.reason.as_str()), ("one", "not now"));
    assert_eq!(again[0].first_delivered_at, first[0].first_delivered_at);
    // The first attempt is over.
    let late = consumer.say(&first, Said::Ack(pb::outcome::Ack {})).await;
    assert_eq!((late[0].state(), late[0].current()), (State::Stale, Current::InFlight));
    assert!(is_ok(&consumer.say(&again, nack(1)).await[0]));
    assert_eq!(positions(&consumer.events(1).await), [2]);
    let request = pb::ListParkedRequest { subscription: "journey".into(), ..Default::default() };
    let parked = client.subscriptions.clone().list_parked(request).await.unwrap().into_inner();
    assert_eq!(parked.parked.len(), 1);
    let parked = &parked.parked[0];
    assert_eq!((parked.position, parked.total_attempts), (1, 2));
    assert_eq!(parked.parked_by(), pb::parked_event::By::ServerMaxAttempts);
    assert_eq!(parked.event.as_ref().unwrap().event_id, "first-0");
}

#[tokio::test]
async fn a_lease_that_ends_without_an_outcome_counts_as_a_failure() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    let backoff = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    let subscription =
        pb::Subscription { ack_deadline: seconds(1), min_backoff: backoff, ..named("journey") };
    create(&client, subscription).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    let again = consumer.events(1).await;
    assert_eq!((position(&again[0]), again[0].attempt), (1, 2));
    let kind = again[0].previous_failures[0].kind();
    assert_eq!(kind, pb::delivery_failure::Kind::Expired);
    let extend = Said::Extend(pb::outcome::Extend { by: seconds(600) });
    let extended = consumer.say(&again, extend).await;
    assert!(extended[0].lease_deadline.unwrap().seconds > first[0].lease_deadline.unwrap().seconds);
    consumer.ack(&again).await;
}

#[tokio::test]
async fn the_same_outcome_again_is_no_error() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    consumer.ack(&first).await;
    consumer.ack(&first).await;
    let skip = Said::Skip(pb::outcome::Skip::default());
    let other = consumer.say(&first, skip).await;
    assert_eq!((other[0].state(), other[0].current()), (State::Stale, Current::Resolved));
    let mut broken = outcome(&first[0], Said::Ack(pb::outcome::Ack {}));
    broken.ack_id[5] ^= 1;
    let results = resolve(&client, "journey", vec![broken]).await.unwrap();
    assert_eq!(results[0].state(), State::Unknown);
}

#[tokio::test]
async fn pull_and_resolve_do_what_the_stream_does() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "ann"]).await;
    create(&client, named("journey")).await.unwrap();
    let first = pull(&client, "journey", 10).await;
    assert_eq!(positions(&first), [1, 2]);
    let ack = |it: &pb::Delivered| outcome(it, Said::Ack(pb::outcome::Ack {}));
    let results = resolve(&client, "journey", first.iter().map(ack).collect()).await.unwrap();
    assert!(results.iter().all(is_ok), "{results:?}");
    let second = pull(&client, "journey", 10).await;
    assert_eq!(positions(&second), [3]);
    resolve(&client, "journey", second.iter().map(ack).collect()).await.unwrap();
    let request = pb::PullRequest {
        subscription: "journey".into(),
        client_id: "puller".into(),
        ..Default::default()
    };
    let nothing = client.subscriptions.clone().pull(request).await.unwrap().into_inner();
    assert!(nothing.events.is_empty());
}

#[tokio::test]
async fn credit_bounds_what_a_consumer_has() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "cid"]).await;
    create(&client, named("journey")).await.unwrap();
    let credit = pb::ConsumerCredit { max_outstanding_events: 1, max_outstanding_bytes: 0 };
    let opening = pb::consume_request::Open { credit: Some(credit), ..open("journey", "one") };
    let mut consumer = Consumer::open(&client, opening).await.unwrap();
    let first = consumer.events(1).await;
    assert_eq!(status(&client, "journey").await.in_flight, 1);
    consumer.ack(&first).await;
    let second = consumer.events(1).await;
    assert_eq!(positions(&second), [2]);
    // More from now on.
    let credit = pb::ConsumerCredit { max_outstanding_events: 5, max_outstanding_bytes: 0 };
    consumer.send(Request::Credit(credit)).await;
    assert_eq!(positions(&consumer.events(1).await), [3]);
}

#[tokio::test]
async fn a_consumer_that_drains_finishes_and_others_go_on() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut one = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = one.events(2).await;
    one.send(Request::Drain(pb::consume_request::Drain { give_back: false })).await;
    one.ack(&first[..1]).await;
    one.ack(&first[1..]).await;
    assert_eq!(one.ending().await.reason(), Reason::Drained);
    assert_eq!(one.next().await.unwrap(), None);
    buy(&client, "second", &["cid"]).await;
    let mut two = Consumer::open(&client, open("journey", "two")).await.unwrap();
    let second = two.events(1).await;
    two.send(Request::Drain(pb::consume_request::Drain { give_back: true })).await;
    assert_eq!(two.ending().await.reason(), Reason::Drained);
    let mut three = Consumer::open(&client, open("journey", "three")).await.unwrap();
    let again = three.events(1).await;
    assert_eq!((position(&again[0]), again[0].attempt), (position(&second[0]), 1));
}

#[tokio::test]
async fn a_stream_that_breaks_may_be_resumed_with_its_leases() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut before = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = before.events(1).await;
    // The same client and instance takes over its own stream.
    let mut after = Consumer::open(&client, open("journey", "one")).await.unwrap();
    assert_eq!(before.ending().await.reason(), Reason::Replaced);
    let Message::Started(started) = after.next().await.unwrap().unwrap() else { panic!() };
    assert!(started.resumed);
    after.ack(&first).await;
}

#[tokio::test]
async fn progress_is_told_without_matches() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"; 5]).await;
    let filter = crate::support::client::by_type("commerce.other");
    create(&client, pb::Subscription { filter: Some(filter), ..named("quiet") }).await.unwrap();
    let opening =
        pb::consume_request::Open { heartbeat_interval: seconds(1), ..open("quiet", "one") };
    let mut consumer = Consumer::open(&client, opening).await.unwrap();
    let caught_up = consumer.until(|it| match it {
        Message::CaughtUp(it) => Some(it.position),
        _ => None,
    });
    assert_eq!(caught_up.await, 5);
    let checkpoint = consumer.until(|it| match it {
        Message::Checkpoint(it) => Some(it),
        _ => None,
    });
    let checkpoint = checkpoint.await;
    assert_eq!((checkpoint.position, checkpoint.floor_position), (5, 5));
    let beat = consumer.until(|it| match it {
        Message::Heartbeat(it) => Some(it),
        _ => None,
    });
    let beat = beat.await;
    assert_eq!((beat.position, beat.lag), (5, 0));
    assert_eq!(status(&client, "quiet").await.floor_position, 5);
}

#[tokio::test]
async fn a_trim_does_not_hold_up_a_subscription() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "ann", "ann"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    // The second one is known already and is gone when it is its turn.
    client.trim("store", 3).await.unwrap();
    consumer.ack(&first).await;
    let third = consumer.events(1).await;
    assert_eq!(positions(&third), [3]);
    consumer.ack(&third).await;
    assert_eq!(status(&client, "journey").await.floor_position, 3);
}

#[tokio::test]
async fn what_a_subscription_missed_is_told_as_a_gap() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "ann", "ann", "ann"]).await;
    let short = seconds(1);
    let subscription =
        pb::Subscription { ack_deadline: short, session_timeout: short, ..named("journey") };
    create(&client, subscription).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    consumer.ack(&first).await;
    assert_eq!(positions(&consumer.events(1).await), [2]);
    drop(consumer);
    // Of what was read ahead, and of what is delivered.
    client.trim("store", 4).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "two")).await.unwrap();
    let gap = consumer.until(|it| match it {
        Message::Gap(gap) => Some((gap.from, gap.to)),
        Message::Events(batch) => panic!("{:?} before the gap", positions(&batch.events)),
        _ => None,
    });
    assert_eq!(gap.await, (2, 3));
    assert_eq!(positions(&consumer.events(1).await), [4]);
}

#[tokio::test]
async fn in_total_order_everything_up_to_a_position_is_acknowledged_at_once() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "cid", "dan"]).await;
    let subscription = pb::Subscription {
        ordering: pb::Ordering::Total.into(),
        max_in_flight_per_lane: 3,
        ..named("all")
    };
    create(&client, subscription).await.unwrap();
    let mut consumer = Consumer::open(&client, open("all", "one")).await.unwrap();
    assert_eq!(positions(&consumer.events(3).await), [1, 2, 3]);
    consumer.send(Request::AckUpTo(3)).await;
    assert_eq!(positions(&consumer.events(1).await), [4]);
    assert_eq!(status(&client, "all").await.floor_position, 3);
}

#[tokio::test]
async fn every_end_has_a_reason() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    for name in ["deleted", "sought", "shut"] {
        create(&client, named(name)).await.unwrap();
    }
    let mut deleted = Consumer::open(&client, open("deleted", "one")).await.unwrap();
    deleted.events(1).await;
    let request = pb::DeleteSubscriptionRequest { name: "deleted".into(), etag: String::new() };
    client.subscriptions.clone().delete_subscription(request).await.unwrap();
    assert_eq!(deleted.ending().await.reason(), Reason::SubscriptionDeleted);
    let status = deleted.next().await.unwrap_err();
    expect(&status, Code::NotFound, "SUBSCRIPTION_NOT_FOUND");

    let mut sought = Consumer::open(&client, open("sought", "one")).await.unwrap();
    sought.events(1).await;
    let start = pb::start::Start::AfterPosition(0);
    let request = pb::SeekSubscriptionRequest {
        name: "sought".into(),
        target: Some(pb::seek_subscription_request::Target::Start(pb::Start {
            start: Some(start),
        })),
        ..Default::default()
    };
    client.subscriptions.clone().seek_subscription(request).await.unwrap();
    assert_eq!(sought.ending().await.reason(), Reason::Seek);
    assert_eq!(sought.next().await.unwrap(), None);

    let mut shut = Consumer::open(&client, open("shut", "one")).await.unwrap();
    shut.events(1).await;
    server.terminate();
    assert_eq!(shut.ending().await.reason(), Reason::Shutdown);
    expect(&shut.next().await.unwrap_err(), Code::Unavailable, "SERVER_CLOSING");
    let (ended, _dir) = server.wait().await;
    assert!(ended.success());
}

#[tokio::test]
async fn a_consumer_may_have_a_deadline_of_its_own() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob"]).await;
    let subscription = pb::Subscription { ack_deadline: super::seconds(3600), ..named("journey") };
    create(&client, subscription).await.unwrap();
    let given = |it: &pb::Delivered| {
        let at = it.first_delivered_at.unwrap();
        it.lease_deadline.unwrap().seconds - at.seconds
    };
    let credit = Some(pb::ConsumerCredit { max_outstanding_events: 1, max_outstanding_bytes: 0 });
    let own = pb::consume_request::Open {
        ack_deadline: super::seconds(7),
        credit,
        ..open("journey", "own")
    };
    let mut consumer = Consumer::open(&client, own).await.unwrap();
    assert_eq!(given(&consumer.events(1).await[0]), 7);
    assert_eq!(given(&super::pull(&client, "journey", 1).await[0]), 3600);
    let bad =
        pb::consume_request::Open { ack_deadline: super::seconds(3601), ..open("journey", "bad") };
    let refused = Consumer::open(&client, bad).await.err().unwrap();
    expect(&refused, Code::InvalidArgument, "ARGUMENT_OUT_OF_BOUNDS");
}
