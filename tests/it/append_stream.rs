//! Streams of appends: carried out in the order in which they are sent, answered in that order.

use std::{collections::BTreeSet, time::Duration};

use milepost::grpc::pb::{
    self, append_event_stream_response::Message, append_stream_result::Outcome,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::support::{
    Client, Server,
    client::{expected_last, request},
    errors::{expect, seen},
    events::{PURCHASE, Random, purchase_schema, purchase_text, purchases, typed},
    raw,
};

const PATH: &str = "/milepost.v1.EventService/AppendEventStream";

/// A stream's two ends.
struct AppendStream {
    requests: mpsc::Sender<pb::AppendEventStreamRequest>,
    responses: Streaming<pb::AppendEventStreamResponse>,
    credit: u64,
}

impl AppendStream {
    async fn open(client: &Client) -> Self {
        let (requests, from) = mpsc::channel(1024);
        let call = client.events.clone().append_event_stream(ReceiverStream::new(from)).await;
        let mut responses = call.unwrap().into_inner();
        let Some(Message::Started(started)) = responses.message().await.unwrap().unwrap().message
        else {
            panic!("a stream begins with `started`")
        };
        Self { requests, responses, credit: started.credit_bytes }
    }

    /// Sends a request; its bytes.
    async fn send(&self, id: impl ToString, append: pb::AppendEventsRequest) -> u64 {
        let (correlation_id, append) = (id.to_string(), Some(append));
        let request = pb::AppendEventStreamRequest { correlation_id, append, stop_on_error: false };
        let bytes = request.encoded_len() as u64;
        self.requests.send(request).await.unwrap();
        bytes
    }

    async fn next(&mut self) -> Result<Option<Message>, Status> {
        Ok(self.responses.message().await?.map(|it| it.message.unwrap()))
    }

    /// The next answer, which must be to the request with this id.
    async fn answer(&mut self, id: impl ToString) -> Outcome {
        let Some(Message::Result(result)) = self.next().await.unwrap() else {
            panic!("no answer to {}", id.to_string())
        };
        assert_eq!(result.correlation_id, id.to_string());
        self.credit += result.credit_bytes;
        result.outcome.unwrap()
    }

    /// Positions of the next answer's events, all of which must be new.
    async fn appended(&mut self, id: impl ToString) -> Vec<u64> {
        positions(&self.answer(id).await)
    }
}

#[track_caller]
fn positions(outcome: &Outcome) -> Vec<u64> {
    let Outcome::Response(response) = outcome else { panic!("{outcome:?}") };
    assert_eq!(response.durability(), pb::Durability::Sync);
    let results = response.results.iter().inspect(|it| {
        assert_eq!(it.outcome(), pb::append_result::Outcome::Appended, "{it:?}");
        assert!(it.position <= response.durable_position);
    });
    results.map(|it| it.position).collect()
}

/// The error of a request, as a status of the same call alone would be.
#[track_caller]
fn error(outcome: Outcome) -> Result<(), Status> {
    let Outcome::Error(error) = outcome else { panic!("{outcome:?}") };
    let details = error.encode_to_vec();
    Err(Status::with_details(Code::from(error.code), error.message, details.into()))
}

#[tokio::test]
async fn requests_are_carried_out_in_the_order_in_which_they_are_sent() {
    const REQUESTS: u64 = 500;
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("shop", PURCHASE).await.unwrap();
    let mut stream = AppendStream::open(&client).await;
    let (begun, mut bytes) = (stream.credit, 0);
    assert!(begun >= 1024 * 1024);
    // Each is stored only right after the one before it; they are sent without waiting.
    let mut expected = 0;
    let mut sizes = Vec::new();
    for n in 0..REQUESTS {
        let size = n % 7 + 1;
        // Large ones are judged elsewhere, and take longer.
        let note = "x".repeat(if n % 11 == 0 { 40_000 } else { 10 });
        let event = |at| {
            let text = purchase_text(&format!("e{n}-{at}"), "a@b.c");
            text.replacen('{', &format!("{{\"note\": \"{note}\", "), 1)
        };
        let batch: Vec<_> = (0..size).map(event).collect();
        let dataset = if n % 2 == 0 { "web" } else { "shop" };
        let mut append = request(dataset, &batch);
        append.conditions = vec![expected_last("Email", "a@b.c", expected)];
        bytes += stream.send(n, append).await;
        expected += size;
        sizes.push(size);
    }
    drop(std::mem::replace(&mut stream.requests, mpsc::channel(1).0));
    let mut last = 0;
    for (n, size) in sizes.into_iter().enumerate() {
        let wanted: Vec<_> = (last + 1..=last + size).collect();
        assert_eq!(stream.appended(n).await, wanted);
        last += size;
    }
    assert!(stream.next().await.unwrap().is_none(), "a stream that was ended well ends well");
    assert_eq!(stream.credit, begun + bytes, "credit comes back");
    assert_eq!(client.last_position().await, expected);
}

/// While schema versions come and go, batches are judged again; their order stays.
#[tokio::test]
async fn a_schema_that_changes_does_not_change_the_order() {
    const REQUESTS: usize = 2_000;
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let registering = tokio::spawn({
        let client = client.clone();
        async move {
            for n in 0..40 {
                let mut document = purchase_schema();
                document["description"] = format!("version {n}").into();
                client.register(document.to_string()).await.unwrap();
            }
        }
    });
    let mut stream = AppendStream::open(&client).await;
    let requests = stream.requests.clone();
    let sending = tokio::spawn(async move {
        for n in 0..REQUESTS {
            let append = Some(request("web", &[purchase_text(&format!("e{n}"), "a@b.c")]));
            let correlation_id = n.to_string();
            let request =
                pb::AppendEventStreamRequest { correlation_id, append, ..Default::default() };
            requests.send(request).await.unwrap();
        }
    });
    for n in 0..REQUESTS {
        assert_eq!(stream.appended(n).await, [n as u64 + 1]);
    }
    sending.await.unwrap();
    registering.await.unwrap();
    let versions: BTreeSet<_> =
        client.read_all().await.into_iter().map(|it| it.schema_version).collect();
    assert!(versions.len() > 1, "the schema did not change under way: {versions:?}");
}

#[tokio::test]
async fn a_failed_request_does_not_end_the_stream() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut stream = AppendStream::open(&client).await;
    let good = |id: &str| request("web", &[purchase_text(id, "a@b.c")]);
    stream.send("1", good("e1")).await;
    stream.send("invalid", request("web", &[typed("x", "web.y"), "{}".to_owned()])).await;
    stream.send("no dataset", request("nowhere", &[purchase_text("e9", "a@b.c")])).await;
    stream.send("again", good("e1")).await;
    let mut conditional = good("e2");
    conditional.conditions = vec![expected_last("Email", "a@b.c", 7)];
    stream.send("condition", conditional).await;
    let mut each = request("web", &["{}".to_owned(), purchase_text("e3", "a@b.c")]);
    each.set_mode(pb::AppendMode::PerEvent);
    stream.send("each", each).await;
    stream.send("c".repeat(129), good("e4")).await;
    let mut empty = good("e5");
    empty.events.clear();
    stream.send("empty", empty).await;
    let mut checked = good("e5");
    checked.validate_only = true;
    stream.send("checked", checked).await;
    let nothing = pb::AppendEventStreamRequest::default();
    stream.requests.send(nothing).await.unwrap();
    stream.send("last", good("e6")).await;

    assert_eq!(stream.appended("1").await, [1]);
    expect(
        error(stream.answer("invalid").await),
        "EVENT_INVALID",
        &["events[1].payload", "events[1].payload"],
    );
    expect(error(stream.answer("no dataset").await), "DATASET_NOT_FOUND", &[]);
    let Outcome::Response(again) = stream.answer("again").await else { panic!("refused") };
    assert_eq!(again.results[0].outcome(), pb::append_result::Outcome::Duplicate);
    let refused = error(stream.answer("condition").await).unwrap_err();
    assert_eq!(seen(&refused).reason, "CONDITION_FAILED");
    let Outcome::Response(each) = stream.answer("each").await else { panic!("refused") };
    assert_eq!(each.results[0].outcome(), pb::append_result::Outcome::Rejected);
    assert_eq!(each.results[1].position, 2);
    let long = error(stream.answer("c".repeat(129)).await);
    expect(long, "ARGUMENT_OUT_OF_BOUNDS", &["correlation_id"]);
    expect(error(stream.answer("empty").await), "BATCH_TOO_LARGE", &["events"]);
    assert_eq!(stream.appended("checked").await, [0]);
    expect(error(stream.answer("").await), "ARGUMENT_INVALID", &["append"]);
    assert_eq!(stream.appended("last").await, [3]);
    assert_eq!(client.last_position().await, 3);
}

