//! Conditional appends: who was overtaken is told so, and only one of many wins.

use std::collections::HashMap;

use milepost::grpc::pb::{
    self, append_result::Outcome, condition::Condition as Choice, expected_last_position::Expected,
};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::support::{
    Client, Server,
    client::{by_dataset, by_identity, by_type, identity_of, request, string_of},
    errors::{self, expect},
    events::{Random, purchase_schema, purchase_text, purchases, typed},
};

/// A scope of `ExpectedLastPosition`: dataset, id of an `Email` identity, event type.
type Scope = (&'static str, &'static str, &'static str);

const WEB: Scope = ("web", "", "");
const ANA: Scope = ("", "ana", "");
const ANA_BOUGHT: Scope = ("", "ana", "commerce.purchases");

fn email(id: &str) -> pb::Identity {
    identity_of("Email", id)
}

fn last_is((dataset, id, event_type): Scope, expected: Expected) -> Choice {
    Choice::ExpectedLastPosition(pb::ExpectedLastPosition {
        dataset: dataset.into(),
        identity: (!id.is_empty()).then(|| email(id)),
        event_type: event_type.into(),
        expected: Some(expected),
    })
}

fn at(position: u64) -> Expected {
    Expected::Position(position)
}

const NONE: Expected = Expected::None(pb::expected_last_position::None {});
const ANY: Expected = Expected::Any(pb::expected_last_position::Any {});

fn no_match(filter: pb::EventFilter, after: u64) -> Choice {
    Choice::FailIfMatch(pb::FailIfMatch { filter: Some(filter), after })
}

/// An append of one event under conditions.
fn conditional(payload: &str, conditions: Vec<Choice>) -> pb::AppendEventsRequest {
    let condition = |it| pb::Condition { condition: Some(it) };
    let conditions = conditions.into_iter().map(condition).collect();
    pb::AppendEventsRequest { conditions, ..request("web", &[payload]) }
}

/// What the metadata of a failed condition say.
fn facts(status: &Status) -> HashMap<String, String> {
    status.get_details_error_info().unwrap().metadata
}

/// Under this condition the next event is stored.
async fn holds(client: &Client, id: &str, condition: Choice) {
    let shown = format!("{condition:?}");
    let answer = client.append_request(conditional(&typed(id, "x.y"), vec![condition])).await;
    assert_eq!(answer.expect(&shown).results[0].outcome(), Outcome::Appended, "{shown}");
}

/// Under this condition nothing is stored; the first and the last position that are in the way.
async fn fails(client: &Client, condition: Choice, first: u64, last: u64) {
    let shown = format!("{condition:?}");
    let before = client.last_position().await;
    let answer = client.append_request(conditional(&typed("never", "x.y"), vec![condition])).await;
    let status = answer.expect_err(&shown);
    expect(Err::<(), _>(status.clone()), "CONDITION_FAILED", &["condition 0"]);
    let facts = facts(&status);
    assert_eq!(facts["condition_0_first_position"], first.to_string(), "{shown} {facts:?}");
    assert_eq!(facts["condition_0_last_position"], last.to_string(), "{shown} {facts:?}");
    assert_eq!(facts["last_position"], before.to_string(), "{shown} {facts:?}");
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].subject, "conditions[0]", "{shown}");
    assert_eq!(client.last_position().await, before, "{shown}");
}

/// A server whose log has: 1 ana buys, 2 bob buys, 3 `a.b` of nobody, 4 ana buys, 5 ana buys in `shop`.
async fn stocked() -> (Server, Client) {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("shop", crate::support::events::PURCHASE).await.unwrap();
    let web = [
        purchase_text("e1", "ana"),
        purchase_text("e2", "bob"),
        typed("e3", "a.b"),
        purchase_text("e4", "ana"),
    ];
    client.append("web", &web).await.unwrap();
    client.append("shop", &[purchase_text("e5", "ana")]).await.unwrap();
    (server, client)
}

