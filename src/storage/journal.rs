//! The commit log: every commit group is written here, and synced, before anything else happens to it.
//!
//! Files of a fixed size, filled with zeros beforehand, so that a commit overwrites bytes the file
//! already has: one write and one `fdatasync` that has no file size to record. What the packer has
//! made durable in a volume is not needed here any more; its file is used again.
//!
//! A frame can be written ahead of its sync, and then grow until it is synced: what is answered in between
//! outlives the process.
//!
//! Invariant: a frame is written only after the one before it was synced. So at most one frame, the
//! last, can be torn; a bad frame with a good one after it is damage.

mod file;
mod frame;
mod scan;

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{
    model::{Position, Timestamp},
    storage::{StorageError, journal::file::JournalFile, table::RowChange},
};

pub(crate) use file::Holds;
pub(crate) use frame::{Frame, FrameBuffer};
pub(crate) use scan::{Scan, scan};

/// Bytes of one file. Small, since a store keeps two of them; a frame that is larger gets a file of
/// its own size.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of all files; then commits wait for the packer. Some half second of the fastest load.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Files when little is written: the one that is written and a spare.
const FILES_AT_REST: u64 = 2;

/// The commit log. One writer, the sequencer; the packer frees what it has packed.
pub(crate) struct Journal {
    directory: PathBuf,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// Oldest first; the last one is being written.
    files: VecDeque<JournalFile>,
    /// A file ready to be written.
    spare: Option<JournalFile>,
    /// The next frame's.
    sequence: u64,
    /// Nothing is freed any more.
    stopped: bool,
}

