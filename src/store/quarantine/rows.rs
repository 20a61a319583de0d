//! Rows of the quarantine in the table.
//!
//! What is found by something else than its id stands in *chunks*: one row for many ids that follow each other, so that a
//! commit group changes few rows, and those at the end. A chunk without its last bytes that are zero is the same
//! chunk; one of zeros is none.

use crate::{model::bits, storage::table_kind::QUARANTINE};

/// Second byte of a key.
mod part {
    pub(super) const TOTALS: u8 = 0;
    pub(super) const RECORD: u8 = 1;
    pub(super) const PAYLOAD: u8 = 2;
    pub(super) const GROUP: u8 = 3;
    /// One row for each record, once: see `older`.
    pub(super) const IN_GROUP: u8 = 4;
    pub(super) const BY_DIGEST: u8 = 5;
    pub(super) const BY_EVENT: u8 = 6;
    pub(super) const MARKS: u8 = 7;
    pub(super) const MEMBERS: u8 = 8;
}

/// Bytes of a payload in one row.
pub(super) const PART_BYTES: usize = 32 * 1024;

fn key(part: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![QUARANTINE, part];
    for field in fields {
        key.extend_from_slice(field);
    }
    key
}

/// `-> QuarantineTotalsRecord`
pub(super) fn totals() -> Vec<u8> {
    key(part::TOTALS, &[])
}

/// `[id: u64] -> QuarantineRecord`
pub(super) fn record(id: u64) -> Vec<u8> {
    key(part::RECORD, &[&id.to_be_bytes()])
}

/// What the keys of all records begin with.
pub(super) fn records() -> Vec<u8> {
    key(part::RECORD, &[])
}

/// The id at the end of a key.
pub(super) fn id_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().copied().map(u64::from_be_bytes)
}

/// `[id: u64][part: u32] -> a part of its payload`
pub(super) fn payload(id: u64, number: u32) -> Vec<u8> {
    key(part::PAYLOAD, &[&id.to_be_bytes(), &number.to_be_bytes()])
}

/// `[dataset: u32][fingerprint: u64] -> QuarantineGroupRecord`
pub(super) fn group(dataset: u32, fingerprint: u64) -> Vec<u8> {
    key(part::GROUP, &[&dataset.to_be_bytes(), &fingerprint.to_be_bytes()])
}

/// What the keys of all groups, or of those of one dataset, begin with.
pub(super) fn groups(dataset: Option<u32>) -> Vec<u8> {
    match dataset {
        Some(dataset) => key(part::GROUP, &[&dataset.to_be_bytes()]),
        None => key(part::GROUP, &[]),
    }
}

/// Dataset and fingerprint of a group's key.
pub(super) fn group_of(key: &[u8]) -> Option<(u32, u64)> {
    let rest = key.get(2..)?;
    let dataset = rest.first_chunk::<4>().copied().map(u32::from_be_bytes)?;
    Some((dataset, rest.get(4..)?.first_chunk::<8>().copied().map(u64::from_be_bytes)?))
}

/// Ids in one chunk of marks: 2 KiB.
const MARKS_IN_CHUNK: u64 = 256;
const MARK_BYTES: usize = size_of::<u64>();
/// Ids in one chunk of members.
const MEMBERS_IN_CHUNK: u64 = 1024;

/// `[chunk: u64] -> for each of 256 ids the mark of its record: u64; 0: there is none`
fn marks_chunk(chunk: u64) -> Vec<u8> {
    key(part::MARKS, &[&chunk.to_be_bytes()])
}

/// What the keys of all chunks of marks begin with.
pub(super) fn all_marks() -> Vec<u8> {
    key(part::MARKS, &[])
}

/// The chunk in which the mark of a record stands, and where there.
pub(super) fn mark(id: u64) -> (Vec<u8>, usize) {
    (marks_chunk(id / MARKS_IN_CHUNK), place(id, MARKS_IN_CHUNK) * MARK_BYTES)
}

/// The marks of a chunk, each with the id of its record.
pub(super) fn marks(key: &[u8], chunk: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let first = id_of(key).unwrap_or_default().saturating_mul(MARKS_IN_CHUNK);
    let marks = chunk.chunks(MARK_BYTES).map(|bytes| {
        let mut mark = [0; MARK_BYTES];
        for (to, from) in mark.iter_mut().zip(bytes) {
            *to = *from;
        }
        u64::from_be_bytes(mark)
    });
    (first..).zip(marks).filter(|(_, mark)| *mark != 0)
}

