//! Every line of `docs/shell.md`, run in order against a fresh server by a real gRPC client.
//!
//! `grpcurl` is `tests/clients/grpcurl.mjs`, which maps its calls to `buf curl` (the mapping stands
//! there); `milepost` is the binary under test.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Server, root, skipped, text_of, tools};

/// A command of the page, and what the page says it prints.
#[derive(Debug, Default)]
struct Block {
    line: usize,
    script: String,
    /// JSON values on standard output.
    json: Option<String>,
    /// Lines on standard output, or on standard error when the command fails.
    text: Option<String>,
}

/// The page's fences: `sh` begins a block, `json` and `text` tell what it prints.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let content: Vec<&str> =
            lines.by_ref().map(|(_, it)| it).take_while(|it| *it != "```").collect();
        let content = content.join("\n");
        match language {
            "sh" => blocks.push(Block { line: at + 2, script: content, ..Block::default() }),
            "json" => blocks.last_mut().unwrap().json = Some(content),
            "text" => blocks.last_mut().unwrap().text = Some(content),
            // How `Server` starts it, too.
            "console" => assert_eq!(content, "milepost serve --data-dir ./milepost-data"),
            other => panic!("line {}: what is to happen with `{other}`?", at + 1),
        }
    }
    blocks
}

/// Runs a block; what differs from the page.
fn check(block: &Block, dir: &Path, path: &str, server: &str, buf: &Path) -> Result<(), String> {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &block.script])
        .current_dir(dir)
        .env("PATH", path)
        .env("MILEPOST_SERVER", server)
        .env("BUF", buf)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let differs = |why: &str| {
        let Block { line, script, .. } = block;
        Err(format!("line {line}: {why}\n{script}\n-- printed:\n{out}-- complained:\n{err}"))
    };
    if !output.status.success() && block.text.is_none() {
        return differs(&output.status.to_string());
    }
    if let Some(wanted) = &block.json {
        let Ok(found) = values(&out) else { return differs("not JSON") };
        let wanted = values(wanted).map_err(|error| format!("line {}: {error}", block.line))?;
        let same = wanted.len() == found.len()
            && wanted.iter().zip(&found).all(|(wanted, found)| is_like(wanted, found));
        if !same {
            return differs("other values");
        }
    }
    if let Some(wanted) = &block.text {
        let found = if output.status.success() { &out } else { &err };
        if !lines_are_like(&wanted.lines().collect::<Vec<_>>(), &found.lines().collect::<Vec<_>>())
        {
            return differs("other lines");
        }
    }
    Ok(())
}

fn values(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

/// Objects may have more members than shown; `…` in a list stands for any elements.
fn is_like(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().all(|(key, it)| found.get(key).is_some_and(|found| is_like(it, found)))
        }
        (Value::Array(wanted), Value::Array(found)) => match wanted.split_last() {
            Some((Value::String(last), first)) if last == "…" => {
                found.len() >= first.len() && first.iter().zip(found).all(|(a, b)| is_like(a, b))
            }
            _ => {
                wanted.len() == found.len() && wanted.iter().zip(found).all(|(a, b)| is_like(a, b))
            }
        },
        (Value::String(wanted), Value::String(found)) => line_is_like(wanted, found),
        _ => wanted == found,
    }
}

/// A line of `…` alone stands for any lines.
fn lines_are_like(wanted: &[&str], found: &[&str]) -> bool {
    match wanted {
        [] => found.is_empty(),
        ["…", rest @ ..] => (0..=found.len()).any(|skip| lines_are_like(rest, &found[skip..])),
        [line, rest @ ..] => {
            found.first().is_some_and(|it| line_is_like(line, it))
                && lines_are_like(rest, &found[1..])
        }
    }
}

/// `…` within a line stands for any characters.
fn line_is_like(wanted: &str, found: &str) -> bool {
    let Some((start, rest)) = wanted.split_once('…') else { return wanted == found };
    let Some(found) = found.strip_prefix(start) else { return false };
    found
        .char_indices()
        .map(|(at, _)| at)
        .chain([found.len()])
        .any(|at| line_is_like(rest, &found[at..]))
}

#[test]
fn every_line_of_the_shell_page_does_what_the_page_says() {
    let buf = match tools::buf() {
        Ok(buf) => buf,
        Err(reason) => return skipped(&reason),
    };
    let server = Server::start();
    let bin = server.dir().path("bin");
    fs::create_dir(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_milepost"), bin.join("milepost")).unwrap();
    let shim = root().join("tests/clients/grpcurl.mjs");
    let script = format!("#!/bin/sh\nexec node '{}' \"$@\"\n", shim.display());
    fs::write(bin.join("grpcurl"), script).unwrap();
    fs::set_permissions(bin.join("grpcurl"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let work = server.dir().path("work");
    fs::create_dir(&work).unwrap();

    let blocks = blocks(&text_of("docs/shell.md"));
    assert!(blocks.len() > 30, "only {} commands were found", blocks.len());
    let wrong: Vec<String> = blocks
        .iter()
        .filter_map(|block| check(block, &work, &path, server.address(), &buf).err())
        .collect();
    eprintln!("{} commands of docs/shell.md were run", blocks.len());
    assert!(wrong.is_empty(), "docs/shell.md:\n{}", wrong.join("\n\n"));
}

#[test]
fn every_method_of_the_api_is_on_the_shell_page() {
    let page = text_of("docs/shell.md");
    for file in crate::support::files_below("proto/milepost/v1", "proto") {
        let proto = fs::read_to_string(&file).unwrap();
        let methods = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        for method in methods.map(|it| it.split('(').next().unwrap()) {
            assert!(
                page.contains(&format!("Service/{method}\n"))
                    || page.contains(&format!("Service/{method} ")),
                "no line calls {method}"
            );
        }
    }
}

#[test]
fn wildcards_stand_for_what_differs() {
    assert!(line_is_like("a…c…", "abbcd") && !line_is_like("a…c", "abbcd"));
    assert!(lines_are_like(&["a", "…", "d"], &["a", "b", "c", "d"]));
    assert!(!lines_are_like(&["a", "…", "d"], &["a", "b", "c"]));
    let found = serde_json::json!({"a": [1, 2, 3], "b": "xyz", "c": 1});
    assert!(is_like(&serde_json::json!({"a": [1, "…"], "b": "x…"}), &found));
    assert!(!is_like(&serde_json::json!({"a": [1, 2]}), &found));
}