/// What the journal is and holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JournalFigures {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Journal {
    /// Opens the journal; also gives the frames that hold what is not durable elsewhere, in order.
    pub(crate) fn open(
        directory: &Path,
        elsewhere: Holds,
    ) -> Result<(Self, Vec<Frame>), StorageError> {
        fs::create_dir_all(directory)?;
        let mut state = State { sequence: elsewhere.changes + 1, ..State::default() };
        let mut frames: Vec<Frame> = Vec::new();
        let mut found = file::list(directory)?;
        // What is elsewhere is not needed; a crash may have brought back any of it.
        while found.len() > 1
            && found.front().is_some_and(|(file, _)| file.holds.is_within(&elsewhere))
            && found.iter().skip(1).any(|(_, held)| !held.is_empty())
        {
            if let Some((file, _)) = found.pop_front() {
                file.delete()?;
            }
        }
        for (file, held) in found {
            let expected = frames.last().map(|last| last.sequence + 1);
            let begins = held.first().map(|first| first.sequence);
            let empty_before = state.files.back().is_some_and(JournalFile::is_empty);
            if begins.is_some() && (empty_before || (expected.is_some() && begins != expected)) {
                return Err(damaged(&format!("journal file {} does not follow", file.number)));
            }
            frames.extend(held);
            state.files.push_back(file);
        }
        if let Some(last) = frames.last() {
            state.sequence = last.sequence + 1;
        }
        frames.retain(|frame| !frame.holds().is_within(&elsewhere));
        let journal = Self {
            directory: directory.to_owned(),
            state: Mutex::new(state),
            freed: Condvar::new(),
        };
        Ok((journal, frames))
    }

    /// Writes a commit group and makes it durable; gives its sequence and its changes of the table. Waits
    /// while the packer is too far behind.
    pub(crate) fn append(
        &self,
        first: Position,
        count: u32,
        record_time: Timestamp,
        buffer: &mut FrameBuffer,
    ) -> Result<(u64, Vec<RowChange>), StorageError> {
        let length = buffer.seal();
        let mut state = self.lock();
        while state.bytes() + length > BYTES_MAX && state.files.len() > 1 && !state.stopped {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return Err(StorageError::Poisoned("the journal is not emptied any more".to_owned()));
        }
        if state.files.back().is_none_or(|file| file.room() < length) {
            let file = state.next_file(&self.directory, length)?;
            state.files.push_back(file);
        }
        let sequence = state.sequence;
        state.sequence += 1;
        let Some(file) = state.files.back_mut() else {
            return Err(StorageError::corrupt("the journal has no file"));
        };
        let records =
            if count == 0 { Position::START } else { first.plus(count.into()).previous() };
        let changes = if buffer.is_without_changes() { 0 } else { sequence };
        let holds = Holds { records, changes };
        file.append(buffer.finish(file.number, sequence, first, count, record_time), &holds)?;
        Ok((sequence, buffer.take_changes()))
    }

    /// Writes a commit group that has no changes, ahead of making it durable by [`Journal::append`], which must
    /// come next; until then it may grow to `bytes_max`. False when there is no place for that.
    pub(crate) fn write_ahead(
        &self,
        first: Position,
        count: u32,
        record_time: Timestamp,
        buffer: &mut FrameBuffer,
        bytes_max: u64,
    ) -> Result<bool, StorageError> {
        let mut state = self.lock();
        if state.stopped {
            return Err(StorageError::Poisoned("the journal is not emptied any more".to_owned()));
        }
        let sequence = state.sequence;
        let Some(file) = state.files.back_mut().filter(|it| it.takes_ahead(bytes_max)) else {
            return Ok(false);
        };
        buffer.seal_ahead();
        let records_end = buffer.records_end();
        let frame = buffer.finish(file.number, sequence, first, count, record_time);
        file.write_ahead(frame, records_end)?;
        buffer.reopen();
        Ok(true)
    }

    /// Gives up what holds only what is durable elsewhere, and has a spare file ready. Called by one
    /// thread.
    pub(crate) fn release(&self, elsewhere: &Holds) -> Result<(), StorageError> {
        let mut freed = Vec::new();
        let mut state = self.lock();
        while state.files.len() > 1
            && state.files.front().is_some_and(|it| it.holds.is_within(elsewhere))
        {
            freed.extend(state.files.pop_front());
        }
        let wanted = state.spare.is_none();
        drop(state);
        self.freed.notify_all();
        if wanted {
            let reused = freed.iter().position(|it| it.capacity() == FILE_BYTES);
            let spare = match reused.map(|at| freed.remove(at)) {
                Some(file) => file.into_spare(&self.directory)?,
                None => JournalFile::create_spare(&self.directory, FILE_BYTES)?,
            };
            self.lock().spare = Some(spare);
        }
        for file in freed {
            file.delete()?;
        }
        Ok(())
    }

    /// Whether it has more files than it keeps at rest.
    pub(crate) fn is_long(&self) -> bool {
        self.figures().files > FILES_AT_REST
    }

    /// What the oldest of more files than it keeps at rest holds.
    pub(crate) fn oldest(&self) -> Option<Holds> {
        let state = self.lock();
        let oldest = state.files.front().filter(|_| state.figures().files > FILES_AT_REST);
        oldest.map(|file| file.holds)
    }

    /// Lets nobody wait any more: the packer has failed.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.freed.notify_all();
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn figures(&self) -> JournalFigures {
        self.lock().figures()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn figures(&self) -> JournalFigures {
        let spare = self.spare.as_ref().map_or(0, JournalFile::capacity);
        let files = self.files.len() + usize::from(self.spare.is_some());
        JournalFigures { files: files as u64, bytes: self.bytes() + spare }
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(JournalFile::capacity).sum()
    }

    /// A file that takes a frame of this length.
    fn next_file(&mut self, directory: &Path, length: u64) -> io::Result<JournalFile> {
        let number = self.files.back().map_or(1, |last| last.number + 1);
        match self.spare.take_if(|spare| spare.capacity() >= length) {
            Some(spare) => spare.number(directory, number),
            None => JournalFile::create(directory, number, FILE_BYTES.max(length)),
        }
    }
}

fn damaged(what: &str) -> StorageError {
    StorageError::corrupt(format!("{what}: stored data is damaged"))
}

#[cfg(test)]
mod tests;
