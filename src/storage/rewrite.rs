//! Rewriting ended volumes: side by side, with one index segment, without what datasets have lost.
//!
//! The one way in which space is given back. A rewritten volume is a new directory that takes the old
//! one's place in the chain at once; until then a crash leaves only debris, which the next opening
//! removes. Work already done is kept, so a compaction that was stopped goes on where it was.

use std::{collections::HashMap, fs, sync::Arc};

use prost::Message;

use crate::{
    model::Position,
    storage::{
        Floors, StorageError,
        block::RawRecord,
        chain::Link,
        disk::Poison,
        index::{
            self, DatasetTotals, Index, Lookup, Part as _, Removed, Segment, Span, Term, Totals,
        },
        log::Log,
        packed::PackedBlock,
        pb::EventRecord,
        tagged,
        volume::Volume,
        writer::VolumeWriter,
    },
};

/// Raw bytes written between two syncs.
const SYNC_RAW_BYTES: u64 = 8 * 1024 * 1024;

/// What a rewriting came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// Events that are not on disk any more.
    pub(crate) events_removed: u64,
    /// Bytes of files before and after.
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
}

/// What rewriting works on.
pub(crate) struct Rewriter<'a> {
    pub(crate) log: &'a Log,
    pub(crate) index: &'a Index,
    pub(crate) poison: &'a Arc<Poison>,
    pub(crate) floors: &'a Floors,
    /// Called now and then: the caller can slow the work down, and ends it with `false`.
    pub(crate) pace: &'a mut dyn FnMut() -> bool,
}

impl Rewriter<'_> {
    /// Rewrites adjacent ended links, all of them with volumes, into one volume; `None` when it was
    /// told to end.
    pub(crate) fn rewrite(&mut self, links: &[Link]) -> Result<Option<Rewritten>, StorageError> {
        self.poison.check()?;
        let (Some(first), Some(last)) = (links.first(), links.last()) else { return Ok(None) };
        let span = Span { after: first.after, until: last.until };
        let segments = self.index.segments_in(span);
        let removed = removed_in(&segments, self.floors, span)?;
        let mut done = Rewritten { events_removed: removed.len(), ..Rewritten::default() };
        let before = links.iter().filter_map(|link| link.volume.as_ref());
        done.bytes_before = before.map(|volume| volume.disk_bytes()).sum();
        let held: u64 = segments.iter().flat_map(|it| it.datasets()).map(|it| it.1.events).sum();
        let made = if held > removed.len() {
            let made = self.write(links, span, &segments, &removed)?;
            if made.is_none() {
                return Ok(None);
            }
            made
        } else {
            None
        };
        let (volume, segment) = made.unzip();
        done.bytes_after = volume.as_ref().map_or(0, |volume| volume.disk_bytes());
        // The chain first: a reader who finds the new segment must find its blocks. Both parts of
        // the log hold the same events for everybody whose floors are these.
        self.log.change_chain(|chain, _| {
            chain.replace(span.after, span.until, volume);
            Ok(())
        })?;
        self.index.replace(span, segment)?;
        for volume in links.iter().filter_map(|link| link.volume.as_ref()) {
            // Readers at work keep it open; the space is free when the last of them is done.
            fs::remove_dir_all(volume.path())?;
        }
        Ok(Some(done))
    }

    fn write(
        &mut self,
        links: &[Link],
        span: Span,
        segments: &[Arc<Segment>],
        removed: &Removed,
    ) -> Result<Option<(Arc<Volume>, Segment)>, StorageError> {
        let mut number = 0;
        self.log.change_chain(|chain, _| {
            number = chain.take_number();
            Ok(())
        })?;
        let poison = Arc::clone(self.poison);
        let volume = Volume::open(self.log.directory(), number, span.after, poison)?;
        let mut writer = VolumeWriter::whole(Arc::new(volume))?;
        let mut totals = totals_of(segments, self.floors)?;
        let copy = removed.len() == 0 && links.len() == 1;
        for link in links {
            if copy {
                copy_dictionaries(link, &writer)?;
            }
            let mut at = link.after;
            while at < link.until {
                let block = link.block(at.next())?;
                if copy {
                    writer.copy(&block)?;
                } else {
                    repack(&mut writer, &block, removed, &mut totals)?;
                }
                at = block.header.last();
                if writer.unsynced_raw >= SYNC_RAW_BYTES {
                    writer.sync(span.until)?;
                }
                if !(self.pace)() {
                    // Closed first: the embedded store writes until then.
                    let path = writer.volume.path().to_owned();
                    drop(writer);
                    fs::remove_dir_all(path)?;
                    return Ok(None);
                }
            }
        }
        writer.finish()?;
        totals.retain(|_, held| held.events > 0);
        let volume = &writer.volume;
        let pace = &mut |bytes| {
            (self.pace)();
            volume.wrote(bytes)
        };
        let segment = Segment::merge(volume.index(), 1, segments, removed, &totals, pace)?;
        writer.record.index_bytes = segment.stored_bytes();
        writer.record.dense = true;
        writer.volume.end()?;
        writer.sync(span.until)?;
        drop((segment, writer));
        // The embedded store keeps in memory what it has written; opened anew it reads what is asked for.
        let poison = Arc::clone(self.poison);
        let volume = Volume::open(self.log.directory(), number, span.after, poison)?;
        let mut segments = index::open_segments(volume.index())?;
        let segment = segments.pop().ok_or_else(|| {
            StorageError::corrupt(format!("volume {number} has no index after it was rewritten"))
        })?;
        volume.rest()?;
        Ok(Some((Arc::new(volume), segment)))
    }
}

