//! zstd with contexts and dictionaries that are kept.
//!
//! Making a context maps and clears most of a megabyte, which costs more than compressing a single
//! event. A dictionary makes a single event as small as a block of a hundred would be without one,
//! so that one event can be read without the others.

use std::{cell::RefCell, io};

use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe::{DCtx, DDict, get_error_name},
};

/// The fastest level; higher ones were measured to save little on XDM events.
const LEVEL: i32 = 1;
/// Bytes of a dictionary. Twice as many were measured to save 2 % more.
const DICTIONARY_BYTES: usize = 16 * 1024;

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    static WITH_DICTIONARY: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// Decompresses at most `raw_bytes_max` with this thread's context.
pub(crate) fn decompress(bytes: &[u8], raw_bytes_max: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(decompressor) => decompressor.decompress(bytes, raw_bytes_max),
        None => kept.insert(Decompressor::new()?).decompress(bytes, raw_bytes_max),
    })
}

/// What reads frames that were compressed with a dictionary.
pub(crate) struct Dictionary(DDict<'static>);

impl Dictionary {
    pub(crate) fn new(bytes: &[u8]) -> io::Result<Self> {
        let made = DDict::try_create(bytes);
        made.map(Self).ok_or_else(|| io::Error::other("zstd takes no dictionary"))
    }

    /// Decompresses a frame of at most `raw_bytes_max`.
    pub(crate) fn decompress(&self, bytes: &[u8], raw_bytes_max: usize) -> io::Result<Vec<u8>> {
        WITH_DICTIONARY.with_borrow_mut(|kept| {
            let none = || io::Error::other("zstd makes no context");
            let context = match kept {
                Some(context) => context,
                None => kept.insert(DCtx::try_create().ok_or_else(none)?),
            };
            let mut raw = Vec::with_capacity(raw_bytes_max);
            let made = context.decompress_using_ddict(&mut raw, bytes, &self.0);
            made.map_err(|code| io::Error::other(get_error_name(code)))?;
            Ok(raw)
        })
    }
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dictionary")
    }
}

/// Writes frames, with a dictionary once it has one.
pub(crate) struct FrameCompressor(Compressor<'static>);

impl FrameCompressor {
    /// A compressor with a dictionary's bytes; empty: without one.
    pub(crate) fn new(dictionary: &[u8]) -> io::Result<Self> {
        let mut compressor = Compressor::with_dictionary(LEVEL, dictionary)?;
        // All of them are known or checked elsewhere, and would cost a tenth of a small frame.
        compressor.include_checksum(false)?;
        compressor.include_contentsize(false)?;
        compressor.include_dictid(false)?;
        Ok(Self(compressor))
    }

    pub(crate) fn compress(&mut self, raw: &[u8]) -> io::Result<Vec<u8>> {
        self.0.compress(raw)
    }
}

/// Makes a dictionary from samples; `None` when they are too few or too alike to make one.
pub(crate) fn train(samples: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    zstd::dict::from_samples(samples, DICTIONARY_BYTES).ok().filter(|made| !made.is_empty())
}
