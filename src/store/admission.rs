//! What a dataset asks of appends beside its schema: times that are plausible, sizes, a pace.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    model::{Timestamp, limits},
    store::Error,
};

/// What a dataset asks of appends; 0 or nothing in a field: no such rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// How long ago an event may have happened.
    pub max_age: Option<Duration>,
    /// How far ahead of the server's clock an event's time may be.
    pub max_ahead: Option<Duration>,
    /// Bytes of one payload.
    pub max_event_bytes: u32,
    /// Events of one append.
    pub max_batch_events: u32,
    /// Events of all appends in a second, in the long run.
    pub max_events_per_second: u32,
}

/// Times that an event may have at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimeBounds {
    pub(crate) earliest: Option<Timestamp>,
    pub(crate) latest: Option<Timestamp>,
}

impl Admission {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let bounds = Duration::from_secs(limits::TIMESTAMP_BOUND_SECONDS_MIN)
            ..=Duration::from_secs(limits::TIMESTAMP_BOUND_SECONDS_MAX);
        for (field, bound) in [("max_age", self.max_age), ("max_ahead", self.max_ahead)] {
            if let Some(bound) = bound.filter(|it| !bounds.contains(it)) {
                let (found, least, most) = (bound.as_secs_f64(), bounds.start(), bounds.end());
                let (least, most) = (least.as_secs(), most.as_secs());
                return Err(Error::invalid(
                    format!("dataset.timestamps.{field}"),
                    format!("{found} s; wanted {least} to {most} s"),
                ));
            }
        }
        let most = [
            ("max_event_bytes", self.max_event_bytes, limits::EVENT_BYTES_MAX),
            ("max_batch_events", self.max_batch_events, limits::BATCH_EVENTS_MAX),
        ];
        for (field, found, most) in most {
            if usize::try_from(found).is_ok_and(|found| found > most) {
                let message = format!("{found}; the server allows at most {most}");
                return Err(Error::invalid(format!("dataset.limits.{field}"), message));
            }
        }
        Ok(())
    }

    /// Times that an event may have now.
    pub(crate) fn times(&self, now: Timestamp) -> TimeBounds {
        let micros = |it: Duration| i64::try_from(it.as_micros()).unwrap_or(i64::MAX);
        let at = |micros: i64| Timestamp::from_micros(micros.max(0));
        TimeBounds {
            earliest: self.max_age.map(|it| at(now.micros().saturating_sub(micros(it)))),
            latest: self.max_ahead.map(|it| at(now.micros().saturating_add(micros(it)))),
        }
    }

    /// Bytes of one payload.
    pub(crate) fn event_bytes_max(&self) -> usize {
        match usize::try_from(self.max_event_bytes) {
            Ok(0) | Err(_) => limits::EVENT_BYTES_MAX,
            Ok(most) => most,
        }
    }

    /// Refuses a batch with more events than the dataset takes.
    pub(crate) fn check_batch(&self, events: usize) -> Result<(), Error> {
        let most = self.max_batch_events;
        if most > 0 && events as u64 > u64::from(most) {
            let message = format!("batch has {events} events; the dataset takes at most {most}");
            return Err(Error::Batch(message));
        }
        Ok(())
    }
}

impl TimeBounds {
    /// Why an event may not have this time, and which it may.
    pub(crate) fn fault(&self, time: Timestamp) -> Option<(String, String)> {
        let bound = match self.earliest.filter(|earliest| time < *earliest) {
            Some(earliest) => format!("before {earliest}"),
            None => format!("after {}", self.latest.filter(|latest| time > *latest)?),
        };
        let message = format!("`timestamp` is {time}; the dataset takes none {bound}");
        Some((message, format!("not {bound}")))
    }
}

/// The pace of each dataset that has a rule for it: a bucket of tokens, filled with so many in a second, up
/// to those of one second. An append goes when there is any token, and takes one for each event, also
/// more than there are, so that a large batch is never refused for ever.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    buckets: Mutex<HashMap<u32, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Paces {
    /// Takes a token for each event; how long to wait when there is none.
    pub(crate) fn take(
        &self,
        dataset: u32,
        per_second: u32,
        events: usize,
        now: Instant,
    ) -> Result<(), Duration> {
        if per_second == 0 {
            return Ok(());
        }
        let rate = f64::from(per_second);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(dataset).or_insert(Bucket { tokens: rate, at: now });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * rate;
        bucket.tokens = (bucket.tokens + gained).min(rate);
        bucket.at = now.max(bucket.at);
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / rate));
        }
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        bucket.tokens -= f64::from(events);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_in_the_long_run() {
        let paces = Paces::default();
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut taken = 0;
        for millis in 0..10_000 {
            let events = 1 + millis % 90;
            if paces.take(1, 100, usize::try_from(events).unwrap(), at(millis)).is_ok() {
                taken += events;
            }
        }
        assert!((1_000..=1_190).contains(&taken), "{taken}");
        assert!(paces.take(2, 100, 1, at(0)).is_ok(), "each dataset has its own");
        assert!(paces.take(1, 0, 1_000_000, at(10_000)).is_ok(), "no rule");
    }

    #[test]
    fn a_batch_larger_than_the_bucket_goes_and_the_next_waits_for_it() {
        let paces = Paces::default();
        let begun = Instant::now();
        assert!(paces.take(1, 10, 100, begun).is_ok());
        let wait = paces.take(1, 10, 1, begun).unwrap_err();
        assert!(wait > Duration::from_secs(9) && wait < Duration::from_secs(10), "{wait:?}");
        assert!(paces.take(1, 10, 1, begun + Duration::from_secs(9)).is_err());
        assert!(paces.take(1, 10, 1, begun + wait).is_ok());
    }

    #[test]
    fn times_are_bounded_on_both_sides() {
        let hour = Duration::from_hours(1);
        let admission =
            Admission { max_age: Some(hour), max_ahead: Some(hour), ..Admission::default() };
        let time = |text| Timestamp::parse_rfc3339(text).unwrap();
        let bounds = admission.times(time("2026-11-20T12:00:00Z"));
        assert_eq!(bounds.fault(time("2026-11-20T11:00:00Z")), None);
        assert_eq!(bounds.fault(time("2026-11-20T13:00:00Z")), None);
        assert!(bounds.fault(time("2026-11-20T10:59:59.999Z")).unwrap().0.contains("none before"));
        assert!(
            bounds.fault(time("2026-11-20T13:00:00.000001Z")).unwrap().0.contains("none after")
        );
        assert_eq!(TimeBounds::default().fault(time("1970-01-01T00:00:00Z")), None);
    }
}
