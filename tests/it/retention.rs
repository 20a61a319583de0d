//! Trims and retention: what goes is gone for everybody, and nobody is left in the dark about it.

use std::time::Duration;

use milepost::grpc::pb::{
    self, follow_events_response::Message, start::Start as From, trim_dataset_request::Before,
};
use prost_types::FieldMask;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::support::{
    Client, Server,
    client::{by_dataset, by_identity, by_type, reading},
    errors::{expect, seen},
    events::{PURCHASE, purchase_text, purchases},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

async fn trim(client: &Client, name: &str, before: u64) -> Result<pb::TrimDatasetResponse, Status> {
    let request = pb::TrimDatasetRequest {
        name: name.into(),
        before: Some(Before::BeforePosition(before)),
        ..Default::default()
    };
    trim_with(client, request).await
}

async fn trim_with(
    client: &Client,
    request: pb::TrimDatasetRequest,
) -> Result<pb::TrimDatasetResponse, Status> {
    Ok(client.datasets.clone().trim_dataset(request).await?.into_inner())
}

fn following(start: From, below_floor: pb::BelowFloor) -> pb::FollowEventsRequest {
    pb::FollowEventsRequest {
        start: Some(pb::Start { start: Some(start) }),
        below_floor: below_floor.into(),
        ..Default::default()
    }
}

/// What a follow tells up to a message that `is_last`: positions, and gaps as `from-to`.
async fn told(
    client: &Client,
    request: pb::FollowEventsRequest,
    is_last: impl Fn(&Message) -> bool,
) -> Result<String, Status> {
    let mut stream = client.follow(request).await?;
    let mut told = Vec::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("nothing came");
        let message = next?.expect("a follow ends with a status").message.unwrap();
        match &message {
            Message::Gap(gap) => {
                assert_eq!(gap.reason(), pb::gap::Reason::Retention);
                told.push(format!("{}-{}", gap.from, gap.to));
            }
            Message::Events(batch) => {
                told.extend(batch.events.iter().map(|it| it.position.to_string()));
            }
            _ => {}
        }
        if is_last(&message) {
            return Ok(told.join(" "));
        }
    }
}

fn caught_up(message: &Message) -> bool {
    matches!(message, Message::CaughtUp(_))
}

async fn positions(client: &Client, filter: pb::EventFilter) -> Vec<u64> {
    client.read(reading(filter)).await.unwrap().iter().map(|it| it.position).collect()
}

/// Two datasets that take turns: `web` has the odd positions up to 20, `shop` the even ones.
async fn twenty() -> (Server, Client) {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("shop", PURCHASE).await.unwrap();
    for n in 1..=20 {
        let dataset = if n % 2 == 1 { "web" } else { "shop" };
        client.append(dataset, &[purchase_text(&format!("e{n}"), "a@b.c")]).await.unwrap();
    }
    (server, client)
}

/// Everything that can be asked agrees on which events there are.
async fn check(client: &Client, kept: &[u64], payload_bytes: u64) {
    let web: Vec<u64> = kept.iter().copied().filter(|it| it % 2 == 1).collect();
    for (filter, expected) in [
        (pb::EventFilter::default(), kept),
        (by_dataset("web"), &web),
        (by_identity("Email", "a@b.c"), kept),
        (by_type("commerce.*"), kept),
    ] {
        assert_eq!(positions(client, filter.clone()).await, expected, "{filter:?}");
        assert_eq!(client.count(filter).await.unwrap(), expected.len() as u64);
    }
    for position in 1..=20 {
        let found = client.get(position).await;
        if kept.contains(&position) {
            assert_eq!(found.unwrap().position, position);
        } else {
            expect(found, "EVENT_NOT_FOUND", &[&position.to_string()]);
        }
    }
    let stats = client.dataset("web").await.unwrap().stats.unwrap();
    let expected = pb::DatasetStats {
        quarantined_events: 0,
        tagged_events: 0,
        refused: Vec::new(),
        events: web.len() as u64,
        first_position: web.first().copied().unwrap_or(0),
        last_position: web.last().copied().unwrap_or(0),
        payload_bytes,
    };
    assert_eq!(stats, expected);
}

fn bytes_of(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().map(|n| purchase_text(&format!("e{n}"), "a@b.c").len() as u64).sum()
}

