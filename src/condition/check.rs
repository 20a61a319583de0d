//! From the tree to an expression: names looked up in the schema, types held against each other.
#![expect(clippy::wildcard_enum_match_arm, reason = "all other types and forms are refused alike")]

use std::{fmt::Write as _, ops::Range};

use regex::RegexBuilder;

use crate::{
    condition::{
        Problem, calls, clock,
        expr::{Arithmetic, Expr, Loop, LoopParts, Path, Step},
        functions::{FUNCTIONS, Function, OWN, Signature},
        syntax::{Form, Literal, Operator, Syntax},
        types::{Type, nearest},
    },
    model::limits,
    schema::Fields,
};

/// Names listed in a message.
const NAMES_SHOWN_MAX: usize = 5;

pub(super) struct Checker<'f> {
    fields: Option<&'f Fields>,
    problems: Vec<Problem>,
    /// Of the loops around, the outermost first.
    variables: Vec<(String, Type)>,
}

type Checked = (Expr, Type);

impl<'f> Checker<'f> {
    pub(super) fn new(fields: Option<&'f Fields>) -> Self {
        Self { fields, problems: Vec::new(), variables: Vec::new() }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn problem(&mut self, at: &Range<usize>, message: String) -> Checked {
        self.problems.push(Problem::new(at.clone(), message));
        (Expr::Literal(Literal::Null), Type::Any)
    }

    pub(super) fn check(&mut self, syntax: &Syntax) -> Checked {
        let at = &syntax.at;
        match &syntax.form {
            Form::Literal(literal) => literal_of(literal),
            Form::Name(name) => self.name(name, at),
            Form::Member(of, name) => {
                let of = self.check(of);
                self.member(of, name, at)
            }
            Form::Index(of, index) => self.index(of, index, at),
            Form::Call { on, name, arguments } => self.call(on.as_deref(), name, arguments, at),
            Form::Not(operand) => {
                let operand = self.boolean(operand, "`!`");
                (Expr::Not(Box::new(operand)), Type::Bool)
            }
            Form::Negate(operand) => {
                let (expr, type_) = self.check(operand);
                if !type_.is_number() {
                    return self
                        .problem(&operand.at, format!("`-` takes a number; this is {type_}"));
                }
                (Expr::Negate(Box::new(expr)), type_)
            }
            Form::Binary(operator, left, right) => self.binary(*operator, left, right, at),
            Form::And(terms) => {
                let terms = terms.iter().map(|it| self.boolean(it, "`&&`")).collect();
                (Expr::And(terms), Type::Bool)
            }
            Form::Or(terms) => {
                let terms = terms.iter().map(|it| self.boolean(it, "`||`")).collect();
                (Expr::Or(terms), Type::Bool)
            }
            Form::If(parts) => {
                let [condition, then, otherwise] = parts.as_ref();
                let condition = self.boolean(condition, "`?`");
                let (then, then_type) = self.check(then);
                let (otherwise, type_) = self.check(otherwise);
                let Some(type_) = common(&then_type, &type_) else {
                    let message = format!("`:` stands between {then_type} and {type_}");
                    return self.problem(at, message);
                };
                (Expr::If(Box::new([condition, then, otherwise])), type_)
            }
            Form::List(items) => self.list(items, at),
        }
    }

    fn boolean(&mut self, syntax: &Syntax, operator: &str) -> Expr {
        let (expr, type_) = self.check(syntax);
        if matches!(type_, Type::Bool | Type::Any) {
            return expr;
        }
        self.problem(&syntax.at, format!("{operator} takes a boolean; this is {type_}")).0
    }

    fn name(&mut self, name: &str, at: &Range<usize>) -> Checked {
        let variable = self.variables.iter().rposition(|(it, _)| it == name);
        if let Some((level, (_, type_))) =
            variable.and_then(|level| Some((level, self.variables.get(level)?)))
        {
            let is_time = matches!(type_, Type::Time);
            let path = Path { variable: Some(level), steps: Vec::new(), is_time };
            return (Expr::Path(path), type_.clone());
        }
        let event = Expr::Path(Path { variable: None, steps: Vec::new(), is_time: false });
        let type_ = self.fields.map_or(Type::Any, |fields| Type::Object(fields.root()));
        self.member((event, type_), name, at)
    }

    fn member(&mut self, (of, type_): Checked, name: &str, at: &Range<usize>) -> Checked {
        let found = match (&type_, self.fields) {
            (Type::Any, _) => Ok(Type::Any),
            (Type::Object(field) | Type::Map(field), Some(fields)) => {
                if let Some(found) = fields.member(field, name) {
                    Ok(Type::of_field(fields, found))
                } else {
                    let names = fields.names(field);
                    // Of an object without names everything may be a member.
                    if names.is_empty() { Ok(Type::Any) } else { Err(names) }
                }
            }
            (Type::List(_), _) => {
                let message = format!(
                    "`{name}` of a list; name an element, as in `[0].{name}`, or ask all of them, \
                     as in `.exists(it, it.{name} …)`"
                );
                return self.problem(at, message);
            }
            _ => {
                let message = format!("`{name}` of what is {type_}, which has no fields");
                return self.problem(at, message);
            }
        };
        match found {
            Ok(type_) => (stepped(of, Step::Member(name.into()), &type_), type_),
            Err(names) => {
                let message = self.no_field(name, &of, &names);
                // Where the name stands, not what it is of.
                let start = at.end.saturating_sub(name.len()).max(at.start);
                self.problem(&(start..at.end), message)
            }
        }
    }

    fn no_field(&self, name: &str, of: &Expr, names: &[String]) -> String {
        let holder = match of {
            Expr::Path(path) if path.variable.is_none() && path.steps.is_empty() => {
                format!("schema `{}`", self.fields.map(Fields::schema_id).unwrap_or_default())
            }
            Expr::Path(path) => format!("`{}`", self.path_text(path)),
            _ => "what holds it there".to_owned(),
        };
        let hint = match nearest(name, names) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("it has {}", some(names)),
        };
        format!("`{name}` is no field of {holder}; {hint}")
    }

