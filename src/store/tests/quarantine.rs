//! What the quarantine knows of its rows.

use std::{collections::BTreeMap, fs, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use tempfile::TempDir;

use super::harness::{Harness, SCHEMA};
use crate::{
    model::{DatasetName, OnInvalid, Timestamp},
    storage::{RowChange, id_hash, pb::QuarantineRecord},
    store::{
        AppendMode, AppendOutcome, DatasetSettings, EventStore, QuarantineSelection, StoreOptions,
        sequencer::Writer,
    },
};

async fn set_up(harness: &Harness) {
    let settings = DatasetSettings {
        schema_id: SCHEMA.into(),
        on_invalid: OnInvalid::Quarantine,
        ..DatasetSettings::default()
    };
    let name = DatasetName::parse("name", "care").unwrap();
    harness.store.create_dataset(name, settings, false, false).await.unwrap();
}

/// An event that is refused for its price, or, if it has none, for its type.
fn wrong(id: u64, price: Option<u64>) -> String {
    let fault = price.map_or("\"eventType\": 1".to_owned(), |it| format!("\"price\": \"{it}\""));
    format!(r#"{{"_id": "e{id}", "timestamp": "2026-01-05T09:30:00Z", {fault}}}"#)
}

/// The ids under which events are set aside.
async fn set_aside(harness: &Harness, events: Vec<String>) -> Vec<u64> {
    let appended = harness.append("care", events, AppendMode::PerEvent).await.unwrap();
    let id = |it: &AppendOutcome| match it {
        AppendOutcome::Quarantined(id) => *id,
        AppendOutcome::Appended(_)
        | AppendOutcome::Tagged(..)
        | AppendOutcome::Duplicate(_)
        | AppendOutcome::Rejected(_)
        | AppendOutcome::Gone => panic!("{it:?}"),
    };
    appended.outcomes.iter().map(id).collect()
}

/// Ids by fingerprint, as groups say and as lists of them give.
async fn groups(store: &EventStore) -> BTreeMap<u64, Vec<u64>> {
    let all = QuarantineSelection { dataset: "care".into(), ..QuarantineSelection::default() };
    let mut groups = BTreeMap::new();
    for group in store.quarantine_groups(all.clone(), None, 100).await.unwrap().0 {
        let fingerprint = Some(group.fingerprint);
        let selection = QuarantineSelection { fingerprint, ..all.clone() };
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = store.quarantined(selection.clone(), after, 7).await.unwrap();
            ids.extend(page.iter().map(|it| it.id));
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(group.count, ids.len() as u64);
        assert_eq!(group.samples, ids[..ids.len().min(3)]);
        groups.insert(group.fingerprint, ids);
    }
    groups
}

fn key_of(part: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![2, part];
    for field in fields {
        key.extend_from_slice(field);
    }
    key
}

/// Puts the rows of a store into the form of version 3: one for each record where there are chunks now.
fn make_older(store: &EventStore) {
    let storage = &store.inner.storage;
    let mut changes = Vec::new();
    for (key, value) in storage.rows(&[2, 1], None, usize::MAX).unwrap() {
        let record = QuarantineRecord::decode(value).unwrap();
        let id = &key[2..];
        let (dataset, group) = (record.dataset.to_be_bytes(), record.fingerprint.to_be_bytes());
        let member = [&dataset[..], &group, id];
        changes.push(RowChange::put(key_of(4, &member), Bytes::new()));
        changes.push(if record.event_id.is_empty() {
            RowChange::put(key_of(5, &[&record.digest]), Bytes::copy_from_slice(id))
        } else {
            let hash = id_hash(record.dataset, &record.event_id).to_be_bytes();
            RowChange::put(key_of(6, &[&hash, &record.digest[..8], id]), Bytes::new())
        });
    }
    for part in [7, 8] {
        let rows = storage.rows(&[2, part], None, usize::MAX).unwrap();
        assert!(!rows.is_empty());
        changes.extend(rows.into_iter().map(|(key, _)| RowChange::remove(key)));
    }
    storage.commit_rows(Timestamp::EPOCH, changes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_version_3_has_its_quarantine_and_finds_what_is_sent_again() {
    let harness = Harness::new().await;
    set_up(&harness).await;
    let mut events: Vec<_> = (0..3_000).map(|it| wrong(it, (it % 3 > 0).then_some(it))).collect();
    events.extend(["{}".to_owned(), "[]".to_owned(), "no".to_owned()]);
    let mut ids = Vec::new();
    for some in events.chunks(1_000) {
        ids.extend(set_aside(&harness, some.to_vec()).await);
    }
    let known = groups(&harness.store).await;
    let totals = harness.store.quarantine_totals().unwrap();
    make_older(&harness.store);
    let directory = harness.close().await;
    fs::write(directory.path().join("FORMAT"), "milepost 3\n").unwrap();

    let mut harness = Harness::on(directory);
    for _ in 0..2 {
        for part in [4, 5, 6] {
            assert_eq!(harness.store.inner.storage.rows(&[2, part], None, 1).unwrap(), []);
        }
        assert_eq!(groups(&harness.store).await, known);
        for (some, ids) in events.chunks(1_000).zip(ids.chunks(1_000)) {
            assert_eq!(set_aside(&harness, some.to_vec()).await, ids);
        }
        assert_eq!(harness.store.quarantine_totals().unwrap(), totals);
        let number = harness.store.dataset("care").unwrap().number;
        let found = harness.store.quarantined_with_id(number, "e17").await.unwrap();
        assert_eq!(found.iter().map(|it| it.id).collect::<Vec<_>>(), [18]);
        harness.reopen().await;
    }
    let directory = harness.close().await;
    assert_eq!(fs::read_to_string(directory.path().join("FORMAT")).unwrap(), "milepost 4\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_events_than_the_quarantine_keeps_the_oldest_go() {
    let directory = TempDir::new().unwrap();
    let options = || StoreOptions { quarantine_events: 10, ..StoreOptions::default() };
    let harness = Harness::with(directory, options()).await;
    set_up(&harness).await;
    // Those of one write drop none of each other.
    let mut ids = Vec::new();
    for first in [0, 5, 10, 15, 20] {
        let some = (first..first + 5).map(|it| wrong(it, Some(it))).collect();
        ids.extend(set_aside(&harness, some).await);
    }
    assert_eq!(ids, (1..=25).collect::<Vec<_>>());
    let totals = harness.store.quarantine_totals().unwrap();
    assert_eq!((totals.records, totals.dropped), (10, 15));
    assert_eq!(
        groups(&harness.store).await.into_values().collect::<Vec<_>>(),
        [ids[15..].to_vec()]
    );
    // The last that is there, and one that has gone: that is a new one.
    let again = set_aside(&harness, vec![wrong(24, Some(24)), wrong(3, Some(3))]).await;
    assert_eq!(again, [25, 26]);
    assert_eq!(harness.store.quarantined_event(25).await.unwrap().times_received, 2);
    assert!(harness.store.inner.quarantine.is_true_to(&harness.store.inner.storage));
}

#[derive(Clone, Debug)]
enum Step {
    /// Events by number, and whether each has a price.
    Send(Vec<(u64, bool)>),
    /// The oldest of what is there but for so many.
    Discard(usize, usize),
    Advance(u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let send = prop::collection::vec((0..40_u64, any::<bool>()), 1..30);
    let step = prop_oneof![
        4 => send.prop_map(Step::Send),
        2 => (0..10_usize, 1..8_usize).prop_map(|(skip, some)| Step::Discard(skip, some)),
        1 => (1..30_u64).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

/// A record: its id, how often it came, and when first.
type Known = BTreeMap<(u64, bool), (u64, u32, u64)>;

async fn run(steps: Vec<Step>) {
    let options = StoreOptions {
        quarantine_age: Duration::from_mins(1),
        retention_interval: Duration::from_hours(1),
        ..StoreOptions::default()
    };
    let mut harness = Harness::with(TempDir::new().unwrap(), options).await;
    set_up(&harness).await;
    let (mut known, mut next, mut now): (Known, u64, u64) = (Known::new(), 1, 0);
    for step in steps {
        match step {
            Step::Send(events) => {
                let texts = events.iter().map(|(id, priced)| wrong(*id, priced.then_some(*id)));
                let found = set_aside(&harness, texts.collect()).await;
                for (event, found) in events.iter().zip(found) {
                    let record = known.entry(*event).or_insert((next, 0, now));
                    next = next.max(record.0 + 1);
                    record.1 += 1;
                    assert_eq!(record.0, found);
                }
            }
            Step::Discard(skip, some) => {
                let mut ids: Vec<_> = known.values().map(|it| it.0).collect();
                ids.sort_unstable();
                let ids: Vec<_> = ids.into_iter().skip(skip).take(some).collect();
                if ids.is_empty() {
                    continue;
                }
                known.retain(|_, it| !ids.contains(&it.0));
                let wanted = ids.len() as u64;
                let selection = QuarantineSelection { ids, ..QuarantineSelection::default() };
                assert_eq!(harness.store.discard_quarantined(selection).await.unwrap(), wanted);
            }
            Step::Advance(seconds) => {
                now += seconds;
                harness.advance(i64::try_from(seconds * 1_000_000).unwrap());
                known.retain(|_, it| it.2 + 60 > now);
                while harness.store.write(Writer::expire_quarantined).await.unwrap() {}
            }
            Step::Reopen => harness.reopen().await,
        }
        let totals = harness.store.quarantine_totals().unwrap();
        assert_eq!(totals.records, known.len() as u64);
        let mut wanted: Vec<_> = known.values().map(|it| it.0).collect();
        wanted.sort_unstable();
        let mut found: Vec<_> = groups(&harness.store).await.into_values().flatten().collect();
        found.sort_unstable();
        assert_eq!(found, wanted);
        for (id, times, _) in known.values() {
            let record = harness.store.quarantined_event(*id).await.unwrap();
            assert_eq!(record.times_received, *times);
        }
        assert!(harness.store.inner.quarantine.is_true_to(&harness.store.inner.storage));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn whatever_happens_each_event_has_one_record_and_groups_have_theirs(steps in steps()) {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(run(steps));
    }
}
