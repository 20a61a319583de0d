//! Descriptors, policies and forms that cannot be.

use milepost::grpc::pb::{self, descriptor::Kind};
use serde_json::json;
use tonic::Status;

use super::serves;
use crate::support::{
    Client, Server,
    client::json_event,
    errors::mismatch,
    events::{PURCHASE, purchase_text, purchases},
};

async fn create(client: &Client, descriptor: pb::Descriptor) -> Result<(), Status> {
    let descriptor = Some(descriptor);
    let request = pb::CreateDescriptorRequest { descriptor, validate_only: false };
    client.schemas.clone().create_descriptor(request).await.map(drop)
}

fn of(path: &str, kind: Kind) -> pb::Descriptor {
    let (schema_id, path) = (PURCHASE.to_owned(), path.to_owned());
    pb::Descriptor { schema_id, path, kind: Some(kind), ..Default::default() }
}

fn identity(namespace: &str) -> Kind {
    Kind::Identity(pb::IdentityDescriptor { namespace: namespace.into(), primary: false })
}

fn titles(language: &str, text: &str, count: usize) -> Kind {
    let name = |it: usize| if it == 0 { language.to_owned() } else { format!("{language}{it}") };
    let titles = (0..count).map(|it| (name(it), text.to_owned())).collect();
    Kind::FriendlyName(pb::FriendlyNameDescriptor { titles, ..Default::default() })
}

fn labels(labels: Vec<String>) -> Kind {
    Kind::Label(pb::LabelDescriptor { labels })
}

