//! From a condition's text to its words.

use std::ops::Range;

use crate::condition::Problem;

/// One word of the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    /// In backticks: a name and never a word of the language.
    Quoted(String),
    /// Digits, not negative; beyond 63 bits only `-` makes it a number.
    Int(u64),
    Double(f64),
    String(String),
    /// Operators and punctuation.
    Sign(&'static str),
    End,
}

/// The longer ones first.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}", "=",
];

/// All words with their places, the end last.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Range<usize>)>, Problem> {
    let mut lexer = Lexer { text, at: 0 };
    let mut found = Vec::new();
    loop {
        let (token, at) = lexer.next()?;
        let is_end = token == Token::End;
        found.push((token, at));
        if is_end {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Result<(Token, Range<usize>), Problem> {
        self.skip_blanks();
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok((Token::End, start..start));
        };
        let token = if first.is_ascii_digit() || self.rest().starts_with('.') && self.digit_at(1) {
            self.number()?
        } else if first == '\'' || first == '"' {
            self.string(first, false)?
        } else if first.is_ascii_alphabetic() || first == '_' {
            self.name()?
        } else if first == '`' {
            self.quoted_name()?
        } else if let Some(sign) = SIGNS.iter().find(|it| self.rest().starts_with(**it)) {
            self.at += sign.len();
            Token::Sign(sign)
        } else {
            return Err(Problem::new(
                start..start + first.len_utf8(),
                format!("`{first}` has no meaning here; texts stand in quotes"),
            ));
        };
        Ok((token, start..self.at))
    }

    /// Blanks, and comments up to the end of the line.
    fn skip_blanks(&mut self) {
        loop {
            let trimmed = self.rest().trim_start();
            self.at = self.text.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn digit_at(&self, offset: usize) -> bool {
        self.rest().as_bytes().get(offset).is_some_and(u8::is_ascii_digit)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|it| !wanted(it)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let start = self.at;
        let rest = self.rest();
        if let Some(digits) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            self.at += 2;
            let digits_end = digits.find(|it: char| !it.is_ascii_hexdigit());
            let digits = digits.get(..digits_end.unwrap_or(digits.len())).unwrap_or_default();
            self.at += digits.len();
            return u64::from_str_radix(digits, 16).map(Token::Int).map_err(|_too_large| {
                Problem::new(start..self.at, "not a whole number of 64 bits".to_owned())
            });
        }
        let is_digit = |it: char| it.is_ascii_digit();
        self.take_while(is_digit);
        let mut is_double = false;
        // `1.size()` is a call, not a double.
        if self.rest().starts_with('.') && self.digit_at(1) {
            self.at += 1;
            self.take_while(is_digit);
            is_double = true;
        }
        if self.rest().starts_with(['e', 'E']) {
            let before = self.at;
            self.at += 1;
            self.take_while(|it| it == '+' || it == '-');
            if self.take_while(is_digit).is_empty() {
                self.at = before;
            } else {
                is_double = true;
            }
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let refused = |message: String| Problem::new(start..self.at, message);
        if self.rest().starts_with(|it: char| it.is_alphanumeric() || it == '_') {
            let message = format!("a number and a name run together after `{text}`");
            return Err(refused(message));
        }
        if is_double {
            let value = text.parse::<f64>().ok().filter(|it| it.is_finite());
            return value
                .map(Token::Double)
                .ok_or_else(|| refused(format!("`{text}` is not a number of 64 bits")));
        }
        text.parse()
            .map(Token::Int)
            .map_err(|_large| refused(format!("`{text}` is not a whole number of 64 bits")))
    }

    fn name(&mut self) -> Result<Token, Problem> {
        let start = self.at;
        let name = self.take_while(|it| it.is_ascii_alphanumeric() || it == '_');
        let quote = self.rest().chars().next().filter(|it| matches!(it, '\'' | '"'));
        match (name, quote) {
            ("r" | "R", Some(quote)) => self.string(quote, true),
            ("b" | "B" | "br" | "bR", Some(_)) => {
                let message = "there are no bytes; write a text".to_owned();
                Err(Problem::new(start..self.at, message))
            }
            _ => Ok(Token::Name(name.to_owned())),
        }
    }

    fn quoted_name(&mut self) -> Result<Token, Problem> {
        let start = self.at;
        let inside = self.rest().get(1..).unwrap_or_default();
        match inside.find('`') {
            Some(length) if length > 0 => {
                self.at += length + 2;
                Ok(Token::Quoted(inside.get(..length).unwrap_or_default().to_owned()))
            }
            Some(_) => Err(Problem::new(start..start + 2, "an empty name".to_owned())),
            None => {
                let message = "a name that begins with a backtick and does not end".to_owned();
                Err(Problem::new(start..self.text.len(), message))
            }
        }
    }

    fn string(&mut self, quote: char, raw: bool) -> Result<Token, Problem> {
        let start = self.at;
        let mut text = String::new();
        let mut rest = self.rest().char_indices().skip(1);
        while let Some((offset, it)) = rest.next() {
            let at = start + offset;
            match it {
                '\n' | '\r' => break,
                it if it == quote => {
                    self.at = at + 1;
                    return Ok(Token::String(text));
                }
                '\\' if !raw => {
                    let escape = rest.next().map(|(_, it)| it);
                    let made = escape.and_then(|it| escaped(it, &mut rest));
                    let Some(made) = made else {
                        let message = "no such escape; write `\\\\` for a backslash".to_owned();
                        return Err(Problem::new(at..at + 1, message));
                    };
                    text.push(made);
                }
                it => text.push(it),
            }
        }
        let message = "a text that begins and does not end".to_owned();
        Err(Problem::new(start..self.text.len(), message))
    }
}

/// The character that stands for `\` and `escape`.
fn escaped(escape: char, rest: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let mut code = |digits: usize, radix: u32, first: Option<char>| {
        let taken = first.into_iter().chain(rest.by_ref().map(|(_, it)| it)).take(digits);
        let mut value = 0;
        let mut count = 0;
        for digit in taken {
            value = value * radix + digit.to_digit(radix)?;
            count += 1;
        }
        if count == digits { char::from_u32(value) } else { None }
    };
    Some(match escape {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '\'' | '"' | '`' | '?' => escape,
        'x' | 'X' => code(2, 16, None)?,
        'u' => code(4, 16, None)?,
        'U' => code(8, 16, None)?,
        '0'..='3' => code(3, 8, Some(escape))?,
        _ => return None,
    })
}