/// `[dataset: u32][fingerprint: u64][chunk: u64] -> bitmap of 1024 ids: which are in the group, the lowest bit of
/// the first byte first`
fn members_chunk(dataset: u32, fingerprint: u64, chunk: u64) -> Vec<u8> {
    let (dataset, fingerprint) = (dataset.to_be_bytes(), fingerprint.to_be_bytes());
    key(part::MEMBERS, &[&dataset, &fingerprint, &chunk.to_be_bytes()])
}

/// The chunk of a group in which an id stands, the byte there, and its bit.
pub(super) fn member(dataset: u32, fingerprint: u64, id: u64) -> (Vec<u8>, usize, u8) {
    let place = place(id, MEMBERS_IN_CHUNK);
    let key = members_chunk(dataset, fingerprint, id / MEMBERS_IN_CHUNK);
    (key, place / 8, 1 << (place % 8))
}

/// The ids of a chunk of members.
pub(super) fn members_in(key: &[u8], chunk: &[u8]) -> impl Iterator<Item = u64> {
    let first = id_of(key).unwrap_or_default().saturating_mul(MEMBERS_IN_CHUNK);
    bits::ones(chunk).map(move |at| first.saturating_add(at))
}

/// What the keys of a group's chunks of members begin with.
pub(super) fn members(dataset: u32, fingerprint: u64) -> Vec<u8> {
    key(part::MEMBERS, &[&dataset.to_be_bytes(), &fingerprint.to_be_bytes()])
}

/// What the keys of the chunks of members of all of a dataset's groups begin with.
pub(super) fn members_of(dataset: u32) -> Vec<u8> {
    key(part::MEMBERS, &[&dataset.to_be_bytes()])
}

/// The last chunk of members that has none after an id, so that reading goes on after it.
pub(super) fn before_members_after(dataset: u32, fingerprint: u64, id: u64) -> Option<Vec<u8>> {
    let before = (id.saturating_add(1) / MEMBERS_IN_CHUNK).checked_sub(1)?;
    Some(members_chunk(dataset, fingerprint, before))
}

fn place(id: u64, in_chunk: u64) -> usize {
    usize::try_from(id % in_chunk).unwrap_or_default()
}

/// Rows of a form that is not written any more: one for each record instead of chunks.
pub(super) mod older {
    use super::{group_of, id_of, key, part};

    /// `[dataset: u32][fingerprint: u64][id: u64] -> nothing`
    pub(in super::super) fn members() -> Vec<u8> {
        key(part::IN_GROUP, &[])
    }

    pub(in super::super) fn member(key: &[u8]) -> Option<(u32, u64, u64)> {
        let (dataset, fingerprint) = group_of(key)?;
        Some((dataset, fingerprint, id_of(key)?))
    }

    /// `[digest: 16] -> id: u64`, for events without an id that can be read
    pub(in super::super) fn by_digest() -> Vec<u8> {
        key(part::BY_DIGEST, &[])
    }

    /// `[hash of dataset and event id: u64][begin of the digest: 8][id: u64] -> nothing`
    pub(in super::super) fn by_event() -> Vec<u8> {
        key(part::BY_EVENT, &[])
    }

    /// The first two numbers of a key.
    pub(in super::super) fn numbers(key: &[u8]) -> Option<(u64, u64)> {
        let (first, rest) = key.get(2..)?.split_first_chunk()?;
        Some((u64::from_be_bytes(*first), u64::from_be_bytes(*rest.first_chunk()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_members_come_back_from_their_chunks() {
        for id in [0, 1, 255, 256, 257, 1023, 1024, 123_456_789] {
            let (key, at) = mark(id);
            let mut chunk = vec![0; at];
            chunk.extend_from_slice(&77_u64.to_be_bytes());
            // Without the zeros at its end.
            chunk.extend_from_slice(&[1]);
            let found: Vec<_> = marks(&key, &chunk).collect();
            let next = (id % MARKS_IN_CHUNK < MARKS_IN_CHUNK - 1).then_some((id + 1, 1 << 56));
            let wanted: Vec<_> = std::iter::once((id, 77)).chain(next).collect();
            assert_eq!(found[..wanted.len()], wanted);

            let (key, byte, bit) = member(3, 4, id);
            let mut chunk = vec![0; byte + 1];
            chunk[byte] = bit;
            assert_eq!(members_in(&key, &chunk).collect::<Vec<_>>(), [id]);
            assert!(key.starts_with(&members(3, 4)) && key.starts_with(&members_of(3)));
            if id > 0 {
                let before = before_members_after(3, 4, id - 1);
                assert!(before.is_none_or(|before| before < key));
            }
        }
        assert_eq!(before_members_after(3, 4, 2047).unwrap(), member(3, 4, 1024).0);
    }
}
