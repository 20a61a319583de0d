//! Damage is found, named, and what is sound can be saved.

use std::{
    collections::BTreeMap,
    env, fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    model::{Position, RecordedEvent},
    store::{
        AppendMode, Finding, FindingKind, Salvaged, Verified, VerifyNews, salvage,
        tests::harness::{Harness, event},
        verify_directory,
    },
};

/// The generator `SplitMix64` (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

async fn fill(harness: &Harness, from: u64, count: u64) {
    for first in (from..from + count).step_by(10) {
        let events = (first..(first + 10).min(from + count)).map(|number| {
            let person = format!("person-{}@example.com", number % 40);
            let kind = if number % 3 == 0 { "web.view" } else { "commerce.purchase" };
            event(&format!("event-{number}"), kind, &[("Email", &person)], number)
        });
        harness.advance(1_000);
        let dataset = if first % 20 == 0 { "one" } else { "two" };
        harness.append(dataset, events.collect(), AppendMode::Atomic).await.unwrap();
    }
}

/// Three volumes and some, the first one rewritten without what was deleted.
async fn filled() -> Harness {
    let harness = Harness::new().await;
    for dataset in ["one", "two", "gone"] {
        harness.create_dataset(dataset).await.unwrap();
    }
    let events = (0..30).map(|it| event(&format!("gone-{it}"), "web.view", &[], it));
    harness.append("gone", events.collect(), AppendMode::Atomic).await.unwrap();
    fill(&harness, 0, 100).await;
    harness.store.delete_dataset("gone".into(), None, true, false).await.unwrap();
    harness.compact().await;
    fill(&harness, 100, 400).await;
    harness
}

/// Checks a directory offline; what was found.
fn check_directory(directory: &Path) -> (Verified, Vec<Finding>) {
    let scratch = TempDir::new().unwrap();
    let mut findings = Vec::new();
    let done = verify_directory(directory, &scratch.path().join("scratch"), &mut |news| {
        if let VerifyNews::Finding(finding) = news {
            findings.push(finding);
        }
        ControlFlow::Continue(())
    });
    let done = done.unwrap();
    assert_eq!(done.findings, findings.len() as u64);
    (done, findings)
}

/// Saves what is sound of a directory, and opens it.
fn save(directory: &Path) -> (Salvaged, Harness) {
    let target = TempDir::new().unwrap();
    let done = salvage(directory, target.path(), &mut |_| ControlFlow::Continue(())).unwrap();
    let (verified, findings) = check_directory(target.path());
    assert_eq!(findings, [], "the salvaged store is not sound");
    assert_eq!(verified.events, done.read.events);
    (done, Harness::on(target))
}

fn copy_of(directory: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    copy_all(directory, copy.path());
    copy
}

fn copy_all(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(directory).into_iter().map(|it| (it.clone(), fs::read(it).unwrap())).collect()
}

/// What readers see of an event.
fn seen(event: &RecordedEvent) -> (u64, String, String, Value) {
    let payload = serde_json::from_slice(&event.payload).unwrap();
    (event.position.get(), event.dataset.to_string(), event.event_id.to_string(), payload)
}

/// A salvaged store holds every event but those that are told to be lost.
#[track_caller]
fn check_saved(original: &[RecordedEvent], saved: &[RecordedEvent], done: &Salvaged) {
    let is_lost = |position: Position| {
        done.losses.iter().any(|loss| loss.first <= position && position <= loss.last)
    };
    let expected: Vec<_> = original.iter().filter(|it| !is_lost(it.position)).map(seen).collect();
    assert_eq!(saved.iter().map(seen).collect::<Vec<_>>(), expected);
    let lost: u64 = done.losses.iter().map(|it| it.last.since(it.first.previous())).sum();
    assert_eq!(done.read.lost, lost);
}

#[tokio::test]
async fn a_sound_store_verifies_open_and_closed_and_is_not_changed() {
    let harness = filled().await;
    let (news, mut items) = tokio::sync::mpsc::channel(1);
    let mut found = Vec::new();
    let (done, ()) = tokio::join!(harness.store.verify(news), async {
        while let Some(item) = items.recv().await {
            found.extend(matches!(item, VerifyNews::Finding(_)).then_some(item));
        }
    });
    let done = done.unwrap();
    assert!(found.is_empty(), "{found:?}");
    assert_eq!((done.events, done.removed, done.lost), (500, 30, 0));
    assert_eq!((done.position, done.last_position), (Position::new(530), Position::new(530)));
    assert!(done.volumes >= 3 && done.segments >= 10, "{done:?}");

    let original = harness.read_all().await;
    let directory = harness.close().await;
    let before = contents(directory.path());
    let (done, findings) = check_directory(directory.path());
    assert_eq!((done.events, done.removed, done.lost, findings), (500, 30, 0, vec![]));
    let (done, saved) = save(directory.path());
    assert!(before == contents(directory.path()), "the directory was changed");
    assert_eq!((done.losses.len(), done.is_same_log, done.read.findings), (0, true, 0));
    check_saved(&original, &saved.read_all().await, &done);
    fill(&saved, 500, 20).await;
    assert_eq!(saved.store.last_position(), Position::new(550));
}

/// Every place in a file where these bytes are.
fn places(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    bytes.windows(wanted.len()).enumerate().filter(|it| it.1 == wanted).map(|it| it.0).collect()
}

