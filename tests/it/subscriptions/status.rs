//! What the status of a subscription tells.

use milepost::grpc::pb;

use super::{Consumer, bought, create, nack, named, open, status};
use crate::{
    cli::check,
    support::{
        Server,
        client::{by_dataset, by_identity, by_type},
        events::PURCHASE,
    },
};

#[tokio::test]
async fn consumers_rates_are_told() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob", "cid"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let delivered = consumer.events(3).await;
    consumer.ack(&delivered[..2]).await;
    consumer.say(&delivered[2..], nack(900)).await;
    let now = status(&client, "journey").await;
    let [one] = &now.consumers[..] else { panic!("{now:?}") };
    assert_eq!((one.resolved_total, one.failed_total), (2, 1));
    // However long it took, they are in the proportion of what is counted.
    assert!(one.delivered_per_second > 0.0 && one.delivered_per_second <= 4.0, "{one:?}");
    assert!((one.resolved_per_second - 2.0 * one.failed_per_second).abs() < 1e-9, "{one:?}");
}

#[tokio::test]
async fn a_condition_that_comes_to_nothing_is_counted_and_told() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob"]).await;
    // No purchase has such a name, so nothing can be compared.
    let filter = pb::EventFilter { r#where: "nothing.there > 1".into(), ..Default::default() };
    create(&client, pb::Subscription { filter: Some(filter), ..named("never") }).await.unwrap();
    let filter =
        pb::EventFilter { r#where: "commerce.order.priceTotal > 0.0".into(), ..Default::default() };
    create(&client, pb::Subscription { filter: Some(filter), ..named("all") }).await.unwrap();
    let mut never = Consumer::open(&client, open("never", "one")).await.unwrap();
    never
        .until(|it| {
            matches!(it, pb::consume_response::Message::CaughtUp(it) if it.position == 2)
                .then_some(())
        })
        .await;
    let now = status(&client, "never").await;
    assert_eq!((now.filter_errors_total, now.lag_events), (2, 0));
    let told: Vec<_> = now.filter_errors.iter().map(|it| it.position).collect();
    assert_eq!(told, [1, 2]);
    assert!(now.filter_errors[0].message.contains("missing"), "{:?}", now.filter_errors);
    let mut all = Consumer::open(&client, open("all", "one")).await.unwrap();
    all.events(2).await;
    assert_eq!(status(&client, "all").await.filter_errors_total, 0);
}

#[tokio::test]
async fn by_what_events_are_found_is_told() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    let whole = pb::EventFilter {
        identities: by_identity("Email", "ann").identities,
        event_types: by_type("commerce.purchases").event_types,
        ..by_dataset("store")
    };
    let schemas = pb::EventFilter { schemas: vec![PURCHASE.into()], ..by_dataset("store") };
    let condition = pb::EventFilter { r#where: "1 < 2".into(), ..Default::default() };
    let rows = [
        ("people", whole, pb::FilterIndex::Identity, "identity"),
        ("types", by_type("commerce.*"), pb::FilterIndex::EventType, "event type"),
        ("schemas", schemas, pb::FilterIndex::Schema, "schema"),
        ("datasets", by_dataset("store"), pb::FilterIndex::Dataset, "dataset"),
        ("all", condition, pb::FilterIndex::FullScan, "every event is looked at"),
    ];
    for (name, filter, index, word) in rows {
        create(&client, pb::Subscription { filter: Some(filter), ..named(name) }).await.unwrap();
        assert_eq!(status(&client, name).await.filter_index(), index, "{name}");
        let request = pb::ExplainDeliveryRequest { subscription: name.into(), position: 1 };
        let explained = client.subscriptions.clone().explain_delivery(request).await.unwrap();
        assert_eq!(explained.into_inner().filter_index(), index, "{name}");
        let words = ["filter index", word];
        check(&server, &["subscription", "explain", name, "1"], 0, &words);
        check(&server, &["subscription", "show", name], 0, &words);
    }
}
