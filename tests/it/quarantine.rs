//! Quarantine: what cannot be stored is set aside durably, and stored exactly once after all.

use std::collections::{BTreeMap, BTreeSet};

use milepost::grpc::pb::{
    self, append_result::Outcome, quarantine_service_client::QuarantineServiceClient,
};
use serde_json::json;
use tonic::{Status, transport::Channel};

use crate::support::{
    Client, Server,
    client::{json_event, json_of},
    errors::expect,
    events::{PURCHASE, Random, purchase, purchase_schema, purchase_text, typed},
};

fn quarantine(client: &Client) -> QuarantineServiceClient<Channel> {
    QuarantineServiceClient::new(client.channel.clone())
}

fn of_dataset(dataset: &str) -> pb::QuarantineSelection {
    pb::QuarantineSelection { dataset: dataset.into(), ..Default::default() }
}

async fn groups(client: &Client, dataset: &str) -> Vec<pb::QuarantineGroup> {
    let request =
        pb::ListQuarantinedRequest { selection: Some(of_dataset(dataset)), ..Default::default() };
    quarantine(client).list_quarantined(request).await.unwrap().into_inner().groups
}

async fn events(
    client: &Client,
    selection: Option<pb::QuarantineSelection>,
) -> Vec<pb::QuarantinedEvent> {
    let mut request = pb::ListQuarantinedRequest { selection, page_size: 3, ..Default::default() };
    request.set_view(pb::QuarantineView::Events);
    let mut events = Vec::new();
    loop {
        let response = quarantine(client).list_quarantined(request.clone()).await;
        let response = response.unwrap().into_inner();
        assert!(response.events.len() <= 3 && response.groups.is_empty());
        events.extend(response.events);
        request.page_token = response.next_page_token;
        if request.page_token.is_empty() {
            return events;
        }
    }
}

async fn get(client: &Client, id: &str) -> Result<pb::QuarantinedEvent, Status> {
    let request = pb::GetQuarantinedRequest { quarantine_id: id.into() };
    let response = quarantine(client).get_quarantined(request).await?;
    Ok(response.into_inner().event.unwrap())
}

async fn replay(
    client: &Client,
    request: pb::ReplayQuarantinedRequest,
) -> Result<pb::ReplayQuarantinedResponse, Status> {
    let mut responses = quarantine(client).replay_quarantined(request).await?.into_inner();
    let mut last = pb::ReplayQuarantinedResponse::default();
    while let Some(response) = responses.message().await? {
        last = response;
    }
    assert!(last.done);
    Ok(last)
}

/// A dataset that sets aside what it cannot store.
async fn set_up(client: &Client, name: &str) {
    client.register(purchase_schema().to_string()).await.unwrap();
    let mut dataset =
        pb::Dataset { name: name.into(), schema_id: PURCHASE.into(), ..Default::default() };
    dataset.set_on_invalid(pb::OnInvalid::Quarantine);
    let made = client.create_dataset(dataset).await.unwrap();
    assert_eq!(made.on_invalid(), pb::OnInvalid::Quarantine);
}

/// A purchase with a price that is text.
fn mispriced(id: &str) -> String {
    let mut event = purchase(id, "a@b.c");
    event["commerce"]["order"]["priceTotal"] = json!("99.5");
    event.to_string()
}

/// Ids in the quarantine of what was set aside, in order; everything else must be stored.
fn set_aside(response: &pb::AppendEventsResponse) -> Vec<String> {
    let ids = response.results.iter().filter_map(|it| match it.outcome() {
        Outcome::Quarantined => Some(it.quarantine_id.clone()),
        Outcome::Appended | Outcome::Duplicate => {
            assert!(it.quarantine_id.is_empty());
            None
        }
        Outcome::Tagged | Outcome::Rejected | Outcome::Unspecified => panic!("{it:?}"),
    });
    ids.collect()
}