    fn path_text(&self, path: &Path) -> String {
        let variable = path.variable.and_then(|level| self.variables.get(level));
        let mut text = variable.map(|it| it.0.clone()).unwrap_or_default();
        for step in &path.steps {
            match step {
                Step::Member(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Step::Element(place) => drop(write!(text, "[{place}]")),
            }
        }
        text
    }

    fn index(&mut self, of: &Syntax, index: &Syntax, at: &Range<usize>) -> Checked {
        let (of_expr, of_type) = self.check(of);
        if let (Form::Literal(Literal::String(name)), Type::Map(_) | Type::Object(_) | Type::Any) =
            (&index.form, &of_type)
        {
            return self.member((of_expr, of_type), name, at);
        }
        let (expr, type_) = self.check(index);
        match &of_type {
            Type::List(element) => {
                if !matches!(type_, Type::Int | Type::Any) {
                    let message = format!("an element's place is a whole number; this is {type_}");
                    return self.problem(&index.at, message);
                }
                let element = element.as_ref().clone();
                self.element(of_expr, expr, element, index)
            }
            Type::Any => self.element(of_expr, expr, Type::Any, index),
            Type::Map(field) => {
                if !type_.is_text() {
                    let message = format!("a map's key is a text; this is {type_}");
                    return self.problem(&index.at, message);
                }
                let value = self
                    .fields
                    .and_then(|fields| Some(Type::of_field(fields, fields.member(field, "")?)));
                (Expr::Index(Box::new([of_expr, expr])), value.unwrap_or(Type::Any))
            }
            other => {
                let message = format!("this is {other}; only of lists and maps is there a `[…]`");
                self.problem(&of.at, message)
            }
        }
    }

    fn element(&mut self, of: Expr, index: Expr, type_: Type, at: &Syntax) -> Checked {
        match index {
            Expr::Literal(Literal::Int(place)) => match usize::try_from(place) {
                Ok(place) => (stepped(of, Step::Element(place), &type_), type_),
                Err(_negative) => {
                    let message = format!("{place}; elements are counted from 0");
                    self.problem(&at.at, message)
                }
            },
            index => {
                let element = Expr::Index(Box::new([of, index]));
                (as_time(element, &type_), type_)
            }
        }
    }

    fn list(&mut self, items: &[Syntax], at: &Range<usize>) -> Checked {
        let most = limits::CONDITION_LIST_MAX;
        if items.len() > most {
            return self.problem(at, format!("{} elements; at most {most}", items.len()));
        }
        let mut exprs = Vec::with_capacity(items.len());
        let mut all = Type::Null;
        for item in items {
            let (expr, type_) = self.check(item);
            let Some(both) = common(&all, &type_) else {
                let message = format!("{type_} in a list that begins with {all}");
                return self.problem(&item.at, message);
            };
            all = both;
            exprs.push(expr);
        }
        (Expr::List(exprs), Type::List(Box::new(all)))
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: &Syntax,
        right: &Syntax,
        at: &Range<usize>,
    ) -> Checked {
        let (left_expr, left_type) = self.check(left);
        let (right_expr, right_type) = self.check(right);
        let both = Box::new([left_expr, right_expr]);
        let (a, b) = (&left_type, &right_type);
        match operator {
            Operator::Equal | Operator::Unequal => {
                self.check_value(a, right);
                self.check_value(b, left);
                if !a.may_equal(b) {
                    return self.unlike(operator, a, b, at);
                }
                (Expr::Compare(operator, both), Type::Bool)
            }
            Operator::Less | Operator::AtMost | Operator::Greater | Operator::AtLeast => {
                if !a.may_order(b) {
                    return self.unlike(operator, a, b, at);
                }
                (Expr::Compare(operator, both), Type::Bool)
            }
            Operator::In => self.membership(&left_type, &right_type, right, both, at),
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => match arithmetic(operator, a, b) {
                Some((how, type_)) => (Expr::Arithmetic(operator, how, both), type_),
                None => self.unlike(operator, a, b, at),
            },
        }
    }

    fn unlike(&mut self, operator: Operator, a: &Type, b: &Type, at: &Range<usize>) -> Checked {
        let hint = match (a, b) {
            (Type::Time, Type::Text | Type::Enum(_)) | (Type::Text | Type::Enum(_), Type::Time) => {
                "; write `timestamp('2026-11-23T09:30:00Z')` for a moment"
            }
            (Type::Int | Type::Double, Type::Text | Type::Enum(_)) => {
                "; write numbers without quotes"
            }
            (Type::Object(_) | Type::Map(_), _) | (_, Type::Object(_) | Type::Map(_)) => {
                "; compare one of the object's fields"
            }
            _ => "",
        };
        let text = operator.text();
        self.problem(at, format!("`{text}` stands between {a} and {b}{hint}"))
    }

    fn membership(
        &mut self,
        left: &Type,
        right: &Type,
        list: &Syntax,
        both: Box<[Expr; 2]>,
        at: &Range<usize>,
    ) -> Checked {
        if let Form::List(items) = &list.form {
            for item in items {
                self.check_value(left, item);
            }
        }
        let fits = match right {
            Type::List(element) => left.may_equal(element),
            Type::Map(_) | Type::Object(_) => left.is_text(),
            Type::Any => true,
            other => {
                let message = format!("`in` takes a list or a map after it; this is {other}");
                return self.problem(&list.at, message);
            }
        };
        if !fits {
            let of = match right {
                Type::List(element) => element.to_string(),
                _ => "a text".to_owned(),
            };
            return self.problem(at, format!("`in` looks for {left} where {of} stands"));
        }
        (Expr::Compare(Operator::In, both), Type::Bool)
    }

    /// Refuses a text that a closed list does not have.
    fn check_value(&mut self, type_: &Type, other: &Syntax) {
        if let (Type::Enum(values), Form::Literal(Literal::String(text))) = (type_, &other.form)
            && !values.contains(text)
        {
            let hint = match nearest(text, values) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("it is one of {}", some(values)),
            };
            self.problem(&other.at, format!("the field is never `{text}`; {hint}"));
        }
    }

