//! Buffered appends: answered when they are written, durable and visible a moment later.

use std::{collections::BTreeMap, time::Duration};

use milepost::grpc::pb::{self, append_result::Outcome, follow_events_response::Message};
use tokio::task::JoinSet;

use crate::support::{
    Client, Server,
    client::{expected_last, request, string_of},
    errors::expect,
    events::{Random, purchase, purchase_text, purchases},
    server::Dir,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);
const FLAGS: [&str; 2] = ["--buffered-appends", "allow"];

fn buffered<T: AsRef<str>>(dataset: &str, payloads: &[T]) -> pb::AppendEventsRequest {
    let mut append = request(dataset, payloads);
    append.set_durability(pb::Durability::Buffered);
    append
}

/// Follows until a position is seen; it must be the next one each time.
async fn until_seen(client: &Client, after: u64, position: u64) {
    let start = Some(pb::Start { start: Some(pb::start::Start::AfterPosition(after)) });
    let request = pb::FollowEventsRequest { start, ..Default::default() };
    let mut stream = client.follow(request).await.unwrap();
    let mut reached = after;
    while reached < position {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("nothing came");
        if let Message::Events(batch) = next.unwrap().unwrap().message.unwrap() {
            for event in batch.events {
                assert_eq!(event.position, reached + 1);
                reached = event.position;
            }
        }
    }
}

#[tokio::test]
async fn a_buffered_append_is_answered_when_it_is_written_and_seen_when_it_is_durable() {
    let server = Server::start_with(&FLAGS);
    let client = server.client().await;
    purchases(&client, "web").await;
    let text = |id: &str| purchase_text(id, "ann@example.com");
    // Nothing is ahead of the very first write, for which there is no file yet.
    let first = client.append("web", &[text("s1")]).await.unwrap();
    assert_eq!((first.durability(), first.durable_position), (pb::Durability::Sync, 1));

    let answer = client.append_request(buffered("web", &[text("b2"), text("b3")])).await.unwrap();
    assert_eq!((answer.durability(), answer.durable_position), (pb::Durability::Buffered, 1));
    let places: Vec<_> = answer.results.iter().map(|it| it.position).collect();
    assert_eq!(places, [2, 3]);
    // It counts for what comes next, whether or not it is durable by now.
    let again = client.append_request(buffered("web", &[text("b2")])).await.unwrap();
    assert_eq!(again.results[0].outcome(), Outcome::Duplicate);
    assert_eq!(again.results[0].position, 2);
    let other = purchase("b3", "bob@example.com").to_string();
    let conflict = client.append_request(buffered("web", &[other])).await;
    expect(conflict, "EVENT_ID_CONFLICT", &["b3"]);
    let mut append = buffered("web", &[text("b4")]);
    append.conditions = vec![expected_last("Email", "ann@example.com", 1)];
    expect(client.append_request(append.clone()).await, "CONDITION_FAILED", &[]);
    append.conditions = vec![expected_last("Email", "ann@example.com", 3)];
    client.append_request(append).await.unwrap();
    // Nobody asks for it, and it is there.
    until_seen(&client, 1, 4).await;
    assert!(client.last_position().await >= 4);

    // What is synced takes along what was written before it.
    client.append_request(buffered("web", &[text("b5")])).await.unwrap();
    let synced = client.append("web", &[text("s6")]).await.unwrap();
    assert_eq!((synced.durability(), synced.durable_position), (pb::Durability::Sync, 6));
    assert_eq!(client.read_all().await.len(), 6);
    client.append_request(buffered("web", &[text("b7")])).await.unwrap();
    client.create("shop", crate::support::events::PURCHASE).await.unwrap();
    assert_eq!(client.last_position().await, 7);
    client.append_request(buffered("web", &[text("b8")])).await.unwrap();
    let waited = client.append("web", &[text("b8")]).await.unwrap();
    assert_eq!(waited.results[0].outcome(), Outcome::Duplicate);
    assert_eq!((waited.durability(), waited.durable_position), (pb::Durability::Sync, 8));

    // Larger than what is written ahead.
    let large = (0..600).map(|n| {
        let mut event = purchase(&format!("large-{n}"), "ann@example.com");
        event["note"] = serde_json::json!("x".repeat(4000));
        event.to_string()
    });
    let large = large.collect::<Vec<_>>();
    let answer = client.append_request(buffered("web", &large)).await.unwrap();
    assert_eq!((answer.durability(), answer.durable_position), (pb::Durability::Sync, 608));
    let mut last = 608;
    for chunk in large.chunks(200) {
        let again: Vec<_> = chunk.iter().map(|it| it.replace("large-", "again-")).collect();
        let answer = client.append_request(buffered("web", &again)).await.unwrap();
        last = answer.results.last().unwrap().position;
    }
    assert_eq!(last, 1208);
    until_seen(&client, 608, 1208).await;
    client.verify().await.unwrap();
    // An orderly end takes everything along.
    client.append_request(buffered("web", &[text("last")])).await.unwrap();
    let server = Server::start_on(server.stop().await);
    let client = server.client().await;
    assert_eq!(client.last_position().await, 1209);
    client.verify().await.unwrap();
    let refused = client.append_request(buffered("web", &[text("not")])).await;
    expect(refused, "NOT_IMPLEMENTED", &["buffered"]);
}

/// Appends until the server is gone; the answered ids with their positions.
async fn write(client: Client, mut random: Random, round: u64, writer: u64) -> Vec<(String, u64)> {
    let mut written = Vec::new();
    for number in 0.. {
        let size = random.below(4) + 1;
        let ids: Vec<_> = (0..size).map(|it| format!("{round}-{writer}-{number}-{it}")).collect();
        let payloads: Vec<_> = ids.iter().map(|it| purchase_text(it, "a@b.c")).collect();
        let mut append = buffered("web", &payloads);
        if random.below(20) == 0 {
            append.set_durability(pb::Durability::Sync);
        }
        let Ok(answer) = client.append_request(append).await else { return written };
        let places = answer.results.iter().map(|it| it.position);
        written.extend(ids.into_iter().zip(places));
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_buffered_append_survives_kill_9() {
    let mut random = Random::seeded("buffered kills", 5);
    let mut dir = Dir::new();
    let mut written: BTreeMap<u64, String> = BTreeMap::new();
    for round in 0..4 {
        let server = Server::start_on_with(dir, &FLAGS);
        let client = server.client().await;
        if round == 0 {
            purchases(&client, "web").await;
        }
        let mut writing = JoinSet::new();
        for writer in 0..3 {
            let random = Random::from_seed(random.below(u64::MAX));
            writing.spawn(write(server.client().await, random, round, writer));
        }
        let last = client.last_position().await;
        until_seen(&client, last, last + 100 + random.below(200)).await;
        dir = server.kill();
        while let Some(done) = writing.join_next().await {
            written.extend(done.unwrap().into_iter().map(|(id, position)| (position, id)));
        }
    }
    let server = Server::start_on(dir);
    let client = server.client().await;
    let events = client.read_all().await;
    let dense = events.iter().zip(1..).all(|(event, position)| event.position == position);
    assert!(dense, "positions have a gap");
    let found: BTreeMap<u64, String> =
        events.into_iter().map(|it| (it.position, string_of(&it.event_id))).collect();
    for (position, id) in &written {
        assert_eq!(found.get(position), Some(id), "answered and not there");
    }
    client.verify().await.unwrap();
}
