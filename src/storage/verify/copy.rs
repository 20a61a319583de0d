//! One volume of a salvaged store: sound blocks as they are, lost events as removed ones, and an index
//! made anew.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::Arc,
};

use crate::{
    model::{Position, Timestamp},
    storage::{
        Block, Span, StorageError,
        block::RawRecord,
        codec::Dictionary,
        disk::Poison,
        index::{self, Part as _, Tail, id_hash},
        packed::PackedBlock,
        pb::EventRecord,
        verify::walk::{Lost, guard},
        volume::{SLOT_EVENTS, Volume, slot_last},
        writer::VolumeWriter,
    },
};

/// Raw bytes written between two syncs.
const SYNC_RAW_BYTES: u64 = 8 * 1024 * 1024;
/// Raw bytes after which a block is closed before its slot is full.
const BLOCK_RAW_BYTES_MAX: usize = 256 * 1024;
/// Positions of one index segment; merged when the store rewrites the volume.
const SEGMENT_POSITIONS: u64 = 64 * 1024;

/// What a copy hands on.
pub(super) trait Audience {
    /// An event was copied.
    fn event(&mut self, position: Position, record: &EventRecord);
    /// A position without an event was copied.
    fn removed(&mut self, position: Position);
    /// Events cannot be copied.
    fn lost(&mut self, lost: Lost);
}

/// A volume being copied to; positions are added one after the other.
pub(super) struct Copy {
    writer: VolumeWriter,
    tail: Tail,
    /// Up to here positions are in blocks.
    at: Position,
    /// Numbers under which dictionaries are here as they were there.
    dictionaries: HashSet<u32>,
    last_time: Timestamp,
}

impl Copy {
    /// Begins volume `number` with dictionaries under their numbers.
    pub(super) fn begin(
        directory: &Path,
        number: u32,
        after: Position,
        known: &BTreeMap<u32, Vec<u8>>,
    ) -> Result<Self, StorageError> {
        let volume = Volume::open(directory, number, after, Arc::new(Poison::default()))?;
        for (number, bytes) in known {
            volume.dictionaries.put(*number, bytes)?;
        }
        let dictionaries = known.keys().copied().collect();
        let writer = VolumeWriter::new(Arc::new(volume))?;
        let (tail, last_time) = (Tail::after(after), Timestamp::default());
        Ok(Self { writer, tail, at: after, dictionaries, last_time })
    }

    /// Up to here everything was added.
    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// A dictionary that it began with.
    pub(super) fn dictionary(&self, number: u32) -> Result<Arc<Dictionary>, StorageError> {
        self.writer.volume.dictionaries.get(number)
    }

    /// Adds a sound block, which follows what was added; events of it that cannot be read are lost.
    pub(super) fn block(
        &mut self,
        block: &PackedBlock,
        audience: &mut dyn Audience,
    ) -> Result<(), StorageError> {
        let runs: Vec<Block> = block.runs().map_while(Result::ok).collect();
        let mut records = Vec::with_capacity(usize::try_from(SLOT_EVENTS).unwrap_or(0));
        let mut whole = true;
        for position in block.header.first.get()..=block.header.last().get() {
            let position = Position::new(position);
            let run = runs.iter().find(|run| run.contains(position));
            let (record, kept) = self.record(run, position, audience);
            whole &= kept;
            records.push(record);
        }
        let number = block.header.dictionary;
        if whole && (number == 0 || self.dictionaries.contains(&number)) {
            self.writer.copy(block)?;
        } else {
            self.writer.pack(block.header.first, &records)?;
        }
        self.reach(block.header.last())
    }

    /// Adds the records of runs that follow what was added, up to `until`, as far as they go without
    /// a gap.
    pub(super) fn runs(
        &mut self,
        runs: &[Block],
        until: Position,
        audience: &mut dyn Audience,
    ) -> Result<(), StorageError> {
        while self.at < until {
            let first = self.at.next();
            let (mut records, mut raw) = (Vec::new(), 0);
            let last = slot_last(first).min(until);
            let mut position = first;
            while position <= last && raw < BLOCK_RAW_BYTES_MAX {
                let at = runs.partition_point(|run| run.last() < position);
                let Some(run) = runs.get(at).filter(|run| run.contains(position)) else { break };
                let (record, _kept) = self.record(Some(run), position, audience);
                raw += record.bytes.len();
                records.push(record);
                position = position.next();
            }
            if records.is_empty() {
                return Ok(());
            }
            self.writer.pack(first, &records)?;
            self.reach(position.previous())?;
        }
        Ok(())
    }

