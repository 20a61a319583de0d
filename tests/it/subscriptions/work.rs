//! Outcomes and events in one write.

use milepost::grpc::pb::{self, outcome::Outcome as Said};
use tonic::{Code, Status};

use super::{Consumer, bought, create, expect, nack, named, open, outcome, status};
use crate::support::{
    Client, Server,
    client::{expected_last, request},
    events::purchase_text,
};

async fn commit(
    client: &Client,
    outcomes: Vec<pb::Outcome>,
    appends: Vec<pb::AppendEventsRequest>,
) -> Result<pb::CommitWorkResponse, Status> {
    let request = pb::CommitWorkRequest { subscription: "journey".into(), outcomes, appends };
    Ok(client.subscriptions.clone().commit_work(request).await?.into_inner())
}

fn ack(delivered: &pb::Delivered) -> pb::Outcome {
    outcome(delivered, Said::Ack(pb::outcome::Ack {}))
}

#[tokio::test]
async fn an_outcome_and_its_events_are_stored_together_or_not_at_all() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann"]).await;
    let filter = crate::support::client::by_identity("Email", "ann");
    create(&client, pb::Subscription { filter: Some(filter), ..named("journey") }).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(1).await;
    let message = request("store", &[purchase_text("message-1", "bob")]);

    // A condition that does not hold keeps the outcome back.
    let mut late = message.clone();
    late.conditions = vec![expected_last("Email", "ann", 0)];
    let refused = commit(&client, vec![ack(&first[0])], vec![late]).await.unwrap_err();
    expect(&refused, Code::Aborted, "CONDITION_FAILED");
    assert_eq!((status(&client, "journey").await.in_flight, client.last_position().await), (1, 1));

    let done = commit(&client, vec![ack(&first[0])], vec![message.clone()]).await.unwrap();
    assert_eq!(done.appends[0].results[0].position, 2);
    assert_eq!(status(&client, "journey").await.floor_position, 2);
    // The same again, after a lost answer.
    let again = commit(&client, vec![ack(&first[0])], vec![message]).await.unwrap();
    let outcome = again.appends[0].results[0].outcome();
    assert_eq!(outcome, pb::append_result::Outcome::Duplicate);

    // An outcome that is stale keeps the events back.
    let other = request("store", &[purchase_text("message-2", "bob")]);
    let refused = commit(&client, vec![ack(&first[0])], vec![other]).await.unwrap_err();
    expect(&refused, Code::FailedPrecondition, "LEASE_STALE");
    assert_eq!(client.last_position().await, 2);
}

#[tokio::test]
async fn outcomes_alone_are_applied_all_or_none() {
    let server = Server::start();
    let client = server.client().await;
    bought(&client, &["ann", "bob"]).await;
    create(&client, named("journey")).await.unwrap();
    let mut consumer = Consumer::open(&client, open("journey", "one")).await.unwrap();
    let first = consumer.events(2).await;
    consumer.say(&first[..1], nack(900)).await;
    let both = vec![ack(&first[1]), ack(&first[0])];
    let refused = commit(&client, both, Vec::new()).await.unwrap_err();
    let info = expect(&refused, Code::FailedPrecondition, "LEASE_STALE");
    assert_eq!((info["outcome"].as_str(), info["position"].as_str()), ("1", "1"));
    assert_eq!(status(&client, "journey").await.in_flight, 1);
    commit(&client, vec![ack(&first[1])], Vec::new()).await.unwrap();
    assert_eq!(status(&client, "journey").await.in_flight, 0);
    let bad = pb::Outcome { ack_id: vec![1, 2, 3], ..ack(&first[1]) };
    let refused = commit(&client, vec![bad], Vec::new()).await.unwrap_err();
    expect(&refused, Code::InvalidArgument, "ARGUMENT_INVALID");
}
