//! Types generated from `proto/milepost/storage/v1`: what is on disk.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; its comments stand in the protos"
)]

include!(concat!(env!("OUT_DIR"), "/milepost.storage.v1.rs"));