#[tokio::test]
async fn a_request_that_asks_for_it_ends_the_stream_when_it_fails() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut random = Random::seeded("stop on error", 7);
    for round in 0..20 {
        let last = client.last_position().await;
        let mut stream = AppendStream::open(&client).await;
        let failing = random.below(30);
        for n in 0..40_u64 {
            let id = format!("r{round}-{n}");
            let mut append = request("web", &[purchase_text(&id, "a@b.c")]);
            if n == failing && round % 2 == 0 {
                append.events[0] = request("web", &["{}".to_owned()]).events.remove(0);
            } else if n == failing {
                append.conditions = vec![expected_last("Email", "a@b.c", 1_000_000)];
            }
            let correlation_id = n.to_string();
            let request = pb::AppendEventStreamRequest {
                correlation_id,
                append: Some(append),
                stop_on_error: n == failing,
            };
            stream.requests.send(request).await.unwrap();
        }
        for n in 0..failing {
            assert_eq!(stream.appended(n).await, [last + n + 1]);
        }
        let failed = error(stream.answer(failing).await).unwrap_err();
        let Some(Message::Ending(ending)) = stream.next().await.unwrap() else {
            panic!("the stream goes on")
        };
        assert_eq!(ending.reason(), pb::ending::Reason::RequestFailed);
        let status = stream.next().await.unwrap_err();
        assert_eq!(seen(&status), seen(&failed));
        assert_eq!(client.last_position().await, last + failing, "something was stored after it");
    }
}

