//! A row of terms: entries sorted by term, and by postings where a term has several.
//!
//! `[entries…][start of each restart: u16…][restarts: u16]`; an entry is
//! `[shared: varint][rest: varint][rest bytes][piece]`, where `shared` bytes are those of the term
//! before. A restart is an entry that shares nothing, so a row is searched without reading all of it.

use crate::storage::index::segment::postings::{self, Piece, number};

/// A row is written when it has at least so many bytes. Small, because a cold row costs reading
/// sled's whole leaf, which holds 8 to 16 of them, and keeping it.
pub(super) const ROW_BYTES: usize = 4 * 1024;
/// Entries from one restart to the next: what is read one by one.
const RESTART_ENTRIES: usize = 16;
/// A restart follows after so many bytes, whatever the number of entries.
const RESTART_BYTES: usize = 1024;

/// A row on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct TermRow {
    bytes: Vec<u8>,
    restarts: Vec<u16>,
    entries_since: usize,
    previous: Vec<u8>,
}

impl TermRow {
    /// Adds an entry, which must come after all others.
    pub(super) fn push(&mut self, term: &[u8], postings: &[u32]) {
        let at = self.bytes.len();
        let restart = self.restarts.last().is_none_or(|last| {
            self.entries_since >= RESTART_ENTRIES || at - usize::from(*last) >= RESTART_BYTES
        });
        let mut shared = 0;
        if restart {
            self.restarts.push(u16::try_from(at).unwrap_or(u16::MAX));
            self.entries_since = 0;
        } else {
            shared = self.previous.iter().zip(term).take_while(|(a, b)| a == b).count();
        }
        let rest = term.get(shared..).unwrap_or_default();
        prost::encoding::encode_varint(shared as u64, &mut self.bytes);
        prost::encoding::encode_varint(rest.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(rest);
        postings::encode(postings, &mut self.bytes);
        self.entries_since += 1;
        self.previous.truncate(shared);
        self.previous.extend_from_slice(rest);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= ROW_BYTES
    }

    /// The row's bytes; the next row begins.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut row = std::mem::take(&mut self.bytes);
        let count = u16::try_from(self.restarts.len()).unwrap_or(u16::MAX);
        for number in self.restarts.drain(..).chain([count]) {
            row.extend_from_slice(&number.to_be_bytes());
        }
        self.previous.clear();
        row
    }
}

/// One entry, its term still shortened by what it shares with the one before.
pub(super) struct Entry<'a> {
    pub(super) shared: usize,
    pub(super) rest: &'a [u8],
    pub(super) piece: Piece<'a>,
    pub(super) piece_len: usize,
}

impl<'a> Entry<'a> {
    /// Takes an entry off the front of `entries`; `None` when it does not decode.
    pub(super) fn take(entries: &mut &'a [u8]) -> Option<Self> {
        let shared = usize::try_from(number(entries)?).ok()?;
        let length = usize::try_from(number(entries)?).ok()?;
        let (rest, after) = entries.split_at_checked(length)?;
        *entries = after;
        let piece = Piece::take(entries)?;
        Some(Self { shared, rest, piece, piece_len: after.len() - entries.len() })
    }
}

/// A row's parts: its entries, and where the restarts among them are.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) entries: &'a [u8],
    restarts: &'a [[u8; 2]],
}

impl<'a> Parts<'a> {
    /// `None` when the row is not one.
    pub(super) fn of(row: &'a [u8]) -> Option<Self> {
        let (rest, count) = row.split_last_chunk()?;
        let restarts = usize::from(u16::from_be_bytes(*count)) * 2;
        let (entries, restarts) = rest.split_at_checked(rest.len().checked_sub(restarts)?)?;
        Some(Self { entries, restarts: restarts.as_chunks().0 })
    }

    /// Where entries begin that share nothing.
    pub(super) fn restarts(&self) -> impl Iterator<Item = usize> + 'a {
        self.restarts.iter().map(|restart| usize::from(u16::from_be_bytes(*restart)))
    }

    /// Where the last restart begins that does not come after this term and posting, or the first.
    pub(super) fn seek(&self, term: &[u8], posting: u32) -> Option<usize> {
        let start = |restart: &[u8; 2]| usize::from(u16::from_be_bytes(*restart));
        let mut malformed = false;
        let found = self.restarts.partition_point(|restart| {
            let entry = self.entries.get(start(restart)..).and_then(|mut it| Entry::take(&mut it));
            malformed |= entry.as_ref().is_none_or(|it| it.shared != 0);
            entry.is_some_and(|it| (it.rest, it.piece.first) <= (term, posting))
        });
        let restart = self.restarts.get(found.saturating_sub(1))?;
        (!malformed).then(|| start(restart))
    }
}
