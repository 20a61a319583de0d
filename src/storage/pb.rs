//! Types generated from `proto/milepost/storage/v1`: what is on disk.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; its comments stand in the protos"
)]

include!(concat!(env!("OUT_DIR"), "/milepost.storage.v1.rs"));

impl EventRecord {
    /// The event's id, which is UTF-8 unless stored data is damaged.
    pub(crate) fn event_id(&self) -> &str {
        std::str::from_utf8(&self.event_id).unwrap_or_default()
    }
}
