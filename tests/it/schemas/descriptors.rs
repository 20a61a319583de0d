//! Descriptors: what is said about fields, and what that does to events.

use milepost::grpc::pb::{self, descriptor::Kind, import_result::Outcome};
use serde_json::{Value, json};
use tonic::Status;

use super::import::import;
use crate::support::{
    Client, Server,
    client::{by_identity, json_event, string_of},
    errors::{expect, seen, status_of},
    events::{EXPERIENCE_EVENT, PURCHASE, purchase_schema},
};

const VISIT: &str = "https://example.com/schemas/visit";

fn visit_schema() -> Value {
    json!({"$id": VISIT, "meta:class": EXPERIENCE_EVENT, "allOf": [
        {"$ref": EXPERIENCE_EVENT},
        {"properties": {
            "member": {"type": "object", "properties": {"card": {"type": "string"}}},
            "phone": {"type": "string"},
            "seen": {"type": "string", "format": "date-time"},
            "round": {"type": "integer"}
        }}
    ]})
}

fn descriptor(path: &str, kind: Kind) -> pb::Descriptor {
    pb::Descriptor {
        schema_id: VISIT.into(),
        path: path.into(),
        kind: Some(kind),
        ..Default::default()
    }
}

fn identity(path: &str, namespace: &str, primary: bool) -> pb::Descriptor {
    let namespace = namespace.into();
    descriptor(path, Kind::Identity(pb::IdentityDescriptor { namespace, primary }))
}

fn label(path: &str, labels: &[&str]) -> pb::Descriptor {
    let labels = labels.iter().map(ToString::to_string).collect();
    descriptor(path, Kind::Label(pb::LabelDescriptor { labels }))
}

async fn create(client: &Client, descriptor: pb::Descriptor) -> Result<pb::Descriptor, Status> {
    let request =
        pb::CreateDescriptorRequest { descriptor: Some(descriptor), ..Default::default() };
    let response = client.schemas.clone().create_descriptor(request).await?;
    Ok(response.into_inner().descriptor.unwrap())
}

async fn delete(client: &Client, id: &str) -> Result<(), Status> {
    let request = pb::DeleteDescriptorRequest { id: id.into(), validate_only: false };
    client.schemas.clone().delete_descriptor(request).await.map(drop)
}

async fn list(client: &Client, schema_id: &str, kind: &str) -> Vec<pb::Descriptor> {
    let mut found = Vec::new();
    let mut request = pb::ListDescriptorsRequest {
        page_size: 2,
        schema_id: schema_id.into(),
        kind: kind.into(),
        ..Default::default()
    };
    loop {
        let page = client.schemas.clone().list_descriptors(request.clone()).await.unwrap();
        let page = page.into_inner();
        found.extend(page.descriptors);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return found;
        }
    }
}

fn visit(id: &str) -> Value {
    json!({"_id": id, "timestamp": "2026-11-20T17:26:04Z", "member": {"card": "C-1"},
        "phone": "+49", "identityMap": {"Email": [{"id": "a@b.c", "primary": true}]}})
}

async fn visits(client: &Client) {
    client.register(visit_schema().to_string()).await.unwrap();
    client.create("visits", VISIT).await.unwrap();
}

/// Identities of a stored event, the primary one with a star.
async fn identities(client: &Client, position: u64) -> Vec<String> {
    let stored = client.get(position).await.unwrap();
    let text = |it: pb::Identity| {
        let (namespace, id) = (string_of(&it.namespace), string_of(&it.id));
        format!("{namespace}:{id}{}", if it.primary { "*" } else { "" })
    };
    stored.identities.into_iter().map(text).collect()
}

