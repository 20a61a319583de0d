use std::{ops::ControlFlow, path::Path};

use super::*;
use crate::{
    model::Timestamp,
    storage::pb::EventRecord,
    storage::{Block, FrameBuffer, Storage, StorageOptions, VerifyNews, encode_record, id_hash},
};

/// Tails of some hundred events, and a volume for each tail.
const OPTIONS: StorageOptions =
    StorageOptions { cache_bytes: 1024 * 1024, index_tail_events: 256, volume_events: 256 };

fn open(path: &Path) -> Storage {
    Storage::open(path, OPTIONS).unwrap()
}

/// Commits a group of so many events.
fn commit(storage: &Storage, count: u64) {
    let first = storage.log.newest().next();
    let records: Vec<_> = (0..count)
        .map(|place| EventRecord {
            dataset: 1,
            schema: 1,
            event_id: format!("e{}", first.plus(place)).into(),
            payload: "{}".into(),
            ..EventRecord::default()
        })
        .collect();
    let mut frame = FrameBuffer::with_capacity(0);
    let mut run = Vec::new();
    for record in &records {
        encode_record(record, &mut run);
    }
    frame.extend(&run);
    let (time, events) = (Timestamp::from_micros(7), u32::try_from(count).unwrap());
    storage.commit(first, events, time, &mut frame).unwrap();
    let run = Block::new(first, time, frame.into_body()).unwrap();
    let indexed = records.iter().enumerate().map(|(place, record)| {
        (first.plus(place as u64), id_hash(record.dataset, &record.event_id), record)
    });
    storage.publish(run, indexed).unwrap();
}

/// What a verification finds of the index and the log.
fn findings(storage: &Storage) -> Vec<String> {
    let mut found = Vec::new();
    let mut tell = |news: VerifyNews| {
        if let VerifyNews::Finding(finding) = news {
            found.push(finding.message);
        }
        ControlFlow::Continue(())
    };
    storage.verify(&mut tell).unwrap();
    // There is no catalog that knows the dataset.
    found.retain(|message| !message.contains("dataset") && !message.contains("schema"));
    found
}

/// A tail ends with a commit group. When a kill takes its segment and leaves its last block, the tail that is
/// made again ends with a block before that: no volume may end there, since the log is packed further.
#[test]
fn a_volume_does_not_end_behind_what_is_indexed() {
    let directory = tempfile::tempdir().unwrap();
    let storage = open(directory.path());
    commit(&storage, 250);
    commit(&storage, 23);
    {
        let mut packer = storage.packer();
        let end = storage.index.first_frozen().unwrap().span().until;
        assert_eq!(end.get(), 273);
        packer.pack(end, true).unwrap();
        packer.writing().unwrap().sync(end).unwrap();
    }
    drop(storage);
    let storage = open(directory.path());
    assert_eq!(storage.log.packed().get(), 273);
    assert_eq!(findings(&storage), [""; 0]);
    commit(&storage, 300);
    storage.packer().work(false).unwrap();
    assert_eq!(findings(&storage), [""; 0]);
    drop(storage);
    let storage = open(directory.path());
    assert_eq!(findings(&storage), [""; 0]);
    for position in 1..=573 {
        let hash = id_hash(1, format!("e{position}"));
        assert_eq!(storage.ids_with(hash).unwrap(), [Position::new(position)]);
    }
}
