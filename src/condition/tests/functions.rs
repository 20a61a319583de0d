//! Functions over every kind of value.

use crate::condition::{
    Fault::{Arithmetic, Conversion, Missing, Type},
    tests::check,
};

const EVENT: &str = r#"{
    "s": "Grüße, Welt", "e": "", "n": 42, "f": -1.75, "m": null, "t": true, "l": [3, 1.5, 2],
    "w": [3, 1, 2], "o": {"a": 1, "b": 2}, "x": ["a", 1], "empty": [],
    "summer": "2026-07-01T00:30:00+02:00", "winter": "2026-01-01T00:30:00.250+01:00",
    "broken": "2026-13-01T00:00:00Z", "day": "2026-11-23"
}"#;

#[test]
fn of_texts() {
    for (text, expected) in [
        ("s.size() == 11 && size(s) == 11 && size(e) == 0", Ok(true)),
        ("s.startsWith('Grü') && s.endsWith('Welt') && s.contains('ße,')", Ok(true)),
        ("s.startsWith('grü') || s.endsWith('x') || s.contains('y')", Ok(false)),
        ("s.startsWith('') && e.startsWith('')", Ok(true)),
        ("s.matches('^Gr.ße') && !s.matches('welt') && s.matches('(?i)welt')", Ok(true)),
        ("s.matches('^\\\\p{Lu}\\\\w+, \\\\w+$')", Ok(true)),
        ("s.lowerAscii() == 'grüße, welt' && s.upperAscii() == 'GRüßE, WELT'", Ok(true)),
        ("'  a b '.trim() == 'a b'", Ok(true)),
        (
            "s.substring(2, 5) == 'üße' && s.substring(7) == 'Welt' && s.substring(11) == ''",
            Ok(true),
        ),
        ("s.substring(12) == ''", Err(Arithmetic)),
        ("s.substring(3, 2) == ''", Err(Arithmetic)),
        ("s.substring(-1) == ''", Err(Arithmetic)),
        ("s.indexOf('ß') == 3 && s.indexOf('x') == -1 && s.lastIndexOf('e') == 8", Ok(true)),
        ("s.replace('e', 'E') == 'GrüßE, WElt'", Ok(true)),
        ("'a,b,'.split(',') == ['a', 'b', '']", Ok(true)),
        ("'😀'.size() == 1", Ok(true)),
        ("n.startsWith('4')", Err(Type)),
        ("z.startsWith('4')", Err(Missing)),
        ("m.matches('4')", Err(Missing)),
        ("n.matches('4')", Err(Type)),
        ("s.contains(z)", Err(Missing)),
        ("size(n) == 2", Err(Type)),
        ("size(z) == 0", Err(Missing)),
    ] {
        check(text, EVENT, expected);
    }
}

#[test]
fn of_lists() {
    for (text, expected) in [
        ("l.size() == 3 && size(o) == 2 && size([]) == 0", Ok(true)),
        ("w.sum() == 6 && l.sum() == 6.5", Ok(true)),
        ("w.min() == 1 && w.max() == 3 && l.min() == 1.5 && l.max() == 3", Ok(true)),
        ("w.avg() == 2 && l.avg() > 2.16 && l.avg() < 2.17", Ok(true)),
        ("empty.sum() == 0 && empty.max() == null && empty.avg() == null", Ok(true)),
        ("x.sum() == 1", Err(Type)),
        ("z.sum() == 1", Err(Missing)),
        ("s.sum() == 1", Err(Type)),
        ("[9223372036854775807, 1].sum() == 0", Err(Arithmetic)),
        ("w.map(it, it * 2).sum() == 12", Ok(true)),
    ] {
        check(text, EVENT, expected);
    }
}

#[test]
fn conversions() {
    for (text, expected) in [
        ("int('42') == 42 && int(' 42') == 42", Err(Conversion)),
        ("int('42') == n && int(f) == -1 && int(2.9) == 2", Ok(true)),
        ("int('4.2') == 4", Err(Conversion)),
        ("int(1e300) == 0", Err(Arithmetic)),
        ("int(z) == 0", Err(Missing)),
        ("int(t) == 1", Err(Type)),
        ("double('1.5') == 1.5 && double(n) == 42.0", Ok(true)),
        ("double('x') == 1.0", Err(Conversion)),
        ("double('inf') > 1.0", Err(Arithmetic)),
        ("string(n) == '42' && string(f) == '-1.75' && string(t) == 'true'", Ok(true)),
        ("string(now()) == '2026-11-23T09:30:00Z'", Ok(true)),
        ("string(duration('90m')) == '5400s' && string(duration('1.5s')) == '1.5s'", Ok(true)),
        ("string(duration('-250ms')) == '-0.25s'", Ok(true)),
        ("string(z) == ''", Err(Missing)),
        ("string(l) == ''", Err(Type)),
        ("timestamp(broken) == now()", Err(Conversion)),
        ("timestamp(day) == now()", Err(Conversion)),
        ("timestamp(n) == now()", Err(Type)),
        ("timestamp(z) == null", Ok(true)),
        ("duration(s) == duration('1s')", Err(Conversion)),
        ("duration('1h30m') == duration('90m') && duration('1.5h') == duration('5400s')", Ok(true)),
        ("duration('1us') == duration('1000ns') && duration('-1s') < duration('0')", Ok(true)),
    ] {
        check(text, EVENT, expected);
    }
}

#[test]
fn of_moments() {
    for (text, expected) in [
        (
            "summer.getFullYear() == 2026 && summer.getMonth() == 5 && summer.getDate() == 30",
            Ok(true),
        ),
        ("summer.getDate('Europe/Berlin') == 1 && summer.getMonth('Europe/Berlin') == 6", Ok(true)),
        ("summer.getHours() == 22 && summer.getHours('Europe/Berlin') == 0", Ok(true)),
        ("winter.getHours() == 23 && winter.getHours('Europe/Berlin') == 0", Ok(true)),
        ("winter.getFullYear() == 2025 && winter.getFullYear('+01:00') == 2026", Ok(true)),
        (
            "winter.getFullYear('UTC') == 2025 && winter.getMinutes('Asia/Kathmandu') == 15",
            Ok(true),
        ),
        ("winter.getMinutes('+05:45') == 15 && winter.getMinutes('-03:30') == 0", Ok(true)),
        ("winter.getMilliseconds() == 250 && winter.getSeconds() == 0", Ok(true)),
        ("winter.getDayOfYear() == 364 && winter.getDayOfYear('+01:00') == 0", Ok(true)),
        ("winter.getDayOfMonth() == 30 && winter.getDayOfWeek() == 3", Ok(true)),
        ("now().getDayOfWeek() == 1", Ok(true)),
        ("summer.getHours(e) == 0", Err(Conversion)),
        ("summer.getHours(z) == 0", Err(Missing)),
        ("broken.getHours() == 0", Err(Conversion)),
        ("n.getHours() == 0", Err(Type)),
        ("z.getHours() == 0", Err(Missing)),
        ("duration('90m').getHours() == 1 && duration('90m').getMinutes() == 90", Ok(true)),
        (
            "duration('1.25s').getSeconds() == 1 && duration('1.25s').getMilliseconds() == 250",
            Ok(true),
        ),
        // In Berlin 2026-10-25 has 25 hours.
        (
            "timestamp('2026-10-26T00:00:00+01:00') - timestamp('2026-10-25T00:00:00+02:00') \
             == duration('25h')",
            Ok(true),
        ),
    ] {
        check(text, EVENT, expected);
    }
}
