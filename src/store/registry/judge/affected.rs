//! What new versions mean for the datasets under them.

use std::sync::Arc;

use crate::{
    model::Timestamp,
    schema::{Change, Changes, SchemaDocument, Verdict},
    store::catalog::AuditEntry,
};

/// A schema that gets a new version, and what that changes for the datasets under it.
#[derive(Clone, Debug)]
pub struct Affected {
    /// Its `$id`.
    pub schema_id: Arc<str>,
    /// Its latest version.
    pub old_version: u32,
    /// The datasets under it, whatever the version; for a document that is judged alone perhaps none.
    pub datasets: Vec<String>,
    /// Event definitions that are not true to it any more, each with why.
    pub event_definitions: Vec<(String, String)>,
    /// What differs.
    pub changes: Changes,
    /// The new version; `None` when it does not compile.
    pub(crate) next: Option<(Arc<SchemaDocument>, Vec<Arc<SchemaDocument>>)>,
}

impl Affected {
    /// Whether it is what datasets or event definitions must be kept from.
    #[must_use]
    pub fn is_breaking(&self) -> bool {
        self.breaks_datasets() || !self.event_definitions.is_empty()
    }

    fn breaks_datasets(&self) -> bool {
        !self.datasets.is_empty() && self.changes.verdict() == Verdict::Breaking
    }

    /// The record of a change that was forced; number, time and new version are the writer's.
    pub(super) fn audit(&self) -> AuditEntry {
        let breaking: Vec<Change> = self.changes.breaking().cloned().collect();
        let shown = breaking.len().min(AUDIT_CHANGES_MAX);
        AuditEntry {
            number: 0,
            time: Timestamp::default(),
            schema_id: self.schema_id.to_string(),
            old_version: self.old_version,
            new_version: 0,
            datasets: self.datasets.iter().take(AUDIT_NAMES_MAX).cloned().collect(),
            event_definitions: self
                .event_definitions
                .iter()
                .take(AUDIT_NAMES_MAX)
                .map(|it| it.0.clone())
                .collect(),
            changes_left_out: (breaking.len() - shown) as u64 + self.changes.left_out,
            subscription: String::new(),
            changes: breaking.into_iter().take(AUDIT_CHANGES_MAX).collect(),
        }
    }
}

/// Breaking changes, and names of each kind, that an audit record has: a thousand records stay in memory.
const AUDIT_CHANGES_MAX: usize = 20;
const AUDIT_NAMES_MAX: usize = 50;
