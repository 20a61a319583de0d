//! Operators.

use crate::{
    condition::{Expression, Fault},
    model::{Timestamp, json::Document},
};

#[track_caller]
fn check(text: &str, event: &str, expected: Result<bool, Fault>) {
    let condition = Expression::condition(text, None).unwrap_or_else(|it| panic!("{text}: {it}"));
    let document = Document::parse(event).unwrap();
    let now = Timestamp::parse_rfc3339("2026-11-23T09:30:00Z").unwrap();
    assert_eq!(condition.holds(document.root(), now), expected, "{text} of {event}");
}

#[test]
fn comparisons() {
    let event = r#"{"a":1,"b":"x","c":{"d":[1,2,{"e":"ü"}]},"n":null,"t":true}"#;
    let missing = Err(Fault::Missing);
    for (text, expected) in [
        ("a == 1", Ok(true)),
        ("a == 1.0", Ok(true)),
        ("a != 1", Ok(false)),
        ("a < 2 && a <= 1 && a > 0 && a >= 1", Ok(true)),
        ("b == 'x'", Ok(true)),
        ("b == 1", Ok(false)),
        ("b < 'y'", Ok(true)),
        ("b < 1", Err(Fault::Type)),
        ("z == null", Ok(true)),
        ("z.y.x == null", Ok(true)),
        ("z > 1", missing),
        ("!(z > 1)", missing),
        ("z > 1 || a == 1", Ok(true)),
        ("z > 1 && a == 2", Ok(false)),
        ("z > 1 && a == 1", missing),
        ("has(c.d) && !has(c.f) && !has(z.y)", Ok(true)),
        ("has(n)", Ok(false)),
        ("c.d[2].e == 'ü'", Ok(true)),
        ("c.d[7] == null", Ok(true)),
        ("a in [3, 2, 1]", Ok(true)),
        ("2 in c.d", Ok(true)),
        ("'d' in c", Ok(true)),
        ("c.d.exists(it, it == 2)", Ok(true)),
        ("c.d.all(it, it == 2)", Ok(false)),
        ("c.d.filter(it, it == 2).size() == 1", Ok(true)),
        ("[1, 2].map(it, it * 2) == [2, 4]", Ok(true)),
        ("t ? a == 1 : a == 2", Ok(true)),
        ("a + 2 * 3 - 1 == 6", Ok(true)),
        ("-a == -1 && !false", Ok(true)),
        ("now() == timestamp('2026-11-23T10:30:00+01:00')", Ok(true)),
        ("now() - duration('1h') < now()", Ok(true)),
        ("now().getHours('Europe/Berlin') == 10", Ok(true)),
        ("now().getHours('+05:45') == 15", Ok(true)),
        ("b.matches('^[w-z]$')", Ok(true)),
        ("9223372036854775807 + a == 0", Err(Fault::Arithmetic)),
        ("a / 0 == 1", Err(Fault::Arithmetic)),
    ] {
        check(text, event, expected);
    }
}
