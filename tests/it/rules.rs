//! What datasets ask of appends beside their schema: times, sizes, a pace.

use std::time::Duration;

use milepost::grpc::pb::{self, append_result::Outcome};
use serde_json::json;
use tonic_types::StatusExt as _;

use crate::support::{
    Client, Server,
    client::request,
    errors::{expect, seen},
    events::{PURCHASE, purchase, purchase_schema, purchase_text, typed},
};

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// A purchase that happened so many seconds from now.
fn at(id: &str, from_now: i64) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let time = now.checked_add_signed(from_now).unwrap();
    let time = chrono::DateTime::from_timestamp(i64::try_from(time).unwrap(), 0).unwrap();
    let mut event = purchase(id, "a@b.c");
    event["timestamp"] = json!(time.to_rfc3339());
    event.to_string()
}

async fn dataset(client: &Client, dataset: pb::Dataset) -> pb::Dataset {
    client.register(purchase_schema().to_string()).await.unwrap();
    let (name, schema_id) = ("web".to_owned(), PURCHASE.to_owned());
    client.create_dataset(pb::Dataset { name, schema_id, ..dataset }).await.unwrap()
}

async fn update(client: &Client, paths: &[&str], dataset: pb::Dataset) -> pb::Dataset {
    let paths = paths.iter().map(ToString::to_string).collect();
    let request = pb::UpdateDatasetRequest {
        dataset: Some(pb::Dataset { name: "web".into(), ..dataset }),
        update_mask: Some(prost_types::FieldMask { paths }),
        validate_only: false,
    };
    client.datasets.clone().update_dataset(request).await.unwrap().into_inner().dataset.unwrap()
}

#[tokio::test]
async fn events_have_times_that_the_dataset_takes() {
    let server = Server::start();
    let client = server.client().await;
    let policy = pb::TimestampPolicy { max_age: Some(seconds(3600)), max_ahead: Some(seconds(60)) };
    let made =
        dataset(&client, pb::Dataset { timestamps: Some(policy), ..Default::default() }).await;
    assert_eq!(made.timestamps, Some(policy));
    client.append("web", &[at("e1", -3500), at("e2", 0), at("e3", 50)]).await.unwrap();
    let early = client.append("web", &[at("e4", 0), at("e5", -3700)]).await;
    expect(early, "EVENT_TIME_OUT_OF_RANGE", &["events[1].payload/timestamp", "none before"]);
    let late = client.append("web", &[at("e5", 90)]).await;
    expect(late, "EVENT_TIME_OUT_OF_RANGE", &["events[0].payload/timestamp", "none after"]);
    // With other faults it is one of them.
    let mut both = purchase("e6", "a@b.c");
    both["commerce"]["order"]["priceTotal"] = json!("much");
    let both = client.append("web", &[both.to_string()]).await;
    expect(both, "EVENT_VIOLATES_SCHEMA", &["/timestamp", "/commerce/order/priceTotal"]);
    let each = client.append_each("web", &[at("e7", 0), at("e8", 3600)]).await.unwrap();
    assert_eq!(each.results[0].outcome(), Outcome::Appended);
    assert_eq!(each.results[1].outcome(), Outcome::Rejected);

    // What is asked is asked from the next append on, and after a restart.
    let changed = update(&client, &["timestamps"], pb::Dataset::default()).await;
    assert_eq!(changed.timestamps, None);
    client.append("web", &[at("old", -1_000_000)]).await.unwrap();
    let policy = pb::TimestampPolicy { max_age: None, max_ahead: Some(seconds(1)) };
    update(
        &client,
        &["timestamps"],
        pb::Dataset { timestamps: Some(policy), ..Default::default() },
    )
    .await;
    let server = Server::start_on(server.stop().await);
    let client = server.client().await;
    assert_eq!(client.dataset("web").await.unwrap().timestamps, Some(policy));
    expect(client.append("web", &[at("e9", 30)]).await, "EVENT_TIME_OUT_OF_RANGE", &[]);
}