#[tokio::test]
async fn what_cannot_be_stored_is_set_aside_as_it_was_sent() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "web").await;
    client.append("web", &[purchase_text("taken", "a@b.c")]).await.unwrap();
    let mut large = purchase("e3", "a@b.c");
    large["commerce"] = json!(7);
    large["note"] = json!("é".repeat(100_000));
    let large = large.to_string();
    let duplicate_key = r#"{"_id": "d", "_id": "d", "timestamp": "2026-11-20T17:26:04Z"}"#;
    let bad: Vec<(String, pb::FaultClass, &str, &str)> = vec![
        (mispriced("e1"), pb::FaultClass::SchemaViolation, "e1", "/commerce/order/priceTotal"),
        ("{\"_id\": ".to_owned(), pb::FaultClass::Decode, "", ""),
        (duplicate_key.to_owned(), pb::FaultClass::Decode, "", "/_id"),
        ("{}".to_owned(), pb::FaultClass::Envelope, "", ""),
        (
            purchase("e2", "").to_string(),
            pb::FaultClass::IdentityInvalid,
            "e2",
            "/identityMap/Email/0/id",
        ),
        (typed("taken", "other"), pb::FaultClass::IdConflict, "taken", "/_id"),
        (large, pb::FaultClass::SchemaViolation, "e3", "/commerce"),
    ];
    let mut batch: Vec<_> = bad.iter().map(|it| it.0.clone()).collect();
    batch.insert(2, purchase_text("good", "a@b.c"));
    let mut request = crate::support::client::request("web", &batch);
    request.set_mode(pb::AppendMode::PerEvent);
    let not_utf8 = bytes::Bytes::from_static(b"{\"_id\": \"\xff\"}");
    let payload = Some(pb::event::Payload::Json(not_utf8.clone()));
    request.events.push(pb::Event { payload });
    let answer = client.append_request(request).await.unwrap();
    assert_eq!(answer.results[2].outcome(), Outcome::Appended);
    let ids = set_aside(&answer);
    assert_eq!(ids.len(), bad.len() + 1);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());

    let check = async |client: &Client| {
        for (id, (payload, class, event_id, path)) in ids.iter().zip(&bad) {
            let event = get(client, id).await.unwrap();
            assert!(event.payload == payload.as_bytes(), "{id}");
            assert_eq!(event.class(), *class, "{id}");
            assert_eq!(event.event_id, *event_id);
            assert_eq!(event.violations[0].instance_path, *path, "{id}");
            assert_eq!((event.dataset.as_str(), event.times_received), ("web", 1));
            assert_eq!((event.schema_id.as_str(), event.schema_version), (PURCHASE, 1));
        }
        let last = get(client, &ids[bad.len()]).await.unwrap();
        assert_eq!(last.payload, not_utf8);
        assert_eq!(last.class(), pb::FaultClass::Decode);
        let stats = client.dataset("web").await.unwrap().stats.unwrap();
        assert_eq!((stats.events, stats.quarantined_events), (2, ids.len() as u64));
    };
    check(&client).await;
    // They are in no read.
    assert_eq!(client.read_all().await.len(), 2);
    client.verify().await.unwrap();
    // And durable: after a kill, and after an orderly end.
    let server = Server::start_on(server.kill());
    check(&server.client().await).await;
    let server = Server::start_on(server.stop().await);
    check(&server.client().await).await;
}

#[tokio::test]
async fn only_who_asks_for_each_event_by_itself_has_it_set_aside() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "web").await;
    client.create("strict", PURCHASE).await.unwrap();
    expect(client.append("web", &[mispriced("e1")]).await, "EVENT_VIOLATES_SCHEMA", &[]);
    let rejected = client.append_each("strict", &[mispriced("e1")]).await.unwrap();
    assert_eq!(rejected.results[0].outcome(), Outcome::Rejected);
    let told = |it: &pb::Violation| (it.expected.clone(), it.found.clone());
    let priced = ("number".to_owned(), "\"99.5\"".to_owned());
    assert_eq!(told(&rejected.results[0].violations[0]), priced);
    let mut request = crate::support::client::request("web", &[mispriced("e1")]);
    request.set_mode(pb::AppendMode::PerEvent);
    request.validate_only = true;
    let checked = client.append_request(request).await.unwrap();
    assert_eq!(checked.results[0].outcome(), Outcome::Rejected);
    assert_eq!(groups(&client, "web").await, []);
    // From a stream too.
    let ids = set_aside(&client.append_each("web", &[mispriced("e1")]).await.unwrap());
    // The same again is the same; a changed one is another.
    let again = client.append_each("web", &[mispriced("e1"), mispriced("e1")]).await.unwrap();
    assert_eq!(set_aside(&again), [ids[0].clone(), ids[0].clone()]);
    let event = get(&client, &ids[0]).await.unwrap();
    assert_eq!(event.times_received, 3);
    assert_eq!(told(&event.violations[0]), priced);
    let group = groups(&client, "web").await.remove(0);
    assert_eq!(told(group.violation.as_ref().unwrap()), priced);
    let other = mispriced("e1").replace("99.5", "99.6");
    assert_ne!(set_aside(&client.append_each("web", &[other]).await.unwrap()), ids);
}

