//! Many documents at once.

use milepost::grpc::pb::{self, import_result::Outcome};
use serde_json::{Value, json};
use tonic::Status;

use super::get;
use crate::support::{
    Client, Server,
    errors::{expect, seen, status_of},
    events::EXPERIENCE_EVENT,
    skipped, xdm,
};

pub(super) fn document(name: &str, document: &Value) -> pb::SchemaDocument {
    pb::SchemaDocument { name: name.into(), document: document.to_string() }
}

pub(crate) async fn import(
    client: &Client,
    request: pb::ImportSchemasRequest,
) -> Result<pb::ImportSchemasResponse, Status> {
    Ok(client.schemas.clone().import_schemas(request).await?.into_inner())
}

pub(crate) fn all(documents: &[pb::SchemaDocument]) -> pb::ImportSchemasRequest {
    pb::ImportSchemasRequest { documents: documents.to_vec(), ..Default::default() }
}

fn id(name: &str) -> String {
    format!("https://example.com/import/{name}")
}

/// A document whose property `p` is another's.
fn refers(name: &str, to: &str) -> pb::SchemaDocument {
    let reference = json!({"$ref": id(to)});
    document(name, &json!({"$id": id(name), "title": name, "properties": {"p": reference}}))
}

fn outcomes(response: &pb::ImportSchemasResponse) -> Vec<Outcome> {
    response.results.iter().map(pb::ImportResult::outcome).collect()
}

fn reason(result: &pb::ImportResult) -> (String, Vec<(String, String)>) {
    let seen = seen(&status_of(result.error.as_ref().unwrap()));
    (seen.reason, seen.fields)
}

#[tokio::test]
async fn documents_refer_to_each_other_in_any_order_and_in_circles() {
    let server = Server::start();
    let client = server.client().await;
    let documents = [refers("a", "b"), refers("b", "c"), refers("c", "a")];
    let first = import(&client, all(&documents)).await.unwrap();
    assert!(first.imported);
    assert_eq!(outcomes(&first), [Outcome::Created; 3]);
    assert_eq!(first.results[0].name, "a");
    let a = get(&client, &id("a"), 0).await.unwrap();
    let references: Vec<_> = a.references.iter().map(|it| (&*it.id, it.version)).collect();
    assert_eq!(references, [(&*id("b"), 1), (&*id("c"), 1)]);
    // The same again changes nothing, also after a restart.
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let again = import(&client, all(&documents)).await.unwrap();
    assert_eq!(outcomes(&again), [Outcome::Unchanged; 3]);
    assert!(again.imported && again.results.iter().all(|it| it.version == 1));
    // A circle that does not go deeper is refused, at each document that it goes through.
    let circle = |name: &str, to: &str| {
        document(name, &json!({"$id": id(name), "allOf": [{"$ref": id(to)}]}))
    };
    let refused = import(&client, all(&[circle("x", "y"), circle("y", "x")])).await.unwrap();
    for result in &refused.results {
        assert_eq!(reason(result).0, "REFERENCE_CYCLE");
    }
}

#[tokio::test]
async fn one_that_is_refused_holds_up_all_unless_told_to_keep_going() {
    let server = Server::start();
    let client = server.client().await;
    let documents = [
        refers("good", "leaf"),
        document("leaf", &json!({"$id": id("leaf"), "type": "string"})),
        refers("dangling", "none"),
        document(
            "pointer",
            &json!({"$id": id("pointer"), "items": {"$ref": id("leaf") + "#/definitions/no"}}),
        ),
        refers("above", "dangling"),
        document("twice-1", &json!({"$id": id("twice"), "title": "1"})),
        document("twice-2", &json!({"$id": id("twice"), "title": "2"})),
        pb::SchemaDocument { name: "broken".into(), document: "{".into() },
        document("nameless", &json!({"title": "no id"})),
        document("mistyped", &json!({"$id": id("mistyped"), "properties": {"p": {"type": 1}}})),
    ];
    let response = import(&client, all(&documents)).await.unwrap();
    assert!(!response.imported);
    let expected = [
        ("REFERENCE_UNRESOLVED", "document/properties/p/$ref"),
        ("REFERENCE_UNRESOLVED", "document/items/$ref"),
        ("REFERENCE_UNRESOLVED", "document"),
        ("SCHEMA_ID_REPEATED", "document/$id"),
        ("SCHEMA_ID_REPEATED", "document/$id"),
        ("SCHEMA_INVALID", "document"),
        ("SCHEMA_INVALID", "document/$id"),
        ("SCHEMA_INVALID", "document/properties/p/type"),
    ];
    assert_eq!(outcomes(&response)[..2], [Outcome::Held; 2]);
    for (result, (wanted, field)) in response.results[2..].iter().zip(expected) {
        assert_eq!(result.outcome(), Outcome::Refused, "{result:?}");
        let (reason, fields) = reason(result);
        assert_eq!((&*reason, &*fields[0].0), (wanted, field), "{}: {fields:?}", result.name);
    }
    let twice = reason(&response.results[5]).1;
    assert!(twice[0].1.contains("`twice-2`"), "{twice:?}");
    expect(get(&client, &id("good"), 0).await, "SCHEMA_NOT_FOUND", &[]);

    let mut request = all(&documents);
    request.keep_going = true;
    request.validate_only = true;
    let dry = import(&client, request.clone()).await.unwrap();
    expect(get(&client, &id("good"), 0).await, "SCHEMA_NOT_FOUND", &[]);
    request.validate_only = false;
    let response = import(&client, request).await.unwrap();
    assert_eq!(outcomes(&dry), outcomes(&response));
    assert!(response.imported);
    assert_eq!(outcomes(&response)[..3], [Outcome::Created, Outcome::Created, Outcome::Refused]);
    get(&client, &id("good"), 1).await.unwrap();
    // What the refused ones referred to may come later.
    let later = [refers("dangling", "none"), refers("above", "dangling"), refers("none", "leaf")];
    assert_eq!(outcomes(&import(&client, all(&later)).await.unwrap()), [Outcome::Created; 3]);
}

