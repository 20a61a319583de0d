//! Reading: filters, directions, bounds, formats.

use milepost::grpc::pb;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{
    Client, Server,
    client::{by_dataset, by_identity, by_type, json_of, reading, string_of},
    errors::{expect, seen},
    events::{PURCHASE, Random, purchases},
};

const TYPES: [&str; 6] = [
    "commerce.purchases",
    "commerce.order.placed",
    "commerce",
    "commercex.y",
    "web.webpagedetails.pageViews",
    "",
];
const PEOPLE: [(&str, &str); 4] =
    [("Email", "a@b.c"), ("Email", "x@y.z"), ("GAID", "a@b.c"), ("crm-id", "7")];

/// An event and what the store must have read from it.
struct Sent {
    dataset: &'static str,
    event_type: &'static str,
    identities: Vec<(&'static str, &'static str)>,
    day: u64,
    payload: String,
}

fn generated(random: &mut Random, count: usize) -> Vec<Sent> {
    (0..count)
        .map(|n| {
            let event_type = *random.one_of(&TYPES);
            let day = 1 + random.below(28);
            let mut event =
                json!({"_id": format!("e{n}"), "timestamp": format!("2026-10-{day:02}T12:00:00Z")});
            if !event_type.is_empty() {
                event["eventType"] = json!(event_type);
            }
            let mut identities: Vec<_> =
                PEOPLE.into_iter().filter(|_| random.below(3) == 0).collect();
            identities.sort_unstable();
            let mut map = serde_json::Map::new();
            for (namespace, id) in &identities {
                let list = map.entry(*namespace).or_insert_with(|| json!([]));
                list.as_array_mut().unwrap().push(json!({"id": id}));
            }
            if !map.is_empty() {
                event["identityMap"] = Value::Object(map);
            }
            let dataset = *random.one_of(&["web", "shop"]);
            Sent { dataset, event_type, identities, day, payload: event.to_string() }
        })
        .collect()
}

/// A store with 400 events in two datasets; event `n` is at position `n + 1`.
async fn filled() -> (Server, Client, Vec<Sent>) {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("shop", PURCHASE).await.unwrap();
    let events = generated(&mut Random::seeded("read", 11), 400);
    for run in events.chunk_by(|a, b| a.dataset == b.dataset) {
        let payloads: Vec<_> = run.iter().map(|it| &it.payload).collect();
        client.append(run[0].dataset, &payloads).await.unwrap();
    }
    (server, client, events)
}

/// Reads and counts by the filter; both must agree with trying every event.
async fn check(
    client: &Client,
    events: &[Sent],
    filter: pb::EventFilter,
    expected: impl Fn(&Sent) -> bool,
) {
    let expected: Vec<u64> =
        (1u64..).zip(events).filter(|(_, it)| expected(it)).map(|(position, _)| position).collect();
    let read = client.read(reading(filter.clone())).await.unwrap();
    let positions: Vec<u64> = read.iter().map(|it| it.position).collect();
    assert_eq!(positions, expected, "{filter:?}");
    for event in &read {
        let sent = &events[usize::try_from(event.position).unwrap() - 1];
        assert_eq!(json_of(event), sent.payload);
        assert_eq!(
            (&*event.dataset, &*event.event_type),
            (sent.dataset, sent.event_type.as_bytes())
        );
        let identities: Vec<_> = event
            .identities
            .iter()
            .map(|it| (string_of(&it.namespace), string_of(&it.id)))
            .collect();
        let sent: Vec<_> =
            sent.identities.iter().map(|it| (it.0.to_owned(), it.1.to_owned())).collect();
        assert_eq!(identities, sent);
    }
    assert_eq!(client.count(filter.clone()).await.unwrap(), expected.len() as u64, "{filter:?}");

    let mut backward = reading(filter.clone());
    backward.set_direction(pb::Direction::Backward);
    let read = client.read(backward).await.unwrap();
    let positions: Vec<u64> = read.iter().rev().map(|it| it.position).collect();
    assert_eq!(positions, expected, "backward: {filter:?}");
}

