//! Datasets: created once, changed with care, listed in pages.

use milepost::grpc::pb;
use prost_types::FieldMask;

use crate::support::{
    Client, Server,
    errors::expect,
    events::{PURCHASE, purchase_schema, purchase_text, purchases},
};

async fn update(
    client: &Client,
    dataset: pb::Dataset,
    fields: &[&str],
) -> Result<pb::Dataset, tonic::Status> {
    let request = pb::UpdateDatasetRequest {
        dataset: Some(dataset),
        update_mask: Some(FieldMask { paths: fields.iter().map(ToString::to_string).collect() }),
        validate_only: false,
    };
    Ok(client.datasets.clone().update_dataset(request).await?.into_inner().dataset.unwrap())
}

#[tokio::test]
async fn creating_again_is_fine_and_creating_otherwise_is_not() {
    let server = Server::start();
    let client = server.client().await;
    client.register(purchase_schema().to_string()).await.unwrap();
    let first = client.create("web", PURCHASE).await.unwrap();
    assert_eq!(client.create("web", PURCHASE).await.unwrap(), first);
    let other = pb::Dataset {
        name: "web".into(),
        schema_id: PURCHASE.into(),
        description: "other".into(),
        ..Default::default()
    };
    expect(client.create_dataset(other).await, "DATASET_EXISTS", &["web"]);
    let server = Server::start_on(server.kill());
    assert_eq!(server.client().await.create("web", PURCHASE).await.unwrap(), first);
}

#[tokio::test]
async fn names_and_settings_are_checked() {
    let server = Server::start();
    let client = server.client().await;
    client.register(purchase_schema().to_string()).await.unwrap();
    let long = "a".repeat(65);
    for name in ["", "Web", "1web", "-web", "web shop", "wéb", &long] {
        expect(client.create(name, PURCHASE).await, "ARGUMENT_INVALID", &["name"]);
    }
    client.create(&"a".repeat(64), PURCHASE).await.unwrap();
    expect(client.create("web", "https://example.com/none").await, "SCHEMA_NOT_FOUND", &["none"]);
    expect(client.create("web", "").await, "ARGUMENT_INVALID", &["schema_id"]);
    let mut dataset =
        pb::Dataset { name: "web".into(), schema_id: PURCHASE.into(), ..Default::default() };
    dataset.on_invalid = 9;
    expect(client.create_dataset(dataset.clone()).await, "ARGUMENT_INVALID", &["on_invalid"]);
    dataset.on_invalid = 0;
    dataset.schema_version = 9;
    dataset.set_version_policy(pb::VersionPolicy::Pinned);
    expect(client.create_dataset(dataset).await, "SCHEMA_NOT_FOUND", &["9"]);
    expect(client.dataset("web").await, "DATASET_NOT_FOUND", &["web"]);
}

#[tokio::test]
async fn an_update_touches_only_the_fields_of_its_mask() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let before = client.dataset("web").await.unwrap();
    let wanted = pb::Dataset {
        name: "web".into(),
        description: "the web shop".into(),
        labels: [("team".to_owned(), "checkout".to_owned())].into(),
        etag: before.etag.clone(),
        ..Default::default()
    };
    let after = update(&client, wanted.clone(), &["description"]).await.unwrap();
    assert_eq!(after.description, "the web shop");
    assert!(after.labels.is_empty());
    assert_ne!(after.etag, before.etag);
    expect(update(&client, wanted.clone(), &["labels"]).await, "ETAG_MISMATCH", &[]);
    let fresh = pb::Dataset { etag: after.etag, ..wanted.clone() };
    assert_eq!(update(&client, fresh, &["labels"]).await.unwrap().labels.len(), 1);
    let free = pb::Dataset { etag: String::new(), ..wanted };
    for field in ["name", "schema_id", "etag", "stats", "nonsense"] {
        expect(update(&client, free.clone(), &[field]).await, "ARGUMENT_INVALID", &[field]);
    }
    expect(update(&client, free.clone(), &[]).await, "ARGUMENT_INVALID", &["update_mask"]);
    let none = pb::Dataset { name: "none".into(), ..free };
    expect(update(&client, none, &["description"]).await, "DATASET_NOT_FOUND", &["none"]);
}

#[tokio::test]
async fn a_dataset_counts_what_it_holds() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("shop", PURCHASE).await.unwrap();
    let payloads: Vec<_> = (0..3).map(|n| purchase_text(&format!("e{n}"), "a@b.c")).collect();
    client.append("web", &payloads[..1]).await.unwrap();
    client.append("shop", &payloads[..1]).await.unwrap();
    client.append("web", &payloads[1..]).await.unwrap();
    let bytes = payloads.iter().map(|it| it.len() as u64).sum();
    let expected = pb::DatasetStats {
        quarantined_events: 0,
        tagged_events: 0,
        refused: Vec::new(),
        events: 3,
        first_position: 1,
        last_position: 4,
        payload_bytes: bytes,
    };
    assert_eq!(client.dataset("web").await.unwrap().stats, Some(expected.clone()));
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    assert_eq!(client.dataset("web").await.unwrap().stats, Some(expected));
}

#[tokio::test]
async fn pages_list_every_dataset_once_in_order() {
    let server = Server::start();
    let client = server.client().await;
    client.register(purchase_schema().to_string()).await.unwrap();
    let names: Vec<String> = (0..23).map(|n| format!("d{n:02}")).collect();
    for name in names.iter().rev() {
        client.create(name, PURCHASE).await.unwrap();
    }
    for page_size in [0, 1, 5, 23, 1000] {
        let (mut listed, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListDatasetsRequest { page_size, page_token };
            let page = client.datasets.clone().list_datasets(request).await.unwrap().into_inner();
            assert!(page_size == 0 || page.datasets.len() <= usize::try_from(page_size).unwrap());
            listed.extend(page.datasets.into_iter().map(|it| it.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, names, "pages of {page_size}");
    }
}

#[tokio::test]
async fn events_of_a_deleted_dataset_vanish_and_positions_stay_used() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.create("shop", PURCHASE).await.unwrap();
    client.append("web", &[purchase_text("e1", "a@b.c")]).await.unwrap();
    client.append("shop", &[purchase_text("e1", "a@b.c")]).await.unwrap();
    let delete = pb::DeleteDatasetRequest { name: "web".into(), force: true, ..Default::default() };
    client.datasets.clone().delete_dataset(delete.clone()).await.unwrap();
    expect(client.datasets.clone().delete_dataset(delete).await, "DATASET_NOT_FOUND", &["web"]);
    expect(client.get(1).await, "EVENT_NOT_FOUND", &[]);
    assert_eq!(client.count(pb::EventFilter::default()).await.unwrap(), 1);
    // A new dataset of that name is another one.
    client.create("web", PURCHASE).await.unwrap();
    assert_eq!(client.dataset("web").await.unwrap().stats.unwrap().events, 0);
    let answer = client.append("web", &[purchase_text("e1", "a@b.c")]).await.unwrap();
    assert_eq!(answer.results[0].position, 3);
    let server = Server::start_on(server.kill());
    let positions: Vec<_> =
        server.client().await.read_all().await.iter().map(|it| it.position).collect();
    assert_eq!(positions, [2, 3]);
}