#[tokio::test]
async fn a_descriptor_is_kept_found_and_taken_back() {
    let server = Server::start();
    let client = server.client().await;
    visits(&client).await;
    let first = create(&client, identity("/phone", "Phone", false)).await.unwrap();
    assert_eq!(first.id.len(), 32);
    // The same again is there; something else is not taken.
    assert_eq!(create(&client, identity("/phone", "Phone", false)).await.unwrap(), first);
    let other = create(&client, identity("/phone", "Work", false)).await;
    expect(other, "DESCRIPTOR_EXISTS", &["xdm:namespace", &first.id]);
    let dry = pb::CreateDescriptorRequest {
        descriptor: Some(label("/phone", &["I1"])),
        validate_only: true,
    };
    client.schemas.clone().create_descriptor(dry).await.unwrap();
    assert_eq!(list(&client, "", "").await, std::slice::from_ref(&first));
    for labels in [label("/phone", &["I1", "C2"]), label("/member/card", &["I1"])] {
        create(&client, labels).await.unwrap();
    }
    let listed = list(&client, VISIT, "").await;
    let keys: Vec<_> = listed.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(keys, ["/member/card", "/phone", "/phone"]);
    assert_eq!(list(&client, VISIT, "identity").await, std::slice::from_ref(&first));
    assert!(list(&client, PURCHASE, "").await.is_empty());
    let bad = pb::ListDescriptorsRequest { kind: "names".into(), ..Default::default() };
    expect(
        client.schemas.clone().list_descriptors(bad).await,
        "ARGUMENT_INVALID",
        &["friendly_name"],
    );

    // They outlive the server, and the summary of the schema has them.
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(list(&client, VISIT, "").await, listed);
    let mut request = pb::GetSchemaRequest { id: VISIT.into(), ..Default::default() };
    request.set_view(pb::SchemaView::Summary);
    let found = client.schemas.clone().get_schema(request).await.unwrap().into_inner();
    assert_eq!(found.summary.unwrap().descriptors, listed);
    let get = |id: &str| pb::GetDescriptorRequest { id: id.into() };
    let found = client.schemas.clone().get_descriptor(get(&first.id)).await.unwrap();
    assert_eq!(found.into_inner().descriptor.unwrap(), first);
    delete(&client, &first.id).await.unwrap();
    expect(delete(&client, &first.id).await, "DESCRIPTOR_NOT_FOUND", &[&first.id]);
    let gone = client.schemas.clone().get_descriptor(get(&first.id)).await;
    expect(gone, "DESCRIPTOR_NOT_FOUND", &[]);
    client.verify().await.unwrap();
}

#[tokio::test]
async fn identities_come_from_descriptors_and_the_identity_map() {
    let server = Server::start();
    let client = server.client().await;
    visits(&client).await;
    client.append("visits", &[visit("e1").to_string()]).await.unwrap();
    assert_eq!(identities(&client, 1).await, ["Email:a@b.c*"]);
    let phone = create(&client, identity("/phone", "Phone", false)).await.unwrap();
    client.append("visits", &[visit("e2").to_string()]).await.unwrap();
    assert_eq!(identities(&client, 2).await, ["Email:a@b.c*", "Phone:+49"]);
    // A primary one takes the place of the sender's, and must be there.
    let card = create(&client, identity("/member/card", "Card", true)).await.unwrap();
    client.append("visits", &[visit("e3").to_string()]).await.unwrap();
    assert_eq!(identities(&client, 3).await, ["Card:C-1*", "Email:a@b.c", "Phone:+49"]);
    assert_eq!(client.count(by_identity("Card", "C-1")).await.unwrap(), 1);
    let mut without = visit("e4");
    without["member"] = json!({});
    let lacks = client.append("visits", &[without.to_string()]).await;
    expect(lacks, "EVENT_INVALID", &["events[0].payload/member/card", "primary identity"]);
    let request = pb::ValidateEventRequest {
        target: Some(pb::validate_event_request::Target::SchemaId(VISIT.into())),
        event: Some(json_event(&without.to_string())),
        ..Default::default()
    };
    let judged = client.schemas.clone().validate_event(request).await.unwrap().into_inner();
    assert_eq!(judged.violations[0].instance_path, "/member/card");
    let second = create(&client, identity("/phone", "Phone", true)).await;
    expect(second, "DESCRIPTOR_EXISTS", &["xdm:isPrimary"]);
    delete(&client, &phone.id).await.unwrap();
    let second = create(&client, identity("/phone", "Phone", true)).await;
    expect(second, "DESCRIPTOR_INVALID", &["descriptor.path", "`/member/card`", "at most one"]);
    // A sample has what must be there.
    let request = pb::GenerateSampleRequest { id: VISIT.into(), seed: 3, ..Default::default() };
    let sample = client.schemas.clone().generate_sample(request).await.unwrap().into_inner();
    client.append("visits", &[sample.json]).await.unwrap();

    delete(&client, &card.id).await.unwrap();
    client.append("visits", &[without.to_string()]).await.unwrap();
    assert_eq!(identities(&client, 5).await, ["Email:a@b.c*"]);
}

