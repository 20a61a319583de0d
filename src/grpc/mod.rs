//! The gRPC surface: the only module that names tonic. A handler converts, calls, converts; no rule
//! lives here.

mod admin_service;
pub mod client;
mod dataset_service;
mod echo;
mod event_service;
mod from_proto;
mod identity_service;
mod layer;
pub mod pb;
mod schema_service;
mod serve;
mod status;
mod structs;
mod to_proto;
mod verification;

pub use echo::serve_echo;
pub use serve::{ServeError, serve};
pub use status::ERROR_DOMAIN;
