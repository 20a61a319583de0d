//! A checked expression, ready to be evaluated.

use regex::Regex;

use crate::{
    condition::{
        functions::Function,
        syntax::{Literal, Operator},
    },
    model::Timestamp,
};

/// An expression whose names are found and whose types fit, as far as the schema tells them.
#[derive(Debug)]
pub(super) enum Expr {
    Literal(Literal),
    /// A value of the event.
    Path(Path),
    Time(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    /// The event's record time.
    Now,
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// Condition, then, else.
    If(Box<[Expr; 3]>),
    /// `==`, `!=`, an order, or `in`.
    Compare(Operator, Box<[Expr; 2]>),
    Arithmetic(Operator, Arithmetic, Box<[Expr; 2]>),
    Has(Path),
    /// An element of a list, or a member by a name that is computed.
    Index(Box<[Expr; 2]>),
    /// A member of what is no path.
    Member(Box<Expr>, Box<str>),
    List(Vec<Expr>),
    Call(Function, Vec<Expr>),
    Matches(Box<Expr>, Box<Regex>),
    Loop(Loop, Box<LoopParts>),
}

/// How numbers are added, multiplied and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    /// Both are whole by their types: the result is, too.
    Whole,
    /// One may have a fraction: the result, too. So it does not matter whether an event writes `5` or
    /// `5.0`.
    Double,
    /// Not numbers, or not known: as the values are.
    ByValue,
}

/// What is done with each element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

#[derive(Debug)]
pub(super) struct LoopParts {
    pub(super) list: Expr,
    /// Which of the loops around it: where its variable is.
    pub(super) level: usize,
    pub(super) body: Expr,
}

/// Steps from the event, or from a loop's variable.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// `None`: the event.
    pub(super) variable: Option<usize>,
    pub(super) steps: Vec<Step>,
    /// The schema says that a moment is there.
    pub(super) is_time: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Member(Box<str>),
    Element(usize),
}

impl Expr {
    /// Whether it depends on the event's record time.
    pub(super) fn uses_now(&self) -> bool {
        let mut found = matches!(self, Self::Now);
        self.each_part(&mut |part| found |= part.uses_now());
        found
    }

    fn each_part<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        match self {
            Self::Literal(_)
            | Self::Time(_)
            | Self::Duration(_)
            | Self::Path(_)
            | Self::Now
            | Self::Has(_) => {}
            Self::Not(part)
            | Self::Negate(part)
            | Self::Member(part, _)
            | Self::Matches(part, _) => {
                f(part);
            }
            Self::And(parts) | Self::Or(parts) | Self::List(parts) | Self::Call(_, parts) => {
                parts.iter().for_each(f);
            }
            Self::If(parts) => parts.iter().for_each(f),
            Self::Compare(_, parts) | Self::Arithmetic(_, _, parts) | Self::Index(parts) => {
                parts.iter().for_each(f);
            }
            Self::Loop(_, parts) => {
                f(&parts.list);
                f(&parts.body);
            }
        }
    }
}
