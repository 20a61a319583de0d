//! What listeners get, what they do not get and why, and trying definitions out.

use milepost::grpc::pb;
use serde_json::{Value, json};
use tonic::Status;

use crate::{
    event_definitions::{by_definition, create, rule, set_state, update},
    support::{
        Client, Server,
        client::{json_event, json_of, reading},
        errors::expect,
        events::{PURCHASE, purchase, purchases, typed},
    },
};

fn delivered_as(name: &str) -> pb::EventFilter {
    pb::EventFilter { deliver_as: name.into(), ..Default::default() }
}

async fn discards(client: &Client, name: &str) -> Vec<(u64, String, String)> {
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let request = pb::ListDiscardsRequest { name: name.into(), after, page_size: 1 };
        let page = client.definitions.clone().list_discards(request).await.unwrap().into_inner();
        found.extend(page.discards.into_iter().map(|it| {
            let discard = it.discard.unwrap();
            (it.position, discard.reason().as_str_name().to_owned(), discard.message)
        }));
        if page.scanned_to >= page.last_position {
            return found;
        }
        assert!(page.scanned_to > after, "{} is not beyond {after}", page.scanned_to);
        after = page.scanned_to;
    }
}

async fn explain(
    client: &Client,
    name: &str,
    subject: pb::explain_match_request::Subject,
) -> Result<pb::ExplainMatchResponse, Status> {
    let request = pb::ExplainMatchRequest { name: name.into(), subject: Some(subject) };
    Ok(client.definitions.clone().explain_match(request).await?.into_inner())
}

async fn test(
    client: &Client,
    request: pb::TestEventDefinitionRequest,
) -> Result<pb::TestEventDefinitionResponse, Status> {
    Ok(client.definitions.clone().test_event_definition(request).await?.into_inner())
}

#[tokio::test]
async fn delivered_events_have_a_key_and_the_selected_fields_alone() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let whole = rule("whole", "true");
    let part = pb::EventDefinition {
        fields: vec!["commerce.order.priceTotal".into(), "eventType".into()],
        namespace: "Email".into(),
        key: "'order-' + commerce.order.purchaseID".into(),
        ..rule("part", "true")
    };
    create(&client, whole).await.unwrap();
    create(&client, part).await.unwrap();
    let sent = purchase("e1", "ann@example.com");
    client.append("web", &[sent.to_string()]).await.unwrap();
    let read = |name: &str| {
        let (client, name) = (client.clone(), name.to_owned());
        async move { client.read(reading(delivered_as(&name))).await.unwrap().remove(0) }
    };
    let event = read("whole").await;
    let expected = pb::Delivery {
        event_definition: "whole".into(),
        version: 1,
        namespace: "Email".into(),
        key: "ann@example.com".into(),
    };
    assert_eq!(event.delivery, Some(expected));
    assert_eq!(json_of(&event), sent.to_string());
    let event = read("part").await;
    assert_eq!(event.delivery.as_ref().unwrap().key, "order-e1");
    // What the schema requires is there, although nobody selected it.
    let payload: Value = serde_json::from_str(json_of(&event)).unwrap();
    let expected = json!({
        "_id": "e1", "timestamp": sent["timestamp"], "eventType": "commerce.purchases",
        "commerce": {"order": {"purchaseID": "e1", "priceTotal": 99.5}}
    });
    assert_eq!(payload, expected);
    assert!(client.read_all().await[0].delivery.is_none());
    // The selection of the version that decided stays.
    let all = pb::EventDefinition { fields: Vec::new(), ..rule("part", "true") };
    update(&client, all, &["fields"]).await.unwrap();
    client.append("web", &[purchase("e2", "ann@example.com").to_string()]).await.unwrap();
    let events = client.read(reading(delivered_as("part"))).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(json_of(&events[0])).unwrap(), expected);
    assert_eq!(json_of(&events[1]), purchase("e2", "ann@example.com").to_string());
    expect(client.count(delivered_as("none")).await, "EVENT_DEFINITION_NOT_FOUND", &["none"]);
}

