//! What matches.

use milepost::grpc::pb;
use serde_json::json;

use crate::{
    event_definitions::{by_definition, create, rule, set_state, update},
    support::{
        Client, Server,
        client::{by_type, reading},
        errors::expect,
        events::{EXPERIENCE_EVENT, PURCHASE, purchase, purchase_schema, purchases, typed},
    },
};

/// A purchase of this price.
fn priced(id: &str, price: f64) -> String {
    let mut event = purchase(id, "ann@example.com");
    event["commerce"]["order"]["priceTotal"] = json!(price);
    event.to_string()
}

async fn positions(client: &Client, filter: pb::EventFilter) -> Vec<u64> {
    let count = client.count(filter.clone()).await.unwrap();
    let read = client.read(reading(filter)).await.unwrap();
    assert_eq!(read.len() as u64, count);
    read.iter().map(|it| it.position).collect()
}

#[tokio::test]
async fn an_event_is_matched_when_it_is_stored_and_found_by_it_after_a_crash() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.append("web", &[priced("before", 500.0)]).await.unwrap();
    let large = "eventType == 'commerce.purchases' && commerce.order.priceTotal > 100";
    create(&client, rule("largePurchase", large)).await.unwrap();
    create(&client, rule("euro", "commerce.order.currencyCode == 'EUR'")).await.unwrap();
    let draft = pb::EventDefinition { state: 0, ..rule("draft", "true") };
    create(&client, draft).await.unwrap();
    let events = [priced("a", 100.0), priced("b", 100.5), typed("c", "commerce.purchases")];
    client.append("web", &events).await.unwrap();
    let names = |events: &[pb::RecordedEvent]| -> Vec<Vec<String>> {
        events.iter().map(|it| it.event_definitions.clone()).collect()
    };
    let expected: [&[&str]; 4] = [&[], &["euro"], &["largePurchase", "euro"], &[]];
    assert_eq!(names(&client.read_all().await), expected);
    assert_eq!(positions(&client, by_definition(&["largePurchase"])).await, [3]);
    assert_eq!(positions(&client, by_definition(&["euro"])).await, [2, 3]);
    assert_eq!(positions(&client, by_definition(&["euro", "largePurchase"])).await, [2, 3]);
    assert_eq!(positions(&client, by_definition(&["draft"])).await, [0_u64; 0]);
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(names(&client.read_all().await), expected);
    assert_eq!(positions(&client, by_definition(&["largePurchase"])).await, [3]);
    client.append("web", &[priced("d", 101.0)]).await.unwrap();
    assert_eq!(positions(&client, by_definition(&["largePurchase"])).await, [3, 5]);
    expect(client.count(by_definition(&["none"])).await, "EVENT_DEFINITION_NOT_FOUND", &["none"]);
    client.verify().await.unwrap();
}

#[tokio::test]
async fn a_change_decides_about_the_next_event_and_none_before() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let first = create(&client, rule("large", "commerce.order.priceTotal > 100")).await.unwrap();
    assert_eq!((first.version, first.effective_from), (1, 1));
    client.append("web", &[priced("a", 150.0)]).await.unwrap();
    let larger = rule("large", "commerce.order.priceTotal > 200");
    let second = update(&client, larger, &["condition"]).await.unwrap();
    assert_eq!((second.version, second.effective_from), (2, 2));
    client.append("web", &[priced("b", 150.0), priced("c", 250.0)]).await.unwrap();
    let paused = set_state(&client, "large", pb::EventDefinitionState::Paused).await.unwrap();
    assert_eq!((paused.version, paused.effective_from), (3, 4));
    client.append("web", &[priced("d", 350.0)]).await.unwrap();
    let live = set_state(&client, "large", pb::EventDefinitionState::Live).await.unwrap();
    assert_eq!((live.version, live.effective_from), (4, 5));
    client.append("web", &[priced("e", 450.0)]).await.unwrap();
    // A duplicate keeps what was decided about the first.
    client.append("web", &[priced("d", 350.0)]).await.unwrap();
    assert_eq!(positions(&client, by_definition(&["large"])).await, [1, 3, 5]);
}

