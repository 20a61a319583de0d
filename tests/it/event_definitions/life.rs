//! The life of a definition: created, changed, duplicated, used, deleted; and what is refused.

use milepost::grpc::pb;

use crate::{
    event_definitions::{by_definition, create, delete, get, rule, set_state, update},
    support::{
        Client, Server,
        errors::expect,
        events::{PURCHASE, purchase_text, purchases},
    },
};

const INVALID: &str = "EVENT_DEFINITION_INVALID";

async fn list(
    client: &Client,
    request: pb::ListEventDefinitionsRequest,
) -> pb::ListEventDefinitionsResponse {
    client.definitions.clone().list_event_definitions(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn creating_again_is_fine_and_creating_otherwise_is_not() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let first = create(&client, rule("a", "true")).await.unwrap();
    assert_eq!((first.version, first.schema_version), (1, 1));
    assert_eq!(create(&client, rule("a", "true")).await.unwrap(), first);
    let other = create(&client, rule("a", "false")).await;
    expect(other, "EVENT_DEFINITION_EXISTS", &["another condition"]);
    let checked = pb::CreateEventDefinitionRequest {
        event_definition: Some(rule("b", "true")),
        validate_only: true,
    };
    client.definitions.clone().create_event_definition(checked).await.unwrap();
    expect(get(&client, "b").await, "EVENT_DEFINITION_NOT_FOUND", &["b"]);
    let server = Server::start_on(server.kill());
    let found = get(&server.client().await, "a").await.unwrap();
    assert_eq!(found.event_definition.unwrap(), first);
    assert_eq!(found.versions.len(), 1);
}

#[tokio::test]
async fn an_update_touches_only_the_fields_of_its_mask() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let before = create(&client, rule("a", "true")).await.unwrap();
    let wanted = pb::EventDefinition {
        display_name: "A purchase".into(),
        description: "for journeys".into(),
        condition: "eventType == 'commerce.purchases'".into(),
        etag: before.etag.clone(),
        ..rule("a", "")
    };
    let after = update(&client, wanted.clone(), &["display_name"]).await.unwrap();
    assert_eq!((after.display_name.as_str(), after.description.as_str()), ("A purchase", ""));
    assert_eq!((after.condition.as_str(), after.version), ("true", 1));
    expect(update(&client, wanted.clone(), &["description"]).await, "ETAG_MISMATCH", &["a"]);
    let fresh = pb::EventDefinition { etag: after.etag, ..wanted.clone() };
    let after = update(&client, fresh, &["condition", "description"]).await.unwrap();
    assert_eq!((after.version, after.description.as_str()), (2, "for journeys"));
    let free = pb::EventDefinition { etag: String::new(), ..wanted };
    for field in ["name", "kind", "schema_id", "event_id", "version", "nonsense"] {
        expect(update(&client, free.clone(), &[field]).await, "ARGUMENT_INVALID", &[field]);
    }
    expect(update(&client, free.clone(), &[]).await, "ARGUMENT_INVALID", &["update_mask"]);
    let none = pb::EventDefinition { name: "none".into(), ..free };
    expect(update(&client, none, &["key"]).await, "EVENT_DEFINITION_NOT_FOUND", &["none"]);
    let versions = get(&client, "a").await.unwrap().versions;
    assert_eq!(versions.iter().map(|it| it.version).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(versions[1].condition, "true");
}

#[tokio::test]
async fn what_journeys_rely_on_only_grows() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let used = pb::EventDefinition {
        used_by: vec!["welcome".into()],
        fields: vec!["commerce.order".into()],
        ..rule("a", "true")
    };
    create(&client, used.clone()).await.unwrap();
    let in_use = "EVENT_DEFINITION_IN_USE";
    let change = |f: fn(&mut pb::EventDefinition)| {
        let mut changed = used.clone();
        f(&mut changed);
        changed
    };
    let rows: [(&str, pb::EventDefinition); 4] = [
        ("condition", change(|it| it.condition = "false".into())),
        ("key", change(|it| it.key = "_id".into())),
        ("fields", change(|it| it.fields = vec!["count".into()])),
        ("state", change(|it| it.state = pb::EventDefinitionState::Archived.into())),
    ];
    for (field, changed) in rows {
        let changed = pb::EventDefinition { namespace: "Email".into(), ..changed };
        let mask: &[&str] = if field == "key" { &["key", "namespace"] } else { &[field] };
        expect(update(&client, changed, mask).await, in_use, &["welcome", field]);
    }
    expect(delete(&client, "a").await, in_use, &["welcome"]);
    let more = change(|it| it.fields = vec!["count".into(), "commerce.order".into()]);
    update(&client, more, &["fields"]).await.unwrap();
    set_state(&client, "a", pb::EventDefinitionState::Paused).await.unwrap();
    let free = change(|it| it.used_by.clear());
    update(&client, free, &["used_by"]).await.unwrap();
    delete(&client, "a").await.unwrap();
    expect(get(&client, "a").await, "EVENT_DEFINITION_NOT_FOUND", &["a"]);
}

