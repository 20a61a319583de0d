//! What may change once a schema is in use.

use milepost::grpc::pb::{self, CompatibilityVerdict, SchemaChangeKind, import_result::Outcome};
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{
    get,
    import::{document, import},
};
use crate::support::{
    Client, Server,
    errors::expect,
    events::{EXPERIENCE_EVENT, typed},
};

const GROUP: &str = "https://example.com/evolution/group";
const SCHEMA: &str = "https://example.com/evolution/schema";

fn group(fields: &Value) -> Value {
    json!({"$id": GROUP, "title": "Group", "meta:resourceType": "fieldgroups", "properties": fields})
}

/// A schema that includes the group, in use by two datasets.
async fn in_use(client: &Client) {
    let schema = json!({"$id": SCHEMA, "title": "Schema",
        "allOf": [{"$ref": EXPERIENCE_EVENT}, {"$ref": GROUP}]});
    let fields = json!({"size": {"type": "string", "enum": ["S", "M", "L"]}});
    for document in [group(&fields), schema] {
        client.register(document.to_string()).await.unwrap();
    }
    client.create("one", SCHEMA).await.unwrap();
    let mut pinned =
        pb::Dataset { name: "two".into(), schema_id: SCHEMA.into(), ..Default::default() };
    pinned.set_version_policy(pb::VersionPolicy::Pinned);
    client.create_dataset(pinned).await.unwrap();
}

fn sized(id: &str, size: &str) -> String {
    let mut event: Value = serde_json::from_str(&typed(id, "a.b")).unwrap();
    event["size"] = json!(size);
    event.to_string()
}

async fn force(client: &Client, document: &Value) -> pb::RegisterSchemaResponse {
    let request = pb::RegisterSchemaRequest {
        document: document.to_string(),
        force: true,
        ..Default::default()
    };
    client.schemas.clone().register_schema(request).await.unwrap().into_inner()
}

async fn check(
    client: &Client,
    document: &Value,
    max_events: u32,
) -> Result<pb::CheckCompatibilityResponse, Status> {
    let request = pb::CheckCompatibilityRequest {
        document: document.to_string(),
        against_history: true,
        max_events,
    };
    Ok(client.schemas.clone().check_compatibility(request).await?.into_inner())
}

async fn audit(client: &Client) -> Vec<pb::AuditRecord> {
    let request = pb::ListAuditRecordsRequest::default();
    client.admin.clone().list_audit_records(request).await.unwrap().into_inner().records
}

fn shown(changes: &[pb::SchemaChange]) -> Vec<(&str, SchemaChangeKind)> {
    changes.iter().map(|it| (&*it.path, it.kind())).collect()
}

