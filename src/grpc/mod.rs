//! The gRPC surface: the only module that names tonic. A handler converts, calls, converts; no rule
//! lives here.

mod admin_service;
mod append_stream;
pub mod client;
mod codec;
mod conditions;
mod connections;
mod dataset_service;
mod deadline;
mod definition_service;
mod definitions;
pub(crate) mod descriptors;
mod echo;
mod event_service;
mod from_proto;
mod identity_service;
mod inspections;
mod intake;
mod layer;
mod parked;
pub mod pb;
mod quarantine_service;
mod refused;
mod responses;
mod schema_service;
mod schemas;
mod serve;
mod status;
mod structs;
mod structured;
mod subscription_service;
mod subscriptions;
mod to_proto;
mod verification;

pub use echo::serve_echo;
pub use serve::{ServeError, serve};
pub use status::ERROR_DOMAIN;

/// The method whose requests wait for the disk.
const APPEND_EVENTS: &str = "/milepost.v1.EventService/AppendEvents";
/// A consumer's stream: many requests in one call.
const CONSUME: &str = "/milepost.v1.SubscriptionService/Consume";
/// The method that also appends.
const COMMIT_WORK: &str = "/milepost.v1.SubscriptionService/CommitWork";
/// The same with many requests in one call.
const APPEND_EVENT_STREAM: &str = "/milepost.v1.EventService/AppendEventStream";
