//! When volumes are rewritten: in the background, gently, those that are worth it; on demand all.

use std::{
    ops::ControlFlow,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    model::{Position, Tagged},
    storage::{
        Floors, Query, Span, Storage, StorageError,
        chain::Link,
        index::Part as _,
        packer::VOLUME_LIVE_BYTES,
        rewrite::{Rewriter, Rewritten},
    },
};

/// How often the background looks for work.
const INTERVAL: Duration = Duration::from_secs(10);
/// A volume is rewritten in the background when this part of its events is gone, in hundredths.
const GONE_PERCENT: u64 = 25;
/// Free bytes of the disk below which nothing is rewritten. Writing may still need them, for the
/// journal, a packing and the index, and a rewriting that fills the disk would poison the store.
const ROOM_BYTES: u64 = 128 * 1024 * 1024;
/// Work between two rests, and looks at the disk. Much shorter, and going to sleep and waking up would
/// cost more than the work.
const SLICE: Duration = Duration::from_millis(10);
/// In the background, work on the only volume that waits is followed by this many times as long a
/// rest; by less with each that waits behind it. Volumes that wait take more of the disk, and
/// a query asks their many segments, so the wait must not grow with the log.
const REST: u32 = 3;

/// How far a compaction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CompactionProgress {
    /// Volumes that have been rewritten, of `volumes`.
    pub(crate) volumes_done: u64,
    pub(crate) volumes: u64,
    pub(crate) rewritten: Rewritten,
}

/// Which volumes to rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// Where it gives back much, or makes reading cheaper.
    Worthwhile,
    /// Everywhere it gives back anything.
    Everything,
}

impl Storage {
    /// Gives back all the space that can be given back. Goes on until done, or until `progress` breaks
    /// it off; what was done then stays done. One at a time.
    pub(crate) fn compact(
        &self,
        floors: &Floors,
        progress: &mut dyn FnMut(CompactionProgress) -> ControlFlow<()>,
    ) -> Result<CompactionProgress, StorageError> {
        let _one = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        self.poison.check()?;
        // What is in the volume that is being written must be in an ended one.
        let newest = self.log.newest();
        self.signal.roll();
        let ended = || self.log.active().is_ok_and(|active| active.after >= newest);
        if !self.signal.wait_until(ended) {
            self.poison.check()?;
            return Ok(CompactionProgress::default());
        }
        let groups = self.groups(floors, Effort::Everything)?;
        let volumes = groups.iter().map(|group| group.len() as u64).sum();
        let mut state = CompactionProgress { volumes, ..CompactionProgress::default() };
        for group in groups {
            if progress(state).is_break() || !self.rewrite(&group, floors, 0, &mut state)? {
                break;
            }
        }
        Ok(state)
    }

    /// The compactor thread: rewrites what is worth it until told to stop.
    pub(crate) fn run_compactor(&self, floors: impl Fn() -> Arc<Floors>) {
        while self.signal.rest(INTERVAL) {
            let outcome = self.compact_worthwhile(&floors()).and_then(|()| self.rest_volumes());
            if self.poison.watch(outcome).is_err() {
                return;
            }
        }
    }

    /// Ended volumes keep nothing in memory that was not read lately.
    fn rest_volumes(&self) -> Result<(), StorageError> {
        let chain = self.log.chain();
        let active = self.log.active()?;
        chain.volumes().filter(|it| it.number != active.number).try_for_each(|it| it.rest())
    }

    fn compact_worthwhile(&self, floors: &Floors) -> Result<(), StorageError> {
        let _one = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = self.groups(floors, Effort::Worthwhile)?;
        for (at, group) in groups.iter().enumerate() {
            let mut state = CompactionProgress::default();
            let behind = u32::try_from(groups.len() - at - 1).unwrap_or(u32::MAX);
            if !self.rewrite(group, floors, REST.saturating_sub(behind), &mut state)? {
                return Ok(());
            }
            self.rest_volumes()?;
            if state.volumes_done == 0 {
                continue;
            }
            let Rewritten { events_removed, bytes_before, bytes_after } = state.rewritten;
            tracing::info!(events_removed, bytes_before, bytes_after, "volumes rewritten");
        }
        Ok(())
    }

