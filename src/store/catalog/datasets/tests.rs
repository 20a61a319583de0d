//! Floors in the catalog.

use super::*;
use crate::storage::CatalogRecords;

fn catalog(records: Vec<DatasetRecord>) -> Catalog {
    Catalog::load(CatalogRecords { datasets: records, ..Default::default() }).unwrap()
}

fn record(number: u32, name: &str) -> DatasetRecord {
    DatasetRecord { number, name: name.into(), ..Default::default() }
}

fn written<T>(change: Change<T>) -> Catalog {
    match change {
        Change::Write { next, .. } => *next,
        Change::Nothing(_) => panic!("nothing was written"),
    }
}

#[test]
fn a_dataset_that_was_deleted_before_there_were_floors_stays_gone() {
    let catalog = catalog(vec![
        record(1, "kept"),
        DatasetRecord { deleted: true, ..record(2, "gone") },
        DatasetRecord { floor: 7, ..record(3, "trimmed") },
    ]);
    let floors = catalog.floors();
    let found = [1, 2, 3].map(|number| floors.of(number).get());
    assert_eq!(found, [0, u64::MAX, 7]);
}

#[test]
fn a_floor_only_rises_and_snapshots_that_agree_share_it() {
    let first = catalog(vec![record(1, "a"), record(2, "b")]);
    let (at_5, at_3) = (Position::new(5), Position::new(3));
    let seen = first.dataset("a").unwrap();
    let second = written(first.raise_floors(&[(Arc::clone(seen), at_5)]));
    let again = second.raise_floors(&[(Arc::clone(seen), at_3)]);
    assert!(matches!(again, Change::Nothing(())));
    let stale = second.trim_dataset(seen, None, at_5).unwrap();
    assert!(matches!(stale, Change::Nothing(None)));
    let seen = second.dataset("a").unwrap();
    let etag = seen.etag();
    let third = written(second.trim_dataset(seen, Some(&etag), at_3).unwrap());
    assert_eq!(third.floors().of(1), at_5);
    assert!(Arc::ptr_eq(third.floors(), second.floors()));
    assert_eq!(third.dataset("a").unwrap().etag(), etag);
    assert_eq!(DatasetRecord { floor: 5, ..record(1, "a") }, third.dataset("a").unwrap().record());
}