#[tokio::test]
async fn a_group_in_use_only_grows_unless_forced() {
    let server = Server::start();
    let client = server.client().await;
    in_use(&client).await;
    client.append("one", &[sized("e1", "L"), sized("e2", "M")]).await.unwrap();
    client.append("two", &[sized("e1", "L")]).await.unwrap();

    // Growing takes effect at once.
    let grown = group(&json!({"size": {"type": "string", "enum": ["S", "M", "L", "XL"]},
        "color": {"type": "string"}}));
    expect(client.append("one", &[sized("e3", "XL")]).await, "EVENT_VIOLATES_SCHEMA", &["size"]);
    let response = client.register(grown.to_string()).await.unwrap();
    let expected =
        [("/color", SchemaChangeKind::FieldAdded), ("/size", SchemaChangeKind::EnumWidened)];
    assert_eq!(shown(&response.changes), expected);
    assert_eq!(response.renewed.len(), 1, "{response:?}");
    client.append("one", &[sized("e3", "XL")]).await.unwrap();
    expect(client.append("two", &[sized("e3", "XL")]).await, "EVENT_VIOLATES_SCHEMA", &["size"]);

    // Narrowing does not.
    let narrow = group(&json!({"size": {"type": "string", "enum": ["S", "M"]}}));
    let refused = client.register(narrow.to_string()).await;
    let status = refused.as_ref().unwrap_err();
    let violations = status.get_details_precondition_failure().unwrap().violations;
    let kinds: Vec<_> = violations.iter().map(|it| (&*it.r#type, &*it.subject)).collect();
    let (color, size) = (format!("{SCHEMA}#/color"), format!("{SCHEMA}#/size"));
    assert_eq!(kinds, [("FIELD_REMOVED", &*color), ("ENUM_NARROWED", &*size)]);
    expect(refused, "SCHEMA_INCOMPATIBLE", &[SCHEMA, "`one`", "`two`", "/color", "force"]);
    let mut request =
        pb::ImportSchemasRequest { documents: vec![document("g", &narrow)], ..Default::default() };
    let response = import(&client, request.clone()).await.unwrap();
    assert!(!response.imported);
    assert_eq!(response.results[0].outcome(), Outcome::Refused);
    assert_eq!(get(&client, GROUP, 0).await.unwrap().version, 2);
    assert!(audit(&client).await.is_empty());

    // What it would do to what is stored: four events, of which three are too large.
    let checked = check(&client, &narrow, 0).await.unwrap();
    assert_eq!(checked.verdict(), CompatibilityVerdict::Breaking);
    assert_eq!(checked.affected.len(), 1);
    assert_eq!(checked.affected[0].schema_id, SCHEMA);
    assert_eq!(checked.affected[0].datasets, ["one", "two"]);
    let history: Vec<_> =
        checked.history.iter().map(|it| (&*it.dataset, it.checked, it.failed)).collect();
    assert_eq!(history, [("one", 3, 2), ("two", 1, 1)]);
    let samples = &checked.history[0].samples;
    let ids: Vec<_> = samples.iter().map(|it| &*it.event_id).collect();
    assert_eq!(ids, ["e3", "e1"], "the newest first");
    assert_eq!(samples[0].violations[0].instance_path, "/size");
    assert_eq!(check(&client, &narrow, 1).await.unwrap().history[0].checked, 1);
    expect(check(&client, &narrow, 100_001).await, "ARGUMENT_OUT_OF_BOUNDS", &["max_events"]);
    expect(check(&client, &json!({}), 0).await, "SCHEMA_INVALID", &["$id"]);

    // By force it is done and recorded, also across a restart.
    request.force = true;
    assert!(import(&client, request).await.unwrap().imported);
    expect(client.append("one", &[sized("e4", "L")]).await, "EVENT_VIOLATES_SCHEMA", &["size"]);
    client.append("two", &[sized("e4", "L")]).await.unwrap();
    let records = audit(&client).await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!((record.number, &*record.schema_id), (1, SCHEMA));
    assert_eq!((record.old_version, record.new_version), (2, 3));
    assert_eq!(record.datasets, ["one", "two"]);
    let breaking =
        [("/color", SchemaChangeKind::FieldRemoved), ("/size", SchemaChangeKind::EnumNarrowed)];
    assert_eq!(shown(&record.changes), breaking);
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(audit(&client).await, records);
    client.verify().await.unwrap();
}

#[tokio::test]
async fn what_nothing_uses_may_change_in_every_way() {
    let server = Server::start();
    let client = server.client().await;
    let text = group(&json!({"a": {"type": "string"}}));
    let number = group(&json!({"a": {"type": "number"}}));
    client.register(text.to_string()).await.unwrap();
    let checked = check(&client, &number, 0).await.unwrap();
    assert_eq!(checked.verdict(), CompatibilityVerdict::Breaking);
    assert!(checked.affected.is_empty() && checked.history.is_empty());
    let response = client.register(number.to_string()).await.unwrap();
    assert_eq!(shown(&response.changes), [("/a", SchemaChangeKind::TypeChanged)]);
    assert!(audit(&client).await.is_empty());
    // A title changes nothing for events; a first version neither.
    let mut titled = number.clone();
    titled["title"] = json!("Other");
    assert!(client.register(titled.to_string()).await.unwrap().changes.is_empty());
    let other = json!({"$id": "https://example.com/evolution/other", "type": "object"});
    let checked = check(&client, &other, 0).await.unwrap();
    assert_eq!(checked.verdict(), CompatibilityVerdict::Compatible);
}

#[tokio::test]
async fn a_schema_in_use_must_go_on_compiling() {
    let server = Server::start();
    let client = server.client().await;
    let leaf = json!({"$id": GROUP, "definitions": {"d": {"type": "string"}}});
    let schema = json!({"$id": SCHEMA, "allOf": [{"$ref": EXPERIENCE_EVENT}],
        "properties": {"p": {"$ref": format!("{GROUP}#/definitions/d")}}});
    for document in [&leaf, &schema] {
        client.register(document.to_string()).await.unwrap();
    }
    client.create("web", SCHEMA).await.unwrap();
    let without = json!({"$id": GROUP});
    let words = ["reference broken", "definitions/d", "`web`"];
    expect(client.register(without.to_string()).await, "SCHEMA_INCOMPATIBLE", &words);
    let forced = force(&client, &without).await;
    assert_eq!(forced.left_behind, [SCHEMA]);
    // It judges on by what it was compiled with.
    let mut event: Value = serde_json::from_str(&typed("e", "a.b")).unwrap();
    event["p"] = json!(1);
    expect(client.append("web", &[event.to_string()]).await, "EVENT_VIOLATES_SCHEMA", &["/p"]);
    let records = audit(&client).await;
    assert_eq!((records[0].old_version, records[0].new_version), (1, 1));
}

#[tokio::test]
async fn an_import_that_keeps_going_leaves_out_what_breaks() {
    let server = Server::start();
    let client = server.client().await;
    in_use(&client).await;
    let narrow = group(&json!({"size": {"type": "string", "enum": ["S"]}}));
    let fine = json!({"$id": "https://example.com/evolution/fine"});
    let request = pb::ImportSchemasRequest {
        documents: vec![document("narrow", &narrow), document("fine", &fine)],
        keep_going: true,
        ..Default::default()
    };
    let response = import(&client, request).await.unwrap();
    let outcomes: Vec<_> = response.results.iter().map(pb::ImportResult::outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused, Outcome::Created]);
    assert_eq!(get(&client, GROUP, 0).await.unwrap().version, 1);
    assert_eq!(get(&client, SCHEMA, 0).await.unwrap().version, 1);
}
