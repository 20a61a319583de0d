//! Outcomes that were applied, for those who ask again, or ask when.

use std::collections::VecDeque;

use ahash::AHashMap;

use crate::{
    delivery::outcome::OutcomeKind,
    model::{Position, Timestamp, limits},
};

/// The last outcomes, by the number of their lease.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    kinds: AHashMap<u64, OutcomeKind>,
    order: VecDeque<Applied>,
}

#[derive(Debug)]
struct Applied {
    lease: u64,
    position: Position,
    at: Timestamp,
}

impl Recent {
    pub(crate) fn add(&mut self, lease: u64, position: Position, kind: OutcomeKind, at: Timestamp) {
        if self.order.len() >= limits::OUTCOMES_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.kinds.remove(&oldest.lease);
        }
        if self.kinds.insert(lease, kind).is_none() {
            self.order.push_back(Applied { lease, position, at });
        }
    }

    pub(crate) fn get(&self, lease: u64) -> Option<OutcomeKind> {
        self.kinds.get(&lease).copied()
    }

    /// When an event was acknowledged, if that is remembered. Looks at all that is.
    pub(crate) fn acked_at(&self, position: Position) -> Option<Timestamp> {
        let mut acks = self.order.iter().rev().filter(|it| it.position == position);
        acks.find(|it| self.get(it.lease) == Some(OutcomeKind::Ack)).map(|it| it.at)
    }

    pub(crate) fn clear(&mut self) {
        self.kinds.clear();
        self.order.clear();
    }
}
