//! Changes of rows as they stand in a frame of the journal.

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use crate::storage::StorageError;

/// A change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowChange {
    pub(crate) key: Bytes,
    /// `None` takes the row away.
    pub(crate) value: Option<Bytes>,
}

impl RowChange {
    pub(crate) fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    pub(crate) fn remove(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: None }
    }

    /// `[key's length: varint][key][0, or 1 + value's length: varint][value]`
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        encode_varint(self.key.len() as u64, to);
        to.extend_from_slice(&self.key);
        match &self.value {
            None => encode_varint(0, to),
            Some(value) => {
                encode_varint(value.len() as u64 + 1, to);
                to.extend_from_slice(value);
            }
        }
    }
}

/// The changes of a frame.
pub(crate) fn decode_changes(mut bytes: Bytes) -> Result<Vec<RowChange>, StorageError> {
    let mut changes = Vec::new();
    while bytes.has_remaining() {
        let length = varint(&mut bytes)?;
        let key = part(&mut bytes, length)?;
        let value = match varint(&mut bytes)?.checked_sub(1) {
            Some(length) => Some(part(&mut bytes, length)?),
            None => None,
        };
        changes.push(RowChange { key, value });
    }
    Ok(changes)
}

fn varint(bytes: &mut Bytes) -> Result<u64, StorageError> {
    decode_varint(bytes).map_err(|_error| cut_short())
}

fn part(bytes: &mut Bytes, length: u64) -> Result<Bytes, StorageError> {
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.remaining());
    Ok(bytes.split_to(length.ok_or_else(cut_short)?))
}

fn cut_short() -> StorageError {
    StorageError::corrupt("a change of the table is cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_and_cut_ones_are_refused() {
        let changes = vec![
            RowChange::put(vec![1, 2], vec![]),
            RowChange::remove(vec![1]),
            RowChange::put(vec![7; 300], vec![9; 5_000]),
        ];
        let mut bytes = Vec::new();
        for change in &changes {
            change.encode(&mut bytes);
        }
        let bytes = Bytes::from(bytes);
        assert_eq!(decode_changes(bytes.clone()).unwrap(), changes);
        let whole = [4, 7]; // after a change nothing is missing
        for end in (1..bytes.len()).filter(|end| !whole.contains(end)) {
            assert!(decode_changes(bytes.slice(..end)).is_err(), "{end}");
        }
    }
}
