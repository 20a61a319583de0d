//! Making, changing and looking at subscriptions.

use milepost::grpc::pb::{
    self,
    event_definition_service_client::EventDefinitionServiceClient,
    explain_delivery_response::Standing,
    outcome::Outcome as Said,
    seek_subscription_request::{InFlight, Target},
};
use tonic::Code;

use super::{
    Consumer, bought, bought_definition, buy, create, expect, is_ok, nack, named, open, position,
    positions, seconds, status,
};
use crate::{
    cli::check,
    support::{
        Client, Server,
        client::{by_dataset, by_identity, by_type},
        events::PURCHASE,
    },
};

async fn get(client: &Client, name: &str) -> pb::Subscription {
    let request = pb::GetSubscriptionRequest { name: name.into() };
    let got = client.subscriptions.clone().get_subscription(request).await.unwrap();
    got.into_inner().subscription.unwrap()
}

async fn update(
    client: &Client,
    subscription: pb::Subscription,
    paths: &[&str],
) -> Result<pb::Subscription, tonic::Status> {
    let paths = paths.iter().map(ToString::to_string).collect();
    let request = pb::UpdateSubscriptionRequest {
        subscription: Some(subscription),
        update_mask: Some(prost_types::FieldMask { paths }),
        validate_only: false,
    };
    let updated = client.subscriptions.clone().update_subscription(request).await?;
    Ok(updated.into_inner().subscription.unwrap())
}

async fn explain(client: &Client, position: u64) -> pb::ExplainDeliveryResponse {
    let request = pb::ExplainDeliveryRequest { subscription: "journey".into(), position };
    client.subscriptions.clone().explain_delivery(request).await.unwrap().into_inner()
}

async fn seek(client: &Client, target: Target, in_flight: InFlight) -> Result<u64, tonic::Status> {
    let request = pb::SeekSubscriptionRequest {
        name: "journey".into(),
        target: Some(target),
        in_flight: in_flight.into(),
    };
    Ok(client.subscriptions.clone().seek_subscription(request).await?.into_inner().position)
}

fn after(position: u64) -> Target {
    Target::Start(pb::Start { start: Some(pb::start::Start::AfterPosition(position)) })
}

#[tokio::test]
async fn creating_again_is_the_same_or_refused_and_changes_nothing() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    let wanted = pb::Subscription { description: "mine".into(), ..named("journey") };
    let made = create(&client, wanted.clone()).await.unwrap();
    assert_eq!(create(&client, wanted.clone()).await.unwrap(), made);
    let before = (get(&client, "journey").await, status(&client, "journey").await);
    let other = pb::Subscription { filter: Some(by_type("other")), ..wanted };
    let refused = create(&client, other).await.unwrap_err();
    expect(&refused, Code::AlreadyExists, "SUBSCRIPTION_EXISTS");
    let after = (get(&client, "journey").await, status(&client, "journey").await);
    assert_eq!(before.0, after.0);
    assert_eq!(before.1.floor_position, after.1.floor_position);
}

#[tokio::test]
async fn an_update_keeps_every_field_that_it_does_not_name() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob"]).await;
    let wanted = pb::Subscription {
        description: "mine".into(),
        filter: Some(by_identity("Email", "ann")),
        lane_selector: pb::LaneSelector::Namespaces.into(),
        lane_namespaces: vec!["Email".into()],
        max_attempts: Some(0),
        ack_deadline: seconds(77),
        park_policy: pb::ParkPolicy::Block.into(),
        ..named("journey")
    };
    let made = create(&client, wanted).await.unwrap();
    let change = pb::Subscription { description: "yours".into(), ..named("journey") };
    let changed = update(&client, change.clone(), &["description"]).await.unwrap();
    let expected = pb::Subscription {
        description: "yours".into(),
        etag: changed.etag.clone(),
        update_time: changed.update_time,
        ..made.clone()
    };
    assert_eq!(changed, expected);
    assert_ne!(changed.etag, made.etag);
    let outdated = pb::Subscription { etag: made.etag, ..change.clone() };
    let refused = update(&client, outdated, &["ack_deadline"]).await.unwrap_err();
    expect(&refused, Code::Aborted, "ETAG_MISMATCH");
    let refused = update(&client, change.clone(), &["name"]).await.unwrap_err();
    expect(&refused, Code::InvalidArgument, "ARGUMENT_INVALID");
    let bad = pb::Subscription { ack_deadline: seconds(7200), ..change };
    let refused = update(&client, bad, &["ack_deadline"]).await.unwrap_err();
    expect(&refused, Code::InvalidArgument, "ARGUMENT_INVALID");
    assert_eq!(get(&client, "journey").await, changed);
}

