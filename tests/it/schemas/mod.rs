//! The schema registry.

mod descriptors;
mod differential;
mod evolution;
pub(crate) mod import;
mod lifecycle;
mod mutations;
mod suite;
mod tenant;
mod views;

use milepost::grpc::pb;
use serde_json::{Value, json};

use crate::support::{
    Client, Server,
    errors::expect,
    events::{EXPERIENCE_EVENT, PURCHASE, purchase, purchase_schema, purchase_text, purchases},
};

async fn get(client: &Client, id: &str, version: u32) -> Result<pb::Schema, tonic::Status> {
    let request = pb::GetSchemaRequest { id: id.into(), version, ..Default::default() };
    let response = client.schemas.clone().get_schema(request).await?;
    Ok(response.into_inner().schema.unwrap())
}

async fn validate(
    client: &Client,
    target: pb::validate_event_request::Target,
    payload: &str,
) -> Result<pb::ValidateEventResponse, tonic::Status> {
    let request = pb::ValidateEventRequest {
        target: Some(target),
        event: Some(crate::support::client::json_event(payload)),
        ..Default::default()
    };
    Ok(client.schemas.clone().validate_event(request).await?.into_inner())
}

fn with_total_of_type(total_type: &str) -> Value {
    let mut schema = purchase_schema();
    schema["allOf"][1]["properties"]["commerce"]["properties"]["order"]["properties"]["priceTotal"] =
        json!({"type": total_type});
    schema
}

#[tokio::test]
async fn a_document_is_registered_once_and_a_change_makes_a_version() {
    let server = Server::start();
    let client = server.client().await;
    let first = client.register(purchase_schema().to_string()).await.unwrap();
    assert!(first.created);
    let schema = first.schema.clone().unwrap();
    assert_eq!((&*schema.id, schema.version, &*schema.title), (PURCHASE, 1, "Purchase"));
    // The same, in another spelling.
    let pretty = serde_json::to_string_pretty(&purchase_schema()).unwrap();
    let again = client.register(pretty).await.unwrap();
    assert!(!again.created);
    assert_eq!(again.schema.unwrap().version, 1);

    let other = with_total_of_type("string");
    let dry = pb::RegisterSchemaRequest {
        document: other.to_string(),
        validate_only: true,
        ..Default::default()
    };
    let dry = client.schemas.clone().register_schema(dry).await.unwrap().into_inner();
    assert!(dry.created);
    expect(get(&client, PURCHASE, 2).await, "SCHEMA_NOT_FOUND", &["2"]);
    let second = client.register(other.to_string()).await.unwrap();
    assert_eq!(second.schema.unwrap().version, 2);

    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let documents = [(1, purchase_schema()), (2, other.clone()), (0, other)];
    for (version, document) in documents {
        let schema = get(&client, PURCHASE, version).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&schema.document).unwrap(), document);
        let references: Vec<_> = schema.references.iter().map(|it| &*it.id).collect();
        assert!(references.contains(&EXPERIENCE_EVENT), "{references:?}");
    }
}

#[tokio::test]
async fn a_dataset_judges_by_the_latest_version_or_by_a_pinned_one() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "latest").await;
    let mut pinned =
        pb::Dataset { name: "pinned".into(), schema_id: PURCHASE.into(), ..Default::default() };
    pinned.set_version_policy(pb::VersionPolicy::Pinned);
    assert_eq!(client.create_dataset(pinned).await.unwrap().schema_version, 1);
    client.append("latest", &[purchase_text("e1", "a@b.c")]).await.unwrap();
    let request = pb::RegisterSchemaRequest {
        document: with_total_of_type("string").to_string(),
        force: true,
        ..Default::default()
    };
    client.schemas.clone().register_schema(request).await.unwrap();

    let outcome = client.append("latest", &[purchase_text("e2", "a@b.c")]).await;
    expect(outcome, "EVENT_VIOLATES_SCHEMA", &["events[0].payload/commerce/order/priceTotal"]);
    client.append("pinned", &[purchase_text("e2", "a@b.c")]).await.unwrap();
    // The old event is still the same one, so its retry is still a duplicate.
    let versions: Vec<_> = client.read_all().await.iter().map(|it| it.schema_version).collect();
    assert_eq!(versions, [1, 1]);
}

#[tokio::test]
async fn built_in_documents_are_there() {
    let server = Server::start();
    let client = server.client().await;
    for id in [
        "https://ns.adobe.com/xdm/data/record",
        "https://ns.adobe.com/xdm/data/time-series",
        "https://ns.adobe.com/xdm/data/adhoc",
        EXPERIENCE_EVENT,
        "https://ns.adobe.com/xdm/context/identitymap",
    ] {
        let schema = get(&client, id, 0).await.unwrap();
        assert!(schema.built_in, "{id}");
        assert_eq!(schema.version, 1, "{id}");
    }
    client.create("plain", EXPERIENCE_EVENT).await.unwrap();
    client.append("plain", &[crate::support::events::typed("e1", "a.b")]).await.unwrap();
}

