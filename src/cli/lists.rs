//! Lists of resources: all pages of one, and how it is printed.

use serde_json::Value;

use crate::cli::{
    failure::{Done, Failure},
    output::{self, Format, Output},
};

/// Entries that one request asks for.
pub(crate) const PAGE_SIZE: i32 = 1000;

/// All that a list has. `page` fetches the page of a token; it gives the token of the next one, too.
pub(crate) async fn all<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let (entries, next) = page(token).await?;
        found.extend(entries);
        if next.is_empty() {
            return Ok(found);
        }
        token = next;
    }
}

/// Prints entries: JSON one per line, or a table.
pub(crate) fn print<T>(
    format: Format,
    entries: &[T],
    json: impl Fn(&T) -> Result<Value, Failure>,
    headings: &[&str],
    row: impl Fn(&T) -> Result<Vec<String>, Failure>,
) -> Done {
    let mut output = Output::new(format);
    if output.is_json() {
        for entry in entries {
            output.json(&json(entry)?)?;
        }
    } else {
        let rows: Vec<_> = entries.iter().map(row).collect::<Result<_, _>>()?;
        output.line(output::table(headings, &rows).trim_end())?;
    }
    output.flush()
}
