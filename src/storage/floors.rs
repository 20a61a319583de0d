//! Floors: up to where datasets have lost their events.
//!
//! A trim removes a dataset's oldest events by raising its floor, and a deletion is a floor above
//! everything. The one rule, here and nowhere else: an event can be seen if and only if its position
//! is above its dataset's floor. Its bytes leave the disk later, with compaction.

use std::collections::HashMap;

use crate::{model::Position, storage::tagged};

/// Floors by dataset number. A dataset's floor is the position of the last event that it lost, so
/// "were events lost after this position?" has an exact answer for as long as the dataset exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floors(HashMap<u32, Position>);

impl Floors {
    /// The floor of a dataset that was deleted.
    pub(crate) const DELETED: Position = Position::MAX;

    /// A dataset's floor, also for its tagged events; `START` when it has lost nothing.
    pub(crate) fn of(&self, dataset: u32) -> Position {
        self.0.get(&tagged::dataset_of(dataset)).copied().unwrap_or(Position::START)
    }

    /// Whether a dataset's event at this position is gone.
    pub(crate) fn removes(&self, dataset: u32, position: Position) -> bool {
        position <= self.of(dataset)
    }

    /// Whether nothing is gone.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Datasets that have lost events, with their floors.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Position)> {
        self.0.iter().map(|(dataset, floor)| (*dataset, *floor))
    }

    /// Raises a dataset's floor; a floor never goes back.
    pub(crate) fn raise(&mut self, dataset: u32, floor: Position) {
        if floor > self.of(dataset) {
            self.0.insert(dataset, floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_up_to_the_floor_are_gone_and_floors_only_rise() {
        let mut floors = Floors::default();
        floors.raise(1, Position::START);
        assert!(floors.is_empty() && !floors.removes(1, Position::new(1)));
        floors.raise(1, Position::new(5));
        floors.raise(1, Position::new(3));
        floors.raise(2, Floors::DELETED);
        for (dataset, position, gone) in
            [(1, 5, true), (1, 6, false), (2, u64::MAX, true), (3, 1, false)]
        {
            assert_eq!(floors.removes(dataset, Position::new(position)), gone);
        }
        assert_eq!((floors.of(1), floors.of(3)), (Position::new(5), Position::START));
    }
}