#[tokio::test]
async fn lists_page_filter_and_leave_out_what_is_built_in() {
    let server = Server::start();
    let client = server.client().await;
    let mut ids = Vec::new();
    for n in 0..7 {
        let id = format!("https://example.com/mixins/m{n}");
        let document = json!({"$id": id, "title": "m", "type": "object",
            "meta:resourceType": if n < 3 { "mixins" } else { "datatypes" }});
        client.register(document.to_string()).await.unwrap();
        ids.push(id);
    }
    let list = async |kind: pb::SchemaKind, page_size| {
        let (mut listed, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListSchemasRequest {
                page_size,
                page_token,
                kind: kind.into(),
                exclude_built_in: true,
                ..Default::default()
            };
            let page = client.schemas.clone().list_schemas(request).await.unwrap().into_inner();
            listed.extend(page.schemas.into_iter().map(|it| it.id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return listed;
            }
        }
    };
    for page_size in [0, 2, 1000] {
        assert_eq!(list(pb::SchemaKind::Unspecified, page_size).await, ids);
        assert_eq!(list(pb::SchemaKind::FieldGroup, page_size).await, ids[..3]);
        assert_eq!(list(pb::SchemaKind::DataType, page_size).await, ids[3..]);
    }
}

#[tokio::test]
async fn validating_tells_all_violations_and_writes_nothing() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut bad = purchase("e1", "a@b.c");
    bad["commerce"]["order"] = json!({"priceTotal": -1, "currencyCode": "euro"});
    bad.as_object_mut().unwrap().remove("timestamp");
    for target in [
        pb::validate_event_request::Target::SchemaId(PURCHASE.into()),
        pb::validate_event_request::Target::Dataset("web".into()),
    ] {
        let good = validate(&client, target.clone(), &purchase_text("e1", "a@b.c")).await.unwrap();
        assert!(good.valid, "{good:?}");
        let answer = validate(&client, target.clone(), &bad.to_string()).await.unwrap();
        assert!(!answer.valid);
        let mut found: Vec<_> =
            answer.violations.iter().map(|it| (&*it.instance_path, &*it.keyword)).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(
            found,
            [
                ("", "required"),
                ("/commerce/order", "required"),
                ("/commerce/order/currencyCode", "pattern"),
                ("/commerce/order/priceTotal", "minimum"),
            ]
        );
        let answer = validate(&client, target, "not json").await.unwrap();
        assert!(!answer.valid);
        assert_eq!(answer.violations.len(), 1, "{answer:?}");
    }
    let none = pb::validate_event_request::Target::SchemaId("https://example.com/none".into());
    expect(validate(&client, none, "{}").await, "SCHEMA_NOT_FOUND", &["none"]);
    let none = pb::validate_event_request::Target::Dataset("none".into());
    expect(validate(&client, none, "{}").await, "DATASET_NOT_FOUND", &["none"]);
    assert_eq!(client.last_position().await, 0);
}

const VISIT: &str = "https://ns.adobe.com/acme/schemas/visit";

/// A schema in long form.
fn visit_schema() -> Value {
    let stage = "https://ns.adobe.com/acme/stage";
    json!({
        "$id": VISIT, "meta:altId": "_acme.schemas.visit", "title": "Visit", "type": "object",
        "meta:class": EXPERIENCE_EVENT,
        "allOf": [{"$ref": EXPERIENCE_EVENT}, {"properties": {
            "schema:place": {"type": "object", "properties": {"schema:latitude": {"type": "number"}}},
            stage: {"type": "string", "enum": ["a", "b"], "title": "Stage"},
            "xdm:count": {"type": "integer", "minimum": 0, "maximum": 100}
        }}]
    })
}

async fn view(
    client: &Client,
    view: pb::SchemaView,
    form: pb::Form,
) -> Result<pb::GetSchemaResponse, tonic::Status> {
    let request = pb::GetSchemaRequest {
        id: "_acme.schemas.visit".into(),
        view: view.into(),
        form: form.into(),
        ..Default::default()
    };
    Ok(client.schemas.clone().get_schema(request).await?.into_inner())
}

