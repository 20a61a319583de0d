//! Moments by the calendar and the clock of a place.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, Offset, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use crate::model::Timestamp;

/// Where a clock hangs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Zone {
    Fixed(FixedOffset),
    Named(Tz),
}

impl Zone {
    /// `UTC`, an offset such as `+02:00`, or a name of the time zone database.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix(['+', '-']) {
            let (hours, minutes) = rest.split_once(':')?;
            if hours.len() != 2 || minutes.len() != 2 {
                return None;
            }
            let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = (hours * 60 + minutes) * 60;
            let offset = if text.starts_with('-') { -seconds } else { seconds };
            return FixedOffset::east_opt(offset).map(Self::Fixed);
        }
        text.parse().ok().map(Self::Named)
    }

    fn local(self, time: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Fixed(offset) => time.with_timezone(&offset).naive_local(),
            Self::Named(zone) => {
                let offset = zone.offset_from_utc_datetime(&time.naive_utc()).fix();
                time.with_timezone(&offset).naive_local()
            }
        }
    }
}

/// What the calendar and the clock of a zone show; UTC without one.
pub(super) fn local(time: Timestamp, zone: Option<Zone>) -> Option<NaiveDateTime> {
    let time = DateTime::from_timestamp(time.seconds(), time.nanos())?;
    Some(match zone {
        Some(zone) => zone.local(time),
        None => time.naive_utc(),
    })
}

/// A part of a date or a time, as the language counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Year,
    /// From 0.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0, a Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl Part {
    pub(super) fn of(self, local: NaiveDateTime) -> i64 {
        let value = match self {
            Self::Year => return i64::from(local.year()),
            Self::Month => local.month0(),
            Self::Date => local.day(),
            Self::DayOfMonth => local.day0(),
            Self::DayOfWeek => local.weekday().num_days_from_sunday(),
            Self::DayOfYear => local.ordinal0(),
            Self::Hours => local.hour(),
            Self::Minutes => local.minute(),
            Self::Seconds => local.second(),
            Self::Milliseconds => local.nanosecond() / 1_000_000,
        };
        i64::from(value)
    }
}