#[tokio::test]
async fn events_with_the_same_fault_are_one_group() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "web").await;
    set_up(&client, "shop").await;
    let mut batch: Vec<_> = (0..7).map(|n| mispriced(&format!("p{n}"))).collect();
    batch.extend((0..2).map(|n| purchase(&format!("i{n}"), "").to_string()));
    let ids = set_aside(&client.append_each("web", &batch).await.unwrap());
    set_aside(&client.append_each("shop", &batch[..1]).await.unwrap());
    let found = groups(&client, "web").await;
    let mut counts: Vec<_> = found.iter().map(|it| it.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 7]);
    let prices = found.iter().find(|it| it.count == 7).unwrap();
    assert_eq!(prices.class(), pb::FaultClass::SchemaViolation);
    let violation = prices.violation.as_ref().unwrap();
    assert_eq!(violation.instance_path, "/commerce/order/priceTotal");
    assert_eq!(prices.samples, ids[..3]);
    let identities = found.iter().find(|it| it.count == 2).unwrap();
    assert_eq!(identities.violation.as_ref().unwrap().instance_path, "/identityMap/Email/*/id");
    assert_eq!(groups(&client, "").await.len(), 3);

    let of_group = pb::QuarantineSelection {
        dataset: "web".into(),
        fingerprint: prices.fingerprint.clone(),
        ..Default::default()
    };
    let listed: Vec<_> = events(&client, Some(of_group.clone())).await;
    assert_eq!(
        listed.iter().map(|it| &it.quarantine_id).collect::<Vec<_>>(),
        ids[..7].iter().collect::<Vec<_>>()
    );
    assert!(listed.iter().all(|it| it.payload.is_empty()));
    assert_eq!(events(&client, None).await.len(), 10);
    assert_eq!(events(&client, Some(of_dataset("shop"))).await.len(), 1);
    let chosen =
        pb::QuarantineSelection { ids: vec![ids[8].clone(), ids[0].clone()], ..Default::default() };
    let chosen: Vec<_> =
        events(&client, Some(chosen)).await.into_iter().map(|it| it.quarantine_id).collect();
    assert_eq!(chosen, [ids[0].clone(), ids[8].clone()]);

    // Throwing away a group leaves the others.
    let request = pb::DiscardQuarantinedRequest { selection: Some(of_group) };
    let discarded = quarantine(&client).discard_quarantined(request).await.unwrap().into_inner();
    assert_eq!(discarded.discarded, 7);
    assert_eq!(groups(&client, "web").await, std::slice::from_ref(identities));
    expect(get(&client, &ids[0]).await, "QUARANTINED_NOT_FOUND", &["q1"]);
    // A deleted dataset's are gone with it.
    let request = pb::DeleteDatasetRequest { name: "web".into(), ..Default::default() };
    client.datasets.clone().delete_dataset(request).await.unwrap();
    assert_eq!(groups(&client, "").await.len(), 1);
    let status = client.status().await.unwrap().quarantine.unwrap();
    assert_eq!((status.events, status.dropped), (1, 0));
}

