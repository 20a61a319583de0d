//! Events with something in them changed.

use serde_json::{Map, Value, json};

use crate::support::events::Random;

/// An event with one to three things in it changed, and what.
pub(super) fn changed(event: &Value, random: &mut Random) -> (Value, String) {
    let (mut event, mut what) = (event.clone(), String::new());
    for _ in 0..*random.one_of(&[1, 1, 1, 2, 3]) {
        let mut places = Vec::new();
        values(&event, "", &mut places);
        if places.is_empty() {
            break;
        }
        let place = random.one_of(&places).clone();
        let change = *random.one_of(&CHANGES);
        let done = apply(change, &mut event, &place, random);
        what = format!("{what}{change:?} {place} {done}; ");
    }
    (event, what)
}

/// Pointers to every value below a value.
fn values(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(key, it)| (escaped(key), it)).collect(),
        Value::Array(elements) => {
            elements.iter().enumerate().map(|(place, it)| (place.to_string(), it)).collect()
        }
        _ => return,
    };
    for (token, value) in inner {
        let pointer = format!("{pointer}/{token}");
        found.push(pointer.clone());
        values(value, &pointer, found);
    }
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[derive(Clone, Copy, Debug)]
enum Change {
    /// Another value of any type.
    Replace,
    /// Another value of the same type: out of range, not in an enumeration, of a wrong format.
    Bend,
    Remove,
    Rename,
    /// A key that was not there.
    Add,
    /// An element once more, or a value in a list.
    Again,
    /// Much deeper than it was.
    Deepen,
}

const CHANGES: [Change; 10] = [
    Change::Replace,
    Change::Replace,
    Change::Bend,
    Change::Bend,
    Change::Bend,
    Change::Remove,
    Change::Rename,
    Change::Add,
    Change::Again,
    Change::Deepen,
];

/// Texts that some format, pattern or length does not take, and some that it does.
const TEXTS: [&str; 24] = [
    "",
    " ",
    "text",
    "2026-11-20",
    "2026-02-30",
    "2026-11-20T10:00:00Z",
    "2026-11-20T25:00:00Z",
    "2026-11-20T10:00:00",
    "2026-11-20 10:00:00Z",
    "10:00:00Z",
    "https://example.com/a?b=c#d",
    "https://exa mple.com",
    "relative/path",
    "://",
    "a@b.example",
    "a@@b",
    "1.2.3.4",
    "1.2.3.400",
    "::1",
    "example.com",
    "-example-.com",
    "EUR",
    "größer",
    "0123456789abcdef",
];

fn apply(change: Change, event: &mut Value, place: &str, random: &mut Random) -> String {
    let (parent, token) = place.rsplit_once('/').unwrap();
    let key = token.replace("~1", "/").replace("~0", "~");
    match change {
        Change::Remove | Change::Rename | Change::Add => {
            let holder = event.pointer_mut(parent).unwrap();
            match (change, holder) {
                (Change::Add, Value::Object(members)) => {
                    members.insert("added".into(), anything(random));
                }
                (Change::Rename, Value::Object(members)) => {
                    let value = members.remove(&key).unwrap();
                    members.insert(format!("{key}X"), value);
                }
                (_, Value::Object(members)) => drop(members.remove(&key)),
                (Change::Add, Value::Array(elements)) => elements.push(anything(random)),
                (_, Value::Array(elements)) => drop(elements.remove(key.parse().unwrap())),
                _ => unreachable!("a value is in an object or in an array"),
            }
            String::new()
        }
        Change::Replace | Change::Bend | Change::Again | Change::Deepen => {
            let value = event.pointer_mut(place).unwrap();
            *value = match change {
                Change::Bend => bent(value, random),
                Change::Again => again(value),
                Change::Deepen => (0..30).fold(value.take(), |it, _| json!({ "deeper": it })),
                _ => anything(random),
            };
            let text = value.to_string();
            text.chars().take(60).collect()
        }
    }
}

fn anything(random: &mut Random) -> Value {
    let choices = [
        json!("text"),
        json!(""),
        json!("2026-11-20"),
        json!(17),
        json!(-1),
        json!(0.5),
        json!(1_000_000_000_000_000_i64),
        json!(true),
        json!({}),
        json!({"other": 1}),
        json!([]),
        json!([1, 1]),
    ];
    random.one_of(&choices).clone()
}

fn bent(value: &Value, random: &mut Random) -> Value {
    match value {
        Value::String(text) => match random.below(8) {
            0 => format!("{text}~").into(),
            1 => text.to_uppercase().into(),
            2 => "x".repeat(3000).into(),
            _ => (*random.one_of(&TEXTS)).into(),
        },
        Value::Number(_) => {
            let numbers = [
                json!(-1),
                json!(0),
                json!(0.3),
                json!(0.5),
                json!(1.0),
                json!(128),
                json!(40_000),
                json!(1e300),
                json!(-1e9),
                json!(9_007_199_254_740_993_i64),
                json!(u64::MAX),
            ];
            random.one_of(&numbers).clone()
        }
        Value::Bool(is) => (!is).into(),
        Value::Array(elements) => {
            elements.iter().take(usize::from(random.below(2) > 0)).cloned().collect()
        }
        Value::Object(members) => {
            let half = members.iter().take(members.len() / *random.one_of(&[2, 2, 1000]));
            half.map(|(key, it)| (key.clone(), it.clone())).collect::<Map<_, _>>().into()
        }
        Value::Null => Value::Null,
    }
}

fn again(value: &mut Value) -> Value {
    match value.take() {
        Value::Array(mut elements) => {
            elements.extend(elements.first().cloned());
            elements.into()
        }
        other => json!([other]),
    }
}
