//! Lag, expiry, retention and restarts, over gRPC.

use milepost::grpc::pb::{self, subscription_status::State};
use tonic::Code;

use super::{
    Consumer, PATIENCE, bought, create, expect, named, open, positions, pull, seconds, status,
};
use crate::support::Server;

#[tokio::test]
async fn who_is_behind_for_too_long_is_lagging() {
    let server = Server::start();
    let client = server.client().await;
    create(&client, pb::Subscription { max_lag: seconds(1), ..named("journey") }).await.unwrap();
    assert_eq!(status(&client, "journey").await.state(), State::Active);
    bought(&client, &["ann"]).await;
    let lagging = async { while status(&client, "journey").await.state() != State::Lagging {} };
    tokio::time::timeout(PATIENCE, lagging).await.unwrap();
    let delivered = pull(&client, "journey", 1).await;
    let ack = super::outcome(&delivered[0], pb::outcome::Outcome::Ack(pb::outcome::Ack {}));
    super::resolve(&client, "journey", vec![ack]).await.unwrap();
    assert_eq!(status(&client, "journey").await.state(), State::Active);
}

#[tokio::test]
async fn what_nobody_uses_is_deleted_if_its_owner_says_so_and_leaves_a_record() {
    let server = Server::start_with(&["--retention-interval", "1"]);
    let client = server.client().await;
    let expiring = |name: &str, policy: pb::ExpirePolicy| pb::Subscription {
        expire_after: seconds(1),
        expire_policy: policy.into(),
        ..named(name)
    };
    create(&client, expiring("used", pb::ExpirePolicy::Delete)).await.unwrap();
    let _consumer = Consumer::open(&client, open("used", "one")).await.unwrap();
    create(&client, expiring("kept", pb::ExpirePolicy::Keep)).await.unwrap();
    create(&client, expiring("unused", pb::ExpirePolicy::Delete)).await.unwrap();
    let request = pb::GetSubscriptionRequest { name: "unused".into() };
    let gone = async {
        loop {
            if let Err(gone) = client.subscriptions.clone().get_subscription(request.clone()).await
            {
                break gone;
            }
        }
    };
    let gone = tokio::time::timeout(PATIENCE, gone).await.unwrap();
    expect(&gone, Code::NotFound, "SUBSCRIPTION_NOT_FOUND");
    assert_eq!(status(&client, "kept").await.state(), State::Expired);
    assert_eq!(status(&client, "used").await.state(), State::Active);
    let records = async {
        loop {
            let request = pb::ListAuditRecordsRequest::default();
            let records = client.admin.clone().list_audit_records(request).await.unwrap();
            let records = records.into_inner().records;
            if !records.is_empty() {
                break records;
            }
        }
    };
    let records = tokio::time::timeout(PATIENCE, records).await.unwrap();
    assert_eq!(records[0].subscription, "unused");
}

#[tokio::test]
async fn after_a_restart_nothing_is_delivered_for_a_while() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    for (name, grace) in [("short", seconds(1)), ("long", seconds(3600))] {
        create(&client, pb::Subscription { restart_grace: grace, ..named(name) }).await.unwrap();
        // A new one does not wait.
        assert_eq!(positions(&pull(&client, name, 1).await), [1]);
    }
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let mut short = Consumer::open(&client, open("short", "one")).await.unwrap();
    assert_eq!(positions(&short.events(1).await), [1]);
    let request = pb::PullRequest {
        subscription: "long".into(),
        client_id: "puller".into(),
        wait: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        ..Default::default()
    };
    let nothing = client.subscriptions.clone().pull(request).await.unwrap().into_inner();
    assert!(nothing.events.is_empty());
}

#[tokio::test]
async fn settings_of_upkeep_have_bounds_and_can_be_changed() {
    let server = Server::start();
    let client = server.client().await;
    let named = || named("journey");
    let wrong = [
        pb::Subscription { restart_grace: seconds(3601), ..named() },
        pb::Subscription { max_lag: seconds(400_000_000), ..named() },
        pb::Subscription { expire_after: seconds(400_000_000), ..named() },
        pb::Subscription { expire_policy: pb::ExpirePolicy::Delete.into(), ..named() },
        pb::Subscription { pin_retention_bytes: 1, ..named() },
        pb::Subscription { pin_retention: true, pin_retention_bytes: u64::MAX, ..named() },
    ];
    for wrong in wrong {
        let refused = create(&client, wrong).await.unwrap_err();
        expect(&refused, Code::InvalidArgument, "ARGUMENT_INVALID");
    }
    create(&client, named()).await.unwrap();
    let wanted = pb::Subscription {
        restart_grace: seconds(2),
        max_lag: seconds(3),
        expire_after: seconds(4),
        expire_policy: pb::ExpirePolicy::Delete.into(),
        pin_retention: true,
        ..named()
    };
    let paths = ["restart_grace", "max_lag", "expire_after", "expire_policy", "pin_retention"];
    let request = pb::UpdateSubscriptionRequest {
        subscription: Some(wanted),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(ToString::to_string).collect(),
        }),
        validate_only: false,
    };
    let changed = client.subscriptions.clone().update_subscription(request).await.unwrap();
    let changed = changed.into_inner().subscription.unwrap();
    assert_eq!((changed.restart_grace, changed.max_lag), (seconds(2), seconds(3)));
    assert_eq!((changed.expire_after, changed.pin_retention_bytes), (seconds(4), 1 << 30));
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let request = pb::GetSubscriptionRequest { name: "journey".into() };
    let got = client.subscriptions.clone().get_subscription(request).await.unwrap();
    assert_eq!(got.into_inner().subscription.unwrap(), changed);
}
