//! A packed block: up to 16 events as they are stored in a volume, compressed in small frames that can
//! be read one by one.
//!
//! The layout is described in `docs/format.md`; change both together and raise the format version.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use prost::encoding::{decode_varint, encode_varint};

use crate::{
    model::{Position, Timestamp, limits},
    storage::{
        StorageError,
        block::{Block, RawRecord},
        codec::{Dictionary, FrameCompressor},
    },
};

const MAGIC: [u8; 4] = *b"MPB2";
const CRC_AT: usize = 48;
pub(crate) const HEADER_LEN: usize = 52;
/// Records are compressed together until they have this many bytes: the more, the smaller and the
/// cheaper to read in order, and the dearer to read one.
const FRAME_RAW_BYTES: usize = 2 * 1024;
/// A frame cannot be larger: one event, its envelope, and the records before it.
const FRAME_RAW_BYTES_MAX: usize = 4 * limits::EVENT_BYTES_MAX;

/// The fixed part of a packed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Rows that the block is cut into.
    pub(crate) parts: u16,
    /// Frames; none when all its events were removed.
    frames: u16,
    pub(crate) count: u32,
    /// What its frames are compressed with; 0: nothing beside themselves.
    pub(crate) dictionary: u32,
    pub(crate) first: Position,
    pub(crate) first_record_time: Timestamp,
    pub(crate) last_record_time: Timestamp,
    body_len: u32,
    crc: u32,
}

impl Header {
    /// The last position in the block.
    pub(crate) fn last(&self) -> Position {
        self.first.plus(u64::from(self.count)).previous()
    }

    fn covered(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.put_slice(&MAGIC);
        bytes.put_u16(self.parts);
        bytes.put_u16(self.frames);
        bytes.put_u32(self.count);
        bytes.put_u32(self.dictionary);
        bytes.put_u64(self.first.get());
        bytes.put_i64(self.first_record_time.micros());
        bytes.put_i64(self.last_record_time.micros());
        bytes.put_u32(self.body_len);
        bytes.resize(CRC_AT, 0);
        bytes
    }

    /// The header at the start of a block's first row.
    pub(crate) fn decode(row: &[u8]) -> Result<Self, StorageError> {
        let mut bytes = row
            .get(..HEADER_LEN)
            .filter(|bytes| bytes.starts_with(&MAGIC))
            .ok_or_else(|| StorageError::corrupt("a row of the log has no block header"))?;
        bytes.advance(MAGIC.len());
        let header = Self {
            parts: bytes.get_u16(),
            frames: bytes.get_u16(),
            count: bytes.get_u32(),
            dictionary: bytes.get_u32(),
            first: Position::new(bytes.get_u64()),
            first_record_time: Timestamp::from_micros(bytes.get_i64()),
            last_record_time: Timestamp::from_micros(bytes.get_i64()),
            body_len: bytes.get_u32(),
            crc: 0,
        };
        bytes.advance(CRC_AT - (HEADER_LEN - bytes.len()));
        Ok(Self { crc: bytes.get_u32(), ..header })
    }
}

/// Of a header up to its checksum, and the body.
fn checksum(covered: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(covered), body)
}

