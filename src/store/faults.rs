//! Conditions of filters that come to nothing: counted, and the last ones kept to be shown.

use std::{collections::VecDeque, sync::Mutex};

use crate::{
    model::{Position, Timestamp, limits},
    store::lock,
};

/// What a filter's condition came to nothing for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterFault {
    /// Which event.
    pub position: Position,
    /// When that event was stored.
    pub at: Timestamp,
    /// Why; for people.
    pub message: String,
}

/// All of them, as far as they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterFaultFigures {
    /// How many there were.
    pub total: u64,
    /// The last few, oldest first.
    pub last: VecDeque<FilterFault>,
}

/// Counts faults.
#[derive(Debug, Default)]
pub(crate) struct FilterFaults(Mutex<FilterFaultFigures>);

impl FilterFaults {
    pub(crate) fn add(&self, position: Position, at: Timestamp, message: String) {
        let mut figures = lock(&self.0);
        figures.total += 1;
        if figures.last.len() >= limits::FILTER_FAULTS_KEPT {
            figures.last.pop_front();
        }
        figures.last.push_back(FilterFault { position, at, message });
    }

    pub(crate) fn figures(&self) -> FilterFaultFigures {
        lock(&self.0).clone()
    }
}
