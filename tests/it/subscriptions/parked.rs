//! Parked events: one, all, and what becomes of them.

use milepost::grpc::pb::{
    self, outcome::Outcome as Said, parked_change::Kind, parked_event::By,
    watch_parked_response::Message,
};
use tonic::{Code, Streaming};

use super::{
    Consumer, PATIENCE, bought, bought_definition, buy, create, expect, nack, named, open,
    positions,
};
use crate::{
    cli::check,
    support::{Client, Server, client::json_of, events::purchase_text},
};

struct Watch(Streaming<pb::WatchParkedResponse>);

impl Watch {
    /// Begins to watch; how many are parked.
    async fn open(client: &Client, name: &str) -> (Self, u64) {
        let request =
            pb::WatchParkedRequest { subscription: name.into(), heartbeat_interval: None };
        let watched = client.subscriptions.clone().watch_parked(request).await.unwrap();
        let mut watch = Self(watched.into_inner());
        match watch.next().await {
            Message::Started(started) => (watch, started.parked),
            other => panic!("{other:?}"),
        }
    }

    async fn next(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.message()).await.unwrap().unwrap();
            match next.expect("the stream ended").message.unwrap() {
                Message::Heartbeat(_) => {}
                message => return message,
            }
        }
    }

    async fn change(&mut self) -> pb::ParkedChange {
        match self.next().await {
            Message::Changed(change) => change,
            other => panic!("{other:?}"),
        }
    }

    async fn ending(&mut self) -> pb::consume_ending::Reason {
        match self.next().await {
            Message::Ending(ending) => ending.reason(),
            other => panic!("{other:?}"),
        }
    }
}

fn park(reason: &str) -> Said {
    Said::Park(pb::outcome::Park { reason: reason.into() })
}

async fn get(client: &Client, position: u64) -> Result<pb::ParkedEvent, tonic::Status> {
    let request =
        pb::GetParkedRequest { subscription: "journey".into(), position, ..Default::default() };
    Ok(client.subscriptions.clone().get_parked(request).await?.into_inner().parked.unwrap())
}

async fn export(client: &Client, request: pb::ExportParkedRequest) -> Vec<Vec<pb::ParkedEvent>> {
    let mut pages = client.subscriptions.clone().export_parked(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        found.push(page.parked);
    }
    found
}

fn all() -> pb::ExportParkedRequest {
    pb::ExportParkedRequest { subscription: "journey".into(), ..Default::default() }
}

fn selected(positions: &[u64]) -> pb::ParkedSelector {
    pb::ParkedSelector { positions: positions.to_vec(), ..Default::default() }
}

#[tokio::test]
async fn a_parked_event_is_shown_with_its_event_and_attempts() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    create(&client, pb::Subscription { max_attempts: Some(2), ..named("journey") }).await.unwrap();
    expect(&get(&client, 1).await.unwrap_err(), Code::NotFound, "PARKED_NOT_FOUND");
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    for _ in 0..2 {
        let delivered = consumer.events(1).await;
        consumer.say(&delivered, nack(0)).await;
    }
    let found = get(&client, 1).await.unwrap();
    assert_eq!((found.position, found.parked_by()), (1, By::ServerMaxAttempts));
    assert_eq!((found.total_attempts, found.failures.len()), (2, 2));
    assert_eq!(found.failures[0].client_id, "one");
    assert_eq!(found.event.unwrap().event_id, "first-0");
    expect(&get(&client, 0).await.unwrap_err(), Code::NotFound, "PARKED_NOT_FOUND");
    let request =
        pb::GetParkedRequest { subscription: "never".into(), position: 1, ..Default::default() };
    let refused = client.subscriptions.clone().get_parked(request).await.unwrap_err();
    expect(&refused, Code::NotFound, "SUBSCRIPTION_NOT_FOUND");
}

#[tokio::test]
async fn a_parked_event_has_the_digest_of_its_stored_payload_however_it_is_delivered() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    let definition = Some(bought_definition());
    let request = pb::CreateEventDefinitionRequest {
        event_definition: definition.map(|it| pb::EventDefinition {
            fields: vec!["commerce.order.priceTotal".into()],
            state: pb::EventDefinitionState::Live.into(),
            ..it
        }),
        ..Default::default()
    };
    client.definitions.clone().create_event_definition(request).await.unwrap();
    buy(&client, "second", &["ann"]).await;
    let filter = Some(pb::EventFilter { deliver_as: "bought".into(), ..Default::default() });
    create(&client, pb::Subscription { filter, ..named("journey") }).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let delivered = consumer.events(1).await;
    let stored = client.get(2).await.unwrap();
    assert!(json_of(delivered[0].event.as_ref().unwrap()).len() < json_of(&stored).len());
    consumer.say(&delivered, park("odd")).await;
    let digest = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(json_of(&stored).as_bytes()));
    let found = get(&client, 2).await.unwrap();
    assert_eq!((found.payload_digest.as_str(), found.payload_differs), (&*digest, false));
    // A restart, and parking it again, change nothing about that.
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(get(&client, 2).await.unwrap().payload_digest, digest);
    let request = pb::ReplayParkedRequest {
        subscription: "journey".into(),
        selector: Some(selected(&[2])),
        keep_attempts: false,
    };
    client.subscriptions.clone().replay_parked(request).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let again = consumer.events(1).await;
    consumer.say(&again, park("still odd")).await;
    let found = get(&client, 2).await.unwrap();
    assert_eq!((found.payload_digest.as_str(), &*found.reason), (&*digest, "still odd"));
    let shown = ["payload digest", digest.as_str()];
    let arguments = ["subscription", "parked", "journey", "--position", "2"];
    check(&server, &arguments, 0, &shown);
}

