//! An event as readers get it.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::model::{Position, Timestamp, Violation};

/// An event together with what the store knows of it.
#[derive(Clone, Debug)]
pub struct RecordedEvent {
    /// Place in the log.
    pub position: Position,
    /// When it was stored.
    pub record_time: Timestamp,
    /// Name of its dataset.
    pub dataset: Arc<str>,
    /// The sender's unique id.
    pub event_id: ByteString,
    /// What happened; empty when the payload does not say.
    pub event_type: ByteString,
    /// When it happened.
    pub event_time: Timestamp,
    /// Sorted by namespace and id, each once.
    pub identities: Vec<Identity>,
    /// `$id` of the schema that judged it.
    pub schema_id: Arc<str>,
    /// Version of that schema.
    pub schema_version: u32,
    /// Names of the event definitions that it matched when it was stored and that are still there.
    pub event_definitions: Vec<Arc<str>>,
    /// How an event definition delivers it; `None`: the event is as it was sent.
    pub delivery: Option<Delivery>,
    /// The payload as sent, or what is delivered of it: UTF-8 JSON text.
    pub payload: Bytes,
    /// Where it comes from, if it was set aside first.
    pub release: Option<Release>,
    /// What it is a copy of, if it is a dead letter.
    pub dead_letter: Option<DeadLetter>,
    /// What was done to the payload because its dataset is lenient.
    pub mendings: Vec<Mending>,
    /// What is wrong with it: it is stored although it is invalid. Empty for a valid one.
    pub violations: Vec<Violation>,
}

/// Something in a payload that was mended before it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mending {
    /// JSON Pointer.
    pub path: String,
    /// By which rule.
    pub rule: MendingRule,
    /// What stood there.
    pub original: String,
}

/// What a lenient dataset forgives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MendingRule {
    /// A number was sent as text.
    NumberFromText,
    /// A name had null.
    NullLeftOut,
}

/// The record of the quarantine that an event is made of; it goes when the event is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its id in the quarantine.
    pub id: u64,
    /// When it came.
    pub receive_time: Timestamp,
}

/// Where a dead letter comes from: an event that a subscription parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Name of the subscription.
    pub subscription: String,
    /// Of the event that was parked.
    pub position: Position,
    /// Why it was.
    pub reason: String,
}

/// An event as an event definition delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Name of the definition.
    pub event_definition: Arc<str>,
    /// The version that decided.
    pub version: u32,
    /// Namespace code of the key.
    pub namespace: String,
    /// Whom it is about, within the namespace.
    pub key: String,
    /// Of the payload as it is stored, of which the event may have selected fields alone.
    pub stored_digest: u64,
}

/// One identity of the person or thing that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Namespace code.
    pub namespace: ByteString,
    /// Value within the namespace.
    pub id: ByteString,
    /// Whether it is the event's primary identity.
    pub primary: bool,
}