#[tokio::test]
async fn a_mended_event_is_stored_and_leaves_the_quarantine() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "web").await;
    let batch: Vec<_> = (0..5).map(|n| mispriced(&format!("e{n}"))).collect();
    let ids = set_aside(&client.append_each("web", &batch).await.unwrap());
    let received = get(&client, &ids[0]).await.unwrap().receive_time;
    let all =
        pb::ReplayQuarantinedRequest { selection: Some(of_dataset("web")), ..Default::default() };
    // As they are they still fail.
    let still = replay(&client, all.clone()).await.unwrap();
    assert_eq!((still.stored, still.refused), (0, 5));
    assert_eq!(still.still_refused.len(), 5);
    let error = still.still_refused[0].error.clone().unwrap();
    assert!(error.message.contains("/commerce/order/priceTotal"), "{error:?}");
    let mended = json!([{"op": "replace", "path": "/commerce/order/priceTotal", "value": 42.5}]);
    let mended = pb::ReplayQuarantinedRequest { patch: mended.to_string(), ..all.clone() };
    let dry = pb::ReplayQuarantinedRequest { dry_run: true, ..mended.clone() };
    assert_eq!(replay(&client, dry).await.unwrap().stored, 5);
    assert_eq!(client.last_position().await, 0);
    assert_eq!(replay(&client, mended.clone()).await.unwrap().stored, 5);
    assert_eq!(replay(&client, mended).await.unwrap().stored, 0);
    assert_eq!(groups(&client, "web").await, []);
    let stored = client.read_all().await;
    assert_eq!(
        stored.iter().map(|it| it.event_id.clone()).collect::<Vec<_>>(),
        ["e0", "e1", "e2", "e3", "e4"]
    );
    assert!(json_of(&stored[0]).contains("42.5"));
    assert_eq!(stored[0].quarantine_id, ids[0]);
    assert_eq!(stored[0].receive_time, received);
    client.append("web", &[purchase_text("direct", "a@b.c")]).await.unwrap();
    let direct = client.get(6).await.unwrap();
    assert!(direct.quarantine_id.is_empty() && direct.receive_time.is_none());

    // Or the schema is what was wrong: then as they are.
    let batch: Vec<_> = (5..9).map(|n| mispriced(&format!("e{n}"))).collect();
    set_aside(&client.append_each("web", &batch).await.unwrap());
    let mut schema = purchase_schema();
    schema["allOf"][1]["properties"]["commerce"]["properties"]["order"]["properties"]["priceTotal"] =
        json!({"type": ["number", "string"]});
    let request = pb::RegisterSchemaRequest {
        document: schema.to_string(),
        force: true,
        ..Default::default()
    };
    let group = groups(&client, "web").await.remove(0);
    let registered = client.schemas.clone().register_schema(request).await.unwrap().into_inner();
    // The answer says what it mends.
    let fixed = pb::FixedQuarantine {
        dataset: "web".into(),
        fingerprint: group.fingerprint,
        count: 4,
        stored: 0,
        refused: 0,
    };
    assert_eq!(registered.fixed, [fixed]);
    // One of them came by another way meanwhile.
    client.append("web", &[mispriced("e5")]).await.unwrap();
    let replayed = replay(&client, all).await.unwrap();
    assert_eq!((replayed.stored, replayed.duplicates, replayed.refused), (3, 1, 0));
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(groups(&client, "web").await, []);
    assert_eq!(client.read_all().await[7].quarantine_id, "q7");
    client.verify().await.unwrap();
}

#[tokio::test]
async fn a_new_schema_version_stores_what_it_mends() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "web").await;
    set_up(&client, "pinned").await;
    let update = pb::UpdateDatasetRequest {
        dataset: Some(pb::Dataset {
            name: "pinned".into(),
            version_policy: pb::VersionPolicy::Pinned.into(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["version_policy".into()] }),
        validate_only: false,
    };
    client.datasets.clone().update_dataset(update).await.unwrap();
    let mut twice = purchase("twice", "a@b.c");
    twice["commerce"]["order"]["priceTotal"] = json!("1");
    twice["count"] = json!("one");
    let nameless = purchase("nameless", "").to_string();
    for dataset in ["web", "pinned"] {
        let mut batch: Vec<_> = (0..30).map(|n| mispriced(&format!("e{n}"))).collect();
        batch.extend([twice.to_string(), nameless.clone()]);
        client.append_each(dataset, &batch).await.unwrap();
    }
    let mut schema = purchase_schema();
    schema["allOf"][1]["properties"]["commerce"]["properties"]["order"]["properties"]["priceTotal"] =
        json!({"type": ["number", "string"]});
    let request = pb::RegisterSchemaRequest {
        document: schema.to_string(),
        force: true,
        replay_quarantined: true,
        ..Default::default()
    };
    let registered = client.schemas.clone().register_schema(request.clone()).await.unwrap();
    let fixed = registered.into_inner().fixed;
    let [fixed] = &*fixed else { panic!("{fixed:?}") };
    assert_eq!(
        (fixed.dataset.as_str(), fixed.count, fixed.stored, fixed.refused),
        ("web", 31, 30, 1)
    );
    let left: Vec<_> = events(&client, Some(of_dataset("web"))).await;
    assert_eq!(
        left.iter().map(|it| it.event_id.as_str()).collect::<Vec<_>>(),
        ["twice", "nameless"]
    );
    assert_eq!(events(&client, Some(of_dataset("pinned"))).await.len(), 32);
    assert_eq!(client.read_all().await.len(), 30);
    // The same again is no new version, and mends nothing.
    let again = client.schemas.clone().register_schema(request).await.unwrap().into_inner();
    assert_eq!(again.fixed, []);
}

