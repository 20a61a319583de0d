//! Instants as people write them.

use std::time::Duration;

use crate::{
    grpc::client::well_known::Timestamp as ProtoTimestamp, model::Timestamp, store::Clock,
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

/// Seconds of `90s`, `15m`, `2h`, `7d`.
fn age(text: &str) -> Option<i64> {
    let (digits, unit_seconds) = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)]
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)))?;
    let count = digits.parse::<u32>().ok()?;
    Some(i64::from(count) * unit_seconds)
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
    use super::{Timestamp, parse_at};

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
}
