//! Filters by versions of schemas, wherever a filter is taken.

use milepost::grpc::pb::{
    self, condition::Condition as Choice, explain_delivery_response::Standing,
    follow_events_response::Message,
};

use crate::{
    cli::check,
    support::{
        Client, Server,
        client::{reading, request},
        errors::expect,
        events::{PURCHASE, purchase_schema, purchase_text, purchases, typed},
    },
};

const OTHER: &str = "https://example.com/schemas/other";

/// Events of versions 1 to 4 of one schema at positions 1 to 4, and one of another schema at 5.
async fn stocked() -> (Server, Client) {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    for version in 1..=4 {
        client.append("web", &[purchase_text(&format!("e{version}"), "ann")]).await.unwrap();
        if version < 4 {
            grow(&client, version).await;
        }
    }
    let mut other = purchase_schema();
    other["$id"] = OTHER.into();
    client.register(other.to_string()).await.unwrap();
    client.create("shop", OTHER).await.unwrap();
    client.append("shop", &[purchase_text("e5", "ann")]).await.unwrap();
    (server, client)
}

/// Another version of the schema, which has some more fields.
async fn grow(client: &Client, fields: u32) {
    let mut schema = purchase_schema();
    for field in 1..=fields {
        let string = serde_json::json!({"type": "string"});
        schema["allOf"][1]["properties"][format!("more{field}")] = string;
    }
    client.register(schema.to_string()).await.unwrap();
}

fn versions(of: &[(&str, u32, u32)]) -> pb::EventFilter {
    let versions = |(id, from, to): &(&str, u32, u32)| pb::SchemaVersions {
        schema_id: (*id).to_owned(),
        from_version: *from,
        to_version: *to,
    };
    let schema_versions = of.iter().map(versions).collect();
    pb::EventFilter { schema_versions, ..Default::default() }
}

/// Read and counted alike, forward and backward.
async fn selects(client: &Client, filter: pb::EventFilter, expected: &[u64]) {
    for direction in [pb::Direction::Forward, pb::Direction::Backward] {
        let mut wanted = expected.to_vec();
        if direction == pb::Direction::Backward {
            wanted.reverse();
        }
        let mut read = reading(filter.clone());
        read.set_direction(direction);
        let found: Vec<_> = client.read(read).await.unwrap().iter().map(|it| it.position).collect();
        assert_eq!(found, wanted, "{filter:?}");
    }
    assert_eq!(client.count(filter.clone()).await.unwrap(), expected.len() as u64, "{filter:?}");
}

#[tokio::test]
async fn versions_are_inclusive_and_open_where_they_are_not_given() {
    let (server, client) = stocked().await;
    let shown: Vec<_> = client.read_all().await.iter().map(|it| it.schema_version).collect();
    assert_eq!(shown, [1, 2, 3, 4, 1]);
    for (of, expected) in [
        (&[(PURCHASE, 2, 3)][..], &[2, 3][..]),
        (&[(PURCHASE, 2, 2)], &[2]),
        (&[(PURCHASE, 3, 0)], &[3, 4]),
        (&[(PURCHASE, 0, 2)], &[1, 2]),
        (&[(PURCHASE, 0, 0)], &[1, 2, 3, 4]),
        (&[(PURCHASE, 5, 0)], &[]),
        (&[(PURCHASE, 4, 9)], &[4]),
        (&[(PURCHASE, 1, 1), (PURCHASE, 4, 0), (OTHER, 0, 0)], &[1, 4, 5]),
        (&[(PURCHASE, 2, 3), (PURCHASE, 3, 4)], &[2, 3, 4]),
    ] {
        selects(&client, versions(of), expected).await;
    }
    // With the other fields by AND.
    let both = pb::EventFilter { schemas: vec![OTHER.into()], ..versions(&[(PURCHASE, 0, 0)]) };
    selects(&client, both, &[]).await;
    let narrow = pb::EventFilter {
        schemas: vec![PURCHASE.into()],
        datasets: vec!["web".into()],
        ..versions(&[(PURCHASE, 0, 3), (OTHER, 0, 0)])
    };
    selects(&client, narrow, &[1, 2, 3]).await;
    let of = |versions: &str| format!("{PURCHASE}@{versions}");
    check(&server, &["count", "--schema-versions", &of("2..")], 0, &["3"]);
    check(&server, &["count", "--schema-versions", &of("2")], 0, &["1"]);
    check(&server, &["count", "--schema-versions", &of("x")], 2, &["ID@FROM..TO"]);
}

