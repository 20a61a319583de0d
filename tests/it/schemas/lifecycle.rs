//! Finding, exporting, deprecating and deleting documents.

use milepost::grpc::pb;
use serde_json::json;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{
    get,
    import::{document, import, library},
};
use crate::support::{
    Client, Server,
    errors::expect,
    events::{EXPERIENCE_EVENT, PURCHASE, purchase_schema, purchases},
};

/// Ids of a list, page by page.
async fn listed(client: &Client, request: pb::ListSchemasRequest) -> Vec<String> {
    let (mut ids, mut request) = (Vec::new(), request);
    loop {
        let response = client.schemas.clone().list_schemas(request.clone()).await.unwrap();
        let page = response.into_inner();
        ids.extend(page.schemas.into_iter().map(|it| it.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return ids;
        }
    }
}

async fn export(
    client: &Client,
    schemas: Vec<pb::SchemaReference>,
) -> Result<Vec<pb::Schema>, Status> {
    let request = pb::ExportSchemasRequest { schemas };
    let mut pages = client.schemas.clone().export_schemas(request).await?.into_inner();
    let (mut all, mut total) = (Vec::new(), 0);
    while let Some(page) = pages.message().await? {
        total = page.total;
        all.extend(page.schemas);
    }
    assert_eq!(all.len(), usize::try_from(total).unwrap());
    Ok(all)
}

async fn delete(client: &Client, id: &str, etag: &str) -> Result<pb::DeleteSchemaResponse, Status> {
    let request =
        pb::DeleteSchemaRequest { id: id.into(), etag: etag.into(), ..Default::default() };
    Ok(client.schemas.clone().delete_schema(request).await?.into_inner())
}

async fn deprecate(
    client: &Client,
    request: pb::DeprecateSchemaRequest,
) -> Result<pb::Schema, Status> {
    let response = client.schemas.clone().deprecate_schema(request).await?.into_inner();
    Ok(response.schema.unwrap())
}

fn id(name: &str) -> String {
    format!("https://example.com/listed/{name}")
}

#[tokio::test]
async fn lists_filter_and_order_and_pages_survive_changes() {
    let server = Server::start();
    let client = server.client().await;
    let titles = ["Cherry", "apple", "Banana", "apple"];
    for (n, title) in titles.iter().enumerate() {
        let mut document = json!({"$id": id(&n.to_string()), "title": title});
        if n == 1 {
            document["meta:intendedToExtend"] = json!([EXPERIENCE_EVENT]);
        }
        if n == 2 {
            document["meta:status"] = json!("deprecated");
        }
        client.register(document.to_string()).await.unwrap();
    }
    client.register(purchase_schema().to_string()).await.unwrap();
    let all = |order_by: &str| pb::ListSchemasRequest {
        exclude_built_in: true,
        page_size: 2,
        text: "LISTED".into(),
        order_by: order_by.into(),
        status: pb::SchemaStatus::Any.into(),
        ..Default::default()
    };
    for (order_by, expected) in [
        ("", ["0", "1", "2", "3"]),
        ("id desc", ["3", "2", "1", "0"]),
        ("title", ["2", "0", "1", "3"]),
        ("title desc", ["3", "1", "0", "2"]),
        ("create_time", ["0", "1", "2", "3"]),
        ("create_time desc", ["3", "2", "1", "0"]),
    ] {
        assert_eq!(listed(&client, all(order_by)).await, expected.map(id), "{order_by}");
    }
    let mut request = all("");
    request.set_status(pb::SchemaStatus::Unspecified);
    assert_eq!(listed(&client, request.clone()).await, ["0", "1", "3"].map(id));
    request.set_status(pb::SchemaStatus::Deprecated);
    assert_eq!(listed(&client, request.clone()).await, ["2"].map(id));
    request.text = "appl".into();
    request.set_status(pb::SchemaStatus::Any);
    assert_eq!(listed(&client, request.clone()).await, ["1", "3"].map(id));
    request = pb::ListSchemasRequest { class: EXPERIENCE_EVENT.into(), ..Default::default() };
    let of_class = [id("1"), PURCHASE.to_owned(), EXPERIENCE_EVENT.to_owned()];
    assert_eq!(listed(&client, request.clone()).await, of_class);

    // What is deleted, added and renewed between two pages takes nothing else along.
    let mut request = all("id desc");
    let list = async |request: &pb::ListSchemasRequest| {
        client.schemas.clone().list_schemas(request.clone()).await
    };
    let first = list(&request).await.unwrap().into_inner();
    delete(&client, &id("2"), "").await.unwrap();
    client.register(json!({"$id": id("00"), "title": "new"}).to_string()).await.unwrap();
    client.register(json!({"$id": id("1"), "title": "renewed"}).to_string()).await.unwrap();
    request.page_token = first.next_page_token;
    let second = list(&request).await.unwrap().into_inner();
    let ids: Vec<_> = second.schemas.into_iter().map(|it| it.id).collect();
    assert_eq!(ids, ["1", "00"].map(id));

    request.order_by = "title".into();
    expect(list(&request).await, "PAGE_TOKEN_INVALID", &[]);
    request.order_by = "size".into();
    expect(list(&request).await, "ARGUMENT_INVALID", &["order_by", "size"]);
    request = all("");
    request.text = "x".repeat(257);
    expect(list(&request).await, "ARGUMENT_OUT_OF_BOUNDS", &["text", "257"]);
    request = all("");
    request.status = 9;
    expect(list(&request).await, "ARGUMENT_INVALID", &["status"]);
}

#[tokio::test]
async fn versions_are_listed_oldest_first() {
    let server = Server::start();
    let client = server.client().await;
    for title in ["a", "b", "c"] {
        client.register(json!({"$id": id("v"), "title": title}).to_string()).await.unwrap();
    }
    let mut request =
        pb::ListSchemaVersionsRequest { id: id("v"), page_size: 2, ..Default::default() };
    let mut versions = client.schemas.clone();
    let first = versions.list_schema_versions(request.clone()).await.unwrap().into_inner();
    request.page_token = first.next_page_token;
    let second = versions.list_schema_versions(request.clone()).await.unwrap().into_inner();
    let all = first.schemas.iter().chain(&second.schemas);
    let all: Vec<_> = all.map(|it| (it.version, &*it.title)).collect();
    assert_eq!(all, [(1, "a"), (2, "b"), (3, "c")]);
    assert!(second.next_page_token.is_empty());
    request.id = id("none");
    expect(versions.list_schema_versions(request.clone()).await, "PAGE_TOKEN_INVALID", &[]);
    request.page_token.clear();
    expect(versions.list_schema_versions(request).await, "SCHEMA_NOT_FOUND", &["none"]);
}

#[tokio::test]
async fn an_export_makes_the_same_documents_elsewhere() {
    let server = Server::start();
    let client = server.client().await;
    let documents = library().unwrap_or_default();
    if !documents.is_empty() {
        let request = pb::ImportSchemasRequest { documents, ..Default::default() };
        assert!(import(&client, request).await.unwrap().imported);
    }
    purchases(&client, "web").await;
    let digests = |schemas: &[pb::Schema]| {
        schemas.iter().map(|it| (it.id.clone(), it.digest.clone())).collect::<Vec<_>>()
    };
    let exported = export(&client, Vec::new()).await.unwrap();
    assert!(exported.iter().any(|it| it.id == EXPERIENCE_EVENT), "with what it refers to");
    let documents = exported.iter();
    let documents = documents
        .map(|it| pb::SchemaDocument { name: it.id.clone(), document: it.document.clone() });
    let other = Server::start();
    let there = other.client().await;
    let request = pb::ImportSchemasRequest { documents: documents.collect(), ..Default::default() };
    assert!(import(&there, request).await.unwrap().imported);
    assert_eq!(digests(&export(&there, Vec::new()).await.unwrap()), digests(&exported));

    // A version brings along the versions that it was compiled with.
    let leaf = |title: &str| json!({"$id": id("leaf"), "title": title});
    client.register(leaf("old").to_string()).await.unwrap();
    let top = json!({"$id": id("top"), "items": {"$ref": id("leaf")}});
    client.register(top.to_string()).await.unwrap();
    client.register(leaf("new").to_string()).await.unwrap();
    let begin = |version| vec![pb::SchemaReference { id: id("top"), version }];
    for (version, title) in [(1, "old"), (2, "new"), (0, "new")] {
        let exported = export(&client, begin(version)).await.unwrap();
        let shown: Vec<_> = exported.iter().map(|it| (&*it.id, &*it.title)).collect();
        assert_eq!(shown, [(&*id("leaf"), title), (&*id("top"), "")]);
    }
    expect(export(&client, begin(3)).await, "SCHEMA_NOT_FOUND", &["version 3"]);
    let many = vec![pb::SchemaReference::default(); 1001];
    expect(export(&client, many).await, "ARGUMENT_OUT_OF_BOUNDS", &["schemas", "1001"]);
}

#[tokio::test]
async fn a_document_in_use_is_not_deleted_and_a_deleted_one_stays_so() {
    let server = Server::start();
    let client = server.client().await;
    let group = json!({"$id": id("group"), "properties": {"x": {}}});
    let schema = json!({"$id": id("schema"),
        "allOf": [{"$ref": EXPERIENCE_EVENT}, {"$ref": id("group")}]});
    let both = vec![document("schema", &schema), document("group", &group)];
    let request = pb::ImportSchemasRequest { documents: both, ..Default::default() };
    import(&client, request).await.unwrap();
    client.create("web", &id("schema")).await.unwrap();

    let status = delete(&client, &id("schema"), "").await.unwrap_err();
    let users = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(users.len(), 1);
    assert_eq!(users[0].description, "dataset `web`");
    expect(Err::<(), _>(status), "SCHEMA_IN_USE", &["dataset `web`"]);
    let user = format!("schema `{}` version 1", id("schema"));
    expect(delete(&client, &id("group"), "").await, "SCHEMA_IN_USE", &[&user]);
    expect(delete(&client, EXPERIENCE_EVENT, "").await, "SCHEMA_BUILT_IN", &[]);
    expect(delete(&client, &id("none"), "").await, "SCHEMA_NOT_FOUND", &[]);

    let request = pb::DeleteDatasetRequest { name: "web".into(), ..Default::default() };
    client.datasets.clone().delete_dataset(request).await.unwrap();
    expect(delete(&client, &id("schema"), "0.0").await, "ETAG_MISMATCH", &[]);
    let dry =
        pb::DeleteSchemaRequest { id: id("schema"), validate_only: true, ..Default::default() };
    client.schemas.clone().delete_schema(dry).await.unwrap();
    let etag = get(&client, &id("schema"), 0).await.unwrap().etag;
    delete(&client, &id("schema"), &etag).await.unwrap();
    delete(&client, &id("group"), "").await.unwrap();

    let server = Server::start_on(server.kill());
    let client = server.client().await;
    for name in ["schema", "group"] {
        expect(get(&client, &id(name), 0).await, "SCHEMA_NOT_FOUND", &[]);
        expect(client.create("web", &id(name)).await, "SCHEMA_NOT_FOUND", &[]);
    }
    // Its versions are not used again.
    let again = client.register(group.to_string()).await.unwrap().schema.unwrap();
    assert_eq!(again.version, 2);
    client.verify().await.unwrap();
}

#[tokio::test]
async fn a_deprecated_document_is_hidden_and_still_judges() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let say = |successor: &str, reason: &str| pb::DeprecateSchemaRequest {
        id: PURCHASE.into(),
        successor: successor.into(),
        reason: reason.into(),
        ..Default::default()
    };
    let said = deprecate(&client, say(EXPERIENCE_EVENT, "too narrow")).await.unwrap();
    assert_eq!(said.status(), pb::SchemaStatus::Deprecated);
    let again = deprecate(&client, say(EXPERIENCE_EVENT, "too narrow")).await.unwrap();
    assert_eq!(again, said, "the same again changes nothing");
    let mut stale = say("", "other");
    stale.etag = "0.0".into();
    expect(deprecate(&client, stale).await, "ETAG_MISMATCH", &[]);
    expect(deprecate(&client, say(&id("none"), "")).await, "SCHEMA_NOT_FOUND", &["none"]);
    expect(deprecate(&client, say(PURCHASE, "")).await, "ARGUMENT_INVALID", &["successor"]);
    let long = "x".repeat(1025);
    expect(deprecate(&client, say("", &long)).await, "ARGUMENT_INVALID", &["reason", "1025"]);
    let mut both = say("", "why");
    both.undo = true;
    expect(deprecate(&client, both).await, "ARGUMENT_INVALID", &["undo"]);
    let mut built_in = say("", "");
    built_in.id = EXPERIENCE_EVENT.into();
    expect(deprecate(&client, built_in).await, "SCHEMA_BUILT_IN", &[]);

    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let request = || pb::ListSchemasRequest { exclude_built_in: true, ..Default::default() };
    assert!(listed(&client, request()).await.is_empty());
    client.append("web", &[crate::support::events::purchase_text("e", "a@b.c")]).await.unwrap();
    // A new version of it is deprecated too, until that is taken back.
    let mut next = purchase_schema();
    next["title"] = json!("Purchase 2");
    client.register(next.to_string()).await.unwrap();
    let now = get(&client, PURCHASE, 0).await.unwrap();
    assert_eq!((now.version, now.deprecation), (2, said.deprecation));
    let undo = pb::DeprecateSchemaRequest { id: PURCHASE.into(), undo: true, ..Default::default() };
    let undone = deprecate(&client, undo).await.unwrap();
    assert_eq!((undone.status(), undone.deprecation), (pb::SchemaStatus::Active, None));
    assert_eq!(listed(&client, request()).await, [PURCHASE]);
}