    fn call(
        &mut self,
        on: Option<&Syntax>,
        name: &str,
        arguments: &[Syntax],
        at: &Range<usize>,
    ) -> Checked {
        let loop_ = match name {
            "all" => Some(Loop::All),
            "exists" => Some(Loop::Exists),
            "exists_one" => Some(Loop::ExistsOne),
            "filter" => Some(Loop::Filter),
            "map" => Some(Loop::Map),
            _ => None,
        };
        match (loop_, on, name, arguments) {
            (Some(kind), Some(list), _, [variable, body]) => {
                self.each(kind, list, variable, body, at)
            }
            (Some(_), ..) => {
                let message = format!("`{name}` is called as in `list.{name}(it, …)`");
                self.problem(at, message)
            }
            (None, None, "has", [field]) => {
                let told = self.problems.len();
                match self.check(field).0 {
                    Expr::Path(path) if !path.steps.is_empty() => (Expr::Has(path), Type::Bool),
                    other if self.problems.len() > told => (other, Type::Any),
                    _ => self.problem(&field.at, "`has` takes a field's path".to_owned()),
                }
            }
            (None, None, "now", []) => (Expr::Now, Type::Time),
            (None, Some(text), "matches", [pattern]) => self.matches(text, pattern),
            (None, _, "has", _) => self.problem(at, "`has` is called as in `has(a.b)`".to_owned()),
            (None, _, "now", _) => self.problem(at, "`now` is called as in `now()`".to_owned()),
            (None, _, "matches", _) => {
                let message = "`matches` is called as in `text.matches('^a')`".to_owned();
                self.problem(at, message)
            }
            (None, ..) => self.function(on, name, arguments, at),
        }
    }