#[tokio::test]
async fn a_version_that_comes_later_is_followed_when_the_range_is_open() {
    let (_server, client) = stocked().await;
    let beginning = pb::start::Start::Beginning(pb::start::Beginning {});
    let request = pb::FollowEventsRequest {
        filter: Some(versions(&[(PURCHASE, 4, 0)])),
        start: Some(pb::Start { start: Some(beginning) }),
        ..Default::default()
    };
    let mut stream = client.follow(request).await.unwrap();
    let mut seen = Vec::new();
    let mut grown = false;
    while seen.len() < 2 {
        match stream.message().await.unwrap().unwrap().message.unwrap() {
            Message::Events(batch) => seen.extend(batch.events.iter().map(|it| it.position)),
            Message::CaughtUp(_) if !grown => {
                grown = true;
                grow(&client, 4).await;
                client.append("web", &[purchase_text("e6", "ann")]).await.unwrap();
            }
            _ => {}
        }
    }
    assert_eq!(seen, [4, 6]);
}

#[tokio::test]
async fn a_condition_may_ask_for_versions() {
    let (_server, client) = stocked().await;
    let conditional = |id: &str, filter| {
        let no_match = Choice::FailIfMatch(pb::FailIfMatch { filter: Some(filter), after: 2 });
        let conditions = vec![pb::Condition { condition: Some(no_match) }];
        pb::AppendEventsRequest { conditions, ..request("web", &[typed(id, "a.b")]) }
    };
    let matched = conditional("n1", versions(&[(PURCHASE, 1, 3)]));
    expect(client.append_request(matched).await, "CONDITION_FAILED", &["3"]);
    client.append_request(conditional("n1", versions(&[(PURCHASE, 1, 2)]))).await.unwrap();
}

#[tokio::test]
async fn a_subscription_keeps_its_versions_and_tells_which_event_is_not_one_of_them() {
    let (server, client) = stocked().await;
    let filter = versions(&[(PURCHASE, 2, 3), (OTHER, 0, 0)]);
    let subscription = pb::Subscription {
        name: "some".into(),
        filter: Some(filter.clone()),
        ordering: pb::Ordering::Unordered.into(),
        ..Default::default()
    };
    let beginning = pb::start::Start::Beginning(pb::start::Beginning {});
    let request = pb::CreateSubscriptionRequest {
        subscription: Some(subscription),
        start: Some(pb::Start { start: Some(beginning) }),
        validate_only: false,
    };
    client.subscriptions.clone().create_subscription(request).await.unwrap();
    let server = Server::start_on(server.kill());
    let mut subscriptions = server.client().await.subscriptions;
    let request = pb::GetSubscriptionRequest { name: "some".into() };
    let got = subscriptions.get_subscription(request).await.unwrap().into_inner();
    assert_eq!(got.subscription.unwrap().filter, Some(filter));
    assert_eq!(got.status.unwrap().lag_events, 3);
    let pull = pb::PullRequest {
        subscription: "some".into(),
        client_id: "one".into(),
        max_events: 10,
        wait: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..Default::default()
    };
    let events = subscriptions.pull(pull).await.unwrap().into_inner().events;
    let positions: Vec<_> = events.iter().map(|it| it.event.as_ref().unwrap().position).collect();
    assert_eq!(positions, [2, 3, 5]);
    let request = pb::ExplainDeliveryRequest { subscription: "some".into(), position: 4 };
    let explained = subscriptions.explain_delivery(request).await.unwrap().into_inner();
    assert_eq!(explained.standing(), Standing::NotMatched);
    assert_eq!(explained.filter_field, "schema_versions");
}

/// A trim of events of another schema is no loss.
#[tokio::test]
async fn what_is_lost_of_other_schemas_is_no_gap() {
    let (_server, client) = stocked().await;
    client.trim("web", 5).await.unwrap();
    let of = |id: &str| pb::ReadEventsRequest { after: 1, ..reading(versions(&[(id, 0, 0)])) };
    let found: Vec<_> =
        client.read(of(OTHER)).await.unwrap().iter().map(|it| it.position).collect();
    assert_eq!(found, [5]);
    expect(client.read(of(PURCHASE)).await, "POSITION_TRIMMED", &[]);
}