#[tokio::test]
async fn appends_have_sizes_that_the_dataset_takes() {
    let server = Server::start();
    let client = server.client().await;
    let limits =
        pb::DatasetLimits { max_event_bytes: 400, max_batch_events: 3, max_events_per_second: 0 };
    let made = dataset(&client, pb::Dataset { limits: Some(limits), ..Default::default() }).await;
    assert_eq!(made.limits, Some(limits));
    let batch: Vec<_> = (0..4).map(|n| purchase_text(&format!("e{n}"), "a@b.c")).collect();
    expect(client.append("web", &batch).await, "BATCH_TOO_LARGE", &["4 events", "at most 3"]);
    expect(client.append_each("web", &batch).await, "BATCH_TOO_LARGE", &["events"]);
    client.append("web", &batch[..3]).await.unwrap();
    let large = typed(&"x".repeat(400), "a.b");
    expect(client.append("web", &[large]).await, "EVENT_INVALID", &["at most 400"]);
    for (field, limits) in [
        ("max_event_bytes", pb::DatasetLimits { max_event_bytes: 1_048_577, ..limits }),
        ("max_batch_events", pb::DatasetLimits { max_batch_events: 10_001, ..limits }),
    ] {
        let (name, schema_id) = ("other".to_owned(), PURCHASE.to_owned());
        let limits = Some(limits);
        let other = pb::Dataset { name, schema_id, limits, ..Default::default() };
        let field = format!("dataset.limits.{field}");
        expect(client.create_dataset(other).await, "ARGUMENT_INVALID", &[&field]);
    }
    for (field, policy) in [
        ("max_age", pb::TimestampPolicy { max_age: Some(seconds(0)), max_ahead: None }),
        (
            "max_ahead",
            pb::TimestampPolicy { max_age: None, max_ahead: Some(seconds(4_000_000_000)) },
        ),
        ("max_ahead", pb::TimestampPolicy { max_age: None, max_ahead: Some(seconds(-1)) }),
    ] {
        let (name, schema_id) = ("other".to_owned(), PURCHASE.to_owned());
        let timestamps = Some(policy);
        let other = pb::Dataset { name, schema_id, timestamps, ..Default::default() };
        let field = format!("dataset.timestamps.{field}");
        expect(client.create_dataset(other).await, "ARGUMENT_INVALID", &[&field]);
    }
}

#[tokio::test]
async fn a_lenient_dataset_mends_numbers_and_nulls_and_says_so() {
    let server = Server::start();
    let client = server.client().await;
    let made = dataset(&client, pb::Dataset { lenient: true, ..Default::default() }).await;
    assert!(made.lenient);
    client.create("strict", PURCHASE).await.unwrap();
    let sent = r#"{"timestamp": "2026-11-20T17:26:04Z", "_id": "e1", "count": "3", "coupon": null,
        "commerce": {"order": {"purchaseID": "1", "priceTotal": "99.50"}}}"#;
    let valid = async |client: &Client| {
        let request = pb::ValidateEventRequest {
            target: Some(pb::validate_event_request::Target::Dataset("web".into())),
            event: Some(crate::support::client::json_event(sent)),
            ..Default::default()
        };
        client.schemas.clone().validate_event(request).await.unwrap().into_inner().valid
    };
    assert!(valid(&client).await);
    client.append("web", &[sent]).await.unwrap();
    expect(client.append("strict", &[sent]).await, "EVENT_VIOLATES_SCHEMA", &["/coupon", "/count"]);
    let stored = client.get(1).await.unwrap();
    assert_eq!(
        crate::support::client::json_of(&stored),
        r#"{"_id":"e1","commerce":{"order":{"priceTotal":99.5,"purchaseID":"1"}},"count":3,"timestamp":"2026-11-20T17:26:04Z"}"#
    );
    let mut mendings: Vec<_> = stored
        .mendings
        .iter()
        .map(|it| (it.path.as_str(), it.rule(), it.original.as_str()))
        .collect();
    mendings.sort_unstable_by_key(|it| it.0);
    let number = pb::MendingRule::NumberFromText;
    let wanted = [
        ("/commerce/order/priceTotal", number, "99.50"),
        ("/count", number, "3"),
        ("/coupon", pb::MendingRule::NullLeftOut, "null"),
    ];
    assert_eq!(mendings, wanted);
    // A retry of what was sent, and of what is stored, is a duplicate.
    let stored_text = crate::support::client::json_of(&stored).to_owned();
    for text in [sent, stored_text.as_str()] {
        let again = client.append("web", &[text]).await.unwrap();
        assert_eq!(again.results[0].outcome(), Outcome::Duplicate);
    }
    // What is right is stored as it was sent, and has nothing mended.
    client.append("web", &[purchase_text("e2", "a@b.c")]).await.unwrap();
    let sound = client.get(2).await.unwrap();
    assert_eq!(crate::support::client::json_of(&sound), purchase_text("e2", "a@b.c"));
    assert_eq!(sound.mendings, []);
    // Nothing else is guessed, and what is wrong is told of what was sent.
    for (wrong, path) in [
        (sent.replace("\"3\"", "\"three\""), "/count"),
        (sent.replace("\"3\"", "true"), "/count"),
        (sent.replace("\"99.50\"", "\"-1\""), "/commerce/order/priceTotal"),
        (sent.replace("\"_id\": \"e1\", ", ""), ""),
    ] {
        let refused = client.append("web", &[wrong.replace("e1", "e3")]).await;
        let seen = seen(&refused.unwrap_err());
        assert!(seen.fields.iter().any(|(field, _)| field.ends_with(path)), "{seen:?}");
    }
    let changed = update(&client, &["lenient"], pb::Dataset::default()).await;
    assert!(!changed.lenient);
    assert!(!valid(&client).await);
    let (name, schema_id) = ("long".to_owned(), PURCHASE.to_owned());
    let mut both = pb::Dataset { name, schema_id, lenient: true, ..Default::default() };
    both.set_payload_form(pb::Form::Long);
    expect(client.create_dataset(both).await, "ARGUMENT_INVALID", &["dataset.lenient"]);
    // What was mended is told for good.
    let server = Server::start_on(server.kill());
    assert_eq!(server.client().await.get(1).await.unwrap().mendings.len(), 3);
}