/// Replays that are cut off by kills, and done again, and at the same time by two: each event is stored
/// once, and none is lost.
#[tokio::test]
async fn a_replay_that_is_killed_stores_each_event_exactly_once() {
    const EVENTS: usize = 3_000;
    let mut random = Random::seeded("quarantine kills", 3);
    let mut server = Server::start();
    let client = server.client().await;
    set_up(&client, "web").await;
    for batch in (0..EVENTS).collect::<Vec<_>>().chunks(500) {
        let batch: Vec<_> = batch.iter().map(|n| mispriced(&format!("e{n}"))).collect();
        assert_eq!(set_aside(&client.append_each("web", &batch).await.unwrap()).len(), 500);
    }
    let patch = json!([{"op": "replace", "path": "/commerce/order/priceTotal", "value": 1}]);
    let request = pb::ReplayQuarantinedRequest {
        selection: Some(of_dataset("web")),
        patch: patch.to_string(),
        dry_run: false,
    };
    let mut kills = 0;
    loop {
        let client = server.client().await;
        let before = client.last_position().await;
        let (one, other) = (client.clone(), server.client().await);
        let (first, second) = (request.clone(), request.clone());
        let mut replays = tokio::task::JoinSet::new();
        replays.spawn(async move { replay(&one, first).await });
        replays.spawn(async move { replay(&other, second).await });
        // Killed somewhere in the second append of the round, until all is done.
        let goal = before + 500 + random.below(400);
        while client.last_position().await < goal.min(EVENTS as u64) {
            tokio::task::yield_now().await;
        }
        if client.last_position().await == EVENTS as u64 {
            let mut stored = 0;
            while let Some(done) = replays.join_next().await {
                stored += done.unwrap().unwrap().stored;
            }
            assert_eq!(before + stored, EVENTS as u64);
            break;
        }
        kills += 1;
        server = Server::start_on(server.kill());
        replays.join_all().await;
    }
    assert!(kills > 0);
    let client = server.client().await;
    let mut stored = BTreeMap::new();
    for event in client.read_all().await {
        *stored.entry(event.event_id).or_insert(0) += 1;
        assert!(!event.quarantine_id.is_empty());
    }
    assert_eq!(stored.len(), EVENTS);
    assert!(stored.values().all(|count| *count == 1));
    assert_eq!(groups(&client, "").await, []);
    assert_eq!(client.status().await.unwrap().quarantine.unwrap().bytes, 0);
    client.verify().await.unwrap();
}

#[tokio::test]
async fn the_quarantine_keeps_its_quota_and_its_age() {
    let server = Server::start_with(&["--quarantine-bytes", "1MiB", "--quarantine-age", "3600"]);
    let client = server.client().await;
    set_up(&client, "web").await;
    let note = "x".repeat(50_000);
    let bad =
        |n: usize| mispriced(&format!("e{n}")).replacen('{', &format!("{{\"note\":\"{note}\","), 1);
    let mut last = Vec::new();
    for n in 0..40 {
        last = set_aside(&client.append_each("web", &[bad(n)]).await.unwrap());
    }
    let status = client.status().await.unwrap().quarantine.unwrap();
    assert!(status.bytes <= 1024 * 1024 && status.bytes > 900_000, "{status:?}");
    assert_eq!(status.events + status.dropped, 40);
    expect(get(&client, "q1").await, "QUARANTINED_NOT_FOUND", &[]);
    assert_eq!(get(&client, &last[0]).await.unwrap().payload, bad(39).as_bytes());
    assert_eq!(groups(&client, "web").await[0].count, status.events);

    let server = Server::start_on_with(
        server.stop().await,
        &["--quarantine-age", "1", "--retention-interval", "1"],
    );
    let client = server.client().await;
    while client.status().await.unwrap().quarantine.unwrap().events > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(groups(&client, "").await, []);
    assert_eq!(client.status().await.unwrap().quarantine.unwrap().dropped, 40);
}