#[tokio::test]
async fn a_deleted_definition_leaves_events_that_no_longer_name_it() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    create(&client, rule("a", "true")).await.unwrap();
    client.append("web", &[purchase_text("1", "ann@example.com")]).await.unwrap();
    delete(&client, "a").await.unwrap();
    assert!(client.get(1).await.unwrap().event_definitions.is_empty());
    create(&client, rule("a", "true")).await.unwrap();
    client.append("web", &[purchase_text("2", "ann@example.com")]).await.unwrap();
    assert_eq!(client.count(by_definition(&["a"])).await.unwrap(), 1);
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(client.count(by_definition(&["a"])).await.unwrap(), 1);
    assert!(client.get(1).await.unwrap().event_definitions.is_empty());
    assert_eq!(client.get(2).await.unwrap().event_definitions, ["a"]);
}

#[tokio::test]
async fn states_follow_the_order_of_a_life() {
    use pb::EventDefinitionState::{Archived, Draft, Live, Paused};
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    create(&client, pb::EventDefinition { state: Draft.into(), ..rule("a", "true") })
        .await
        .unwrap();
    expect(set_state(&client, "a", Paused).await, INVALID, &["before it was in force"]);
    set_state(&client, "a", Live).await.unwrap();
    expect(set_state(&client, "a", Draft).await, INVALID, &["wanted PAUSED"]);
    set_state(&client, "a", Paused).await.unwrap();
    expect(set_state(&client, "a", Draft).await, INVALID, &["wanted PAUSED"]);
    set_state(&client, "a", Live).await.unwrap();
    set_state(&client, "a", Archived).await.unwrap();
    expect(set_state(&client, "a", Live).await, INVALID, &["for ever"]);
    expect(update(&client, rule("a", "false"), &["condition"]).await, INVALID, &["for ever"]);
}

#[tokio::test]
async fn a_duplicate_is_a_draft_of_its_own() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let used = pb::EventDefinition { used_by: vec!["j".into()], ..rule("a", "true") };
    create(&client, used).await.unwrap();
    let duplicate = |name: &str, new_name: &str| {
        let request = pb::DuplicateEventDefinitionRequest {
            name: name.into(),
            new_name: new_name.into(),
            validate_only: false,
        };
        let mut definitions = client.definitions.clone();
        async move { definitions.duplicate_event_definition(request).await }
    };
    let made = duplicate("a", "b").await.unwrap().into_inner().event_definition.unwrap();
    assert_eq!(made.state(), pb::EventDefinitionState::Draft);
    assert!(made.used_by.is_empty() && made.condition == "true");
    expect(duplicate("none", "c").await, "EVENT_DEFINITION_NOT_FOUND", &["none"]);
    expect(duplicate("a", "b c").await, "ARGUMENT_INVALID", &["new_name"]);
    expect(duplicate("b", "a").await, "EVENT_DEFINITION_EXISTS", &["a"]);
}

#[tokio::test]
async fn pages_list_every_definition_once_in_order() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let names: Vec<String> = (0..13).map(|n| format!("d{n:02}")).collect();
    for (name, n) in names.iter().rev().zip(0..) {
        let state = if n % 2 == 0 { 2 } else { 1 };
        create(&client, pb::EventDefinition { state, ..rule(name, "true") }).await.unwrap();
    }
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            pb::ListEventDefinitionsRequest { page_size: 5, page_token, ..Default::default() };
        let page = list(&client, request).await;
        listed.extend(page.event_definitions.into_iter().map(|it| it.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, names);
    let live = pb::ListEventDefinitionsRequest { state: 2, ..Default::default() };
    assert_eq!(list(&client, live).await.event_definitions.len(), 7);
    let schema_id = "https://example.com/none".into();
    let none = pb::ListEventDefinitionsRequest { schema_id, ..Default::default() };
    assert!(list(&client, none).await.event_definitions.is_empty());
}

