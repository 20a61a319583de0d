//! Types generated from `proto/milepost/v1`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code; its comments stand in the protos"
)]

tonic::include_proto!("milepost.v1");

/// What `milepost bench` measures the transport with; no part of the API.
pub(crate) mod bench {
    tonic::include_proto!("milepost.bench.v1");
}

/// Every file of the API, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.bin"));