    /// Adds positions whose events are lost.
    pub(super) fn lost(
        &mut self,
        missing: Lost,
        audience: &mut dyn Audience,
    ) -> Result<(), StorageError> {
        let until = missing.span.until;
        audience.lost(missing);
        let gone = RawRecord { record_time: self.last_time, bytes: &[] };
        while self.at < until {
            let first = self.at.next();
            let last = slot_last(first).min(until);
            let count = usize::try_from(last.since(self.at)).unwrap_or(0);
            self.writer.pack(first, &vec![gone; count])?;
            self.reach(last)?;
        }
        Ok(())
    }

    /// Makes the volume durable; the log has come as far as what was added.
    pub(super) fn finish(mut self) -> Result<Arc<Volume>, StorageError> {
        self.write_segment()?;
        self.writer.sync(self.at)?;
        Ok(self.writer.volume)
    }

    /// The record to write for a position, and whether it is what it was.
    fn record<'a>(
        &mut self,
        run: Option<&'a Block>,
        position: Position,
        audience: &mut dyn Audience,
    ) -> (RawRecord<'a>, bool) {
        let raw = run.and_then(|run| run.raw(position));
        self.last_time = raw.map_or(self.last_time, |raw| raw.record_time.max(self.last_time));
        let read = run.map(|run| run.get(position));
        match (raw, read) {
            (Some(raw), Some(Ok(Some(record)))) => {
                self.tail.add(position, id_hash(record.dataset, &record.event_id), &record);
                audience.event(position, &record);
                (raw, true)
            }
            (Some(raw), Some(Ok(None))) => {
                audience.removed(position);
                (raw, true)
            }
            (_, read) => {
                let why = match read {
                    Some(Err(error)) => error.to_string(),
                    _ => format!("the block of {position} cannot be decompressed"),
                };
                let span = Span { after: position.previous(), until: position };
                audience.lost(Lost { span, why });
                (RawRecord { record_time: self.last_time, bytes: &[] }, false)
            }
        }
    }

    fn reach(&mut self, last: Position) -> Result<(), StorageError> {
        self.at = last;
        self.tail.reach(last);
        if self.writer.unsynced_raw >= SYNC_RAW_BYTES {
            self.writer.sync(last)?;
        }
        if self.tail.len() >= SEGMENT_POSITIONS {
            self.write_segment()?;
        }
        Ok(())
    }

    fn write_segment(&mut self) -> Result<(), StorageError> {
        if self.tail.len() > 0 {
            let tail = std::mem::replace(&mut self.tail, Tail::after(self.at));
            let segment = self.writer.volume.write_segment(&tail)?;
            self.writer.record.index_bytes += segment.stored_bytes();
        }
        Ok(())
    }
}

/// What a volume's index knows of positions, for people.
pub(super) fn known_terms(
    volume: &Volume,
    wanted: &dyn Fn(Position) -> bool,
) -> BTreeMap<Position, Vec<String>> {
    let mut terms = Terms { wanted, found: BTreeMap::new() };
    for number in guard(|| index::segment_numbers(volume.index())).unwrap_or_default() {
        if let Ok(Some(segment)) = guard(|| index::Segment::open(volume.index(), number)) {
            let span = segment.span();
            debug_assert!(!span.is_empty());
            let _unreadable = guard(|| {
                segment.check(&mut terms);
                Ok(())
            });
        }
    }
    terms.found
}

struct Terms<'a> {
    wanted: &'a dyn Fn(Position) -> bool,
    found: BTreeMap<Position, Vec<String>>,
}

impl index::Reader for Terms<'_> {
    fn posting(&mut self, term: &[u8], position: Position) {
        if (self.wanted)(position) {
            self.found.entry(position).or_default().push(index::Term::describe(term));
        }
    }

    fn id(&mut self, _hash: u64, _position: Position) {}

    fn broken(&mut self, _what: String) {}
}
