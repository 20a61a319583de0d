//! JSON text as a flat arena of nodes: strict, with few allocations, compared as JSON means it.
//!
//! One parse serves judging, reading fields, comparing and digesting. Strings stay in the text
//! unless they have escapes.

mod canonical;
mod number;
mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde_json::Value;

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
        let slot = self.slots.first().unwrap_or(&NULL);
        Node { document: self, slot, index: 0 }
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

const NULL: Slot =
    Slot { tag: Tag::Null, end: 1, key: Span { start: 0, len: 0 }, payload: Payload(0) };

/// One value of a document.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    document: &'a Document<'a>,
    slot: &'a Slot,
    index: u32,
}

impl<'a> Node<'a> {
    /// What the value is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.slot.tag {
            Tag::Null => Kind::Null,
            Tag::False | Tag::True => Kind::Boolean,
            Tag::Signed | Tag::Unsigned | Tag::Float => Kind::Number,
            Tag::String => Kind::String,
            Tag::Array => Kind::Array,
            Tag::Object => Kind::Object,
        }
    }

    /// The value's place in the document: unique, the root's is 0.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether the value is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.slot.tag == Tag::Object
    }

    /// Whether the value is an array.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.slot.tag == Tag::Array
    }

    /// Whether the value is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.slot.tag == Tag::Null
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        (self.slot.tag == Tag::String).then(|| self.document.str(self.string_span()))
    }

    /// The value of a boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.slot.tag {
            Tag::True => Some(true),
            Tag::False => Some(false),
            Tag::Null
            | Tag::Signed
            | Tag::Unsigned
            | Tag::Float
            | Tag::String
            | Tag::Array
            | Tag::Object => None,
        }
    }

    /// The value of a number.
    #[must_use]
    pub fn as_number(&self) -> Option<Number> {
        let bits = self.slot.payload.0;
        match self.slot.tag {
            Tag::Signed => Some(Number::Signed(bits.cast_signed())),
            Tag::Unsigned => Some(Number::Unsigned(bits)),
            Tag::Float => Some(Number::Float(f64::from_bits(bits))),
            Tag::Null | Tag::False | Tag::True | Tag::String | Tag::Array | Tag::Object => None,
        }
    }

    /// The value of a whole number in range, however written: `1`, `1.0` and `1e0` are alike.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number().and_then(Number::as_i64)
    }

    /// The value of a whole number in range, however written.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number().and_then(Number::as_u64)
    }

    /// The double nearest to a number.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.as_number().map(Number::as_f64)
    }

    /// Members of an object or elements of an array; 0 for any other value.
    #[must_use]
    pub fn len(&self) -> usize {
        if self.is_object() || self.is_array() { self.slot.payload.low() as usize } else { 0 }
    }

    /// Whether there is no member or element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The member of an object with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        if !self.is_object() {
            return None;
        }
        if self.len() > SCANNED_MEMBERS_MAX {
            return self.get_sorted(key.as_bytes());
        }
        self.children().find(|child| child.has_key(key))
    }

    /// The members of an object in the order of the text; nothing for any other value.
    #[must_use]
    pub fn members(&self) -> Members<'a> {
        Members(self.children_if(Tag::Object))
    }

    /// The elements of an array; nothing for any other value.
    #[must_use]
    pub fn elements(&self) -> Elements<'a> {
        Elements(self.children_if(Tag::Array))
    }

    /// The value that a JSON Pointer (RFC 6901) leads to from here; `""` is this value.
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<Node<'a>> {
        if pointer.is_empty() {
            return Some(*self);
        }
        let mut node = *self;
        for token in pointer.strip_prefix('/')?.split('/') {
            let token = unescape_token(token);
            node = match node.slot.tag {
                Tag::Object => node.get(&token)?,
                Tag::Array => node.elements().nth(array_index(&token)?)?,
                Tag::Null
                | Tag::False
                | Tag::True
                | Tag::Signed
                | Tag::Unsigned
                | Tag::Float
                | Tag::String => return None,
            };
        }
        Some(node)
    }

    /// This value as a tree.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self.kind() {
            Kind::Null => Value::Null,
            Kind::Boolean => Value::Bool(self.slot.tag == Tag::True),
            Kind::Number => self.as_number().map_or(Value::Null, |it| Value::Number(it.to_json())),
            Kind::String => Value::String(self.as_str().unwrap_or_default().to_owned()),
            Kind::Array => self.elements().map(|it| it.to_value()).collect(),
            Kind::Object => self.members().map(|(key, it)| (key, it.to_value())).collect(),
        }
    }

    fn string_span(&self) -> Span {
        Span { start: self.slot.payload.low(), len: self.slot.payload.high() }
    }

    fn key(&self) -> &'a str {
        self.document.str(self.slot.key)
    }

    fn has_key(&self, key: &str) -> bool {
        self.slot.key.len as usize == key.len()
            && self.document.bytes(self.slot.key) == key.as_bytes()
    }

    fn get_sorted(&self, key: &[u8]) -> Option<Node<'a>> {
        let start = self.slot.payload.high() as usize;
        let order = self.document.sorted.get(start..start + self.len())?;
        let key_of = |index: &u32| {
            let slot = self.document.slots.get(*index as usize);
            slot.map_or(&[][..], |slot| self.document.bytes(slot.key))
        };
        let found = order.binary_search_by(|index| key_of(index).cmp(key)).ok()?;
        let index = *order.get(found)?;
        let slot = self.document.slots.get(index as usize)?;
        Some(Node { document: self.document, slot, index })
    }

    fn children(&self) -> Children<'a> {
        Children { document: self.document, next: self.index + 1, end: self.slot.end }
    }

    fn children_if(&self, tag: Tag) -> Children<'a> {
        let mut children = self.children();
        if self.slot.tag != tag {
            children.end = children.next;
        }
        children
    }
}

#[derive(Clone, Debug)]
struct Children<'a> {
    document: &'a Document<'a>,
    next: u32,
    end: u32,
}

impl<'a> Iterator for Children<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        if self.next >= self.end {
            return None;
        }
        let index = self.next;
        let slot = self.document.slots.get(index as usize)?;
        self.next = slot.end;
        Some(Node { document: self.document, slot, index })
    }
}

/// Keys and values of an object.
#[derive(Clone, Debug)]
pub struct Members<'a>(Children<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|node| (node.key(), node))
    }
}

/// Values of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a>(Children<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        self.0.next()
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

/// An array index of a JSON Pointer: digits without leading zeros.
fn array_index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with(['0', '+']);
    plain.then(|| token.parse().ok()).flatten()
}