#[tokio::test]
async fn a_time_and_a_version_must_be_there() {
    let server = Server::start();
    let client = server.client().await;
    visits(&client).await;
    create(&client, descriptor("/seen", Kind::Timestamp(pb::TimestampDescriptor {})))
        .await
        .unwrap();
    create(&client, descriptor("/round", Kind::Version(pb::VersionDescriptor {}))).await.unwrap();
    let bare = client.append("visits", &[visit("e1").to_string()]).await;
    expect(bare, "EVENT_INVALID", &["events[0].payload/seen", "events[0].payload/round"]);
    let mut event = visit("e1");
    event["seen"] = json!("2025-01-02T03:04:05Z");
    event["round"] = json!(1);
    client.append("visits", &[event.to_string()]).await.unwrap();
    let stored = client.get(1).await.unwrap();
    assert_eq!(stored.event_time.unwrap().seconds, 1_735_787_045);
    event["_id"] = json!("e2");
    event["seen"] = json!("1960-01-02T03:04:05Z");
    let early = client.append("visits", &[event.to_string()]).await;
    expect(early, "EVENT_INVALID", &["events[0].payload/seen", "1970"]);
}

#[tokio::test]
async fn a_descriptor_fits_its_schema_and_the_schema_its_descriptors() {
    let server = Server::start();
    let client = server.client().await;
    visits(&client).await;
    let invalid = |path: &'static str, kind| (descriptor(path, kind), path);
    let email =
        || Kind::Identity(pb::IdentityDescriptor { namespace: "Email".into(), primary: false });
    for (bad, word) in [
        invalid("/none", email()),
        invalid("/round", email()),
        invalid("/phone", Kind::Timestamp(pb::TimestampDescriptor {})),
        invalid("phone", email()),
    ] {
        expect(create(&client, bad).await, "DESCRIPTOR_INVALID", &["descriptor.path", word]);
    }
    let mut nowhere = identity("/phone", "Phone", false);
    nowhere.schema_id = "urn:none".into();
    expect(create(&client, nowhere).await, "SCHEMA_NOT_FOUND", &["urn:none"]);
    let kindless = pb::Descriptor { kind: None, ..identity("/phone", "Phone", false) };
    expect(create(&client, kindless).await, "ARGUMENT_INVALID", &["descriptor.kind"]);
    let empty = pb::CreateDescriptorRequest::default();
    let none = client.schemas.clone().create_descriptor(empty).await;
    expect(none, "ARGUMENT_INVALID", &["descriptor"]);

    // A version without the field is refused, until the descriptor is gone.
    let phone = create(&client, identity("/phone", "Phone", false)).await.unwrap();
    let mut without = visit_schema();
    without["allOf"][1]["properties"].as_object_mut().unwrap().remove("phone");
    let register = |document: &Value| pb::RegisterSchemaRequest {
        document: document.to_string(),
        force: true,
        ..Default::default()
    };
    let refused = client.schemas.clone().register_schema(register(&without)).await;
    expect(refused, "DESCRIPTOR_INVALID", &["document", "`/phone`", &phone.id]);
    delete(&client, &phone.id).await.unwrap();
    client.schemas.clone().register_schema(register(&without)).await.unwrap();

    // What a relationship leads to cannot be deleted; what is said about a schema goes with it.
    client.register(purchase_schema().to_string()).await.unwrap();
    let to = |path: &str| {
        let mut relationship = pb::RelationshipDescriptor {
            destination_schema_id: PURCHASE.into(),
            destination_path: path.into(),
            ..Default::default()
        };
        relationship.set_cardinality(pb::Cardinality::ManyToOne);
        descriptor("/member/card", Kind::Relationship(relationship))
    };
    let nowhere = create(&client, to("/none")).await;
    expect(nowhere, "DESCRIPTOR_INVALID", &["descriptor.relationship.destination_path"]);
    create(&client, to("/commerce/order/purchaseID")).await.unwrap();
    let delete_schema = |id: &str| {
        let request = pb::DeleteSchemaRequest { id: id.into(), ..Default::default() };
        let mut schemas = client.schemas.clone();
        async move { schemas.delete_schema(request).await }
    };
    expect(delete_schema(PURCHASE).await, "SCHEMA_IN_USE", &["descriptor"]);
    let gone =
        pb::DeleteDatasetRequest { name: "visits".into(), force: true, ..Default::default() };
    client.datasets.clone().delete_dataset(gone).await.unwrap();
    delete_schema(VISIT).await.unwrap();
    assert!(list(&client, "", "").await.is_empty());
    delete_schema(PURCHASE).await.unwrap();
}

