//! Matching what was stored before a definition was in force.

use milepost::grpc::pb;
use tonic::Status;

use crate::{
    cli::check,
    event_definitions::{by_definition, create, delete, get, rule, set_state, update},
    support::{
        Client, Server,
        client::{by_type, reading},
        errors::expect,
        events::{PURCHASE, Random, purchase, purchases},
    },
};

/// An event with one of a few prices.
fn event(number: u64, random: &mut Random) -> String {
    let mut event = purchase(&format!("e{number}"), &format!("p{}@example.com", random.below(5)));
    event["commerce"]["order"]["priceTotal"] = serde_json::json!(random.below(10) * 30);
    event.to_string()
}

async fn append(client: &Client, dataset: &str, from: u64, count: u64, random: &mut Random) {
    let events: Vec<_> = (from..from + count).map(|number| event(number, random)).collect();
    for batch in events.chunks(100) {
        client.append(dataset, batch).await.unwrap();
    }
}

async fn backfill(
    client: &Client,
    name: &str,
    validate_only: bool,
) -> Result<pb::BackfillEventDefinitionResponse, Status> {
    let request = pb::BackfillEventDefinitionRequest {
        name: name.into(),
        validate_only,
        ..Default::default()
    };
    let mut states =
        client.definitions.clone().backfill_event_definition(request).await?.into_inner();
    let mut last = pb::BackfillEventDefinitionResponse::default();
    while let Some(state) = states.message().await? {
        assert!(!last.done && state.scanned_to >= last.scanned_to && state.matched >= last.matched);
        last = state;
    }
    assert!(last.done && last.scanned_to == last.until, "{last:?}");
    Ok(last)
}

/// What a filter selects; that is as many as are counted, and the same backward.
async fn positions(client: &Client, filter: pb::EventFilter) -> Vec<u64> {
    let read = client.read(reading(filter.clone())).await.unwrap();
    let found: Vec<u64> = read.iter().map(|it| it.position).collect();
    assert_eq!(client.count(filter.clone()).await.unwrap(), found.len() as u64);
    let backward =
        pb::ReadEventsRequest { direction: pb::Direction::Backward.into(), ..reading(filter) };
    let backward = client.read(backward).await.unwrap();
    assert!(backward.iter().rev().map(|it| it.position).eq(found.iter().copied()));
    found
}

const LARGE: &str = "commerce.order.priceTotal > 100";

/// Two definitions with one condition, one from the beginning and one back-filled, cannot be told apart.
async fn same(client: &Client, early: &str, late: &str) {
    let matched = positions(client, by_definition(&[early])).await;
    assert!(!matched.is_empty());
    assert_eq!(positions(client, by_definition(&[late])).await, matched);
    let of = |name: &str| pb::EventFilter { deliver_as: name.into(), ..Default::default() };
    let deliver = async |name: &str| {
        let events = client.read(reading(of(name))).await.unwrap();
        let part = |it: pb::RecordedEvent| (it.position, it.delivery.unwrap().key, it.event);
        events.into_iter().map(part).collect::<Vec<_>>()
    };
    assert_eq!(deliver(early).await, deliver(late).await);
    for event in client.read_all().await {
        let has = |name: &str| event.event_definitions.iter().any(|it| it == name);
        assert_eq!(has(early), has(late), "{}", event.position);
    }
    let both = pb::EventFilter { datasets: vec!["web".into()], ..by_definition(&[early, late]) };
    let of_dataset = pb::EventFilter { datasets: vec!["web".into()], ..by_definition(&[early]) };
    assert_eq!(positions(client, both).await, positions(client, of_dataset).await);
}

