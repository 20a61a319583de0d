//! From words to the tree: the grammar of the Common Expression Language, without maps, messages and
//! bytes.
#![expect(clippy::wildcard_enum_match_arm, reason = "all other words are refused alike")]

use std::ops::Range;

use crate::{
    condition::{
        Problem,
        lexer::{Token, tokens},
        syntax::{COMPARISON, Form, Literal, Operator, Syntax},
    },
    model::limits,
};

/// Parses a whole text.
pub(super) fn parse(text: &str) -> Result<Syntax, Problem> {
    let (found, most) = (text.len(), limits::CONDITION_BYTES_MAX);
    if found > most {
        return Err(Problem::new(0..0, format!("{found} bytes; at most {most}")));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0, nodes: 0 };
    if parser.peek() == &Token::End {
        return Err(Problem::new(0..0, "empty; wanted an expression".to_owned()));
    }
    let syntax = parser.expression()?;
    match parser.peek() {
        // Whoever walks the tree needs not count.
        Token::End if syntax.depth() > limits::CONDITION_DEPTH_MAX => {
            let message = format!("more than {} levels", limits::CONDITION_DEPTH_MAX);
            Err(Problem::new(syntax.at, message))
        }
        Token::End => Ok(syntax),
        Token::Sign("=") => Err(parser.unexpected("`==` to compare")),
        _ => Err(parser.unexpected("an operator, or the end")),
    }
}

struct Parser {
    tokens: Vec<(Token, Range<usize>)>,
    next: usize,
    depth: usize,
    nodes: usize,
}

const END: &(Token, Range<usize>) = &(Token::End, 0..0);

impl Parser {
    fn peek(&self) -> &Token {
        &self.here().0
    }

    fn here(&self) -> &(Token, Range<usize>) {
        self.tokens.get(self.next).or(self.tokens.last()).unwrap_or(END)
    }

    fn start(&self) -> usize {
        self.here().1.start
    }

    /// Where the word before this one ends.
    fn end(&self) -> usize {
        let before = self.next.checked_sub(1).and_then(|it| self.tokens.get(it));
        before.map_or(0, |(_, at)| at.end)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(it) if *it == sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Problem> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        let (token, at) = self.here();
        let found = match token {
            Token::Name(name) | Token::Quoted(name) => format!("`{name}`"),
            Token::Int(value) => format!("`{value}`"),
            Token::Double(value) => format!("`{value}`"),
            Token::String(_) => "a text".to_owned(),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        };
        Problem::new(at.clone(), format!("{found}; wanted {wanted}"))
    }

    fn node(&mut self, form: Form, start: usize) -> Result<Syntax, Problem> {
        self.nodes += 1;
        let at = start..self.end();
        if self.nodes > limits::CONDITION_NODES_MAX {
            let message = format!("more than {} parts", limits::CONDITION_NODES_MAX);
            return Err(Problem::new(at, message));
        }
        Ok(Syntax { form, at })
    }