#[tokio::test]
async fn every_filter_selects_what_trying_every_event_selects() {
    let (_server, client, events) = filled().await;
    check(&client, &events, pb::EventFilter::default(), |_| true).await;
    for dataset in ["web", "shop"] {
        check(&client, &events, by_dataset(dataset), |it| it.dataset == dataset).await;
    }
    for event_type in TYPES.into_iter().filter(|it| !it.is_empty()) {
        check(&client, &events, by_type(event_type), |it| it.event_type == event_type).await;
    }
    let under = |it: &Sent, prefix: &str| it.event_type.starts_with(prefix);
    check(&client, &events, by_type("commerce.*"), |it| under(it, "commerce.")).await;
    check(&client, &events, by_type("commerce.order.*"), |it| under(it, "commerce.order.")).await;
    check(&client, &events, by_type("nothing.*"), |_| false).await;
    check(&client, &events, by_type("nothing"), |_| false).await;
    for (namespace, id) in PEOPLE {
        let expected = |it: &Sent| it.identities.contains(&(namespace, id));
        check(&client, &events, by_identity(namespace, id), expected).await;
    }
    let of_email = |it: &Sent| it.identities.iter().any(|(namespace, _)| *namespace == "Email");
    check(&client, &events, by_identity("Email", ""), of_email).await;
    check(&client, &events, by_identity("Email", "nobody"), |_| false).await;
    check(&client, &events, by_identity("Phone", ""), |_| false).await;

    // Fields AND, values OR.
    let mut both = by_type("commerce.*");
    both.event_types.push("web.webpagedetails.pageViews".into());
    both.identities = [by_identity("Email", ""), by_identity("crm-id", "7")]
        .into_iter()
        .flat_map(|it| it.identities)
        .collect();
    both.datasets = vec!["shop".into()];
    let expected = |it: &Sent| {
        it.dataset == "shop"
            && (under(it, "commerce.") || it.event_type.starts_with("web."))
            && (of_email(it) || it.identities.contains(&("crm-id", "7")))
    };
    check(&client, &events, both, expected).await;

    let schema = pb::EventFilter { schemas: vec![PURCHASE.into()], ..Default::default() };
    check(&client, &events, schema, |_| true).await;
    let time = |day: i64| {
        Some(prost_types::Timestamp { seconds: 1_790_812_800 + 86_400 * (day - 1), nanos: 0 })
    };
    let range = pb::TimeRange { start: time(10), end: time(20) };
    let filter = pb::EventFilter { event_time: Some(range), ..Default::default() };
    check(&client, &events, filter, |it| (10..20).contains(&it.day)).await;
}

#[tokio::test]
async fn an_identity_that_is_no_text_is_refused_by_its_field() {
    let (_server, client, _events) = filled().await;
    for (namespace, id, field) in
        [(&b"Email"[..], &b"a\xff"[..], "id"), (&b"\xff"[..], &b"a"[..], "namespace")]
    {
        let (namespace, id) = (namespace.to_vec().into(), id.to_vec().into());
        let identities = vec![pb::Identity { namespace, id, primary: false }];
        let filter = pb::EventFilter { identities, ..Default::default() };
        let refused = seen(&client.count(filter).await.unwrap_err());
        let fields = [(format!("filter.identities[0].{field}"), "not UTF-8".to_owned())];
        assert_eq!((refused.code, refused.fields.as_slice()), (Code::InvalidArgument, &fields[..]));
    }
}

#[tokio::test]
async fn record_time_ranges_are_half_open() {
    let (_server, client, events) = filled().await;
    let all = client.read_all().await;
    let middle = all[200].record_time;
    let first = all.iter().position(|it| it.record_time == middle).unwrap() as u64;
    let range = |start, end| pb::EventFilter {
        record_time: Some(pb::TimeRange { start, end }),
        ..Default::default()
    };
    assert_eq!(client.count(range(None, middle)).await.unwrap(), first);
    assert_eq!(client.count(range(middle, None)).await.unwrap(), events.len() as u64 - first);
    assert_eq!(client.count(range(middle, middle)).await.unwrap(), 0);
}