#[tokio::test]
async fn a_schema_in_long_form_judges_events_in_wire_form() {
    let server = Server::start();
    let client = server.client().await;
    client.register(visit_schema().to_string()).await.unwrap();
    // And after a restart by the wire form that was stored.
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let schema = get(&client, VISIT, 0).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&schema.document).unwrap(), visit_schema());
    assert_eq!((schema.form(), &*schema.alt_id), (pb::Form::Long, "_acme.schemas.visit"));

    let judge = async |event: Value, form: pb::Form| {
        let request = pb::ValidateEventRequest {
            target: Some(pb::validate_event_request::Target::SchemaId(VISIT.into())),
            event: Some(crate::support::client::json_event(&event.to_string())),
            form: form.into(),
        };
        let found = client.schemas.clone().validate_event(request).await.unwrap().into_inner();
        let places = found.violations.into_iter().map(|it| (it.instance_path, it.keyword));
        places.collect::<Vec<_>>()
    };
    let wire = |latitude: Value| {
        json!({"_id": "1", "timestamp": "2026-11-20T10:00:00Z", "count": 1, "_acme": {"stage": "a"},
            "_schema": {"place": {"_schema": {"latitude": latitude}}}})
    };
    let long = |latitude: Value| {
        json!({"@id": "1", "xdm:timestamp": "2026-11-20T10:00:00Z", "xdm:count": 1,
            "https://ns.adobe.com/acme/stage": "a",
            "schema:place": {"schema:latitude": latitude}})
    };
    let at = |path: &str, keyword: &str| vec![(path.to_owned(), keyword.to_owned())];
    assert_eq!(judge(wire(json!(1.5)), pb::Form::Wire).await, []);
    assert_eq!(judge(long(json!(1.5)), pb::Form::Long).await, []);
    let found = judge(wire(json!("x")), pb::Form::Unspecified).await;
    assert_eq!(found, at("/_schema/place/_schema/latitude", "type"));
    let found = judge(long(json!("x")), pb::Form::Long).await;
    assert_eq!(found, at("/schema:place/schema:latitude", "type"));
    let found = judge(wire(json!(1)), pb::Form::Long).await;
    assert!(found.contains(&at("/_id", "form")[0]), "{found:?}");
    let mut nothing = wire(json!(1));
    nothing["other"] = json!({"a": [null]});
    assert_eq!(judge(nothing, pb::Form::Wire).await, at("/other/a/0", "null"));
}

#[tokio::test]
async fn a_schema_is_told_as_it_is_asked_for() {
    use pb::{Form, SchemaView};
    let server = Server::start();
    let client = server.client().await;
    client.register(visit_schema().to_string()).await.unwrap();
    let document = async |asked: SchemaView, form: Form| {
        let schema = view(&client, asked, form).await.unwrap().schema.unwrap();
        serde_json::from_str::<Value>(&schema.document).unwrap()
    };
    let raw = document(SchemaView::Raw, Form::Unspecified).await;
    assert_eq!(raw, visit_schema());
    let mut long = document(SchemaView::Raw, Form::Long).await;
    long.as_object_mut().unwrap().remove("$schema");
    assert_eq!(long, visit_schema());
    let wire = document(SchemaView::Raw, Form::Wire).await;
    let count = &wire["allOf"][1]["properties"]["count"];
    assert_eq!(count["meta:xdmField"], "xdm:count");

    let resolved = document(SchemaView::Resolved, Form::Unspecified).await;
    assert_eq!(resolved["allOf"][1]["properties"]["count"]["meta:xdmType"], "byte");
    assert!(resolved["definitions"][EXPERIENCE_EVENT].is_object());
    // It needs no other: under another id it judges alone.
    let mut alone = resolved;
    alone["$id"] = json!("https://example.com/schemas/alone");
    for key in ["meta:class", "meta:altId"] {
        alone.as_object_mut().unwrap().remove(key);
    }
    let registered = client.register(alone.to_string()).await.unwrap();
    assert_eq!(registered.schema.unwrap().references, []);

    let answer = view(&client, SchemaView::Summary, Form::Unspecified).await.unwrap();
    assert_eq!(answer.schema.unwrap().document, "");
    let summary = answer.summary.unwrap();
    assert_eq!(summary.class, EXPERIENCE_EVENT);
    let field = |path: &str| summary.fields.iter().find(|it| it.path == path).unwrap();
    let stage = field("_acme.stage");
    assert_eq!((&*stage.r#type, &*stage.title, stage.required), ("enum", "Stage", false));
    assert_eq!(stage.long_name, "https://ns.adobe.com/acme/stage");
    assert!(field("timestamp").required && field("_id").required);
    assert_eq!(field("identityMap.*[].primary").r#type, "boolean");

    let both = view(&client, SchemaView::Summary, Form::Long).await;
    expect(both, "ARGUMENT_INVALID", &["only the view `RAW` has a form"]);
}
