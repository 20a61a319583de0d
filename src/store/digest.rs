//! What a payload is known by later: whether the log has the same bytes still.

use xxhash_rust::xxh3::xxh3_64;

use crate::model::RecordedEvent;

/// Of a payload as it is stored.
pub(crate) fn payload_digest(payload: &[u8]) -> u64 {
    xxh3_64(payload)
}

/// Of the stored payload of an event, also when it is delivered with selected fields alone.
pub(crate) fn stored_digest(event: &RecordedEvent) -> u64 {
    let delivered = event.delivery.as_ref().map(|it| it.stored_digest);
    delivered.unwrap_or_else(|| payload_digest(&event.payload))
}