#[tokio::test]
async fn the_last_position_of_a_scope_must_be_the_one_that_is_known() {
    let (server, client) = stocked().await;
    for (scope, first, last) in [(WEB, 1, 4), (("shop", "", ""), 5, 5), (ANA, 1, 5)] {
        fails(&client, last_is(scope, NONE), first, last).await;
        fails(&client, last_is(scope, at(0)), first, last).await;
    }
    fails(&client, last_is(WEB, at(2)), 3, 4).await;
    fails(&client, last_is(ANA, at(1)), 4, 5).await;
    fails(&client, last_is(ANA_BOUGHT, at(4)), 5, 5).await;
    fails(&client, last_is(("web", "ana", "commerce.purchases"), at(1)), 4, 4).await;
    // A position that was never the last one: nothing is in the way.
    fails(&client, last_is(WEB, at(99)), 0, 4).await;
    fails(&client, last_is(("", "nobody", ""), at(3)), 0, 0).await;

    holds(&client, "n1", last_is(WEB, at(4))).await;
    fails(&client, last_is(WEB, at(4)), 6, 6).await;
    holds(&client, "n2", last_is(("shop", "", ""), at(5))).await;
    holds(&client, "n3", last_is(ANA, at(5))).await;
    holds(&client, "n4", last_is(("web", "ana", ""), at(4))).await;
    holds(&client, "n5", last_is(ANA_BOUGHT, at(5))).await;
    holds(&client, "n6", last_is(("", "ana", "no.such"), NONE)).await;
    holds(&client, "n7", last_is(("", "nobody", ""), NONE)).await;
    holds(&client, "n8", last_is(WEB, ANY)).await;

    // From a segment on disk as from memory.
    client.compact().await.unwrap();
    let server = Server::start_on(server.stop().await);
    let client = server.client().await;
    fails(&client, last_is(ANA, at(1)), 4, 5).await;
    holds(&client, "n9", last_is(ANA, at(5))).await;
}

#[tokio::test]
async fn no_event_of_a_filter_may_be_stored_after_a_position() {
    let (_server, client) = stocked().await;
    let people = |ids: &[&str]| pb::EventFilter {
        identities: ids.iter().map(|it| email(it)).collect(),
        ..Default::default()
    };
    fails(&client, no_match(pb::EventFilter::default(), 2), 3, 5).await;
    fails(&client, no_match(by_dataset("web"), 0), 1, 4).await;
    fails(&client, no_match(by_identity("Email", "ana"), 1), 4, 5).await;
    fails(&client, no_match(by_type("commerce.*"), 2), 4, 5).await;
    fails(&client, no_match(people(&["nobody", "bob", "ana"]), 0), 1, 5).await;
    fails(&client, no_match(people(&["bob", "nobody"]), 0), 2, 2).await;
    let both = pb::EventFilter { event_types: vec!["a.b".into()], ..by_dataset("web") };
    fails(&client, no_match(both, 1), 3, 3).await;

    holds(&client, "n1", no_match(pb::EventFilter::default(), 5)).await;
    holds(&client, "n2", no_match(by_identity("Email", "ana"), 5)).await;
    holds(&client, "n3", no_match(by_type("a.*"), 3)).await;
    holds(&client, "n4", no_match(people(&["bob", "nobody"]), 2)).await;
    let neither = pb::EventFilter { event_types: vec!["a.b".into()], ..by_dataset("shop") };
    holds(&client, "n5", no_match(neither, 0)).await;
}

#[tokio::test]
async fn the_schema_version_must_be_the_one_that_is_known() {
    let (_server, client) = stocked().await;
    holds(&client, "n1", Choice::SchemaVersionIs(1)).await;
    let mut schema = purchase_schema();
    schema["allOf"][1]["properties"]["more"] = serde_json::json!({"type": "string"});
    client.register(schema.to_string()).await.unwrap();
    let stale = conditional(&typed("n2", "x.y"), vec![Choice::SchemaVersionIs(1)]);
    let status = client.append_request(stale).await.expect_err("version 1 judges no more");
    expect(Err::<(), _>(status.clone()), "CONDITION_FAILED", &["version is 2, expected 1"]);
    assert_eq!(facts(&status)["condition_0_schema_version"], "2");
    holds(&client, "n2", Choice::SchemaVersionIs(2)).await;
}

#[tokio::test]
async fn every_condition_that_does_not_hold_is_told_and_all_must_hold() {
    let (_server, client) = stocked().await;
    let mixed = vec![
        last_is(WEB, at(4)),
        last_is(ANA, at(4)),
        Choice::SchemaVersionIs(1),
        no_match(by_type("a.b"), 2),
    ];
    let mut append = conditional(&typed("n1", "x.y"), mixed);
    // Each event for itself, but the conditions are for all.
    append.set_mode(pb::AppendMode::PerEvent);
    let status = client.append_request(append).await.expect_err("two conditions do not hold");
    expect(Err::<(), _>(status.clone()), "CONDITION_FAILED", &["condition 1", "2 conditions"]);
    let violations = status.get_details_precondition_failure().unwrap().violations;
    let subjects: Vec<_> = violations.iter().map(|it| it.subject.as_str()).collect();
    assert_eq!(subjects, ["conditions[1]", "conditions[3]"]);
    let facts = facts(&status);
    assert_eq!(facts["condition_1_last_position"], "5");
    assert_eq!(facts["condition_3_first_position"], "3");
    assert!(!facts.contains_key("condition_0_last_position"), "{facts:?}");
    assert_eq!(client.last_position().await, 5);
}

