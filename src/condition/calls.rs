//! What the functions do.
#![expect(clippy::wildcard_enum_match_arm, reason = "values of all other types are refused alike")]

use crate::{
    condition::{
        Fault, Value,
        clock::{self, Part, Zone},
        functions::Function,
    },
    model::{Timestamp, json::Number},
};

type Result<'a> = std::result::Result<Value<'a>, Fault>;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Calls a function; what stands before the dot is the first argument.
pub(super) fn call(function: Function, arguments: Vec<Value<'_>>) -> Result<'_> {
    let mut arguments = arguments.into_iter();
    let first = arguments.next().unwrap_or(Value::Null);
    let (second, third) = (arguments.next(), arguments.next());
    let (second, third) = (second.as_ref(), third.as_ref());
    match function {
        Function::Size => match &first {
            Value::Text(text) => Ok(Value::count(text.chars().count())),
            Value::List(items) => Ok(Value::count(items.len())),
            Value::Node(node) => Ok(Value::count(node.len())),
            other => Err(other.unfit()),
        },
        Function::StartsWith => on_texts(&first, second, |a, b| Ok(Value::Bool(a.starts_with(b)))),
        Function::EndsWith => on_texts(&first, second, |a, b| Ok(Value::Bool(a.ends_with(b)))),
        Function::Contains => on_texts(&first, second, |a, b| Ok(Value::Bool(a.contains(b)))),
        Function::IndexOf => on_texts(&first, second, |a, b| Ok(place_of(a, a.find(b)))),
        Function::LastIndexOf => on_texts(&first, second, |a, b| Ok(place_of(a, a.rfind(b)))),
        Function::Split => {
            on_texts(&first, second, |a, b| Ok(Value::List(a.split(b).map(Value::text).collect())))
        }
        Function::LowerAscii => Ok(Value::text(first.as_text()?.to_ascii_lowercase())),
        Function::UpperAscii => Ok(Value::text(first.as_text()?.to_ascii_uppercase())),
        Function::Trim => Ok(Value::text(first.as_text()?.trim())),
        Function::Substring => substring(&first, second, third),
        Function::Replace => {
            let (old, new) = (text_of(second)?, text_of(third)?);
            replace(first.as_text()?, old, new)
        }
        Function::String => to_text(first),
        Function::Int => to_int(&first),
        Function::Double => match &first {
            Value::Text(text) => Value::double(text.parse().map_err(|_no| Fault::Conversion)?),
            other => Value::double(other.as_number()?.as_f64()),
        },
        Function::Timestamp => match first {
            Value::Null => Ok(Value::Null),
            other => other.as_time().map(Value::Time),
        },
        Function::Duration => match &first {
            Value::Text(text) => parse_duration(text).map(Value::Duration).ok_or(Fault::Conversion),
            other => other.as_duration().map(Value::Duration),
        },
        Function::Sum | Function::Avg | Function::Min | Function::Max => total(function, &first),
        Function::GetFullYear => part(Part::Year, &first, second),
        Function::GetMonth => part(Part::Month, &first, second),
        Function::GetDate => part(Part::Date, &first, second),
        Function::GetDayOfMonth => part(Part::DayOfMonth, &first, second),
        Function::GetDayOfWeek => part(Part::DayOfWeek, &first, second),
        Function::GetDayOfYear => part(Part::DayOfYear, &first, second),
        Function::GetHours => part(Part::Hours, &first, second),
        Function::GetMinutes => part(Part::Minutes, &first, second),
        Function::GetSeconds => part(Part::Seconds, &first, second),
        Function::GetMilliseconds => part(Part::Milliseconds, &first, second),
    }
}

fn text_of<'v>(value: Option<&'v Value<'_>>) -> std::result::Result<&'v str, Fault> {
    value.ok_or(Fault::Missing)?.as_text()
}

fn on_texts<'a>(
    first: &Value<'_>,
    second: Option<&Value<'_>>,
    f: impl Fn(&str, &str) -> Result<'a>,
) -> Result<'a> {
    f(first.as_text()?, text_of(second)?)
}

/// Where something was found, counted in characters; -1: not at all.
fn place_of<'a>(text: &str, found: Option<usize>) -> Value<'a> {
    match found.and_then(|at| text.get(..at)) {
        Some(before) => Value::count(before.chars().count()),
        None => Value::int(-1),
    }
}

fn substring<'a>(text: &Value<'_>, from: Option<&Value<'_>>, to: Option<&Value<'_>>) -> Result<'a> {
    let text = text.as_text()?;
    let length = text.chars().count();
    let place = |value: &Value<'_>| {
        let place = usize::try_from(value.as_int()?).map_err(|_negative| Fault::Arithmetic)?;
        if place <= length { Ok(place) } else { Err(Fault::Arithmetic) }
    };
    let from = place(from.ok_or(Fault::Missing)?)?;
    let to = to.map_or(Ok(length), place)?;
    let count = to.checked_sub(from).ok_or(Fault::Arithmetic)?;
    Ok(Value::text(text.chars().skip(from).take(count).collect::<String>()))
}

/// A text that grows must stay a text that an event could have.
fn replace<'a>(text: &str, old: &str, new: &str) -> Result<'a> {
    let count = text.matches(old).count();
    let grown = count.saturating_mul(new.len().saturating_sub(old.len()));
    if text.len().saturating_add(grown) > crate::model::limits::EVENT_BYTES_MAX {
        return Err(Fault::Budget);
    }
    Ok(Value::text(text.replace(old, new)))
}

