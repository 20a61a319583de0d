//! Types of expressions, as far as the schema tells them.

use std::{fmt, sync::Arc};

use crate::schema::{Field, FieldType, Fields};

/// What an expression can come to, missing values aside.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    /// Not known.
    Any,
    Null,
    Bool,
    Int,
    Double,
    Text,
    /// A text out of a closed list.
    Enum(Arc<[String]>),
    Time,
    Duration,
    List(Box<Type>),
    Object(Field),
    /// An object whose keys are data.
    Map(Field),
}

impl Type {
    /// The type of a field.
    pub(super) fn of_field(fields: &Fields, field: Field) -> Self {
        match fields.type_of(&field) {
            None => Self::Any,
            Some(FieldType::String | FieldType::Uri | FieldType::Date) => Self::Text,
            Some(FieldType::Enum) => match fields.values(&field) {
                Some(values) => Self::Enum(values.into()),
                None => Self::Text,
            },
            Some(FieldType::DateTime) => Self::Time,
            Some(FieldType::Number) => Self::Double,
            Some(FieldType::Long | FieldType::Int | FieldType::Short | FieldType::Byte) => {
                Self::Int
            }
            Some(FieldType::Boolean) => Self::Bool,
            Some(FieldType::Array) => {
                Self::List(Box::new(Self::of_field(fields, fields.element(&field))))
            }
            Some(FieldType::Object) => Self::Object(field),
            Some(FieldType::Map) => Self::Map(field),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Enum(_) | Self::Any)
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Double | Self::Any)
    }

    /// Whether values of both can be the same. What is missing can be compared with everything.
    pub(super) fn may_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Null, _) | (_, Self::Any | Self::Null) => true,
            (Self::List(a), Self::List(b)) => a.may_equal(b),
            _ => self.may_order(other) || (self, other) == (&Self::Bool, &Self::Bool),
        }
    }

    /// Whether one value can be less than the other.
    pub(super) fn may_order(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => !matches!(other, Self::Bool | Self::Null),
            (_, Self::Any) => !matches!(self, Self::Bool | Self::Null),
            (Self::Int | Self::Double, Self::Int | Self::Double)
            | (Self::Text | Self::Enum(_), Self::Text | Self::Enum(_))
            | (Self::Time, Self::Time)
            | (Self::Duration, Self::Duration) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "a value of a type that is not known",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Int => "a whole number",
            Self::Double => "a number",
            Self::Text | Self::Enum(_) => "a text",
            Self::Time => "a moment",
            Self::Duration => "a duration",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
            Self::Map(_) => "a map",
        })
    }
}

/// The candidate that was meant, perhaps: another case, or a few other letters.
pub(super) fn nearest<'a>(name: &str, candidates: &'a [String]) -> Option<&'a str> {
    let same = candidates.iter().find(|it| it.to_lowercase() == name.to_lowercase());
    let near = || {
        let distances = candidates.iter().map(|it| (distance(name, it), it));
        let (least, found) = distances.min()?;
        (least <= 1 + name.chars().count() / 4).then_some(found)
    };
    same.or_else(near).map(String::as_str)
}

/// How many letters are added, left out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(NAME_CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, from) in a.chars().take(NAME_CHARS_MAX).enumerate() {
        let mut corner = line;
        let mut left = line + 1;
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            let changed = corner + usize::from(from != *to);
            left = changed.min(above + 1).min(left + 1);
            corner = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Names are compared up to here.
const NAME_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_name_that_was_meant_is_found() {
        let names: Vec<_> =
            ["order", "orders", "purchaseID", "priceTotal"].map(String::from).into();
        for (name, expected) in [
            ("Order", Some("order")),
            ("purchaseId", Some("purchaseID")),
            ("priceTotl", Some("priceTotal")),
            ("pricetotall", Some("priceTotal")),
            ("currency", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, &names), expected, "{name}");
        }
    }
}