#[tokio::test]
async fn a_backfilled_definition_matches_as_if_it_had_been_there() {
    let server = Server::start();
    let client = server.client().await;
    let mut random = Random::seeded("backfill", 20_261_127);
    purchases(&client, "web").await;
    client.create("shop", PURCHASE).await.unwrap();
    create(&client, rule("early", LARGE)).await.unwrap();
    append(&client, "web", 0, 700, &mut random).await;
    append(&client, "shop", 0, 300, &mut random).await;
    // While it is a draft it decides about nothing that counts.
    create(&client, pb::EventDefinition { state: 0, ..rule("late", LARGE) }).await.unwrap();
    append(&client, "web", 700, 50, &mut random).await;
    expect(backfill(&client, "late", false).await, "BACKFILL_REFUSED", &["not LIVE"]);
    set_state(&client, "late", pb::EventDefinitionState::Live).await.unwrap();
    append(&client, "web", 750, 50, &mut random).await;
    let before = positions(&client, by_definition(&["late"])).await;
    let tried = backfill(&client, "late", true).await.unwrap();
    assert_eq!(positions(&client, by_definition(&["late"])).await, before, "it was only tried");
    let done = backfill(&client, "late", false).await.unwrap();
    assert_eq!(done, tried);
    assert_eq!((done.until, done.version), (1_050, 2));
    same(&client, "early", "late").await;
    let shown = get(&client, "late").await.unwrap().event_definition.unwrap();
    let backfilled = shown.backfill.unwrap();
    assert_eq!(
        (backfilled.until, backfilled.matched, backfilled.version),
        (1_050, done.matched, 2)
    );
    expect(backfill(&client, "late", false).await, "BACKFILL_REFUSED", &["duplicate"]);
    // Later versions decide about later events alone.
    update(&client, rule("late", "eventType == 'none'"), &["condition"]).await.unwrap();
    update(&client, rule("early", "eventType == 'none'"), &["condition"]).await.unwrap();
    append(&client, "web", 800, 50, &mut random).await;
    same(&client, "early", "late").await;

    let server = Server::start_on(server.kill());
    let client = server.client().await;
    same(&client, "early", "late").await;
    client.verify().await.unwrap();
    // What is gone is not counted, before and after its bytes are.
    client.trim("web", 400).await.unwrap();
    same(&client, "early", "late").await;
    client.compact().await.unwrap();
    same(&client, "early", "late").await;
    let delete_shop =
        pb::DeleteDatasetRequest { name: "shop".into(), force: true, ..Default::default() };
    client.datasets.clone().delete_dataset(delete_shop).await.unwrap();
    same(&client, "early", "late").await;
    client.compact().await.unwrap();
    same(&client, "early", "late").await;
    client.verify().await.unwrap();
    delete(&client, "late").await.unwrap();
    expect(client.count(by_definition(&["late"])).await, "EVENT_DEFINITION_NOT_FOUND", &["late"]);
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let named = client.read_all().await.into_iter().flat_map(|it| it.event_definitions);
    assert!(named.into_iter().all(|it| it == "early"));
}

#[tokio::test]
async fn a_backfill_that_is_broken_off_leaves_nothing_and_one_of_nothing_is_done_at_once() {
    let server = Server::start();
    let client = server.client().await;
    let mut random = Random::seeded("backfill", 7);
    purchases(&client, "web").await;
    create(&client, rule("first", LARGE)).await.unwrap();
    let nothing = backfill(&client, "first", false).await.unwrap();
    assert_eq!((nothing.until, nothing.matched), (0, 0));
    append(&client, "web", 0, 2_000, &mut random).await;
    create(&client, rule("second", LARGE)).await.unwrap();
    let request =
        pb::BackfillEventDefinitionRequest { name: "second".into(), ..Default::default() };
    let states = client.definitions.clone().backfill_event_definition(request).await.unwrap();
    let first = states.into_inner().message().await.unwrap().unwrap();
    assert!(!first.done, "{first:?}");
    let other = pb::BackfillEventDefinitionRequest {
        name: "second".into(),
        etag: "other".into(),
        ..Default::default()
    };
    let refused = client.definitions.clone().backfill_event_definition(other).await;
    expect(refused, "ETAG_MISMATCH", &["second"]);
    expect(backfill(&client, "none", false).await, "EVENT_DEFINITION_NOT_FOUND", &["none"]);
    assert_eq!(positions(&client, by_definition(&["second"])).await, [0_u64; 0]);
    check(
        &server,
        &["event-definition", "backfill", "second", "--validate-only"],
        0,
        &["position 2 000", "nothing was kept"],
    );
    check(
        &server,
        &["event-definition", "backfill", "second"],
        0,
        &["position 2 000 match version 1"],
    );
    check(&server, &["event-definition", "show", "second"], 0, &["back-filled", "by version 1"]);
    same(&client, "first", "second").await;
    assert_eq!(positions(&client, by_type("commerce.purchases")).await.len(), 2_000);
}
