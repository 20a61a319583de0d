//! The condition language: a part of the Common Expression Language, typed by XDM's fields.
//!
//! A text is parsed, checked against a schema and made into a tree once; evaluating the tree copies
//! nothing of the event, has no side effects, and ends after a bounded number of steps. Invariant: the
//! same event and record time always give the same answer.
#![expect(clippy::wildcard_enum_match_arm, reason = "all other types are refused alike")]

mod anchors;
mod calls;
mod check;
mod clock;
mod evaluate;
mod explain;
mod expr;
mod functions;
mod lexer;
mod parse;
mod problem;
mod syntax;
mod types;
mod value;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use explain::{Clause, Outcome, explain};
pub use problem::{Problem, Problems};
pub use value::{Fault, Value};

use crate::{
    condition::{check::Checker, evaluate::Evaluation, expr::Expr, types::Type},
    model::{Timestamp, json::Node},
    schema::Fields,
};

/// A text that was checked, ready to be evaluated.
#[derive(Debug)]
pub struct Expression {
    text: Arc<str>,
    expr: Expr,
    uses_now: bool,
}

impl Expression {
    /// A text that says yes or no of an event. Without fields nothing is known of types, and what does
    /// not fit is found out when it is evaluated.
    ///
    /// # Errors
    /// Everything that is wrong with the text.
    pub fn condition(text: &str, fields: Option<&Fields>) -> Result<Self, Problems> {
        Self::of(text, fields, "a condition comes to true or false", |type_| {
            matches!(type_, Type::Bool | Type::Any)
        })
    }

    /// A text that makes an identity's id out of an event.
    ///
    /// # Errors
    /// Everything that is wrong with the text.
    pub fn key(text: &str, fields: Option<&Fields>) -> Result<Self, Problems> {
        Self::of(text, fields, "a key is a text or a whole number", |type_| {
            matches!(type_, Type::Text | Type::Enum(_) | Type::Int | Type::Any)
        })
    }

    fn of(
        text: &str,
        fields: Option<&Fields>,
        wanted: &str,
        fits: impl Fn(&Type) -> bool,
    ) -> Result<Self, Problems> {
        let syntax = parse::parse(text).map_err(|problem| Problems::new(text, vec![problem]))?;
        let mut checker = Checker::new(fields);
        let (expr, type_) = checker.check(&syntax);
        let mut problems = checker.into_problems();
        if problems.is_empty() && !fits(&type_) {
            problems.push(Problem::new(syntax.at, format!("this is {type_}; {wanted}")));
        }
        if !problems.is_empty() {
            return Err(Problems::new(text, problems));
        }
        let uses_now = expr.uses_now();
        Ok(Self { text: text.into(), expr, uses_now })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether it depends on the event's record time.
    #[must_use]
    pub fn uses_now(&self) -> bool {
        self.uses_now
    }

    /// Whether the condition holds of an event that is stored at `now`.
    ///
    /// # Errors
    /// When it comes to nothing, which is as good as false.
    pub fn holds(&self, event: Node<'_>, now: Timestamp) -> Result<bool, Fault> {
        Evaluation::new(event, now).truth(&self.expr)
    }

    /// The key of an event that is stored at `now`.
    ///
    /// # Errors
    /// When it comes to nothing.
    pub fn key_of(&self, event: Node<'_>, now: Timestamp) -> Result<String, Fault> {
        match Evaluation::new(event, now).value(&self.expr)? {
            Value::Text(text) => Ok(text.into_owned()),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => Ok(whole.to_string()),
                None => Err(Fault::Type),
            },
            other => Err(other.unfit()),
        }
    }

    /// Paths of names, and the texts of which one must stand there for the condition to hold.
    #[must_use]
    pub fn anchors(&self) -> BTreeMap<Vec<String>, BTreeSet<String>> {
        anchors::anchors(&self.expr)
    }
}
