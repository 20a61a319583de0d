//! Milepost: an event store for customer journeys.
//!
//! See `ARCHITECTURE.md` for the way of an event through these modules.

pub mod cli;
pub mod condition;
pub mod config;
pub mod delivery;
pub mod grpc;
pub mod model;
pub mod schema;
pub mod server;
pub mod storage;
pub mod store;
pub mod telemetry;