#[tokio::test]
async fn a_filter_is_shown_as_it_was_asked_for() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    let definition = bought_definition();
    let request = pb::CreateEventDefinitionRequest {
        event_definition: Some(definition),
        ..Default::default()
    };
    let mut definitions = EventDefinitionServiceClient::new(client.channel.clone());
    definitions.create_event_definition(request).await.unwrap();
    let filter = pb::EventFilter {
        datasets: vec!["store".into()],
        event_types: vec!["commerce.purchases".into(), "web.*".into()],
        schemas: vec![PURCHASE.into()],
        event_definitions: vec!["bought".into()],
        r#where: "commerce.order.priceTotal > 2.0".into(),
        deliver_as: "bought".into(),
        ..by_identity("Email", "ann")
    };
    let subscription = pb::Subscription { filter: Some(filter.clone()), ..named("journey") };
    create(&client, subscription).await.unwrap();
    assert_eq!(get(&client, "journey").await.filter, Some(filter.clone()));
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(get(&client, "journey").await.filter, Some(filter));
}

#[tokio::test]
async fn another_filter_counts_from_the_floor_and_what_is_done_stays_done() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "ann", "bob"]).await;
    let filter = Some(by_identity("Email", "ann"));
    create(&client, pb::Subscription { filter, ..named("journey") }).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    consumer.ack(&first).await;
    assert_eq!(positions(&consumer.events(1).await), [3]);
    let everything = pb::Subscription { filter: Some(by_dataset("store")), ..named("journey") };
    update(&client, everything, &["filter"]).await.unwrap();
    // The floor stands before 3, whose lease is void.
    let mut rest = consumer.events(2).await;
    rest.sort_by_key(position);
    assert_eq!(positions(&rest), [3, 4]);
}

#[tokio::test]
async fn a_paused_subscription_delivers_nothing() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    create(&client, named("journey")).await.unwrap();
    let request = pb::PauseSubscriptionRequest { name: "journey".into() };
    client.subscriptions.clone().pause_subscription(request).await.unwrap();
    assert!(get(&client, "journey").await.paused);
    let request = pb::PullRequest {
        subscription: "journey".into(),
        client_id: "puller".into(),
        wait: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        ..Default::default()
    };
    let nothing = client.subscriptions.clone().pull(request).await.unwrap().into_inner();
    assert!(nothing.events.is_empty());
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let request = pb::ResumeSubscriptionRequest { name: "journey".into() };
    client.subscriptions.clone().resume_subscription(request).await.unwrap();
    assert_eq!(positions(&consumer.events(1).await), [1]);
}

#[tokio::test]
async fn a_seek_goes_back_forward_and_to_what_was_done_before() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "cid", "dan"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(4).await;
    consumer.ack(&first[1..2]).await;
    let request = pb::CreateSnapshotRequest { subscription: "journey".into(), name: "then".into() };
    client.subscriptions.clone().create_snapshot(request).await.unwrap();
    consumer.ack(&first[..1]).await;
    consumer.ack(&first[2..]).await;

    assert_eq!(seek(&client, after(3), InFlight::Abandon).await.unwrap(), 3);
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let fourth = consumer.events(1).await;
    assert_eq!(positions(&fourth), [4]);
    let late = consumer.say(&first[3..], Said::Ack(pb::outcome::Ack {})).await;
    assert!(!is_ok(&late[0]));
    consumer.ack(&fourth).await;

    seek(&client, Target::Snapshot("then".into()), InFlight::Abandon).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let mut again = consumer.events(3).await;
    again.sort_by_key(position);
    assert_eq!(positions(&again), [1, 3, 4]);

    seek(&client, after(2), InFlight::Abandon).await.unwrap();
    let skipped = explain(&client, 1).await;
    assert_eq!((skipped.standing(), skipped.reason.as_str()), (Standing::Skipped, "seek"));
    let missing = seek(&client, Target::Snapshot("never".into()), InFlight::Abandon).await;
    expect(&missing.unwrap_err(), Code::NotFound, "SNAPSHOT_NOT_FOUND");
    let beyond = seek(&client, after(99), InFlight::Abandon).await;
    expect(&beyond.unwrap_err(), Code::OutOfRange, "POSITION_OUT_OF_RANGE");
}