#[tokio::test]
async fn a_retry_of_what_is_stored_succeeds_although_its_condition_does_not_hold_any_more() {
    let (_server, client) = stocked().await;
    let first = conditional(&purchase_text("n1", "ana"), vec![last_is(ANA, at(5))]);
    assert_eq!(client.append_request(first.clone()).await.unwrap().results[0].position, 6);
    client.append("web", &[purchase_text("n2", "ana")]).await.unwrap();
    let again = client.append_request(first.clone()).await.unwrap();
    assert_eq!(again.results[0].outcome(), Outcome::Duplicate);
    assert_eq!(again.results[0].position, 6);
    // Not even what it names has to be there.
    let mut elsewhere = first.clone();
    elsewhere.events = request("web", &[purchase_text("n0", "bob")]).events;
    elsewhere.conditions =
        vec![pb::Condition { condition: Some(last_is(("shop", "", ""), at(5))) }];
    client.append_request(elsewhere.clone()).await.unwrap();
    let delete =
        pb::DeleteDatasetRequest { name: "shop".into(), force: true, ..Default::default() };
    client.datasets.clone().delete_dataset(delete).await.unwrap();
    let again = client.append_request(elsewhere.clone()).await.unwrap();
    assert_eq!(again.results[0].outcome(), Outcome::Duplicate);
    elsewhere.events = request("web", &[purchase_text("n4", "bob")]).events;
    expect(client.append_request(elsewhere).await, "DATASET_NOT_FOUND", &["shop"]);
    // With one event that is new the condition counts.
    let mut more = first;
    more.events.extend(request("web", &[purchase_text("n3", "ana")]).events);
    expect(client.append_request(more).await, "CONDITION_FAILED", &["last position is 7"]);
    assert_eq!(client.last_position().await, 8);
}

#[tokio::test]
async fn trimmed_events_are_not_in_the_way() {
    let (_server, client) = stocked().await;
    client.trim("web", 5).await.unwrap();
    fails(&client, last_is(ANA, at(4)), 5, 5).await;
    fails(&client, no_match(by_identity("Email", "ana"), 0), 5, 5).await;
    holds(&client, "n1", last_is(WEB, NONE)).await;
    holds(&client, "n2", no_match(by_type("a.b"), 0)).await;
}

#[tokio::test]
async fn a_condition_is_decided_at_a_bounded_cost() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    for part in ["a", "b"] {
        let ids = 0..6_000;
        let events: Vec<_> = ids.map(|n| typed(&format!("{part}{n}"), "a.hot")).collect();
        client.append("web", &events).await.unwrap();
    }
    // However many events a term has: only its end is looked at.
    holds(&client, "n1", last_is(WEB, at(12_000))).await;
    fails(&client, no_match(by_type("a.hot"), 0), 1, 12_000).await;
    // All of what a prefix selects would have to be.
    let all = conditional(&typed("n2", "x.y"), vec![no_match(by_type("a.*"), 0)]);
    expect(client.append_request(all).await, "CONDITIONS_TOO_COSTLY", &["10000"]);
    fails(&client, no_match(by_type("a.*"), 11_000), 11_001, 12_000).await;
}

#[tokio::test]
async fn a_condition_that_is_none_is_named() {
    let (_server, client) = stocked().await;
    let identity = |namespace: &str, id: &str| {
        Choice::ExpectedLastPosition(pb::ExpectedLastPosition {
            identity: Some(identity_of(namespace, id)),
            expected: Some(NONE),
            ..Default::default()
        })
    };
    let unsaid = pb::ExpectedLastPosition { dataset: "web".into(), ..Default::default() };
    let time = Some(pb::TimeRange { start: Some(prost_types::Timestamp::default()), end: None });
    let event_time = pb::EventFilter { event_time: time, ..Default::default() };
    let record_time = pb::EventFilter { record_time: time, ..Default::default() };
    let (last, filter) =
        ("conditions[0].expected_last_position", "conditions[0].fail_if_match.filter");
    let rows = [
        (last_is(("", "", ""), NONE), "ARGUMENT_INVALID", last.to_owned()),
        (last_is(("No Name", "", ""), NONE), "ARGUMENT_INVALID", format!("{last}.dataset")),
        (last_is(("none", "", ""), NONE), "DATASET_NOT_FOUND", String::new()),
        (last_is(("web", "", "a.b"), NONE), "ARGUMENT_INVALID", format!("{last}.event_type")),
        (last_is(("", "ana", "a.*"), NONE), "ARGUMENT_INVALID", format!("{last}.event_type")),
        (identity("Email", ""), "ARGUMENT_INVALID", format!("{last}.identity.id")),
        (identity("", "x"), "ARGUMENT_INVALID", format!("{last}.identity.namespace")),
        (Choice::ExpectedLastPosition(unsaid), "ARGUMENT_INVALID", format!("{last}.expected")),
        (no_match(event_time, 0), "ARGUMENT_INVALID", format!("{filter}.event_time")),
        (no_match(record_time, 0), "ARGUMENT_INVALID", format!("{filter}.record_time")),
        (no_match(by_type("*"), 0), "FILTER_INVALID", format!("{filter}.event_types[0]")),
        (no_match(by_dataset("none"), 0), "DATASET_NOT_FOUND", String::new()),
        (
            Choice::SchemaVersionIs(0),
            "ARGUMENT_INVALID",
            "conditions[0].schema_version_is".to_owned(),
        ),
    ];
    let mut wrong = Vec::new();
    for (condition, reason, field) in rows {
        let shown = format!("{condition:?}");
        let outcome = client.append_request(conditional(&typed("n", "x.y"), vec![condition])).await;
        wrong.extend(errors::mismatch(&shown, outcome, reason, &field, &[]));
    }
    let mut empty = request("web", &[typed("n", "x.y")]);
    empty.conditions = vec![pb::Condition::default()];
    wrong.extend(errors::mismatch(
        "empty",
        client.append_request(empty).await,
        "ARGUMENT_INVALID",
        "conditions[0]",
        &[],
    ));
    let many = conditional(&typed("n", "x.y"), vec![last_is(WEB, ANY); 17]);
    let many = client.append_request(many).await;
    wrong.extend(errors::mismatch(
        "17",
        many,
        "ARGUMENT_OUT_OF_BOUNDS",
        "conditions",
        &["17", "16"],
    ));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(client.last_position().await, 5);
}

