//! From the journal to the volume: the thread that packs fresh runs into blocks, writes full index
//! tails as segments, and begins a new volume when one is full.
//!
//! It also moves changes of the table to disk. What it has written and synced is not needed in the journal any more. A kill at any moment loses
//! nothing: what the volume lacks is still in the journal.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    model::Position,
    storage::{
        StorageError,
        block::RawRecord,
        disk::Poison,
        index::{Index, Part as _},
        journal::{Holds, Journal},
        log::Log,
        table::Table,
        volume::{Volume, slot_last},
        writer::VolumeWriter,
    },
};

/// Raw bytes after which a block is closed before its slot is full: large events.
const BLOCK_RAW_BYTES_MAX: usize = 256 * 1024;
/// Raw bytes packed before they are made durable and the journal is freed.
const SYNC_RAW_BYTES: u64 = 4 * 1024 * 1024;
/// Unpacked bytes that wake the packer: a block or two.
const WAKE_BYTES: u64 = 128 * 1024;
/// Bytes of blocks and index in a volume before the next one is begun, however few its events: what is
/// rewritten at a time.
pub(crate) const VOLUME_LIVE_BYTES: u64 = 512 * 1024 * 1024;
/// A volume is full when its files take more than this and more than `GARBAGE_FACTOR` times what
/// they hold: sled keeps old pages, and loses space with every kill.
const VOLUME_DISK_BYTES_MIN: u64 = 64 * 1024 * 1024;
const GARBAGE_FACTOR: u64 = 4;
/// How the packer is told what to do.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<SignalState>,
    wake: Condvar,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "what was asked for, and what has become of it")]
struct SignalState {
    work: bool,
    /// Begin a new volume as soon as there is something in this one.
    roll: bool,
    stopping: bool,
    ended: bool,
}

impl Signal {
    /// There is work.
    pub(crate) fn wake(&self) {
        self.lock().work = true;
        self.wake.notify_all();
    }

    /// Begins a new volume once all of the log up to now is packed.
    pub(crate) fn roll(&self) {
        let mut state = self.lock();
        (state.work, state.roll) = (true, true);
        self.wake.notify_all();
    }

    /// Lets those look again who wait for the packer.
    fn tell(&self) {
        drop(self.lock());
        self.wake.notify_all();
    }

