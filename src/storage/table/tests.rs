use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn open(directory: &TempDir) -> Result<Table, StorageError> {
    fs::create_dir_all(directory.path().join("table")).unwrap();
    Table::open(directory.path(), Arc::default())
}

fn key(number: u8) -> Vec<u8> {
    vec![kind::SUBSCRIPTION + number % 3, number]
}

#[derive(Clone, Debug)]
enum Step {
    /// Changes of one frame: key and value.
    Change(Vec<(u8, Option<u8>)>),
    Move,
    /// Opens again what is on disk, and replays the frames after it.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = prop::collection::vec((0..40_u8, prop::option::of(any::<u8>())), 1..6);
    let step = prop_oneof![
        6 => change.prop_map(Step::Change),
        1 => Just(Step::Move),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

fn check(table: &Table, model: &BTreeMap<Vec<u8>, Vec<u8>>) {
    for number in 0..40 {
        let found = table.get(&key(number)).unwrap().map(|value| value.to_vec());
        assert_eq!(found.as_ref(), model.get(&key(number)));
    }
    for first in [kind::SUBSCRIPTION, kind::QUARANTINE, 3, 4] {
        let wanted: Vec<_> = model.iter().filter(|(key, _)| key[0] == first).collect();
        let mut found: Vec<Row> = Vec::new();
        loop {
            let after = found.last().map(|(key, _)| key.clone());
            let page = table.scan(&[first], after.as_deref(), 3).unwrap();
            assert!(page.len() <= 3);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        let found: Vec<_> =
            found.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let wanted: Vec<_> = wanted.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        assert_eq!(found, wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_are_what_the_frames_made_them(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let mut table = open(&directory).unwrap();
        let mut model = BTreeMap::new();
        let mut frames: Vec<Vec<RowChange>> = Vec::new();
        for step in steps {
            match step {
                Step::Change(changes) => {
                    let mut frame = Vec::new();
                    for (number, value) in changes {
                        let key = key(number);
                        if let Some(value) = value {
                            let bytes = vec![value; usize::from(value)];
                            model.insert(key.clone(), bytes.clone());
                            frame.push(RowChange::put(key, bytes));
                        } else {
                            model.remove(&key);
                            frame.push(RowChange::remove(key));
                        }
                    }
                    frames.push(frame.clone());
                    table.apply(frames.len() as u64, frame);
                }
                Step::Move => table.move_to_disk().unwrap(),
                Step::Reopen => {
                    drop(table);
                    table = open(&directory).unwrap();
                    let kept = usize::try_from(table.kept()).unwrap();
                    for (at, frame) in frames.iter().enumerate().skip(kept) {
                        table.apply(at as u64 + 1, frame.clone());
                    }
                }
            }
            check(&table, &model);
        }
        table.move_to_disk().unwrap();
        prop_assert_eq!(table.kept(), frames.len() as u64);
        check(&table, &model);
        prop_assert_eq!(table.lock().bytes, 0);
    }
}

#[test]
fn a_table_that_came_back_older_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let table = open(&directory).unwrap();
    table.apply(7, vec![RowChange::put(key(1), vec![1])]);
    table.move_to_disk().unwrap();
    drop(table);
    assert_eq!(open(&directory).unwrap().kept(), 7);
    fs::write(directory.path().join(WITNESS), "8\n").unwrap();
    let refused = open(&directory).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("damaged"), "{refused:?}");
    fs::write(directory.path().join(WITNESS), "eight\n").unwrap();
    assert!(open(&directory).is_err());
}
