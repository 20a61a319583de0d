//! JSON numbers: equal when mathematically equal, whatever their spelling.

use serde_json::Number as JsonNumber;

/// A number as read: whole if it fits 64 bits and is written so, else the nearest double.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Below zero, without fraction or exponent.
    Signed(i64),
    /// Zero or above, without fraction or exponent.
    Unsigned(u64),
    /// Anything else; never infinite.
    Float(f64),
}

/// The one form of a number: equal forms are equal numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Canonical {
    /// Whole and between -2^64 and 2^64.
    Whole(i128),
    /// The bits of any other double.
    Bits(u64),
}

/// 2^64, the first whole double that no 64-bit number equals.
const WHOLE_BOUND: f64 = 18_446_744_073_709_551_616.0;

impl Number {
    /// The number if it is whole and in range.
    #[must_use]
    pub fn as_i64(self) -> Option<i64> {
        self.whole().and_then(|whole| i64::try_from(whole).ok())
    }

    /// The number if it is whole and in range.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        self.whole().and_then(|whole| u64::try_from(whole).ok())
    }

    /// The nearest double.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is asked for")]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Signed(value) => value as f64,
            Self::Unsigned(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// Whether there is no fraction, however written.
    #[must_use]
    pub fn is_whole(self) -> bool {
        match self {
            Self::Signed(_) | Self::Unsigned(_) => true,
            Self::Float(value) => value.fract() == 0.0,
        }
    }

    /// The number of a JSON tree.
    #[must_use]
    pub fn from_json(number: &JsonNumber) -> Self {
        if let Some(value) = number.as_u64() {
            Self::Unsigned(value)
        } else if let Some(value) = number.as_i64() {
            Self::Signed(value)
        } else {
            Self::Float(number.as_f64().unwrap_or_default())
        }
    }

    /// Whether both are the same number, however written.
    #[must_use]
    pub fn same(self, other: Self) -> bool {
        self.canonical() == other.canonical()
    }

    /// The number for a JSON tree.
    #[must_use]
    pub fn to_json(self) -> JsonNumber {
        match self {
            Self::Signed(value) => value.into(),
            Self::Unsigned(value) => value.into(),
            Self::Float(value) => JsonNumber::from_f64(value).unwrap_or_else(|| 0.into()),
        }
    }

    pub(super) fn canonical(self) -> Canonical {
        match self {
            Self::Float(value) => {
                self.whole().map_or(Canonical::Bits(value.to_bits()), Canonical::Whole)
            }
            Self::Signed(value) => Canonical::Whole(value.into()),
            Self::Unsigned(value) => Canonical::Whole(value.into()),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "whole and within 65 bits by the check")]
    fn whole(self) -> Option<i128> {
        match self {
            Self::Signed(value) => Some(value.into()),
            Self::Unsigned(value) => Some(value.into()),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < WHOLE_BOUND => {
                Some(value as i128)
            }
            Self::Float(_) => None,
        }
    }
}