    fn each(
        &mut self,
        kind: Loop,
        list: &Syntax,
        variable: &Syntax,
        body: &Syntax,
        at: &Range<usize>,
    ) -> Checked {
        let (list_expr, list_type) = self.check(list);
        let element = match list_type {
            Type::List(element) => *element,
            Type::Any => Type::Any,
            other => {
                let message = format!("this is {other}; wanted a list");
                return self.problem(&list.at, message);
            }
        };
        let Form::Name(name) = &variable.form else {
            let message = "wanted a name for the element, such as `it`".to_owned();
            return self.problem(&variable.at, message);
        };
        let level = self.variables.len();
        if level >= limits::CONDITION_LOOPS_MAX {
            let message = format!("a loop in more than {level} others", level = level - 1);
            return self.problem(at, message);
        }
        self.variables.push((name.clone(), element.clone()));
        let (body_expr, body_type) = match kind {
            Loop::Map => self.check(body),
            Loop::All | Loop::Exists | Loop::ExistsOne | Loop::Filter => {
                (self.boolean(body, "this"), Type::Bool)
            }
        };
        self.variables.pop();
        let type_ = match kind {
            Loop::All | Loop::Exists | Loop::ExistsOne => Type::Bool,
            Loop::Filter => Type::List(Box::new(element)),
            Loop::Map => Type::List(Box::new(body_type)),
        };
        let parts = LoopParts { list: list_expr, level, body: body_expr };
        (Expr::Loop(kind, Box::new(parts)), type_)
    }

    fn matches(&mut self, text: &Syntax, pattern: &Syntax) -> Checked {
        let (expr, type_) = self.check(text);
        if !type_.is_text() {
            return self.problem(&text.at, format!("`matches` takes a text; this is {type_}"));
        }
        let Form::Literal(Literal::String(source)) = &pattern.form else {
            let message = "a pattern stands in quotes".to_owned();
            return self.problem(&pattern.at, message);
        };
        let most = limits::CONDITION_PATTERN_BYTES_MAX;
        match RegexBuilder::new(source).size_limit(most).dfa_size_limit(most).build() {
            Ok(regex) => (Expr::Matches(Box::new(expr), Box::new(regex)), Type::Bool),
            Err(regex::Error::CompiledTooBig(_)) => {
                let message = format!("the pattern takes more than {most} bytes compiled");
                self.problem(&pattern.at, message)
            }
            Err(error) => {
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                let reason = reason.trim_start_matches("error: ");
                self.problem(&pattern.at, format!("the pattern does not compile: {reason}"))
            }
        }
    }

