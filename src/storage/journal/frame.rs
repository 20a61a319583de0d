//! One commit group as it stands in the journal: a header, the records, as they came, and changes of
//! the table.

use bytes::{Buf, BufMut, Bytes};

use crate::{
    model::{Position, Timestamp},
    storage::table::RowChange,
};

const MAGIC: [u8; 4] = *b"MPJ3";
const CRC_AT: usize = 56;
pub(crate) const HEADER_LEN: usize = 60;
/// Frames begin at multiples of this, so that looking for one after damage is quick.
pub(crate) const ALIGNMENT: usize = 8;

/// A frame read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    pub(crate) first: Position,
    pub(crate) count: u32,
    pub(crate) record_time: Timestamp,
    /// A run of records; see `block`.
    pub(crate) body: Bytes,
    /// Changes of the table, encoded.
    pub(crate) changes: Bytes,
}

impl Frame {
    /// The last position in it; without records the one before it.
    pub(crate) fn last(&self) -> Position {
        self.first.plus(u64::from(self.count)).previous()
    }

    /// Whether it has records after a position.
    pub(crate) fn has_after(&self, position: Position) -> bool {
        self.count > 0 && self.last() > position
    }

    /// The frame at the start of `bytes`, if there is a sound one of this file, and the bytes it
    /// takes.
    pub(crate) fn parse(file: u64, bytes: &Bytes) -> Option<(Self, usize)> {
        let mut header: &[u8] = bytes.get(..HEADER_LEN)?;
        let covered = header.get(..CRC_AT)?;
        if !header.starts_with(&MAGIC) {
            return None;
        }
        header.advance(MAGIC.len());
        let body_len = usize::try_from(header.get_u64()).ok()?;
        let changes_len = usize::try_from(header.get_u64()).ok()?;
        let (of_file, sequence) = (header.get_u64(), header.get_u64());
        let first = Position::new(header.get_u64());
        let count = header.get_u32();
        let record_time = Timestamp::from_micros(header.get_i64());
        let crc = header.get_u32();
        let body_end = HEADER_LEN.checked_add(body_len)?;
        let end = body_end.checked_add(changes_len)?;
        if of_file != file || (count == 0 && changes_len == 0) || end > bytes.len() {
            return None;
        }
        let content = bytes.get(HEADER_LEN..end)?;
        if crc32c::crc32c_append(crc32c::crc32c(covered), content) != crc {
            return None;
        }
        let (body, changes) = (bytes.slice(HEADER_LEN..body_end), bytes.slice(body_end..end));
        let frame = Self { sequence, first, count, record_time, body, changes };
        Some((frame, end.next_multiple_of(ALIGNMENT)))
    }
}

/// A frame in the making: room for the header, then records; changes of the table follow at the end.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
    /// Where the records end, once changes follow.
    body_end: usize,
    /// The CRC-32C of the records that were written ahead, and where they end; `None` if none ever were.
    summed: Option<(u32, usize)>,
    changes: Vec<RowChange>,
}

impl FrameBuffer {
    pub(crate) fn with_capacity(body_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_LEN + body_bytes + ALIGNMENT);
        bytes.resize(HEADER_LEN, 0);
        Self { bytes, body_end: HEADER_LEN, summed: None, changes: Vec::new() }
    }

    /// Adds records.
    pub(crate) fn extend(&mut self, records: &[u8]) {
        self.bytes.extend_from_slice(records);
    }

    /// Adds changes of the table.
    pub(crate) fn change(&mut self, changes: impl IntoIterator<Item = RowChange>) {
        self.changes.extend(changes);
    }

    /// Whether it changes nothing in the table.
    pub(crate) fn is_without_changes(&self) -> bool {
        self.changes.is_empty()
    }

    /// Puts the changes behind the records; the bytes that it takes in a file.
    pub(super) fn seal(&mut self) -> u64 {
        self.body_end = self.bytes.len();
        for change in &self.changes {
            change.encode(&mut self.bytes);
        }
        self.bytes.len().next_multiple_of(ALIGNMENT) as u64
    }

    /// The same for what is written ahead; there must be no changes.
    pub(super) fn seal_ahead(&mut self) {
        debug_assert!(self.is_without_changes(), "changes are visible at once");
        self.summed.get_or_insert((0, HEADER_LEN));
        self.seal();
    }

    /// Fills in the header of what is sealed; the whole frame, padded to the alignment.
    ///
    /// `[magic: 4][bytes of records: u64][bytes of changes: u64][file: u64][sequence: u64]
    /// [first position: u64][count: u32][record time: i64][CRC-32C of all before and what follows: u32]`
    pub(super) fn finish(
        &mut self,
        file: u64,
        sequence: u64,
        first: Position,
        count: u32,
        record_time: Timestamp,
    ) -> &[u8] {
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.put_slice(&MAGIC);
        header.put_u64((self.body_end - HEADER_LEN) as u64);
        header.put_u64((self.bytes.len() - self.body_end) as u64);
        header.put_u64(file);
        header.put_u64(sequence);
        header.put_u64(first.get());
        header.put_u32(count);
        header.put_i64(record_time.micros());
        header.put_u32(self.crc(&header));
        for (to, from) in self.bytes.iter_mut().zip(header) {
            *to = from;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        &self.bytes
    }

    /// The CRC-32C of the header and what follows. Records that were written ahead are not summed again; putting the
    /// two sums together takes as long as summing some 100 KiB, so without such they are summed in one go.
    fn crc(&mut self, header: &[u8]) -> u32 {
        let header = crc32c::crc32c(header);
        let Some((before, end)) = self.summed else {
            return crc32c::crc32c_append(header, self.bytes.get(HEADER_LEN..).unwrap_or_default());
        };
        let content = crc32c::crc32c_append(before, self.bytes.get(end..).unwrap_or_default());
        self.summed = Some((content, self.bytes.len()));
        crc32c::crc32c_combine(header, content, self.bytes.len() - HEADER_LEN)
    }

    /// Takes away what was put behind the records that were written ahead, so that more can follow.
    pub(super) fn reopen(&mut self) {
        self.bytes.truncate(self.body_end);
    }

    /// Bytes up to the end of the records.
    pub(super) fn records_end(&self) -> usize {
        self.body_end
    }

    /// The changes, once the frame is written.
    pub(super) fn take_changes(&mut self) -> Vec<RowChange> {
        std::mem::take(&mut self.changes)
    }

    /// The records, once the frame is written.
    pub(crate) fn into_body(self) -> Bytes {
        let Self { bytes, body_end, .. } = self;
        Bytes::from(bytes).slice(HEADER_LEN..body_end)
    }
}
