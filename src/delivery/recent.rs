//! Outcomes that were applied, for those who ask again.

use std::collections::VecDeque;

use ahash::AHashMap;

use crate::{delivery::outcome::OutcomeKind, model::limits};

/// The last outcomes, by the number of their lease.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    kinds: AHashMap<u64, OutcomeKind>,
    order: VecDeque<u64>,
}

impl Recent {
    pub(crate) fn add(&mut self, lease: u64, kind: OutcomeKind) {
        if self.order.len() >= limits::OUTCOMES_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.kinds.remove(&oldest);
        }
        if self.kinds.insert(lease, kind).is_none() {
            self.order.push_back(lease);
        }
    }

    pub(crate) fn get(&self, lease: u64) -> Option<OutcomeKind> {
        self.kinds.get(&lease).copied()
    }

    pub(crate) fn clear(&mut self) {
        self.kinds.clear();
        self.order.clear();
    }
}
