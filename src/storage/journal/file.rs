//! One file of the journal.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    model::Position,
    storage::{
        StorageError,
        disk::sync_directory,
        journal::{
            FILE_BYTES, damaged,
            frame::{ALIGNMENT, Frame, HEADER_LEN},
        },
    },
};

/// Name of a file that has no number.
const SPARE: &str = "spare";
/// What the system writes of a file as a whole.
const PAGE_BYTES: u64 = 4096;
/// Bytes of zeros written at a time.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A file of the journal, filled with frames from its start.
pub(super) struct JournalFile {
    /// Part of every frame, so that frames of an earlier use are not taken for this one's.
    pub(super) number: u64,
    path: PathBuf,
    file: File,
    capacity: u64,
    end: u64,
    /// What of it is needed until it is durable elsewhere.
    pub(super) holds: Holds,
    /// Bytes of header and records that the frame at `end` has already, if it was written ahead; else 0.
    ahead: usize,
}

/// What a file holds, or what is durable elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holds {
    /// Records up to this position.
    pub(crate) records: Position,
    /// Changes of the table up to the frame with this sequence; 0: none.
    pub(crate) changes: u64,
}

impl Holds {
    /// Whether all of it is in `other`.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.records <= other.records && self.changes <= other.changes
    }

    fn add(&mut self, frame: &Self) {
        self.records = self.records.max(frame.records);
        self.changes = self.changes.max(frame.changes);
    }
}

impl Frame {
    pub(super) fn holds(&self) -> Holds {
        let changes = if self.changes.is_empty() { 0 } else { self.sequence };
        let records = if self.count == 0 { Position::START } else { self.last() };
        Holds { records, changes }
    }
}

impl JournalFile {
    /// Creates a file of zeros, durable with its name.
    pub(super) fn create(directory: &Path, number: u64, capacity: u64) -> io::Result<Self> {
        Self::create_named(directory, &name(number), number, capacity)
    }

    /// Creates a file that has no number yet.
    pub(super) fn create_spare(directory: &Path, capacity: u64) -> io::Result<Self> {
        Self::create_named(directory, SPARE, 0, capacity)
    }

    fn create_named(directory: &Path, name: &str, number: u64, capacity: u64) -> io::Result<Self> {
        let path = directory.join(name);
        let mut file = File::options().create(true).truncate(true).write(true).open(&path)?;
        let mut left = capacity;
        while left > 0 {
            let step = left.min(ZEROS.len() as u64);
            file.write_all(ZEROS.get(..usize::try_from(step).unwrap_or(0)).unwrap_or_default())?;
            left -= step;
        }
        file.sync_all()?;
        sync_directory(directory)?;
        let (end, holds, ahead) = (0, Holds::default(), 0);
        Ok(Self { number, path, file, capacity, end, holds, ahead })
    }

    /// Opens a file and reads its frames.
    pub(super) fn open(directory: &Path, number: u64) -> Result<(Self, Vec<Frame>), StorageError> {
        let path = directory.join(name(number));
        let bytes = Bytes::from(fs::read(&path)?);
        let mut frames: Vec<Frame> = Vec::new();
        let mut at = 0;
        while let Some((frame, length)) = Frame::parse(number, &bytes.slice(at..)) {
            if frames.last().is_some_and(|last| frame.sequence != last.sequence + 1) {
                break;
            }
            frames.push(frame);
            at = at.saturating_add(length).min(bytes.len());
        }
        // Only the last frame can be torn: a sound one after it says that this one is damaged.
        let later = (at..bytes.len()).step_by(ALIGNMENT);
        let mut later = later.filter_map(|at| Frame::parse(number, &bytes.slice(at..)));
        if let Some((frame, _)) = later.next() {
            return Err(damaged(&format!(
                "journal file {number}: frame {} is sound, what is before it at byte {at} is not",
                frame.sequence
            )));
        }
        let file = File::options().write(true).open(&path)?;
        // After a kill the last frame may be in the system's cache only. It is shown from now on, and
        // what is written after it must not outlive it.
        file.sync_data()?;
        let mut holds = Holds::default();
        for frame in &frames {
            holds.add(&frame.holds());
        }
        let (capacity, end) = (bytes.len() as u64, at as u64);
        Ok((Self { number, path, file, capacity, end, holds, ahead: 0 }, frames))
    }

