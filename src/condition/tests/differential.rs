//! Our evaluation against the `cel` crate's: random conditions over random events.
//!
//! The other implementation gets the event as its own values, where nothing is missing: what is missing
//! in ours, and null in comparisons, is compared in the tables instead. Both must come to the same
//! answer, or both to none.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use cel::{Context, Program, Value};
use proptest::prelude::*;
use serde_json::json;

use crate::{
    condition::{Expression, tests::fields_of},
    model::json::Document,
    schema::Fields,
};

/// What both evaluate: fields of known types, all there.
fn event() -> impl Strategy<Value = serde_json::Value> {
    let int = prop_oneof![-3_i64..4, Just(i64::MAX), Just(i64::MIN), Just(9_007_199_254_740_993)];
    let double = prop_oneof![(-4_i32..5).prop_map(|it| f64::from(it) + 0.5), Just(1e300)];
    let text =
        prop_oneof![Just(String::new()), "[abü]{1,3}", Just("2026-11-23T09:30:00Z".to_owned())];
    let list = prop::collection::vec(-2_i64..4, 0..4);
    (int, double, text, list, any::<bool>()).prop_map(
        |(i, d, s, l, t)| json!({"i": i, "d": d, "s": s, "l": l, "t": t, "o": {"i": i, "s": s}}),
    )
}

fn condition() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("i".to_owned()),
        Just("o.i".to_owned()),
        (-4_i64..5).prop_map(|it| it.to_string()),
        Just("size(l)".to_owned()),
        Just("size(s)".to_owned()),
    ];
    let double = prop_oneof![
        Just("d".to_owned()),
        (-4_i32..5).prop_map(|it| format!("{:?}", f64::from(it) + 0.5))
    ];
    let text = prop_oneof![
        Just("s".to_owned()),
        Just("o.s".to_owned()),
        "[abü]{0,2}".prop_map(|it| format!("'{it}'")),
    ];
    let order = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let sum = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
    let numbers = prop_oneof![
        number.clone(),
        (number.clone(), sum, number.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
    ];
    let leaf = prop_oneof![
        Just("t".to_owned()),
        Just("true".to_owned()),
        (numbers.clone(), order.clone(), numbers.clone())
            .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (double.clone(), order.clone(), double).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (text.clone(), order.clone(), text.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("{a}.startsWith({b})")),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("({a} + {b}).contains({b})")),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("{a}.endsWith({b})")),
        text.clone().prop_map(|a| format!("{a}.matches('^a|b$')")),
        numbers.clone().prop_map(|a| format!("{a} in l")),
        numbers.clone().prop_map(|a| format!("{a} in [1, 2, 3]")),
        (numbers.clone(), order.clone()).prop_map(|(a, op)| format!("l.exists(it, it {op} {a})")),
        (numbers.clone(), order.clone()).prop_map(|(a, op)| format!("l.all(it, it {op} {a})")),
        (numbers.clone(), order).prop_map(|(a, op)| format!("l.exists_one(it, it {op} {a})")),
        numbers.clone().prop_map(|a| format!("l.filter(it, it > {a}).size() > 1")),
        numbers.prop_map(|a| format!("l.map(it, it + 1) == [{a}]")),
        prop_oneof![Just("s"), Just("o.s")]
            .prop_map(|a| format!("timestamp({a}) < timestamp('2026-11-23T10:30:01+01:00')")),
        Just("has(o.i)".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("(({a}) ? ({b}) : ({c}))")),
        ]
    })
}

/// Whole numbers as signed ones: by itself the crate makes unsigned ones of them, which do not mix.
fn value_of(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap()),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(items) => {
            Value::from(items.iter().map(value_of).collect::<Vec<_>>())
        }
        serde_json::Value::Object(members) => {
            let members = members.iter().map(|(name, it)| (name.clone(), value_of(it)));
            Value::from(members.collect::<HashMap<_, _>>())
        }
    }
}

fn theirs(text: &str, event: &serde_json::Value) -> Option<bool> {
    let program = Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut context = Context::default();
    for (name, value) in event.as_object().unwrap() {
        context.add_variable_from_value(name.as_str(), value_of(value));
    }
    match program.execute(&context) {
        Ok(Value::Bool(value)) => Some(value),
        _ => None,
    }
}

/// So that types are known, as in definitions: of whole numbers a quotient is whole.
fn fields() -> &'static Fields {
    static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
        let whole = json!({"type": "integer"});
        fields_of(&json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "https://example.com/schemas/differential",
            "type": "object",
            "properties": {
                "i": whole, "d": {"type": "number"}, "s": {"type": "string"},
                "l": {"type": "array", "items": whole}, "t": {"type": "boolean"},
                "o": {"type": "object", "properties": {"i": whole, "s": {"type": "string"}}}
            }
        }))
    });
    &FIELDS
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn ours_and_theirs_say_the_same(text in condition(), event in event()) {
        let condition = Expression::condition(&text, Some(fields()))
            .map_err(|it| TestCaseError::fail(format!("{text}: {it}")))?;
        let json = event.to_string();
        let document = Document::parse(&json).unwrap();
        let now = crate::model::Timestamp::EPOCH;
        let ours = condition.holds(document.root(), now).ok();
        prop_assert_eq!(ours, theirs(&text, &event), "{} of {}", text, json);
    }
}
