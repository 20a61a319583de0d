//! Where a trace can be cut.

use super::ledger::{Ledger, Promise};
use crate::support::{disk::Disk, events::Random, trace::Trace};

/// What a trace has: where each operation ends, and which are not mere writes.
pub(super) struct Outline {
    ends: Vec<u64>,
    edges: Vec<usize>,
}

impl Outline {
    pub(super) fn of(disk: &Disk) -> Self {
        let mut trace = Trace::open(disk.trace());
        let (mut ends, mut edges) = (Vec::new(), Vec::new());
        while let Some(operation) = trace.next() {
            if operation.is_edge() {
                edges.push(ends.len());
            }
            ends.push(trace.at());
        }
        Self { ends, edges }
    }

    /// How many operations happen before a cut: any number, or up to something near which a mistake
    /// would show. That is a change that is no mere write, and a promise; above all what a restarted
    /// server has shown, which may come from the system's cache.
    pub(super) fn cut(&self, random: &mut Random, ledger: &Ledger) -> usize {
        let promises = ledger.promises.lock().unwrap();
        let shown = |(_, promise): &&(u64, Promise)| matches!(promise, Promise::Log(_));
        let shown: Vec<u64> = promises.iter().filter(shown).map(|(bytes, _)| *bytes).collect();
        let at = |bytes: u64| self.ends.partition_point(|end| *end < bytes);
        let near = usize::try_from(random.below(3)).unwrap();
        let cut = match random.below(5) {
            0 => usize::try_from(random.below(self.ends.len() as u64)).unwrap(),
            1 if !shown.is_empty() => at(*random.one_of(&shown)) + near,
            2 | 3 if !promises.is_empty() => at(random.one_of(&promises).0) + near,
            _ => random.one_of(&self.edges) + near,
        };
        cut.clamp(1, self.ends.len())
    }

    /// How many operations there are.
    pub(super) fn operations(&self) -> usize {
        self.ends.len()
    }

    /// How long the trace was when so many had happened.
    pub(super) fn bytes_at(&self, operations: usize) -> u64 {
        self.ends[operations - 1]
    }
}
