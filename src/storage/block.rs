//! Log blocks: a header and a compressed run of records.
//!
//! The layout is described in `docs/format.md`; change both together and raise the format version.

use bytes::Bytes;
use prost::{Message, encoding::decode_varint};

use crate::{
    model::{Position, Timestamp, limits},
    storage::{StorageError, codec, pb::EventRecord},
};

const MAGIC: [u8; 4] = *b"MPB1";
const CRC_AT: usize = 44;
pub(crate) const HEADER_LEN: usize = 48;
/// Bodies smaller than this are not compressed: the frame would cost more than it saves.
const COMPRESS_FROM_BYTES: usize = 256;
/// A raw body cannot be larger: one event, its envelope, and the records before it in the block.
const RAW_BYTES_MAX: usize = 4 * limits::EVENT_BYTES_MAX;

/// How a body is compressed; the byte on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Plain,
    Zstd,
}

impl Codec {
    const fn byte(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Zstd => 1,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Plain),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A run of encoded records, compressed, that does not know its positions yet: made on the caller's
/// task, before the sequencer.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) codec: Codec,
    pub(crate) count: u32,
    pub(crate) raw_len: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Body {
    /// Compresses `raw`, `count` length-delimited records.
    pub(crate) fn compress(raw: &[u8], count: u32) -> Result<Self, StorageError> {
        let raw_len = u32::try_from(raw.len())
            .map_err(|_too_large| StorageError::corrupt("a block body over 4 GiB"))?;
        if raw.len() >= COMPRESS_FROM_BYTES {
            let bytes = codec::compress(raw)?;
            if bytes.len() < raw.len() {
                return Ok(Self { codec: Codec::Zstd, count, raw_len, bytes });
            }
        }
        Ok(Self { codec: Codec::Plain, count, raw_len, bytes: raw.to_vec() })
    }
}

/// The fixed part of a block, readable without touching the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) codec: Codec,
    /// Rows that the value is split into.
    pub(crate) parts: u16,
    pub(crate) count: u32,
    pub(crate) raw_len: u32,
    pub(crate) first: Position,
    pub(crate) first_record_time: Timestamp,
    pub(crate) last_record_time: Timestamp,
    pub(crate) body_len: u32,
    crc: u32,
}

impl Header {
    /// The header of a body whose records were all stored at `record_time`.
    pub(crate) fn new(first: Position, record_time: Timestamp, body: &Body, parts: u16) -> Self {
        let mut header = Self {
            codec: body.codec,
            parts,
            count: body.count,
            raw_len: body.raw_len,
            first,
            first_record_time: record_time,
            last_record_time: record_time,
            body_len: u32::try_from(body.bytes.len()).unwrap_or(u32::MAX),
            crc: 0,
        };
        header.crc = header.checksum(&body.bytes);
        header
    }

    /// The last position in the block.
    pub(crate) fn last(&self) -> Position {
        self.first.plus(u64::from(self.count)).previous()
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let fields = self.covered();
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().chain(self.crc.to_be_bytes())) {
            *to = from;
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        let short = || StorageError::corrupt("a block header is cut short");
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or_else(short)?;
        let mut fields = Fields(bytes);
        if fields.take::<4>() != MAGIC {
            return Err(StorageError::corrupt("a block header has no magic"));
        }
        let [codec, reserved] = fields.take();
        if reserved != 0 {
            return Err(StorageError::corrupt("a block header has its reserved byte set"));
        }
        let codec = Codec::from_byte(codec)
            .ok_or_else(|| StorageError::corrupt(format!("unknown block codec {codec}")))?;
        Ok(Self {
            codec,
            parts: u16::from_be_bytes(fields.take()),
            count: u32::from_be_bytes(fields.take()),
            raw_len: u32::from_be_bytes(fields.take()),
            first: Position::new(u64::from_be_bytes(fields.take())),
            first_record_time: Timestamp::from_micros(i64::from_be_bytes(fields.take())),
            last_record_time: Timestamp::from_micros(i64::from_be_bytes(fields.take())),
            body_len: u32::from_be_bytes(fields.take()),
            crc: u32::from_be_bytes(fields.take()),
        })
    }

    /// Everything before the checksum, which covers it.
    fn covered(&self) -> [u8; CRC_AT] {
        let fields = [
            &MAGIC[..],
            &[self.codec.byte(), 0],
            &self.parts.to_be_bytes(),
            &self.count.to_be_bytes(),
            &self.raw_len.to_be_bytes(),
            &self.first.get().to_be_bytes(),
            &self.first_record_time.micros().to_be_bytes(),
            &self.last_record_time.micros().to_be_bytes(),
            &self.body_len.to_be_bytes(),
        ];
        let mut bytes = [0; CRC_AT];
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    fn checksum(&self, body: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.covered()), body)
    }
}

/// Takes fixed-size fields off the front of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next field; zeros once the header is used up, which its fixed layout rules out.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}

/// A block ready to be read: decompressed, its records found but not decoded. A reader of one
/// identity wants one record of a hundred.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) first: Position,
    first_record_time: Timestamp,
    raw: Bytes,
    /// Where each record ends in `raw`.
    ends: Vec<usize>,
}