/// Positions of events below their dataset's floor.
fn removed_in(
    segments: &[Arc<Segment>],
    floors: &Floors,
    span: Span,
) -> Result<Removed, StorageError> {
    let mut removed = Removed::none_of(span);
    for segment in segments {
        for (dataset, totals) in segment.datasets() {
            let floor = floors.of(dataset);
            if floor < totals.first {
                continue;
            }
            let gone = Span { after: span.after, until: floor.min(span.until) };
            for position in segment.lookup(&Lookup::Exact(Term::dataset(dataset)), gone)? {
                removed.insert(position);
            }
        }
    }
    Ok(removed)
}

/// What the segments hold above the floors; the payload bytes still with what is below.
fn totals_of(segments: &[Arc<Segment>], floors: &Floors) -> Result<Totals, StorageError> {
    let mut totals = Totals::default();
    for segment in segments {
        for (dataset, held) in segment.datasets() {
            let floor = floors.of(dataset);
            if floor < held.first {
                totals.entry(dataset).or_default().add(&held);
                continue;
            }
            let kept = Span { after: floor, until: held.last };
            let kept = segment.lookup(&Lookup::Exact(Term::dataset(dataset)), kept)?;
            let entry = totals.entry(dataset).or_default();
            let (events, payload_bytes) = (kept.len() as u64, held.payload_bytes);
            match (kept.first(), kept.last()) {
                (Some(first), Some(last)) => {
                    let (first, last) = (*first, *last);
                    entry.add(&DatasetTotals { events, first, last, payload_bytes });
                }
                _ => entry.payload_bytes += payload_bytes,
            }
        }
    }
    Ok(totals)
}

fn copy_dictionaries(link: &Link, writer: &VolumeWriter) -> Result<(), StorageError> {
    let Some(volume) = &link.volume else { return Ok(()) };
    for (number, bytes) in volume.dictionaries.all()? {
        writer.volume.dictionaries.put(number, &bytes)?;
    }
    Ok(())
}

/// Packs a block anew without what was removed, with dictionaries made of what is kept.
fn repack(
    writer: &mut VolumeWriter,
    block: &PackedBlock,
    removed: &Removed,
    totals: &mut HashMap<u32, DatasetTotals>,
) -> Result<(), StorageError> {
    let runs = block.runs().collect::<Result<Vec<_>, _>>()?;
    let mut records = Vec::with_capacity(usize::try_from(block.header.count).unwrap_or(0));
    let positions = block.header.first.get()..=block.header.last().get();
    for position in positions.map(Position::new) {
        let run = runs.iter().find(|run| run.contains(position));
        let record = run.and_then(|run| run.raw(position)).ok_or_else(|| {
            StorageError::corrupt(format!("block {} lacks {position}", block.header.first))
        })?;
        if !removed.contains(position) {
            records.push(record);
            continue;
        }
        let gone = EventRecord::decode(record.bytes).map_err(|error| {
            StorageError::corrupt(format!("the record at {position} does not decode: {error}"))
        })?;
        if let Some(held) = totals.get_mut(&tagged::holder(&gone)) {
            held.payload_bytes = held.payload_bytes.saturating_sub(gone.payload.len() as u64);
        }
        records.push(RawRecord { bytes: &[], ..record });
    }
    writer.pack(block.header.first, &records)
}
