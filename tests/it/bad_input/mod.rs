//! Bad input, each with its exact error; the server keeps serving and its memory stays bounded.

mod appends;
mod events;
mod lists;
mod load;
mod registry;
mod schemas;
mod transport;

use serde_json::{Value, json};

use crate::support::{
    Client, Server,
    events::{purchase, purchase_text},
};

const MIB: usize = 1024 * 1024;

/// The server still does its work, and nothing in it has panicked.
async fn serves(server: &Server, client: &Client, id: &str) {
    let answer = client.append("web", &[purchase_text(id, "a@b.c")]).await.unwrap();
    assert_eq!(client.get(answer.results[0].position).await.unwrap().event_id, id);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// An event with one member set to something else; `null` takes it away.
fn with(pointer: &str, value: Value) -> String {
    let mut event = purchase("bad", "a@b.c");
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = event.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.into(), value);
    }
    event.to_string()
}

/// A value within this many arrays.
fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

fn padded(bytes: usize) -> String {
    let shell = with("/note", json!(""));
    with("/note", json!("x".repeat(bytes - shell.len())))
}
