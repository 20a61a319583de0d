//! Numbers that do not change when a text is read and written again.

/// The first number of a JSON text that would not be the same after it was read and written.
#[must_use]
pub fn inexact_number(text: &str) -> Option<&str> {
    numbers(text).find(|number| !survives(number))
}

/// The number that a text is, if it is one that survives being read and written.
#[must_use]
pub fn exact_number(text: &str) -> Option<serde_json::Number> {
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    serde_json::from_str(text).ok().filter(|_| is_number && survives(text))
}

/// The numbers of a JSON text, as written.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let mut in_string = false;
    let mut escaped = false;
    let is_boundary = move |character: char| {
        if in_string {
            (in_string, escaped) = (escaped || character != '"', !escaped && character == '\\');
            return true;
        }
        in_string = character == '"';
        !(character.is_ascii_digit() || "+-.eE".contains(character))
    };
    text.split(is_boundary)
        .filter(|it| it.starts_with(|first: char| first == '-' || first.is_ascii_digit()))
}

/// Whether a number is the same after it was read and written.
fn survives(number: &str) -> bool {
    let written = serde_json::from_str::<serde_json::Number>(number).map(|it| it.to_string());
    written.is_ok_and(|written| decimal(&written) == decimal(number))
}

/// Sign, digits without zeros at either end, and the power of ten of the last digit.
fn decimal(number: &str) -> (bool, String, i64) {
    let negative = number.starts_with('-');
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or(i64::MAX / 2);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let kept = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - kept.len()).unwrap_or(0);
    let fraction = i64::try_from(fraction.len()).unwrap_or(0);
    let kept = kept.trim_start_matches('0').to_owned();
    if kept.is_empty() { (false, kept, 0) } else { (negative, kept, exponent - fraction + dropped) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_change_are_found() {
        let text =
            r#"{"a-1": -1.50, "b": [1e3, 0.1, 18446744073709551615], "\\\"2": "3", "c": 0.0}"#;
        let found: Vec<_> = numbers(text).collect();
        assert_eq!(found, ["-1.50", "1e3", "0.1", "18446744073709551615", "0.0"]);
        for number in [
            "0",
            "-0",
            "1",
            "-1.50",
            "1e3",
            "1E+3",
            "0.1",
            "100.000",
            "18446744073709551615",
            "5e-324",
        ] {
            assert!(survives(number), "{number}");
        }
        for number in
            ["18446744073709551617", "0.1234567890123456789", "123456789012345678901234567890"]
        {
            assert!(!survives(number), "{number}");
        }
    }
}
