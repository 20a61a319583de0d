//! What must hold for an append to be carried out.

use crate::model::{EventFilter, Position};

/// A precondition of an append. Filters have no time ranges: the index alone answers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The last event that the filter selects is at this position, `START` if it selects none.
    LastPosition {
        /// A dataset, an identity, or both, and perhaps one event type.
        filter: EventFilter,
        /// `None`: anywhere, or nowhere; always holds.
        expected: Option<Position>,
    },
    /// The filter selects no event after this position.
    NoMatch {
        /// Which events.
        filter: EventFilter,
        /// Events up to here are known to the sender.
        after: Position,
    },
    /// This version of the dataset's schema judges.
    SchemaVersion(u32),
}