#[tokio::test]
async fn a_seek_may_wait_for_leases_to_end() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob"]).await;
    create(&client, named("journey")).await.unwrap();
    let credit = Some(pb::ConsumerCredit { max_outstanding_events: 1, max_outstanding_bytes: 0 });
    let opening = pb::consume_request::Open { credit, ..open("journey", "one") };
    let mut consumer = Consumer::open(&client, opening).await.unwrap();
    let first = consumer.events(1).await;
    let seeking = tokio::spawn({
        let client = client.clone();
        async move { seek(&client, after(2), InFlight::Drain).await }
    });
    // It holds back new ones until the lease has ended.
    while !seeking.is_finished() && status(&client, "journey").await.in_flight > 0 {
        consumer.ack(&first).await;
    }
    assert_eq!(seeking.await.unwrap().unwrap(), 2);
    assert_eq!(status(&client, "journey").await.floor_position, 2);
}

#[tokio::test]
async fn a_delivery_is_explained() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "ann", "bob", "cid", "dan"]).await;
    let filter = pb::EventFilter {
        identities: ["ann", "bob", "cid"]
            .map(|id| pb::Identity { namespace: "Email".into(), id: id.into(), primary: false })
            .into(),
        ..Default::default()
    };
    create(&client, pb::Subscription { filter: Some(filter), ..named("journey") }).await.unwrap();
    assert_eq!(explain(&client, 1).await.standing(), Standing::NotScanned);
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(3).await;
    assert_eq!(positions(&first), [1, 3, 4]);
    let busy = explain(&client, 1).await;
    assert_eq!((busy.standing(), busy.client_id.as_str()), (Standing::InFlight, "one"));
    let blocked = explain(&client, 2).await;
    assert_eq!((blocked.standing(), blocked.blocking_position), (Standing::Blocked, 1));
    assert_eq!(blocked.identity.unwrap().id, "ann");
    consumer.say(&first[..1], nack(900)).await;
    assert_eq!(explain(&client, 1).await.standing(), Standing::RetryAt);
    let lanes = status(&client, "journey").await.blocked_lanes;
    assert_eq!((lanes[0].position, lanes[0].waiting), (1, 1));
    assert_eq!(lanes[0].identity.as_ref().unwrap().id, "ann");
    consumer.ack(&first[1..2]).await;
    assert_eq!(explain(&client, 3).await.standing(), Standing::Resolved);
    let park = Said::Park(pb::outcome::Park { reason: "odd".into() });
    consumer.say(&first[2..], park).await;
    let parked = explain(&client, 4).await;
    assert_eq!((parked.standing(), parked.reason.as_str()), (Standing::Parked, "odd"));
    let other = explain(&client, 5).await;
    assert_eq!(
        (other.standing(), other.filter_field.as_str()),
        (Standing::NotMatched, "identities")
    );
}

#[tokio::test]
async fn when_an_event_was_acknowledged_is_told_until_the_server_ends() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    consumer.ack(&first).await;
    let done = explain(&client, 1).await;
    assert_eq!(done.standing(), Standing::Resolved);
    let (began, ended) = (first[0].first_delivered_at.unwrap(), done.time.unwrap());
    assert!((began.seconds, began.nanos) <= (ended.seconds, ended.nanos), "{done:?}");
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let done = explain(&client, 1).await;
    assert_eq!((done.standing(), done.time), (Standing::Resolved, None));
    let words = ["time", "not known any more"];
    check(&server, &["subscription", "explain", "journey", "1"], 0, &words);
}