#[tokio::test]
async fn changes_under_load_take_effect_at_exactly_their_position() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    create(&client, rule("flag", "true")).await.unwrap();
    let writers = (0..4).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            for batch in 0..50 {
                let ids = (0..4).map(|n| priced(&format!("{writer}-{batch}-{n}"), 1.0));
                client.append("web", &ids.collect::<Vec<_>>()).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    // Where matching is on: spans of positions, the end exclusive.
    let mut spans = vec![(1, u64::MAX)];
    for round in 0..30 {
        let state = match round % 2 {
            0 => pb::EventDefinitionState::Paused,
            _ => pb::EventDefinitionState::Live,
        };
        let from = set_state(&client, "flag", state).await.unwrap().effective_from;
        match round % 2 {
            0 => spans.last_mut().unwrap().1 = from,
            _ => spans.push((from, u64::MAX)),
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let is_on = |position: u64| spans.iter().any(|span| span.0 <= position && position < span.1);
    let events = client.read_all().await;
    assert_eq!(events.len(), 800);
    for event in events {
        let matched = !event.event_definitions.is_empty();
        assert_eq!(matched, is_on(event.position), "position {} {spans:?}", event.position);
    }
}

#[tokio::test]
async fn an_event_id_made_by_the_server_is_matched_by_equality() {
    let server = Server::start();
    let client = server.client().await;
    let mut schema = purchase_schema();
    schema["allOf"][1]["properties"]["_experience"] = json!({"type": "object", "properties": {
        "campaign": {"type": "object", "properties": {
            "orchestration": {"type": "object", "properties": {"eventID": {"type": "string"}}}
        }}
    }});
    client.register(purchase_schema().to_string()).await.unwrap();
    let system = |name: &str| pb::EventDefinition {
        kind: pb::EventDefinitionKind::UnitarySystem.into(),
        ..rule(name, "")
    };
    let path = "_experience.campaign.orchestration.eventID";
    expect(create(&client, system("visit")).await, "EVENT_DEFINITION_INVALID", &[path]);
    client.register(schema.to_string()).await.unwrap();
    client.create("web", PURCHASE).await.unwrap();
    let with = pb::EventDefinition { condition: "true".into(), ..system("visit") };
    expect(create(&client, with).await, "ARGUMENT_INVALID", &["condition"]);
    let visit = create(&client, system("visit")).await.unwrap();
    let other = create(&client, system("other")).await.unwrap();
    assert!(visit.event_id.len() == 32 && visit.event_id != other.event_id);
    assert_eq!(create(&client, system("visit")).await.unwrap(), visit);
    let named = |id: &str, event_id: &str| {
        let mut event = purchase(id, "ann@example.com");
        event["_experience"] = json!({"campaign": {"orchestration": {"eventID": event_id}}});
        event.to_string()
    };
    let events = [named("a", &visit.event_id), named("b", "nobody's"), named("c", &other.event_id)];
    client.append("web", &events).await.unwrap();
    assert_eq!(positions(&client, by_definition(&["visit"])).await, [1]);
    assert_eq!(positions(&client, by_definition(&["other"])).await, [3]);
}

#[tokio::test]
async fn record_time_decides_what_speaks_of_now_and_what_has_an_interval() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    create(&client, rule("recent", "now() - timestamp < duration('1h')")).await.unwrap();
    create(&client, rule("now", "now() > timestamp('2020-01-01T00:00:00Z')")).await.unwrap();
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let during = |start, end| Some(pb::TimeRange { start, end });
    for (name, effective) in [
        ("past", during(None, at(1_000_000_000))),
        ("always", during(at(1_000_000_000), at(100_000_000_000))),
        ("future", during(at(100_000_000_000), None)),
    ] {
        create(&client, pb::EventDefinition { effective, ..rule(name, "true") }).await.unwrap();
    }
    let mut fresh = purchase("fresh", "ann@example.com");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let now = milepost::model::Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap());
    fresh["timestamp"] = json!(now.to_string());
    let old = {
        let mut old = purchase("old", "ann@example.com");
        old["timestamp"] = json!("2001-01-01T00:00:00Z");
        old
    };
    client.append("web", &[fresh.to_string(), old.to_string()]).await.unwrap();
    let events = client.read_all().await;
    assert_eq!(events[0].event_definitions, ["recent", "now", "always"]);
    assert_eq!(events[1].event_definitions, ["now", "always"]);
    assert_eq!(positions(&client, by_definition(&["recent"])).await, [1]);
}

#[tokio::test]
async fn many_definitions_match_as_each_of_them_would() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    for n in 0..40 {
        let condition = match n % 4 {
            0 => format!("commerce.order.purchaseID == 'p{n}'"),
            1 => format!("commerce.order.priceTotal >= {n}.0"),
            2 => format!("eventType in ['t{n}', 't{}'] || eventType == 't0'", n + 1),
            _ => format!("eventType == 't{n}' && commerce.order.priceTotal < {n}.0"),
        };
        create(&client, rule(&format!("d{n:02}"), &condition)).await.unwrap();
    }
    let events: Vec<String> = (0..40)
        .map(|n| {
            let mut event = purchase(&format!("p{n}"), "ann@example.com");
            event["eventType"] = json!(format!("t{n}"));
            event["commerce"]["order"]["priceTotal"] = json!(n);
            event.to_string()
        })
        .collect();
    client.append("web", &events).await.unwrap();
    for (event, n) in client.read_all().await.into_iter().zip(0_u32..) {
        let expected: Vec<String> = (0..40)
            .filter(|d| match d % 4 {
                0 => n == *d,
                1 => n >= *d,
                2 => n == *d || n == d + 1 || n == 0,
                _ => false,
            })
            .map(|d| format!("d{d:02}"))
            .collect();
        assert_eq!(event.event_definitions, expected, "event {n}");
    }
}

