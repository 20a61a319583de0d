//! JSON text as a flat arena of nodes: strict, with few allocations, compared as JSON means it.
//!
//! One parse serves judging, reading fields, comparing and digesting. Strings stay in the text
//! unless they have escapes.

mod canonical;
mod exact;
mod node;
mod number;
mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use exact::{exact_number, inexact_number};
pub use node::{Elements, Members, Node};
pub use number::Number;

/// A parsed JSON text.
///
/// Invariant: `slots` holds the values in the order of the text, each followed by what it contains.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    /// Strings and keys that were written with escapes.
    unescaped: String,
    slots: Vec<Slot>,
    /// For objects above `SCANNED_MEMBERS_MAX`: their members' slots, ordered by key.
    sorted: Vec<u32>,
}

/// Why a text is not taken as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JsonError {
    /// JSON Pointer of the value at fault, or of what was being read; empty when unknown.
    pub path: String,
    /// `json`, `duplicateKey`, `depth` or `size`.
    pub keyword: &'static str,
    /// Found and wanted, for people.
    pub message: String,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number of any size.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// Members up to this many are compared one by one; looking up a key in more uses an order.
const SCANNED_MEMBERS_MAX: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: Tag,
    /// The slot after this value and all it contains.
    end: u32,
    /// In an object; empty elsewhere.
    key: Span,
    payload: Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Null,
    False,
    True,
    Signed,
    Unsigned,
    Float,
    String,
    Array,
    Object,
}

/// Bits of a number, a span, or a count and the start of the order in `sorted`.
#[derive(Clone, Copy, Debug, Default)]
struct Payload(u64);

impl Payload {
    fn pair(low: u32, high: u32) -> Self {
        Self(u64::from(low) | u64::from(high) << 32)
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes the low half")]
    fn low(self) -> u32 {
        self.0 as u32
    }

    fn high(self) -> u32 {
        Self(self.0 >> 32).low()
    }
}

/// A piece of the text, or of `unescaped` when the top bit of `start` is set.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const UNESCAPED: u32 = 1 << 31;
    const START_MAX: usize = (1 << 31) - 1;
}

impl<'a> Document<'a> {
    /// Parses one JSON value and nothing after it.
    ///
    /// # Errors
    ///
    /// Anything that is not JSON, a repeated key, more than `limits::JSON_DEPTH_MAX` levels, a
    /// number beyond the range of a double.
    pub fn parse(text: &'a str) -> Result<Self, JsonError> {
        parse::parse(text)
    }

    /// The value of the whole text.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        Node::root(self)
    }

    /// Values in the text, the root and those within others counted alike.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Never: a text has at least its root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether some value is null.
    #[must_use]
    pub fn has_null(&self) -> bool {
        self.slots.iter().any(|slot| slot.tag == Tag::Null)
    }

    fn source(&self, span: Span) -> (&str, usize) {
        if span.start & Span::UNESCAPED == 0 {
            (self.text, span.start as usize)
        } else {
            (&self.unescaped, (span.start & !Span::UNESCAPED) as usize)
        }
    }

    fn str(&self, span: Span) -> &str {
        let (source, start) = self.source(span);
        source.get(start..start + span.len as usize).unwrap_or_default()
    }

    fn bytes(&self, span: Span) -> &[u8] {
        let (source, start) = self.source(span);
        source.as_bytes().get(start..start + span.len as usize).unwrap_or_default()
    }
}

/// One token of a JSON Pointer, with `~1` and `~0` undone.
#[must_use]
pub fn unescape_token(token: &str) -> Cow<'_, str> {
    if token.contains('~') {
        Cow::Owned(token.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(token)
    }
}

/// Adds one token to a JSON Pointer, with `~` and `/` escaped.
pub fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    for character in token.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}
