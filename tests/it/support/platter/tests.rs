use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{Platter, file::PAGE};
use crate::support::{events::Random, trace::Operation};

/// Cuts of one state; enough to meet everything that can happen.
const CUTS: u64 = 200;

fn path(name: &str) -> PathBuf {
    Path::new("/root").join(name)
}

fn create(file: u64, name: &str) -> Operation {
    Operation::Create { file, path: path(name) }
}

fn make_dir(file: u64, name: &str) -> Operation {
    Operation::MakeDir { file, path: path(name) }
}

fn write(file: u64, offset: usize, data: &[u8]) -> Operation {
    Operation::Write { file, offset: offset as u64, data: data.to_vec() }
}

fn rename(from: &str, to: &str) -> Operation {
    Operation::Rename { from: path(from), to: path(to) }
}

fn sync(file: u64) -> [Operation; 2] {
    [Operation::SyncBegin { file, number: 1 }, Operation::SyncEnd { number: 1 }]
}

/// Inode of the directory that the operations are about.
const DISK: u64 = 1;

/// What cuts after these operations leave of some files, each once and sorted; absent: no file.
fn left(
    operations: impl IntoIterator<Item = Operation>,
    names: &[&str],
) -> Vec<Vec<Option<Vec<u8>>>> {
    let empty = TempDir::new().unwrap();
    let mut platter = Platter::of(empty.path());
    platter.root = "/root".into();
    platter.by_inode.insert(DISK, 0);
    operations.into_iter().for_each(|it| platter.apply(it));
    let mut random = Random::from_seed(7);
    let cut = |_| {
        let into = TempDir::new().unwrap();
        platter.cut(&mut random, into.path());
        names.iter().map(|name| fs::read(into.path().join(name)).ok()).collect()
    };
    let mut left: Vec<_> = (0..CUTS).map(cut).collect();
    left.sort();
    left.dedup();
    left
}

#[test]
fn what_is_synced_is_there() {
    let name = [create(2, "a"), write(2, 0, b"abc")].into_iter();
    let operations = name.chain(sync(2)).chain(sync(DISK));
    assert_eq!(left(operations, &["a"]), [[Some(b"abc".to_vec())]]);
}

#[test]
fn a_name_needs_a_sync_of_its_directory() {
    let operations = [create(2, "a"), write(2, 0, b"abc")].into_iter().chain(sync(2));
    assert_eq!(left(operations, &["a"]), [[None], [Some(b"abc".to_vec())]]);
}

#[test]
fn a_name_in_a_directory_needs_that_of_the_directory() {
    let names = [make_dir(2, "d"), create(3, "d/a"), write(3, 0, b"abc")].into_iter();
    let operations = names.chain(sync(3)).chain(sync(2));
    assert_eq!(left(operations, &["d/a"]), [[None], [Some(b"abc".to_vec())]]);
}

#[test]
fn a_sync_covers_what_was_written_before_it_began() {
    let [begin, end] = sync(2);
    let operations = [create(2, "a"), write(2, 0, b"1"), begin, write(2, 1, b"2"), end].into_iter();
    let wanted = [b"1".as_slice(), b"1\0", b"12"].map(|it| vec![Some(it.to_vec())]);
    let found = left(operations.chain(sync(DISK)), &["a"]);
    assert!(found.iter().all(|it| wanted.contains(it)), "{found:?}");
    assert!(found.contains(&wanted[0]) && found.contains(&wanted[2]), "{found:?}");
}

#[test]
fn pages_are_written_in_any_order_and_torn_between_sectors() {
    let data = [1; 4 * PAGE];
    let operations = [create(2, "a"), write(2, 0, &[9; 4 * PAGE])].into_iter();
    let operations = operations.chain(sync(2)).chain(sync(DISK)).chain([write(2, 0, &data)]);
    let found = left(operations, &["a"]);
    let bytes = found.iter().map(|it| it[0].as_deref().unwrap());
    let old_before_new = bytes.clone().any(|it| it[0] == 9 && it[3 * PAGE] == 1);
    let torn = bytes.clone().any(|it| it[..PAGE].contains(&9) && it[..PAGE].contains(&1));
    let sectors_are_whole =
        bytes.clone().all(|it| it.chunks(512).all(|it| it.windows(2).all(|it| it[0] == it[1])));
    assert!(old_before_new && torn && sectors_are_whole);
    assert!(bytes.clone().all(|it| it.len() == data.len()));
}

#[test]
fn a_rename_replaces_the_old_file_or_not() {
    let old = [create(2, "a"), write(2, 0, b"old")].into_iter().chain(sync(2)).chain(sync(DISK));
    let new = [create(3, "b"), write(3, 0, b"new")].into_iter().chain(sync(3));
    let operations = old.chain(new).chain([rename("b", "a")]);
    let found = left(operations, &["a"]);
    assert_eq!(found, [[Some(b"new".to_vec())], [Some(b"old".to_vec())]]);
}

#[test]
fn a_rename_between_directories_never_loses_the_file() {
    let names = [make_dir(2, "d"), make_dir(3, "e"), create(4, "d/a"), write(4, 0, b"x")];
    let operations =
        names.into_iter().chain(sync(4)).chain(sync(2)).chain(sync(3)).chain(sync(DISK));
    let operations = operations.chain([rename("d/a", "e/a")]);
    let x = || Some(b"x".to_vec());
    assert_eq!(left(operations, &["d/a", "e/a"]), [[None, x()], [x(), None], [x(), x()]]);
}

#[test]
fn sizes_that_are_not_synced_may_be_any_that_there_was() {
    let operations = [create(2, "a"), write(2, 0, b"abcdef")].into_iter();
    let operations = operations
        .chain(sync(2))
        .chain(sync(DISK))
        .chain([Operation::Truncate { file: 2, size: 3 }]);
    let found = left(operations, &["a"]);
    assert!(found.contains(&vec![Some(b"abc".to_vec())]), "{found:?}");
    assert!(found.contains(&vec![Some(b"abcdef".to_vec())]), "{found:?}");
}
