//! A volume: one sled database with the packed blocks and the index segments of a span of the log.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message;

use crate::{
    model::Position,
    storage::{
        StorageError,
        dictionaries::Dictionaries,
        disk::{Disk, DiskOptions, Poison},
        index::{self, Segment, Tail},
        packed::{Header, PackedBlock},
        pb::VolumeRecord,
        tree::{Ballast, OnceWriter, PAGE_ROWS, Tree},
    },
};

/// Bytes of one row of the log or the index.
pub(crate) const ROW_BYTES_MAX: usize = 28 * 1024;
const DISK: DiskOptions =
    DiskOptions { segment_bytes: 2 * 1024 * 1024, cache_bytes: 2 * 1024 * 1024 };
/// Positions that share a slot: a packed block never crosses from one into the next, so that the
/// block of a position is found without a search. Few, because the embedded store reads, and keeps,
/// up to 17 rows together.
pub(crate) const SLOT_EVENTS: u64 = 16;

const KEY_LEN: usize = 8 + 1 + 2;

/// `[slot: u64][first position's place in the slot: u8][part: u16] -> a part of a packed block`
fn key(first: Position, part: u16) -> [u8; KEY_LEN] {
    let index = first.previous().get();
    let place = u8::try_from(index % SLOT_EVENTS).unwrap_or(u8::MAX);
    let mut key = [0; KEY_LEN];
    let slot = (index / SLOT_EVENTS).to_be_bytes();
    let bytes = slot.into_iter().chain([place]).chain(part.to_be_bytes());
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = from;
    }
    key
}

/// The page of the embedded store that a block is likely to be in.
fn page(first: Position) -> u64 {
    first.previous().get() / SLOT_EVENTS / u64::from(PAGE_ROWS)
}

/// The first position of the slot that a position is in.
fn slot_first(position: Position) -> Position {
    let index = position.previous().get();
    Position::new(index - index % SLOT_EVENTS + 1)
}

/// The last position of the slot that a position is in.
pub(crate) fn slot_last(position: Position) -> Position {
    slot_first(position).plus(SLOT_EVENTS - 1)
}

/// Key in the tree `meta` of what is known of the volume as a whole, a `VolumeRecord`.
const RECORD: [u8; 1] = [0];

/// Name of the tree that is there for sled's sake.
const BALLAST: &str = "ballast";

/// An open volume.
#[derive(Debug)]
pub(crate) struct Volume {
    /// Names its directory; never used again.
    pub(crate) number: u32,
    /// It holds positions after this one.
    pub(crate) after: Position,
    path: PathBuf,
    disk: Disk,
    log: Tree,
    index: Tree,
    meta: sled::Tree,
    /// Only in one that [`Volume::end`] was called for.
    ballast: Option<Ballast>,
    pub(crate) dictionaries: Dictionaries,
}

impl Volume {
    /// Opens or creates volume `number` in the directory of volumes.
    pub(crate) fn open(
        directory: &Path,
        number: u32,
        after: Position,
        poison: Arc<Poison>,
    ) -> Result<Self, StorageError> {
        let path = directory.join(name(number));
        let disk = Disk::open(&path, DISK, poison)?;
        let (log, index) = (Tree::new(disk.tree("log")?), Tree::new(disk.tree("index")?));
        let meta = disk.tree("meta")?;
        let dictionaries = Dictionaries::new([disk.tree("dictionaries")?, disk.tree("copies")?]);
        let ballast = disk.existing_tree(BALLAST)?.map(Ballast::new);
        Ok(Self { number, after, path, disk, log, index, meta, ballast, dictionaries })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a frozen tail as a segment of the index; durable only after [`Volume::sync`].
    pub(crate) fn write_segment(&self, tail: &Tail) -> Result<Segment, StorageError> {
        index::write_segment(&self.index, tail, &mut |bytes| self.wrote(bytes))
    }

    /// The tree of index segments.
    pub(crate) fn index(&self) -> &Tree {
        &self.index
    }

    /// The last position packed here; `after` when there is none.
    pub(crate) fn last(&self) -> Result<Position, StorageError> {
        Ok(self.last_header()?.map_or(self.after, |header| header.last()))
    }

    /// The first position packed here.
    pub(crate) fn first(&self) -> Result<Option<Position>, StorageError> {
        let Some((key, _)) = self.log.first()? else { return Ok(None) };
        let [slot @ .., place, _, _] = key.as_ref() else {
            return Err(self.corrupt("a key is cut short"));
        };
        let slot = slot.try_into().map(u64::from_be_bytes).unwrap_or_default();
        Ok(Some(Position::new(slot * SLOT_EVENTS + u64::from(*place) + 1)))
    }

    /// The header of the last block.
    pub(crate) fn last_header(&self) -> Result<Option<Header>, StorageError> {
        let Some((key, _)) = self.log.last()? else { return Ok(None) };
        let whole = key.first_chunk::<9>().ok_or_else(|| self.corrupt("a key is cut short"))?;
        let mut first_row = whole.to_vec();
        first_row.extend_from_slice(&[0, 0]);
        let row = self
            .log
            .row(&first_row, page(self.after))?
            .ok_or_else(|| self.corrupt("a row is missing"))?;
        Header::decode(&row).map(Some)
    }

    /// Where the block of a position may begin at the earliest.
    pub(crate) fn begin(&self, position: Position) -> Position {
        slot_first(position).max(self.after.next())
    }

    /// The block that begins at a position.
    pub(crate) fn block(&self, first: Position) -> Result<Option<PackedBlock>, StorageError> {
        let Some(bytes) = self.stored(first)? else { return Ok(None) };
        let block = PackedBlock::open(bytes, |number| self.dictionaries.get(number))?;
        if block.header.first != first {
            let found = block.header.first;
            return Err(self.corrupt(&format!("block {first} names {found}")));
        }
        Ok(Some(block))
    }

    /// Where blocks begin in the slot of a position.
    pub(crate) fn firsts_in_slot(&self, position: Position) -> Result<Vec<Position>, StorageError> {
        let first = slot_first(position);
        let slot = key(first, 0);
        let slot = slot.first_chunk::<8>().copied().unwrap_or_default();
        let mut firsts = Vec::new();
        for row in self.log.scan_prefix(slot).keys() {
            if let [.., place, 0, 0] = row?.as_ref() {
                firsts.push(first.plus(u64::from(*place)));
            }
        }
        Ok(firsts)
    }

    /// A block's bytes, as they are stored.
    pub(crate) fn stored(&self, first: Position) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(row) = self.log.row(&key(first, 0), page(first))? else { return Ok(None) };
        let header = Header::decode(&row)?;
        let mut bytes = row.to_vec();
        for part in 1..header.parts {
            let row = self.log.row(&key(first, part), page(first))?;
            let missing = || self.corrupt(&format!("block {first} lacks part {part}"));
            bytes.extend_from_slice(&row.ok_or_else(missing)?);
        }
        Ok(Some(bytes))
    }