#[tokio::test]
async fn a_schema_is_not_deleted_under_definitions() {
    let server = Server::start();
    let client = server.client().await;
    client.register(crate::support::events::purchase_schema().to_string()).await.unwrap();
    create(&client, rule("a", "true")).await.unwrap();
    let request = pb::DeleteSchemaRequest { id: PURCHASE.into(), ..Default::default() };
    let mut schemas = client.schemas.clone();
    let refused = schemas.delete_schema(request.clone()).await;
    expect(refused, "SCHEMA_IN_USE", &["event definition `a`"]);
    delete(&client, "a").await.unwrap();
    schemas.delete_schema(request).await.unwrap();
}

#[tokio::test]
async fn what_is_not_true_to_the_schema_is_refused_with_its_place() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let rows: [(&str, &[&str]); 9] = [
        (
            "commerce.ordr.priceTotal > 1",
            &["column 10", "`ordr` is no field of `commerce`", "mean `order`"],
        ),
        ("Commerce.order != null", &["`Commerce` is no field of schema", "mean `commerce`"]),
        ("commerce.order.priceTotal > '1'", &["a number and a text", "without quotes"]),
        ("true && count == 'x'", &["column 9", "a whole number and a text"]),
        ("timestamp > '2026-01-01T00:00:00Z'", &["a moment and a text", "timestamp('"]),
        ("count", &["this is a whole number", "true or false"]),
        ("eventType.startWith('a')", &["`startWith` is no function", "mean `startsWith`"]),
        ("count == 1 &", &["`&` has no meaning"]),
        ("count ==\n  count2", &["line 2, column 3", "mean `count`"]),
    ];
    for (condition, words) in rows {
        let refused = expect(create(&client, rule("a", condition)).await, INVALID, words);
        assert_eq!(refused.fields[0].0, "event_definition.condition", "{refused:?}");
    }
    let several = rule("a", "nix == 1 && nux == 2");
    assert_eq!(expect(create(&client, several).await, INVALID, &[]).fields.len(), 2);
    for (change, field) in [
        (
            pb::EventDefinition {
                key: "nix".into(),
                namespace: "Email".into(),
                ..rule("a", "true")
            },
            "key",
        ),
        (
            pb::EventDefinition {
                key: "count > 1".into(),
                namespace: "Email".into(),
                ..rule("a", "true")
            },
            "key",
        ),
        (pb::EventDefinition { key: "_id".into(), ..rule("a", "true") }, "namespace"),
        (
            pb::EventDefinition { fields: vec!["_id".into(), "a.b".into()], ..rule("a", "true") },
            "fields[1]",
        ),
    ] {
        let refused = expect(create(&client, change).await, INVALID, &[]);
        assert_eq!(refused.fields[0].0, format!("event_definition.{field}"), "{refused:?}");
    }
    let long = "x".repeat(65);
    for name in ["", "a-b", "ä", "a b", &long] {
        expect(create(&client, rule(name, "true")).await, "ARGUMENT_INVALID", &["name"]);
    }
    let argument = "ARGUMENT_INVALID";
    expect(create(&client, rule("a", "")).await, argument, &["condition", "missing"]);
    let no_kind = pb::EventDefinition { kind: 0, ..rule("a", "true") };
    expect(create(&client, no_kind).await, argument, &["kind"]);
    let no_schema = pb::EventDefinition { schema_id: String::new(), ..rule("a", "true") };
    expect(create(&client, no_schema).await, argument, &["schema_id"]);
    let unknown = pb::EventDefinition { schema_id: "x:y".into(), ..rule("a", "true") };
    expect(create(&client, unknown).await, "SCHEMA_NOT_FOUND", &["x:y"]);
    let described = pb::EventDefinition { description: "x".repeat(1025), ..rule("a", "true") };
    expect(create(&client, described).await, argument, &["description"]);
    let window = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let window = pb::EventDefinition { coalescing_window: window, ..rule("a", "true") };
    expect(create(&client, window).await, argument, &["coalescing_window", "BUSINESS"]);
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let effective = Some(pb::TimeRange { start: at(5), end: at(5) });
    let effective = pb::EventDefinition { effective, ..rule("a", "true") };
    expect(create(&client, effective).await, argument, &["effective"]);
}
