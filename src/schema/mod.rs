//! XDM schema documents: reading, resolving, compiling, judging events.
//!
//! Invariant: the only module that knows the JSON Schema crate. Nothing here reads a file or a
//! network; documents come in as text and find each other through the caller.

mod annotations;
mod arena;
mod built_in;
mod closure;
mod compile;
mod composition;
mod described;
mod descriptor;
mod document;
mod effective;
mod event_fields;
mod evolution;
mod field_type;
mod fields;
mod form;
mod graph;
mod identity;
mod keyword;
mod outline;
mod problem;
mod resolve;
mod sample;
mod space;
mod summary;
mod tenant;
mod union;
mod violation;

#[cfg(test)]
mod tests;

pub use built_in::built_in;
pub use closure::closure;
pub use compile::{CompiledSchema, compile};
pub use composition::check_composition;
pub use described::UnknownFields;
pub use descriptor::{Cardinality, Descriptor, DescriptorKind, Relationship};
pub use document::{SchemaDocument, SchemaKind};
pub use event_fields::EventFields;
pub use evolution::{Change, ChangeKind, Changes, Verdict, Version, changes};
pub use field_type::FieldType;
pub use fields::{Field, Fields};
pub use form::{Form, Forms, WireEvent};
pub use identity::{IdentityField, primary_namespace};
pub use outline::Reference;
pub use problem::{Fault, SchemaProblem};
pub use resolve::resolve;
pub use sample::{Random, is_for_events, sample};
pub use summary::{FieldSummary, Summary, class_of, is_time_series, summarize};
pub use tenant::check_tenant;
pub use union::{Union, union};
