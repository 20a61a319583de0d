//! How fast a subscription that catches up may look at events, so that others find room on the disk.

use std::time::Duration;

use crate::model::Timestamp;

/// What the bucket holds is counted in these, so that nothing is lost to rounding: an event in a microsecond is one.
const EVENT: u64 = 1_000_000;

/// A bucket that fills at the pace of the limit, and holds what a tenth of a second brings; what is looked at is taken from it.
#[derive(Debug, Default)]
pub(super) struct Pace {
    level: u64,
    filled: Timestamp,
}

impl Pace {
    /// How many events may be looked at now, or when that is to be asked again; never none.
    pub(super) fn allows(&mut self, limit: u32, now: Timestamp) -> Result<usize, Timestamp> {
        let limit = u64::from(limit);
        if limit == 0 {
            return Ok(usize::MAX);
        }
        let room = (limit * EVENT / 10).max(EVENT);
        let passed = u64::try_from(now.since(self.filled).as_micros()).unwrap_or(u64::MAX);
        self.level = self.level.saturating_add(passed.saturating_mul(limit)).min(room);
        self.filled = now;
        // Pages of a few events each would cost more than what is in them.
        let enough = (room / 2).max(EVENT);
        if self.level < enough {
            let wait = (enough - self.level).div_ceil(limit);
            return Err(now.plus(Duration::from_micros(wait)));
        }
        Ok(usize::try_from(self.level / EVENT).unwrap_or(usize::MAX))
    }

    /// So many events were looked at.
    pub(super) fn take(&mut self, events: u64) {
        self.level = self.level.saturating_sub(events.saturating_mul(EVENT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events that are looked at in so many microseconds, by one who takes all that it may.
    fn looked_at(limit: u32, micros: i64, per_page: u64) -> u64 {
        let mut pace = Pace::default();
        let begin = Timestamp::from_micros(1_790_000_000_000_000);
        let (mut now, mut sum) = (begin, 0);
        while now.micros() - begin.micros() < micros {
            match pace.allows(limit, now) {
                Ok(events) => {
                    let events = u64::try_from(events).unwrap().min(per_page);
                    assert!(events > 0);
                    pace.take(events);
                    sum += events;
                }
                Err(later) => {
                    assert!(later > now);
                    now = later;
                }
            }
        }
        sum
    }

    #[test]
    fn a_limit_is_kept_and_made_use_of() {
        for limit in [1, 7, 100, 12_345, 1_000_000] {
            for per_page in [1, 512, u64::MAX] {
                let sum = looked_at(limit, 10_000_000, per_page);
                let most = 10 * u64::from(limit) + u64::from(limit / 10).max(1);
                assert!(sum <= most, "{sum} of {limit}");
                assert!(sum * 10 >= most * 8, "{sum} of {limit}");
            }
        }
    }

    #[test]
    fn no_limit_is_none_and_time_that_passes_unused_is_gone() {
        let mut pace = Pace::default();
        let now = Timestamp::from_micros(5);
        assert_eq!(pace.allows(0, now), Ok(usize::MAX));
        assert_eq!(pace.allows(100, now.plus(Duration::from_hours(1))), Ok(10));
        // A clock that goes back is one that stands still.
        pace.take(10);
        assert!(pace.allows(100, now).is_err());
        assert_eq!(pace.allows(u32::MAX, now.plus(Duration::from_hours(2))), Ok(429_496_729));
    }
}
