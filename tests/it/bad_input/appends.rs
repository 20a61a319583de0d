//! Appends that cannot be.

use milepost::grpc::pb;

use crate::support::{
    Server,
    client::request,
    errors::{self},
    events::{purchase_text, purchases, typed},
};

#[tokio::test]
async fn an_append_that_cannot_be_is_refused_whole() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let good = || request("web", &[purchase_text("e", "a@b.c")]);
    let many: Vec<_> = (0..10_001).map(|n| typed(&format!("m{n}"), "a.b")).collect();
    let rows = [
        (request("none", &[purchase_text("e", "a@b.c")]), "DATASET_NOT_FOUND", "none"),
        (request("", &[purchase_text("e", "a@b.c")]), "ARGUMENT_INVALID", "dataset"),
        (request("No Name", &[purchase_text("e", "a@b.c")]), "ARGUMENT_INVALID", "dataset"),
        (request::<&str>("web", &[]), "BATCH_TOO_LARGE", ""),
        (request("web", &many), "BATCH_TOO_LARGE", "10001"),
        (pb::AppendEventsRequest { mode: 99, ..good() }, "ARGUMENT_INVALID", "mode"),
        (pb::AppendEventsRequest { durability: 99, ..good() }, "ARGUMENT_INVALID", "durability"),
        (pb::AppendEventsRequest { durability: 2, ..good() }, "NOT_IMPLEMENTED", "buffered"),
        (
            pb::AppendEventsRequest { events: vec![pb::Event { payload: None }], ..good() },
            "EVENT_INVALID",
            "events[0].payload",
        ),
    ];
    let mut wrong = Vec::new();
    for (append, reason, word) in rows {
        let shown = format!("{append:?}").chars().take(200).collect::<String>();
        wrong.extend(errors::mismatch(
            &shown,
            client.append_request(append).await,
            reason,
            "",
            &[word],
        ));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(client.last_position().await, 0);
    client.append("web", &many[..10_000]).await.unwrap();
    assert_eq!(client.last_position().await, 10_000);
}
