//! Ending in order, and one owner per data directory.

use std::{process::Stdio, time::Duration};

use milepost::grpc::pb::{self, follow_events_response::Message, start::Start as From};

use crate::support::{
    Server,
    errors::{expect, seen},
    events::{purchase_text, purchases},
    server::serve_command,
};

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_terminated_server_tells_its_followers_refuses_new_calls_and_ends_well() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.append("web", &[purchase_text("e1", "a@b.c")]).await.unwrap();
    let start = Some(pb::Start { start: Some(From::Beginning(pb::start::Beginning {})) });
    let request = pb::FollowEventsRequest { start, ..Default::default() };
    let mut stream = client.follow(request).await.unwrap();
    while !matches!(stream.message().await.unwrap().unwrap().message, Some(Message::CaughtUp(_))) {}

    server.terminate();
    let ending = loop {
        let message = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap();
        if let Some(Message::Ending(ending)) = message.unwrap().message {
            break ending;
        }
    };
    assert_eq!(ending.reason(), pb::ending::Reason::Shutdown);
    let status = stream.message().await.expect_err("a status follows Ending");
    assert_eq!(seen(&status).reason, "SERVER_CLOSING");
    // The connection may be gone already; what must not happen is that the event is taken.
    let refused = client.append("web", &[purchase_text("e2", "a@b.c")]).await;
    check_refused(&refused.expect_err("appended while closing"));
    let (status, dir) = server.wait().await;
    assert!(status.success(), "{status}");

    // The token of `Ending` continues.
    let server = Server::start_on(dir);
    let client = server.client().await;
    client.append("web", &[purchase_text("e2", "a@b.c")]).await.unwrap();
    let start = Some(pb::Start { start: Some(From::ResumeToken(ending.resume_token)) });
    let request = pb::FollowEventsRequest { start, ..Default::default() };
    let mut stream = client.follow(request).await.unwrap();
    let batch = loop {
        let message = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap();
        if let Some(Message::Events(batch)) = message.unwrap().message {
            break batch;
        }
    };
    assert_eq!(batch.events[0].position, 2);
}

/// The server says that it is unavailable. A request that the client's transport has not sent when the connection
/// goes is given up by the transport itself, in its own words.
#[track_caller]
fn check_refused(status: &tonic::Status) {
    let never_sent = (tonic::Code::Cancelled, "operation was canceled");
    let told = (status.code(), status.message());
    assert!(told.0 == tonic::Code::Unavailable || told == never_sent, "{status:?}");
}

#[tokio::test]
async fn appends_in_flight_at_the_end_are_answered_or_absent() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let client = server.client().await;
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                let id = format!("w{writer}-{n}");
                match client.append("web", &[purchase_text(&id, "a@b.c")]).await {
                    Ok(answer) => acknowledged.push((answer.results[0].position, id)),
                    Err(status) => {
                        check_refused(&status);
                        break;
                    }
                }
            }
            acknowledged
        });
    }
    while client.last_position().await < 100 {
        tokio::task::yield_now().await;
    }
    server.terminate();
    let acknowledged = writers.join_all().await.concat();
    let (status, dir) = server.wait().await;
    assert!(status.success(), "{status}");
    let server = Server::start_on(dir);
    let all = server.client().await.read_all().await;
    for (position, id) in acknowledged {
        assert_eq!(all[usize::try_from(position).unwrap() - 1].event_id, id);
    }
    assert!(all.iter().zip(1u64..).all(|(event, position)| event.position == position));
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused_with_a_reason() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut command = serve_command(&server.dir().data(), "127.0.0.1:0");
    let second = command.stdin(Stdio::null()).output().unwrap();
    assert!(!second.status.success(), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr).to_lowercase();
    assert!(said.contains("use") || said.contains("lock"), "it does not say why: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(String::from_utf8_lossy(&second.stdout), "");
    client.append("web", &[purchase_text("e1", "a@b.c")]).await.unwrap();
}

#[tokio::test]
async fn health_says_serving_and_reflection_lists_the_services() {
    let server = Server::start();
    let client = server.client().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(client.channel.clone());
    for service in ["", "milepost.v1.EventService", "milepost.v1.SchemaService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.unwrap().into_inner();
        let serving = tonic_health::pb::health_check_response::ServingStatus::Serving;
        assert_eq!(answer.status(), serving, "`{service}`");
    }
    let request = tonic_health::pb::HealthCheckRequest { service: "none".into() };
    let status = health.check(request).await.expect_err("health of an unknown service");
    assert_eq!(status.code(), tonic::Code::NotFound);
    let info = client.admin.clone().get_server_info(pb::GetServerInfoRequest {}).await.unwrap();
    assert_eq!(info.into_inner().version, env!("CARGO_PKG_VERSION"));
    expect(client.dataset("none").await, "DATASET_NOT_FOUND", &["none"]);
}
