//! Reading what is sound in a journal, whatever is wrong with the rest, and changing nothing.

use std::{fs, io, path::Path};

use bytes::Bytes;

use crate::storage::{
    StorageError,
    journal::frame::{ALIGNMENT, Frame},
};

/// What a journal holds.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Sound frames in the order of their files.
    pub(crate) frames: Vec<Frame>,
    /// What is wrong.
    pub(crate) damage: Vec<String>,
}

/// Reads all files of a directory.
pub(crate) fn scan(directory: &Path) -> Result<Scan, StorageError> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(directory)? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let mut scan = Scan::default();
    for number in numbers {
        match fs::read(directory.join(super::file::name(number))) {
            Ok(bytes) => scan.file(number, &Bytes::from(bytes)),
            // A server at work takes files away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => scan.damage.push(format!("journal file {number}: {error}")),
        }
    }
    Ok(scan)
}

impl Scan {
    fn file(&mut self, number: u64, bytes: &Bytes) {
        let mut sequence = None;
        let mut at = 0;
        loop {
            let here = bytes.slice(at.min(bytes.len())..);
            let found = Frame::parse(number, &here)
                .filter(|(frame, _)| sequence.is_none_or(|expected| frame.sequence == expected));
            if let Some((frame, length)) = found {
                sequence = Some(frame.sequence + 1);
                self.frames.push(frame);
                at += length;
                continue;
            }
            // The last frame may be torn; one with a sound frame after it is damaged.
            let mut later = (at + ALIGNMENT..bytes.len()).step_by(ALIGNMENT);
            let later = later.find_map(|at| {
                Frame::parse(number, &bytes.slice(at..)).map(|(frame, _)| (at, frame.sequence))
            });
            let Some((next_at, found)) = later else { return };
            self.damage.push(format!(
                "journal file {number}: frame {found} is sound, what is before it at byte {at} is not"
            ));
            (sequence, at) = (Some(found), next_at);
        }
    }
}