    /// Lets the packer end.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_all();
    }

    /// Waits for a while; false as soon as it is time to end.
    pub(crate) fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.stopping || left.is_zero() {
                return !state.stopping;
            }
            let woken = self.wake.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits until `done` holds; false when the packer has ended and it will not.
    pub(crate) fn wait_until(&self, done: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        loop {
            if done() {
                return true;
            }
            if state.ended || state.stopping {
                return false;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, SignalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the packer should be told of what is unpacked now.
pub(crate) fn is_worth_waking(unpacked_bytes: u64) -> bool {
    unpacked_bytes >= WAKE_BYTES
}

/// The packer.
pub(crate) struct Packer<'a> {
    log: &'a Log,
    index: &'a Index,
    journal: &'a Journal,
    table: &'a Table,
    poison: &'a Arc<Poison>,
    signal: &'a Signal,
    /// Positions of a volume.
    volume_events: u64,
    /// Where the volume must end; `START`: when it is full.
    roll_at: Position,
    writing: Option<VolumeWriter>,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(
        log: &'a Log,
        index: &'a Index,
        journal: &'a Journal,
        table: &'a Table,
        poison: &'a Arc<Poison>,
        signal: &'a Signal,
        volume_events: u64,
    ) -> Self {
        let (roll_at, writing) = (Position::START, None);
        Self { log, index, journal, table, poison, signal, volume_events, roll_at, writing }
    }

    /// Works until told to stop. A failure poisons the store.
    pub(crate) fn run(&mut self) {
        loop {
            let (roll, stopping) = {
                let mut state = self.signal.lock();
                while !state.work && !state.stopping {
                    state = self.signal.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.work = false;
                (std::mem::take(&mut state.roll), state.stopping)
            };
            let outcome = self.poison.watch(self.work(roll));
            if stopping || outcome.is_err() {
                break;
            }
            self.signal.tell();
        }
        self.journal.stop();
        self.signal.lock().ended = true;
        self.signal.wake.notify_all();
    }

    /// Does all there is to do now.
    pub(crate) fn work(&mut self, roll: bool) -> Result<(), StorageError> {
        self.poison.check()?;
        if roll {
            self.roll_at = self.index.freeze();
        }
        while self.step()? {}
        // Idle: what is packed need not stay in the journal.
        self.sync(false)
    }

    /// Packs what is complete, up to the end of a full index tail; false when there was nothing.
    fn step(&mut self) -> Result<bool, StorageError> {
        // Read in this order: a tail is frozen before its last run is added to the log, so a tail
        // that must be the end of a volume is seen before anything after it.
        let newest = self.log.newest();
        let Some(tail) = self.index.first_frozen().filter(|it| it.span().until <= newest) else {
            let begun = self.log.packed();
            let ends = self.roll_at >= begun.next() || (self.roll_at == begun && begun == newest);
            let ends = ends && self.index.checkpoint() >= self.roll_at;
            self.pack(if ends { self.roll_at } else { newest }, ends)?;
            if ends {
                self.roll()?;
            }
            return Ok(self.log.packed() > begun);
        };
        let end = tail.span().until;
        let (roll_at, events) = (self.roll_at, self.volume_events);
        // After a kill the log may be packed further than a tail that was made again: what is behind the
        // tail has no segment yet, so no volume ends there.
        let ends = self.log.packed() <= end;
        let full = ends && (end == roll_at || is_full(self.writing()?, end, events));
        self.pack(end, full)?;
        let writing = self.writing()?;
        let segment = writing.volume.write_segment(&tail)?;
        writing.record.index_bytes += segment.stored_bytes();
        self.index.seal(segment)?;
        self.signal.tell();
        tracing::debug!(until = %end, "index segment written");
        if full {
            self.roll()?;
        }
        Ok(true)
    }

    /// Packs up to `limit`, whole slots only unless forced.
    fn pack(&mut self, limit: Position, force: bool) -> Result<(), StorageError> {
        loop {
            let first = self.log.packed().next();
            if first > limit {
                return Ok(());
            }
            let last = slot_last(first).min(limit);
            let runs = self.log.fresh_runs(first, last);
            let mut records: Vec<RawRecord<'_>> = Vec::with_capacity(64);
            let mut raw = 0;
            let mut position = first;
            for run in &runs {
                while position <= last && raw < BLOCK_RAW_BYTES_MAX {
                    let Some(record) = run.raw(position) else { break };
                    raw += record.bytes.len();
                    records.push(record);
                    position = position.next();
                }
            }
            let whole = position > slot_last(first) || raw >= BLOCK_RAW_BYTES_MAX;
            if records.is_empty() || !(whole || force) {
                return Ok(());
            }
            let writing = self.writing()?;
            writing.pack(first, &records)?;
            self.log.set_packed(position.previous());
            if self.writing()?.unsynced_raw >= SYNC_RAW_BYTES {
                self.sync(true)?;
            }
        }
    }

    /// Makes what is packed or has gathered in the table durable, and frees the journal.
    fn sync(&mut self, anyway: bool) -> Result<(), StorageError> {
        let packed = self.log.packed();
        let newest = self.log.newest();
        let long = self.journal.is_long();
        let oldest = self.journal.oldest();
        let writing = self.writing()?;
        let syncs = writing.unsynced_raw > 0 && (anyway || long);
        if syncs {
            writing.sync(newest)?;
        }
        let holds_up =
            |oldest: Holds| oldest.records <= packed && oldest.changes > self.table.kept();
        let moves = self.table.is_worth_moving() || oldest.is_some_and(holds_up);
        if moves {
            self.table.move_to_disk()?;
        }
        if syncs || moves { self.release(packed) } else { Ok(()) }
    }

    fn release(&self, packed: Position) -> Result<(), StorageError> {
        self.journal.release(&Holds { records: packed, changes: self.table.kept() })
    }

    /// Begins a new volume after what is packed.
    fn roll(&mut self) -> Result<(), StorageError> {
        let until = self.log.packed();
        let newest = self.log.newest();
        let writing = self.writing()?;
        if until == writing.volume.after {
            self.roll_at = Position::START;
            return Ok(());
        }
        writing.sync(newest)?;
        let poison = Arc::clone(self.poison);
        self.log.change_chain(|chain, directory| {
            let number = chain.take_number();
            chain.roll(until, Volume::open(directory, number, until, poison)?);
            Ok(())
        })?;
        self.writing = None;
        self.roll_at = Position::START;
        self.release(until)
    }

    /// Notes how far the log has come, for an orderly end.
    pub(crate) fn close(&mut self) -> Result<(), StorageError> {
        let newest = self.log.newest();
        self.writing()?.sync(newest)?;
        self.table.move_to_disk()
    }

    fn writing(&mut self) -> Result<&mut VolumeWriter, StorageError> {
        let writing = match self.writing.take() {
            Some(writing) => writing,
            None => VolumeWriter::new(self.log.active()?)?,
        };
        Ok(self.writing.insert(writing))
    }
}

/// Whether a volume should end at `end`.
fn is_full(writer: &VolumeWriter, end: Position, events: u64) -> bool {
    let live = writer.record.log_bytes + writer.record.index_bytes;
    end.since(writer.volume.after) >= events
        || live >= VOLUME_LIVE_BYTES
        || writer.volume.disk_bytes() > VOLUME_DISK_BYTES_MIN.max(GARBAGE_FACTOR * live)
}

#[cfg(test)]
mod tests;
