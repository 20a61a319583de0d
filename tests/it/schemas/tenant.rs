//! A server with a tenant: custom fields stand under its name.

use milepost::grpc::pb;
use serde_json::json;

use super::import::{import, library};
use crate::support::{
    Server,
    errors::{expect, seen, status_of},
    events::{EXPERIENCE_EVENT, purchase_schema},
};

#[tokio::test]
async fn custom_fields_stand_under_the_tenant() {
    let server = Server::start_with(&["--tenant", "acme"]);
    let client = server.client().await;
    let info = client.admin.clone().get_server_info(pb::GetServerInfoRequest {}).await.unwrap();
    assert_eq!(info.into_inner().tenant, "acme");
    let found = expect(
        client.register(purchase_schema().to_string()).await,
        "FIELD_OUTSIDE_TENANT",
        &["`commerce` is a field of your own; wanted under `_acme`"],
    );
    let places: Vec<_> = found.fields.iter().map(|(field, _)| field.as_str()).collect();
    let expected = ["commerce", "count"].map(|it| format!("document/allOf/1/properties/{it}"));
    assert_eq!(places, expected);

    let points = json!({"type": "object", "properties": {"points": {"type": "integer"}}});
    let own = json!({"$id": "https://example.com/schemas/visit", "meta:class": EXPERIENCE_EVENT,
        "allOf": [{"$ref": EXPERIENCE_EVENT}, {"properties": {"_acme": points}}]});
    client.register(own.to_string()).await.unwrap();
    client.create("visits", "https://example.com/schemas/visit").await.unwrap();
    let event = json!({"_id": "1", "timestamp": "2026-11-20T17:26:04Z", "_acme": {"points": 3}});
    client.append("visits", &[event.to_string()]).await.unwrap();

    // An import tells it of each document, and a check as an error.
    let document = |name: &str, value: &serde_json::Value| pb::SchemaDocument {
        name: name.into(),
        document: value.to_string(),
    };
    let bad = json!({"$id": "https://example.com/bad", "properties": {"points": {}}});
    let documents = vec![document("own", &own), document("bad", &bad)];
    let request = pb::ImportSchemasRequest { documents, ..Default::default() };
    let imported = import(&client, request).await.unwrap();
    assert!(!imported.imported);
    assert_eq!(
        seen(&status_of(imported.results[1].error.as_ref().unwrap())).reason,
        "FIELD_OUTSIDE_TENANT"
    );
    let check = pb::CheckCompatibilityRequest { document: bad.to_string(), ..Default::default() };
    let checked = client.schemas.clone().check_compatibility(check).await;
    expect(checked, "FIELD_OUTSIDE_TENANT", &["document/properties/points"]);

    // What is there stays when the server is started with another tenant, or none.
    let server = Server::start_on_with(server.kill(), &["--tenant", "other"]);
    let client = server.client().await;
    assert!(!client.register(own.to_string()).await.unwrap().created);
    let again = json!({"_id": "2", "timestamp": "2026-11-20T17:26:04Z", "_acme": {"points": 3}});
    client.append("visits", &[again.to_string()]).await.unwrap();
    let server = Server::start_on(server.kill());
    server.client().await.register(bad.to_string()).await.unwrap();
}

#[tokio::test]
async fn the_public_library_is_taken_whatever_the_tenant() {
    let Some(documents) = library() else { return };
    let server = Server::start_with(&["--tenant", "yourOrganizationID"]);
    let client = server.client().await;
    let request = pb::ImportSchemasRequest { documents, ..Default::default() };
    let imported = import(&client, request).await.unwrap();
    let refused: Vec<_> = imported.results.iter().filter(|it| it.error.is_some()).collect();
    assert!(imported.imported && refused.is_empty(), "{refused:#?}");
}
