//! The integration tests, one module per behaviour. They run the real binary and speak gRPC to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking, say what they skip, and look at one variant"
)]

mod append;
mod append_stream;
mod bad_input;
mod buffered;
mod cli;
mod conditions;
mod crash;
mod datasets;
mod docs;
mod errors_doc;
mod event_definitions;
mod fate;
mod faults;
mod follow;
mod fuzz;
mod identities;
mod layers;
mod limits;
mod overload;
mod policies;
mod power;
mod python;
mod quarantine;
mod read;
mod retention;
mod rules;
mod schema_versions;
mod schemas;
mod shell;
mod shutdown;
mod storms;
mod subscriptions;
mod support;
mod tagged;