    /// Keeps a freed file for later.
    pub(super) fn into_spare(self, directory: &Path) -> io::Result<Self> {
        self.rename(directory, SPARE, 0)
    }

    /// Takes a spare file into use; what it held before carries another number.
    pub(super) fn number(self, directory: &Path, number: u64) -> io::Result<Self> {
        self.rename(directory, &name(number), number)
    }

    fn rename(self, directory: &Path, name: &str, number: u64) -> io::Result<Self> {
        let path = directory.join(name);
        fs::rename(&self.path, &path)?;
        sync_directory(directory)?;
        Ok(Self { number, path, end: 0, holds: Holds::default(), ..self })
    }

    pub(super) fn delete(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether no frame was written yet.
    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Bytes that are left.
    pub(super) fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.end)
    }

    /// Writes a frame that fits, and makes it durable.
    pub(super) fn append(&mut self, frame: &[u8], holds: &Holds) -> Result<(), StorageError> {
        debug_assert!(frame.len() as u64 <= self.room(), "the frame fits");
        self.write(frame)?;
        self.file.sync_data()?;
        self.ahead = 0;
        self.end += frame.len() as u64;
        self.holds.add(holds);
        Ok(())
    }

    /// Whether a frame of up to so many bytes can be written ahead: the file has room for it, and its header
    /// lies in one page, so that no kill leaves half of another header.
    pub(super) fn takes_ahead(&self, bytes: u64) -> bool {
        self.room() >= bytes && self.end % PAGE_BYTES + HEADER_LEN as u64 <= PAGE_BYTES
    }

    /// Writes a frame that fits, of which more may follow before it is made durable. `records_end`: where its
    /// records end.
    pub(super) fn write_ahead(&mut self, frame: &[u8], records_end: usize) -> io::Result<()> {
        self.write(frame)?;
        self.ahead = records_end;
        Ok(())
    }

    /// Records that follow those written ahead come first and their header last: whenever a kill comes, the
    /// frame is what it was or what it is to be.
    fn write(&self, frame: &[u8]) -> io::Result<()> {
        match (frame.get(..HEADER_LEN), frame.get(self.ahead..)) {
            (Some(header), Some(more)) if self.ahead > 0 => {
                self.file.write_all_at(more, self.end + self.ahead as u64)?;
                self.file.write_all_at(header, self.end)
            }
            _ => self.file.write_all_at(frame, self.end),
        }
    }
}

pub(super) fn name(number: u64) -> String {
    format!("{number:012}")
}

/// Opens every file of a directory, by number, with its frames.
pub(super) fn list(directory: &Path) -> Result<VecDeque<(JournalFile, Vec<Frame>)>, StorageError> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() == SPARE {
            // It may be shorter than it should be.
            fs::remove_file(entry.path())?;
            continue;
        }
        let number = entry.file_name().to_str().and_then(|it| it.parse().ok());
        numbers.push(number.ok_or_else(|| {
            StorageError::corrupt(format!("`{}` is not a journal file", entry.path().display()))
        })?);
    }
    numbers.sort_unstable();
    let mut files = VecDeque::with_capacity(numbers.len());
    for number in numbers {
        let (file, frames) = JournalFile::open(directory, number)?;
        let short = file.capacity < FILE_BYTES;
        if short && !frames.is_empty() {
            return Err(damaged(&format!("journal file {number} is cut short")));
        }
        if short {
            // A crash while it was made: a frame is written only when all of its file is there.
            file.delete()?;
        } else {
            files.push_back((file, frames));
        }
    }
    Ok(files)
}
