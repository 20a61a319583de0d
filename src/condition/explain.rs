//! Why a condition holds or not: clause by clause, with the values that stand in the event.
#![expect(clippy::wildcard_enum_match_arm, reason = "all other forms are walked alike")]

use std::collections::BTreeSet;

use crate::{
    condition::{
        Problems,
        check::Checker,
        evaluate::Evaluation,
        parse,
        syntax::{Form, Syntax},
        value::Fault,
    },
    model::{
        Timestamp,
        json::{Document, Node},
        shorten,
    },
    schema::Fields,
};

/// What a clause comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It comes to nothing, which is as good as false.
    Fault(Fault),
}

/// One clause of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Its text.
    pub text: String,
    /// What it comes to.
    pub outcome: Outcome,
    /// The paths that it speaks of, and the JSON that stands there; `None`: nothing does.
    pub values: Vec<(String, Option<String>)>,
    /// What it is made of, by `&&` or `||`.
    pub clauses: Vec<Clause>,
}

/// Says what each clause of a condition comes to.
///
/// # Errors
/// When the condition is not sound.
pub fn explain(
    text: &str,
    fields: Option<&Fields>,
    event: &Document<'_>,
    now: Timestamp,
) -> Result<Clause, Problems> {
    let syntax = parse::parse(text).map_err(|problem| Problems::new(text, vec![problem]))?;
    let mut checker = Checker::new(fields);
    checker.check(&syntax);
    let problems = checker.into_problems();
    if !problems.is_empty() {
        return Err(Problems::new(text, problems));
    }
    Ok(clause(&syntax, fields, event.root(), now))
}

fn clause(syntax: &Syntax, fields: Option<&Fields>, event: Node<'_>, now: Timestamp) -> Clause {
    let (expr, _) = Checker::new(fields).check(syntax);
    let outcome = match Evaluation::new(event, now).truth(&expr) {
        Ok(true) => Outcome::True,
        Ok(false) => Outcome::False,
        Err(fault) => Outcome::Fault(fault),
    };
    let clauses: Vec<Clause> = match &syntax.form {
        Form::And(terms) | Form::Or(terms) => {
            terms.iter().map(|it| clause(it, fields, event, now)).collect()
        }
        _ => Vec::new(),
    };
    let mut paths = BTreeSet::new();
    if clauses.is_empty() {
        collect(syntax, &mut Vec::new(), &mut paths);
    }
    let values = paths.iter().map(|path| value(path, event)).collect();
    Clause { text: syntax.to_string(), outcome, values, clauses }
}

fn value(path: &[String], event: Node<'_>) -> (String, Option<String>) {
    let mut node = Some(event);
    for name in path {
        node = node.and_then(|it| match name.parse::<usize>() {
            Ok(place) if it.is_array() => it.elements().nth(place),
            _ => it.get(name),
        });
    }
    let found = node.map(|it| shorten(&it.to_value().to_string()));
    (path.join("."), found)
}

/// The paths of the event that an expression speaks of; `variables` are names of loops around it.
fn collect<'a>(
    syntax: &'a Syntax,
    variables: &mut Vec<&'a str>,
    paths: &mut BTreeSet<Vec<String>>,
) {
    if let Some(path) = path(syntax, variables) {
        paths.insert(path);
        return;
    }
    match &syntax.form {
        Form::Literal(_) | Form::Name(_) => {}
        Form::Member(part, _) | Form::Not(part) | Form::Negate(part) => {
            collect(part, variables, paths);
        }
        Form::Index(a, b) | Form::Binary(_, a, b) => {
            collect(a, variables, paths);
            collect(b, variables, paths);
        }
        Form::Call { on, arguments, .. } => {
            if let Some(on) = on {
                collect(on, variables, paths);
            }
            let name = match arguments.as_slice() {
                [Syntax { form: Form::Name(name), .. }, _] if on.is_some() => Some(name.as_str()),
                _ => None,
            };
            variables.extend(name);
            for argument in arguments {
                collect(argument, variables, paths);
            }
            variables.truncate(variables.len() - usize::from(name.is_some()));
        }
        Form::And(parts) | Form::Or(parts) | Form::List(parts) => {
            for part in parts {
                collect(part, variables, paths);
            }
        }
        Form::If(parts) => {
            for part in parts.iter() {
                collect(part, variables, paths);
            }
        }
    }
}

/// The names of a path from the event; `None` when it is none.
fn path(syntax: &Syntax, variables: &[&str]) -> Option<Vec<String>> {
    use crate::condition::syntax::Literal;
    match &syntax.form {
        Form::Name(name) => (!variables.contains(&name.as_str())).then(|| vec![name.clone()]),
        Form::Member(of, name) => {
            let mut found = path(of, variables)?;
            found.push(name.clone());
            Some(found)
        }
        Form::Index(of, index) => {
            let mut found = path(of, variables)?;
            match &index.form {
                Form::Literal(Literal::Int(place)) => found.push(place.to_string()),
                Form::Literal(Literal::String(name)) => found.push(name.clone()),
                _ => return None,
            }
            Some(found)
        }
        _ => None,
    }
}
