//! The documents that come with the server.

use crate::schema::SchemaDocument;

const TEXTS: [&str; 6] = [
    include_str!("built_in/record.json"),
    include_str!("built_in/time-series.json"),
    include_str!("built_in/adhoc.json"),
    include_str!("built_in/identityitem.json"),
    include_str!("built_in/identitymap.json"),
    include_str!("built_in/experienceevent.json"),
];

/// The three behaviours, the `ExperienceEvent` class and what it refers to, in wire form. Each
/// comes after what it refers to.
///
/// # Panics
///
/// Never: the texts are part of the program, and a test reads them all.
#[must_use]
pub fn built_in() -> Vec<SchemaDocument> {
    TEXTS.iter().filter_map(|text| SchemaDocument::parse(text).ok()).collect()
}