#[tokio::test]
async fn a_dataset_keeps_its_pace() {
    let server = Server::start();
    let client = server.client().await;
    let limits = pb::DatasetLimits { max_events_per_second: 5, ..Default::default() };
    dataset(&client, pb::Dataset { limits: Some(limits), ..Default::default() }).await;
    client.create("free", PURCHASE).await.unwrap();
    // A batch of more than a second's events goes, and has to be made up for.
    let batch: Vec<_> = (0..40).map(|n| purchase_text(&format!("e{n}"), "a@b.c")).collect();
    client.append("web", &batch).await.unwrap();
    let status = client.append("web", &batch).await.unwrap_err();
    assert_eq!(seen(&status).reason, "RATE_EXCEEDED");
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::from_secs(1) && wait <= Duration::from_secs(8), "{wait:?}");
    client.append("free", &batch).await.unwrap();
    // Checking costs nothing of it.
    let checked = pb::AppendEventsRequest { validate_only: true, ..request("web", &batch) };
    client.append_request(checked).await.unwrap();
    update(&client, &["limits"], pb::Dataset::default()).await;
    client.append("web", &batch).await.unwrap();
}

#[tokio::test]
async fn beyond_the_horizon_an_event_is_stored_anew() {
    let server = Server::start();
    let client = server.client().await;
    let horizon = |it: i64| pb::Dataset { dedupe_horizon: Some(seconds(it)), ..Default::default() };
    let made = dataset(&client, horizon(1)).await;
    assert_eq!(made.dedupe_horizon, Some(seconds(1)));
    let send = async |client: &Client, text: &str| {
        let appended = client.append_each("web", &[text]).await.unwrap();
        let result = appended.results.into_iter().next().unwrap();
        (result.outcome(), result.position)
    };
    let (first, other) = (purchase_text("e1", "a@b.c"), typed("e1", "other"));
    assert_eq!(send(&client, &first).await, (Outcome::Appended, 1));
    // It is a duplicate until it is none.
    loop {
        match send(&client, &first).await {
            (Outcome::Duplicate, 1) => tokio::time::sleep(Duration::from_millis(20)).await,
            (outcome, position) => {
                assert_eq!((outcome, position), (Outcome::Appended, 2));
                break;
            }
        }
    }
    let key = || pb::EventKey { dataset: "web".into(), event_id: "e1".into() };
    let request = pb::GetEventRequest {
        key: Some(pb::get_event_request::Key::Event(key())),
        ..Default::default()
    };
    let found = client.events.clone().get_event(request).await.unwrap().into_inner().event;
    assert_eq!(found.unwrap().position, 2);
    assert_eq!(client.read_all().await.len(), 2);
    let times = client.read_all().await.into_iter().map(|it| it.record_time.unwrap());
    let times: Vec<_> =
        times.map(|it| i128::from(it.seconds) * 1_000_000_000 + i128::from(it.nanos)).collect();
    assert!(times[1] - times[0] > 1_000_000_000, "{times:?}");
    // Both are told of.
    let request = pb::TraceEventRequest { event: Some(key()) };
    let trace = client.events.clone().trace_event(request).await.unwrap().into_inner();
    let stored = trace.steps.iter().map(|it| match &it.step {
        Some(pb::trace_step::Step::Stored(it)) => it.position,
        step => panic!("{step:?}"),
    });
    assert_eq!(stored.collect::<Vec<_>>(), [1, 2]);
    assert!(trace.summary.contains("at position 2"), "{}", trace.summary);
    // A longer one holds for what is stored, too, and after a kill.
    let longer = update(&client, &["dedupe_horizon"], horizon(3600)).await;
    assert_ne!(longer.etag, made.etag);
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(client.dataset("web").await.unwrap().dedupe_horizon, Some(seconds(3600)));
    assert_eq!(send(&client, &first).await, (Outcome::Duplicate, 2));
    assert_eq!(send(&client, &other).await.0, Outcome::Rejected);
    // Absent is as long as events are kept.
    let without = update(&client, &["dedupe_horizon"], pb::Dataset::default()).await;
    assert_eq!(without.dedupe_horizon, None);
    assert_eq!(send(&client, &first).await, (Outcome::Duplicate, 2));
    for wrong in [seconds(0), seconds(36_525 * 24 * 60 * 60 + 1), seconds(-1)] {
        let dataset = pb::Dataset {
            name: "other".into(),
            schema_id: PURCHASE.into(),
            dedupe_horizon: Some(wrong),
            ..Default::default()
        };
        expect(client.create_dataset(dataset).await, "ARGUMENT_INVALID", &["dedupe_horizon"]);
    }
}