#[tokio::test]
async fn what_listeners_do_not_get_is_told_with_a_reason() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.append("web", &[typed("before", "a")]).await.unwrap();
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    create(&client, rule("all", "eventType != 'c'")).await.unwrap();
    let effective = Some(pb::TimeRange { start: at(100_000_000_000), end: None });
    create(&client, pb::EventDefinition { effective, ..rule("later", "true") }).await.unwrap();
    let thing = pb::Namespace {
        code: "SKU".into(),
        r#type: pb::NamespaceType::NonPeople.into(),
        ..Default::default()
    };
    let thing = pb::CreateNamespaceRequest { namespace: Some(thing), validate_only: false };
    client.identities.clone().create_namespace(thing).await.unwrap();
    let mut of_thing = purchase("thing", "x");
    of_thing["identityMap"] = json!({"SKU": [{"id": "4711", "primary": true}]});
    let ann = purchase("ann", "ann@example.com").to_string();
    client.append("web", &[ann, typed("nobody", "a"), of_thing.to_string()]).await.unwrap();
    client.append("web", &[typed("other", "c")]).await.unwrap();
    set_state(&client, "all", pb::EventDefinitionState::Paused).await.unwrap();
    client.append("web", &[purchase("paused", "ann@example.com").to_string()]).await.unwrap();
    // Matched is what the condition says; delivered is what can be.
    assert_eq!(client.count(by_definition(&["all"])).await.unwrap(), 3);
    assert_eq!(client.count(delivered_as("all")).await.unwrap(), 1);
    let found = discards(&client, "all").await;
    let found: Vec<_> = found.iter().map(|it| (it.0, it.1.as_str(), it.2.as_str())).collect();
    let expected = [
        (3, "KEY_NOT_COMPUTED", "the event has no primary identity"),
        (4, "KEY_NOT_COMPUTED", "the identity is of namespace `SKU`, which identifies no person"),
        (6, "DEFINITION_NOT_LIVE", "the definition was PAUSED"),
    ];
    assert_eq!(found, expected);
    let later = discards(&client, "later").await;
    assert_eq!(later.iter().map(|it| it.0).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    assert!(later.iter().all(|it| it.1 == "OUTSIDE_INTERVAL"), "{later:?}");
}