#[tokio::test]
async fn parked_events_are_listed_replayed_and_discarded() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "cid"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(3).await;
    let park = Said::Park(pb::outcome::Park { reason: "odd".into() });
    consumer.say(&first, park).await;
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListParkedRequest {
            subscription: "journey".into(),
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = client.subscriptions.clone().list_parked(request).await.unwrap().into_inner();
        listed.extend(page.parked.iter().map(|it| it.position));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, [1, 2, 3]);
    let before = status(&client, "journey").await;
    assert_eq!((before.floor_position, before.parked), (3, 3));
    let only = |positions: &[u64]| {
        Some(pb::ParkedSelector { positions: positions.to_vec(), ..Default::default() })
    };
    let request = pb::ReplayParkedRequest {
        subscription: "journey".into(),
        selector: only(&[2, 9]),
        keep_attempts: false,
    };
    let refused = client.subscriptions.clone().replay_parked(request.clone()).await.unwrap_err();
    expect(&refused, Code::InvalidArgument, "ARGUMENT_INVALID");
    assert_eq!(status(&client, "journey").await.parked, 3);
    let request = pb::ReplayParkedRequest { selector: only(&[2]), ..request };
    let replayed = client.subscriptions.clone().replay_parked(request).await.unwrap().into_inner();
    assert_eq!(replayed.replayed, 1);
    let again = consumer.events(1).await;
    assert_eq!((position(&again[0]), again[0].replay, again[0].attempt), (2, true, 1));
    assert_eq!(again[0].total_attempts, 2);
    consumer.ack(&again).await;
    let request = pb::DiscardParkedRequest {
        subscription: "journey".into(),
        selector: Some(pb::ParkedSelector::default()),
    };
    let discarded = client.subscriptions.clone().discard_parked(request).await.unwrap();
    assert_eq!(discarded.into_inner().discarded, 2);
    let after = status(&client, "journey").await;
    assert_eq!((after.floor_position, after.parked, after.discarded_total), (3, 0, 2));
}

#[tokio::test]
async fn a_blocked_lane_waits_for_a_person_and_a_convoy_is_parked_behind() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "ann", "bob"]).await;
    for (name, policy) in [("block", pb::ParkPolicy::Block), ("convoy", pb::ParkPolicy::Convoy)] {
        let park_policy = policy.into();
        create(&client, pb::Subscription { park_policy, ..named(name) }).await.unwrap();
        let mut consumer = Consumer::open(&client, open(name, "one")).await.unwrap();
        let before = usize::try_from(client.last_position().await).unwrap();
        let first = consumer.events(before - 1).await;
        assert_eq!(positions(&first[..2]), [1, 3]);
        consumer.say(&first[..1], Said::Park(pb::outcome::Park::default())).await;
        consumer.ack(&first[1..]).await;
        buy(&client, name, &["cid"]).await;
        let next = consumer.events(1).await;
        consumer.ack(&next).await;
        let (parked, lag) = match policy {
            pb::ParkPolicy::Block => (1, 1),
            _ => (2, 0),
        };
        let now = status(&client, name).await;
        assert_eq!((now.parked, now.lag_events), (parked, lag), "{name}");
        let request = pb::ReplayParkedRequest {
            subscription: name.into(),
            selector: Some(pb::ParkedSelector { positions: vec![1], ..Default::default() }),
            keep_attempts: false,
        };
        client.subscriptions.clone().replay_parked(request).await.unwrap();
        for expected in [1, 2] {
            let next = consumer.events(1).await;
            assert_eq!(positions(&next), [expected], "{name}");
            consumer.ack(&next).await;
        }
    }
}

#[tokio::test]
async fn subscriptions_are_listed_by_name() {
    let server = Server::start();
    let client = server.client().await;
    for name in ["b", "c", "a"] {
        create(&client, named(name)).await.unwrap();
    }
    let request = pb::ListSubscriptionsRequest { page_size: 2, ..Default::default() };
    let first = client.subscriptions.clone().list_subscriptions(request).await.unwrap();
    let first = first.into_inner();
    let names = |it: &[pb::Subscription]| it.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&first.subscriptions), ["a", "b"]);
    let page_token = first.next_page_token;
    let request = pb::ListSubscriptionsRequest { page_token, ..Default::default() };
    let second = client.subscriptions.clone().list_subscriptions(request).await.unwrap();
    assert_eq!(names(&second.into_inner().subscriptions), ["c"]);
    let refused = create(&client, named("Bad Name")).await.unwrap_err();
    expect(&refused, Code::InvalidArgument, "ARGUMENT_INVALID");
    let gone = pb::Subscription { filter: Some(by_dataset("never")), ..named("d") };
    let refused = create(&client, gone).await.unwrap_err();
    expect(&refused, Code::NotFound, "DATASET_NOT_FOUND");
}