#[tokio::test]
async fn what_a_rule_wants_and_what_was_found_are_told_each_by_itself() {
    #[track_caller]
    fn check(result: &pb::AppendResult, wanted: &[(&str, &str, &str)]) {
        let told = result.violations.iter();
        let told: Vec<_> = told
            .map(|it| (it.instance_path.as_str(), it.expected.as_str(), it.found.as_str()))
            .collect();
        for wanted in wanted {
            assert!(told.contains(wanted), "{wanted:?} in {told:?}");
        }
        let error = result.error.as_ref().unwrap();
        assert!(!error.details.is_empty());
    }
    let server = Server::start();
    let client = server.client().await;
    let timestamps = Some(pb::TimestampPolicy { max_age: Some(seconds(3600)), max_ahead: None });
    let limits = pb::DatasetLimits { max_event_bytes: 5_000, ..Default::default() };
    dataset(&client, pb::Dataset { timestamps, limits: Some(limits), ..Default::default() }).await;
    let mut wrong = purchase("e1", "a@b.c");
    wrong["timestamp"] = json!("at noon");
    wrong["commerce"]["order"] = json!({"priceTotal": -1, "currencyCode": "euro"});
    wrong["count"] = json!([1, 2]);
    let mut large = purchase("e2", "a@b.c");
    large["note"] = json!("x".repeat(5_000));
    let early = at("e3", -7200);
    let time: serde_json::Value = serde_json::from_str(&early).unwrap();
    let time = time["timestamp"].as_str().unwrap().replace("+00:00", "Z");
    let mut nobody = purchase("e4", "null");
    nobody["eventType"] = json!(null);
    let batch = [wrong.to_string(), large.to_string(), early, nobody.to_string(), "7".to_owned()];
    let answer = client.append_each("web", &batch).await.unwrap();
    let order = "/commerce/order";
    check(
        &answer.results[0],
        &[
            ("/timestamp", "an RFC 3339 date-time such as `2026-11-23T09:30:00Z`", "\"at noon\""),
            (order, "property `purchaseID`", ""),
            (&format!("{order}/priceTotal"), "at least 0", "-1"),
            (&format!("{order}/currencyCode"), "^[A-Z]{3}$", "\"euro\""),
            ("/count", "integer", "an array of 2"),
        ],
    );
    let size = format!("{} bytes", large.to_string().len());
    check(&answer.results[1], &[("", "at most 5000 bytes", &size)]);
    let told = &answer.results[2].violations[0];
    assert_eq!((told.instance_path.as_str(), &told.found), ("/timestamp", &time));
    assert!(told.expected.starts_with("not before "), "{told:?}");
    let id = "/identityMap/Email/0/id";
    check(
        &answer.results[3],
        &[(id, "an id of somebody", "\"null\""), ("/eventType", "a string", "null")],
    );
    check(&answer.results[4], &[("", "an object", "number")]);
}
