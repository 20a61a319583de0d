//! Following: old events, then new ones, no gap, no duplicate.

use std::time::Duration;

use milepost::grpc::pb::{
    self, FollowEventsResponse, follow_events_response::Message, start::Start as From,
};
use prost_types::Timestamp;
use tonic::{Status, Streaming};

use crate::support::{
    Client, Server,
    client::{by_dataset, by_identity, by_type},
    errors::{expect, seen},
    events::{PURCHASE, purchase_text, purchases, typed},
};

/// Longer than anything here takes; a message that has not come by then will not come.
const PATIENCE: Duration = Duration::from_mins(1);

fn from(start: From) -> pb::FollowEventsRequest {
    let start = Some(pb::Start { start: Some(start) });
    pb::FollowEventsRequest { start, ..Default::default() }
}

fn beginning() -> From {
    From::Beginning(pb::start::Beginning {})
}

async fn next(stream: &mut Streaming<FollowEventsResponse>) -> Result<Message, Status> {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("no message came");
    Ok(message?.expect("a follow ends with a status").message.expect("an empty message"))
}

/// What came up to and including a message that `is_last`.
async fn until(
    stream: &mut Streaming<FollowEventsResponse>,
    is_last: impl Fn(&Message) -> bool,
) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        let message = next(stream).await.unwrap();
        let last = is_last(&message);
        messages.push(message);
        if last {
            return messages;
        }
    }
}

fn events(messages: &[Message]) -> Vec<&pb::RecordedEvent> {
    let batches = messages.iter().filter_map(|it| match it {
        Message::Events(batch) => Some(&batch.events),
        _ => None,
    });
    batches.flatten().collect()
}

fn positions(messages: &[Message]) -> Vec<u64> {
    events(messages).iter().map(|it| it.position).collect()
}

fn has(position: u64) -> impl Fn(&Message) -> bool {
    move |message| positions(std::slice::from_ref(message)).contains(&position)
}

/// A store with ten events.
async fn ten() -> (Server, Client) {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let batch: Vec<_> = (1..=10).map(|n| purchase_text(&format!("e{n}"), "a@b.c")).collect();
    client.append("web", &batch).await.unwrap();
    (server, client)
}

#[tokio::test]
async fn a_follow_begins_where_it_is_told() {
    let (_server, client) = ten().await;
    let all = client.read_all().await;
    let (record, event) = (all[0].record_time.unwrap(), all[0].event_time.unwrap());
    let later = |it: Timestamp| Timestamp { seconds: it.seconds + 3600, ..it };
    let rows = [
        (beginning(), 0),
        (From::AfterPosition(0), 0),
        (From::AfterPosition(7), 7),
        (From::AfterPosition(10), 10),
        (From::End(pb::start::End {}), 10),
        (From::RecordTime(record), 0),
        (From::RecordTime(later(record)), 10),
        (From::EventTime(event), 0),
        (From::EventTime(later(event)), 10),
    ];
    for (start, after) in rows {
        let mut stream = client.follow(from(start.clone())).await.unwrap();
        let Message::Started(started) = next(&mut stream).await.unwrap() else {
            panic!("{start:?}: the first message is not Started");
        };
        assert_eq!(started.position, after, "{start:?}");
        let messages = until(&mut stream, |it| matches!(it, Message::CaughtUp(_))).await;
        assert_eq!(positions(&messages), (after + 1..=10).collect::<Vec<_>>(), "{start:?}");
    }
    let mut stream = client.follow(pb::FollowEventsRequest::default()).await.unwrap();
    let Message::Started(started) = next(&mut stream).await.unwrap() else { panic!("not Started") };
    assert_eq!(started.position, 10, "the default is the end");
}

#[tokio::test]
async fn an_event_stored_after_the_start_arrives_live() {
    let (_server, client) = ten().await;
    let mut stream = client.follow(from(From::End(pb::start::End {}))).await.unwrap();
    until(&mut stream, |it| matches!(it, Message::CaughtUp(_))).await;
    for n in 11..=20 {
        let event = purchase_text(&format!("e{n}"), "a@b.c");
        client.append("web", &[event]).await.unwrap();
        let messages = until(&mut stream, has(n)).await;
        assert_eq!(positions(&messages), [n]);
    }
}

#[tokio::test]
async fn every_token_continues_right_after_what_carried_it() {
    let (_server, client) = ten().await;
    let mut stream = client.follow(from(beginning())).await.unwrap();
    let messages = until(&mut stream, |it| matches!(it, Message::CaughtUp(_))).await;
    let mut tried = 0;
    for (index, message) in messages.iter().enumerate() {
        let token = match message {
            Message::Started(it) => &it.resume_token,
            Message::Events(it) => &it.resume_token,
            Message::Checkpoint(it) => &it.resume_token,
            _ => continue,
        };
        let mut again = client.follow(from(From::ResumeToken(token.clone()))).await.unwrap();
        let rest = until(&mut again, |it| matches!(it, Message::CaughtUp(_))).await;
        assert_eq!(positions(&rest), positions(&messages[index + 1..]), "after {message:?}");
        tried += 1;
    }
    assert!(tried >= 2, "{messages:?}");
}

