use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;

fn at(number: u64) -> Position {
    Position::new(number)
}

/// Appends a frame of `count` positions from `first`, `bytes` long.
fn append(journal: &Journal, first: u64, count: u32, bytes: usize) -> Result<(), StorageError> {
    let mut buffer = FrameBuffer::with_capacity(bytes);
    buffer.extend(&body(first, bytes));
    journal.append(at(first), count, Timestamp::from_micros(7), &mut buffer).map(drop)
}

fn packed(last: u64) -> Holds {
    Holds { records: at(last), changes: 0 }
}

fn body(first: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|place| u8::try_from((first + place as u64) % 251).unwrap()).collect()
}

/// First positions of the frames that an opening gives.
fn firsts(directory: &TempDir, last: u64) -> Vec<u64> {
    let (_journal, frames) = Journal::open(directory.path(), packed(last)).unwrap();
    frames.iter().map(|frame| frame.first.get()).collect()
}

fn file_of(directory: &TempDir, number: u64) -> std::fs::File {
    let path = directory.path().join(format!("{number:012}"));
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn frames_come_back_in_order_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, frames) = Journal::open(directory.path(), Holds::default()).unwrap();
    assert!(frames.is_empty());
    for (first, count, bytes) in [(1, 1, 10), (2, 3, 1_000), (5, 1, 0), (6, 10, 100_000)] {
        append(&journal, first, count, bytes).unwrap();
    }
    drop(journal);
    let (journal, frames) = Journal::open(directory.path(), Holds::default()).unwrap();
    assert_eq!(frames[1].last(), at(4));
    assert_eq!(frames[1].record_time, Timestamp::from_micros(7));
    assert_eq!(frames[3].body, Bytes::from(body(6, 100_000)));
    append(&journal, 16, 1, 5).unwrap();
    drop(journal);
    assert_eq!(firsts(&directory, 0), [1, 2, 5, 6, 16]);
    assert_eq!(firsts(&directory, 3), [2, 5, 6, 16]);
}

#[test]
fn changes_of_the_table_keep_their_file() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path(), Holds::default()).unwrap();
    let change = |value: u8| RowChange::put(vec![1], vec![value; 3 * 1024 * 1024]);
    for round in 1..=6 {
        let mut buffer = FrameBuffer::with_capacity(0);
        buffer.extend(&body(round, 10));
        buffer.change([change(u8::try_from(round).unwrap())]);
        let (sequence, changes) =
            journal.append(at(round), 1, Timestamp::from_micros(7), &mut buffer).unwrap();
        assert_eq!(sequence, round);
        assert_eq!(changes.len(), 1);
        assert_eq!(buffer.into_body(), Bytes::from(body(round, 10)));
    }
    let mut buffer = FrameBuffer::with_capacity(0);
    buffer.change([RowChange::remove(vec![1])]);
    journal.append(at(7), 0, Timestamp::from_micros(7), &mut buffer).unwrap();
    journal.release(&packed(6)).unwrap();
    drop(journal);

    let (journal, frames) = Journal::open(directory.path(), packed(6)).unwrap();
    let sequences: Vec<_> = frames.iter().map(|frame| frame.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((frames[6].count, frames[6].last()), (0, at(6)));
    assert!(frames[6].body.is_empty() && !frames[6].has_after(Position::START));
    journal.release(&Holds { records: at(6), changes: 4 }).unwrap();
    drop(journal);
    let elsewhere = Holds { records: at(6), changes: 5 };
    let (journal, frames) = Journal::open(directory.path(), elsewhere).unwrap();
    let sequences: Vec<_> = frames.iter().map(|frame| frame.sequence).collect();
    assert_eq!(sequences, [6, 7]);
    // What is elsewhere goes on counting, also when no frame is left.
    drop(journal);
    let other = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(other.path(), Holds { records: at(6), changes: 7 }).unwrap();
    let mut buffer = FrameBuffer::with_capacity(0);
    buffer.change([RowChange::remove(vec![1])]);
    let written = journal.append(at(7), 0, Timestamp::from_micros(7), &mut buffer).unwrap();
    assert_eq!(written.0, 8);
}

#[test]
fn files_are_freed_and_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path(), Holds::default()).unwrap();
    for first in 1..=40 {
        append(&journal, first, 1, 1024 * 1024).unwrap();
        journal.release(&packed(first.saturating_sub(3))).unwrap();
        assert!(journal.figures().files <= 4, "{:?}", journal.figures());
    }
    drop(journal);
    let found = firsts(&directory, 37);
    assert_eq!(found, [38, 39, 40]);
}

#[test]
fn a_frame_larger_than_a_file_has_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path(), Holds::default()).unwrap();
    let large = usize::try_from(FILE_BYTES).unwrap() * 2 + 3;
    append(&journal, 1, 1, 10).unwrap();
    append(&journal, 2, 5, large).unwrap();
    append(&journal, 7, 1, 10).unwrap();
    assert_eq!(journal.figures().files, 3);
    drop(journal);
    assert_eq!(firsts(&directory, 0), [1, 2, 7]);
}

