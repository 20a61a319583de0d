//! What the tests share: the server as a process, a client, events to send, errors to expect.

pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod errors;
pub(crate) mod events;
#[allow(dead_code, unreachable_pub, reason = "unit tests include it, too")]
pub(crate) mod judge;
pub(crate) mod known;
pub(crate) mod load;
pub(crate) mod platter;
pub(crate) mod raw;
pub(crate) mod server;
pub(crate) mod tools;
pub(crate) mod trace;
pub(crate) mod wire;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

pub(crate) use client::Client;
pub(crate) use server::Server;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub(crate) fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The XDM test data beside the repository, which is not part of it.
pub(crate) fn xdm() -> Option<PathBuf> {
    let dir = std::env::var_os("MILEPOST_XDM")
        .map_or_else(|| root().join("../shared/xdm"), PathBuf::from);
    dir.join("payloads.jsonl").is_file().then_some(dir)
}

/// Says that something was not tested, and why. Not by `eprintln`, which the harness swallows when a
/// test passes.
pub(crate) fn skipped(reason: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "\nSKIPPED: {reason}").unwrap();
}

/// The files below a folder of the repository, without `target` and hidden folders.
pub(crate) fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "node_modules"].contains(&&*name) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Copies what is in a directory into one that is empty.
pub(crate) fn copy_below(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_below(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A path as the repository names it.
pub(crate) fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
