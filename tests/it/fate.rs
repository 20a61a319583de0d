//! The fate of every event can be told, and refusals add up.

use std::collections::BTreeMap;

use milepost::grpc::pb::{self, append_result::Outcome, trace_step::Step};
use serde_json::json;
use tonic::Status;

use crate::support::{
    Client, Server,
    client::{expected_last, request},
    errors::expect,
    events::{PURCHASE, purchase, purchase_schema, purchase_text, purchases},
};

async fn trace(client: &Client, dataset: &str, id: &str) -> Result<pb::TraceEventResponse, Status> {
    let event = Some(pb::EventKey { dataset: dataset.into(), event_id: id.into() });
    let request = pb::TraceEventRequest { event };
    Ok(client.events.clone().trace_event(request).await?.into_inner())
}

/// State, and the steps in short.
async fn told(client: &Client, id: &str) -> (pb::EventState, Vec<String>) {
    let trace = trace(client, "web", id).await.unwrap();
    assert!(!trace.summary.is_empty());
    let mut last = None;
    let steps = trace.steps.iter().map(|it| {
        let time = it.time.map(|time| (time.seconds, time.nanos));
        assert!(last <= time, "{trace:?}");
        last = time;
        match it.step.as_ref().unwrap() {
            Step::Quarantined(it) => format!("{} {}", it.quarantine_id, it.times_received),
            Step::Refused(it) => it.reason.clone(),
            Step::Stored(it) => format!("at {}", it.position),
            Step::Removed(it) => format!("was at {}, lost to {}", it.position, it.floor_position),
        }
    });
    (trace.state(), steps.collect())
}

fn counts(refused: &[pb::RefusalCount]) -> BTreeMap<&str, u64> {
    refused
        .iter()
        .map(|it| {
            assert_eq!(it.last_hour, it.since_start);
            (it.reason.as_str(), it.since_start)
        })
        .collect()
}

/// A purchase with a price that is text.
fn mispriced(id: &str) -> String {
    let mut event = purchase(id, "a@b.c");
    event["commerce"]["order"]["priceTotal"] = json!("much");
    event.to_string()
}

