//! The gRPC surface: the only module that names tonic.

pub mod client;
pub mod pb;
