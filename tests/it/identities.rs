//! Identity namespaces, and the identities that events carry.

use milepost::grpc::pb;
use prost_types::FieldMask;
use serde_json::{Value, json};

use crate::support::{Client, Server, client::string_of, errors::expect, events::purchases};

async fn create(
    client: &Client,
    code: &str,
    namespace_type: pb::NamespaceType,
) -> Result<pb::Namespace, tonic::Status> {
    let namespace =
        pb::Namespace { code: code.into(), r#type: namespace_type.into(), ..Default::default() };
    let request = pb::CreateNamespaceRequest { namespace: Some(namespace), ..Default::default() };
    let response = client.identities.clone().create_namespace(request).await?;
    Ok(response.into_inner().namespace.unwrap())
}

async fn update(
    client: &Client,
    namespace: pb::Namespace,
    fields: &[&str],
) -> Result<pb::Namespace, tonic::Status> {
    let request = pb::UpdateNamespaceRequest {
        namespace: Some(namespace),
        update_mask: Some(FieldMask { paths: fields.iter().map(ToString::to_string).collect() }),
        validate_only: false,
    };
    let response = client.identities.clone().update_namespace(request).await?;
    Ok(response.into_inner().namespace.unwrap())
}

#[tokio::test]
async fn a_namespace_is_created_once_and_its_code_knows_no_case() {
    let server = Server::start();
    let client = server.client().await;
    let loyalty = create(&client, "Loyalty", pb::NamespaceType::CrossDevice).await.unwrap();
    assert_eq!(loyalty.display_name, "Loyalty");
    let again = create(&client, "Loyalty", pb::NamespaceType::CrossDevice).await.unwrap();
    assert_eq!(again, loyalty);
    for (code, namespace_type) in [
        ("Loyalty", pb::NamespaceType::Device),
        ("LOYALTY", pb::NamespaceType::CrossDevice),
        ("ecid", pb::NamespaceType::Cookie),
    ] {
        let outcome = create(&client, code, namespace_type).await;
        expect(outcome, "NAMESPACE_EXISTS", &[code]);
    }
    let long = "a".repeat(65);
    for code in ["", "a b", "é", "a/b", &long] {
        let outcome = create(&client, code, pb::NamespaceType::Device).await;
        expect(outcome, "ARGUMENT_INVALID", &["code"]);
    }
    let outcome = create(&client, "New", pb::NamespaceType::Unspecified).await;
    expect(outcome, "ARGUMENT_INVALID", &["type"]);

    let server = Server::start_on(server.kill());
    let request = pb::GetNamespaceRequest { code: "Loyalty".into() };
    let mut identities = server.client().await.identities;
    let kept = identities.get_namespace(request).await.unwrap().into_inner().namespace;
    assert_eq!(kept, Some(loyalty));
}

#[tokio::test]
async fn only_custom_namespaces_change_and_only_their_words() {
    let server = Server::start();
    let client = server.client().await;
    let loyalty = create(&client, "Loyalty", pb::NamespaceType::CrossDevice).await.unwrap();
    let named = pb::Namespace { display_name: "Loyalty card".into(), ..loyalty.clone() };
    let after = update(&client, named.clone(), &["display_name"]).await.unwrap();
    assert_eq!(after.display_name, "Loyalty card");
    expect(update(&client, named.clone(), &["display_name"]).await, "ETAG_MISMATCH", &[]);
    let free = pb::Namespace { etag: String::new(), ..named };
    expect(update(&client, free.clone(), &["type"]).await, "ARGUMENT_INVALID", &["type"]);
    let email = pb::Namespace { code: "Email".into(), ..free.clone() };
    expect(update(&client, email, &["display_name"]).await, "NAMESPACE_BUILT_IN", &["Email"]);
    let none = pb::Namespace { code: "None".into(), ..free };
    expect(update(&client, none, &["display_name"]).await, "NAMESPACE_NOT_FOUND", &["None"]);
    let request = pb::GetNamespaceRequest { code: "None".into() };
    let outcome = client.identities.clone().get_namespace(request).await;
    expect(outcome, "NAMESPACE_NOT_FOUND", &["None"]);
}

#[tokio::test]
async fn the_standard_namespaces_are_there_and_pages_list_all_once() {
    let server = Server::start();
    let client = server.client().await;
    create(&client, "Loyalty", pb::NamespaceType::CrossDevice).await.unwrap();
    let mut lists = Vec::new();
    for page_size in [0, 3, 1000] {
        let (mut listed, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListNamespacesRequest { page_size, page_token };
            let page = client.identities.clone().list_namespaces(request).await.unwrap();
            let page = page.into_inner();
            listed.extend(page.namespaces);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        lists.push(listed);
    }
    assert_eq!(lists[0], lists[1]);
    assert_eq!(lists[0], lists[2]);
    let find = |code: &str| lists[0].iter().find(|it| it.code == code);
    for (code, namespace_type) in [
        ("ECID", pb::NamespaceType::Cookie),
        ("Email", pb::NamespaceType::Email),
        ("Phone", pb::NamespaceType::Phone),
    ] {
        let namespace = find(code).unwrap_or_else(|| panic!("{code} is not there"));
        assert_eq!((namespace.r#type(), namespace.built_in), (namespace_type, true), "{code}");
    }
    assert!(!find("Loyalty").unwrap().built_in);
}

/// Sends one event with this identity map; what the store reads from it, or where it objects.
async fn check(client: &Client, id: &str, map: Value, expected: Result<&[&str], &str>) {
    let event =
        json!({"_id": id, "timestamp": "2026-11-20T17:26:04Z", "identityMap": map}).to_string();
    let answer = client.append("web", &[&event]).await;
    match expected {
        Ok(identities) => {
            let position = answer.unwrap().results[0].position;
            let stored = client.get(position).await.unwrap();
            let text = |it: &pb::Identity| {
                let (namespace, id) = (string_of(&it.namespace), string_of(&it.id));
                format!("{namespace}:{id}{}", if it.primary { "*" } else { "" })
            };
            let read: Vec<_> = stored.identities.iter().map(text).collect();
            assert_eq!(read, identities, "{map}");
        }
        Err(field) => {
            let status = answer.expect_err(&format!("{map} was taken"));
            let seen = crate::support::errors::seen(&status);
            let fields: Vec<_> = seen.fields.iter().map(|(field, _)| field.as_str()).collect();
            let wanted = format!("events[0].payload{field}");
            assert!(fields.iter().any(|it| *it == wanted), "{map}: {wanted} is not in {seen:?}");
        }
    }
}

#[tokio::test]
async fn identities_are_read_from_the_identity_map() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let many: Vec<_> = (0..21).map(|n| json!({"id": format!("i{n}")})).collect();
    let rows: Vec<(Value, Result<&[&str], &str>)> = vec![
        (json!({}), Ok(&[])),
        (json!({"Email": [{"id": "a@b.c", "primary": true}]}), Ok(&["Email:a@b.c*"])),
        (
            json!({"Phone": [{"id": "2"}, {"id": "1"}], "Email": [{"id": "z"}]}),
            Ok(&["Email:z", "Phone:1", "Phone:2"]),
        ),
        (json!({"GAID": [{"id": "7"}, {"id": "7"}]}), Ok(&["GAID:7"])),
        (
            json!({"ECID": [{"id": "12345678901234567890123456789012345678"}]}),
            Ok(&["ECID:12345678901234567890123456789012345678"]),
        ),
        (json!({"ECID": [{"id": "7"}]}), Err("/identityMap/ECID/0/id")),
        (
            json!({"ECID": [{"id": "1234567890123456789012345678901234567x"}]}),
            Err("/identityMap/ECID/0/id"),
        ),
        (json!({"Email": [{"id": " "}]}), Err("/identityMap/Email/0/id")),
        (json!({"Email": [{"id": "a"}, {"id": "Anonymous"}]}), Err("/identityMap/Email/1/id")),
        (json!({"CRM": [{"id": "null"}]}), Err("/identityMap/CRM/0/id")),
        (json!({"CRM": [{"id": "invalid"}]}), Err("/identityMap/CRM/0/id")),
        (json!({"Own-Thing_1": [{"id": "7"}]}), Ok(&["Own-Thing_1:7"])),
        (json!({"Email": {"id": "a"}}), Err("/identityMap/Email")),
        (json!({"Email": [{"id": 7}]}), Err("/identityMap/Email/0/id")),
        (json!({"Email": [{"id": "x".repeat(1025)}]}), Err("/identityMap/Email/0/id")),
        (
            json!({"Email": [{"id": "a", "primary": true}, {"id": "b", "primary": true}]}),
            Err("/identityMap"),
        ),
        (json!({"Email": many}), Err("/identityMap")),
        (json!([]), Err("/identityMap")),
    ];
    for (index, (map, expected)) in rows.into_iter().enumerate() {
        check(&client, &format!("e{index}"), map, expected).await;
    }
}