#[tokio::test]
async fn a_condition_filters_what_is_read_counted_and_followed() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let events = [priced("a", 10.0), priced("b", 20.0), typed("c", "x"), priced("d", 30.0)];
    client.append("web", &events).await.unwrap();
    let by = |text: &str| pb::EventFilter { r#where: text.into(), ..Default::default() };
    assert_eq!(positions(&client, by("commerce.order.priceTotal > 15")).await, [2, 4]);
    assert_eq!(positions(&client, by("!(commerce.order.priceTotal > 15)")).await, [1]);
    assert_eq!(positions(&client, by("commerce == null")).await, [3]);
    assert_eq!(positions(&client, by("nothing.like.it > 3")).await, [0_u64; 0]);
    assert_eq!(
        positions(&client, by("timestamp > timestamp('2026-11-20T00:00:00Z')")).await.len(),
        4
    );
    let both = pb::EventFilter { r#where: "_id != 'a'".into(), ..by_type("commerce.purchases") };
    assert_eq!(positions(&client, both.clone()).await, [2, 4]);
    let follow = pb::FollowEventsRequest {
        filter: Some(both),
        start: Some(pb::Start { start: Some(pb::start::Start::AfterPosition(2)) }),
        ..Default::default()
    };
    let mut messages = client.follow(follow).await.unwrap();
    let mut seen = Vec::new();
    client.append("web", &[priced("e", 1.0)]).await.unwrap();
    while seen.len() < 2 {
        use pb::follow_events_response::Message;
        if let Some(Message::Events(batch)) = messages.message().await.unwrap().unwrap().message {
            seen.extend(batch.events.into_iter().map(|it| it.position));
        }
    }
    assert_eq!(seen, [4, 5]);
    let found = expect(client.count(by("a ==")).await, "FILTER_INVALID", &["column 5", "wanted"]);
    assert_eq!(found.fields[0].0, "filter.where");
}

#[tokio::test]
async fn business_events_are_not_about_people() {
    let server = Server::start();
    let client = server.client().await;
    let class = "https://example.com/classes/stock";
    let time_series = "https://ns.adobe.com/xdm/data/time-series";
    client
        .register(
            json!({"$id": class, "type": "object", "title": "Stock", "meta:abstract": true,
                   "meta:extends": [time_series], "allOf": [{"$ref": time_series}]})
            .to_string(),
        )
        .await
        .unwrap();
    let schema = "https://example.com/schemas/stock";
    let document = json!({
        "$id": schema, "meta:class": class, "type": "object", "title": "Stock changes",
        "allOf": [{"$ref": class}],
        "properties": {"sku": {"type": "string"}, "left": {"type": "integer"}}
    });
    client.register(document.to_string()).await.unwrap();
    client.register(purchase_schema().to_string()).await.unwrap();
    let product = pb::Namespace {
        code: "SKU".into(),
        r#type: pb::NamespaceType::NonPeople.into(),
        ..Default::default()
    };
    let product = pb::CreateNamespaceRequest { namespace: Some(product), validate_only: false };
    client.identities.clone().create_namespace(product).await.unwrap();
    let business = |namespace: &str, schema_id: &str| pb::EventDefinition {
        kind: pb::EventDefinitionKind::Business.into(),
        namespace: namespace.into(),
        schema_id: schema_id.into(),
        key: if schema_id == PURCHASE { String::new() } else { "sku".into() },
        coalescing_window: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..rule("back", if schema_id == PURCHASE { "true" } else { "left > 0" })
    };
    let invalid = "EVENT_DEFINITION_INVALID";
    let refused = expect(create(&client, business("SKU", PURCHASE)).await, invalid, &["BUSINESS"]);
    assert!(refused.message.contains(EXPERIENCE_EVENT), "{refused:?}");
    expect(create(&client, business("", schema)).await, invalid, &["NON_PEOPLE"]);
    expect(create(&client, business("Email", schema)).await, invalid, &["identifies people"]);
    expect(create(&client, business("Nix", schema)).await, "NAMESPACE_NOT_FOUND", &["Nix"]);
    let unitary = pb::EventDefinition { schema_id: schema.into(), ..rule("u", "left > 0") };
    expect(create(&client, unitary).await, invalid, &["unitary"]);
    let of_thing = pb::EventDefinition { namespace: "SKU".into(), ..rule("u", "true") };
    expect(create(&client, of_thing).await, invalid, &["NON_PEOPLE"]);
    create(&client, business("SKU", schema)).await.unwrap();
    client.create("stock", schema).await.unwrap();
    let event = |id: &str, left: i64| {
        json!({"_id": id, "timestamp": "2026-11-20T17:26:04Z", "sku": "a", "left": left})
            .to_string()
    };
    client.append("stock", &[event("a", 0), event("b", 2)]).await.unwrap();
    assert_eq!(positions(&client, by_definition(&["back"])).await, [2]);
}
