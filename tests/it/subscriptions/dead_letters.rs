//! Dead letters: parked events that are stored in a dataset of their own, too.

use milepost::grpc::pb::{self, outcome::Outcome as Said};
use tonic::Code;

use super::{
    Consumer, bought, bought_definition, buy, create, expect, nack, named, open, positions, status,
};
use crate::support::{
    Client, Server,
    client::{by_dataset, json_of, reading},
    events::{PURCHASE, purchase_text, purchases},
};

fn park(reason: &str) -> Said {
    Said::Park(pb::outcome::Park { reason: reason.into() })
}

fn with_letters(dataset: &str) -> pb::Subscription {
    pb::Subscription {
        dead_letter_dataset: dataset.into(),
        filter: Some(by_dataset("store")),
        max_attempts: Some(1),
        ..named("journey")
    }
}

async fn letters(client: &Client) -> Vec<pb::RecordedEvent> {
    client.read(reading(by_dataset("dead"))).await.unwrap()
}

async fn replay(client: &Client, position: u64) {
    let request = pb::ReplayParkedRequest {
        subscription: "journey".into(),
        selector: Some(pb::ParkedSelector { positions: vec![position], ..Default::default() }),
        ..Default::default()
    };
    client.subscriptions.clone().replay_parked(request).await.unwrap();
}

#[tokio::test]
async fn what_is_parked_is_stored_once_whoever_parks_it_and_however_often() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob"]).await;
    client.create("dead", PURCHASE).await.unwrap();
    create(&client, with_letters("dead")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let delivered = consumer.events(2).await;
    consumer.say(&delivered[..1], park("odd")).await;
    consumer.say(&delivered[1..], nack(0)).await;
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let stored = letters(&client).await;
    assert_eq!(stored.len(), 2, "{stored:?}");
    for (letter, (source, reason)) in stored.iter().zip([(1, "odd"), (2, "not now")]) {
        let source = client.get(source).await.unwrap();
        assert_eq!(json_of(letter), json_of(&source));
        let from = letter.dead_letter.as_ref().unwrap();
        assert_eq!(
            (from.subscription.as_str(), from.position, from.reason.as_str()),
            ("journey", source.position, reason)
        );
        assert_eq!(source.dead_letter, None);
    }
    replay(&client, 1).await;
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let again = consumer.events(1).await;
    assert_eq!(positions(&again), [1]);
    consumer.say(&again, park("still odd")).await;
    assert_eq!(letters(&client).await, stored);
    let now = status(&client, "journey").await;
    assert_eq!((now.parked, now.dead_letter_failures_total), (2, 0));
    client.verify().await.unwrap();
}

#[tokio::test]
async fn what_the_dataset_does_not_take_is_parked_without_and_told() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "cid"]).await;
    expect(
        &create(&client, with_letters("dead")).await.unwrap_err(),
        Code::NotFound,
        "DATASET_NOT_FOUND",
    );
    client.create("dead", PURCHASE).await.unwrap();
    // Another event has the id of the first one.
    client.append("dead", &[purchase_text("first-0", "somebody else")]).await.unwrap();
    create(&client, with_letters("dead")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let delivered = consumer.events(3).await;
    consumer.say(&delivered[..1], park("odd")).await;
    let now = status(&client, "journey").await;
    assert_eq!((now.parked, now.dead_letter_failures_total), (1, 1));
    assert_eq!(now.dead_letter_failures[0].position, 1);
    assert!(!now.dead_letter_failures[0].message.is_empty());
    consumer.say(&delivered[1..2], park("odd")).await;
    assert_eq!(letters(&client).await.len(), 2);
    let delete =
        pb::DeleteDatasetRequest { name: "dead".into(), force: true, ..Default::default() };
    client.datasets.clone().delete_dataset(delete).await.unwrap();
    consumer.say(&delivered[2..], park("odd")).await;
    let now = status(&client, "journey").await;
    assert_eq!((now.parked, now.dead_letter_failures_total), (3, 2));
    assert!(now.dead_letter_failures[1].message.contains("dead"), "{now:?}");
    // Others go on.
    buy(&client, "second", &["dan"]).await;
    let next = consumer.events(1).await;
    consumer.ack(&next).await;
}

#[tokio::test]
async fn a_dead_letter_is_no_new_match_of_event_definitions() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "store").await;
    client.create("dead", PURCHASE).await.unwrap();
    let state = pb::EventDefinitionState::Live.into();
    let definition = pb::EventDefinition { state, ..bought_definition() };
    let request = pb::CreateEventDefinitionRequest {
        event_definition: Some(definition),
        ..Default::default()
    };
    client.definitions.clone().create_event_definition(request).await.unwrap();
    buy(&client, "first", &["ann"]).await;
    create(&client, with_letters("dead")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let delivered = consumer.events(1).await;
    assert_eq!(delivered[0].event.as_ref().unwrap().event_definitions, ["bought"]);
    consumer.say(&delivered, park("odd")).await;
    let stored = letters(&client).await;
    assert_eq!((stored.len(), stored[0].event_definitions.len()), (1, 0));
}
