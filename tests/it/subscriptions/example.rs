//! `examples/abandoned_carts.rs` and `.py`: two workers, killed, on a server that is killed, act exactly once.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use milepost::grpc::pb;

use super::status;
use crate::support::{
    Server,
    client::by_dataset,
    events::{PURCHASE, purchases},
    root, skipped, tools,
};

/// A worker; ends with this value.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Worker {
    /// `program` is one with its first arguments.
    fn start(program: &[&Path], address: &str, name: &str) -> Self {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args([address, "store", "messages", "1", name]);
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

fn event(id: &str, event_type: &str, person: &str) -> String {
    serde_json::json!({
        "_id": id,
        "timestamp": "2026-11-20T17:26:04Z",
        "eventType": event_type,
        "identityMap": {"Email": [{"id": person, "primary": true}]}
    })
    .to_string()
}

/// Cargo builds examples with the tests, beside the binary.
fn rust_example() -> Option<PathBuf> {
    let binary = Path::new(env!("CARGO_BIN_EXE_milepost")).with_file_name("examples");
    let binary = binary.join("abandoned_carts");
    if !binary.is_file() {
        skipped("the example is not built; `cargo test` without a target filter builds it");
        return None;
    }
    Some(binary)
}

#[tokio::test]
async fn two_workers_write_to_whoever_did_not_buy_once_though_all_are_killed() {
    let Some(binary) = rust_example() else { return };
    let program: &[&Path] = &[&binary];
    acts_once(program, program).await;
}

#[tokio::test]
async fn so_do_workers_in_python_and_both_together() {
    let python = match tools::python() {
        Ok(python) => python,
        Err(reason) => return skipped(&reason),
    };
    let script = root().join("examples/abandoned_carts.py");
    let program: &[&Path] = &[&python, &script];
    acts_once(program, program).await;
    let Some(binary) = rust_example() else { return };
    acts_once(program, &[&binary]).await;
}

/// One worker of each of two programs; the first one is killed, then the server, and another comes.
async fn acts_once(one: &[&Path], other: &[&Path]) {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "store").await;
    client.create("messages", PURCHASE).await.unwrap();
    let people: Vec<String> = (0..60).map(|it| format!("p{it}")).collect();
    let carts: Vec<_> = people
        .iter()
        .map(|it| event(&format!("cart-{it}"), "commerce.productListAdds", it))
        .collect();
    client.append("store", &carts).await.unwrap();
    let buyers: Vec<_> = people.iter().step_by(3).collect();
    let bought: Vec<_> = buyers
        .iter()
        .map(|it| event(&format!("purchase-{it}"), "commerce.purchases", it))
        .collect();
    client.append("store", &bought).await.unwrap();

    let address = server.address().to_owned();
    let first = Worker::start(one, &address, "one");
    let _second = Worker::start(other, &address, "two");
    let messages = |client: crate::support::Client| async move {
        client.count(by_dataset("messages")).await.unwrap()
    };
    while messages(client.clone()).await < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(first);
    let server = Server::start_at(server.kill(), &address);
    let _third = Worker::start(one, &address, "three");
    let client = server.client().await;
    while status(&client, "abandoned-carts").await.lag_events > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let request =
        pb::ReadEventsRequest { filter: Some(by_dataset("messages")), ..Default::default() };
    let sent = client.read(request).await.unwrap();
    let mut to: Vec<_> = sent.iter().map(|it| it.identities[0].id.clone()).collect();
    to.sort();
    let mut expected: Vec<_> = people.iter().filter(|it| !buyers.contains(it)).cloned().collect();
    expected.sort();
    assert_eq!(to, expected);
}
