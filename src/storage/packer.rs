//! From the journal to the volume: the thread that packs fresh runs into blocks, writes full index
//! tails as segments, and begins a new volume when one is full.
//!
//! What it has written and synced is not needed in the journal any more. A kill at any moment loses
//! nothing: what the volume lacks is still in the journal.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{
    model::Position,
    storage::{
        StorageError,
        block::RawRecord,
        codec::{self, FrameCompressor},
        disk::Poison,
        index::{self, Index, Part as _},
        journal::Journal,
        log::Log,
        packed,
        pb::VolumeRecord,
        volume::{ROW_BYTES_MAX, Volume, slot_last},
    },
};

/// Raw bytes after which a block is closed before its slot is full: large events.
const BLOCK_RAW_BYTES_MAX: usize = 256 * 1024;
/// Raw bytes packed before they are made durable and the journal is freed.
const SYNC_RAW_BYTES: u64 = 4 * 1024 * 1024;
/// Unpacked bytes that wake the packer: a block or two.
const WAKE_BYTES: u64 = 128 * 1024;
/// A volume is full when its files take more than this and more than `GARBAGE_FACTOR` times what
/// they hold: sled keeps old pages, and loses space with every kill.
const VOLUME_DISK_BYTES_MIN: u64 = 64 * 1024 * 1024;
const GARBAGE_FACTOR: u64 = 4;
/// Records that a dictionary is made from.
const SAMPLES_MAX: usize = 128;
const SAMPLES_MIN: usize = 8;
/// A sample's bytes that count.
const SAMPLE_BYTES_MAX: usize = 8 * 1024;
/// Events between two attempts to make a better dictionary.
const DICTIONARY_EVENTS_MIN: u64 = 8 * 1024;
/// A dictionary is replaced when blocks have become this much larger than its first one, in
/// hundredths of their raw bytes.
const WORSE_PERCENT: u64 = 5;
/// Dictionaries of one volume; they are kept in memory.
const DICTIONARIES_MAX: u32 = 64;

/// How the packer is told what to do.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<SignalState>,
    wake: Condvar,
}

#[derive(Default)]
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
    poison: &'a Arc<Poison>,
    signal: &'a Signal,
    /// Positions of a volume.
    volume_events: u64,
    /// Where the volume must end; `START`: when it is full.
    roll_at: Position,
    writing: Option<Writing>,
}

/// The volume that is being written.
pub(crate) struct Writing {
    volume: Arc<Volume>,
    record: VolumeRecord,
    compressor: FrameCompressor,
    /// Of the compressor; 0: none yet.
    dictionary: u32,
    /// Stored bytes of the dictionary's first block, in hundredths of raw.
    first_percent: Option<u64>,
    worse: bool,
    events_since_training: u64,
    unsynced_raw: u64,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(
        log: &'a Log,
        index: &'a Index,
        journal: &'a Journal,
        poison: &'a Arc<Poison>,
        signal: &'a Signal,
        volume_events: u64,
    ) -> Self {
        let (roll_at, writing) = (Position::START, None);
        Self { log, index, journal, poison, signal, volume_events, roll_at, writing }
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
            let ends = self.roll_at == newest && self.index.checkpoint() == newest;
            let begun = self.log.packed();
            self.pack(newest, ends)?;
            if ends {
                self.roll()?;
            }
            return Ok(self.log.packed() > begun);
        };
        let end = tail.span().until;
        let (roll_at, events) = (self.roll_at, self.volume_events);
        let full = end == roll_at || self.writing()?.is_full(end, events);
        self.pack(end, full)?;
        let writing = self.writing()?;
        let segment = index::write_segment(writing.volume.index(), &tail)?;
        self.index.seal(segment);
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
            writing.pack(first, &records, raw)?;
            self.log.set_packed(position.previous());
            if self.writing()?.unsynced_raw >= SYNC_RAW_BYTES {
                self.sync(true)?;
            }
        }
    }

    /// Makes what is packed durable and frees the journal.
    fn sync(&mut self, anyway: bool) -> Result<(), StorageError> {
        let packed = self.log.packed();
        let newest = self.log.newest();
        let journal = self.journal;
        let writing = self.writing()?;
        if writing.unsynced_raw == 0 || (!anyway && journal.figures().files <= 2) {
            return Ok(());
        }
        writing.record.reached = newest.get();
        writing.volume.sync(&writing.record)?;
        writing.unsynced_raw = 0;
        self.journal.release(packed)
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
        writing.record.reached = newest.get();
        writing.volume.sync(&writing.record)?;
        let poison = Arc::clone(self.poison);
        self.log.change_chain(|chain, directory| {
            let number = chain.take_number();
            chain.roll(until, Volume::open(directory, number, until, poison)?);
            Ok(())
        })?;
        self.writing = None;
        self.roll_at = Position::START;
        self.journal.release(until)
    }

    /// Notes how far the log has come, for an orderly end.
    pub(crate) fn close(&mut self) -> Result<(), StorageError> {
        let newest = self.log.newest();
        let writing = self.writing()?;
        writing.record.reached = newest.get();
        writing.volume.sync(&writing.record)
    }

    fn writing(&mut self) -> Result<&mut Writing, StorageError> {
        let writing = match self.writing.take() {
            Some(writing) => writing,
            None => Writing::new(self.log.active()?)?,
        };
        Ok(self.writing.insert(writing))
    }
}

