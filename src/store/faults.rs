//! What goes wrong with single events and stops nothing: counted, and the last ones kept to be shown.

use std::{collections::VecDeque, sync::Mutex};

use crate::{
    model::{Position, Timestamp, limits},
    store::lock,
};

/// What went wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedFault {
    /// Which event.
    pub position: Position,
    /// When; for a filter, when the event was stored.
    pub at: Timestamp,
    /// Why; for people.
    pub message: String,
}

/// All of them, as far as they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultFigures {
    /// How many there were.
    pub total: u64,
    /// The last few, oldest first.
    pub last: VecDeque<NotedFault>,
}

/// Counts faults.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<FaultFigures>);

impl Faults {
    pub(crate) fn add(&self, position: Position, at: Timestamp, message: String) {
        let mut figures = lock(&self.0);
        figures.total += 1;
        if figures.last.len() >= limits::FAULTS_KEPT {
            figures.last.pop_front();
        }
        figures.last.push_back(NotedFault { position, at, message });
    }

    pub(crate) fn figures(&self) -> FaultFigures {
        lock(&self.0).clone()
    }
}