#[tokio::test]
async fn parked_events_are_exported_whole_and_by_filter() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "cid"]).await;
    // Two of these do not fit one response.
    let large = |id: &str, who: &str| {
        let text = purchase_text(id, who);
        let end = text.rfind('}').unwrap();
        format!("{}, \"_note\": \"{}\"}}", &text[..end], "x".repeat(700_000))
    };
    client.append("store", &[large("l1", "dan"), large("l2", "eve")]).await.unwrap();
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let mut delivered = consumer.events(5).await;
    delivered.sort_by_key(super::position);
    consumer.say(&delivered[..2], park("odd")).await;
    consumer.say(&delivered[2..], park("even odder")).await;
    let pages = export(&client, all()).await;
    let of = |page: &Vec<pb::ParkedEvent>| page.iter().map(|it| it.position).collect::<Vec<_>>();
    assert_eq!(pages.iter().map(of).collect::<Vec<_>>(), [vec![1, 2, 3, 4], vec![5]]);
    let events = pages.concat();
    assert!(events.iter().all(|it| it.event.is_some()));
    let filter = pb::ParkedFilter { reason_contains: "even".into(), ..Default::default() };
    let some = pb::ExportParkedRequest { filter: Some(filter.clone()), after_position: 3, ..all() };
    assert_eq!(export(&client, some).await.concat().len(), 2);
    let nobody = pb::ParkedFilter { parked_by: vec![By::Convoy.into()], ..Default::default() };
    let none = pb::ExportParkedRequest { filter: Some(nobody), ..all() };
    assert!(export(&client, none).await.is_empty());
    let bad = pb::ParkedFilter { parked_by: vec![77], ..Default::default() };
    let bad = pb::ExportParkedRequest { filter: Some(bad), ..all() };
    let refused = client.subscriptions.clone().export_parked(bad).await.unwrap_err();
    expect(&refused, Code::InvalidArgument, "ARGUMENT_INVALID");
    let request = pb::DiscardParkedRequest {
        subscription: "journey".into(),
        selector: Some(pb::ParkedSelector { filter: Some(filter), ..Default::default() }),
    };
    let discarded = client.subscriptions.clone().discard_parked(request).await.unwrap();
    assert_eq!(discarded.into_inner().discarded, 3);
    assert_eq!(export(&client, all()).await.concat().len(), 2);
}

#[tokio::test]
async fn whoever_watches_is_told_what_becomes_of_parked_events_and_why_it_ends() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let delivered = consumer.events(2).await;
    consumer.say(&delivered[..1], park("early")).await;
    let (mut watch, parked) = Watch::open(&client, "journey").await;
    assert_eq!(parked, 1);
    consumer.say(&delivered[1..], park("odd")).await;
    let change = watch.change().await;
    assert_eq!((change.kind(), change.position), (Kind::Parked, 2));
    let found = change.parked.unwrap();
    assert_eq!((found.reason.as_str(), found.event), ("odd", None));

    let request = pb::ReplayParkedRequest {
        subscription: "journey".into(),
        selector: Some(selected(&[2])),
        ..Default::default()
    };
    client.subscriptions.clone().replay_parked(request).await.unwrap();
    let change = watch.change().await;
    assert_eq!((change.kind(), change.position), (Kind::Replayed, 2));
    let again = consumer.events(1).await;
    consumer.ack(&again).await;
    let change = watch.change().await;
    assert_eq!((change.kind(), change.position), (Kind::Resolved, 2));

    let request =
        pb::DiscardParkedRequest { subscription: "journey".into(), selector: Some(selected(&[1])) };
    client.subscriptions.clone().discard_parked(request).await.unwrap();
    let change = watch.change().await;
    assert_eq!((change.kind(), change.position), (Kind::Discarded, 1));
    // What was never parked is no news.
    buy(&client, "second", &["cid", "dan"]).await;
    let more = consumer.events(2).await;
    assert_eq!(positions(&more), [3, 4]);
    consumer.ack(&more[..1]).await;
    consumer.say(&more[1..], park("last")).await;
    assert_eq!(watch.change().await.position, 4);

    let start = pb::Start { start: Some(pb::start::Start::AfterPosition(0)) };
    let request = pb::SeekSubscriptionRequest {
        name: "journey".into(),
        target: Some(pb::seek_subscription_request::Target::Start(start)),
        ..Default::default()
    };
    client.subscriptions.clone().seek_subscription(request).await.unwrap();
    assert_eq!(watch.ending().await, pb::consume_ending::Reason::Seek);
    assert_eq!(watch.0.message().await.unwrap(), None);

    let (mut watch, parked) = Watch::open(&client, "journey").await;
    assert_eq!(parked, 0);
    let request = pb::DeleteSubscriptionRequest { name: "journey".into(), etag: String::new() };
    client.subscriptions.clone().delete_subscription(request).await.unwrap();
    assert_eq!(watch.ending().await, pb::consume_ending::Reason::SubscriptionDeleted);
    let status = watch.0.message().await.unwrap_err();
    expect(&status, Code::NotFound, "SUBSCRIPTION_NOT_FOUND");

    create(&client, named("other")).await.unwrap();
    let (mut watch, _) = Watch::open(&client, "other").await;
    server.terminate();
    assert_eq!(watch.ending().await, pb::consume_ending::Reason::Shutdown);
    expect(&watch.0.message().await.unwrap_err(), Code::Unavailable, "SERVER_CLOSING");
}
