//! A place in the log.

use std::fmt;

/// A place in the log: dense, from 1, in commit order. `Position::START` is before every event, so
/// an exclusive lower bound needs no `Option`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// Before every event. Reading after it reads the whole log.
    pub const START: Self = Self(0);
    /// After every event: no event ever has it.
    pub const MAX: Self = Self(u64::MAX);

    /// The position with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number on the wire and on disk.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position after this one. A log of 2^64 events cannot be written.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before this one; `START` stays.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The position `count` events later.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// How many positions lie after `earlier` up to and including this one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