/// More than all credit and the queue's room, from many streams, with answers that nobody takes for a
/// while: all is stored in the end, each stream in its order.
#[tokio::test]
async fn a_stream_waits_where_a_call_would_be_refused() {
    const STREAMS: usize = 6;
    const REQUESTS: usize = 30;
    let server = Server::start_with(&["--queue-bytes", "16MiB"]);
    let client = server.client().await;
    purchases(&client, "web").await;
    let note = "x".repeat(700 * 1024);
    let mut streams = Vec::new();
    for s in 0..STREAMS {
        let stream = AppendStream::open(&server.client().await).await;
        for n in 0..REQUESTS {
            let text = purchase_text(&format!("s{s}-{n}"), &format!("p{s}@b.c"));
            let text = text.replacen('{', &format!("{{\"note\": \"{note}\", "), 1);
            stream.send(n, request("web", &[text])).await;
        }
        streams.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for mut stream in streams {
        let mut last = 0;
        for n in 0..REQUESTS {
            let positions = stream.appended(n).await;
            assert!(positions[0] > last);
            last = positions[0];
        }
    }
    assert_eq!(client.last_position().await, (STREAMS * REQUESTS) as u64);
}

#[tokio::test]
async fn a_server_that_ends_answers_what_it_has_taken_and_says_so() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut stream = AppendStream::open(&client).await;
    let requests = stream.requests.clone();
    let sending = tokio::spawn(async move {
        let mut n = 0_u64;
        loop {
            let append = Some(request("web", &[purchase_text(&format!("e{n}"), "a@b.c")]));
            let correlation_id = n.to_string();
            let request =
                pb::AppendEventStreamRequest { correlation_id, append, ..Default::default() };
            if requests.send(request).await.is_err() {
                return;
            }
            n += 1;
        }
    });
    for n in 0..50 {
        assert_eq!(stream.appended(n).await, [n + 1]);
    }
    let stopping = tokio::spawn(server.stop());
    let mut answered = 50;
    let ending = loop {
        match stream.next().await.unwrap().unwrap() {
            Message::Result(result) => {
                answered += u64::from(matches!(result.outcome, Some(Outcome::Response(_))));
            }
            Message::Ending(ending) => break ending,
            Message::Started(_) => panic!("started twice"),
        }
    };
    assert_eq!(ending.reason(), pb::ending::Reason::Shutdown);
    // Who goes on sending may lose the status with the connection.
    sending.abort();
    drop(std::mem::replace(&mut stream.requests, mpsc::channel(1).0));
    expect(stream.next().await.map(drop), "SERVER_CLOSING", &[]);
    drop(stream);
    let server = Server::start_on(stopping.await.unwrap());
    assert_eq!(server.client().await.last_position().await, answered);
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_stream_with_a_reason() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut stream = AppendStream::open(&client).await;
    stream.send("1", request("web", &[purchase_text("e1", "a@b.c")])).await;
    let note = "x".repeat(900 * 1024);
    let large = |n: usize| purchase_text(&format!("l{n}"), &note);
    stream.send("2", request("web", &(0..20).map(large).collect::<Vec<_>>())).await;
    assert_eq!(stream.appended("1").await, [1]);
    let Some(Message::Ending(ending)) = stream.next().await.unwrap() else {
        panic!("the stream goes on")
    };
    assert_eq!(ending.reason(), pb::ending::Reason::Error);
    expect(stream.next().await.map(drop), "REQUEST_TOO_LARGE", &[]);
    assert_eq!(client.last_position().await, 1);
}

#[tokio::test]
async fn a_message_that_is_none_ends_the_stream_with_a_reason() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let good = pb::AppendEventStreamRequest {
        correlation_id: "1".into(),
        append: Some(request("web", &[purchase_text("e1", "a@b.c")])),
        stop_on_error: false,
    };
    let messages = [good.encode_to_vec(), vec![0xff; 9]].map(bytes::Bytes::from);
    let mut responses = raw::stream(&client.channel, PATH, messages.into()).await.unwrap();
    let mut seen_messages = Vec::new();
    let status = loop {
        match responses.message().await {
            Ok(Some(bytes)) => {
                let response = pb::AppendEventStreamResponse::decode(bytes).unwrap();
                seen_messages.push(response.message.unwrap());
            }
            Ok(None) => panic!("ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(seen(&status).reason, "REQUEST_MALFORMED");
    let [Message::Started(_), Message::Result(result), Message::Ending(ending)] = &*seen_messages
    else {
        panic!("{seen_messages:?}")
    };
    assert_eq!(positions(result.outcome.as_ref().unwrap()), [1]);
    assert_eq!(ending.reason(), pb::ending::Reason::Error);
}
