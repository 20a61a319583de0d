//! Everything that is printed: the only module that writes to the terminal.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, BufWriter, IsTerminal, Stdout, Write},
};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cli::{
        failure::{Done, Failure},
        time,
    },
    grpc::client::CallError,
};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// Standard output: results only. Everything else goes to standard error.
pub(crate) struct Output {
    format: Format,
    to: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, to: BufWriter::with_capacity(64 * 1024, io::stdout()) }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One line of text.
    pub(crate) fn line(&mut self, text: impl Display) -> Done {
        closed(writeln!(self.to, "{text}"))
    }

    /// Text as it is.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Done {
        closed(self.to.write_all(bytes))
    }

    /// One JSON value on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Done {
        let written = serde_json::to_writer(&mut self.to, value).map_err(io::Error::from);
        closed(written.and_then(|()| self.to.write_all(b"\n")))
    }

    /// The value in the form asked for.
    pub(crate) fn show(&mut self, value: &Value, text: impl FnOnce() -> String) -> Done {
        if self.is_json() { self.json(value) } else { self.line(text().trim_end()) }
    }

    pub(crate) fn flush(&mut self) -> Done {
        closed(self.to.flush())
    }
}

fn closed(written: io::Result<()>) -> Done {
    written.map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::Closed;
        }
        Failure::Local(anyhow::Error::new(error).context("cannot write the output"))
    })
}

/// Columns of the terminal on standard output; `None` when it is none.
pub(crate) fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(terminal_size::Width(columns), _)| usize::from(columns))
}

/// Whether people watch standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// A line for people on standard error. A closed standard error is no reason to fail.
pub(crate) fn note(text: impl Display) {
    let _closed = writeln!(io::stderr(), "{text}");
}

/// Tells why a command failed, on standard error.
pub(crate) fn failure(format: Format, failure: &Failure) {
    match (failure, format) {
        (Failure::Incomplete | Failure::Damaged | Failure::Closed, _) => (),
        (Failure::Call(error), Format::Text) => note(describe(error)),
        (Failure::Call(error), Format::Json) => note(error_json(error)),
        (_, Format::Text) => note(format_args!("error: {failure}")),
        (_, Format::Json) => note(json!({ "error": { "message": failure.to_string() } })),
    }
}

/// The error, its reason, and a line for each field at fault.
fn describe(error: &CallError) -> String {
    let name = if error.reason.is_empty() { error.code } else { &error.reason };
    let mut lines =
        vec![format!("error: {}", printable(&error.message)), format!("  reason: {name}")];
    lines.extend(
        error
            .violations
            .iter()
            .map(|it| printable(&format!("{}: {}", it.field, it.description)))
            .map(|violation| format!("  {violation}")),
    );
    lines.extend(error.retry_after.map(|it| format!("  try again in {} ms", it.as_millis())));
    lines.join("\n")
}

/// The error as one JSON object.
pub(crate) fn error_json(error: &CallError) -> Value {
    json!({ "error": {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
        "violations": error.violations.iter().map(|it| {
            json!({ "field": it.field, "description": it.description })
        }).collect::<Vec<_>>(),
        "retry_after_ms": error.retry_after.map(time::millis),
    }})
}

/// Text that came as bytes.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Text from elsewhere, safe for a terminal: control characters become escapes.
pub(crate) fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut safe, found| {
        if found.is_control() {
            safe.extend(found.escape_default());
        } else {
            safe.push(found);
        }
        safe
    })
}

/// `name: value` lines, values aligned. Empty values are left out.
pub(crate) fn fields(rows: &[(&str, String)]) -> String {
    let shown = rows.iter().filter(|(_, value)| !value.is_empty());
    let widest = shown.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = shown.map(|(name, value)| format!("{name:<widest$}  {}", printable(value)));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// Rows below their headings, columns aligned.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let heading: Vec<String> = headings.iter().map(|it| (*it).to_owned()).collect();
    let all = || std::iter::once(&heading).chain(&rows);
    let mut widths = vec![0; headings.len()];
    for row in all() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A whole number with a space between thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{fields, printable, table, thousands};

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["bbb".into(), "22".into()]];
        assert_eq!(table(&["name", "n"], &rows), "name  n\na     1\nbbb   22\n");
        let rows = [("a", "1".into()), ("left out", String::new()), ("bbb", "2".into())];
        assert_eq!(fields(&rows), "a    1\nbbb  2\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}"), "a\\u{1b}[2Jb\\nc\\u{9b}");
    }

    #[test]
    fn thousands_are_parted() {
        let shown: Vec<String> = [0, 999, 1_000, 1_234_567].map(thousands).into();
        assert_eq!(shown, ["0", "999", "1 000", "1 234 567"]);
    }
}