impl Block {
    /// A block of records that were all stored at `record_time`.
    pub(crate) fn new(
        first: Position,
        record_time: Timestamp,
        raw: Bytes,
    ) -> Result<Self, StorageError> {
        let ends = record_ends(&raw).ok_or_else(|| {
            StorageError::corrupt(format!("block {first}: a record is cut short"))
        })?;
        Ok(Self { first, first_record_time: record_time, raw, ends })
    }

    /// Checks and decompresses a stored block.
    pub(crate) fn decode(header: &Header, body: &[u8]) -> Result<Self, StorageError> {
        let first = header.first;
        let corrupt = |what: &str| StorageError::corrupt(format!("block {first}: {what}"));
        if header.checksum(body) != header.crc {
            return Err(corrupt("checksum mismatch"));
        }
        let raw_len = usize::try_from(header.raw_len).unwrap_or(usize::MAX);
        if raw_len > RAW_BYTES_MAX {
            return Err(corrupt("raw length out of bounds"));
        }
        let raw = match header.codec {
            Codec::Plain => Bytes::copy_from_slice(body),
            Codec::Zstd => Bytes::from(codec::decompress(body, raw_len)?),
        };
        if raw.len() != raw_len {
            return Err(corrupt("raw length mismatch"));
        }
        let block = Self::new(first, header.first_record_time, raw)?;
        if block.ends.len() as u64 != u64::from(header.count) {
            return Err(corrupt("record count mismatch"));
        }
        Ok(block)
    }

    /// The last position in the block.
    pub(crate) fn last(&self) -> Position {
        self.first.plus(self.ends.len() as u64).previous()
    }

    /// Whether a position is in the block.
    pub(crate) fn contains(&self, position: Position) -> bool {
        self.first <= position && position <= self.last()
    }

    /// Bytes that the block holds in memory; the cache's weight.
    pub(crate) fn weight(&self) -> u64 {
        (self.raw.len() + self.ends.len() * size_of::<usize>()) as u64
    }

    /// The record at a position, if it is in this block.
    pub(crate) fn get(&self, position: Position) -> Result<Option<EventRecord>, StorageError> {
        let place = position.get().checked_sub(self.first.get());
        let Some(place) = place.and_then(|place| usize::try_from(place).ok()) else {
            return Ok(None);
        };
        let Some(end) = self.ends.get(place) else { return Ok(None) };
        let start = place.checked_sub(1).and_then(|it| self.ends.get(it)).copied().unwrap_or(0);
        let record = EventRecord::decode_length_delimited(self.raw.slice(start..*end));
        record.map(Some).map_err(|error| {
            StorageError::corrupt(format!("the record at {position} does not decode: {error}"))
        })
    }

    /// When a record of this block was stored.
    pub(crate) fn record_time(&self, record: &EventRecord) -> Timestamp {
        let delta = i64::try_from(record.record_time_delta_us).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.first_record_time.micros().saturating_add(delta))
    }

    /// The records with their positions, in order.
    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = Result<(Position, EventRecord), StorageError>> + '_ {
        let positions = (self.first.get()..=self.last().get()).map(Position::new);
        positions.filter_map(|position| match self.get(position) {
            Ok(record) => record.map(|record| Ok((position, record))),
            Err(error) => Some(Err(error)),
        })
    }
}

/// Where each length-delimited record ends; `None` when the last one is cut short.
fn record_ends(raw: &[u8]) -> Option<Vec<usize>> {
    let (mut ends, mut at) = (Vec::new(), 0);
    while at < raw.len() {
        let mut rest = raw.get(at..)?;
        let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        at = (raw.len() - rest.len()).checked_add(length).filter(|end| *end <= raw.len())?;
        ends.push(at);
    }
    Some(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> EventRecord {
        EventRecord {
            event_id: id.into(),
            payload: Bytes::from(vec![b'x'; 300]),
            ..Default::default()
        }
    }

    fn sample() -> (Header, Body) {
        let mut raw = Vec::new();
        for id in ["a", "b", "c"] {
            record(id).encode_length_delimited(&mut raw).unwrap();
        }
        let body = Body::compress(&raw, 3).unwrap();
        (Header::new(Position::new(7), Timestamp::from_micros(42), &body, 1), body)
    }

    #[test]
    fn a_block_comes_back_as_it_was_written() {
        let (header, body) = sample();
        assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        let block = Block::decode(&header, &body.bytes).unwrap();
        assert_eq!((block.first, block.last()), (Position::new(7), Position::new(9)));
        let middle = block.get(Position::new(8)).unwrap().unwrap();
        assert_eq!((&middle, block.record_time(&middle).micros()), (&record("b"), 42));
        for outside in [6, 10] {
            assert!(block.get(Position::new(outside)).unwrap().is_none());
        }
        assert_eq!(block.iter().map(Result::unwrap).count(), 3);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let (header, body) = sample();
        let stored: Vec<u8> = header.encode().into_iter().chain(body.bytes).collect();
        for bit in 0..stored.len() * 8 {
            let mut broken = stored.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let outcome = Header::decode(&broken)
                .and_then(|header| Block::decode(&header, &broken[HEADER_LEN..]));
            assert!(outcome.is_err(), "bit {bit} went unnoticed");
        }
    }
}