#[tokio::test]
async fn an_export_takes_descriptors_along_and_an_import_writes_them_with_the_documents() {
    let server = Server::start();
    let client = server.client().await;
    visits(&client).await;
    client.register(purchase_schema().to_string()).await.unwrap();
    for it in [identity("/phone", "Phone", true), label("/phone", &["I1"])] {
        create(&client, it).await.unwrap();
    }
    let mut pages = client
        .schemas
        .clone()
        .export_schemas(pb::ExportSchemasRequest::default())
        .await
        .unwrap()
        .into_inner();
    let (mut documents, mut descriptors) = (Vec::new(), Vec::new());
    while let Some(page) = pages.message().await.unwrap() {
        documents.extend(
            page.schemas
                .into_iter()
                .filter(|it| !it.built_in)
                .map(|it| pb::SchemaDocument { name: it.id, document: it.document }),
        );
        descriptors.extend(page.descriptors);
    }
    assert_eq!(descriptors, list(&client, VISIT, "").await);

    let other = Server::start();
    let client = other.client().await;
    // One that does not fit holds everything up.
    let mut bad = descriptors.clone();
    bad.push(identity("/round", "Card", false));
    let mut request = pb::ImportSchemasRequest {
        documents: documents.clone(),
        descriptors: bad,
        ..Default::default()
    };
    let imported = import(&client, request.clone()).await.unwrap();
    assert!(!imported.imported);
    let outcomes = |it: &pb::ImportSchemasResponse| -> Vec<Outcome> {
        it.descriptor_results.iter().map(pb::DescriptorResult::outcome).collect()
    };
    assert_eq!(outcomes(&imported), [Outcome::Held, Outcome::Held, Outcome::Refused]);
    assert!(imported.results.iter().all(|it| it.outcome() == Outcome::Held));
    let error = status_of(imported.descriptor_results[2].error.as_ref().unwrap());
    assert_eq!(seen(&error).reason, "DESCRIPTOR_INVALID");
    assert!(list(&client, "", "").await.is_empty());
    request.keep_going = true;
    let imported = import(&client, request.clone()).await.unwrap();
    assert_eq!(outcomes(&imported), [Outcome::Created, Outcome::Created, Outcome::Refused]);
    let plain = |it: pb::Descriptor| pb::Descriptor { create_time: None, ..it };
    let there: Vec<_> = list(&client, "", "").await.into_iter().map(plain).collect();
    assert_eq!(there, descriptors.into_iter().map(plain).collect::<Vec<_>>());
    let again = import(&client, request).await.unwrap();
    assert_eq!(outcomes(&again), [Outcome::Unchanged, Outcome::Unchanged, Outcome::Refused]);
    let many = vec![label("/phone", &["I1"]); 4_001];
    let request = pb::ImportSchemasRequest { descriptors: many, ..Default::default() };
    expect(import(&client, request).await, "ARGUMENT_OUT_OF_BOUNDS", &["descriptors"]);
}