/// Flips a bit in every copy of the block that begins at a position.
fn damage_block(directory: &Path, first: u64) -> u64 {
    let mut damaged = 0;
    for file in files(&directory.join("volumes")).into_iter().filter(|it| it.ends_with("db")) {
        let mut bytes = fs::read(&file).unwrap();
        for at in places(&bytes.clone(), b"MPB2") {
            if bytes.get(at + 16..at + 24) == Some(&first.to_be_bytes()) {
                bytes[at + 60] ^= 4;
                damaged += 1;
            }
        }
        fs::write(file, bytes).unwrap();
    }
    damaged
}

#[tokio::test]
async fn of_a_damaged_block_only_its_events_are_lost() {
    let harness = filled().await;
    let original = harness.read_all().await;
    let directory = harness.close().await;
    // A block whose damage does not also keep sled from what the index has of it.
    assert!(damage_block(directory.path(), 257) > 0);
    let (done, findings) = check_directory(directory.path());
    assert!(done.lost >= 16, "{findings:?}");
    let finding = findings.iter().find(|it| it.kind == FindingKind::Log).unwrap();
    assert!(finding.volume.is_some() && finding.first <= Position::new(257), "{finding:?}");

    let (done, saved) = save(directory.path());
    let [loss] = done.losses.as_slice() else { panic!("{:?}", done.losses) };
    assert_eq!((loss.first, loss.last), (Position::new(257), Position::new(272)));
    assert!(!done.is_same_log);
    let event = &loss.events[0];
    assert!(loss.first <= event.position && event.position <= loss.last, "{event:?}");
    assert!(event.terms.iter().any(|it| it.starts_with("identity `person-")), "{event:?}");
    check_saved(&original, &saved.read_all().await, &done);
    fill(&saved, 500, 10).await;
    assert_eq!(saved.store.last_position(), Position::new(540));
}

#[tokio::test]
async fn a_damaged_index_costs_no_event() {
    let harness = filled().await;
    let original = harness.read_all().await;
    let directory = harness.close().await;
    let mut damaged = 0;
    for file in files(&directory.path().join("volumes")).into_iter().filter(|it| it.ends_with("db"))
    {
        let mut bytes = fs::read(&file).unwrap();
        // Terms of identities stand in rows of the index as they are; blocks are compressed.
        for at in places(&bytes.clone(), b"\x03Email\0person-") {
            bytes[at + 2] ^= 1;
            damaged += 1;
        }
        fs::write(file, bytes).unwrap();
    }
    assert!(damaged > 0);
    let (_, findings) = check_directory(directory.path());
    assert!(!findings.is_empty());
    let (done, saved) = save(directory.path());
    assert_eq!(done.losses, []);
    check_saved(&original, &saved.read_all().await, &done);
}

#[tokio::test]
async fn without_its_catalog_a_store_keeps_its_events() {
    let harness = filled().await;
    let original = harness.read_all().await;
    let directory = harness.close().await;
    fs::remove_dir_all(directory.path().join("catalog")).unwrap();
    let (_, findings) = check_directory(directory.path());
    assert!(findings.iter().any(|it| it.kind == FindingKind::Catalog), "{findings:?}");
    let (done, saved) = save(directory.path());
    assert_eq!((done.losses.len(), done.made_up.len(), done.is_same_log), (0, 3, false));
    let saved = saved.read_all().await;
    assert_eq!(saved.len(), original.len());
    assert!(saved.iter().all(|it| it.dataset.starts_with("salvaged-")));
}

#[tokio::test]
async fn without_its_manifest_a_store_keeps_its_events() {
    let harness = filled().await;
    let original = harness.read_all().await;
    let directory = harness.close().await;
    fs::write(directory.path().join("volumes/VOLUMES"), "milepost volumes 9\n0 - x\n").unwrap();
    let (_, findings) = check_directory(directory.path());
    assert!(findings.iter().any(|it| it.kind == FindingKind::Directory), "{findings:?}");
    let (done, saved) = save(directory.path());
    assert_eq!(done.losses, []);
    check_saved(&original, &saved.read_all().await, &done);
}

/// Random flips anywhere: what is found is told, what is not found does no harm, and what is saved is
/// right. `MILEPOST_FLIPS` says how many.
#[tokio::test]
async fn no_flipped_bit_leads_to_a_wrong_event() {
    let number = |name: &str| env::var(name).ok().and_then(|it| it.parse::<u64>().ok());
    let seed = number("MILEPOST_SEED").unwrap_or(1);
    eprintln!("MILEPOST_SEED={seed}");
    let mut random = Random(seed);
    let harness = filled().await;
    let original = harness.read_all().await;
    let directory = harness.close().await;
    for _ in 0..number("MILEPOST_FLIPS").unwrap_or(8) {
        let damaged = copy_of(directory.path());
        let all = files(damaged.path());
        let sound = ["LOCK", "FORMAT", "spare"];
        let all: Vec<_> =
            all.into_iter().filter(|it| !sound.iter().any(|name| it.ends_with(name))).collect();
        let file = &all[random.below(all.len())];
        let mut bytes = fs::read(file).unwrap();
        let used = bytes.iter().rposition(|it| *it != 0).map_or(0, |it| it + 1);
        for _ in 0..=random.below(3) {
            let at = random.below(used.max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        fs::write(file, bytes).unwrap();
        let what = file.strip_prefix(damaged.path()).unwrap().display().to_string();
        let (verified, findings) = check_directory(damaged.path());
        let (done, saved) = save(damaged.path());
        eprintln!("{what}: {} findings, {} lost", verified.findings, done.read.lost);
        let made_up = !done.made_up.is_empty();
        if findings.is_empty() {
            assert_eq!((done.losses.len(), made_up), (0, false), "{what}");
        }
        let saved = saved.read_all().await;
        if !made_up {
            check_saved(&original, &saved, &done);
        }
    }
}
