//! Instants, and their RFC 3339 form.

use std::{fmt, time::Duration};

use chrono::{DateTime, SecondsFormat};

/// An instant, to the nanosecond, from year 1 to 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    seconds: i64,
    /// 0 to 999 999 999, counted forward.
    nanos: u32,
}

const NANOS_PER_SECOND: u32 = 1_000_000_000;
const MICROS_PER_SECOND: i64 = 1_000_000;
/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const SECONDS_MAX: i64 = 253_402_300_799;
/// 0001-01-01T00:00:00Z, the first second that protobuf's `Timestamp` can hold.
const SECONDS_MIN: i64 = -62_135_596_800;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self { seconds: 0, nanos: 0 };

    /// The instant, unless it is out of range.
    #[must_use]
    pub const fn new(seconds: i64, nanos: u32) -> Option<Self> {
        if seconds < SECONDS_MIN || seconds > SECONDS_MAX || nanos >= NANOS_PER_SECOND {
            return None;
        }
        Some(Self { seconds, nanos })
    }

    /// The instant this many microseconds after 1970; clamped to the range.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        let seconds = micros.div_euclid(MICROS_PER_SECOND).clamp(SECONDS_MIN, SECONDS_MAX);
        let micros = u32::try_from(micros.rem_euclid(MICROS_PER_SECOND)).unwrap_or(0);
        Self { seconds, nanos: micros * 1_000 }
    }

    /// Microseconds after 1970, rounded down.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.seconds * MICROS_PER_SECOND + (self.nanos / 1_000) as i64
    }

    /// Microseconds after 1970, rounded up.
    #[must_use]
    pub const fn micros_ceil(self) -> i64 {
        self.seconds * MICROS_PER_SECOND + self.nanos.div_ceil(1_000) as i64
    }

    /// The instant this much later; clamped to the range.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.micros().saturating_add(micros))
    }

    /// The time since an earlier instant, to the microsecond; zero when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.micros().saturating_sub(earlier.micros());
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Whole seconds after 1970.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after `seconds`.
    #[must_use]
    pub const fn nanos(self) -> u32 {
        self.nanos
    }

    /// Parses RFC 3339, section 5.6, strictly: `T` between date and time (either case), seconds
    /// present, an offset with a colon, at most nine digits of fraction kept. A leap second is the
    /// second after it.
    ///
    /// # Errors
    /// What was wrong, for people.
    pub fn parse_rfc3339(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "an RFC 3339 date-time such as `2026-11-23T09:30:00Z`";
        let bytes = text.as_bytes();
        // chrono also takes a space for the `T`; the standard's own grammar does not.
        let has_t = bytes.get(10).is_some_and(|b| matches!(b, b'T' | b't'));
        if !has_t || !bytes.get(..4).is_some_and(|year| year.iter().all(u8::is_ascii_digit)) {
            return Err(WANTED);
        }
        let parsed = DateTime::parse_from_rfc3339(text).map_err(|_unhelpful| WANTED)?;
        let nanos = parsed.timestamp_subsec_nanos();
        let (carry, nanos) = (nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND);
        if carry > 0 && parsed.naive_utc().format("%H:%M").to_string() != "23:59" {
            return Err("a leap second only at 23:59:60 UTC");
        }
        Self::new(parsed.timestamp() + i64::from(carry), nanos).ok_or("a year from 1 to 9999")
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp(self.seconds, self.nanos) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{}s", self.seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let shown = Timestamp::parse_rfc3339(text).ok().map(|time| time.to_string());
        assert_eq!(shown.as_deref(), expected, "{text}");
    }

    #[test]
    fn the_standards_grammar_and_nothing_else_is_parsed() {
        check("2026-11-23T09:30:00Z", Some("2026-11-23T09:30:00Z"));
        check("2026-11-23t09:30:00z", Some("2026-11-23T09:30:00Z"));
        check("2026-11-23T09:30:00+02:00", Some("2026-11-23T07:30:00Z"));
        check("2026-11-23T09:30:00.123456789-01:30", Some("2026-11-23T11:00:00.123456789Z"));
        check("1969-12-31T23:59:59.5Z", Some("1969-12-31T23:59:59.500Z"));
        check("2016-12-31T23:59:60Z", Some("2017-01-01T00:00:00Z"));
        check("2016-12-31T22:10:60Z", None);
        check("2026-11-23 09:30:00Z", None);
        check("2026-11-23T09:30Z", None);
        check("2026-11-23T09:30:00", None);
        check("2026-11-23T09:30:00+0200", None);
        check("20261123T093000Z", None);
        check("2026-13-01T00:00:00Z", None);
        check("+2026-11-23T09:30:00Z", None);
        check("", None);
    }

    #[test]
    fn microseconds_round_down_or_up() {
        let time = Timestamp::new(-1, 999_999_001).unwrap();
        assert_eq!((time.micros(), time.micros_ceil()), (-1, 0));
        assert_eq!(Timestamp::from_micros(-1).micros(), -1);
    }
}
