//! Finding blocks in a database's file without the database: a block carries its own checksum, so it is
//! sound wherever it lies, whether or not the embedded store still finds it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use crate::{
    model::Position,
    storage::{
        Span, packed,
        volume::{ROW_BYTES_MAX, sound_dictionary},
    },
};

/// Bytes read at a time.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// Sound blocks of one row by first position, where they lie, and sound dictionaries.
#[derive(Debug, Default)]
pub(super) struct Carved {
    /// `None` when it cannot be read.
    file: Option<File>,
    places: BTreeMap<Position, (u64, usize)>,
    pub(super) dictionaries: BTreeMap<u32, Vec<u8>>,
}

impl Carved {
    /// Looks through a file. Blocks of several rows are not found: only their first row names them.
    pub(super) fn from(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut carved = Self::default();
        let (mut window, mut window_at) = (Vec::with_capacity(2 * WINDOW_BYTES), 0_u64);
        loop {
            let read = (&file).take(WINDOW_BYTES as u64).read_to_end(&mut window)?;
            // What may continue in the next window is looked at then.
            let ahead = if read == 0 { 0 } else { ROW_BYTES_MAX };
            let sure = window.len().saturating_sub(ahead);
            let mut at = 0;
            while at < sure {
                let rest = window.get(at..).unwrap_or_default();
                at += carved.note(rest, window_at + at as u64).unwrap_or(1);
            }
            if read == 0 {
                return Ok(Self { file: Some(file), ..carved });
            }
            let done = at.min(window.len());
            window.drain(..done);
            window_at += done as u64;
        }
    }

    /// Notes what begins here, if anything does; its length.
    fn note(&mut self, bytes: &[u8], at: u64) -> Option<usize> {
        if let Some((first, length)) = packed::sound_block(bytes) {
            self.places.insert(first, (at, length));
            return Some(length);
        }
        let (number, dictionary) = sound_dictionary(bytes)?;
        self.dictionaries.insert(number, dictionary.to_vec());
        Some(dictionary.len())
    }

    /// The bytes of the blocks that begin inside a span of positions, in order.
    pub(super) fn blocks_in(&self, span: Span) -> impl Iterator<Item = Vec<u8>> + '_ {
        let places = self.places.range(span.after.next()..=span.until);
        places.filter_map(|(_, (at, length))| {
            let mut bytes = vec![0; *length];
            self.file.as_ref()?.read_exact_at(&mut bytes, *at).ok()?;
            Some(bytes)
        })
    }
}
