//! Mending: what a lenient dataset forgives its senders, by two rules. Numbers that were sent as text become
//! numbers, and names that have null are left out. Nothing else is guessed, and each mending is recorded
//! with the event.

use serde_json::Value;

use crate::{
    model::{
        Mending, MendingRule, Violation,
        json::{exact_number, inexact_number, unescape_token},
    },
    storage::pb::MendingRecord,
};

/// A payload that was mended, and what was done to it.
#[derive(Clone, Debug)]
pub(crate) struct Mended {
    pub(crate) text: String,
    pub(crate) mendings: Vec<Mending>,
}

/// Mends what these violations are about; `None` when one of them cannot be mended, or the payload has a
/// number that would change by being written again.
pub(crate) fn mend(payload: &str, violations: &[Violation]) -> Option<Mended> {
    if violations.is_empty() || inexact_number(payload).is_some() {
        return None;
    }
    let mut value: Value = serde_json::from_str(payload).ok()?;
    let mut mendings: Vec<Mending> = Vec::new();
    for violation in violations {
        let path = &violation.instance_path;
        if mendings.iter().any(|it| it.path == *path) {
            continue;
        }
        if !matches!(violation.keyword.as_str(), "type" | "null") {
            return None;
        }
        mendings.push(mend_one(&mut value, path)?);
    }
    let text = serde_json::to_string(&value).ok()?;
    Some(Mended { text, mendings })
}

fn mend_one(value: &mut Value, path: &str) -> Option<Mending> {
    let (parent, name) = path.rsplit_once('/')?;
    let members = value.pointer_mut(parent)?;
    let name = unescape_token(name);
    let found = match members {
        Value::Object(members) => members.get_mut(name.as_ref())?,
        Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?)?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    let path = path.to_owned();
    match found {
        Value::String(text) => {
            let number = exact_number(text)?;
            let original = std::mem::take(text);
            *found = Value::Number(number);
            Some(Mending { path, rule: MendingRule::NumberFromText, original })
        }
        Value::Null => {
            // Of a list the places of all others would change.
            members.as_object_mut()?.remove(name.as_ref());
            Some(Mending { path, rule: MendingRule::NullLeftOut, original: "null".to_owned() })
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The rules' numbers on disk.
const NUMBER_FROM_TEXT: u32 = 1;
const NULL_LEFT_OUT: u32 = 2;

pub(crate) fn record(mending: Mending) -> MendingRecord {
    let rule = match mending.rule {
        MendingRule::NumberFromText => NUMBER_FROM_TEXT,
        MendingRule::NullLeftOut => NULL_LEFT_OUT,
    };
    MendingRecord { path: mending.path, rule, original: mending.original }
}

pub(crate) fn mending(record: MendingRecord) -> Mending {
    let rule = match record.rule {
        NULL_LEFT_OUT => MendingRule::NullLeftOut,
        _ => MendingRule::NumberFromText,
    };
    Mending { path: record.path, rule, original: record.original }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(payload: &str, violations: &[(&str, &str)]) -> Option<(String, Vec<String>)> {
        let violations: Vec<_> = violations
            .iter()
            .map(|(path, keyword)| Violation {
                instance_path: (*path).to_owned(),
                keyword: (*keyword).to_owned(),
                ..Violation::default()
            })
            .collect();
        let mended = mend(payload, &violations)?;
        let paths = mended.mendings.into_iter().map(|it| format!("{} {}", it.path, it.original));
        Some((mended.text, paths.collect()))
    }

    #[test]
    fn numbers_and_nulls_are_mended_and_nothing_else() {
        let payload =
            r#"{"a/b": "1.50", "c": null, "d": [" 1", "2e3", null], "e": "x", "f": true}"#;
        let both = mended(payload, &[("/a~1b", "type"), ("/c", "null"), ("/c", "type")]).unwrap();
        assert_eq!(both.0, r#"{"a/b":1.5,"d":[" 1","2e3",null],"e":"x","f":true}"#);
        assert_eq!(both.1, ["/a~1b 1.50", "/c null"]);
        assert_eq!(mended(payload, &[("/d/1", "type")]).unwrap().1, ["/d/1 2e3"]);
        for (path, keyword) in [
            ("/d/0", "type"),
            ("/d/2", "null"),
            ("/d/9", "type"),
            ("/e", "type"),
            ("/f", "type"),
            ("/a~1b", "minimum"),
            ("", "type"),
            ("/x", "type"),
        ] {
            assert!(mended(payload, &[(path, keyword)]).is_none(), "{path}");
        }
        let far = r#"{"a": "1", "n": 123456789012345678901234567890}"#;
        assert!(mended(far, &[("/a", "type")]).is_none(), "another number would change");
        assert!(mended(r#"{"a": "0x10"}"#, &[("/a", "type")]).is_none());
        assert!(mended(r#"{"a": "NaN"}"#, &[("/a", "type")]).is_none());
        assert!(mended(r#"{"a": "01"}"#, &[("/a", "type")]).is_none());
    }
}
