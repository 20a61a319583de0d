//! Rows of the quarantine in the table.

use crate::storage::table_kind::QUARANTINE;

/// Second byte of a key.
mod part {
    pub(super) const TOTALS: u8 = 0;
    pub(super) const RECORD: u8 = 1;
    pub(super) const PAYLOAD: u8 = 2;
    pub(super) const GROUP: u8 = 3;
    pub(super) const IN_GROUP: u8 = 4;
    pub(super) const BY_DIGEST: u8 = 5;
    pub(super) const BY_EVENT: u8 = 6;
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

/// `[dataset: u32][fingerprint: u64][id: u64] -> nothing`
pub(super) fn member(dataset: u32, fingerprint: u64, id: u64) -> Vec<u8> {
    let (dataset, fingerprint) = (dataset.to_be_bytes(), fingerprint.to_be_bytes());
    key(part::IN_GROUP, &[&dataset, &fingerprint, &id.to_be_bytes()])
}

/// What the keys of a group's members begin with.
pub(super) fn members(dataset: u32, fingerprint: u64) -> Vec<u8> {
    key(part::IN_GROUP, &[&dataset.to_be_bytes(), &fingerprint.to_be_bytes()])
}

/// What the keys of the members of all of a dataset's groups begin with.
pub(super) fn members_of(dataset: u32) -> Vec<u8> {
    key(part::IN_GROUP, &[&dataset.to_be_bytes()])
}

/// `[digest: 16] -> id: u64`, for events without an id that can be read
pub(super) fn by_digest(digest: &[u8]) -> Vec<u8> {
    key(part::BY_DIGEST, &[digest])
}

/// `[hash of dataset and event id: u64][begin of the digest: 8][id: u64] -> nothing`
pub(super) fn by_event(hash: u64, digest: &[u8], id: u64) -> Vec<u8> {
    let digest = digest.first_chunk::<8>().copied().unwrap_or_default();
    key(part::BY_EVENT, &[&hash.to_be_bytes(), &digest, &id.to_be_bytes()])
}

/// What the keys of an event's records begin with that are probably the same.
pub(super) fn same_event(hash: u64, digest: &[u8]) -> Vec<u8> {
    let digest = digest.first_chunk::<8>().copied().unwrap_or_default();
    key(part::BY_EVENT, &[&hash.to_be_bytes(), &digest])
}

/// What the keys of an event's records begin with.
pub(super) fn of_event(hash: u64) -> Vec<u8> {
    key(part::BY_EVENT, &[&hash.to_be_bytes()])
}
