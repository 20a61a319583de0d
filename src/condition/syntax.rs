//! The tree that a condition's text spells, and its text again.

use std::{
    fmt::{self, Write as _},
    ops::Range,
};

/// One expression, and where it stands in the text.
#[derive(Clone, Debug)]
pub(super) struct Syntax {
    pub(super) form: Form,
    /// Bytes.
    pub(super) at: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Form {
    Literal(Literal),
    Name(String),
    Member(Box<Syntax>, String),
    Index(Box<Syntax>, Box<Syntax>),
    Call {
        on: Option<Box<Syntax>>,
        name: String,
        arguments: Vec<Syntax>,
    },
    Not(Box<Syntax>),
    Negate(Box<Syntax>),
    Binary(Operator, Box<Syntax>, Box<Syntax>),
    /// At least two.
    And(Vec<Syntax>),
    /// At least two.
    Or(Vec<Syntax>),
    /// Condition, then, else.
    If(Box<[Syntax; 3]>),
    List(Vec<Syntax>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    String(String),
}

/// What stands between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// How strongly it binds: comparisons, sums, products.
    pub(super) fn level(self) -> u8 {
        match self {
            Self::Equal
            | Self::Unequal
            | Self::Less
            | Self::AtMost
            | Self::Greater
            | Self::AtLeast
            | Self::In => COMPARISON,
            Self::Add | Self::Subtract => COMPARISON + 1,
            Self::Multiply | Self::Divide | Self::Remainder => COMPARISON + 2,
        }
    }
}

/// Levels of binding, from the loosest.
const CHOICE: u8 = 0;
const OR: u8 = 1;
const AND: u8 = 2;
pub(super) const COMPARISON: u8 = 3;
const UNARY: u8 = 6;
const MEMBER: u8 = 7;

impl Syntax {
    fn level(&self) -> u8 {
        match &self.form {
            Form::If(_) => CHOICE,
            Form::Or(_) => OR,
            Form::And(_) => AND,
            Form::Binary(operator, ..) => operator.level(),
            Form::Not(_) | Form::Negate(_) => UNARY,
            // `-1.size()` is `-(1.size())`.
            Form::Literal(Literal::Int(value)) if *value < 0 => UNARY,
            Form::Literal(Literal::Double(value)) if value.is_sign_negative() => UNARY,
            Form::Literal(_)
            | Form::Name(_)
            | Form::Member(..)
            | Form::Index(..)
            | Form::Call { .. }
            | Form::List(_) => MEMBER,
        }
    }

    /// Levels of parts within parts.
    pub(super) fn depth(&self) -> usize {
        let deepest = |parts: &[Self]| parts.iter().map(Self::depth).max().unwrap_or_default();
        1 + match &self.form {
            Form::Literal(_) | Form::Name(_) => 0,
            Form::Member(part, _) | Form::Not(part) | Form::Negate(part) => part.depth(),
            Form::Index(a, b) | Form::Binary(_, a, b) => a.depth().max(b.depth()),
            Form::Call { on, arguments, .. } => {
                deepest(arguments).max(on.as_ref().map_or(0, |it| it.depth()))
            }
            Form::And(parts) | Form::Or(parts) | Form::List(parts) => deepest(parts),
            Form::If(parts) => deepest(parts.as_slice()),
        }
    }

    /// Writes it, in parentheses when it binds more loosely than `level`.
    fn write(&self, f: &mut fmt::Formatter<'_>, level: u8) -> fmt::Result {
        if self.level() < level {
            f.write_char('(')?;
            self.write_bare(f)?;
            return f.write_char(')');
        }
        self.write_bare(f)
    }

    fn write_bare(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Form::Literal(literal) => write!(f, "{literal}"),
            Form::Name(name) => write_name(f, name),
            Form::Member(of, name) => {
                of.write(f, MEMBER)?;
                f.write_char('.')?;
                write_name(f, name)
            }
            Form::Index(of, index) => {
                of.write(f, MEMBER)?;
                write!(f, "[{index}]")
            }
            Form::Call { on, name, arguments } => {
                if let Some(on) = on {
                    on.write(f, MEMBER)?;
                    f.write_char('.')?;
                }
                f.write_str(name)?;
                f.write_char('(')?;
                write_list(f, arguments, ", ", CHOICE)?;
                f.write_char(')')
            }
            Form::Not(operand) => {
                f.write_char('!')?;
                operand.write(f, MEMBER)
            }
            Form::Negate(operand) => {
                f.write_char('-')?;
                operand.write(f, MEMBER)
            }
            Form::Binary(operator, left, right) => {
                left.write(f, operator.level())?;
                write!(f, " {} ", operator.text())?;
                right.write(f, operator.level() + 1)
            }
            Form::And(terms) => write_list(f, terms, " && ", COMPARISON),
            Form::Or(terms) => write_list(f, terms, " || ", AND),
            Form::If(parts) => {
                let [condition, then, otherwise] = parts.as_ref();
                condition.write(f, OR)?;
                f.write_str(" ? ")?;
                then.write(f, OR)?;
                f.write_str(" : ")?;
                otherwise.write(f, CHOICE)
            }
            Form::List(items) => {
                f.write_char('[')?;
                write_list(f, items, ", ", CHOICE)?;
                f.write_char(']')
            }
        }
    }
}

fn write_list(
    f: &mut fmt::Formatter<'_>,
    items: &[Syntax],
    between: &str,
    level: u8,
) -> fmt::Result {
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            f.write_str(between)?;
        }
        item.write(f, level)?;
    }
    Ok(())
}

fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if is_plain_name(name) { f.write_str(name) } else { write!(f, "`{name}`") }
}

/// Whether a name can stand without backticks.
pub(super) fn is_plain_name(name: &str) -> bool {
    let starts_well = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
    let plain = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    starts_well && plain && !["true", "false", "null", "in"].contains(&name)
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, CHOICE)
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            // Always with a point or an exponent, so that it stays a double.
            Self::Double(value) => write!(f, "{value:?}"),
            Self::String(text) => write_text(f, text),
        }
    }
}

/// A text as the language writes it.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('\'')?;
    for it in text.chars() {
        match it {
            '\'' => f.write_str("\\'")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            it if it.is_control() => write!(f, "\\u{:04x}", u32::from(it))?,
            it => f.write_char(it)?,
        }
    }
    f.write_char('\'')
}
