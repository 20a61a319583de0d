//! The vocabulary: pure types, no I/O, no async, no wire types.
//!
//! Invariant: nothing here knows gRPC, sled or the JSON Schema crate.

pub mod json;
pub mod limits;
mod violation;

pub use violation::Violation;
