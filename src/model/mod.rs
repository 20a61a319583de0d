//! The vocabulary: pure types, no I/O, no async, no wire types.
//!
//! Invariant: nothing here knows gRPC, sled or the JSON Schema crate.

pub(crate) mod bits;
mod condition;
mod event;
mod filter;
pub mod json;
pub mod limits;
mod name;
mod on_invalid;
mod position;
mod time;
mod violation;

pub use condition::Condition;
pub use event::{DeadLetter, Delivery, Identity, Mending, MendingRule, RecordedEvent, Release};
pub use filter::{
    Direction, EventFilter, EventTypePattern, IdentityPattern, SchemaVersions, Tagged, TimeRange,
};
pub use name::{
    DatasetName, DefinitionName, Invalid, SubscriptionName, Tenant, check_namespace_code, hex,
    shorten,
};
pub use on_invalid::OnInvalid;
pub use position::Position;
pub use time::Timestamp;
pub use violation::Violation;
