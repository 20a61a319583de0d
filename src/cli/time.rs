//! Instants as people write them.

use std::time::Duration;

use crate::{
    grpc::client::well_known::{Duration as ProtoDuration, Timestamp as ProtoTimestamp},
    model::Timestamp,
    store::Clock,
};

/// Parses an RFC 3339 date-time, a date (midnight UTC), or an age such as `15m`.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    parse_at(text, Clock::system().now())
}

fn parse_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(age_seconds) = age(text) {
        let micros = age_seconds.saturating_mul(1_000_000);
        return Ok(Timestamp::from_micros(now.micros().saturating_sub(micros)));
    }
    let date_time =
        if text.len() == "2026-11-23".len() { &format!("{text}T00:00:00Z") } else { text };
    Timestamp::parse_rfc3339(date_time).map_err(|_unhelpful| {
        "allowed: `2026-11-23T09:30:00Z`, `2026-11-23`, or an age in s, m, h or d such as `15m`"
            .to_owned()
    })
}

const UNITS: [(&str, i64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];

/// Seconds of `90s`, `15m`, `2h`, `7d`.
fn age(text: &str) -> Option<i64> {
    let (digits, unit_seconds) =
        UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)))?;
    let count = digits.parse::<u32>().ok()?;
    Some(i64::from(count) * unit_seconds)
}

/// Parses an age such as `30d` as how long something may last.
pub(crate) fn duration(text: &str) -> Result<ProtoDuration, String> {
    let wanted = || "allowed: an age in s, m, h or d such as `30d`".to_owned();
    let seconds = age(text).filter(|seconds| *seconds > 0).ok_or_else(wanted)?;
    Ok(ProtoDuration { seconds, nanos: 0 })
}

/// The age in the largest unit that has no fraction.
pub(crate) fn show_age(age: &ProtoDuration) -> String {
    let fits = |seconds: &i64| age.nanos == 0 && age.seconds % seconds == 0;
    match UNITS.iter().rev().find(|(_, seconds)| fits(seconds)) {
        Some((unit, seconds)) => format!("{}{unit}", age.seconds / seconds),
        None => format!("{}.{:09}s", age.seconds, age.nanos),
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn to_proto(time: Timestamp) -> ProtoTimestamp {
    ProtoTimestamp { seconds: time.seconds(), nanos: time.nanos().cast_signed() }
}

/// RFC 3339; empty when there is none.
pub(crate) fn show(time: Option<&ProtoTimestamp>) -> String {
    let known = time.and_then(|it| Timestamp::new(it.seconds, u32::try_from(it.nanos).ok()?));
    known.map(|it| it.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{ProtoDuration, Timestamp, duration, parse_at, show_age};

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let now = Timestamp::parse_rfc3339("2026-11-23T12:00:00Z").unwrap();
        let found = parse_at(text, now).ok().map(|time| time.to_string());
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn instants_dates_and_ages_are_read() {
        check("2026-11-23T09:30:00+01:00", Some("2026-11-23T08:30:00Z"));
        check("2026-11-23", Some("2026-11-23T00:00:00Z"));
        check("90s", Some("2026-11-23T11:58:30Z"));
        check("15m", Some("2026-11-23T11:45:00Z"));
        check("7d", Some("2026-11-16T12:00:00Z"));
        check("-7d", None);
        check("yesterday", None);
        check("", None);
        check("d", None);
    }

    #[test]
    fn an_age_comes_back_as_it_was_written() {
        for text in ["90s", "15m", "25h", "30d"] {
            assert_eq!(show_age(&duration(text).unwrap()), text);
        }
        assert_eq!(show_age(&ProtoDuration { seconds: 1, nanos: 500_000_000 }), "1.500000000s");
        for wrong in ["0s", "-1d", "d", "7", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
