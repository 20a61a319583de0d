//! Chunks that change together: rows with something for each of many ids; see `rows`.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Range,
};

use crate::{
    model::bits,
    storage::{RowChange, Storage},
    store::{Error, quarantine::rows},
};

/// Chunks as they are to be, over the rows.
#[derive(Default)]
pub(super) struct Chunks(BTreeMap<Vec<u8>, Vec<u8>>);

impl Chunks {
    /// Notes the mark of a record; 0: there is none any more.
    pub(super) fn put_mark(&mut self, storage: &Storage, id: u64, mark: u64) -> Result<(), Error> {
        let (key, at) = rows::mark(id);
        let mark = mark.to_be_bytes();
        let bytes = self.bytes(storage, key, at..at + mark.len())?;
        for (to, from) in bytes.iter_mut().zip(mark) {
            *to = from;
        }
        Ok(())
    }

    /// Puts an id into a group, or takes it out.
    pub(super) fn put_member(
        &mut self,
        storage: &Storage,
        (dataset, fingerprint): (u32, u64),
        id: u64,
        is_member: bool,
    ) -> Result<(), Error> {
        let (key, at, bit) = rows::member(dataset, fingerprint, id);
        for byte in self.bytes(storage, key, at..at + 1)? {
            *byte = if is_member { *byte | bit } else { *byte & !bit };
        }
        Ok(())
    }

    /// Whether nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes, in the order of their keys.
    pub(super) fn into_changes(self) -> impl Iterator<Item = RowChange> {
        self.0.into_iter().map(|(key, mut chunk)| {
            chunk.truncate(bits::without_zeros(&chunk));
            let value = (!chunk.is_empty()).then(|| chunk.into());
            RowChange { key: key.into(), value }
        })
    }

    /// Bytes of a chunk, to be changed.
    fn bytes(
        &mut self,
        storage: &Storage,
        key: Vec<u8>,
        at: Range<usize>,
    ) -> Result<&mut [u8], Error> {
        let chunk = match self.0.entry(key) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(vacant) => {
                let stored = storage.row(vacant.key())?.unwrap_or_default();
                vacant.insert(stored.to_vec())
            }
        };
        if chunk.len() < at.end {
            chunk.resize(at.end, 0);
        }
        Ok(chunk.get_mut(at).unwrap_or_default())
    }
}
