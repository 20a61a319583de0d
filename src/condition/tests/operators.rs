//! Operators over every kind of value: there, missing, null, of another type.

use crate::condition::{
    Fault::{Arithmetic, Budget, Missing, Type},
    tests::check,
};

const EVENT: &str = r#"{
    "a": 1, "b": "x", "c": {"d": [1, 2, {"e": "ü"}], "k v": 7}, "n": null, "t": true, "f": 1.5,
    "big": 9007199254740993, "huge": 18446744073709551615, "neg": -5,
    "zoned": "2026-11-23T10:30:00+01:00", "utc": "2026-11-23T09:30:00Z"
}"#;

#[test]
fn equality() {
    for (text, expected) in [
        ("a == 1", Ok(true)),
        ("a == 1.0", Ok(true)),
        ("a != 1", Ok(false)),
        ("f == 1.5", Ok(true)),
        ("b == 'x'", Ok(true)),
        ("b == \"x\"", Ok(true)),
        ("b != 'X'", Ok(true)),
        ("t == true", Ok(true)),
        ("t", Ok(true)),
        // Of different types nothing is the same, and nothing is at fault.
        ("b == 1", Ok(false)),
        ("b != 1", Ok(true)),
        ("a == '1'", Ok(false)),
        // What is missing is null, and so is null.
        ("z == null", Ok(true)),
        ("z.y.x == null", Ok(true)),
        ("n == null", Ok(true)),
        ("z != 'x'", Ok(true)),
        ("z == 'x'", Ok(false)),
        ("a == null", Ok(false)),
        // Exactly, also beyond what doubles tell apart.
        ("big == 9007199254740993", Ok(true)),
        ("big == 9007199254740992", Ok(false)),
        ("huge > 9223372036854775807", Ok(true)),
        ("big > 9007199254740992.0", Ok(true)),
        ("big == 9007199254740992.0", Ok(false)),
        ("neg == -5 && neg == -5.0", Ok(true)),
        // Moments by the instant, wherever the clock hangs.
        ("timestamp(zoned) == timestamp(utc)", Ok(true)),
        ("zoned == utc", Ok(false)),
        ("zoned == timestamp(utc)", Ok(true)),
        ("c.d == [1, 2]", Ok(false)),
        ("[1, 2] == [1.0, 2.0]", Ok(true)),
        ("[1, 2] == [1, 2, 3]", Ok(false)),
    ] {
        check(text, EVENT, expected);
    }
}

#[test]
fn order() {
    for (text, expected) in [
        ("a < 2 && a <= 1 && a > 0 && a >= 1", Ok(true)),
        ("a < 1 || a > 1", Ok(false)),
        ("f > a && f < 2", Ok(true)),
        ("b < 'y' && b > 'w' && b >= 'x' && b <= 'x'", Ok(true)),
        ("'z' < 'ä'", Ok(true)),
        ("'Z' < 'a'", Ok(true)),
        ("b < 1", Err(Type)),
        ("a < 'x'", Err(Type)),
        ("z < 1", Err(Missing)),
        ("n < 1", Err(Missing)),
        ("c < 1", Err(Type)),
        ("timestamp(zoned) <= now()", Ok(true)),
        ("zoned < timestamp('2026-11-23T09:30:00.000000001Z')", Ok(true)),
        ("duration('1h') > duration('59m59s')", Ok(true)),
    ] {
        check(text, EVENT, expected);
    }
}

#[test]
fn logic_takes_a_fault_for_neither_true_nor_false() {
    for (text, expected) in [
        ("z > 1", Err(Missing)),
        ("!(z > 1)", Err(Missing)),
        ("z > 1 || a == 1", Ok(true)),
        ("a == 1 || z > 1", Ok(true)),
        ("z > 1 || a == 2", Err(Missing)),
        ("z > 1 && a == 2", Ok(false)),
        ("a == 2 && z > 1", Ok(false)),
        ("z > 1 && a == 1", Err(Missing)),
        ("b && true", Err(Type)),
        ("b && false", Ok(false)),
        ("!t", Ok(false)),
        ("!!t", Ok(true)),
        ("!b", Err(Type)),
        ("t ? a == 1 : z > 1", Ok(true)),
        ("!t ? z > 1 : a == 1", Ok(true)),
        ("z ? true : true", Err(Missing)),
        ("a == 1 && b == 'x' || false", Ok(true)),
        ("false && false || true", Ok(true)),
        ("a == 1 == true", Ok(true)),
    ] {
        check(text, EVENT, expected);
    }
}

