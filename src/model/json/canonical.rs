//! Equality and digests of JSON values, free of spelling.

use std::io::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::json::{Kind, Node, Number, number::Canonical};

impl Node<'_> {
    /// Whether both are the same JSON value: order of keys, spacing, escapes and the spelling of
    /// numbers do not matter.
    #[must_use]
    pub fn same_json(&self, other: &Node<'_>) -> bool {
        if self.kind() != other.kind() || self.len() != other.len() {
            return false;
        }
        match self.kind() {
            Kind::Null => true,
            Kind::Boolean => self.as_bool() == other.as_bool(),
            Kind::Number => self.canonical_number() == other.canonical_number(),
            Kind::String => self.as_str() == other.as_str(),
            Kind::Array => self.elements().zip(other.elements()).all(|(a, b)| a.same_json(&b)),
            Kind::Object => self
                .members()
                .all(|(key, member)| other.get(key).is_some_and(|it| member.same_json(&it))),
        }
    }

    /// SHA-256 of the canonical JSON. Equal exactly when `same_json` holds.
    #[must_use]
    pub fn canonical_digest(&self) -> [u8; 32] {
        Sha256::digest(self.canonical_json()).into()
    }

    /// JSON with sorted keys, without spaces, with one spelling for each number.
    #[must_use]
    pub fn canonical_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_canonical(&mut out);
        out
    }

    /// Whether this is the same JSON value as a tree.
    #[must_use]
    pub fn same_value(&self, tree: &Value) -> bool {
        match tree {
            Value::Null => self.is_null(),
            Value::Bool(value) => self.as_bool() == Some(*value),
            Value::Number(number) => {
                self.as_number().is_some_and(|it| it.same(Number::from_json(number)))
            }
            Value::String(text) => self.as_str() == Some(text),
            Value::Array(items) => {
                self.is_array()
                    && self.len() == items.len()
                    && self.elements().zip(items).all(|(element, item)| element.same_value(item))
            }
            Value::Object(members) => {
                self.is_object()
                    && self.len() == members.len()
                    && self
                        .members()
                        .all(|(key, it)| members.get(key).is_some_and(|other| it.same_value(other)))
            }
        }
    }

    fn canonical_number(&self) -> Option<Canonical> {
        self.as_number().map(Number::canonical)
    }

    fn write_canonical(&self, out: &mut Vec<u8>) {
        match self.kind() {
            Kind::Null => out.extend_from_slice(b"null"),
            Kind::Boolean => {
                let text: &[u8] = if self.as_bool() == Some(true) { b"true" } else { b"false" };
                out.extend_from_slice(text);
            }
            Kind::Number => {
                if let Some(number) = self.canonical_number() {
                    write_number(number, out);
                }
            }
            Kind::String => write_string(self.as_str().unwrap_or_default(), out),
            Kind::Array => {
                out.push(b'[');
                for (place, element) in self.elements().enumerate() {
                    separate(place, out);
                    element.write_canonical(out);
                }
                out.push(b']');
            }
            Kind::Object => {
                let mut members: Vec<_> = self.members().collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                out.push(b'{');
                for (place, (key, member)) in members.into_iter().enumerate() {
                    separate(place, out);
                    write_string(key, out);
                    out.push(b':');
                    member.write_canonical(out);
                }
                out.push(b'}');
            }
        }
    }
}

fn separate(place: usize, out: &mut Vec<u8>) {
    if place > 0 {
        out.push(b',');
    }
}

// Writing to memory cannot fail, so the results carry nothing.

fn write_number(number: Canonical, out: &mut Vec<u8>) {
    let _ = match number {
        Canonical::Whole(value) => write!(out, "{value}"),
        Canonical::Bits(bits) => write!(out, "{:e}", f64::from_bits(bits)),
    };
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, text);
}
