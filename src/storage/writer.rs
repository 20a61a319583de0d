//! Writes packed blocks into a volume, with a dictionary that it makes and replaces.

use std::sync::Arc;

use crate::{
    model::Position,
    storage::{
        StorageError,
        block::RawRecord,
        codec::{self, FrameCompressor},
        packed::{self, Header, PackedBlock},
        pb::VolumeRecord,
        tree::OnceWriter,
        volume::{ROW_BYTES_MAX, Volume},
    },
};

/// Records that a dictionary is made from.
const SAMPLES: usize = 128;
/// A sample's bytes that count.
const SAMPLE_BYTES_MAX: usize = 8 * 1024;
/// Events between two attempts to make a better dictionary.
const DICTIONARY_EVENTS_MIN: u64 = 8 * 1024;
/// A dictionary is replaced when blocks have become this much larger than its first one, in
/// hundredths of their raw bytes.
const WORSE_PERCENT: u64 = 5;
/// Dictionaries of one volume; they are kept in memory.
const DICTIONARIES_MAX: u32 = 64;

/// A volume that is being written.
pub(crate) struct VolumeWriter {
    pub(crate) volume: Arc<Volume>,
    /// Becomes durable with [`VolumeWriter::sync`].
    pub(crate) record: VolumeRecord,
    /// Raw bytes packed since the last sync.
    pub(crate) unsynced_raw: u64,
    compressor: FrameCompressor,
    /// Of the compressor; 0: none yet.
    dictionary: u32,
    /// Stored bytes of the dictionary's first block, in hundredths of raw.
    first_percent: Option<u64>,
    worse: bool,
    events_since_training: u64,
    /// Records for the next dictionary.
    samples: Vec<Vec<u8>>,
    /// Only for a volume that does not count before it is whole.
    once: Option<OnceWriter>,
}

impl VolumeWriter {
    /// Goes on with a volume.
    pub(crate) fn new(volume: Arc<Volume>) -> Result<Self, StorageError> {
        let record = volume.record()?;
        let (dictionary, compressor) = match volume.dictionaries.all()?.pop_last() {
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
            samples: Vec::new(),
            unsynced_raw: 0,
            once: None,
        })
    }

    /// Begins a volume that does not count before [`VolumeWriter::finish`]: a crash leaves debris.
    pub(crate) fn whole(volume: Arc<Volume>) -> Result<Self, StorageError> {
        let once = Some(volume.once_writer());
        Ok(Self { once, ..Self::new(volume)? })
    }

    /// Packs records at consecutive positions into a block.
    pub(crate) fn pack(
        &mut self,
        first: Position,
        records: &[RawRecord<'_>],
    ) -> Result<(), StorageError> {
        if self.worse && self.events_since_training >= DICTIONARY_EVENTS_MIN {
            self.train(records)?;
        }
        let made =
            packed::pack(first, records, self.dictionary, &mut self.compressor, ROW_BYTES_MAX);
        let (header, bytes) = made?;
        let raw = records.iter().map(|record| record.bytes.len() as u64).sum::<u64>();
        self.put(&header, &bytes)?;
        let percent = (bytes.len() as u64 * 100).checked_div(raw).unwrap_or(0);
        let first_percent = *self.first_percent.get_or_insert(percent);
        self.worse |= percent > first_percent + WORSE_PERCENT;
        self.events_since_training += records.len() as u64;
        self.unsynced_raw += raw;
        Ok(())
    }

    /// Takes over a block as it is; its dictionary must be here under the same number.
    pub(crate) fn copy(&mut self, block: &PackedBlock) -> Result<(), StorageError> {
        self.put(&block.header, block.bytes())?;
        self.unsynced_raw += block.bytes().len() as u64;
        Ok(())
    }

    fn put(&mut self, header: &Header, bytes: &[u8]) -> Result<(), StorageError> {
        self.record.log_bytes += bytes.len() as u64;
        match &mut self.once {
            Some(once) => self.volume.put_once(once, header, bytes),
            None => self.volume.put(header, bytes),
        }
    }

    /// Writes what is left of the blocks of a volume that is begun with [`VolumeWriter::whole`].
    pub(crate) fn finish(&mut self) -> Result<(), StorageError> {
        self.once.take().map_or(Ok(()), |mut once| Ok(once.finish()?))
    }

    /// Makes everything written so far durable; the log has come as far as `reached`.
    pub(crate) fn sync(&mut self, reached: Position) -> Result<(), StorageError> {
        self.record.reached = reached.get();
        self.volume.sync(&self.record)?;
        self.unsynced_raw = 0;
        Ok(())
    }

    /// Collects samples among the records about to be packed, and makes a dictionary once there are
    /// enough of them.
    fn train(&mut self, records: &[RawRecord<'_>]) -> Result<(), StorageError> {
        let samples = records.iter().filter(|record| !record.bytes.is_empty());
        let samples = samples
            .map(|it| it.bytes.get(..SAMPLE_BYTES_MAX.min(it.bytes.len())).unwrap_or_default());
        self.samples.extend(samples.take(SAMPLES - self.samples.len()).map(<[u8]>::to_vec));
        if self.samples.len() < SAMPLES || self.dictionary >= DICTIONARIES_MAX {
            return Ok(());
        }
        self.events_since_training = 0;
        let samples = std::mem::take(&mut self.samples);
        if let Some(dictionary) = codec::train(&samples) {
            let last = self.volume.dictionaries.all()?.into_keys().next_back();
            self.dictionary = last.unwrap_or(0) + 1;
            self.volume.dictionaries.put(self.dictionary, &dictionary)?;
            self.compressor = FrameCompressor::new(&dictionary)?;
            self.worse = false;
            self.first_percent = None;
            tracing::debug!(number = self.dictionary, "dictionary made");
        }
        Ok(())
    }
}
