//! One broken rule of an event.

/// One broken rule: where in the payload, which rule, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) into the payload; empty for the payload as a whole.
    pub instance_path: String,
    /// `$id` of the schema document, `#`, and a JSON Pointer into it; `milepost:event#/…` for the
    /// rules that every event obeys.
    pub schema_path: String,
    /// The keyword that failed.
    pub keyword: String,
    /// Found and wanted, lowercase, for people.
    pub message: String,
}