    fn function(
        &mut self,
        on: Option<&Syntax>,
        name: &str,
        arguments: &[Syntax],
        at: &Range<usize>,
    ) -> Checked {
        let of_name = || FUNCTIONS.iter().filter(|it| it.name == name);
        let Some(signature) = of_name().find(|it| it.on.is_some() == on.is_some()) else {
            let message = match of_name().next() {
                Some(other) => format!("`{name}` is called as in `{}`", usage(other)),
                None => no_function(name),
            };
            return self.problem(at, message);
        };
        let least = signature.takes.len() - signature.optional;
        if arguments.len() < least || arguments.len() > signature.takes.len() {
            let message = format!("`{name}` is called as in `{}`", usage(signature));
            return self.problem(at, message);
        }
        let takes = signature.on.iter().chain(signature.takes);
        let mut exprs = Vec::with_capacity(arguments.len() + 1);
        let mut first = None;
        for (syntax, takes) in on.into_iter().chain(arguments).zip(takes) {
            let (expr, type_) = self.check(syntax);
            if !takes.accepts(&type_) {
                let wanted = takes.describe();
                let message = format!("`{name}` takes {wanted}; this is {type_}");
                self.problem(&syntax.at, message);
            }
            exprs.push(expr);
            first.get_or_insert(type_);
        }
        let type_ = signature.gives.gives(first.as_ref());
        if let (
            Function::GetHours
            | Function::GetMinutes
            | Function::GetSeconds
            | Function::GetMilliseconds,
            Some(Type::Duration),
            Some(zone),
        ) = (signature.function, &first, arguments.first())
        {
            return self.problem(&zone.at, "a duration has no time zone".to_owned());
        }
        match self.constant(signature, &exprs, arguments) {
            Some(constant) => (constant, type_),
            None => (Expr::Call(signature.function, exprs), type_),
        }
    }

    /// What can be computed now: moments, durations and time zones are checked when they are written.
    fn constant(
        &mut self,
        signature: &Signature,
        exprs: &[Expr],
        arguments: &[Syntax],
    ) -> Option<Expr> {
        let (Expr::Literal(Literal::String(text)), Some(at)) = (exprs.last()?, arguments.last())
        else {
            return None;
        };
        let made = match signature.function {
            Function::Timestamp => calls::parse_time(text).map(Expr::Time),
            Function::Duration => calls::parse_duration(text).map(Expr::Duration),
            _ if exprs.len() == 2 && is_time_part(signature.function) => {
                if clock::Zone::parse(text).is_none() {
                    let wanted = "wanted `UTC`, an offset such as `+02:00`, or a name such as \
                                  `Europe/Berlin`";
                    self.problem(&at.at, format!("`{text}` is no time zone; {wanted}"));
                }
                return None;
            }
            _ => return None,
        };
        if made.is_none() {
            let wanted = match signature.function {
                Function::Timestamp => "an RFC 3339 date-time such as `2026-11-23T09:30:00Z`",
                _ => "a duration such as `90s`, `1h30m` or `500ms`",
            };
            self.problem(&at.at, format!("`{text}`; wanted {wanted}"));
        }
        made
    }
}

fn is_time_part(function: Function) -> bool {
    FUNCTIONS.iter().any(|it| it.function == function && it.name.starts_with("get"))
}

fn literal_of(literal: &Literal) -> Checked {
    let type_ = match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::Text,
    };
    (Expr::Literal(literal.clone()), type_)
}

