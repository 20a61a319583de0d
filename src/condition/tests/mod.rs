//! The language against tables of what it should say, and against another implementation.

mod differential;
mod functions;
mod messages;
mod operators;
mod robust;

use std::sync::Arc;

use crate::{
    condition::{Expression, Fault},
    model::{Timestamp, json::Document},
    schema::{Fields, SchemaDocument},
};

/// When events of these tests are stored.
const NOW: &str = "2026-11-23T09:30:00Z";

/// Holds a condition without a schema against what it should come to.
#[track_caller]
fn check(text: &str, event: &str, expected: Result<bool, Fault>) {
    let condition = Expression::condition(text, None).unwrap_or_else(|it| panic!("{text}: {it}"));
    assert_eq!(holds(&condition, event), expected, "{text} of {event}");
}

/// The fields of a schema without references.
fn fields_of(document: &serde_json::Value) -> Fields {
    let document = SchemaDocument::parse(&document.to_string()).unwrap();
    Fields::new(Arc::new(document), &[])
}

fn holds(condition: &Expression, event: &str) -> Result<bool, Fault> {
    let document = Document::parse(event).unwrap();
    condition.holds(document.root(), Timestamp::parse_rfc3339(NOW).unwrap())
}