#[test]
fn a_torn_last_frame_is_as_if_it_never_was() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path(), Holds::default()).unwrap();
    append(&journal, 1, 1, 100).unwrap();
    append(&journal, 2, 1, 5_000).unwrap();
    drop(journal);
    file_of(&directory, 1).write_all_at(&[0xff; 9], 3_000).unwrap();
    assert_eq!(firsts(&directory, 0), [1]);
    let (journal, _) = Journal::open(directory.path(), Holds::default()).unwrap();
    append(&journal, 2, 1, 8).unwrap();
    drop(journal);
    assert_eq!(firsts(&directory, 0), [1, 2]);
}

#[test]
fn damage_before_the_last_frame_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path(), Holds::default()).unwrap();
    for first in 1..=20 {
        append(&journal, first, 1, 1024 * 1024).unwrap();
    }
    drop(journal);
    for (number, offset) in [(1, 2_000), (1, 0), (2, 0), (2, 7 * 1024 * 1024), (3, 60)] {
        let file = file_of(&directory, number);
        let path = directory.path().join(format!("{number:012}"));
        let sound = fs::read(&path).unwrap();
        file.write_all_at(&[sound[offset] ^ 1], offset as u64).unwrap();
        let refused = Journal::open(directory.path(), Holds::default());
        let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("damaged"), "file {number}, byte {offset}: {refused:?}");
        file.write_all_at(&[sound[offset]], offset as u64).unwrap();
    }
    let file = file_of(&directory, 2);
    file.set_len(3 * 1024 * 1024).unwrap();
    assert!(Journal::open(directory.path(), Holds::default()).is_err());
    drop(file);
    fs::remove_file(directory.path().join("000000000002")).unwrap();
    assert!(Journal::open(directory.path(), Holds::default()).is_err());
}

#[test]
fn commits_wait_for_the_packer_and_end_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path(), Holds::default()).unwrap();
    let megabyte = 1024 * 1024;
    let most = usize::try_from(BYTES_MAX).unwrap() / megabyte;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for first in 1..=2 * most {
                append(&journal, first as u64, 1, megabyte - 100)?;
            }
            Ok::<_, StorageError>(())
        });
        let full = || journal.figures().bytes >= BYTES_MAX;
        while !full() {
            std::thread::yield_now();
        }
        journal.release(&packed(40)).unwrap();
        journal.stop();
        assert!(matches!(writer.join().unwrap(), Err(StorageError::Poisoned(_))));
    });
}

/// Bodies of the frames that an opening after a kill gives.
fn bodies(directory: &TempDir) -> Vec<Bytes> {
    let (_journal, frames) = Journal::open(directory.path(), Holds::default()).unwrap();
    frames.into_iter().map(|frame| frame.body).collect()
}

#[test]
fn a_frame_written_ahead_grows_and_is_there_at_every_kill() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path(), Holds::default()).unwrap();
    let time = Timestamp::from_micros(7);
    let mut buffer = FrameBuffer::with_capacity(0);
    buffer.extend(&body(1, 10));
    let ahead = |buffer: &mut FrameBuffer, count| {
        journal.write_ahead(at(2), count, time, buffer, 1024 * 1024).unwrap()
    };
    assert!(!ahead(&mut buffer, 1), "there is no file yet");
    append(&journal, 1, 1, 10).unwrap();

    let mut buffer = FrameBuffer::with_capacity(0);
    let mut all = Vec::new();
    for count in 1..=4 {
        let more = body(count, 5 + usize::try_from(count).unwrap());
        buffer.extend(&more);
        all.extend(more);
        assert!(ahead(&mut buffer, u32::try_from(count).unwrap()));
        assert_eq!(bodies(&directory), [Bytes::from(body(1, 10)), Bytes::from(all.clone())]);
    }
    // A kill between new records and their header leaves the frame that was there.
    let end = 72 + 60 + all.len() as u64;
    file_of(&directory, 1).write_all_at(&[7; 100], end).unwrap();
    assert_eq!(bodies(&directory)[1], Bytes::from(all.clone()));
    // In the end it is a frame like any other.
    buffer.extend(&body(9, 90));
    all.extend(body(9, 90));
    let (sequence, _) = journal.append(at(2), 5, time, &mut buffer).unwrap();
    assert_eq!((sequence, buffer.into_body()), (2, Bytes::from(all.clone())));
    append(&journal, 7, 1, 20).unwrap();
    assert_eq!(firsts(&directory, 0), [1, 2, 7]);
    assert_eq!(bodies(&directory)[1], Bytes::from(all));
    let figures = journal.figures();
    assert_eq!((figures.files, figures.bytes), (1, FILE_BYTES));
}

#[test]
fn a_frame_goes_ahead_only_where_a_kill_cannot_tear_it() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path(), Holds::default()).unwrap();
    let ahead = |bytes_max| {
        let mut buffer = FrameBuffer::with_capacity(0);
        buffer.extend(&body(2, 10));
        journal.write_ahead(at(2), 1, Timestamp::from_micros(7), &mut buffer, bytes_max).unwrap()
    };
    // The next header would begin 40 bytes before the end of a page.
    append(&journal, 1, 1, 4096 - 60 - 40).unwrap();
    assert!(!ahead(1024));
    append(&journal, 2, 1, 100).unwrap();
    assert!(!ahead(FILE_BYTES), "the file has no room for that");
    assert!(ahead(1024));
}