    /// Rewrites a group of volumes, resting `rest` times as long as it works; false when told to stop,
    /// or when others have filled the disk meanwhile. Leaves alone what there is no room for.
    fn rewrite(
        &self,
        group: &[Link],
        floors: &Floors,
        rest: u32,
        state: &mut CompactionProgress,
    ) -> Result<bool, StorageError> {
        if !self.has_room_for(group, floors)? {
            tracing::debug!(volumes = group.len(), "not rewritten: the disk has too little room");
            return Ok(true);
        }
        let mut begun = Instant::now();
        let mut pace = || {
            let worked = begun.elapsed();
            if worked < SLICE {
                return !self.signal.is_stopping();
            }
            let goes_on = match rest {
                0 => !self.signal.is_stopping(),
                _ => self.signal.rest(worked * rest),
            };
            begun = Instant::now();
            goes_on && self.free_bytes().is_ok_and(|free| free >= ROOM_BYTES)
        };
        let mut rewriter = Rewriter {
            log: &self.log,
            index: &self.index,
            poison: &self.poison,
            floors,
            pace: &mut pace,
        };
        let Some(done) = rewriter.rewrite(group)? else { return Ok(false) };
        state.volumes_done += group.len() as u64;
        state.rewritten.events_removed += done.events_removed;
        state.rewritten.bytes_before += done.bytes_before;
        state.rewritten.bytes_after += done.bytes_after;
        Ok(true)
    }

    /// Groups of adjacent ended volumes that should each become one.
    fn groups(&self, floors: &Floors, effort: Effort) -> Result<Vec<Vec<Link>>, StorageError> {
        let mut groups: Vec<Vec<Link>> = Vec::new();
        let mut group: Vec<Link> = Vec::new();
        let chain = self.log.chain();
        let mut bytes = 0;
        for link in chain.links().iter().filter(|link| link.until != Position::MAX) {
            let begin = group.first().map_or(link.after, |first| first.after);
            let Some(volume) = &link.volume else {
                groups.push(std::mem::take(&mut group));
                bytes = 0;
                continue;
            };
            let record = volume.record()?;
            bytes += record.log_bytes + record.index_bytes;
            if link.until.since(begin) > self.volume_events || bytes > VOLUME_LIVE_BYTES {
                groups.push(std::mem::take(&mut group));
                bytes = record.log_bytes + record.index_bytes;
            }
            group.push(link.clone());
        }
        groups.push(group);
        let mut wanted = Vec::new();
        for group in groups {
            if group.len() > 1 || self.is_worth_it(&group, floors, effort)? {
                wanted.push(group);
            }
        }
        Ok(wanted)
    }

    fn is_worth_it(
        &self,
        group: &[Link],
        floors: &Floors,
        effort: Effort,
    ) -> Result<bool, StorageError> {
        let Some(link) = group.first() else { return Ok(false) };
        let Some(volume) = &link.volume else { return Ok(false) };
        if !volume.record()?.dense {
            return Ok(true);
        }
        let span = Span { after: link.after, until: link.until };
        let (held, kept) = self.held_and_kept(span, floors)?;
        let gone = held.saturating_sub(kept);
        Ok(match effort {
            Effort::Worthwhile => gone * 100 >= held.max(1) * GONE_PERCENT,
            Effort::Everything => gone > 0,
        })
    }

    /// Whether the disk has room for what a group becomes, before what it was is deleted.
    fn has_room_for(&self, group: &[Link], floors: &Floors) -> Result<bool, StorageError> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(true) };
        let span = Span { after: first.after, until: last.until };
        let (held, kept) = self.held_and_kept(span, floors)?;
        if kept == 0 {
            return Ok(true);
        }
        let mut bytes = 0;
        for volume in group.iter().filter_map(|link| link.volume.as_ref()) {
            let record = volume.record()?;
            bytes += record.log_bytes + record.index_bytes;
        }
        let bytes = bytes * kept / held.max(1);
        // Half as much again for what the embedded store keeps beside it.
        Ok(self.free_bytes()? >= ROOM_BYTES + bytes + bytes / 2)
    }

    /// How many events a span's segments hold, and how many of them are above the floors.
    fn held_and_kept(&self, span: Span, floors: &Floors) -> Result<(u64, u64), StorageError> {
        let (mut held, mut kept) = (0, 0);
        let (floors, tagged) = (Arc::new(floors.clone()), Tagged::Included);
        let query = Query { floors, tagged, ..Query::default() };
        for segment in self.index.segments_in(span) {
            held += segment.datasets().map(|it| it.1.events).sum::<u64>();
            kept += segment.count(&query, span)?;
        }
        Ok((held, kept))
    }
}