#[tokio::test]
async fn bounds_are_exclusive_and_a_read_goes_on_where_it_stopped() {
    let (_server, client, events) = filled().await;
    let last = events.len() as u64;
    let read = |after, before, limit, direction: pb::Direction| pb::ReadEventsRequest {
        after,
        before,
        limit,
        direction: direction.into(),
        ..Default::default()
    };
    let (forward, backward) = (pb::Direction::Forward, pb::Direction::Backward);
    let rows: &[(pb::ReadEventsRequest, Vec<u64>)] = &[
        (read(10, 15, 0, forward), vec![11, 12, 13, 14]),
        (read(10, 15, 0, backward), vec![14, 13, 12, 11]),
        (read(10, 15, 2, forward), vec![11, 12]),
        (read(10, 15, 2, backward), vec![14, 13]),
        (read(10, 11, 0, forward), vec![]),
        (read(last, 0, 0, forward), vec![]),
        (read(last + 5, 0, 0, forward), vec![]),
        (read(last - 1, 0, 0, backward), vec![last]),
        (read(0, 3, 0, backward), vec![2, 1]),
        (read(0, u64::MAX, 3, backward), vec![last, last - 1, last - 2]),
        (read(0, 0, u64::MAX, forward), (1..=last).collect()),
    ];
    for (request, expected) in rows {
        let events = client.read(request.clone()).await.unwrap();
        let positions: Vec<u64> = events.iter().map(|it| it.position).collect();
        assert_eq!(&positions, expected, "{request:?}");
    }

    // Pages of 7 by `scanned_to`, both ways, with a filter.
    for direction in [forward, backward] {
        let whole = {
            let mut request = reading(by_type("commerce.*"));
            request.set_direction(direction);
            client.read(request).await.unwrap()
        };
        let (mut pieces, mut reached) = (Vec::new(), 0);
        loop {
            let mut request = reading(by_type("commerce.*"));
            request.limit = 7;
            request.set_direction(direction);
            match direction {
                pb::Direction::Backward => request.before = reached,
                _ => request.after = reached,
            }
            let (events, scanned_to) = client.read_scanned(request).await.unwrap();
            let done = events.len() < 7;
            pieces.extend(events);
            if done {
                break;
            }
            reached = scanned_to;
        }
        assert_eq!(pieces, whole);
    }
}

#[tokio::test]
async fn an_event_is_found_by_position_and_by_id() {
    let (_server, client, events) = filled().await;
    for position in [1u64, 200, 400] {
        let sent = &events[usize::try_from(position).unwrap() - 1];
        let by_position = client.get(position).await.unwrap();
        let key = pb::EventKey {
            dataset: sent.dataset.into(),
            event_id: string_of(&by_position.event_id),
        };
        let request = pb::GetEventRequest {
            key: Some(pb::get_event_request::Key::Event(key)),
            ..Default::default()
        };
        let by_id = client.events.clone().get_event(request).await.unwrap().into_inner();
        assert_eq!(by_id.event.as_ref(), Some(&by_position));
        assert_eq!(json_of(&by_position), sent.payload);
    }
    for position in [0, 401, u64::MAX] {
        expect(client.get(position).await, "EVENT_NOT_FOUND", &[&*position.to_string()]);
    }
}

#[tokio::test]
async fn payloads_can_be_left_out() {
    let (_server, client, events) = filled().await;
    let mut request = pb::ReadEventsRequest { limit: 5, ..Default::default() };
    request.set_payload_format(pb::PayloadFormat::None);
    let read = client.read(request).await.unwrap();
    assert_eq!(read.len(), 5);
    for (event, sent) in read.iter().zip(&events) {
        assert_eq!(event.event, None);
        assert_eq!(event.event_type, sent.event_type);
    }
}

#[tokio::test]
async fn a_restart_changes_no_answer() {
    let (server, client, events) = filled().await;
    let before = client.read_all().await;
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(client.read_all().await, before, "after a kill");
    let under_commerce = |it: &Sent| it.event_type.starts_with("commerce.");
    check(&client, &events, by_type("commerce.*"), under_commerce).await;
    let server = Server::start_on(server.stop().await);
    let client = server.client().await;
    assert_eq!(client.read_all().await, before, "after a stop");
    let expected = |it: &Sent| it.identities.contains(&PEOPLE[0]);
    check(&client, &events, by_identity("Email", "a@b.c"), expected).await;
}
