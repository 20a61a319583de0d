//! Pages and filters that cannot be.

use milepost::grpc::pb;

use super::serves;
use crate::support::{
    Server,
    client::{by_identity, by_type, reading},
    errors::{self, expect},
    events::{PURCHASE, purchases},
};

#[tokio::test]
async fn absurd_pages_and_tokens_are_refused() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    for n in 0..3 {
        client.create(&format!("d{n}"), PURCHASE).await.unwrap();
    }
    let datasets = async |page_size, page_token: &str| {
        let request = pb::ListDatasetsRequest { page_size, page_token: page_token.into() };
        client.datasets.clone().list_datasets(request).await.map(tonic::Response::into_inner)
    };
    let schemas = async |page_size, page_token: &str, exclude_built_in| {
        let request = pb::ListSchemasRequest {
            page_size,
            page_token: page_token.into(),
            exclude_built_in,
            ..Default::default()
        };
        client.schemas.clone().list_schemas(request).await.map(tonic::Response::into_inner)
    };
    let namespaces = async |page_size, page_token: &str| {
        let request = pb::ListNamespacesRequest { page_size, page_token: page_token.into() };
        client.identities.clone().list_namespaces(request).await.map(tonic::Response::into_inner)
    };
    for page_size in [-1, i32::MIN, 1001, i32::MAX] {
        let words = [&*page_size.to_string(), "1000"];
        expect(datasets(page_size, "").await, "ARGUMENT_OUT_OF_BOUNDS", &words);
        expect(schemas(page_size, "", false).await, "ARGUMENT_OUT_OF_BOUNDS", &words);
        expect(namespaces(page_size, "").await, "ARGUMENT_OUT_OF_BOUNDS", &words);
    }
    let token = datasets(1, "").await.unwrap().next_page_token;
    let of_schemas = schemas(1, "", false).await.unwrap().next_page_token;
    assert!(!token.is_empty() && !of_schemas.is_empty());
    let long = "A".repeat(100_000);
    for wrong in ["nonsense", "AAAA", "é", &long, &format!("{token}A"), &token[1..]] {
        expect(datasets(1, wrong).await, "PAGE_TOKEN_INVALID", &[]);
        expect(schemas(1, wrong, false).await, "PAGE_TOKEN_INVALID", &[]);
        expect(namespaces(1, wrong).await, "PAGE_TOKEN_INVALID", &[]);
    }
    expect(schemas(1, &token, false).await, "PAGE_TOKEN_INVALID", &[]);
    expect(namespaces(1, &token).await, "PAGE_TOKEN_INVALID", &[]);
    expect(datasets(1, &of_schemas).await, "PAGE_TOKEN_INVALID", &[]);
    expect(schemas(1, &of_schemas, true).await, "PAGE_TOKEN_INVALID", &[]);
    datasets(2, &token).await.unwrap();
    serves(&server, &client, "after").await;
}

#[tokio::test]
async fn a_filter_that_cannot_be_is_refused_by_read_count_and_follow_alike() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let types = |it: &[&str]| pb::EventFilter {
        event_types: it.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let at = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let range = |start, end| pb::EventFilter {
        event_time: Some(pb::TimeRange { start, end }),
        ..Default::default()
    };
    let versions = |id: &str, from_version, to_version| {
        let versions = pb::SchemaVersions { schema_id: id.into(), from_version, to_version };
        pb::EventFilter { schema_versions: vec![versions], ..Default::default() }
    };
    let many = pb::EventFilter {
        event_types: (0..1001).map(|n| format!("t{n}")).collect(),
        ..Default::default()
    };
    let rows = [
        (types(&["*"]), "FILTER_INVALID"),
        (types(&[""]), "FILTER_INVALID"),
        (types(&[".*"]), "FILTER_INVALID"),
        (types(&["a*"]), "FILTER_INVALID"),
        (types(&[&"x".repeat(300)]), "FILTER_INVALID"),
        (by_identity("", "x"), "FILTER_INVALID"),
        (by_identity("", ""), "FILTER_INVALID"),
        (by_identity("Email", &"x".repeat(1025)), "FILTER_INVALID"),
        (range(at(10, 0), at(9, 0)), "FILTER_INVALID"),
        (range(at(0, -1), None), "FILTER_INVALID"),
        (range(at(i64::MAX, 0), None), "FILTER_INVALID"),
        (many, "ARGUMENT_OUT_OF_BOUNDS"),
        (
            pb::EventFilter { datasets: vec!["none".into()], ..Default::default() },
            "DATASET_NOT_FOUND",
        ),
        (
            pb::EventFilter { datasets: vec!["No Name".into()], ..Default::default() },
            "FILTER_INVALID",
        ),
        (pb::EventFilter { r#where: "a ==".into(), ..Default::default() }, "FILTER_INVALID"),
        (pb::EventFilter { r#where: "1 + 1".into(), ..Default::default() }, "FILTER_INVALID"),
        (versions(PURCHASE, 3, 2), "FILTER_INVALID"),
        (versions("", 1, 2), "FILTER_INVALID"),
        (versions("https://example.com/none", 1, 2), "SCHEMA_NOT_FOUND"),
        (
            pb::EventFilter { event_definitions: vec!["d".into()], ..Default::default() },
            "EVENT_DEFINITION_NOT_FOUND",
        ),
    ];
    let mut wrong = Vec::new();
    for (filter, reason) in rows {
        let mut shown = format!("{filter:?}");
        shown.truncate(200);
        let read = client.read(reading(filter.clone())).await;
        wrong.extend(errors::mismatch(&format!("read {shown}"), read, reason, "", &[]));
        let count = client.count(filter.clone()).await;
        wrong.extend(errors::mismatch(&format!("count {shown}"), count, reason, "", &[]));
        let follow = pb::FollowEventsRequest { filter: Some(filter), ..Default::default() };
        let follow = match client.follow(follow).await {
            Err(status) => Err(status),
            Ok(mut stream) => stream.message().await.map(drop),
        };
        wrong.extend(errors::mismatch(&format!("follow {shown}"), follow, reason, "", &[]));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for (direction, payload_format, below_floor) in [(99, 0, 0), (0, 99, 0), (0, 0, 99)] {
        let read =
            pb::ReadEventsRequest { direction, payload_format, below_floor, ..Default::default() };
        expect(client.read(read).await, "ARGUMENT_INVALID", &[]);
    }
    let follow = pb::FollowEventsRequest { below_floor: 99, ..Default::default() };
    expect(client.follow(follow).await.map(drop), "ARGUMENT_INVALID", &["below_floor"]);
    let none = pb::GetEventRequest::default();
    expect(client.events.clone().get_event(none).await, "ARGUMENT_INVALID", &["key"]);
    let mut most = by_type("a.b");
    most.event_types = (0..1000).map(|n| format!("t{n}")).collect();
    assert_eq!(client.count(most).await.unwrap(), 0);
    serves(&server, &client, "after").await;
}