    /// Writes a block, whole or not at all; durable only after [`Volume::sync`].
    pub(crate) fn put(&self, header: &Header, bytes: &[u8]) -> Result<(), StorageError> {
        if header.parts == 1 {
            // One row is whole by itself, and costs less than a batch of one.
            self.log.put(&key(header.first, 0), bytes, page(header.first))?;
            return self.wrote(bytes.len());
        }
        let mut rows = sled::Batch::default();
        for (part, row) in (0..).zip(bytes.chunks(ROW_BYTES_MAX)) {
            rows.insert(&key(header.first, part), row);
        }
        self.log.apply_batch(rows)?;
        self.wrote(bytes.len())
    }

    /// A writer of blocks for [`Volume::put_once`].
    pub(crate) fn once_writer(&self) -> OnceWriter {
        OnceWriter::new(self.log.clone())
    }

    /// Writes a block of a volume that nobody reads yet, and that does not count before the writer was finished.
    pub(crate) fn put_once(
        &self,
        writer: &mut OnceWriter,
        header: &Header,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        for (part, row) in (0..).zip(bytes.chunks(ROW_BYTES_MAX)) {
            writer.put(&key(header.first, part), row, page(header.first))?;
        }
        self.wrote(bytes.len())
    }

    /// So many bytes were written, to any of its trees.
    pub(crate) fn wrote(&self, bytes: usize) -> Result<(), StorageError> {
        self.disk.wrote(bytes)
    }

    /// What is known of the volume as a whole.
    pub(crate) fn record(&self) -> Result<VolumeRecord, StorageError> {
        let Some(bytes) = self.meta.get(RECORD)? else { return Ok(VolumeRecord::default()) };
        VolumeRecord::decode(bytes.as_ref())
            .map_err(|error| self.corrupt(&format!("its record does not decode: {error}")))
    }

    /// Makes everything written so far durable, with what is known of it.
    pub(crate) fn sync(&self, record: &VolumeRecord) -> Result<(), StorageError> {
        self.meta.insert(RECORD, record.encode_to_vec())?;
        self.disk.sync()
    }

    /// Lets go of what the embedded store has in memory, if it was used since; some milliseconds. Only in a
    /// volume that was opened after [`Volume::end`].
    pub(crate) fn rest(&self) -> Result<(), StorageError> {
        match &self.ballast {
            Some(ballast) if self.log.take_used() | self.index.take_used() => {
                Ok(ballast.shed_pages()?)
            }
            _ => Ok(()),
        }
    }

    /// Prepares a volume that nothing is added to for [`Volume::rest`].
    pub(crate) fn end(&self) -> Result<(), StorageError> {
        Ok(Ballast::write(&self.disk.tree(BALLAST)?)?)
    }

    /// Bytes of all its files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk.bytes()
    }

    fn corrupt(&self, what: &str) -> StorageError {
        StorageError::corrupt(format!("volume {}: {what}", self.number))
    }
}

/// Name of a volume's directory.
pub(crate) fn name(number: u32) -> String {
    format!("{number:08}")
}
