//! Ack ids: what a consumer names an attempt by. Opaque to clients.

use xxhash_rust::xxh3::xxh3_64;

use crate::{delivery::LeaseId, model::Position};

const VERSION: u8 = 1;

/// `[version: u8][subscription: u32][generation: u64][position: u64][lease: u64][checksum of the rest: u64]`
pub(crate) fn encode(subscription: u32, lease: LeaseId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(37);
    bytes.push(VERSION);
    bytes.extend_from_slice(&subscription.to_be_bytes());
    bytes.extend_from_slice(&lease.generation.to_be_bytes());
    bytes.extend_from_slice(&lease.position.get().to_be_bytes());
    bytes.extend_from_slice(&lease.number.to_be_bytes());
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The subscription's number and the lease of an ack id.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u32, LeaseId)> {
    let (rest, checksum) = bytes.split_last_chunk()?;
    if xxh3_64(rest) != u64::from_be_bytes(*checksum) {
        return None;
    }
    let (version, rest) = rest.split_first()?;
    let (subscription, rest) = rest.split_first_chunk()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (position, rest) = rest.split_first_chunk()?;
    let lease = LeaseId {
        generation: u64::from_be_bytes(*generation),
        position: Position::new(u64::from_be_bytes(*position)),
        number: u64::from_be_bytes(rest.try_into().ok()?),
    };
    (*version == VERSION).then_some((u32::from_be_bytes(*subscription), lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_id_comes_back_and_a_broken_one_does_not() {
        let lease = LeaseId { generation: 3, position: Position::new(42), number: u64::MAX };
        let made = encode(7, lease);
        assert_eq!(decode(&made), Some((7, lease)));
        for at in 0..made.len() {
            let mut broken = made.clone();
            broken[at] ^= 1;
            assert_eq!(decode(&broken), None);
        }
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&made[1..]), None);
    }
}
