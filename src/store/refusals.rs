//! What was refused, since the store was opened: counts by dataset and reason, and the last ones by event
//! id. In memory alone: a refused event has left nothing else behind.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    model::{Timestamp, limits, shorten},
    store::EventStore,
};

const MINUTES: usize = 60;
const MINUTE_MICROS: i64 = 60 * 1_000_000;

/// Events refused for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalCount {
    /// Name of the reason.
    pub reason: &'static str,
    /// In the last hour, to the minute.
    pub last_hour: u64,
    /// Since the store was opened.
    pub since_start: u64,
}

/// An event that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub time: Timestamp,
    /// Number of the dataset that it was sent to.
    pub(crate) dataset: u32,
    /// The sender's id.
    pub event_id: String,
    /// Name of the reason.
    pub reason: &'static str,
    /// What was wrong, in short.
    pub message: String,
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<(u32, &'static str), Count>,
    /// Newest last.
    recent: VecDeque<Refusal>,
}

/// A count, and how much of it was in each of the last sixty minutes.
#[derive(Clone, Debug)]
struct Count {
    since_start: u64,
    by_minute: [u64; MINUTES],
    /// The minute that was counted last.
    minute: i64,
}

impl Default for Count {
    fn default() -> Self {
        Self { since_start: 0, by_minute: [0; MINUTES], minute: i64::MIN }
    }
}

impl Count {
    fn add(&mut self, events: u64, minute: i64) {
        self.forget(minute);
        self.since_start += events;
        if let Some(slot) = self.by_minute.get_mut(slot(self.minute)) {
            *slot += events;
        }
    }

    fn last_hour(&mut self, minute: i64) -> u64 {
        self.forget(minute);
        self.by_minute.iter().sum()
    }

    /// Empties the minutes that have come round again. A clock that steps back stays where it was.
    fn forget(&mut self, minute: i64) {
        let passed = minute.saturating_sub(self.minute);
        if passed >= i64::try_from(MINUTES).unwrap_or(i64::MAX) {
            self.by_minute = [0; MINUTES];
        } else {
            for past in self.minute.saturating_add(1)..=minute {
                if let Some(slot) = self.by_minute.get_mut(slot(past)) {
                    *slot = 0;
                }
            }
        }
        self.minute = self.minute.max(minute);
    }
}

fn slot(minute: i64) -> usize {
    usize::try_from(minute.rem_euclid(60)).unwrap_or(0)
}

fn minute(time: Timestamp) -> i64 {
    time.micros().div_euclid(MINUTE_MICROS)
}

impl Refusals {
    fn count(&self, dataset: u32, reason: &'static str, events: u64, now: Timestamp) {
        let mut state = self.lock();
        state.counts.entry((dataset, reason)).or_default().add(events, minute(now));
    }

    fn remember(&self, refusal: Refusal) {
        let mut state = self.lock();
        if state.recent.len() >= limits::REFUSALS_MAX {
            state.recent.pop_front();
        }
        state.recent.push_back(refusal);
    }

    fn counts(&self, dataset: Option<u32>, now: Timestamp) -> Vec<RefusalCount> {
        let mut counts: BTreeMap<&'static str, RefusalCount> = BTreeMap::new();
        for ((of, reason), count) in &mut self.lock().counts {
            if dataset.is_some_and(|dataset| dataset != *of) {
                continue;
            }
            let sum = counts.entry(reason).or_insert(RefusalCount {
                reason,
                last_hour: 0,
                since_start: 0,
            });
            sum.last_hour += count.last_hour(minute(now));
            sum.since_start += count.since_start;
        }
        counts.into_values().collect()
    }

    /// Refusals of an event, oldest first.
    pub(crate) fn of_event(&self, dataset: u32, event_id: &str) -> Vec<Refusal> {
        let is_it = |it: &&Refusal| it.dataset == dataset && it.event_id == event_id;
        self.lock().recent.iter().filter(is_it).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventStore {
    /// Notes that events sent to a dataset were refused.
    pub fn note_refused(&self, dataset: &str, reason: &'static str, events: u64) {
        if let Ok(dataset) = self.dataset(dataset) {
            self.inner.refusals.count(dataset.number, reason, events, self.now());
        }
    }

    /// Notes that an event sent to a dataset was refused.
    pub fn note_refused_event(
        &self,
        dataset: &str,
        reason: &'static str,
        event_id: &str,
        message: &str,
    ) {
        let Ok(dataset) = self.dataset(dataset) else { return };
        let (time, dataset) = (self.now(), dataset.number);
        self.inner.refusals.count(dataset, reason, 1, time);
        if !event_id.is_empty() {
            let (event_id, message) = (event_id.to_owned(), shorten(message));
            self.inner.refusals.remember(Refusal { time, dataset, event_id, reason, message });
        }
    }

    /// What was refused, by reason: of one dataset or of all.
    #[must_use]
    pub fn refused(&self, dataset: Option<u32>) -> Vec<RefusalCount> {
        self.inner.refusals.counts(dataset, self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_micros(minutes * MINUTE_MICROS)
    }

    #[test]
    fn an_hour_passes_minute_by_minute() {
        let refusals = Refusals::default();
        for minute in 0..100 {
            refusals.count(1, "A", 1, at(minute));
            refusals.count(2, "A", 10, at(minute));
        }
        let one = |now, last_hour| {
            let counts = refusals.counts(Some(1), at(now));
            assert_eq!(counts, [RefusalCount { reason: "A", last_hour, since_start: 100 }]);
        };
        one(99, 60);
        one(100, 59);
        one(158, 1);
        one(159, 0);
        one(10_000, 0);
        // A clock that steps back takes nothing away.
        refusals.count(1, "A", 1, at(5_000));
        assert_eq!(refusals.counts(Some(1), at(10_000))[0].last_hour, 1);
        assert_eq!(refusals.counts(None, at(10_000))[0].since_start, 1_101);
        assert_eq!(refusals.counts(Some(3), at(10_000)), []);
    }

    #[test]
    fn the_last_refusals_are_remembered() {
        let refusals = Refusals::default();
        let refusal = |n: usize| Refusal {
            time: at(0),
            dataset: 1,
            event_id: (n % 7).to_string(),
            reason: "A",
            message: n.to_string(),
        };
        for n in 0..limits::REFUSALS_MAX + 70 {
            refusals.remember(refusal(n));
        }
        let found = refusals.of_event(1, "3");
        assert_eq!(found.first().map(|it| it.message.as_str()), Some("73"));
        assert!(refusals.of_event(2, "3").is_empty());
    }
}
