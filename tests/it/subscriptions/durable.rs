//! What survives `kill -9` and a disk that fails: invariants I3, I8, I9 and I12 on the real server.

use milepost::grpc::pb::{self, outcome::Outcome as Said, outcome_result::State};
use tonic::Code;

use super::{
    Consumer, bought, buy, create, expect, nack, named, open, outcome, position, positions,
    resolve, seconds, status,
};
use crate::support::{
    Server,
    disk::{ALWAYS, Disk, EIO},
    server::Dir,
};

#[tokio::test]
async fn attempts_retry_times_and_parked_events_survive_a_kill() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "cid"]).await;
    let long = seconds(600);
    let subscription = pb::Subscription {
        min_backoff: long,
        park_policy: pb::ParkPolicy::Block.into(),
        ..named("journey")
    };
    let made = create(&client, subscription).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(3).await;
    consumer.say(&first[..1], nack(1)).await;
    let again = consumer.events(1).await;
    assert_eq!((position(&again[0]), again[0].attempt), (1, 2));
    consumer.say(&again, nack(1)).await;
    consumer.say(&first[1..2], Said::Park(pb::outcome::Park { reason: "odd".into() })).await;
    let later = Said::Nack(pb::outcome::Nack::default());
    consumer.say(&first[2..], later).await;

    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let third = consumer.events(1).await;
    assert_eq!((position(&third[0]), third[0].attempt), (1, 3));
    assert_eq!(third[0].previous_failures.len(), 2);
    assert_eq!(third[0].first_delivered_at, first[0].first_delivered_at);
    assert!(third[0].fencing_epoch > first[0].fencing_epoch);
    let now = status(&client, "journey").await;
    assert_eq!((now.parked, now.retrying), (1, 1), "{now:?}");
    // The lane of the parked one is held still.
    buy(&client, "second", &["bob", "dan"]).await;
    let next = consumer.events(1).await;
    assert_eq!(positions(&next), [5]);
    let request = pb::GetSubscriptionRequest { name: "journey".into() };
    let got = client.subscriptions.clone().get_subscription(request).await.unwrap().into_inner();
    assert_eq!(got.subscription.unwrap(), made);
}

#[tokio::test]
async fn what_was_acknowledged_never_comes_again_and_the_rest_comes_in_order() {
    let server = Server::start();
    let client = server.client().await;
    let people: Vec<String> = (0..40).map(|it| format!("p{}", it % 7)).collect();
    bought(&client, &people.iter().map(String::as_str).collect::<Vec<_>>()).await;
    create(&client, named("journey")).await.unwrap();
    let mut dir = None;
    let mut server = Some(server);
    let mut acknowledged = std::collections::BTreeSet::new();
    let mut last = std::collections::BTreeMap::new();
    while acknowledged.len() < 40 {
        let running = server.take().unwrap_or_else(|| Server::start_on(dir.take().unwrap()));
        let client = running.client().await;
        let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
        // What is free at once: one event of each person that has any left.
        let left: std::collections::BTreeSet<_> =
            (1..=40_u64).filter(|it| !acknowledged.contains(it)).map(|it| (it - 1) % 7).collect();
        let delivered = consumer.events(left.len()).await;
        for it in &delivered {
            assert!(!acknowledged.contains(&position(it)), "{} came again", position(it));
            let person = (position(it) - 1) % 7;
            let before = last.insert(person, position(it)).unwrap_or(0);
            let expected: u64 =
                if acknowledged.contains(&before) { before + 7 } else { before.max(person + 1) };
            assert_eq!(position(it), expected, "out of order");
        }
        // Some are acknowledged, not in order, and the server is killed.
        let some: Vec<_> = delivered.iter().rev().step_by(2).cloned().collect();
        consumer.ack(&some).await;
        acknowledged.extend(some.iter().map(position));
        dir = Some(running.kill());
    }
    let server = Server::start_on(dir.unwrap());
    let client = server.client().await;
    let now = status(&client, "journey").await;
    assert_eq!((now.lag_events, now.resolved_total), (0, 40));
    client.verify().await.unwrap();
}

#[tokio::test]
async fn a_lease_of_before_the_kill_is_stale_and_says_so() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let ack = outcome(&first[0], Said::Ack(pb::outcome::Ack {}));
    let results = resolve(&client, "journey", vec![ack]).await.unwrap();
    assert_eq!(results[0].state(), State::Stale);
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let again = consumer.events(1).await;
    assert_eq!(again[0].attempt, 1);
    consumer.ack(&again).await;
}

#[tokio::test]
async fn snapshots_seeks_and_deletions_survive_a_kill() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "cid"]).await;
    create(&client, named("journey")).await.unwrap();
    create(&client, named("gone")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(3).await;
    consumer.ack(&first[1..2]).await;
    let request = pb::CreateSnapshotRequest { subscription: "journey".into(), name: "then".into() };
    client.subscriptions.clone().create_snapshot(request).await.unwrap();
    consumer.ack(&first[..1]).await;
    let request = pb::DeleteSubscriptionRequest { name: "gone".into(), etag: String::new() };
    client.subscriptions.clone().delete_subscription(request).await.unwrap();

    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let request = pb::GetSubscriptionRequest { name: "gone".into() };
    assert!(client.subscriptions.clone().get_subscription(request).await.is_err());
    let request = pb::SeekSubscriptionRequest {
        name: "journey".into(),
        target: Some(pb::seek_subscription_request::Target::Snapshot("then".into())),
        ..Default::default()
    };
    client.subscriptions.clone().seek_subscription(request).await.unwrap();

    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    assert_eq!(positions(&consumer.events(2).await), [1, 3]);
    assert_eq!(status(&client, "journey").await.snapshots[0].name, "then");
}

#[tokio::test]
async fn progress_that_cannot_be_written_is_told_and_made_after_a_restart() {
    let dir = Dir::new();
    let Some(disk) = Disk::below(&dir) else { return };
    let server = Server::try_start_under(dir, &disk).unwrap();
    let client = server.client().await;
    bought(&client, &["ann", "ann"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    disk.fail_syncs(EIO, 0, ALWAYS);
    let ack = |it| outcome(it, Said::Ack(pb::outcome::Ack {}));
    let refused = resolve(&client, "journey", first.iter().map(ack).collect()).await.unwrap_err();
    expect(&refused, Code::Unavailable, "STORE_POISONED");
    assert_eq!(client.status().await.unwrap().state(), pb::StoreState::Poisoned);
    // It stays so, and the next event of the lane does not come.
    let later = resolve(&client, "journey", first.iter().map(ack).collect()).await.unwrap_err();
    expect(&later, Code::Unavailable, "STORE_POISONED");
    disk.mend();
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let again = consumer.events(1).await;
    // The write that failed may have reached the disk.
    let done = positions(&again) == [2];
    assert!(done || positions(&again) == [1], "{:?}", positions(&again));
    consumer.ack(&again).await;
    if !done {
        let next = consumer.events(1).await;
        assert_eq!(positions(&next), [2]);
        consumer.ack(&next).await;
    }
    assert_eq!(status(&client, "journey").await.lag_events, 0);
}
