//! The two spellings of XDM: the long form, with prefixes and URIs as names, and the wire form that
//! events are sent and judged in. The rules are in `docs/xdm.md`.

mod document;
mod instance;
mod name;

pub(super) use document::{is_long, long_name, long_pointer, to_long, to_wire};
pub use instance::{Forms, WireEvent};

/// How the names of a document or an event are spelt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// As sent: `timestamp`, `_id`, `_schema.latitude`.
    #[default]
    Wire,
    /// As XDM is published: `xdm:timestamp`, `@id`, `schema:latitude`.
    Long,
}