impl Writing {
    fn new(volume: Arc<Volume>) -> Result<Self, StorageError> {
        let record = volume.record()?;
        let (dictionary, compressor) = match volume.last_dictionary()? {
            Some((number, bytes)) => (number, FrameCompressor::new(&bytes)?),
            None => (0, FrameCompressor::new(&[])?),
        };
        Ok(Self {
            volume,
            record,
            compressor,
            dictionary,
            first_percent: None,
            worse: dictionary == 0,
            events_since_training: DICTIONARY_EVENTS_MIN,
            unsynced_raw: 0,
        })
    }

    /// Whether the volume should end at `end`.
    fn is_full(&self, end: Position, events: u64) -> bool {
        let live = self.record.log_bytes + self.record.index_bytes;
        end.since(self.volume.after) >= events
            || self.volume.disk_bytes() > VOLUME_DISK_BYTES_MIN.max(GARBAGE_FACTOR * live)
    }

    fn pack(
        &mut self,
        first: Position,
        records: &[RawRecord<'_>],
        raw: usize,
    ) -> Result<(), StorageError> {
        if self.worse && self.events_since_training >= DICTIONARY_EVENTS_MIN {
            self.train(records)?;
        }
        let made =
            packed::pack(first, records, self.dictionary, &mut self.compressor, ROW_BYTES_MAX);
        let (header, bytes) = made?;
        self.volume.put(&header, &bytes)?;
        let percent = (bytes.len() as u64 * 100).checked_div(raw as u64).unwrap_or(0);
        let first_percent = *self.first_percent.get_or_insert(percent);
        self.worse |= percent > first_percent + WORSE_PERCENT;
        self.events_since_training += records.len() as u64;
        self.record.log_bytes += bytes.len() as u64;
        self.unsynced_raw += raw as u64;
        Ok(())
    }

    /// Makes a dictionary from the records about to be packed.
    fn train(&mut self, records: &[RawRecord<'_>]) -> Result<(), StorageError> {
        self.events_since_training = 0;
        let samples: Vec<_> = records
            .iter()
            .filter(|record| !record.bytes.is_empty())
            .map(|it| it.bytes.get(..SAMPLE_BYTES_MAX.min(it.bytes.len())).unwrap_or_default())
            .take(SAMPLES_MAX)
            .collect();
        if samples.len() < SAMPLES_MIN || self.dictionary >= DICTIONARIES_MAX {
            return Ok(());
        }
        if let Some(dictionary) = codec::train(&samples) {
            self.dictionary = self.volume.add_dictionary(&dictionary)?;
            self.compressor = FrameCompressor::new(&dictionary)?;
            self.worse = false;
            self.first_percent = None;
            tracing::debug!(number = self.dictionary, samples = samples.len(), "dictionary made");
        }
        Ok(())
    }
}