#[test]
fn arithmetic() {
    for (text, expected) in [
        ("a + 2 * 3 - 1 == 6", Ok(true)),
        ("(a + 2) * 3 == 9", Ok(true)),
        ("7 / 2 == 3", Ok(true)),
        ("-7 / 2 == -3", Ok(true)),
        ("7 % 3 == 1 && -7 % 3 == -1", Ok(true)),
        ("7.0 / 2 == 3.5", Ok(true)),
        // An event may write a number with a fraction as a whole one.
        ("a / 2 == 0.5", Ok(true)),
        ("-a == -1 && -f == -1.5", Ok(true)),
        ("b + 'y' == 'xy'", Ok(true)),
        ("[1] + [2] == [1, 2]", Ok(true)),
        ("c.d + [4] == c.d", Ok(false)),
        ("9223372036854775807 + 1 == 0", Err(Arithmetic)),
        ("-9223372036854775808 - 1 == 0", Err(Arithmetic)),
        ("9223372036854775807 * 2 == 0", Err(Arithmetic)),
        ("1 / 0 == 1", Err(Arithmetic)),
        ("1 % 0 == 1", Err(Arithmetic)),
        ("1.0 / 0.0 > 1.0", Err(Arithmetic)),
        ("1e308 * 10.0 > 1.0", Err(Arithmetic)),
        ("a + b == 1", Err(Type)),
        ("a + z == 1", Err(Missing)),
        ("b - b == ''", Err(Type)),
        ("now() + duration('1h') > now()", Ok(true)),
        ("now() - duration('1h') < now()", Ok(true)),
        ("now() - timestamp(zoned) == duration('0s')", Ok(true)),
        ("duration('1h') + duration('30m') == duration('90m')", Ok(true)),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s') > now()", Err(Arithmetic)),
    ] {
        check(text, EVENT, expected);
    }
}

#[test]
fn paths_lists_and_membership() {
    for (text, expected) in [
        ("c.d[2].e == 'ü'", Ok(true)),
        ("c.d[7] == null", Ok(true)),
        ("c.d[7].e == null", Ok(true)),
        ("c['k v'] == 7", Ok(true)),
        ("c.`k v` == 7", Ok(true)),
        ("c['d'][0] == 1", Ok(true)),
        ("c.d[a] == 2", Ok(true)),
        ("c.d[-a] == null", Ok(true)),
        ("a.b == null", Err(Type)),
        ("has(c.d) && has(c.d[0])", Ok(true)),
        ("has(c.x) || has(z.y) || has(n) || has(c.d[9])", Ok(false)),
        ("a in [3, 2, 1]", Ok(true)),
        ("a in [1.0]", Ok(true)),
        ("b in ['y', 'z']", Ok(false)),
        ("z in ['y', 'z']", Ok(false)),
        ("null in [null]", Ok(true)),
        ("2 in c.d", Ok(true)),
        ("'d' in c && !('e' in c)", Ok(true)),
        ("1 in z", Err(Missing)),
        ("1 in b", Err(Type)),
    ] {
        check(text, EVENT, expected);
    }
}

#[test]
fn loops() {
    for (text, expected) in [
        ("c.d.exists(it, it == 2)", Ok(true)),
        ("c.d.exists(it, it == 5)", Ok(false)),
        ("c.d.all(it, it != 5)", Ok(true)),
        ("c.d.all(it, it == 1)", Ok(false)),
        ("[].all(it, it == 1) && ![].exists(it, it == 1)", Ok(true)),
        ("c.d.exists_one(it, it == 2)", Ok(true)),
        ("[2, 2].exists_one(it, it == 2)", Ok(false)),
        ("c.d.filter(it, it == 2 || it == 1).size() == 2", Ok(true)),
        ("[1, 2].map(it, it * 2) == [2, 4]", Ok(true)),
        ("[1, 2].map(it, it * 2).exists(it, it > 3)", Ok(true)),
        ("[1, 2].exists(x, [3, 4].exists(y, x + y == 6))", Ok(true)),
        // An element decides although another is at fault.
        ("c.d.exists(it, it > 1)", Ok(true)),
        ("c.d.exists(it, it > 2)", Err(Type)),
        ("c.d.all(it, it > 1)", Ok(false)),
        ("z.exists(it, true)", Err(Missing)),
        ("b.exists(it, true)", Err(Type)),
        ("c.d.exists(it, it.e == 'ü')", Ok(true)),
    ] {
        check(text, EVENT, expected);
    }
}

#[test]
fn an_evaluation_ends() {
    let list: Vec<String> = (0..200).map(|it| it.to_string()).collect();
    let event = format!(r#"{{"l":[{}]}}"#, list.join(","));
    check("l.exists(x, x == 199)", &event, Ok(true));
    check("l.all(x, l.all(y, x + y >= 0))", &event, Err(Budget));
    // No `||` makes an answer of it.
    check("l.all(x, l.all(y, x + y >= 0)) || true", &event, Err(Budget));
    check("!l.all(x, l.all(y, x + y >= 0))", &event, Err(Budget));
    let long = format!(r#"{{"t":"{}"}}"#, "x".repeat(900_000));
    check("t.contains('y')", &long, Err(Budget));
}
