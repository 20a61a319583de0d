//! A position that the log is known to reach, kept in a file beside the embedded store.
//!
//! sled takes the first damaged page for the end of its log and opens with what lies before. Without
//! this file the store would then answer with less than it acknowledged, and give positions out
//! again. It is written now and then, so it catches damage before the newest part of the log.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use crate::{
    model::Position,
    storage::{StorageError, disk::sync_directories},
};

const NAME: &str = "WATERMARK";
const DRAFT: &str = "WATERMARK.new";

/// Fails when the log ends before the watermark.
pub(crate) fn check(directory: &Path, last: Position) -> Result<(), StorageError> {
    let text = match fs::read_to_string(directory.join(NAME)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let number = text.strip_suffix('\n').and_then(|text| text.parse().ok());
    let reached = Position::new(number.ok_or_else(|| {
        StorageError::corrupt(format!("`{NAME}` holds `{}`; wanted a position", text.trim()))
    })?);
    if last < reached {
        return Err(StorageError::corrupt(format!(
            "the log ends at position {last}, but it has reached {reached}: stored data is damaged"
        )));
    }
    Ok(())
}

/// Notes that everything up to `reached` is durable.
pub(crate) fn write(directory: &Path, reached: Position) -> io::Result<()> {
    let draft = directory.join(DRAFT);
    let mut file = File::create(&draft)?;
    writeln!(file, "{reached}")?;
    file.sync_all()?;
    fs::rename(draft, directory.join(NAME))?;
    sync_directories(directory)
}