/// Packs records at consecutive positions. None of `records` may be missing; a removed one is empty.
pub(crate) fn pack(
    first: Position,
    records: &[RawRecord<'_>],
    dictionary: u32,
    compressor: &mut FrameCompressor,
    part_bytes: usize,
) -> Result<(Header, Vec<u8>), StorageError> {
    let time = |record: Option<&RawRecord<'_>>| record.map(|it| it.record_time).unwrap_or_default();
    let first_record_time = time(records.first());
    let (mut table, mut frames, mut count) = (Vec::new(), Vec::new(), 0_u16);
    if records.iter().any(|record| !record.bytes.is_empty()) {
        let mut raw = Vec::with_capacity(2 * FRAME_RAW_BYTES);
        let mut in_frame = 0_u64;
        for (place, record) in records.iter().enumerate() {
            record.append_to(&mut raw, first_record_time);
            in_frame += 1;
            if raw.len() >= FRAME_RAW_BYTES || place + 1 == records.len() {
                let packed = compressor.compress(&raw)?;
                let stored = if packed.len() < raw.len() { &packed } else { &raw };
                encode_varint(in_frame, &mut table);
                encode_varint(raw.len() as u64, &mut table);
                encode_varint(stored.len() as u64, &mut table);
                frames.extend_from_slice(stored);
                raw.clear();
                (in_frame, count) = (0, count + 1);
            }
        }
    }
    let body_len = table.len() + frames.len();
    let too_large = |_| StorageError::corrupt("a block over 4 GiB");
    let mut header = Header {
        parts: u16::try_from((HEADER_LEN + body_len).div_ceil(part_bytes))
            .map_err(|_too_many| StorageError::corrupt("a block of more than 65535 rows"))?,
        frames: count,
        count: u32::try_from(records.len()).map_err(too_large)?,
        dictionary,
        first,
        first_record_time,
        last_record_time: time(records.last()),
        body_len: u32::try_from(body_len).map_err(too_large)?,
        crc: 0,
    };
    table.append(&mut frames);
    let mut bytes = header.covered();
    header.crc = checksum(&bytes, &table);
    bytes.put_u32(header.crc);
    bytes.append(&mut table);
    Ok((header, bytes))
}

/// The first position and the length of a sound block of one row at the start of `bytes`, if there
/// is one.
pub(crate) fn sound_block(bytes: &[u8]) -> Option<(Position, usize)> {
    if !bytes.starts_with(&MAGIC) {
        return None;
    }
    let header = Header::decode(bytes).ok().filter(|header| header.parts == 1)?;
    let length = HEADER_LEN.checked_add(usize::try_from(header.body_len).ok()?)?;
    let body = bytes.get(HEADER_LEN..length)?;
    (checksum(bytes.get(..CRC_AT)?, body) == header.crc).then_some((header.first, length))
}

/// Where a frame is.
#[derive(Clone, Copy, Debug)]
struct FramePlace {
    /// Records in the block before it.
    before: u32,
    count: u32,
    raw_len: u32,
    start: u32,
    len: u32,
}

/// A packed block, checked, in memory.
#[derive(Debug)]
pub(crate) struct PackedBlock {
    pub(crate) header: Header,
    /// Header, table and frames.
    bytes: Vec<u8>,
    frames: Vec<FramePlace>,
    dictionary: Option<Arc<Dictionary>>,
}

impl PackedBlock {
    /// Checks a block's bytes; `dictionary` finds what the header names.
    pub(crate) fn open(
        bytes: Vec<u8>,
        dictionary: impl FnOnce(u32) -> Result<Arc<Dictionary>, StorageError>,
    ) -> Result<Self, StorageError> {
        let header = Header::decode(&bytes)?;
        let corrupt = |what: &str| StorageError::corrupt(format!("block {}: {what}", header.first));
        let (covered, body) = (bytes.get(..CRC_AT), bytes.get(HEADER_LEN..));
        let (covered, body) = (covered.unwrap_or_default(), body.unwrap_or_default());
        if body.len() as u64 != u64::from(header.body_len) || checksum(covered, body) != header.crc
        {
            return Err(corrupt("checksum mismatch"));
        }
        let mut rest = body;
        let bad = || corrupt("its table of frames does not decode");
        let number = |rest: &mut &[u8]| -> Result<u32, StorageError> {
            u32::try_from(decode_varint(rest).map_err(|_malformed| bad())?).map_err(|_large| bad())
        };
        let mut frames = Vec::with_capacity(usize::from(header.frames));
        let (mut before, mut start) = (0_u32, 0_u32);
        for _ in 0..header.frames {
            let count = number(&mut rest)?;
            let (raw_len, len) = (number(&mut rest)?, number(&mut rest)?);
            frames.push(FramePlace { before, count, raw_len, start, len });
            before = before.checked_add(count).ok_or_else(bad)?;
            start = start.checked_add(len).ok_or_else(bad)?;
        }
        let table_end = u32::try_from(bytes.len() - rest.len()).map_err(|_large| bad())?;
        for frame in &mut frames {
            frame.start = frame.start.saturating_add(table_end);
        }
        if !frames.is_empty() && (before != header.count || start as usize != rest.len()) {
            return Err(corrupt("its frames do not add up"));
        }
        let dictionary = match header.dictionary {
            0 => None,
            number => Some(dictionary(number)?),
        };
        Ok(Self { header, bytes, frames, dictionary })
    }

    /// Whether a position is in it.
    pub(crate) fn contains(&self, position: Position) -> bool {
        self.header.first <= position && position <= self.header.last()
    }

    /// The block as it is stored.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that it holds in memory; the cache's weight.
    pub(crate) fn weight(&self) -> u64 {
        (self.bytes.len() + self.frames.len() * size_of::<FramePlace>()) as u64
    }

    /// The run of records that a position is in.
    pub(crate) fn run(&self, position: Position) -> Result<Option<Block>, StorageError> {
        if !self.contains(position) {
            return Ok(None);
        }
        if self.frames.is_empty() {
            return Ok(Some(self.removed()));
        }
        let place = u32::try_from(position.get() - self.header.first.get()).unwrap_or(u32::MAX);
        let at = self.frames.partition_point(|frame| frame.before + frame.count <= place);
        self.frames.get(at).map(|frame| self.decode(frame)).transpose()
    }

    /// All its runs, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Result<Block, StorageError>> + '_ {
        let removed = self.frames.is_empty().then(|| Ok(self.removed()));
        removed.into_iter().chain(self.frames.iter().map(|frame| self.decode(frame)))
    }

    /// The run of a block of which nothing is left.
    fn removed(&self) -> Block {
        let Header { first, count, first_record_time, .. } = self.header;
        Block::removed(first, count, first_record_time)
    }

    fn decode(&self, frame: &FramePlace) -> Result<Block, StorageError> {
        let corrupt =
            |what: &str| StorageError::corrupt(format!("block {}: {what}", self.header.first));
        let (start, raw_len) = (frame.start as usize, frame.raw_len as usize);
        let stored = self.bytes.get(start..start + frame.len as usize);
        let stored = stored.ok_or_else(|| corrupt("a frame is cut short"))?;
        if raw_len > FRAME_RAW_BYTES_MAX {
            return Err(corrupt("a frame's length is out of bounds"));
        }
        let raw = match &self.dictionary {
            _ if stored.len() == raw_len => stored.to_vec(),
            Some(dictionary) => dictionary.decompress(stored, raw_len)?,
            None => super::codec::decompress(stored, raw_len)?,
        };
        if raw.len() != raw_len {
            return Err(corrupt("a frame's length does not match"));
        }
        let first = self.header.first.plus(u64::from(frame.before));
        let run = Block::new(first, self.header.first_record_time, raw.into())?;
        if run.count() != frame.count {
            return Err(corrupt("a frame's records do not add up"));
        }
        Ok(run)
    }
}

#[cfg(test)]
mod tests;