/// Judging goes on while what judges changes; no event is judged by half of a change.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appends_and_descriptors_meet_in_one_order() {
    let server = Server::start();
    let client = server.client().await;
    visits(&client).await;
    let appender = client.clone();
    let appending = tokio::spawn(async move {
        for number in 0..200 {
            let mut event = visit(&format!("e{number}"));
            event["member"]["card"] = json!(format!("C-{number}"));
            appender.append("visits", &[event.to_string()]).await.unwrap();
        }
    });
    for _ in 0..10 {
        let made = create(&client, identity("/member/card", "Card", true)).await.unwrap();
        delete(&client, &made.id).await.unwrap();
    }
    appending.await.unwrap();
    for event in client.read_all().await {
        let primary: Vec<_> = event.identities.iter().filter(|it| it.primary).collect();
        assert_eq!(primary.len(), 1, "{event:?}");
        let card = primary[0].namespace == "Card";
        assert_eq!(event.identities.len(), if card { 2 } else { 1 }, "{event:?}");
    }
}

#[tokio::test]
async fn what_is_personal_is_not_told() {
    let server = Server::start();
    let client = server.client().await;
    client.register(visit_schema().to_string()).await.unwrap();
    client.create("visits", VISIT).await.unwrap();
    let mut aside =
        pb::Dataset { name: "aside".into(), schema_id: VISIT.into(), ..Default::default() };
    aside.set_on_invalid(pb::OnInvalid::Quarantine);
    client.create_dataset(aside).await.unwrap();
    let event = json!({"_id": "v1", "timestamp": "2026-11-20T17:26:04Z",
        "member": {"card": 4711}, "phone": 123_456, "round": "seven"})
    .to_string();
    let told = seen(&client.append("visits", &[&event]).await.unwrap_err());
    let said = format!("{told:?}");
    assert!(said.contains("4711") && said.contains("123456"), "{said}");
    create(&client, label("/member/card", &["C1", "I1"])).await.unwrap();
    create(&client, label("/phone", &["S1"])).await.unwrap();
    let hidden = seen(&client.append("visits", &[&event]).await.unwrap_err());
    let said = format!("{hidden:?}");
    assert!(!said.contains("4711") && !said.contains("123456"), "{said}");
    let fields = |seen: &crate::support::errors::Seen| {
        seen.fields.iter().map(|it| it.0.clone()).collect::<Vec<_>>()
    };
    assert_eq!(fields(&hidden), fields(&told), "the places are told");
    assert!(said.contains("seven"), "what is not personal is told");
    client.append_each("aside", &[&event]).await.unwrap();
    let mut quarantine =
        pb::quarantine_service_client::QuarantineServiceClient::new(client.channel.clone());
    let request = pb::GetQuarantinedRequest { quarantine_id: "q1".into() };
    let event = quarantine.get_quarantined(request).await.unwrap().into_inner().event.unwrap();
    let said = format!("{:?}", event.violations);
    assert!(!said.contains("4711") && said.contains("/member/card"), "{said}");
    let told = |path: &str| {
        let violation = event.violations.iter().find(|it| it.instance_path == path).unwrap();
        (violation.expected.as_str(), violation.found.as_str())
    };
    assert_eq!(told("/member/card"), ("", ""));
    assert_eq!(told("/round").1, "\"seven\"");
}
