//! One commit group as it stands in the journal: a header and the records, as they came.

use bytes::{Buf, BufMut, Bytes};

use crate::model::{Position, Timestamp};

const MAGIC: [u8; 4] = *b"MPJ2";
const CRC_AT: usize = 48;
pub(crate) const HEADER_LEN: usize = 52;
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
}

impl Frame {
    /// The last position in it.
    pub(crate) fn last(&self) -> Position {
        self.first.plus(u64::from(self.count)).previous()
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
        let (of_file, sequence) = (header.get_u64(), header.get_u64());
        let first = Position::new(header.get_u64());
        let count = header.get_u32();
        let record_time = Timestamp::from_micros(header.get_i64());
        let crc = header.get_u32();
        let end = HEADER_LEN.checked_add(body_len)?;
        if of_file != file || count == 0 || end > bytes.len() {
            return None;
        }
        let body = bytes.slice(HEADER_LEN..end);
        if crc32c::crc32c_append(crc32c::crc32c(covered), &body) != crc {
            return None;
        }
        Some((Self { sequence, first, count, record_time, body }, end.next_multiple_of(ALIGNMENT)))
    }
}

/// A frame in the making: room for the header, then records.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    pub(crate) fn with_capacity(body_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_LEN + body_bytes + ALIGNMENT);
        bytes.resize(HEADER_LEN, 0);
        Self { bytes }
    }

    /// Adds records.
    pub(crate) fn extend(&mut self, records: &[u8]) {
        self.bytes.extend_from_slice(records);
    }

    /// Bytes that it takes in a file.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len().next_multiple_of(ALIGNMENT) as u64
    }

    /// Fills in the header; the whole frame, padded to the alignment.
    ///
    /// `[magic: 4][body bytes: u64][file: u64][sequence: u64][first position: u64][count: u32]
    /// [record time: i64][CRC-32C of all before and the body: u32]`
    pub(crate) fn finish(
        &mut self,
        file: u64,
        sequence: u64,
        first: Position,
        count: u32,
        record_time: Timestamp,
    ) -> &[u8] {
        let body_len = self.bytes.len() - HEADER_LEN;
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.put_slice(&MAGIC);
        header.put_u64(body_len as u64);
        header.put_u64(file);
        header.put_u64(sequence);
        header.put_u64(first.get());
        header.put_u32(count);
        header.put_i64(record_time.micros());
        let body = self.bytes.get(HEADER_LEN..).unwrap_or_default();
        header.put_u32(crc32c::crc32c_append(crc32c::crc32c(&header), body));
        for (to, from) in self.bytes.iter_mut().zip(header) {
            *to = from;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        &self.bytes
    }

    /// The records, once the frame is written.
    pub(crate) fn into_body(self, body_bytes: usize) -> Bytes {
        let end = (HEADER_LEN + body_bytes).min(self.bytes.len());
        Bytes::from(self.bytes).slice(HEADER_LEN..end)
    }

    /// Bytes of the records added so far.
    pub(crate) fn body_bytes(&self) -> usize {
        self.bytes.len() - HEADER_LEN
    }
}
