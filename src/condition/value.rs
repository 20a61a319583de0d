//! What an expression comes to.
#![expect(clippy::wildcard_enum_match_arm, reason = "values of all other types are refused alike")]

use std::{borrow::Cow, cmp::Ordering};

use crate::model::{
    Timestamp,
    json::{Kind, Node, Number},
};

/// A value, as far as possible a part of the event or of the condition.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// Also what is missing.
    Null,
    /// True or false.
    Bool(bool),
    /// A number of any kind.
    Number(Number),
    /// A text.
    Text(Cow<'a, str>),
    /// A moment.
    Time(Timestamp),
    /// Nanoseconds between two moments.
    Duration(i64),
    /// A list that the condition makes.
    List(Vec<Value<'a>>),
    /// A list or an object of the event.
    Node(Node<'a>),
}

/// Why an expression comes to nothing; then a condition does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Something is done with a value that is missing.
    Missing,
    /// A value is of another type than the operator or function takes.
    Type,
    /// A number is out of range, or divided by zero.
    Arithmetic,
    /// A text does not spell what it is converted to.
    Conversion,
    /// It takes more steps than an evaluation may.
    Budget,
}

impl Fault {
    /// For people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Missing => "a value is missing",
            Self::Type => "a value is of another type",
            Self::Arithmetic => "a number is out of range, or divided by zero",
            Self::Conversion => "a text does not spell what it is converted to",
            Self::Budget => "takes too many steps",
        }
    }
}

/// Bytes of text that count as one step.
const TEXT_BYTES_PER_STEP: usize = 64;

impl<'a> Value<'a> {
    /// A value of the event.
    pub(super) fn of_node(node: Node<'a>) -> Self {
        match node.kind() {
            Kind::Null => Self::Null,
            Kind::Boolean => Self::Bool(node.as_bool().unwrap_or_default()),
            Kind::Number => node.as_number().map_or(Self::Null, Self::Number),
            Kind::String => Self::Text(Cow::Borrowed(node.as_str().unwrap_or_default())),
            Kind::Array | Kind::Object => Self::Node(node),
        }
    }

    pub(super) fn int(value: i64) -> Self {
        Self::Number(whole(value))
    }

    pub(super) fn count(value: usize) -> Self {
        Self::int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(super) fn double(value: f64) -> Result<Self, Fault> {
        if value.is_finite() {
            Ok(Self::Number(Number::Float(value)))
        } else {
            Err(Fault::Arithmetic)
        }
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    /// Steps that looking at all of it takes.
    pub(super) fn steps(&self) -> u32 {
        let steps = match self {
            Self::Text(text) => text.len() / TEXT_BYTES_PER_STEP,
            Self::List(items) => items.len(),
            Self::Node(node) => node.len(),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Time(_) | Self::Duration(_) => 0,
        };
        u32::try_from(steps).unwrap_or(u32::MAX)
    }

    /// The fault of a value that is not what an operator takes.
    pub(super) fn unfit(&self) -> Fault {
        if matches!(self, Self::Null) { Fault::Missing } else { Fault::Type }
    }

    pub(super) fn as_bool(&self) -> Result<bool, Fault> {
        match self {
            Self::Bool(value) => Ok(*value),
            other => Err(other.unfit()),
        }
    }

    pub(super) fn as_number(&self) -> Result<Number, Fault> {
        match self {
            Self::Number(value) => Ok(*value),
            other => Err(other.unfit()),
        }
    }

    pub(super) fn as_int(&self) -> Result<i64, Fault> {
        self.as_number()?.as_i64().ok_or(Fault::Arithmetic)
    }

    pub(super) fn as_text(&self) -> Result<&str, Fault> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(other.unfit()),
        }
    }

    /// A moment, or a text that spells one.
    pub(super) fn as_time(&self) -> Result<Timestamp, Fault> {
        match self {
            Self::Time(time) => Ok(*time),
            Self::Text(text) => Timestamp::parse_rfc3339(text).map_err(|_wanted| Fault::Conversion),
            other => Err(other.unfit()),
        }
    }

    pub(super) fn as_duration(&self) -> Result<i64, Fault> {
        match self {
            Self::Duration(nanos) => Ok(*nanos),
            other => Err(other.unfit()),
        }
    }

    /// The elements of a list.
    pub(super) fn elements(&self) -> Result<Elements<'_, 'a>, Fault> {
        match self {
            Self::List(items) => Ok(Elements::Made(items.iter())),
            Self::Node(node) if node.is_array() => Ok(Elements::Sent(node.elements())),
            other => Err(other.unfit()),
        }
    }

    /// Whether both are the same. Values of different types are not, except for a moment and the text
    /// of one.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => compare_numbers(*a, *b) == Some(Ordering::Equal),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Time(_), Self::Time(_) | Self::Text(_)) | (Self::Text(_), Self::Time(_)) => {
                matches!((self.as_time(), other.as_time()), (Ok(a), Ok(b)) if a == b)
            }
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Node(a), Self::Node(b)) if a.is_object() && b.is_object() => {
                a.canonical_digest() == b.canonical_digest()
            }
            (Self::List(_) | Self::Node(_), Self::List(_) | Self::Node(_)) => {
                match (self.elements(), other.elements()) {
                    (Ok(mut a), Ok(mut b)) => loop {
                        match (a.next(), b.next()) {
                            (None, None) => break true,
                            (Some(a), Some(b)) if a.same(&b) => {}
                            _ => break false,
                        }
                    },
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Which one comes first.
    pub(super) fn compare(&self, other: &Self) -> Result<Ordering, Fault> {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => compare_numbers(*a, *b).ok_or(Fault::Arithmetic),
            (Self::Text(a), Self::Text(b)) => Ok(a.cmp(b)),
            (Self::Time(_), Self::Time(_) | Self::Text(_)) | (Self::Text(_), Self::Time(_)) => {
                Ok(self.as_time()?.cmp(&other.as_time()?))
            }
            (Self::Duration(a), Self::Duration(b)) => Ok(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Ok(a.cmp(b)),
            (Self::Null, _) | (_, Self::Null) => Err(Fault::Missing),
            _ => Err(Fault::Type),
        }
    }
}

/// The elements of a list, wherever it comes from.
pub(super) enum Elements<'v, 'a> {
    Made(std::slice::Iter<'v, Value<'a>>),
    Sent(crate::model::json::Elements<'a>),
}

impl<'a> Iterator for Elements<'_, 'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        match self {
            Self::Made(items) => items.next().cloned(),
            Self::Sent(nodes) => nodes.next().map(Value::of_node),
        }
    }
}

pub(super) fn whole(value: i64) -> Number {
    match u64::try_from(value) {
        Ok(value) => Number::Unsigned(value),
        Err(_) => Number::Signed(value),
    }
}

/// Which number is less, exactly, whatever kinds they are of.
fn compare_numbers(a: Number, b: Number) -> Option<Ordering> {
    let as_whole = |number: Number| match number {
        Number::Signed(value) => Some(i128::from(value)),
        Number::Unsigned(value) => Some(i128::from(value)),
        Number::Float(_) => number.as_i64().map(i128::from),
    };
    match (as_whole(a), as_whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        // A double that is not whole, or beyond 63 bits: rounding the other one keeps the order.
        _ => a.as_f64().partial_cmp(&b.as_f64()),
    }
}
