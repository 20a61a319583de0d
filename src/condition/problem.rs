//! What is wrong with a text, and where.

use std::{fmt, ops::Range};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the text.
    pub at: Range<usize>,
    /// For people.
    pub message: String,
}

impl Problem {
    pub(super) fn new(at: Range<usize>, message: String) -> Self {
        Self { at, message }
    }
}

/// Everything that is wrong with a text; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// Line and column of each, from 1, and what is wrong.
    places: Vec<(usize, usize, String)>,
}

/// More are not told.
const PROBLEMS_MAX: usize = 10;

impl Problems {
    pub(super) fn new(text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|it| it.at.start);
        problems.truncate(PROBLEMS_MAX);
        let place = |problem: Problem| {
            let before = text.get(..problem.at.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let last = before.rsplit('\n').next().unwrap_or_default();
            (line, last.chars().count() + 1, problem.message)
        };
        Self { places: problems.into_iter().map(place).collect() }
    }

    /// One message each.
    pub fn messages(&self) -> impl Iterator<Item = String> + '_ {
        self.places.iter().map(|(line, column, message)| match line {
            1 => format!("column {column}: {message}"),
            _ => format!("line {line}, column {column}: {message}"),
        })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages().collect::<Vec<_>>().join("; "))
    }
}