/// One step further; what is not a path stays a value.
fn stepped(of: Expr, step: Step, type_: &Type) -> Expr {
    match (of, step) {
        (Expr::Path(mut path), step) => {
            path.steps.push(step);
            path.is_time = matches!(type_, Type::Time);
            Expr::Path(path)
        }
        (of, Step::Member(name)) => as_time(Expr::Member(Box::new(of), name), type_),
        (of, Step::Element(place)) => {
            let place = Literal::Int(i64::try_from(place).unwrap_or(i64::MAX));
            as_time(Expr::Index(Box::new([of, Expr::Literal(place)])), type_)
        }
    }
}

/// A moment that stands in the event as a text.
fn as_time(expr: Expr, type_: &Type) -> Expr {
    match type_ {
        Type::Time => Expr::Call(Function::Timestamp, vec![expr]),
        _ => expr,
    }
}

/// The type of what is one or the other.
fn common(a: &Type, b: &Type) -> Option<Type> {
    match (a, b) {
        (Type::Null, other) | (other, Type::Null) => Some(other.clone()),
        (Type::Any, _) | (_, Type::Any) => Some(Type::Any),
        (Type::Int | Type::Double, Type::Double) | (Type::Double, Type::Int) => Some(Type::Double),
        (Type::Text | Type::Enum(_), Type::Text | Type::Enum(_)) => Some(Type::Text),
        (Type::List(a), Type::List(b)) => Some(Type::List(Box::new(common(a, b)?))),
        (a, b) if a == b => Some(a.clone()),
        _ => None,
    }
}

/// How two operands are put together, and what comes out.
fn arithmetic(operator: Operator, a: &Type, b: &Type) -> Option<(Arithmetic, Type)> {
    let by_value = |type_: Type| Some((Arithmetic::ByValue, type_));
    let is_sum = matches!(operator, Operator::Add | Operator::Subtract);
    match (a, b) {
        (Type::Int, Type::Int) => Some((Arithmetic::Whole, Type::Int)),
        (Type::Int | Type::Double, Type::Int | Type::Double) => {
            Some((Arithmetic::Double, Type::Double))
        }
        (Type::Any, Type::Any) if is_sum => by_value(Type::Any),
        (Type::Any | Type::Int | Type::Double, Type::Any | Type::Int | Type::Double) => {
            by_value(Type::Double)
        }
        (Type::Time, Type::Duration) if is_sum => by_value(Type::Time),
        (Type::Duration, Type::Time) if operator == Operator::Add => by_value(Type::Time),
        (Type::Duration, Type::Duration) if is_sum => by_value(Type::Duration),
        (Type::Time, Type::Time) if operator == Operator::Subtract => by_value(Type::Duration),
        (Type::Time | Type::Duration, Type::Any) | (Type::Any, Type::Time | Type::Duration)
            if is_sum =>
        {
            by_value(Type::Any)
        }
        (Type::List(_), Type::List(_) | Type::Any) | (Type::Any, Type::List(_))
            if operator == Operator::Add =>
        {
            by_value(common(a, b)?)
        }
        _ if operator == Operator::Add && a.is_text() && b.is_text() => by_value(Type::Text),
        _ => None,
    }
}

fn usage(signature: &Signature) -> String {
    let word = |takes: &crate::condition::functions::Takes| {
        takes.describe().rsplit(' ').next().unwrap_or_default().to_owned()
    };
    let arguments: Vec<String> = signature.takes.iter().map(word).collect();
    let call = format!("{}({})", signature.name, arguments.join(", "));
    match &signature.on {
        Some(on) => format!("{}.{call}", word(on)),
        None => call,
    }
}

fn no_function(name: &str) -> String {
    let mut names: Vec<String> = FUNCTIONS.iter().map(|it| it.name.to_owned()).collect();
    names.extend(OWN.map(str::to_owned));
    match nearest(name, &names) {
        Some(meant) => format!("`{name}` is no function; did you mean `{meant}`?"),
        None => format!("`{name}` is no function"),
    }
}

/// The first few names.
fn some(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(NAMES_SHOWN_MAX).map(|it| format!("`{it}`")).collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
