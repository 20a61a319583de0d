//! How often something happened lately.

use std::{collections::VecDeque, time::Duration};

use crate::model::Timestamp;

/// What is counted together, and how much of it is remembered: a minute.
const SLOT: Duration = Duration::from_secs(5);
const SLOTS: i64 = 12;
/// A shorter time says nothing about a second.
const LEAST: Duration = Duration::from_secs(1);

/// What a consumer got and said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that it was given.
    pub delivered: u32,
    /// Events that it resolved.
    pub resolved: u32,
    /// Attempts of its that failed.
    pub failed: u32,
}

/// What was counted lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lately {
    /// So much.
    pub counts: Counts,
    /// In so long; at least a second.
    pub over: Duration,
}

/// Counts in slots of time.
#[derive(Debug)]
pub(crate) struct Meter {
    since: Timestamp,
    /// At most `SLOTS`, by number.
    slots: VecDeque<(i64, Counts)>,
}

impl Meter {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { since: now, slots: VecDeque::new() }
    }

    pub(crate) fn add(&mut self, now: Timestamp, count: impl FnOnce(&mut Counts)) {
        // A clock that was set back counts in the newest slot.
        let slot = self.slots.back().map_or(i64::MIN, |it| it.0).max(slot(now));
        if self.slots.back().is_none_or(|it| it.0 < slot) {
            self.slots.push_back((slot, Counts::default()));
        }
        while self.slots.front().is_some_and(|it| it.0 <= slot - SLOTS) {
            self.slots.pop_front();
        }
        if let Some((_, counts)) = self.slots.back_mut() {
            count(counts);
        }
    }

    pub(crate) fn lately(&self, now: Timestamp) -> Lately {
        let first = slot(now) - SLOTS + 1;
        let mut counts = Counts::default();
        for (_, it) in self.slots.iter().filter(|it| it.0 >= first) {
            counts.delivered = counts.delivered.saturating_add(it.delivered);
            counts.resolved = counts.resolved.saturating_add(it.resolved);
            counts.failed = counts.failed.saturating_add(it.failed);
        }
        let begin = Timestamp::from_micros(first.saturating_mul(micros(SLOT)));
        let over = now.since(self.since.max(begin)).max(LEAST);
        Lately { counts, over }
    }
}

fn slot(now: Timestamp) -> i64 {
    now.micros().div_euclid(micros(SLOT))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn what_is_a_minute_old_is_forgotten() {
        let mut meter = Meter::new(at(100));
        for second in 100..400 {
            meter.add(at(second), |it| it.delivered += 2);
        }
        let Lately { counts, over } = meter.lately(at(400));
        assert_eq!((counts.delivered, over), (2 * 55, Duration::from_secs(55)));
        let later = meter.lately(at(430));
        assert_eq!((later.counts.delivered, later.over), (2 * 25, Duration::from_secs(55)));
        assert_eq!(meter.lately(at(500)).counts, Counts::default());
        assert!(meter.slots.len() <= 12);
    }

    #[test]
    fn a_short_life_is_measured_by_itself_and_a_clock_set_back_loses_nothing() {
        let mut meter = Meter::new(at(100));
        meter.add(at(101), |it| it.resolved += 1);
        meter.add(at(90), |it| it.failed += 3);
        let Lately { counts, over } = meter.lately(at(110));
        assert_eq!((counts.resolved, counts.failed, over), (1, 3, Duration::from_secs(10)));
        assert_eq!(Meter::new(at(5)).lately(at(5)).over, Duration::from_secs(1));
    }
}