#[tokio::test]
async fn a_change_renews_what_refers_to_it() {
    let server = Server::start();
    let client = server.client().await;
    let leaf = |max: u32| json!({"$id": id("leaf"), "type": "string", "maxLength": max});
    let lost = json!({"$id": id("lost"), "items": {"$ref": id("leaf") + "#/definitions/x"}});
    let mut with_x = leaf(1);
    with_x["definitions"] = json!({"x": {}});
    let documents = [refers("top", "mid"), refers("mid", "leaf"), document("leaf", &with_x)];
    import(&client, all(&documents)).await.unwrap();
    client.register(lost.to_string()).await.unwrap();
    let response = client.register(leaf(5).to_string()).await.unwrap();
    let renewed: Vec<_> = response.renewed.iter().map(|it| (&*it.id, it.version)).collect();
    assert_eq!(renewed, [(&*id("mid"), 2), (&*id("top"), 2)]);
    assert_eq!(response.left_behind, [id("lost")]);
    // The latest judges by the new one, the version before by the old one.
    let version = |version| {
        let (client, id) = (client.clone(), id("top"));
        async move {
            let top = get(&client, &id, version).await.unwrap();
            top.references.into_iter().map(|it| it.version).collect::<Vec<_>>()
        }
    };
    assert_eq!(version(1).await, [1, 1]);
    assert_eq!(version(0).await, [2, 2]);
    assert_eq!(get(&client, &id("lost"), 0).await.unwrap().version, 1);
}

#[tokio::test]
async fn bounds_are_kept() {
    let server = Server::start();
    let client = server.client().await;
    expect(import(&client, all(&[])).await, "ARGUMENT_OUT_OF_BOUNDS", &["documents", "2000"]);
    let many = vec![pb::SchemaDocument::default(); 2001];
    expect(import(&client, all(&many)).await, "ARGUMENT_OUT_OF_BOUNDS", &["2001", "2000"]);
    // Each refers to the next, and so to all after it.
    let chain: Vec<_> = (0..450).map(|n| refers(&n.to_string(), &(n + 1).to_string())).collect();
    let mut chain = all(&chain);
    chain.documents.push(document("450", &json!({"$id": id("450")})));
    let outcome = import(&client, chain).await;
    expect(outcome, "ARGUMENT_OUT_OF_BOUNDS", &["documents", "100000"]);
}

/// Killed while it imports: everything is there or nothing.
#[tokio::test]
async fn a_kill_leaves_all_or_nothing() {
    let documents: Vec<_> = (0..400)
        .map(|n| {
            let name = n.to_string();
            let text = "x".repeat(4096);
            document(&name, &json!({"$id": id(&name), "title": name, "description": text}))
        })
        .collect();
    let mut server = Server::start();
    for round in 0..4 {
        let client = server.client().await;
        let (request, importing) = (all(&documents), client.clone());
        let import = tokio::spawn(async move { import(&importing, request).await.is_ok() });
        // Each round a little later.
        for _ in 0..round * 3 {
            client.status().await.unwrap();
        }
        server = Server::start_on(server.kill());
        let answered = import.await.unwrap();
        let client = server.client().await;
        let request = pb::ListSchemasRequest {
            page_size: 1000,
            exclude_built_in: true,
            ..Default::default()
        };
        let listed = client.schemas.clone().list_schemas(request).await.unwrap().into_inner();
        let there = listed.schemas.len();
        assert!(there == 400 || there == 0 && !answered, "{there} of 400, answered: {answered}");
        client.verify().await.unwrap();
    }
}

/// The documents of the public library, in wire form.
pub(crate) fn library() -> Option<Vec<pb::SchemaDocument>> {
    let Some(data) = xdm() else {
        skipped("no XDM library; name its directory in MILEPOST_XDM");
        return None;
    };
    let mut folders = vec![data.join("schemas/xed")];
    let mut documents = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let document = std::fs::read_to_string(&path).unwrap();
                documents.push(pb::SchemaDocument { name: path.display().to_string(), document });
            }
        }
    }
    Some(documents)
}

#[tokio::test]
async fn the_public_library_is_imported_at_once_and_stays_after_a_restart() {
    let Some(documents) = library() else { return };
    let server = Server::start();
    let client = server.client().await;
    let response = import(&client, all(&documents)).await.unwrap();
    assert!(response.imported);
    assert!(response.results.iter().all(|it| it.outcome() == Outcome::Created));
    let version = get(&client, EXPERIENCE_EVENT, 0).await.unwrap();
    assert_eq!((version.version, version.built_in), (2, false));
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let again = import(&client, all(&documents)).await.unwrap();
    assert!(again.results.iter().all(|it| it.outcome() == Outcome::Unchanged));
    assert_eq!(get(&client, EXPERIENCE_EVENT, 0).await.unwrap(), version);
}
