//! A condition as groups of tests, as forms and builders show it; to text and back.
#![expect(clippy::wildcard_enum_match_arm, reason = "no other form is a test")]

use crate::condition::{
    Problem, Problems,
    parse::parse,
    syntax::{Form, Literal, Operator, Syntax},
};

/// A condition that is made of groups and tests.
#[derive(Clone, Debug, PartialEq)]
pub enum Structured {
    /// All of its parts hold, or one.
    Group {
        /// All, or one.
        all: bool,
        /// At least one.
        parts: Vec<Structured>,
    },
    /// A field is held against values.
    Test(FieldTest),
}

/// A field held against values.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldTest {
    /// Its path.
    pub field: String,
    /// How.
    pub operator: TestOperator,
    /// One for most operators, several for `In`, none for the last two.
    pub values: Vec<Scalar>,
}

/// A value that a field is held against.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// A number with a fraction.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// A moment, RFC 3339.
    Time(String),
}

/// How a field is held against values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestOperator {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `in`
    In,
    /// `contains`
    Contains,
    /// `startsWith`
    StartsWith,
    /// `endsWith`
    EndsWith,
    /// `has`
    Exists,
    /// `!has`
    NotExists,
}

impl Structured {
    /// The condition as text.
    ///
    /// # Errors
    /// When a group has no parts, a field is no path, or a test has the wrong number of values.
    pub fn to_text(&self) -> Result<String, Problems> {
        let syntax = self
            .syntax()
            .map_err(|message| Problems::new("", vec![Problem::new(0..0, message)]))?;
        Ok(syntax.to_string())
    }

    /// A condition's text as groups of tests; `None` when it is made of something else.
    ///
    /// # Errors
    /// When the text is no condition.
    pub fn of_text(text: &str) -> Result<Option<Self>, Problems> {
        let syntax = parse(text).map_err(|problem| Problems::new(text, vec![problem]))?;
        Ok(Self::of(&syntax))
    }

    /// The fields that are tested, each as often as it is.
    #[must_use]
    pub fn fields(&self) -> Vec<&str> {
        match self {
            Self::Group { parts, .. } => parts.iter().flat_map(Self::fields).collect(),
            Self::Test(test) => vec![&test.field],
        }
    }

    fn syntax(&self) -> Result<Syntax, String> {
        match self {
            Self::Group { parts, .. } if parts.is_empty() => {
                Err("a group without parts".to_owned())
            }
            Self::Group { all, parts } => {
                let mut made =
                    parts.iter().map(Self::syntax).collect::<Result<Vec<_>, String>>()?;
                Ok(match (made.len(), all) {
                    (1, _) => made.swap_remove(0),
                    (_, true) => node(Form::And(made)),
                    (_, false) => node(Form::Or(made)),
                })
            }
            Self::Test(test) => test.syntax(),
        }
    }

    fn of(syntax: &Syntax) -> Option<Self> {
        let group = |all, terms: &[Syntax]| {
            let parts = terms.iter().map(Self::of).collect::<Option<Vec<_>>>()?;
            Some(Self::Group { all, parts })
        };
        match &syntax.form {
            Form::And(terms) => group(true, terms),
            Form::Or(terms) => group(false, terms),
            _ => FieldTest::of(syntax).map(Self::Test),
        }
    }
}

impl FieldTest {
    fn syntax(&self) -> Result<Syntax, String> {
        let path = parse(&self.field).ok().filter(is_path);
        let path = path.ok_or_else(|| format!("`{}` is no field's path", self.field))?;
        let one = || match self.values.as_slice() {
            [only] => Ok(only.syntax()),
            other => Err(format!("`{}` with {} values; wanted one", self.field, other.len())),
        };
        let compare =
            |operator, path| Ok(node(Form::Binary(operator, Box::new(path), Box::new(one()?))));
        let call = |name: &str, path| {
            let (on, arguments) = (Some(Box::new(path)), vec![one()?]);
            Ok(node(Form::Call { on, name: name.to_owned(), arguments }))
        };
        let has = |path| {
            if self.values.is_empty() {
                let (name, arguments) = ("has".to_owned(), vec![path]);
                Ok(node(Form::Call { on: None, name, arguments }))
            } else {
                Err(format!("`{}` with values; wanted none", self.field))
            }
        };
        match self.operator {
            TestOperator::Equal => compare(Operator::Equal, path),
            TestOperator::NotEqual => compare(Operator::Unequal, path),
            TestOperator::Less => compare(Operator::Less, path),
            TestOperator::AtMost => compare(Operator::AtMost, path),
            TestOperator::Greater => compare(Operator::Greater, path),
            TestOperator::AtLeast => compare(Operator::AtLeast, path),
            TestOperator::In => {
                let values = self.values.iter().map(Scalar::syntax).collect();
                let list = Box::new(node(Form::List(values)));
                Ok(node(Form::Binary(Operator::In, Box::new(path), list)))
            }
            TestOperator::Contains => call("contains", path),
            TestOperator::StartsWith => call("startsWith", path),
            TestOperator::EndsWith => call("endsWith", path),
            TestOperator::Exists => has(path),
            TestOperator::NotExists => Ok(node(Form::Not(Box::new(has(path)?)))),
        }
    }

