//! Large changes of the catalog: the rows that one adds are written before it, some at a time.
//!
//! A batch of sled's is written in one go. If it is large, sled writes over old segments on the way, and takes copies of
//! what still counted in them for durable that are not (see [`Disk::wrote`]). So new rows are written and
//! synced one by one, and the change itself, which then is small, makes them count. Until then a *draft* names them,
//! and an opening after a crash takes them away.

use crate::storage::{StorageError, catalog::kind, disk::Disk};

/// Bytes of new rows that need no draft: on their way through sled's pages they grow fivefold at most, to less than
/// what [`Disk::wrote`] lets pass without a sync.
pub(super) const WITHOUT_DRAFT_BYTES: usize = 128 * 1024;
/// Bytes of keys in one row of a draft.
const ROW_BYTES: usize = 16 * 1024;

/// A row: key and value.
pub(super) type NewRow = (Vec<u8>, Vec<u8>);

/// Writes new rows, durably, and before them a draft; the keys of the draft, for the change to take away.
pub(super) fn write(
    tree: &sled::Tree,
    disk: &Disk,
    rows: &[NewRow],
) -> Result<Vec<Vec<u8>>, StorageError> {
    let mut parts = vec![Vec::new()];
    for (key, _) in rows {
        if parts.last().is_some_and(|part: &Vec<u8>| part.len() >= ROW_BYTES) {
            parts.push(Vec::new());
        }
        let length = u16::try_from(key.len())
            .map_err(|_long| StorageError::corrupt("a catalog key of more than 64 KiB"))?;
        if let Some(part) = parts.last_mut() {
            part.extend_from_slice(&length.to_be_bytes());
            part.extend_from_slice(key);
        }
    }
    let mut drafts = Vec::with_capacity(parts.len());
    for (number, part) in (0_u32..).zip(parts) {
        let mut key = vec![kind::DRAFT];
        key.extend_from_slice(&number.to_be_bytes());
        let bytes = part.len();
        tree.insert(&key, part)?;
        disk.wrote(bytes)?;
        drafts.push(key);
    }
    disk.sync()?;
    for (key, value) in rows {
        tree.insert(key, value.as_slice())?;
        disk.wrote(key.len() + value.len())?;
    }
    disk.sync()?;
    Ok(drafts)
}

/// Takes away what a change has left that was never made.
pub(super) fn remove(tree: &sled::Tree, disk: &Disk) -> Result<(), StorageError> {
    let mut drafts = Vec::new();
    for draft in tree.scan_prefix([kind::DRAFT]) {
        let (key, names) = draft?;
        let mut rest = names.as_ref();
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            let (name, after) = after
                .split_at_checked(length)
                .ok_or_else(|| StorageError::corrupt("a draft of the catalog is cut short"))?;
            tree.remove(name)?;
            disk.wrote(length)?;
            rest = after;
        }
        drafts.push(key);
    }
    if drafts.is_empty() {
        return Ok(());
    }
    // The rows first: what names them stays until they are gone.
    disk.sync()?;
    for key in drafts {
        tree.remove(key)?;
    }
    disk.sync()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::storage::{
        catalog::{CatalogBatch, CatalogStore, draft},
        disk::Poison,
        pb::SchemaRecord,
    };

    fn open(directory: &std::path::Path) -> CatalogStore {
        CatalogStore::open(directory, Arc::new(Poison::default())).unwrap()
    }

    fn schemas(numbers: std::ops::Range<u32>) -> Vec<SchemaRecord> {
        let document = "x".repeat(1024);
        let record =
            |number| SchemaRecord { number, document: document.clone(), ..Default::default() };
        numbers.map(record).collect()
    }

    fn batch(records: &[SchemaRecord]) -> CatalogBatch {
        let mut batch = CatalogBatch::default();
        for record in records {
            batch.put_schema(record);
        }
        batch
    }

    fn numbers(store: &CatalogStore) -> Vec<u32> {
        store.read().unwrap().schemas.iter().map(|it| it.number).collect()
    }

    #[test]
    fn a_large_change_is_there_whole_and_leaves_no_draft() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        store.write(batch(&schemas(0..2000))).unwrap();
        // Some rows are new, some are not.
        store.write(batch(&schemas(1500..4000))).unwrap();
        assert_eq!(numbers(&store), (0..4000).collect::<Vec<_>>());
        drop(store);
        let store = open(directory.path());
        assert_eq!(numbers(&store), (0..4000).collect::<Vec<_>>());
        assert_eq!(store.tree.scan_prefix([super::kind::DRAFT]).count(), 0);
    }

    #[test]
    fn a_change_that_was_never_made_is_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        store.write(batch(&schemas(0..10))).unwrap();
        let rows: Vec<_> = batch(&schemas(10..5000)).rows;
        let rows: Vec<_> = rows.into_iter().map(|(key, value)| (key, value.unwrap())).collect();
        let drafts = draft::write(&store.tree, &store.disk, &rows).unwrap();
        assert!(drafts.len() > 1);
        // As if killed here.
        drop(store);
        let store = open(directory.path());
        assert_eq!(numbers(&store), (0..10).collect::<Vec<_>>());
        store.write(batch(&schemas(10..20))).unwrap();
        drop(store);
        assert_eq!(numbers(&open(directory.path())), (0..20).collect::<Vec<_>>());
    }
}