#[tokio::test]
async fn bad_requests_are_told_so() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "web").await;
    for id in ["", "q", "q0", "q01", "7", "q-1", "q99999999999999999999", "qx"] {
        expect(get(&client, id).await, "ARGUMENT_INVALID", &["quarantine_id"]);
    }
    expect(get(&client, "q7").await, "QUARANTINED_NOT_FOUND", &["q7"]);
    let list = async |request: pb::ListQuarantinedRequest| {
        quarantine(&client).list_quarantined(request).await
    };
    let select = |dataset: &str, fingerprint: &str, ids: &[&str]| pb::ListQuarantinedRequest {
        selection: Some(pb::QuarantineSelection {
            dataset: dataset.into(),
            fingerprint: fingerprint.into(),
            ids: ids.iter().map(ToString::to_string).collect(),
        }),
        ..Default::default()
    };
    expect(list(select("none", "", &[])).await, "DATASET_NOT_FOUND", &["none"]);
    expect(list(select("", "12", &[])).await, "ARGUMENT_INVALID", &["selection.fingerprint"]);
    expect(list(select("", "", &["q1"])).await, "ARGUMENT_INVALID", &["selection.ids"]);
    let mut by_id = select("", "", &["q1", "x"]);
    by_id.set_view(pb::QuarantineView::Events);
    expect(list(by_id).await, "ARGUMENT_INVALID", &["selection.ids[1]"]);
    let mut many = select("", "", &vec!["q1"; 1001]);
    many.set_view(pb::QuarantineView::Events);
    expect(list(many).await, "ARGUMENT_OUT_OF_BOUNDS", &["selection.ids"]);
    let token = pb::ListQuarantinedRequest { page_token: "x".into(), ..Default::default() };
    expect(list(token).await, "PAGE_TOKEN_INVALID", &[]);
    let all = pb::ReplayQuarantinedRequest::default();
    expect(replay(&client, all).await, "ARGUMENT_INVALID", &["selection"]);
    let patch = |patch: &str| pb::ReplayQuarantinedRequest {
        selection: Some(of_dataset("web")),
        patch: patch.into(),
        dry_run: false,
    };
    for wrong in ["{}", "[", "[{\"op\": \"mend\", \"path\": \"/a\"}]"] {
        expect(replay(&client, patch(wrong)).await, "ARGUMENT_INVALID", &["patch"]);
    }
    let nothing = pb::DiscardQuarantinedRequest::default();
    let discarded = quarantine(&client).discard_quarantined(nothing).await;
    expect(discarded, "ARGUMENT_INVALID", &["selection"]);
    // A number that a double has not is not patched over.
    let mut far = crate::support::client::request("web", &[""; 0]);
    far.set_mode(pb::AppendMode::PerEvent);
    far.events = vec![json_event(&mispriced("far").replacen(
        '{',
        "{\"n\": 123456789012345678901234567890, ",
        1,
    ))];
    client.append_request(far).await.unwrap();
    let mended = json!([{"op": "replace", "path": "/commerce/order/priceTotal", "value": 1}]);
    let refused = replay(&client, patch(&mended.to_string())).await.unwrap();
    assert_eq!((refused.stored, refused.refused), (0, 1));
    let message = &refused.still_refused[0].error.as_ref().unwrap().message;
    assert!(message.contains("exactly"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_told_of_what_is_there_and_then_of_what_is_set_aside() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "care").await;
    set_up(&client, "other").await;
    let follow = |request: pb::FollowQuarantinedRequest| {
        let mut service = quarantine(&client);
        async move { service.follow_quarantined(request).await.map(tonic::Response::into_inner) }
    };
    let wrong = |id: &str| format!("{{\"_id\": \"{id}\", \"timestamp\": \"never\"}}");
    let of_care = |after: &str, only_new| pb::FollowQuarantinedRequest {
        selection: Some(of_dataset("care")),
        after_quarantine_id: after.into(),
        only_new,
        ..Default::default()
    };
    // Nothing yet, and that is said.
    let mut new = follow(of_care("", true)).await.unwrap();
    let first = new.message().await.unwrap().unwrap();
    assert!(first.events.is_empty() && first.caught_up && first.last_quarantine_id.is_empty());

    client.append_each("care", &[&wrong("a"), &wrong("b")]).await.unwrap();
    client.append_each("other", &[&wrong("a")]).await.unwrap();
    client.append_each("care", &[&wrong("a"), &wrong("c")]).await.unwrap();
    let mut all = follow(of_care("", false)).await.unwrap();
    let mut after = follow(of_care("q1", false)).await.unwrap();
    let every = pb::FollowQuarantinedRequest::default();
    let mut every = follow(every).await.unwrap();
    for (stream, wanted) in [
        (&mut new, vec!["q1", "q2", "q4"]),
        (&mut all, vec!["q1", "q2", "q4"]),
        (&mut after, vec!["q2", "q4"]),
        (&mut every, vec!["q1", "q2", "q3", "q4"]),
    ] {
        let mut told = Vec::new();
        while told.len() < wanted.len() {
            let response = stream.message().await.unwrap().unwrap();
            assert!(response.events.iter().all(|it| it.payload.is_empty()), "{response:?}");
            told.extend(response.events.into_iter().map(|it| it.quarantine_id));
        }
        assert_eq!(told, wanted);
    }
    // What leaves the quarantine is not told of, what comes is; ids are not given twice.
    let discard = pb::DiscardQuarantinedRequest { selection: Some(of_dataset("care")) };
    quarantine(&client).discard_quarantined(discard).await.unwrap();
    client.append_each("care", &[&wrong("a")]).await.unwrap();
    for stream in [&mut new, &mut all, &mut after, &mut every] {
        let response = loop {
            let response = stream.message().await.unwrap().unwrap();
            if !response.events.is_empty() {
                break response;
            }
        };
        assert_eq!(response.events[0].quarantine_id, "q5");
        assert_eq!(response.events[0].event_id, "a");
        assert_eq!(response.last_quarantine_id, "q5");
        assert!(response.caught_up);
    }

    expect(follow(of_care("q1", true)).await, "ARGUMENT_INVALID", &["only_new"]);
    expect(follow(of_care("q6", false)).await, "ARGUMENT_INVALID", &["after_quarantine_id", "q5"]);
    let mut with_ids = of_care("", false);
    with_ids.selection.as_mut().unwrap().ids.push("q1".into());
    expect(follow(with_ids).await, "ARGUMENT_INVALID", &["selection.ids"]);
    let mut unknown = of_care("", false);
    unknown.selection.as_mut().unwrap().dataset = "nowhere".into();
    expect(follow(unknown).await, "DATASET_NOT_FOUND", &["nowhere"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_goes_on_after_a_restart() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "care").await;
    let wrong = |id: u32| format!("{{\"_id\": \"{id}\", \"timestamp\": \"never\"}}");
    let payloads: Vec<_> = (0..250).map(wrong).collect();
    let payloads: Vec<_> = payloads.iter().map(String::as_str).collect();
    client.append_each("care", &payloads).await.unwrap();
    let mut stream = quarantine(&client)
        .follow_quarantined(pb::FollowQuarantinedRequest::default())
        .await
        .unwrap()
        .into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.events.len(), first.caught_up), (100, false));
    assert_eq!(first.last_quarantine_id, "q100");

    let server = Server::start_on(server.stop().await);
    let client = server.client().await;
    let request = pb::FollowQuarantinedRequest {
        after_quarantine_id: first.last_quarantine_id,
        ..Default::default()
    };
    let mut stream = quarantine(&client).follow_quarantined(request).await.unwrap().into_inner();
    let mut told = Vec::new();
    loop {
        let response = stream.message().await.unwrap().unwrap();
        told.extend(response.events.into_iter().map(|it| it.quarantine_id));
        if response.caught_up {
            break;
        }
    }
    assert_eq!(told, (101..=250).map(|id| format!("q{id}")).collect::<Vec<_>>());
}
