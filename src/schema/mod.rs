//! XDM schema documents: reading, resolving, compiling, judging events.
//!
//! Invariant: the only module that knows the JSON Schema crate. Nothing here reads a file or a
//! network; documents come in as text and find each other through the caller.

mod annotations;
mod arena;
mod built_in;
mod closure;
mod compile;
mod document;
mod effective;
mod evolution;
mod graph;
mod identity;
mod keyword;
mod outline;
mod problem;
mod sample;
mod union;
mod violation;

#[cfg(test)]
mod tests;

pub use built_in::built_in;
pub use closure::closure;
pub use compile::{CompiledSchema, compile};
pub use document::{SchemaDocument, SchemaKind};
pub use evolution::{Change, ChangeKind, Changes, Verdict, Version, changes};
pub use identity::IdentityField;
pub use outline::Reference;
pub use problem::{Fault, SchemaProblem};
pub use sample::{Random, is_for_events, sample};
pub use union::{Union, union};