    fn expression(&mut self) -> Result<Syntax, Problem> {
        self.depth += 1;
        if self.depth > limits::CONDITION_DEPTH_MAX {
            let message = format!("more than {} levels", limits::CONDITION_DEPTH_MAX);
            return Err(Problem::new(self.here().1.clone(), message));
        }
        let start = self.start();
        let condition = self.or()?;
        let syntax = if self.take_sign("?") {
            let then = self.or()?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            self.node(Form::If(Box::new([condition, then, otherwise])), start)?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(syntax)
    }

    fn or(&mut self) -> Result<Syntax, Problem> {
        let start = self.start();
        let mut terms = vec![self.and()?];
        while self.take_sign("||") {
            terms.push(self.and()?);
        }
        self.several(terms, start, Form::Or)
    }

    fn and(&mut self) -> Result<Syntax, Problem> {
        let start = self.start();
        let mut terms = vec![self.binary(COMPARISON)?];
        while self.take_sign("&&") {
            terms.push(self.binary(COMPARISON)?);
        }
        self.several(terms, start, Form::And)
    }

    fn several(
        &mut self,
        mut terms: Vec<Syntax>,
        start: usize,
        form: impl Fn(Vec<Syntax>) -> Form,
    ) -> Result<Syntax, Problem> {
        match terms.len() {
            1 => terms.pop().ok_or_else(|| self.unexpected("an expression")),
            _ => self.node(form(terms), start),
        }
    }

    /// Operators of this level and those that bind more strongly, from left to right.
    fn binary(&mut self, level: u8) -> Result<Syntax, Problem> {
        let start = self.start();
        let mut left = match level {
            it if it > COMPARISON + 2 => return self.unary(),
            level => self.binary(level + 1)?,
        };
        while let Some(operator) = self.operator().filter(|it| it.level() == level) {
            self.next += 1;
            let right = self.binary(level + 1)?;
            let form = Form::Binary(operator, Box::new(left), Box::new(right));
            left = self.node(form, start)?;
        }
        Ok(left)
    }

    fn operator(&self) -> Option<Operator> {
        Some(match self.peek() {
            Token::Name(name) if name == "in" => Operator::In,
            Token::Sign("==") => Operator::Equal,
            Token::Sign("!=") => Operator::Unequal,
            Token::Sign("<") => Operator::Less,
            Token::Sign("<=") => Operator::AtMost,
            Token::Sign(">") => Operator::Greater,
            Token::Sign(">=") => Operator::AtLeast,
            Token::Sign("+") => Operator::Add,
            Token::Sign("-") => Operator::Subtract,
            Token::Sign("*") => Operator::Multiply,
            Token::Sign("/") => Operator::Divide,
            Token::Sign("%") => Operator::Remainder,
            _ => return None,
        })
    }

    fn unary(&mut self) -> Result<Syntax, Problem> {
        let start = self.start();
        let mut signs = Vec::new();
        while let Token::Sign(sign @ ("!" | "-")) = *self.peek() {
            signs.push((sign, self.start()));
            self.next += 1;
        }
        if signs.len() > limits::CONDITION_DEPTH_MAX {
            let message = format!("more than {} levels", limits::CONDITION_DEPTH_MAX);
            return Err(Problem::new(start..self.end(), message));
        }
        // A minus before digits belongs to the number: there is no other way to the least one.
        let negative = match (signs.last(), self.peek()) {
            (Some(("-", _)), Token::Int(digits)) => Some(Literal::Int(self.negative(*digits)?)),
            (Some(("-", _)), Token::Double(value)) => Some(Literal::Double(-*value)),
            _ => None,
        };
        let mut syntax = match negative {
            Some(literal) => {
                let start = signs.pop().map_or(start, |it| it.1);
                self.next += 1;
                let literal = self.node(Form::Literal(literal), start)?;
                self.members(literal, start)?
            }
            None => self.member()?,
        };
        for (sign, start) in signs.into_iter().rev() {
            let operand = Box::new(syntax);
            let form = if sign == "!" { Form::Not(operand) } else { Form::Negate(operand) };
            syntax = self.node(form, start)?;
        }
        Ok(syntax)
    }

    fn negative(&self, digits: u64) -> Result<i64, Problem> {
        0_i64.checked_sub_unsigned(digits).ok_or_else(|| {
            let message = format!("`-{digits}` is not a whole number of 64 bits");
            Problem::new(self.here().1.clone(), message)
        })
    }

    fn member(&mut self) -> Result<Syntax, Problem> {
        let start = self.start();
        let primary = self.primary()?;
        self.members(primary, start)
    }

    fn members(&mut self, mut syntax: Syntax, start: usize) -> Result<Syntax, Problem> {
        loop {
            if self.take_sign(".") {
                let (name, quoted) = match self.peek().clone() {
                    Token::Name(name) => (name, false),
                    Token::Quoted(name) => (name, true),
                    _ => return Err(self.unexpected("a field's or a function's name")),
                };
                self.next += 1;
                let form = if !quoted && self.take_sign("(") {
                    let arguments = self.list(")")?;
                    Form::Call { on: Some(Box::new(syntax)), name, arguments }
                } else {
                    Form::Member(Box::new(syntax), name)
                };
                syntax = self.node(form, start)?;
            } else if self.take_sign("[") {
                let index = self.expression()?;
                self.expect("]")?;
                syntax = self.node(Form::Index(Box::new(syntax), Box::new(index)), start)?;
            } else {
                return Ok(syntax);
            }
        }
    }

    fn primary(&mut self) -> Result<Syntax, Problem> {
        let start = self.start();
        let form = match self.peek().clone() {
            Token::Sign("(") => {
                self.next += 1;
                let inside = self.expression()?;
                self.expect(")")?;
                return Ok(inside);
            }
            Token::Sign("[") => {
                self.next += 1;
                Form::List(self.list("]")?)
            }
            Token::Sign("{") => return Err(self.unexpected("a value; there are no maps")),
            Token::Int(digits) => {
                let value = i64::try_from(digits).map_err(|_large| {
                    let message = format!("`{digits}` is not a whole number of 64 bits");
                    Problem::new(self.here().1.clone(), message)
                })?;
                self.next += 1;
                Form::Literal(Literal::Int(value))
            }
            Token::Double(value) => {
                self.next += 1;
                Form::Literal(Literal::Double(value))
            }
            Token::String(text) => {
                self.next += 1;
                Form::Literal(Literal::String(text))
            }
            Token::Name(name) => {
                let word = match name.as_str() {
                    "true" => Some(Literal::Bool(true)),
                    "false" => Some(Literal::Bool(false)),
                    "null" => Some(Literal::Null),
                    "in" => return Err(self.unexpected("a value before `in`")),
                    _ => None,
                };
                self.next += 1;
                match word {
                    Some(literal) => Form::Literal(literal),
                    None if self.take_sign("(") => {
                        Form::Call { on: None, name, arguments: self.list(")")? }
                    }
                    None => Form::Name(name),
                }
            }
            Token::Quoted(name) => {
                self.next += 1;
                Form::Name(name)
            }
            Token::Sign(_) | Token::End => return Err(self.unexpected("a value")),
        };
        self.node(form, start)
    }

    /// Expressions with commas between them, up to the closing sign; a comma may end them.
    fn list(&mut self, close: &str) -> Result<Vec<Syntax>, Problem> {
        let mut items = Vec::new();
        while !self.take_sign(close) {
            items.push(self.expression()?);
            if !self.take_sign(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }
}
