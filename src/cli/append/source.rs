//! Events from a file or from standard input, one by one, in bounded memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::model::limits;

/// How events are written. Told from the first characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// One event per line (NDJSON); blank lines are skipped.
    Lines,
    /// The elements of one JSON array.
    Array,
    /// JSON objects spread over lines, one after the other.
    Objects,
}

/// One event as it stands in the source.
#[derive(Debug)]
pub(crate) struct SourceEvent {
    /// Line on which it begins, from 1.
    pub(crate) line: u64,
    /// Where its text begins, in bytes.
    pub(crate) start: u64,
    /// Where the next event is looked for.
    pub(crate) next: Place,
    /// Its text, or why it cannot be sent at all.
    pub(crate) text: Result<String, String>,
}

/// A place in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Bytes before it.
    pub(crate) offset: u64,
    /// Its line, from 1.
    pub(crate) line: u64,
}

/// Reads events.
pub(crate) struct Source {
    name: String,
    bytes_total: Option<u64>,
    reader: Box<dyn BufRead + Send>,
    form: Option<Form>,
    at: Place,
    /// The array's end has been seen.
    ended: bool,
    /// In an array, an element has been read: a comma comes before the next.
    comma_due: bool,
}

const BUFFER_BYTES: usize = 256 * 1024;
/// Longer events are skipped and reported: no request can carry them.
const EVENT_BYTES_MAX: usize = limits::REQUEST_BYTES_MAX;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl Source {
    /// `-` is standard input.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::new("(stdin)", io::stdin()));
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open `{name}`"))?;
        let metadata = file.metadata().with_context(|| format!("cannot inspect `{name}`"))?;
        Ok(Self { bytes_total: Some(metadata.len()), ..Self::new(&name, file) })
    }

    fn new(name: &str, reader: impl Read + Send + 'static) -> Self {
        Self {
            name: name.to_owned(),
            bytes_total: None,
            reader: Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)),
            form: None,
            at: Place { offset: 0, line: 1 },
            ended: false,
            comma_due: false,
        }
    }

    /// Opens a file at a place where an earlier run stopped.
    pub(crate) fn resume(path: &Path, form: Form, at: Place) -> anyhow::Result<Self> {
        let source = Self::open(path)?;
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at.offset))?;
        Ok(Self {
            reader: Box::new(BufReader::with_capacity(BUFFER_BYTES, file)),
            form: Some(form),
            at,
            comma_due: form == Form::Array,
            ..source
        })
    }

    /// For messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Known for files.
    pub(crate) fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// Known after the first event.
    pub(crate) fn form(&self) -> Option<Form> {
        self.form
    }

    /// The next event, or `None` at the end.
    pub(crate) fn next_event(&mut self) -> anyhow::Result<Option<SourceEvent>> {
        let form = match self.form {
            Some(form) => form,
            None => self.detect().with_context(|| format!("cannot read `{}`", self.name))?,
        };
        self.form = Some(form);
        let event = match form {
            Form::Lines => self.next_line(),
            Form::Array => self.next_element(),
            Form::Objects => self.next_object(),
        };
        event.with_context(|| format!("{}:{}", self.name, self.at.line))
    }

    fn detect(&mut self) -> io::Result<Form> {
        if self.reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            self.skip(BYTE_ORDER_MARK.len());
        }
        self.skip_space()?;
        if self.peek()? == Some(b'[') {
            self.bump()?;
            return Ok(Form::Array);
        }
        // Programs that spread JSON over lines put the first brace on a line of its own.
        let ahead = self.reader.fill_buf()?;
        let alone = ahead.starts_with(b"{\n") || ahead.starts_with(b"{\r\n");
        Ok(if alone { Form::Objects } else { Form::Lines })
    }

    fn next_line(&mut self) -> anyhow::Result<Option<SourceEvent>> {
        loop {
            let (line, start) = (self.at.line, self.at.offset);
            let mut bytes = Vec::new();
            let most = EVENT_BYTES_MAX as u64 + 1;
            let length = (&mut self.reader).take(most).read_until(b'\n', &mut bytes)?;
            if length == 0 {
                return Ok(None);
            }
            self.at.offset += length as u64;
            let whole = bytes.ends_with(b"\n");
            if !whole && bytes.len() > EVENT_BYTES_MAX {
                self.skip_line()?;
            }
            self.at.line += 1;
            let text = bytes.trim_ascii();
            if !text.is_empty() {
                let space = bytes.len() - bytes.trim_ascii_start().len();
                return Ok(Some(self.event(line, start + space as u64, text.to_vec())));
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        while let Some(byte) = self.peek()? {
            self.skip(1);
            if byte == b'\n' {
                break;
            }
        }
        Ok(())
    }

    fn next_element(&mut self) -> anyhow::Result<Option<SourceEvent>> {
        self.skip_space()?;
        if self.ended {
            return match self.peek()? {
                None => Ok(None),
                Some(found) => Err(unexpected(found, "the end after `]`")),
            };
        }
        match self.peek()? {
            None => bail!("the array has no `]`"),
            Some(b']') => {
                self.bump()?;
                self.ended = true;
                return self.next_element();
            }
            Some(b',') if self.comma_due => {
                self.bump()?;
                self.skip_space()?;
            }
            Some(found) if self.comma_due => return Err(unexpected(found, "`,` or `]`")),
            Some(_) => (),
        }
        let event = self.next_value()?.ok_or_else(|| anyhow!("the array has no `]`"))?;
        self.comma_due = true;
        Ok(Some(event))
    }

    fn next_object(&mut self) -> anyhow::Result<Option<SourceEvent>> {
        self.skip_space()?;
        match self.peek()? {
            None => Ok(None),
            Some(b'{') => self.next_value(),
            Some(found) => Err(unexpected(found, "`{`")),
        }
    }

    /// One JSON value: its braces and quotes are matched, its grammar is the server's business.
    fn next_value(&mut self) -> anyhow::Result<Option<SourceEvent>> {
        let (line, start) = (self.at.line, self.at.offset);
        let mut bytes = Vec::new();
        let (mut depth, mut in_string, mut escaped) = (0_u64, false, false);
        while let Some(byte) = self.peek()? {
            let outside = !in_string && depth == 0;
            if outside && (matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace()) {
                break;
            }
            self.bump()?;
            if bytes.len() <= EVENT_BYTES_MAX {
                bytes.push(byte);
            }
            if in_string {
                in_string = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
                continue;
            }
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => continue,
            }
            if depth == 0 && !in_string {
                break;
            }
        }
        if depth > 0 || in_string {
            bail!("the value that begins on line {line} does not end");
        }
        match self.peek()? {
            Some(found) if bytes.is_empty() => Err(unexpected(found, "a JSON value")),
            None if bytes.is_empty() => Ok(None),
            _ => Ok(Some(self.event(line, start, bytes))),
        }
    }

    fn event(&self, line: u64, start: u64, bytes: Vec<u8>) -> SourceEvent {
        let text = if bytes.len() > EVENT_BYTES_MAX {
            Err(format!("longer than {EVENT_BYTES_MAX} bytes"))
        } else {
            String::from_utf8(bytes).map_err(|error| {
                format!("not UTF-8 after {} bytes", error.utf8_error().valid_up_to())
            })
        };
        SourceEvent { line, start, next: self.at, text }
    }

    fn skip_space(&mut self) -> io::Result<()> {
        while self.peek()?.is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.bump()?;
        }
        Ok(())
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    /// Takes the byte that `peek` showed.
    fn bump(&mut self) -> io::Result<()> {
        if self.peek()? == Some(b'\n') {
            self.at.line += 1;
        }
        self.skip(1);
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.at.offset += bytes as u64;
    }
}

fn unexpected(found: u8, wanted: &str) -> anyhow::Error {
    anyhow!("found `{}`, wanted {wanted}", found.escape_ascii())
}

#[cfg(test)]
mod tests;
