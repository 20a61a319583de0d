//! Text to arena, over the tokenizer of the JSON crate.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::model::{
    json::{Document, JsonError, Payload, SCANNED_MEMBERS_MAX, Slot, Span, Tag, push_token},
    limits,
};

/// A guess, so that the arena of a typical event never grows.
const TEXT_BYTES_PER_VALUE: usize = 16;

/// Keys of all objects that are open at once, in a typical event.
const KEYS_TYPICAL: usize = 32;
/// Levels of a typical event.
const DEPTH_TYPICAL: usize = 16;

pub(super) fn parse(text: &str) -> Result<Document<'_>, JsonError> {
    if text.len() > Span::START_MAX {
        let message = format!("the text has {} bytes; at most {}", text.len(), Span::START_MAX);
        return Err(JsonError { path: String::new(), keyword: "size", message });
    }
    let mut builder = Builder {
        document: Document {
            text,
            unescaped: String::new(),
            slots: Vec::with_capacity(text.len() / TEXT_BYTES_PER_VALUE + 4),
            sorted: Vec::new(),
        },
        keys: Vec::with_capacity(KEYS_TYPICAL),
        open: Vec::with_capacity(DEPTH_TYPICAL),
        fault: None,
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Value { builder: &mut builder, key: Span::default() }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    match read {
        Ok(()) => Ok(builder.document),
        Err(error) => Err(builder.fault.take().unwrap_or_else(|| JsonError {
            path: builder.open_pointer(),
            keyword: "json",
            message: format!("not JSON: {error}"),
        })),
    }
}

struct Builder<'a> {
    document: Document<'a>,
    /// Keys of the open objects, the innermost object's last.
    keys: Vec<Span>,
    /// Slots of the open arrays and objects.
    open: Vec<u32>,
    /// Set when reading stops for a reason that the JSON crate does not know.
    fault: Option<JsonError>,
}

impl Builder<'_> {
    fn push(&mut self, key: Span, tag: Tag, payload: Payload) {
        let end = self.next_slot() + 1;
        self.document.slots.push(Slot { tag, end, key, payload });
    }

    #[expect(clippy::cast_possible_truncation, reason = "a text below 2^31 bytes has fewer values")]
    fn next_slot(&self) -> u32 {
        self.document.slots.len() as u32
    }

    fn open<E: Error>(&mut self, key: Span, tag: Tag) -> Result<u32, E> {
        let slot = self.next_slot();
        self.push(key, tag, Payload::default());
        self.open.push(slot);
        if self.open.len() > limits::JSON_DEPTH_MAX {
            let message = format!("nested deeper than {} levels", limits::JSON_DEPTH_MAX);
            return Err(self.fail("depth", self.open_pointer(), message));
        }
        Ok(slot)
    }

    fn close(&mut self, slot: u32, payload: Payload) {
        let end = self.next_slot();
        if let Some(slot) = self.document.slots.get_mut(slot as usize) {
            slot.end = end;
            slot.payload = payload;
        }
        self.open.pop();
    }

    fn fail<E: Error>(&mut self, keyword: &'static str, path: String, message: String) -> E {
        self.fault = Some(JsonError { path, keyword, message });
        E::custom("refused")
    }

    fn fail_repeated<E: Error>(&mut self, key: Span) -> E {
        let key = self.document.str(key).to_owned();
        let mut path = self.open_pointer();
        push_token(&mut path, &key);
        let shown: String = key.chars().take(100).collect();
        self.fail("duplicateKey", path, format!("key `{shown}` stands twice in one object"))
    }

    fn repeats(&self, key: Span, keys_start: usize) -> bool {
        let earlier = self.keys.get(keys_start..).unwrap_or_default();
        if earlier.len() > SCANNED_MEMBERS_MAX {
            return false; // found when the object closes
        }
        let bytes = self.document.bytes(key);
        earlier.iter().any(|it| it.len == key.len && self.document.bytes(*it) == bytes)
    }

    /// Orders the members of a large object by key; `Err` is a key that stands twice.
    fn sort_members(&mut self, object: u32, count: usize) -> Result<u32, Span> {
        let document = &mut self.document;
        let start = document.sorted.len();
        let mut next = object + 1;
        for _ in 0..count {
            document.sorted.push(next);
            next = document.slots.get(next as usize).map_or(next, |slot| slot.end);
        }
        let mut order = document.sorted.split_off(start);
        let key = |index: &u32| {
            document.slots.get(*index as usize).map_or(Span::default(), |slot| slot.key)
        };
        order.sort_unstable_by(|a, b| document.bytes(key(a)).cmp(document.bytes(key(b))));
        for (a, b) in order.iter().zip(order.iter().skip(1)) {
            if document.bytes(key(a)) == document.bytes(key(b)) {
                return Err(key(a));
            }
        }
        document.sorted.append(&mut order);
        Ok(u32::try_from(start).unwrap_or(u32::MAX))
    }

    fn borrowed(&self, text: &str) -> Span {
        let start = text.as_ptr().addr().wrapping_sub(self.document.text.as_ptr().addr());
        span(start, text.len())
    }

    fn owned(&mut self, text: &str) -> Span {
        let start = self.document.unescaped.len();
        self.document.unescaped.push_str(text);
        let span = span(start, text.len());
        Span { start: span.start | Span::UNESCAPED, ..span }
    }

    fn string(&mut self, key: Span, span: Span) {
        self.push(key, Tag::String, Payload::pair(span.start, span.len));
    }

    /// JSON Pointer of the innermost open value.
    fn open_pointer(&self) -> String {
        let slots = &self.document.slots;
        let mut pointer = String::new();
        for (parent, child) in self.open.iter().zip(self.open.iter().skip(1)) {
            let Some((above, slot)) = slots.get(*parent as usize).zip(slots.get(*child as usize))
            else {
                return pointer;
            };
            if above.tag == Tag::Object {
                push_token(&mut pointer, self.document.str(slot.key));
                continue;
            }
            let mut before = 0_usize;
            let mut next = *parent + 1;
            while next < *child {
                before += 1;
                next = slots.get(next as usize).map_or(*child, |slot| slot.end);
            }
            push_token(&mut pointer, &before.to_string());
        }
        pointer
    }
}

