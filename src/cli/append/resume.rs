//! How far a file has been stored, so that a rerun goes on from there.
//!
//! Invariant: every event before the place is stored.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::cli::append::source::{Form, Place, Source};

/// What a resume file holds: JSON, for people too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resume {
    /// Dataset that the events went to.
    pub(crate) dataset: String,
    pub(crate) form: Form,
    /// Where the next event is looked for.
    pub(crate) next: Place,
    /// The last event before `next`: tells whether the file is still the same.
    pub(crate) last: EventMark,
}

/// Recognises an event by its place and content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventMark {
    offset: u64,
    bytes: u64,
    xxh3: String,
}

impl EventMark {
    pub(crate) fn new(offset: u64, text: &str) -> Self {
        Self {
            offset,
            bytes: text.len() as u64,
            xxh3: format!("{:016x}", xxh3_64(text.as_bytes())),
        }
    }
}

/// The resume file of one run.
pub(crate) struct ResumeFile {
    path: PathBuf,
}

impl ResumeFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Opens the source where the resume file says, or at its beginning when there is none yet.
    pub(crate) fn open_source(&self, events: &Path, dataset: &str) -> anyhow::Result<Source> {
        let shown = self.path.display();
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Source::open(events),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{shown}`"));
            }
        };
        let resume: Resume = serde_json::from_str(&text)
            .with_context(|| format!("`{shown}` is not a resume file"))?;
        if resume.dataset != dataset {
            bail!("`{shown}` belongs to an append to dataset `{}`", resume.dataset);
        }
        if !is_there(events, &resume.last)? {
            bail!(
                "`{}` is not the file that `{shown}` was written for, or its beginning has \
                 changed; remove the resume file to start over",
                events.display()
            );
        }
        Source::resume(events, resume.form, resume.next)
    }

    /// Replaces the file in one step.
    pub(crate) fn write(&self, resume: &Resume) -> anyhow::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let text = serde_json::to_string(resume)? + "\n";
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &self.path))
            .with_context(|| format!("cannot write `{}`", self.path.display()))
    }
}

fn is_there(events: &Path, mark: &EventMark) -> anyhow::Result<bool> {
    let context = || format!("cannot read `{}`", events.display());
    let mut file = File::open(events).with_context(context)?;
    file.seek(SeekFrom::Start(mark.offset)).with_context(context)?;
    let mut bytes = Vec::new();
    file.take(mark.bytes).read_to_end(&mut bytes).with_context(context)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(EventMark::new(mark.offset, &text) == *mark)
}

#[cfg(test)]
mod tests {
    use super::{EventMark, Resume, ResumeFile, fs};
    use crate::cli::append::source::{Form, Source};

    #[test]
    fn a_rerun_goes_on_unless_the_file_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("events.ndjson");
        fs::write(&events, "{\"a\":1}\n{\"a\":2}\n").unwrap();
        let file = ResumeFile::new(folder.path().join("resume"));

        let mut source = file.open_source(&events, "orders").unwrap();
        let first = source.next_event().unwrap().unwrap();
        file.write(&Resume {
            dataset: "orders".into(),
            form: Form::Lines,
            next: first.next,
            last: EventMark::new(first.start, &first.text.unwrap()),
        })
        .unwrap();

        let mut rest: Source = file.open_source(&events, "orders").unwrap();
        let second = rest.next_event().unwrap().unwrap();
        assert_eq!((second.line, second.text.as_deref()), (2, Ok("{\"a\":2}")));

        let refused = |dataset: &str| file.open_source(&events, dataset).err().unwrap().to_string();
        assert!(refused("other").contains("belongs to an append to dataset `orders`"));
        fs::write(&events, "{\"a\":9}\n{\"a\":2}\n").unwrap();
        assert!(refused("orders").contains("has changed"));
        fs::write(folder.path().join("resume"), "{}").unwrap();
        assert!(refused("orders").contains("is not a resume file"));
    }
}
