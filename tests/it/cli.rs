//! The command line: what it prints, what it exits with, and what it survives.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Output, Stdio},
};

use serde_json::Value;

use crate::support::{
    Server,
    client::json_of,
    events::{purchase_text, purchases},
    server::milepost,
    text_of,
};

/// Runs `milepost` against the server.
pub(crate) fn run(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut child = start(server, arguments);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn start(server: &Server, arguments: &[&str]) -> Child {
    let mut command = milepost();
    command.args(arguments).env("MILEPOST_SERVER", server.address());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it exits with, and words that it says on the way.
#[track_caller]
pub(crate) fn check(server: &Server, arguments: &[&str], status: i32, words: &[&str]) {
    let output = run(server, arguments, "");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: `{word}` is not in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn exit_codes_tell_what_went_wrong() {
    let server = Server::start();
    purchases(&server.client().await, "web").await;
    let rows: &[(&[&str], i32, &[&str])] = &[
        (&["status"], 0, &["SERVING"]),
        (&["top", "--times", "2"], 0, &["SERVING", "0 appended/s", "SUBSCRIPTION"]),
        (&["top", "none", "--times", "1"], 1, &["SUBSCRIPTION_NOT_FOUND"]),
        (&["get", "99"], 1, &["EVENT_NOT_FOUND"]),
        (&["count", "--type", "*"], 1, &["FILTER_INVALID"]),
        (&["dataset", "get", "none"], 1, &["DATASET_NOT_FOUND"]),
        (&["schema", "get", "https://example.com/none"], 1, &["SCHEMA_NOT_FOUND"]),
        (&["nonsense"], 2, &["nonsense"]),
        (&["dataset", "trim", "web", "--before", "9"], 1, &["POSITION_OUT_OF_RANGE"]),
        (&["dataset", "trim", "web", "--before", "1"], 0, &["0 events removed"]),
        (&["dataset", "trim", "web", "--before", "soon"], 2, &["a position"]),
        (&["dataset", "update", "web", "--age-by", "event-time"], 2, &["--max-age"]),
        (&["dataset", "update", "web", "--max-age", "0d"], 2, &["30d"]),
        (&["get", "x"], 2, &["--dataset"]),
        (&["read", "--identity", "nobody"], 2, &["NAMESPACE:ID"]),
        (&["read", "--server", "127.0.0.1:1"], 3, &["127.0.0.1:1"]),
        (&["append", "--dataset", "web", "none.ndjson"], 4, &["none.ndjson"]),
        (&["serve", "--cache-bytes", "3"], 78, &["cache_bytes", "1MiB"]),
        (&["serve", "--listen", "here"], 78, &["listen", "127.0.0.1:7373"]),
        (&["serve", "--config", "none.toml"], 78, &["none.toml"]),
        (&["serve", "--check-config"], 0, &["queue_bytes = 67108864"]),
    ];
    for (arguments, status, words) in rows {
        check(&server, arguments, *status, words);
    }
}

#[tokio::test]
async fn every_value_in_force_tells_where_it_comes_from() {
    let server = Server::start();
    let file = server.dir().path("milepost.toml");
    std::fs::write(&file, "# ours\nlog = \"warn\"\ndrain_timeout = 3\ncache_bytes = \"2MiB\"\n")
        .unwrap();
    let mut command = milepost();
    command.args(["serve", "--check-config", "--drain-timeout", "7", "--config"]).arg(&file);
    let output = command.env("MILEPOST_CACHE_BYTES", "4MiB").output().unwrap();
    let said = text(&output.stdout);
    for (line, source) in [
        ("drain_timeout = 7", "--drain-timeout"),
        ("cache_bytes = 4194304", "MILEPOST_CACHE_BYTES"),
        ("log = \"warn\"", "milepost.toml line 2"),
        ("listen = \"127.0.0.1:7373\"", "default"),
    ] {
        let found =
            said.lines().find(|it| it.starts_with(line)).unwrap_or_else(|| panic!("{said}"));
        assert!(found.ends_with(source), "{found}");
    }
    for (key, place) in
        [("lisen = 1", "line 1"), ("log = [", "line 1"), ("queue_bytes = 1", "line 1")]
    {
        std::fs::write(&file, key).unwrap();
        let mut command = milepost();
        let output = command.args(["serve", "--config"]).arg(&file).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{key}: {said}");
        assert!(said.contains(place), "{key}: {said}");
    }
}

#[tokio::test]
async fn an_append_tells_which_lines_were_refused() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let lines = [
        purchase_text("e1", "a@b.c"),
        "{\"_id\": \"e2\"}".into(),
        String::new(),
        "not json".into(),
        purchase_text("e3", "a@b.c"),
    ]
    .join("\n");
    let output = run(&server, &["append", "--dataset", "web"], &lines);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(client.last_position().await, 0, "a batch is stored whole or not at all");

    let arguments = ["append", "--dataset", "web", "--mode", "per-event", "--continue-on-error"];
    let output = run(&server, &arguments, &lines);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for word in ["timestamp", "2", "4"] {
        assert!(said.contains(word), "`{word}` is not in {said}");
    }
    let ids: Vec<_> = client.read_all().await.into_iter().map(|it| it.event_id).collect();
    assert_eq!(ids, ["e1", "e3"]);
}

#[tokio::test]
async fn read_prints_what_append_took() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let lines: Vec<String> = (0..250).map(|n| purchase_text(&format!("e{n}"), "a@b.c")).collect();
    let output =
        run(&server, &["append", "--dataset", "web", "--output", "json"], &lines.join("\n"));
    assert!(output.status.success(), "{output:?}");
    let all = client.read_all().await;
    assert_eq!(all.iter().map(json_of).collect::<Vec<_>>(), lines);
    let output = run(&server, &["read", "--identity", "Email:a@b.c", "--output", "json"], "");
    let printed = text(&output.stdout);
    let ids: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event_id"].take())
        .collect();
    assert_eq!(ids, (0..250).map(|n| format!("e{n}")).collect::<Vec<_>>());
}

/// The server is killed while a file is appended, and started again at the same address.
#[tokio::test]
async fn an_append_goes_on_when_the_server_comes_back() {
    const EVENTS: usize = 3_000;
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let lines: Vec<String> =
        (0..EVENTS).map(|n| purchase_text(&format!("e{n}"), "a@b.c")).collect();
    let file = server.dir().path("events.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let child = start(&server, &["append", "--dataset", "web", "--batch", "10", &file]);
    while client.last_position().await < 200 {
        tokio::task::yield_now().await;
    }
    let address = server.address().to_owned();
    let server = Server::start_at(server.kill(), &address);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let ids: Vec<_> =
        server.client().await.read_all().await.into_iter().map(|it| it.event_id).collect();
    assert_eq!(ids, (0..EVENTS).map(|n| format!("e{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_follow_goes_on_when_the_server_comes_back() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let batch = async |client: &crate::support::Client, from: usize| {
        let events: Vec<_> =
            (from..from + 10).map(|n| purchase_text(&format!("e{n}"), "a@b.c")).collect();
        client.append("web", &events).await.unwrap();
    };
    batch(&client, 0).await;
    let mut child =
        start(&server, &["follow", "--from", "beginning", "--limit", "30", "--output", "json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        for line in lines.by_ref() {
            let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if let Some(id) = message.pointer("/event/event_id") {
                return id.as_str().unwrap().to_owned();
            }
        }
        panic!("the follow ended");
    };
    let mut seen: Vec<String> = (0..10).map(|_| next()).collect();
    let address = server.address().to_owned();
    let server = Server::start_at(server.kill(), &address);
    batch(&server.client().await, 10).await;
    seen.extend((0..10).map(|_| next()));
    let server = Server::start_at(server.stop().await, &address);
    batch(&server.client().await, 20).await;
    seen.extend((0..10).map(|_| next()));
    assert_eq!(seen, (0..30).map(|n| format!("e{n}")).collect::<Vec<_>>());
    assert!(child.wait().unwrap().success());
}

/// The README's sixty seconds.
#[test]
fn the_demo_fills_a_server_and_the_readme_reads_it() {
    let server = Server::start();
    for round in ["appended", "duplicate"] {
        let output = run(&server, &["demo"], "");
        let said = text(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(said.matches(round).count(), 4, "{said}");
    }
    let readme = text_of("README.md");
    let shown = readme.lines().find_map(|line| line.strip_prefix("milepost read ")).unwrap();
    let arguments = shown.split('#').next().unwrap().split_whitespace();
    let arguments: Vec<&str> = ["read"].into_iter().chain(arguments).collect();
    let output = run(&server, &arguments, "");
    assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?} prints nothing");
}