#[tokio::test]
async fn a_match_is_explained_clause_by_clause() {
    use pb::{condition_clause::Outcome, explain_match_request::Subject};
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let text =
        "eventType == 'commerce.purchases' && (commerce.order.priceTotal > 100 || count > 3)";
    create(&client, rule("large", text)).await.unwrap();
    client.append("web", &[purchase("a", "ann@example.com").to_string()]).await.unwrap();
    let said = explain(&client, "large", Subject::Position(1)).await.unwrap();
    assert_eq!((said.delivered, said.stored_match, said.version), (false, Some(false), 1));
    let whole = said.condition.unwrap();
    assert_eq!(whole.text, text);
    assert_eq!(whole.outcome(), Outcome::ComesToNothing);
    let [first, second] = whole.clauses.as_slice() else { panic!("{whole:?}") };
    assert_eq!(first.outcome(), Outcome::Holds);
    let value = |path: &str, json: Option<&str>| pb::PathValue {
        path: path.into(),
        json: json.map(str::to_owned),
    };
    assert_eq!(first.values, [value("eventType", Some("\"commerce.purchases\""))]);
    let [price, count] = second.clauses.as_slice() else { panic!("{second:?}") };
    assert_eq!(price.outcome(), Outcome::DoesNotHold);
    assert_eq!(price.values, [value("commerce.order.priceTotal", Some("99.5"))]);
    assert_eq!(count.outcome(), Outcome::ComesToNothing);
    assert_eq!(count.message, "a value is missing");
    assert_eq!(count.values, [value("count", None)]);
    let mut better = purchase("b", "ann@example.com");
    better["count"] = json!(4);
    let given = Subject::Event(json_event(&better.to_string()));
    let said = explain(&client, "large", given).await.unwrap();
    assert!(said.delivered && said.stored_match.is_none());
    assert_eq!(said.delivery.unwrap().key, "ann@example.com");
    let broken = Subject::Event(json_event(r#"{"_id":"x"}"#));
    expect(explain(&client, "large", broken).await, "EVENT_VIOLATES_SCHEMA", &["timestamp"]);
    let beyond = Subject::Position(9);
    expect(explain(&client, "large", beyond).await, "EVENT_NOT_FOUND", &[]);
    let none = Subject::Position(1);
    expect(explain(&client, "none", none).await, "EVENT_DEFINITION_NOT_FOUND", &[]);
    let nothing = pb::ExplainMatchRequest { name: "large".into(), subject: None };
    let nothing = client.definitions.clone().explain_match(nothing).await;
    expect(nothing, "ARGUMENT_INVALID", &["subject"]);
}

#[tokio::test]
async fn a_definition_is_tried_before_it_exists() {
    use pb::{event_trial::Place, test_event_definition_request::Definition};
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut events: Vec<String> =
        (0..20).map(|n| purchase(&format!("e{n}"), "ann@example.com").to_string()).collect();
    events.push(typed("nobody", "commerce.purchases"));
    client.append("web", &events).await.unwrap();
    let condition = "eventType == 'commerce.purchases' && commerce.order.purchaseID != 'e0'";
    let new = pb::EventDefinition { name: String::new(), ..rule("", condition) };
    let history = Some(pb::TestHistory::default());
    let request = pb::TestEventDefinitionRequest {
        definition: Some(Definition::EventDefinition(new)),
        events: vec![
            json_event(&purchase("g", "bob@example.com").to_string()),
            json_event(&typed("h", "x")),
            json_event(r#"{"_id":"i"}"#),
        ],
        history,
    };
    let tested = test(&client, request.clone()).await.unwrap();
    assert_eq!(
        (tested.tested_events, tested.matched_events, tested.delivered_events),
        (24, 21, 20)
    );
    let given: Vec<_> =
        tested.trials.iter().filter(|it| matches!(it.place, Some(Place::Index(_)))).collect();
    assert!(given[0].matched && given[0].delivery.as_ref().unwrap().key == "bob@example.com");
    assert!(!given[1].matched && given[1].violations.is_empty());
    assert!(!given[2].violations.is_empty());
    let stored = &tested.trials[3..];
    assert_eq!(stored.len(), 1 + 5 + 1, "one of no match, five delivered, one discarded");
    let discarded = stored.iter().find(|it| it.discard.is_some()).unwrap();
    assert_eq!(discarded.place, Some(Place::Position(21)));
    assert_eq!(client.last_position().await, 21);
    let name = Some(Definition::Name("none".into()));
    let unknown = pb::TestEventDefinitionRequest { definition: name, ..request.clone() };
    expect(test(&client, unknown).await, "EVENT_DEFINITION_NOT_FOUND", &["none"]);
    let nothing = pb::TestEventDefinitionRequest { definition: None, ..request.clone() };
    expect(test(&client, nothing).await, "ARGUMENT_INVALID", &["definition"]);
    let bad = Some(Definition::EventDefinition(rule("x", "count == ''")));
    let bad = pb::TestEventDefinitionRequest { definition: bad, ..request.clone() };
    expect(test(&client, bad).await, "EVENT_DEFINITION_INVALID", &["column"]);
    let history = Some(pb::TestHistory { max_events: 100_001, ..Default::default() });
    let long = pb::TestEventDefinitionRequest { history, ..request };
    expect(test(&client, long).await, "ARGUMENT_OUT_OF_BOUNDS", &["max_events"]);
}

#[tokio::test]
async fn a_preview_is_an_event_that_the_definition_matches() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let definition = pb::EventDefinition {
        fields: vec!["commerce.order.currencyCode".into()],
        namespace: "Phone".into(),
        ..rule("euro", "eventType in ['b', 'a'] && commerce.order.currencyCode == 'EUR'")
    };
    create(&client, definition).await.unwrap();
    let request = pb::PreviewPayloadRequest { name: "euro".into() };
    let made = client.definitions.clone().preview_payload(request).await.unwrap().into_inner();
    assert_eq!(made.dataset, "web");
    let preview: Value = serde_json::from_str(&made.json).unwrap();
    let expected = json!({
        "_id": "string", "timestamp": "2026-11-23T09:30:00Z", "eventType": "a",
        "identityMap": {"Phone": [{"id": "string", "primary": true}]},
        "commerce": {"order": {"purchaseID": "string", "currencyCode": "EUR"}}
    });
    assert_eq!(preview, expected);
    assert!(made.grpcurl.contains("AppendEvents") && made.grpcurl.contains("\"web\""));
    client.append("web", &[made.json]).await.unwrap();
    let events = client.read(reading(delivered_as("euro"))).await.unwrap();
    assert_eq!(events[0].delivery.as_ref().unwrap().namespace, "Phone");
    let none = pb::PreviewPayloadRequest { name: "none".into() };
    let none = client.definitions.clone().preview_payload(none).await;
    expect(none, "EVENT_DEFINITION_NOT_FOUND", &["none"]);
    assert_eq!(PURCHASE, rule("x", "").schema_id);
}

#[tokio::test]
async fn a_schema_change_says_which_definitions_it_breaks() {
    let server = Server::start();
    let client = server.client().await;
    client.register(crate::support::events::purchase_schema().to_string()).await.unwrap();
    create(&client, rule("counted", "count > 3")).await.unwrap();
    let selects = pb::EventDefinition { fields: vec!["count".into()], ..rule("selected", "true") };
    create(&client, selects).await.unwrap();
    create(&client, rule("priced", "commerce.order.priceTotal > 3")).await.unwrap();
    let mut changed = crate::support::events::purchase_schema();
    changed["allOf"][1]["properties"].as_object_mut().unwrap().remove("count");
    let check =
        pb::CheckCompatibilityRequest { document: changed.to_string(), ..Default::default() };
    let checked = client.schemas.clone().check_compatibility(check).await.unwrap().into_inner();
    assert_eq!(checked.affected[0].event_definitions, ["counted", "selected"]);
    let words = ["counted", "`count` is no field"];
    expect(client.register(changed.to_string()).await, "SCHEMA_INCOMPATIBLE", &words);
    let force = pb::RegisterSchemaRequest {
        document: changed.to_string(),
        force: true,
        ..Default::default()
    };
    client.schemas.clone().register_schema(force).await.unwrap();
    let audit = pb::ListAuditRecordsRequest::default();
    let audit = client.admin.clone().list_audit_records(audit).await.unwrap().into_inner().records;
    assert_eq!(audit.len(), 1);
    assert_eq!(audit[0].event_definitions, ["counted", "selected"]);
    assert!(audit[0].datasets.is_empty() && audit[0].new_version == audit[0].old_version + 1);
    client.create("web", PURCHASE).await.unwrap();
    let mut event = purchase("a", "ann@example.com");
    event["count"] = json!(4);
    client.append("web", &[event.to_string()]).await.unwrap();
    // It goes on as it was checked, also after a restart.
    let expected = ["counted", "selected", "priced"];
    assert_eq!(client.get(1).await.unwrap().event_definitions, expected);
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    event["_id"] = json!("b");
    client.append("web", &[event.to_string()]).await.unwrap();
    assert_eq!(client.get(2).await.unwrap().event_definitions, expected);
    expect(
        update(&client, rule("counted", "count > 4"), &["condition"]).await,
        "EVENT_DEFINITION_INVALID",
        &["count"],
    );
}

#[tokio::test]
async fn a_condition_becomes_groups_of_tests_and_text_again() {
    use pb::convert_condition_request::Condition;
    let server = Server::start();
    let client = server.client().await;
    let convert = |condition: Option<Condition>| {
        let mut definitions = client.definitions.clone();
        async move { definitions.convert_condition(pb::ConvertConditionRequest { condition }).await }
    };
    let text = "(a == 'x' || b in [1, 2]) && timestamp >= timestamp('2026-11-23T09:30:00Z')";
    let made = convert(Some(Condition::Text(text.into()))).await.unwrap().into_inner();
    let group = made.group.unwrap();
    assert_eq!((group.join(), group.parts.len()), (pb::condition_group::Join::And, 2));
    let again = convert(Some(Condition::Group(group.clone()))).await.unwrap().into_inner();
    assert_eq!((again.text.as_str(), again.group), (text, Some(group)));
    let more = convert(Some(Condition::Text("a + 1 == 2".into()))).await.unwrap().into_inner();
    assert_eq!(more.group, None);
    let bad = convert(Some(Condition::Text("a ==".into()))).await;
    expect(bad, "ARGUMENT_INVALID", &["text", "column 5"]);
    let empty = convert(Some(Condition::Group(pb::ConditionGroup::default()))).await;
    expect(empty, "ARGUMENT_INVALID", &["group"]);
    expect(convert(None).await, "ARGUMENT_INVALID", &["condition"]);
}
