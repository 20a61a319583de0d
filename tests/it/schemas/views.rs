//! Samples and unions.

use milepost::grpc::pb;
use serde_json::{Value, json};
use tonic::Status;

use super::import::{import, library};
use crate::support::{
    Client, Server,
    errors::expect,
    events::{EXPERIENCE_EVENT, PURCHASE, purchase_schema},
};

async fn sample(
    client: &Client,
    id: &str,
    seed: u64,
    required_only: bool,
) -> Result<String, Status> {
    let request = pb::GenerateSampleRequest { id: id.into(), version: 0, seed, required_only };
    Ok(client.schemas.clone().generate_sample(request).await?.into_inner().json)
}

async fn union(client: &Client, class_id: &str) -> Result<pb::GetUnionResponse, Status> {
    let request = pb::GetUnionRequest { class_id: class_id.into() };
    Ok(client.schemas.clone().get_union(request).await?.into_inner())
}

#[tokio::test]
async fn a_sample_is_what_a_dataset_takes() {
    let server = Server::start();
    let client = server.client().await;
    let rich = json!({"$id": "https://example.com/samples/rich", "title": "Rich",
    "allOf": [{"$ref": EXPERIENCE_EVENT}],
    "required": ["code", "list", "choice", "amount"],
    "properties": {
        "code": {"type": "string", "pattern": "^[A-Z]{3}-(x|y)[0-9]+$"},
        "list": {"type": "array", "minItems": 3, "uniqueItems": true, "items": {"type": "integer"}},
        "choice": {"oneOf": [{"type": "string", "maxLength": 2}, {"type": "boolean"}]},
        "amount": {"type": "number", "minimum": 5, "exclusiveMaximum": 6},
        "size": {"enum": ["S", "M"]},
        "even": {"type": "integer", "multipleOf": 2, "minimum": 11},
        "mail": {"type": "string", "format": "email"},
        "tree": {"type": "object", "properties": {"again": {"$ref": "#/properties/tree"}}}
    }});
    for document in [purchase_schema(), rich.clone()] {
        client.register(document.to_string()).await.unwrap();
    }
    for (dataset, id) in [("web", PURCHASE), ("rich", rich["$id"].as_str().unwrap())] {
        client.create(dataset, id).await.unwrap();
        for seed in 0..20 {
            let made = sample(&client, id, seed, false).await.unwrap();
            assert_eq!(sample(&client, id, seed, false).await.unwrap(), made);
            assert_ne!(sample(&client, id, seed + 100, false).await.unwrap(), made);
            client.append(dataset, &[&made]).await.unwrap();
        }
    }
    let least: Value =
        serde_json::from_str(&sample(&client, PURCHASE, 0, true).await.unwrap()).unwrap();
    let keys: Vec<_> = least.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["_id", "timestamp"]);
    let none = json!({"$id": "https://example.com/samples/none", "not": {}});
    client.register(none.to_string()).await.unwrap();
    let id = none["$id"].as_str().unwrap();
    expect(sample(&client, id, 0, false).await, "SAMPLE_NOT_FOUND", &[id]);
    expect(sample(&client, "urn:none", 0, false).await, "SCHEMA_NOT_FOUND", &[]);
}

#[tokio::test]
async fn a_union_has_the_fields_of_all_schemas_of_a_class() {
    let server = Server::start();
    let client = server.client().await;
    let other = json!({"$id": "https://example.com/samples/other", "title": "Other",
    "allOf": [{"$ref": EXPERIENCE_EVENT}],
    "properties": {
        "count": {"type": "string"},
        "commerce": {"properties": {"cart": {"type": "object",
            "properties": {"inner": {"$ref": "#/properties/commerce/properties/cart"}}}}}
    }});
    for document in [purchase_schema(), other] {
        client.register(document.to_string()).await.unwrap();
    }
    let union_ = union(&client, EXPERIENCE_EVENT).await.unwrap();
    assert_eq!(union_.schema_ids, ["https://example.com/samples/other", PURCHASE]);
    let document: Value = serde_json::from_str(&union_.document).unwrap();
    for path in ["/commerce/properties/cart", "/commerce/properties/order", "/_id", "/count"] {
        assert!(document.pointer(&format!("/properties{path}")).is_some(), "{path}: {document:#}");
    }
    assert_eq!(union_.conflicts, ["/count"]);
    assert_eq!(document["properties"]["count"]["type"], json!(["integer", "string"]));
    expect(union(&client, "urn:none").await, "SCHEMA_NOT_FOUND", &[]);
    // It is a schema.
    assert!(client.register(union_.document).await.unwrap().created);
}

/// Most of a real library; what rules tie together in other ways than by structure may fail.
#[tokio::test]
async fn samples_of_the_public_library_validate() {
    let Some(documents) = library() else { return };
    let server = Server::start();
    let client = server.client().await;
    let request = pb::ImportSchemasRequest { documents, ..Default::default() };
    let imported = import(&client, request).await.unwrap();
    let ids = imported.results.iter().map(|it| &it.id).step_by(8);
    let (mut made, mut not_made) = (0, Vec::new());
    for id in ids {
        match sample(&client, id, 1, false).await {
            Ok(_) => made += 1,
            Err(status) => not_made.push(format!("{id}: {}", status.message())),
        }
    }
    eprintln!("{made} made, not made: {not_made:#?}");
    assert!(not_made.len() * 20 <= made, "{not_made:#?}");
}