#[expect(clippy::cast_possible_truncation, reason = "both are below 2^31, checked before reading")]
fn span(start: usize, len: usize) -> Span {
    Span { start: start as u32, len: len as u32 }
}

/// Reads one value into the arena.
struct Value<'b, 'a> {
    builder: &'b mut Builder<'a>,
    key: Span,
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.builder.push(self.key, Tag::Null, Payload::default());
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        let tag = if value { Tag::True } else { Tag::False };
        self.builder.push(self.key, tag, Payload::default());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.builder.push(self.key, Tag::Signed, Payload(value.cast_unsigned()));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.builder.push(self.key, Tag::Unsigned, Payload(value));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.builder.push(self.key, Tag::Float, Payload(value.to_bits()));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<(), E> {
        let span = self.builder.borrowed(value);
        self.builder.string(self.key, span);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        let span = self.builder.owned(value);
        self.builder.string(self.key, span);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let slot = self.builder.open(self.key, Tag::Array)?;
        let mut count = 0;
        while elements
            .next_element_seed(Value { builder: &mut *self.builder, key: Span::default() })?
            .is_some()
        {
            count += 1;
        }
        self.builder.close(slot, Payload::pair(count, 0));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let builder = self.builder;
        let slot = builder.open(self.key, Tag::Object)?;
        let keys_start = builder.keys.len();
        while let Some(key) = members.next_key_seed(Key(&mut *builder))? {
            if builder.repeats(key, keys_start) {
                return Err(builder.fail_repeated(key));
            }
            builder.keys.push(key);
            members.next_value_seed(Value { builder: &mut *builder, key })?;
        }
        let count = builder.keys.len() - keys_start;
        builder.keys.truncate(keys_start);
        let mut sorted = 0;
        if count > SCANNED_MEMBERS_MAX {
            sorted = builder.sort_members(slot, count).map_err(|key| builder.fail_repeated(key))?;
        }
        builder.close(slot, Payload::pair(u32::try_from(count).unwrap_or(u32::MAX), sorted));
        Ok(())
    }
}

/// Reads one key.
struct Key<'b, 'a>(&'b mut Builder<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_, 'de> {
    type Value = Span;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Span, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, 'de> {
    type Value = Span;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Span, E> {
        Ok(self.0.borrowed(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Span, E> {
        Ok(self.0.owned(value))
    }
}