    fn of(syntax: &Syntax) -> Option<Self> {
        let test = |path: &Syntax, operator, values| {
            is_path(path).then(|| Self { field: path.to_string(), operator, values })
        };
        let is_null = |it: &Syntax| matches!(it.form, Form::Literal(Literal::Null));
        match &syntax.form {
            Form::Binary(Operator::Equal, path, value) if is_null(value) => {
                test(path, TestOperator::NotExists, Vec::new())
            }
            Form::Binary(Operator::Unequal, path, value) if is_null(value) => {
                test(path, TestOperator::Exists, Vec::new())
            }
            Form::Binary(Operator::In, path, list) => {
                let Form::List(items) = &list.form else { return None };
                let values = items.iter().map(Scalar::of).collect::<Option<_>>()?;
                test(path, TestOperator::In, values)
            }
            Form::Binary(operator, path, value) => {
                let operator = match operator {
                    Operator::Equal => TestOperator::Equal,
                    Operator::Unequal => TestOperator::NotEqual,
                    Operator::Less => TestOperator::Less,
                    Operator::AtMost => TestOperator::AtMost,
                    Operator::Greater => TestOperator::Greater,
                    Operator::AtLeast => TestOperator::AtLeast,
                    _ => return None,
                };
                test(path, operator, vec![Scalar::of(value)?])
            }
            Form::Call { on: Some(path), name, arguments } => {
                let [value] = arguments.as_slice() else { return None };
                let operator = match name.as_str() {
                    "contains" => TestOperator::Contains,
                    "startsWith" => TestOperator::StartsWith,
                    "endsWith" => TestOperator::EndsWith,
                    _ => return None,
                };
                test(path, operator, vec![Scalar::of(value)?])
            }
            Form::Call { on: None, name, arguments } if name == "has" => {
                test(arguments.first()?, TestOperator::Exists, Vec::new())
            }
            Form::Not(operand) => match Self::of(operand)? {
                Self { field, operator: TestOperator::Exists, values } => {
                    Some(Self { field, operator: TestOperator::NotExists, values })
                }
                _ => None,
            },
            _ => None,
        }
    }
}

impl Scalar {
    fn syntax(&self) -> Syntax {
        let literal = match self {
            Self::Text(text) => Literal::String(text.clone()),
            Self::Whole(value) => Literal::Int(*value),
            Self::Double(value) => Literal::Double(*value),
            Self::Bool(value) => Literal::Bool(*value),
            Self::Time(text) => {
                let arguments = vec![node(Form::Literal(Literal::String(text.clone())))];
                return node(Form::Call { on: None, name: "timestamp".to_owned(), arguments });
            }
        };
        node(Form::Literal(literal))
    }

    fn of(syntax: &Syntax) -> Option<Self> {
        Some(match &syntax.form {
            Form::Literal(Literal::String(text)) => Self::Text(text.clone()),
            Form::Literal(Literal::Int(value)) => Self::Whole(*value),
            Form::Literal(Literal::Double(value)) => Self::Double(*value),
            Form::Literal(Literal::Bool(value)) => Self::Bool(*value),
            Form::Call { on: None, name, arguments } if name == "timestamp" => {
                match &arguments.first()?.form {
                    Form::Literal(Literal::String(text)) => Self::Time(text.clone()),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }
}

fn node(form: Form) -> Syntax {
    Syntax { form, at: 0..0 }
}

/// Names with dots, and places of lists that are spelt out.
fn is_path(syntax: &Syntax) -> bool {
    match &syntax.form {
        Form::Name(_) => true,
        Form::Member(of, _) => is_path(of),
        Form::Index(of, index) => {
            is_path(of) && matches!(index.form, Form::Literal(Literal::Int(_) | Literal::String(_)))
        }
        _ => false,
    }
}