/// In every round all clients know the same last position and append at once, each on its own
/// connection; some break their call off and send it again. One wins each identity's round, whatever
/// happens; the log shows the same history as the answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_compare_and_append_one_wins_each_round() {
    const PEOPLE: [&str; 3] = ["ana", "bob", "cleo"];
    const CLIENTS: usize = 6;
    const ROUNDS: usize = 12;
    let mut random = Random::seeded("conditions", 7);
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut connections = Vec::new();
    for _ in 0..CLIENTS * PEOPLE.len() {
        connections.push(server.client().await);
    }
    let mut won: HashMap<&str, Vec<(u64, String)>> = HashMap::new();
    let mut broken_off = 0;
    for round in 0..ROUNDS {
        let mut calls = tokio::task::JoinSet::new();
        for (number, connection) in connections.iter().cloned().enumerate() {
            let person = PEOPLE[number % PEOPLE.len()];
            let known = won.get(person).and_then(|it| it.last()).map_or(0, |it| it.0);
            let id = format!("{person}-{round}-{number}");
            let append = conditional(
                &purchase_text(&id, person),
                vec![last_is(("", person, ""), at(known))],
            );
            let patience = (random.below(3) == 0).then(|| random.below(40));
            calls.spawn(async move {
                let (first, again) = (connection.clone(), append.clone());
                let call = tokio::spawn(async move { first.append_request(append).await });
                if let Some(patience) = patience {
                    for _ in 0..patience {
                        tokio::task::yield_now().await;
                    }
                    call.abort();
                }
                let (answer, was_broken) = match call.await {
                    Ok(answer) => (answer, false),
                    Err(_aborted) => (connection.append_request(again).await, true),
                };
                (person, id, answer, was_broken)
            });
        }
        let mut losers = Vec::new();
        while let Some(call) = calls.join_next().await {
            let (person, id, answer, was_broken) = call.unwrap();
            broken_off += usize::from(was_broken);
            match answer {
                // A duplicate: the call that was broken off had won.
                Ok(answer) => {
                    let outcome = answer.results[0].outcome();
                    assert!(outcome == Outcome::Appended || was_broken, "{answer:?}");
                    won.entry(person).or_default().push((answer.results[0].position, id));
                }
                Err(status) => {
                    assert_eq!(errors::seen(&status).reason, "CONDITION_FAILED");
                    losers.push((person, facts(&status)["condition_0_last_position"].clone()));
                }
            }
        }
        for person in PEOPLE {
            assert_eq!(won[person].len(), round + 1, "{person} in round {round}: {won:?}");
        }
        // Who lost was told who won.
        for (person, last) in losers {
            assert_eq!(last, won[person][round].0.to_string(), "{person} in round {round}");
        }
    }
    eprintln!("{broken_off} calls were broken off");
    assert!(broken_off > 0);
    for person in PEOPLE {
        let stored =
            client.read(crate::support::client::reading(by_identity("Email", person))).await;
        let stored: Vec<_> =
            stored.unwrap().into_iter().map(|it| (it.position, string_of(&it.event_id))).collect();
        assert_eq!(stored, won[person]);
    }
}
