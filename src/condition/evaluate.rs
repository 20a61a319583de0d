//! Evaluating an expression over one event.
//!
//! A fault is neither true nor false: `false && fault` is false, `true || fault` is true, in either
//! order; everything else made of a fault is one.
#![expect(clippy::wildcard_enum_match_arm, reason = "values of all other types are refused alike")]

use std::{borrow::Cow, cmp::Ordering};

use crate::{
    condition::{
        Fault, Value, calls,
        expr::{Arithmetic, Expr, Loop, LoopParts, Path, Step},
        syntax::{Literal, Operator},
    },
    model::{
        Timestamp,
        json::{Node, Number},
        limits,
    },
};

type Result<T> = std::result::Result<T, Fault>;

/// One evaluation: an event, the variables of the loops under way, and the steps that are left.
pub(super) struct Evaluation<'a> {
    event: Node<'a>,
    pub(super) now: Timestamp,
    variables: Vec<Value<'a>>,
    steps: u32,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(event: Node<'a>, now: Timestamp) -> Self {
        Self { event, now, variables: Vec::new(), steps: limits::CONDITION_STEPS_MAX }
    }

    /// Once the steps are used up, everything faults: so no `||` turns that into an answer.
    fn step(&mut self, steps: u32) -> Result<()> {
        self.steps = self.steps.saturating_sub(steps);
        if self.steps == 0 { Err(Fault::Budget) } else { Ok(()) }
    }

    pub(super) fn truth(&mut self, expr: &'a Expr) -> Result<bool> {
        self.step(1)?;
        match expr {
            Expr::And(terms) => self.any(terms, false).map(|found| !found),
            Expr::Or(terms) => self.any(terms, true),
            Expr::Not(operand) => Ok(!self.truth(operand)?),
            Expr::Compare(operator, both) => self.compare(*operator, both),
            Expr::Has(path) => Ok(self.node(path)?.is_some_and(|it| !it.is_null())),
            Expr::Matches(text, regex) => {
                let text = self.value(text)?;
                self.step(text.steps())?;
                Ok(regex.is_match(text.as_text()?))
            }
            Expr::Loop(Loop::All, parts) => self.some(parts, false).map(|found| !found),
            Expr::Loop(Loop::Exists, parts) => self.some(parts, true),
            Expr::Loop(Loop::ExistsOne, parts) => {
                let mut count = 0;
                self.each(parts, |evaluation, _| {
                    count += usize::from(evaluation.truth(&parts.body)?);
                    Ok(())
                })?;
                Ok(count == 1)
            }
            Expr::If(parts) => {
                let [condition, then, otherwise] = parts.as_ref();
                let chosen = if self.truth(condition)? { then } else { otherwise };
                self.truth(chosen)
            }
            other => self.other(other)?.as_bool(),
        }
    }

    /// Whether a term comes to `wanted`, which decides whatever the others come to.
    fn any(&mut self, terms: &'a [Expr], wanted: bool) -> Result<bool> {
        let mut fault = None;
        for term in terms {
            match self.truth(term) {
                Ok(found) if found == wanted => return Ok(true),
                Ok(_) => {}
                Err(Fault::Budget) => return Err(Fault::Budget),
                Err(found) => {
                    fault.get_or_insert(found);
                }
            }
        }
        fault.map_or(Ok(false), Err)
    }

    /// The same of a loop's body.
    fn some(&mut self, parts: &'a LoopParts, wanted: bool) -> Result<bool> {
        let (mut decided, mut fault) = (false, None);
        self.each(parts, |evaluation, _| {
            if decided {
                return Ok(());
            }
            match evaluation.truth(&parts.body) {
                Ok(found) => decided = found == wanted,
                Err(Fault::Budget) => return Err(Fault::Budget),
                Err(found) => {
                    fault.get_or_insert(found);
                }
            }
            Ok(())
        })?;
        if decided {
            return Ok(true);
        }
        fault.map_or(Ok(false), Err)
    }

    fn each(
        &mut self,
        parts: &'a LoopParts,
        mut body: impl FnMut(&mut Self, Value<'a>) -> Result<()>,
    ) -> Result<()> {
        let list = self.value(&parts.list)?;
        for element in list.elements()? {
            self.step(1)?;
            self.variables.truncate(parts.level);
            self.variables.push(element.clone());
            body(self, element)?;
        }
        self.variables.truncate(parts.level);
        Ok(())
    }

    pub(super) fn value(&mut self, expr: &'a Expr) -> Result<Value<'a>> {
        match expr {
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::Compare(..)
            | Expr::Has(_)
            | Expr::Matches(..)
            | Expr::Loop(Loop::All | Loop::Exists | Loop::ExistsOne, _) => {
                self.truth(expr).map(Value::Bool)
            }
            other => {
                self.step(1)?;
                self.other(other)
            }
        }
    }

    /// What is not true or false by its form.
    fn other(&mut self, expr: &'a Expr) -> Result<Value<'a>> {
        match expr {
            Expr::Literal(literal) => Ok(value_of(literal)),
            Expr::Time(time) => Ok(Value::Time(*time)),
            Expr::Duration(nanos) => Ok(Value::Duration(*nanos)),
            Expr::Now => Ok(Value::Time(self.now)),
            Expr::Path(path) => self.path(path),
            Expr::Negate(operand) => match self.value(operand)?.as_number()? {
                Number::Float(value) => Value::double(-value),
                number => {
                    let value = number.as_i64().and_then(i64::checked_neg);
                    value.map(Value::int).ok_or(Fault::Arithmetic)
                }
            },
            Expr::If(parts) => {
                let [condition, then, otherwise] = parts.as_ref();
                let chosen = if self.truth(condition)? { then } else { otherwise };
                self.value(chosen)
            }
            Expr::Arithmetic(operator, how, both) => {
                let [left, right] = both.as_ref();
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.step(left.steps().saturating_add(right.steps()))?;
                arithmetic(*operator, *how, left, &right)
            }
            Expr::Index(both) => {
                let [of, index] = both.as_ref();
                let (of, index) = (self.value(of)?, self.value(index)?);
                self.index(&of, &index)
            }
            Expr::Member(of, name) => match self.value(of)? {
                Value::Node(node) => Ok(node.get(name).map_or(Value::Null, Value::of_node)),
                Value::Null => Ok(Value::Null),
                _ => Err(Fault::Type),
            },
            Expr::List(items) => {
                let items = items.iter().map(|it| self.value(it)).collect::<Result<_>>()?;
                Ok(Value::List(items))
            }
            Expr::Call(function, arguments) => {
                let arguments: Vec<Value<'a>> =
                    arguments.iter().map(|it| self.value(it)).collect::<Result<_>>()?;
                self.step(arguments.iter().map(Value::steps).fold(0, u32::saturating_add))?;
                calls::call(*function, arguments)
            }
            Expr::Loop(kind, parts) => {
                let mut made = Vec::new();
                self.each(parts, |evaluation, element| {
                    if *kind == Loop::Map {
                        made.push(evaluation.value(&parts.body)?);
                    } else if evaluation.truth(&parts.body)? {
                        made.push(element);
                    }
                    Ok(())
                })?;
                Ok(Value::List(made))
            }
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::Compare(..)
            | Expr::Has(_)
            | Expr::Matches(..) => self.truth(expr).map(Value::Bool),
        }
    }

    /// The node that a path leads to; what is missing on the way is missing at its end.
    fn node(&mut self, path: &'a Path) -> Result<Option<Node<'a>>> {
        let mut node = match path.variable {
            None => self.event,
            Some(level) => match self.variables.get(level) {
                Some(Value::Node(node)) => *node,
                _ if path.steps.is_empty() => return Ok(None),
                Some(Value::Null) | None => return Ok(None),
                Some(_) => return Err(Fault::Type),
            },
        };
        for step in &path.steps {
            let next = match step {
                Step::Member(name) if node.is_object() => node.get(name),
                Step::Element(place) if node.is_array() => {
                    self.step(u32::try_from(*place / 8).unwrap_or(u32::MAX))?;
                    node.elements().nth(*place)
                }
                Step::Member(_) | Step::Element(_) if node.is_null() => None,
                Step::Member(_) | Step::Element(_) => return Err(Fault::Type),
            };
            match next {
                Some(next) => node = next,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    fn path(&mut self, path: &'a Path) -> Result<Value<'a>> {
        let value = match path.variable.filter(|_| path.steps.is_empty()) {
            Some(level) => self.variables.get(level).cloned().unwrap_or(Value::Null),
            None => self.node(path)?.map_or(Value::Null, Value::of_node),
        };
        match value {
            Value::Null => Ok(Value::Null),
            value if path.is_time => value.as_time().map(Value::Time),
            value => Ok(value),
        }
    }

    fn index(&mut self, of: &Value<'a>, index: &Value<'a>) -> Result<Value<'a>> {
        match (of, index) {
            (Value::Null, _) => Ok(Value::Null),
            (Value::Node(node), Value::Text(name)) if node.is_object() => {
                Ok(node.get(name).map_or(Value::Null, Value::of_node))
            }
            (_, Value::Number(place)) => {
                self.step(of.steps())?;
                let place = place.as_i64().ok_or(Fault::Type)?;
                let mut elements = of.elements()?;
                let place = usize::try_from(place).ok();
                Ok(place.and_then(|it| elements.nth(it)).unwrap_or(Value::Null))
            }
            (_, other) => Err(other.unfit()),
        }
    }

    fn compare(&mut self, operator: Operator, both: &'a [Expr; 2]) -> Result<bool> {
        let [left, right] = both;
        let left = self.value(left)?;
        // The list itself is not made for that.
        if let (Operator::In, Expr::List(items)) = (operator, right) {
            for item in items {
                let item = self.value(item)?;
                if left.same(&item) {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let right = self.value(right)?;
        self.step(left.steps().min(right.steps()))?;
        match operator {
            Operator::Equal => Ok(left.same(&right)),
            Operator::Unequal => Ok(!left.same(&right)),
            Operator::In => self.contains(&right, &left),
            Operator::Less => Ok(left.compare(&right)? == Ordering::Less),
            Operator::AtMost => Ok(left.compare(&right)? != Ordering::Greater),
            Operator::Greater => Ok(left.compare(&right)? == Ordering::Greater),
            Operator::AtLeast => Ok(left.compare(&right)? != Ordering::Less),
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => Err(Fault::Type),
        }
    }

    fn contains(&mut self, container: &Value<'a>, wanted: &Value<'a>) -> Result<bool> {
        if let Value::Node(node) = container
            && node.is_object()
        {
            return Ok(node.get(wanted.as_text()?).is_some());
        }
        self.step(container.steps())?;
        Ok(container.elements()?.any(|it| it.same(wanted)))
    }
}

fn value_of(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::int(*value),
        Literal::Double(value) => Value::Number(Number::Float(*value)),
        Literal::String(text) => Value::Text(Cow::Borrowed(text)),
    }
}

fn arithmetic<'a>(
    operator: Operator,
    how: Arithmetic,
    left: Value<'a>,
    right: &Value<'a>,
) -> Result<Value<'a>> {
    let number = match (&left, right) {
        (Value::Number(a), Value::Number(b)) => Some((*a, *b)),
        _ => None,
    };
    let Some((a, b)) = number else { return put_together(operator, left, right) };
    // Of numbers whose types are not known, a quotient is not cut: `5` may stand for `5.0`.
    let is_whole = match how {
        Arithmetic::Whole => true,
        Arithmetic::Double => false,
        Arithmetic::ByValue => operator != Operator::Divide && a.is_whole() && b.is_whole(),
    };
    if is_whole && let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        let value = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::Divide => a.checked_div(b),
            Operator::Remainder => a.checked_rem(b),
            _ => return Err(Fault::Type),
        };
        return value.map(Value::int).ok_or(Fault::Arithmetic);
    }
    if how == Arithmetic::Whole {
        return Err(Fault::Arithmetic);
    }
    let (a, b) = (a.as_f64(), b.as_f64());
    Value::double(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::Remainder => a % b,
        _ => return Err(Fault::Type),
    })
}

/// Sums and differences of what is no number.
fn put_together<'a>(operator: Operator, left: Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
    match (operator, left, right) {
        (_, Value::Null, _) | (_, _, Value::Null) => Err(Fault::Missing),
        (Operator::Add, Value::Text(a), Value::Text(b)) => Ok(Value::text(a.into_owned() + b)),
        (Operator::Add, Value::Duration(nanos), Value::Time(time)) => calls::shifted(*time, nanos),
        (Operator::Add, Value::Duration(a), Value::Duration(b)) => {
            a.checked_add(*b).map(Value::Duration).ok_or(Fault::Arithmetic)
        }
        (Operator::Subtract, Value::Duration(a), Value::Duration(b)) => {
            a.checked_sub(*b).map(Value::Duration).ok_or(Fault::Arithmetic)
        }
        (Operator::Add, left @ (Value::Time(_) | Value::Text(_)), Value::Duration(nanos)) => {
            calls::shifted(left.as_time()?, *nanos)
        }
        (Operator::Subtract, left @ (Value::Time(_) | Value::Text(_)), Value::Duration(nanos)) => {
            calls::shifted(left.as_time()?, nanos.checked_neg().ok_or(Fault::Arithmetic)?)
        }
        (Operator::Subtract, left @ (Value::Time(_) | Value::Text(_)), right @ Value::Time(_))
        | (Operator::Subtract, left @ Value::Time(_), right @ Value::Text(_)) => {
            calls::between(right.as_time()?, left.as_time()?)
        }
        (Operator::Add, left @ (Value::List(_) | Value::Node(_)), right) => {
            Ok(Value::List(left.elements()?.chain(right.elements()?).collect()))
        }
        _ => Err(Fault::Type),
    }
}