#[tokio::test]
async fn a_descriptor_that_cannot_be_is_refused() {
    const PATH: &str = "/commerce/order/purchaseID";
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let relationship = |to: &str, path: &str, cardinality| {
        Kind::Relationship(pb::RelationshipDescriptor {
            destination_schema_id: to.into(),
            destination_path: path.into(),
            destination_namespace: "n".repeat(if cardinality == 1 { 65 } else { 1 }),
            cardinality,
        })
    };
    let deprecated = |successor_path: &str, reason: usize| {
        let (successor_path, reason) = (successor_path.to_owned(), "r".repeat(reason));
        Kind::Deprecated(pb::DeprecatedDescriptor { successor_path, reason })
    };
    let (long, deep) = ("a".repeat(2000), "/a".repeat(500));
    let rows = [
        (of("", identity("E")), "DESCRIPTOR_INVALID", "descriptor.path"),
        (of(&format!("/{long}"), identity("E")), "DESCRIPTOR_INVALID", "descriptor.path"),
        (of(&deep, identity("E")), "DESCRIPTOR_INVALID", "descriptor.path"),
        (of("/~2", identity("E")), "DESCRIPTOR_INVALID", "descriptor.path"),
        (of("/commerce/order/*", identity("E")), "DESCRIPTOR_INVALID", "descriptor.path"),
        (of(PATH, identity("")), "DESCRIPTOR_INVALID", "descriptor.identity.namespace"),
        (of(PATH, identity("\n")), "DESCRIPTOR_INVALID", "descriptor.identity.namespace"),
        (of(PATH, identity(&long)), "DESCRIPTOR_INVALID", "descriptor.identity.namespace"),
        (of(PATH, relationship("", "", 0)), "SCHEMA_NOT_FOUND", ""),
        (
            of(PATH, relationship(PURCHASE, "", 99)),
            "ARGUMENT_INVALID",
            "descriptor.relationship.cardinality",
        ),
        (
            of(PATH, relationship(PURCHASE, "x", 0)),
            "DESCRIPTOR_INVALID",
            "descriptor.relationship.destination_path",
        ),
        (
            of(PATH, relationship(PURCHASE, "", 1)),
            "DESCRIPTOR_INVALID",
            "descriptor.relationship.destination_namespace",
        ),
        (of(PATH, titles("", "t", 1)), "DESCRIPTOR_INVALID", "descriptor.friendly_name.titles[]"),
        (
            of(PATH, titles("en", &long, 1)),
            "DESCRIPTOR_INVALID",
            "descriptor.friendly_name.titles[en]",
        ),
        (of(PATH, titles("en", "t", 65)), "DESCRIPTOR_INVALID", "descriptor.friendly_name.titles"),
        (of(PATH, titles("en", "t", 0)), "DESCRIPTOR_INVALID", "descriptor.friendly_name"),
        (of(PATH, labels(Vec::new())), "DESCRIPTOR_INVALID", "descriptor.label.labels"),
        (
            of(PATH, labels(vec!["I1".into(); 1000])),
            "DESCRIPTOR_INVALID",
            "descriptor.label.labels",
        ),
        (of(PATH, labels(vec![long.clone()])), "DESCRIPTOR_INVALID", "descriptor.label.labels[0]"),
        (
            of(PATH, deprecated("/none", 1)),
            "DESCRIPTOR_INVALID",
            "descriptor.deprecated.successor_path",
        ),
        (of(PATH, deprecated("", 1025)), "DESCRIPTOR_INVALID", "descriptor.deprecated.reason"),
        (pb::Descriptor::default(), "ARGUMENT_INVALID", "descriptor.kind"),
    ];
    let mut wrong = Vec::new();
    for (descriptor, reason, field) in rows {
        let shown: String = format!("{descriptor:?}").chars().take(200).collect();
        let created = create(&client, descriptor).await;
        wrong.extend(mismatch(&shown, created, reason, field, &[]));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for id in ["", "none", &long] {
        let get = pb::GetDescriptorRequest { id: id.into() };
        let got = client.schemas.clone().get_descriptor(get).await;
        wrong.extend(mismatch("get", got, "DESCRIPTOR_NOT_FOUND", "", &[]));
        let delete = pb::DeleteDescriptorRequest { id: id.into(), validate_only: false };
        let deleted = client.schemas.clone().delete_descriptor(delete).await;
        wrong.extend(mismatch("delete", deleted, "DESCRIPTOR_NOT_FOUND", "", &[]));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let none = pb::ListDescriptorsRequest { page_token: "nonsense".into(), ..Default::default() };
    let listed = client.schemas.clone().list_descriptors(none).await;
    assert_eq!(mismatch("list", listed, "PAGE_TOKEN_INVALID", "", &[]), None);
    serves(&server, &client, "after").await;
}

/// Names and texts as large as requests are, nested as deeply as they may be: none ends the server.
#[tokio::test]
async fn a_strict_dataset_meets_strange_events() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut strict =
        pb::Dataset { name: "strict".into(), schema_id: PURCHASE.into(), ..Default::default() };
    strict.set_unknown_fields(pb::UnknownFields::Refuse);
    strict.set_payload_form(pb::Form::Long);
    client.create_dataset(strict).await.unwrap();
    let many: serde_json::Map<_, _> =
        (0..5_000).map(|it| (format!("k{it}"), json!({"a": [it]}))).collect();
    let nested = |key: &str| format!("{}1{}", format!("{{\"{key}\":").repeat(60), "}".repeat(60));
    for payload in [
        json!(many).to_string(),
        nested("commerce"),
        nested("schema:a"),
        nested("https://ns.adobe.com/a/b"),
        json!({"x".repeat(500_000): {"y".repeat(400_000): 1}}).to_string(),
        json!({"": 1, "@": 1, "xdm:": 1, "https://": 1, "a:": 1, ":": 1}).to_string(),
        json!({"@id": "e", "_id": "e", "xdm:timestamp": "2026-11-20T17:26:04Z"}).to_string(),
    ] {
        let shown: String = payload.chars().take(80).collect();
        let refused = client.append("strict", &[&payload]).await;
        let status = refused.expect_err(&shown);
        let seen = crate::support::errors::seen(&status);
        let known = ["EVENT_INVALID", "EVENT_VIOLATES_SCHEMA"];
        assert!(known.contains(&seen.reason.as_str()), "{shown}: {seen:?}");
        let request = pb::ValidateEventRequest {
            target: Some(pb::validate_event_request::Target::Dataset("strict".into())),
            event: Some(json_event(&payload)),
            ..Default::default()
        };
        let judged = client.schemas.clone().validate_event(request).await.unwrap().into_inner();
        assert!(!judged.valid && judged.violations.len() <= 100, "{shown}");
    }
    let in_wire_form = client.append("strict", &[purchase_text("e1", "a@b.c")]).await;
    assert_eq!(mismatch("wire", in_wire_form, "EVENT_VIOLATES_SCHEMA", "", &["`@id`"]), None);
    serves(&server, &client, "after").await;
}
