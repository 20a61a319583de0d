//! zstd with contexts that are kept: making one maps and clears most of a megabyte, which costs more
//! than compressing a single event.

use std::{cell::RefCell, io};

use zstd::bulk::{Compressor, Decompressor};

/// The fastest level; higher ones were measured to save little on XDM events.
const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses with this thread's context.
pub(crate) fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(compressor) => compressor.compress(raw),
        None => kept.insert(Compressor::new(LEVEL)?).compress(raw),
    })
}

/// Decompresses at most `raw_bytes_max` with this thread's context.
pub(crate) fn decompress(bytes: &[u8], raw_bytes_max: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(decompressor) => decompressor.decompress(bytes, raw_bytes_max),
        None => kept.insert(Decompressor::new()?).decompress(bytes, raw_bytes_max),
    })
}