#[tokio::test]
async fn a_start_that_cannot_be_is_refused() {
    let (server, client) = ten().await;
    let (_other_server, other) = ten().await;
    let foreign = {
        let mut stream = other.follow(from(beginning())).await.unwrap();
        match next(&mut stream).await.unwrap() {
            Message::Started(it) => it.resume_token,
            it => panic!("{it:?}"),
        }
    };
    let heartbeat = |seconds| pb::FollowEventsRequest {
        heartbeat_interval: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    };
    let filtered = |filter| pb::FollowEventsRequest { filter: Some(filter), ..Default::default() };
    let rows = [
        (from(From::AfterPosition(11)), "POSITION_OUT_OF_RANGE"),
        (from(From::AfterPosition(u64::MAX)), "POSITION_OUT_OF_RANGE"),
        (from(From::ResumeToken(b"nonsense".to_vec())), "RESUME_TOKEN_INVALID"),
        (from(From::ResumeToken(vec![])), "RESUME_TOKEN_INVALID"),
        (from(From::ResumeToken(foreign)), "LOG_EPOCH_CHANGED"),
        (heartbeat(61), "ARGUMENT_OUT_OF_BOUNDS"),
        (heartbeat(-1), "ARGUMENT_OUT_OF_BOUNDS"),
        (filtered(by_dataset("nothing")), "DATASET_NOT_FOUND"),
        (filtered(by_type("*")), "FILTER_INVALID"),
    ];
    for (request, reason) in rows {
        let status = match client.follow(request.clone()).await {
            Err(status) => status,
            Ok(mut stream) => loop {
                match next(&mut stream).await {
                    Ok(Message::Ending(_)) => (),
                    Ok(it) => panic!("{request:?} was taken: {it:?}"),
                    Err(status) => break status,
                }
            },
        };
        assert_eq!(seen(&status).reason, reason, "{request:?}");
    }
    assert_eq!(server.client().await.last_position().await, 10);
}

#[tokio::test]
async fn a_silent_follow_beats() {
    let (_server, client) = ten().await;
    let request = pb::FollowEventsRequest {
        filter: Some(by_identity("Email", "nobody")),
        heartbeat_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..from(beginning())
    };
    let mut stream = client.follow(request).await.unwrap();
    let messages = until(&mut stream, |it| matches!(it, Message::Heartbeat(_))).await;
    assert_eq!(positions(&messages), [0; 0]);
    let Some(Message::Heartbeat(beat)) = messages.last() else { panic!("{messages:?}") };
    assert_eq!((beat.position, beat.lag), (10, 0));
    let scanned =
        messages.iter().any(|it| matches!(it, Message::Checkpoint(it) if it.position == 10));
    assert!(scanned, "a follow that matches nothing still tells how far it is: {messages:?}");
}

/// Eight connections append while four follows watch: each sees its own events once, in order.
#[tokio::test]
async fn follows_beside_appends_miss_nothing_and_repeat_nothing() {
    const WRITERS: u64 = 8;
    const BATCHES: u64 = 25;
    const BATCH: u64 = 4;
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("shop", PURCHASE).await.unwrap();
    let filters = [
        pb::EventFilter::default(),
        by_dataset("shop"),
        by_type("commerce.*"),
        by_identity("Email", "p3@x.y"),
    ];
    // The last event of the log ends every follow: it matches all filters.
    let mut follows = tokio::task::JoinSet::new();
    for (index, filter) in filters.into_iter().enumerate() {
        let client = server.client().await;
        follows.spawn(async move {
            let request = pb::FollowEventsRequest { filter: Some(filter), ..from(beginning()) };
            let mut stream = client.follow(request).await.unwrap();
            let last = WRITERS * BATCHES * BATCH + 1;
            (index, until(&mut stream, has(last)).await)
        });
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.client().await;
        writers.spawn(async move {
            let dataset = if writer.is_multiple_of(2) { "web" } else { "shop" };
            for batch in 0..BATCHES {
                let events: Vec<_> = (0..BATCH)
                    .map(|n| {
                        let id = format!("w{writer}-{batch}-{n}");
                        if n % 2 == 0 {
                            purchase_text(&id, &format!("p{writer}@x.y"))
                        } else {
                            typed(&id, "web.visit")
                        }
                    })
                    .collect();
                client.append(dataset, &events).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    client.append("shop", &[purchase_text("last", "p3@x.y")]).await.unwrap();

    let all = client.read_all().await;
    assert_eq!(
        all.iter().map(|it| it.position).collect::<Vec<_>>(),
        (1..=WRITERS * BATCHES * BATCH + 1).collect::<Vec<_>>()
    );
    for (index, messages) in follows.join_all().await {
        let wanted = all.iter().filter(|it| match index {
            0 => true,
            1 => it.dataset == "shop",
            2 => it.event_type == "commerce.purchases",
            _ => it.identities.iter().any(|it| it.id == "p3@x.y"),
        });
        assert_eq!(events(&messages), wanted.collect::<Vec<_>>(), "follow {index}");
    }
}

#[tokio::test]
async fn a_follow_ends_when_its_dataset_goes() {
    let (_server, client) = ten().await;
    let request = pb::FollowEventsRequest { filter: Some(by_dataset("web")), ..from(beginning()) };
    let mut stream = client.follow(request).await.unwrap();
    until(&mut stream, |it| matches!(it, Message::CaughtUp(_))).await;
    let delete = pb::DeleteDatasetRequest { name: "web".into(), ..Default::default() };
    expect(client.datasets.clone().delete_dataset(delete.clone()).await, "DATASET_NOT_EMPTY", &[]);
    let delete = pb::DeleteDatasetRequest { force: true, ..delete };
    client.datasets.clone().delete_dataset(delete).await.unwrap();
    // Anything that moves the log.
    client.create("other", PURCHASE).await.unwrap();
    client.append("other", &[typed("o1", "a.b")]).await.unwrap();
    let messages = until(&mut stream, |it| matches!(it, Message::Ending(_))).await;
    let Some(Message::Ending(ending)) = messages.last() else { panic!("{messages:?}") };
    assert_eq!(ending.reason(), pb::ending::Reason::FilterInvalid);
    let status = next(&mut stream).await.expect_err("a status follows Ending");
    assert_eq!(seen(&status).reason, "DATASET_NOT_FOUND");
}
