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
    storage::{Span, packed, volume::ROW_BYTES_MAX},
};

/// Bytes read at a time.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// Sound blocks of one row by first position, and where they lie.
#[derive(Debug)]
pub(super) struct Carved {
    file: File,
    places: BTreeMap<Position, (u64, usize)>,
}

impl Carved {
    /// Looks through a file. Blocks of several rows are not found: only their first row names them.
    pub(super) fn from(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut places = BTreeMap::new();
        let (mut window, mut window_at) = (Vec::with_capacity(2 * WINDOW_BYTES), 0_u64);
        loop {
            let read = (&file).take(WINDOW_BYTES as u64).read_to_end(&mut window)?;
            let is_last = read == 0;
            // What may continue in the next window is looked at then.
            let sure =
                if is_last { window.len() } else { window.len().saturating_sub(ROW_BYTES_MAX) };
            let mut at = 0;
            while at < sure {
                let rest = window.get(at..).unwrap_or_default();
                match packed::sound_block(rest) {
                    Some((first, length)) => {
                        places.insert(first, (window_at + at as u64, length));
                        at += length;
                    }
                    None => at += 1,
                }
            }
            if is_last {
                return Ok(Self { file, places });
            }
            let done = at.min(window.len());
            window.drain(..done);
            window_at += done as u64;
        }
    }

    /// The bytes of the blocks that begin inside a span of positions, in order.
    pub(super) fn blocks_in(&self, span: Span) -> impl Iterator<Item = Vec<u8>> + '_ {
        let places = self.places.range(span.after.next()..=span.until);
        places.filter_map(|(_, (at, length))| {
            let mut bytes = vec![0; *length];
            self.file.read_exact_at(&mut bytes, *at).ok()?;
            Some(bytes)
        })
    }
}
