//! Disks that fail: one that takes no more, and one that gives back other bytes.

use std::{fs::File, os::unix::fs::FileExt as _};

use milepost::grpc::pb;
use serde_json::json;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{
    Server,
    client::{by_identity, json_of, reading},
    errors::{expect, seen},
    events::{PURCHASE, Random, purchase, purchases},
};

/// An event that does not compress.
fn incompressible(random: &mut Random, id: &str) -> String {
    let mut event = purchase(id, "a@b.c");
    let noise: Vec<String> = (0..4_000).map(|_| random.below(u64::MAX).to_string()).collect();
    event["note"] = json!(noise.concat());
    event.to_string()
}

#[tokio::test]
async fn a_failed_write_poisons_the_store_and_loses_nothing() {
    let mut random = Random::seeded("poison", 7);
    let server = Server::start();
    purchases(&server.client().await, "web").await;
    let server = Server::start_on_small_disk(server.stop().await, 12 * 1024);
    let client = server.client().await;
    let mut acknowledged = Vec::new();
    let failed = loop {
        let payload = incompressible(&mut random, &format!("e{}", acknowledged.len()));
        match client.append("web", &[&payload]).await {
            Ok(answer) => acknowledged.push((answer.results[0].position, payload)),
            Err(status) => break status,
        }
        assert!(acknowledged.len() < 1_000, "the disk is never full");
    };
    eprintln!("{} events until: {failed:?}", acknowledged.len());
    assert!(!acknowledged.is_empty());
    assert_eq!(seen(&failed).reason, "STORE_POISONED");

    // Every write is refused, every read goes on.
    let again = client.append("web", &[purchase("small", "a@b.c").to_string()]).await;
    expect(again, "STORE_POISONED", &[]);
    expect(client.create("other", PURCHASE).await, "STORE_POISONED", &[]);
    let read = client.read(reading(by_identity("Email", "a@b.c"))).await.unwrap();
    assert_eq!(read.len(), acknowledged.len());
    assert_eq!(client.status().await.unwrap().state(), pb::StoreState::Poisoned);
    let mut health = HealthClient::new(client.channel.clone());
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    assert!(!server.log().contains("panicked"), "{}", server.log());

    // With room again, all is there and the failed append can be sent once more.
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    let all = client.read_all().await;
    for ((position, payload), event) in acknowledged.iter().zip(&all) {
        assert_eq!((event.position, json_of(event)), (*position, payload.as_str()));
    }
    assert!(all.len() <= acknowledged.len() + 1, "the failed append is there once or not at all");
    client.append("web", &[purchase("small", "a@b.c").to_string()]).await.unwrap();
}

#[tokio::test]
async fn a_poisoned_server_still_ends_when_told() {
    let mut random = Random::seeded("poison", 8);
    let server = Server::start();
    purchases(&server.client().await, "web").await;
    let server = Server::start_on_small_disk(server.stop().await, 8 * 1024);
    let client = server.client().await;
    for n in 0.. {
        let payload = incompressible(&mut random, &format!("e{n}"));
        if client.append("web", &[payload]).await.is_err() {
            break;
        }
    }
    server.terminate();
    let (status, dir) = server.wait().await;
    eprintln!("a poisoned server ends with {status}");
    let server = Server::start_on(dir);
    let count = server.client().await.count(pb::EventFilter::default()).await.unwrap();
    assert!(count > 0);
}

/// Whatever is damaged: events may be out of reach, but the server must not serve a shorter log as if
/// it were the whole one, and give its positions to other events.
#[tokio::test]
async fn a_damaged_store_is_not_served_as_a_shorter_one() {
    let mut random = Random::seeded("damage", 9);
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    for n in 0..40 {
        let payload = incompressible(&mut random, &format!("e{n}"));
        client.append("web", &[payload]).await.unwrap();
    }
    let dir = server.stop().await;
    let db = dir.data().join("store/db");
    let file = File::options().write(true).open(db).unwrap();
    file.write_all_at(&[0xa5; 64], file.metadata().unwrap().len() / 10).unwrap();
    drop(file);
    match Server::try_start_on(dir) {
        Err(said) => assert!(said.contains("damaged") || said.contains("corrupt"), "{said}"),
        Ok(server) => assert_eq!(server.client().await.last_position().await, 40),
    }
}
