//! The trace of a disk: what a server did to it, in order.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

/// One operation. Files and directories are named by inode where the server had them open.
#[derive(Debug)]
pub(crate) enum Operation {
    Create { file: u64, path: PathBuf },
    MakeDir { file: u64, path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Link { from: PathBuf, to: PathBuf },
    Unlink { path: PathBuf },
    RemoveDir { path: PathBuf },
    Write { file: u64, offset: u64, data: Vec<u8> },
    Truncate { file: u64, size: u64 },
    Allocate { file: u64, offset: u64, length: u64, mode: u32 },
    SyncBegin { file: u64, number: u64 },
    SyncEnd { number: u64 },
    SyncFailed { number: u64 },
}

impl Operation {
    /// Around which a mistake in the order of writes and syncs would show: all but writes.
    pub(crate) fn is_edge(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }
}

/// Reads a trace from its beginning.
pub(crate) struct Trace {
    file: BufReader<File>,
    read: u64,
    bytes: u64,
}

const ZERO: u32 = 1;

impl Trace {
    pub(crate) fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let bytes = file.metadata().unwrap().len();
        Self { file: BufReader::with_capacity(1 << 20, file), read: 0, bytes }
    }

    /// Bytes read so far: where the next operation begins.
    pub(crate) fn at(&self) -> u64 {
        self.read
    }

    fn take(&mut self, count: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(count).unwrap()];
        self.file.read_exact(&mut bytes).unwrap();
        self.read += count;
        bytes
    }

    fn word(&mut self) -> u32 {
        u32::from_ne_bytes(self.take(4).try_into().unwrap())
    }

    fn long(&mut self) -> u64 {
        u64::from_ne_bytes(self.take(8).try_into().unwrap())
    }

    fn path(&mut self, bytes: u32) -> PathBuf {
        String::from_utf8(self.take(u64::from(bytes))).unwrap().into()
    }
}

impl Iterator for Trace {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        if self.read == self.bytes {
            return None;
        }
        let [kind, flags, path_bytes, to_bytes] = [(); 4].map(|()| self.word());
        let [file, offset, length] = [(); 3].map(|()| self.long());
        let path = self.path(path_bytes);
        let to = self.path(to_bytes);
        Some(match kind {
            1 => Operation::Create { file, path },
            2 => Operation::MakeDir { file, path },
            3 => Operation::Rename { from: path, to },
            4 => Operation::Link { from: path, to },
            5 => Operation::Unlink { path },
            6 => Operation::RemoveDir { path },
            7 if flags == ZERO => {
                let data = vec![0; usize::try_from(length).unwrap()];
                Operation::Write { file, offset, data }
            }
            7 => Operation::Write { file, offset, data: self.take(length) },
            8 => Operation::Truncate { file, size: length },
            9 => Operation::Allocate { file, offset, length, mode: flags },
            10 => Operation::SyncBegin { file, number: offset },
            11 => Operation::SyncEnd { number: offset },
            12 => Operation::SyncFailed { number: offset },
            _ => panic!("the shim does not understand what the server does: {}", path.display()),
        })
    }
}
