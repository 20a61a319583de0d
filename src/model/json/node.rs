//! Reading one value of a document.

use serde_json::Value;

use crate::model::json::{
    Document, Kind, Number, Payload, SCANNED_MEMBERS_MAX, Slot, Span, Tag, unescape_token,
};

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
    pub(super) fn root(document: &'a Document<'a>) -> Self {
        Self { document, slot: document.slots.first().unwrap_or(&NULL), index: 0 }
    }

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

/// An array index of a JSON Pointer: digits without leading zeros.
fn array_index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with(['0', '+']);
    plain.then(|| token.parse().ok()).flatten()
}