#[tokio::test]
async fn whatever_became_of_an_event_is_told() {
    let server = Server::start();
    let client = server.client().await;
    client.register(purchase_schema().to_string()).await.unwrap();
    let mut dataset =
        pb::Dataset { name: "web".into(), schema_id: PURCHASE.into(), ..Default::default() };
    dataset.set_on_invalid(pb::OnInvalid::Quarantine);
    client.create_dataset(dataset).await.unwrap();

    assert_eq!(told(&client, "never").await, (pb::EventState::Unknown, vec![]));
    client.append("web", &[purchase_text("good", "a@b.c")]).await.unwrap();
    assert_eq!(told(&client, "good").await, (pb::EventState::Stored, vec!["at 1".into()]));

    // Refused twice, then mended by its sender.
    for _ in 0..2 {
        client.append("web", &[mispriced("e2"), purchase_text("e3", "a@b.c")]).await.unwrap_err();
    }
    let refused = "EVENT_VIOLATES_SCHEMA".to_owned();
    let twice = vec![refused.clone(), refused.clone()];
    assert_eq!(told(&client, "e2").await, (pb::EventState::Refused, twice.clone()));
    let summary = trace(&client, "web", "e2").await.unwrap().summary;
    assert!(summary.contains("/commerce/order/priceTotal"), "{summary}");
    client.append("web", &[purchase_text("e2", "a@b.c")]).await.unwrap();
    let mended = [twice, vec!["at 2".into()]].concat();
    assert_eq!(told(&client, "e2").await, (pb::EventState::Stored, mended));

    // Set aside, sent again, replayed.
    client.append_each("web", &[mispriced("e4")]).await.unwrap();
    client.append_each("web", &[mispriced("e4")]).await.unwrap();
    assert_eq!(told(&client, "e4").await, (pb::EventState::Quarantined, vec!["q1 2".into()]));
    let patch = json!([{"op": "replace", "path": "/commerce/order/priceTotal", "value": 1}]);
    let replay = pb::ReplayQuarantinedRequest {
        selection: Some(pb::QuarantineSelection { dataset: "web".into(), ..Default::default() }),
        patch: patch.to_string(),
        dry_run: false,
    };
    let mut quarantine =
        pb::quarantine_service_client::QuarantineServiceClient::new(client.channel.clone());
    let mut responses = quarantine.replay_quarantined(replay).await.unwrap().into_inner();
    while responses.message().await.unwrap().is_some() {}
    let replayed = vec!["q1 0".to_owned(), "at 3".to_owned()];
    assert_eq!(told(&client, "e4").await, (pb::EventState::Stored, replayed.clone()));

    // Who has had it, and who has not.
    let mut subscriptions =
        pb::subscription_service_client::SubscriptionServiceClient::new(client.channel.clone());
    for (name, event_type) in [("buyers", "commerce.purchases"), ("others", "web.visits")] {
        let filter =
            Some(pb::EventFilter { event_types: vec![event_type.into()], ..Default::default() });
        let start =
            Some(pb::Start { start: Some(pb::start::Start::Beginning(pb::start::Beginning {})) });
        let subscription =
            Some(pb::Subscription { name: name.into(), filter, ..Default::default() });
        let request = pb::CreateSubscriptionRequest { subscription, start, ..Default::default() };
        subscriptions.create_subscription(request).await.unwrap();
    }
    let deliveries = trace(&client, "web", "good").await.unwrap().deliveries;
    let [delivery] = &*deliveries else { panic!("{deliveries:?}") };
    assert_eq!(delivery.subscription, "buyers");
    assert_ne!(delivery.standing, "RESOLVED");

    // What is stored or set aside is known for good, what was refused only until the end.
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(told(&client, "e4").await, (pb::EventState::Stored, replayed));
    assert_eq!(told(&client, "e2").await, (pb::EventState::Stored, vec!["at 2".into()]));
    client.trim("web", 3).await.unwrap();
    let gone = vec!["was at 1, lost to 2".to_owned()];
    assert_eq!(told(&client, "good").await, (pb::EventState::Removed, gone));

    expect(trace(&client, "none", "e1").await, "DATASET_NOT_FOUND", &["none"]);
    expect(trace(&client, "web", "").await, "ARGUMENT_INVALID", &["event.event_id"]);
    let nothing = pb::TraceEventRequest::default();
    expect(client.events.clone().trace_event(nothing).await, "ARGUMENT_INVALID", &["event"]);
}

#[tokio::test]
async fn refusals_are_counted_by_reason_and_add_up() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("shop", PURCHASE).await.unwrap();
    let good = |id: &str| purchase_text(id, "a@b.c");
    client.append("web", &[good("e1")]).await.unwrap();
    // One of three is at fault, and all three are refused.
    client.append("web", &[good("e2"), mispriced("e3"), good("e4")]).await.unwrap_err();
    let each = client
        .append_each("web", &["{}".to_owned(), good("e5"), mispriced("e6"), mispriced("e1")])
        .await
        .unwrap();
    let rejected = each.results.iter().filter(|it| it.outcome() == Outcome::Rejected).count();
    assert_eq!(rejected, 3);
    let mut conditional = request("shop", &[good("e1"), good("e2")]);
    conditional.conditions = vec![expected_last("Email", "a@b.c", 77)];
    client.append_request(conditional).await.unwrap_err();
    // Checking is not refusing.
    let mut check = request("shop", &[mispriced("e1")]);
    check.validate_only = true;
    client.append_request(check).await.unwrap_err();

    let web = client.dataset("web").await.unwrap().stats.unwrap();
    let wanted = [("EVENT_INVALID", 1), ("EVENT_VIOLATES_SCHEMA", 5)].into();
    assert_eq!(counts(&web.refused), wanted);
    let shop = client.dataset("shop").await.unwrap().stats.unwrap();
    assert_eq!(counts(&shop.refused), [("CONDITION_FAILED", 2)].into());
    let all = client.status().await.unwrap();
    let sum: u64 = all.refused.iter().map(|it| it.since_start).sum();
    // What was sent is stored or refused.
    assert_eq!(sum + client.last_position().await, 1 + 3 + 4 + 2);
}