#[tokio::test]
async fn what_is_trimmed_is_gone_for_everybody_and_stays_gone() {
    let (server, client) = twenty().await;
    let before = client.dataset("web").await.unwrap();
    let only_look = pb::TrimDatasetRequest {
        name: "web".into(),
        before: Some(Before::BeforePosition(9)),
        validate_only: true,
        ..Default::default()
    };
    let answer = trim_with(&client, only_look).await.unwrap();
    assert_eq!((answer.removed_events, answer.dataset.unwrap()), (4, before.clone()));
    check(&client, &(1..=20).collect::<Vec<_>>(), bytes_of((1..20).step_by(2))).await;

    // 1, 3, 5 and 7 go; 9 is the bound and stays.
    let answer = trim(&client, "web", 9).await.unwrap();
    let dataset = answer.dataset.unwrap();
    assert_eq!((answer.removed_events, dataset.floor_position), (4, 7));
    assert_eq!(dataset.stats.unwrap().events, 6);
    assert_eq!((&dataset.etag, &dataset.update_time), (&before.etag, &before.update_time));
    let kept = [2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
    let bytes = bytes_of((9..20).step_by(2));
    check(&client, &kept, bytes).await;
    // Again, and to an earlier bound: nothing more goes, and nothing comes back.
    for before in [9, 8, 3] {
        let answer = trim(&client, "web", before).await.unwrap();
        assert_eq!((answer.removed_events, answer.dataset.unwrap().floor_position), (0, 7));
    }
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    check(&client, &kept, bytes).await;

    // The id of a trimmed event is free again, that of a kept one is not.
    let answer = client.append("web", &[purchase_text("e1", "new@b.c")]).await.unwrap();
    assert_eq!(
        (answer.results[0].outcome(), answer.results[0].position),
        (pb::append_result::Outcome::Appended, 21)
    );
    let answer = client.append("web", &[purchase_text("e9", "a@b.c")]).await.unwrap();
    assert_eq!(
        (answer.results[0].outcome(), answer.results[0].position),
        (pb::append_result::Outcome::Duplicate, 9)
    );
    let key = |id: &str| {
        pb::get_event_request::Key::Event(pb::EventKey {
            dataset: "web".into(),
            event_id: id.into(),
        })
    };
    let get = async |id| {
        let request = pb::GetEventRequest { key: Some(key(id)), ..Default::default() };
        Ok::<_, Status>(client.events.clone().get_event(request).await?.into_inner().event.unwrap())
    };
    assert_eq!(get("e1").await.unwrap().position, 21);
    expect(get("e3").await, "EVENT_NOT_FOUND", &["e3"]);
}

#[tokio::test]
async fn a_trim_by_time_keeps_what_was_stored_from_then_on() {
    let (_server, client) = twenty().await;
    let eleventh = client.get(11).await.unwrap();
    let request = pb::TrimDatasetRequest {
        name: "web".into(),
        before: Some(Before::BeforeRecordTime(eleventh.record_time.unwrap())),
        ..Default::default()
    };
    let answer = trim_with(&client, request).await.unwrap();
    assert_eq!((answer.removed_events, answer.dataset.unwrap().floor_position), (5, 9));
    assert_eq!(positions(&client, by_dataset("web")).await, [11, 13, 15, 17, 19]);
}

#[tokio::test]
async fn a_trim_that_cannot_be_is_refused_and_removes_nothing() {
    let (server, client) = twenty().await;
    let etag = client.dataset("web").await.unwrap().etag;
    let sound = pb::TrimDatasetRequest {
        name: "web".into(),
        before: Some(Before::BeforePosition(3)),
        etag,
        validate_only: false,
    };
    let at = |before| pb::TrimDatasetRequest { before: Some(before), ..sound.clone() };
    let time =
        |seconds, nanos| at(Before::BeforeRecordTime(prost_types::Timestamp { seconds, nanos }));
    let rows = [
        (pb::TrimDatasetRequest { name: "none".into(), ..sound.clone() }, "DATASET_NOT_FOUND"),
        (pb::TrimDatasetRequest { etag: "old".into(), ..sound.clone() }, "ETAG_MISMATCH"),
        (pb::TrimDatasetRequest { before: None, ..sound.clone() }, "ARGUMENT_INVALID"),
        (at(Before::BeforePosition(0)), "ARGUMENT_INVALID"),
        (at(Before::BeforePosition(22)), "POSITION_OUT_OF_RANGE"),
        (at(Before::BeforePosition(u64::MAX)), "POSITION_OUT_OF_RANGE"),
        (time(i64::MAX, 0), "ARGUMENT_INVALID"),
        (time(0, -1), "ARGUMENT_INVALID"),
    ];
    for (request, reason) in rows {
        for validate_only in [true, false] {
            let request = pb::TrimDatasetRequest { validate_only, ..request.clone() };
            expect(trim_with(&client, request).await, reason, &[]);
        }
    }
    check(&client, &(1..=20).collect::<Vec<_>>(), bytes_of((1..20).step_by(2))).await;
    assert!(!server.log().contains("panicked"));
    // One beyond the last position is everything stored so far.
    assert_eq!(
        trim_with(&client, at(Before::BeforePosition(21))).await.unwrap().removed_events,
        10
    );
}

#[tokio::test]
async fn a_start_below_the_floor_is_refused_or_told_of_the_gap() {
    let (_server, client) = twenty().await;
    let token = {
        let mut stream = client
            .follow(following(From::AfterPosition(4), pb::BelowFloor::Unspecified))
            .await
            .unwrap();
        match stream.message().await.unwrap().unwrap().message.unwrap() {
            Message::Started(started) => started.resume_token,
            other => panic!("{other:?}"),
        }
    };
    trim(&client, "web", 9).await.unwrap();
    let rest = "8 9 10 11 12 13 14 15 16 17 18 19 20";
    let rows = [
        (From::AfterPosition(4), Some(format!("5-7 6 {rest}"))),
        (From::AfterPosition(6), Some(format!("7-7 {rest}"))),
        (From::ResumeToken(token), Some(format!("5-7 6 {rest}"))),
        (From::AfterPosition(0), None),
        (From::AfterPosition(7), None),
        (From::Beginning(pb::start::Beginning {}), None),
    ];
    for (start, clamped) in rows {
        let fail = following(start.clone(), pb::BelowFloor::Fail);
        let clamp = following(start.clone(), pb::BelowFloor::Clamp);
        match clamped {
            None => {
                let plain = told(&client, fail, caught_up).await.unwrap();
                assert!(!plain.contains('-'), "{start:?}: {plain}");
                assert_eq!(told(&client, clamp, caught_up).await.unwrap(), plain);
            }
            Some(expected) => {
                let status = told(&client, fail, caught_up).await.unwrap_err();
                assert_eq!(seen(&status).reason, "POSITION_TRIMMED", "{start:?}");
                let metadata = status.get_details_error_info().unwrap().metadata;
                assert_eq!(metadata["floor_position"], "7");
                assert_eq!(told(&client, clamp, caught_up).await.unwrap(), expected);
            }
        }
    }
    // Only what is selected counts.
    let of_shop = pb::FollowEventsRequest {
        filter: Some(by_dataset("shop")),
        ..following(From::AfterPosition(2), pb::BelowFloor::Fail)
    };
    assert_eq!(told(&client, of_shop, caught_up).await.unwrap(), "4 6 8 10 12 14 16 18 20");
    let of_web = pb::FollowEventsRequest {
        filter: Some(by_dataset("web")),
        ..following(From::AfterPosition(2), pb::BelowFloor::Clamp)
    };
    assert_eq!(told(&client, of_web, caught_up).await.unwrap(), "3-7 9 11 13 15 17 19");
}

#[tokio::test]
async fn a_read_below_the_floor_is_refused_or_told_of_the_gap() {
    let (_server, client) = twenty().await;
    trim(&client, "web", 9).await.unwrap();
    let read = |after, below_floor: pb::BelowFloor| pb::ReadEventsRequest {
        after,
        before: 12,
        below_floor: below_floor.into(),
        ..Default::default()
    };
    let refused = client.read(read(2, pb::BelowFloor::Unspecified)).await;
    expect(refused, "POSITION_TRIMMED", &["2", "7"]);
    for (after, gaps, kept) in [
        (0, vec![], vec![2, 4, 6, 8, 9, 10, 11]),
        (2, vec![(3, 7)], vec![4, 6, 8, 9, 10, 11]),
        (7, vec![], vec![8, 9, 10, 11]),
    ] {
        for direction in [pb::Direction::Forward, pb::Direction::Backward] {
            let mut request = read(after, pb::BelowFloor::Clamp);
            request.set_direction(direction);
            let mut pages = client.events.clone().read_events(request).await.unwrap().into_inner();
            let (mut found, mut told) = (Vec::new(), Vec::new());
            while let Some(page) = pages.message().await.unwrap() {
                assert!(page.gaps.is_empty() || page.events.is_empty() && found.is_empty());
                told.extend(page.gaps.iter().map(|it| (it.from, it.to)));
                found.extend(page.events.iter().map(|it| it.position));
            }
            found.sort_unstable();
            assert_eq!((told, found), (gaps.clone(), kept.clone()), "{after} {direction:?}");
        }
    }
}

async fn retain(client: &Client, retention: Option<pb::Retention>) -> Result<pb::Dataset, Status> {
    let request = pb::UpdateDatasetRequest {
        dataset: Some(pb::Dataset { name: "web".into(), retention, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["retention".into()] }),
        ..Default::default()
    };
    Ok(client.datasets.clone().update_dataset(request).await?.into_inner().dataset.unwrap())
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

#[tokio::test]
async fn retention_is_a_setting_like_others_and_checked() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let rules = pb::Retention {
        max_age: Some(prost_types::Duration { seconds: 30, nanos: 500_000_000 }),
        age_by: pb::AgeBy::EventTime.into(),
        max_events: 7,
        max_bytes: 1 << 40,
    };
    let before = client.dataset("web").await.unwrap();
    let after = retain(&client, Some(rules)).await.unwrap();
    assert_eq!(after.retention, Some(rules));
    assert_ne!(after.etag, before.etag);
    let age = |max_age| Some(pb::Retention { max_age, ..Default::default() });
    let rows = [
        (age(Some(seconds(0))), "max_age"),
        (age(Some(seconds(-1))), "max_age"),
        (age(Some(seconds(36_525 * 86_400 + 1))), "max_age"),
        (age(Some(prost_types::Duration { seconds: 0, nanos: 999_999_999 })), "max_age"),
        (Some(pb::Retention { age_by: 99, ..rules }), "age_by"),
        (Some(pb::Retention { max_age: None, ..rules }), "age_by"),
    ];
    for (retention, word) in rows {
        expect(retain(&client, retention).await, "ARGUMENT_INVALID", &[word]);
        let dataset = pb::Dataset {
            name: "other".into(),
            schema_id: PURCHASE.into(),
            retention,
            ..Default::default()
        };
        expect(client.create_dataset(dataset).await, "ARGUMENT_INVALID", &[word]);
    }
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(client.dataset("web").await.unwrap().retention, Some(rules));
    let same = pb::Dataset {
        name: "web".into(),
        schema_id: PURCHASE.into(),
        retention: Some(rules),
        ..Default::default()
    };
    client.create_dataset(same.clone()).await.unwrap();
    let other = pb::Dataset { retention: None, ..same };
    expect(client.create_dataset(other).await, "DATASET_EXISTS", &["retention"]);
    assert_eq!(retain(&client, None).await.unwrap().retention, None);
}

/// Each rule, applied by the server itself; a follow waits for it and hears of it.
#[tokio::test]
async fn the_server_applies_retention_by_itself() {
    let server = Server::start_with(&["--retention-interval", "1"]);
    let client = server.client().await;
    let event = |n: u64| format!(r#"{{"_id": "e{n:02}", "timestamp": "2001-11-20T17:26:04Z"}}"#);
    let bytes = event(1).len() as u64;
    let rules = [
        ("by-number", pb::Retention { max_events: 3, ..Default::default() }, 3),
        ("by-bytes", pb::Retention { max_bytes: 4 * bytes + 1, ..Default::default() }, 4),
        ("by-age", pb::Retention { max_age: Some(seconds(1)), ..Default::default() }, 0),
        (
            "by-event-time",
            pb::Retention {
                max_age: Some(seconds(1)),
                age_by: pb::AgeBy::EventTime.into(),
                ..Default::default()
            },
            0,
        ),
    ];
    purchases(&client, "web").await;
    for (name, retention, _) in &rules {
        let dataset = pb::Dataset {
            name: (*name).into(),
            schema_id: PURCHASE.into(),
            retention: Some(*retention),
            ..Default::default()
        };
        client.create_dataset(dataset).await.unwrap();
        client.append(name, &(1..=10).map(event).collect::<Vec<_>>()).await.unwrap();
    }
    client.append("web", &(1..=10).map(event).collect::<Vec<_>>()).await.unwrap();
    for (name, _, kept) in rules {
        let wait = async {
            while client.count(by_dataset(name)).await.unwrap() != kept {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect(name);
        let dataset = client.dataset(name).await.unwrap();
        let stats = dataset.stats.unwrap();
        assert_eq!((stats.events, stats.payload_bytes), (kept, kept * bytes), "{name}");
        assert_eq!(dataset.floor_position % 10, (10 - kept) % 10, "{name}");
        let from_first = pb::FollowEventsRequest {
            filter: Some(by_dataset(name)),
            ..following(From::AfterPosition(1), pb::BelowFloor::Clamp)
        };
        let told = told(&client, from_first, caught_up).await.unwrap();
        assert!(told.starts_with(&format!("2-{}", dataset.floor_position)), "{name}: {told}");
    }
    assert_eq!(client.count(by_dataset("web")).await.unwrap(), 10);
    assert!(!server.log().contains("panicked"));
    server.stop().await;
}