fn to_text(value: Value<'_>) -> Result<'_> {
    Ok(match value {
        Value::Text(text) => Value::Text(text),
        Value::Bool(value) => Value::text(value.to_string()),
        Value::Number(Number::Float(value)) => Value::text(value.to_string()),
        Value::Number(number) => Value::text(number.to_json().to_string()),
        Value::Time(time) => Value::text(time.to_string()),
        Value::Duration(nanos) => {
            let (seconds, rest) = (nanos / NANOS_PER_SECOND, (nanos % NANOS_PER_SECOND).abs());
            let sign = if nanos < 0 && seconds == 0 { "-" } else { "" };
            let fraction = if rest == 0 { String::new() } else { format!(".{rest:09}") };
            let fraction = fraction.trim_end_matches('0');
            Value::text(format!("{sign}{seconds}{fraction}s"))
        }
        other => return Err(other.unfit()),
    })
}

fn to_int<'a>(value: &Value<'_>) -> Result<'a> {
    match value {
        Value::Text(text) => text.parse().map(Value::int).map_err(|_no| Fault::Conversion),
        Value::Number(Number::Float(value)) => {
            let cut = Number::Float(value.trunc()).as_i64();
            cut.map(Value::int).ok_or(Fault::Arithmetic)
        }
        other => other.as_int().map(Value::int),
    }
}

fn total<'a>(function: Function, list: &Value<'_>) -> Result<'a> {
    let numbers =
        list.elements()?.map(|it| it.as_number()).collect::<std::result::Result<Vec<_>, _>>()?;
    let whole: Option<Vec<i64>> = numbers.iter().map(|it| it.as_i64()).collect();
    let doubles = || numbers.iter().map(|it| it.as_f64());
    match (function, whole) {
        (Function::Sum, Some(whole)) => {
            let sum = whole.into_iter().try_fold(0_i64, i64::checked_add);
            sum.map(Value::int).ok_or(Fault::Arithmetic)
        }
        (Function::Sum, None) => Value::double(doubles().sum()),
        // Of nothing there is no least, greatest or mean number.
        _ if numbers.is_empty() => Ok(Value::Null),
        (Function::Avg, _) => {
            let count = Number::Unsigned(numbers.len() as u64).as_f64();
            Value::double(doubles().sum::<f64>() / count)
        }
        (Function::Min, Some(whole)) => Ok(whole.into_iter().min().map_or(Value::Null, Value::int)),
        (Function::Min, None) => Value::double(doubles().fold(f64::INFINITY, f64::min)),
        (_, Some(whole)) => Ok(whole.into_iter().max().map_or(Value::Null, Value::int)),
        (_, None) => Value::double(doubles().fold(f64::NEG_INFINITY, f64::max)),
    }
}

fn part<'a>(part: Part, of: &Value<'_>, zone: Option<&Value<'_>>) -> Result<'a> {
    if let Value::Duration(nanos) = of {
        return Ok(Value::int(match part {
            Part::Hours => nanos / (3_600 * NANOS_PER_SECOND),
            Part::Minutes => nanos / (60 * NANOS_PER_SECOND),
            Part::Seconds => nanos / NANOS_PER_SECOND,
            Part::Milliseconds => nanos % NANOS_PER_SECOND / 1_000_000,
            Part::Year
            | Part::Month
            | Part::Date
            | Part::DayOfMonth
            | Part::DayOfWeek
            | Part::DayOfYear => return Err(Fault::Type),
        }));
    }
    let zone = match zone {
        Some(zone) => Some(Zone::parse(zone.as_text()?).ok_or(Fault::Conversion)?),
        None => None,
    };
    let local = clock::local(of.as_time()?, zone).ok_or(Fault::Arithmetic)?;
    Ok(Value::int(part.of(local)))
}

pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text).ok()
}

/// `1h30m`, `90s`, `1.5h`, `-250ms`: numbers with units, the sign in front of all.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let length = after.find(|it: char| it.is_ascii_digit() || it == '.');
        let (unit, after) = after.split_at_checked(length.unwrap_or(after.len()))?;
        let factor = match unit {
            "h" => 3_600 * NANOS_PER_SECOND,
            "m" => 60 * NANOS_PER_SECOND,
            "s" => NANOS_PER_SECOND,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        nanos = nanos.checked_add(times(number, factor)?)?;
        rest = after;
    }
    Some(if negative { -nanos } else { nanos })
}

/// A decimal number times a whole one, cut to a whole one.
fn times(number: &str, factor: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut product = whole.checked_mul(factor)?;
    let mut unit = factor;
    for digit in fraction.chars() {
        unit /= 10;
        product = product.checked_add(i64::from(digit.to_digit(10)?) * unit)?;
    }
    Some(product)
}

/// A moment so much later.
pub(super) fn shifted<'a>(time: Timestamp, nanos: i64) -> Result<'a> {
    let total = i128::from(time.seconds()) * i128::from(NANOS_PER_SECOND)
        + i128::from(time.nanos())
        + i128::from(nanos);
    let seconds = i64::try_from(total.div_euclid(i128::from(NANOS_PER_SECOND)));
    let nanos = u32::try_from(total.rem_euclid(i128::from(NANOS_PER_SECOND)));
    let made = match (seconds, nanos) {
        (Ok(seconds), Ok(nanos)) => Timestamp::new(seconds, nanos),
        _ => None,
    };
    made.map(Value::Time).ok_or(Fault::Arithmetic)
}

/// How much later the second moment is.
pub(super) fn between<'a>(from: Timestamp, to: Timestamp) -> Result<'a> {
    let nanos = i128::from(to.seconds() - from.seconds()) * i128::from(NANOS_PER_SECOND)
        + i128::from(to.nanos())
        - i128::from(from.nanos());
    i64::try_from(nanos).map(Value::Duration).map_err(|_far| Fault::Arithmetic)
}
