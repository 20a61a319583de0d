//! What survives of a subscription, as rows of the table.
//!
//! `[kind][number: u32][part][rest of the part's key]`, a part for each kind of row. A commit group writes the
//! rows that its notes are about, and nothing else.

use std::collections::BTreeSet;

use bytes::BufMut;
use prost::Message;

use crate::{
    delivery::{Durable, Note, PositionSet, Saved, Skip},
    model::{Position, Timestamp},
    storage::{
        Row, RowChange, StorageError,
        pb::{SkipRecord, SkipsRecord, SnapshotRecord, SubscriptionStateRecord},
        table_kind,
    },
    store::subscription::{
        Subscription,
        codec::{attempts_of, attempts_record, micros, parked_of, parked_record},
    },
};

/// Part: settings. Nothing follows.
const SETTINGS: u8 = 0;
/// Part: generation, floor, totals. Nothing follows.
const STATE: u8 = 1;
/// Part: `[chunk: u64]` → bits of the positions that are done above the floor, as of [`PositionSet::bits`].
const DONE: u8 = 2;
/// Part: `[position: u64]` → failed attempts.
const ATTEMPTS: u8 = 3;
/// Part: `[position: u64]` → a parked event.
const PARKED: u8 = 4;
/// Part: `[name]` → a snapshot.
const SNAPSHOT: u8 = 5;
/// Part: `[name][0][chunk: u64]` → bits of the positions that were done above its floor.
const SNAPSHOT_DONE: u8 = 6;
/// Part: the last skips. Nothing follows.
const SKIPS: u8 = 7;

/// Key of the last number that a subscription got; 0 is nobody's.
pub(crate) fn last_number_key() -> Vec<u8> {
    vec![table_kind::SUBSCRIPTION, 0, 0, 0, 0]
}

/// The number and the rest of a key.
pub(crate) fn split_key(key: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = key.strip_prefix(&[table_kind::SUBSCRIPTION])?.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

/// The rows of one subscription that are written.
#[derive(Debug)]
pub(crate) struct Rows {
    number: u32,
    /// Keys, but for settings and state, which are always there.
    written: BTreeSet<Vec<u8>>,
}

impl Rows {
    pub(crate) fn new(number: u32) -> Self {
        Self { number, written: BTreeSet::new() }
    }

    fn key(&self, part: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(6 + rest.len());
        key.push(table_kind::SUBSCRIPTION);
        key.extend_from_slice(&self.number.to_be_bytes());
        key.push(part);
        key.extend_from_slice(rest);
        key
    }

    /// The key of a row that has a number; on the stack, since most are only looked for.
    fn numbered(&self, part: u8, number: u64) -> [u8; 14] {
        let mut key = [0; 14];
        let mut to = key.as_mut_slice();
        to.put_u8(table_kind::SUBSCRIPTION);
        to.put_u32(self.number);
        to.put_u8(part);
        to.put_u64(number);
        key
    }

    pub(crate) fn settings(&self, subscription: &Subscription) -> RowChange {
        RowChange::put(self.key(SETTINGS, &[]), subscription.record().encode_to_vec())
    }

    /// The rows that notes have changed, as they are now.
    pub(crate) fn write(&mut self, durable: &Durable, notes: &[Note], to: &mut Vec<RowChange>) {
        if notes.is_empty() {
            return;
        }
        let mut keys = BTreeSet::new();
        for note in notes {
            self.touched(durable, note, &mut keys);
        }
        // What the floor has passed.
        let floor_chunk = PositionSet::chunk_of(durable.floor);
        let passed = [(DONE, floor_chunk), (ATTEMPTS, durable.floor.get())];
        for (part, end) in passed {
            let (begin, end) = (self.key(part, &[]), self.key(part, &end.to_be_bytes()));
            keys.extend(self.written.range(begin..=end).cloned());
        }
        to.push(RowChange::put(self.key(STATE, &[]), state_record(durable).encode_to_vec()));
        for key in keys {
            match Self::value(durable, &key) {
                Some(value) => {
                    self.written.insert(key.clone());
                    to.push(RowChange::put(key, value));
                }
                None if self.written.remove(&key) => to.push(RowChange::remove(key)),
                None => {}
            }
        }
    }

    /// All rows go.
    pub(crate) fn delete(&mut self, to: &mut Vec<RowChange>) {
        let keys = std::mem::take(&mut self.written);
        let always = [self.key(SETTINGS, &[]), self.key(STATE, &[])];
        to.extend(keys.into_iter().chain(always).map(RowChange::remove));
    }

    fn touched(&self, durable: &Durable, note: &Note, keys: &mut BTreeSet<Vec<u8>>) {
        let mut of = |part: u8, number: u64| {
            let key = self.numbered(part, number);
            // Most events have neither failed attempts nor been parked.
            let is_or_was = match part {
                ATTEMPTS => durable.attempts.contains_key(&Position::new(number)),
                PARKED => durable.parked.contains_key(&Position::new(number)),
                _ => true,
            } || self.written.contains(key.as_slice());
            if is_or_was && !keys.contains(key.as_slice()) {
                keys.insert(key.to_vec());
            }
        };
        match note {
            Note::Failed { position, .. } => {
                of(ATTEMPTS, position.get());
                of(PARKED, position.get());
            }
            Note::Resolved(position)
            | Note::Skipped { position, .. }
            | Note::Parked { position, .. }
            | Note::Replayed { position, .. }
            | Note::Discarded(position) => {
                of(DONE, PositionSet::chunk_of(*position));
                of(ATTEMPTS, position.get());
                of(PARKED, position.get());
            }
            Note::Floor(_) | Note::Generation(_) => {}
            Note::Saved { name, .. } => {
                keys.insert(self.key(SNAPSHOT, name.as_bytes()));
                if let Some(saved) = durable.saved.get(name) {
                    keys.extend(saved.resolved.chunks().map(|it| self.saved_key(name, it)));
                }
            }
            Note::Forgotten(name) => {
                keys.insert(self.key(SNAPSHOT, name.as_bytes()));
            }
            // Everything, written before or to be written.
            Note::Sought { .. } => {
                durable.resolved.chunks().for_each(|it| of(DONE, it));
                keys.extend(self.written.iter().cloned());
            }
        }
        if let Note::Saved { name, .. } | Note::Forgotten(name) = note {
            let prefix = self.saved_prefix(name);
            let old = self.written.range(prefix.clone()..);
            keys.extend(old.take_while(|it| it.starts_with(&prefix)).cloned());
        }
        if matches!(note, Note::Skipped { .. } | Note::Sought { .. }) {
            keys.insert(self.key(SKIPS, &[]));
        }
    }

    fn saved_prefix(&self, name: &str) -> Vec<u8> {
        let mut prefix = self.key(SNAPSHOT_DONE, name.as_bytes());
        prefix.push(0);
        prefix
    }

    fn saved_key(&self, name: &str, chunk: u64) -> Vec<u8> {
        let mut key = self.saved_prefix(name);
        key.extend_from_slice(&chunk.to_be_bytes());
        key
    }

    /// What a row should be; `None`: not there.
    fn value(durable: &Durable, key: &[u8]) -> Option<Vec<u8>> {
        let (_, rest) = split_key(key)?;
        let (part, rest) = rest.split_first()?;
        let number = || Some(u64::from_be_bytes(rest.try_into().ok()?));
        match *part {
            DONE => durable.resolved.bits(number()?).map(<[u8]>::to_vec),
            ATTEMPTS => {
                let attempts = durable.attempts.get(&Position::new(number()?))?;
                Some(attempts_record(attempts).encode_to_vec())
            }
            PARKED => {
                let parked = durable.parked.get(&Position::new(number()?))?;
                Some(parked_record(parked).encode_to_vec())
            }
            SNAPSHOT => {
                let Saved { at, floor, .. } = durable.saved.get(str::from_utf8(rest).ok()?)?;
                let (time_us, floor) = (at.micros(), floor.get());
                Some(SnapshotRecord { time_us, floor }.encode_to_vec())
            }
            SNAPSHOT_DONE => {
                let (name, chunk) = snapshot_key(rest)?;
                durable.saved.get(name)?.resolved.bits(chunk).map(<[u8]>::to_vec)
            }
            SKIPS => {
                let skips = durable.skips.iter().map(|it| SkipRecord {
                    from: it.from.get(),
                    to: it.to.get(),
                    time_us: it.at.micros(),
                    consumer: it.consumer.to_string(),
                    reason: it.reason.to_string(),
                });
                Some(SkipsRecord { skips: skips.collect() }.encode_to_vec())
            }
            _ => None,
        }
    }

    /// Takes up a row that was found; one of the settings is given back.
    pub(crate) fn read<'a>(
        &mut self,
        (key, value): &'a Row,
        durable: &mut Durable,
    ) -> Result<Option<&'a [u8]>, StorageError> {
        let unknown = || StorageError::corrupt("a row of a subscription is of no known kind");
        let (_, rest) = split_key(key).ok_or_else(unknown)?;
        let (part, rest) = rest.split_first().ok_or_else(unknown)?;
        let number = || -> Result<u64, StorageError> {
            Ok(u64::from_be_bytes(rest.try_into().map_err(|_length| unknown())?))
        };
        match *part {
            SETTINGS => return Ok(Some(value)),
            STATE => {
                let state = decode::<SubscriptionStateRecord>(value)?;
                durable.generation = state.generation;
                durable.floor = Position::new(state.floor);
                durable.resolved_total = state.resolved_total;
                durable.failed_total = state.failed_total;
                durable.discarded_total = state.discarded_total;
                return Ok(None);
            }
            DONE => durable.resolved.add_bits(number()?, value),
            ATTEMPTS => {
                let attempts = attempts_of(decode(value)?);
                durable.attempts.insert(Position::new(number()?), attempts);
            }
            PARKED => {
                durable.parked.insert(Position::new(number()?), parked_of(decode(value)?));
            }
            SNAPSHOT => {
                let record: SnapshotRecord = decode(value)?;
                let name = str::from_utf8(rest).map_err(|_not_text| unknown())?;
                let (at, floor) = (micros(record.time_us), Position::new(record.floor));
                let resolved = PositionSet::default();
                durable.saved.insert(name.into(), Saved { at, floor, resolved });
            }
            // After all snapshots, and a snapshot's chunks in order.
            SNAPSHOT_DONE => {
                let (name, chunk) = snapshot_key(rest).ok_or_else(unknown)?;
                let saved = durable.saved.get_mut(name).ok_or_else(unknown)?;
                saved.resolved.add_bits(chunk, value);
            }
            SKIPS => {
                let record: SkipsRecord = decode(value)?;
                durable.skips = record.skips.into_iter().map(skip_of).collect();
            }
            _ => return Err(unknown()),
        }
        self.written.insert(key.to_vec());
        Ok(None)
    }
}

fn snapshot_key(rest: &[u8]) -> Option<(&str, u64)> {
    let (name, chunk) = rest.split_last_chunk()?;
    let name = name.strip_suffix(&[0])?;
    Some((str::from_utf8(name).ok()?, u64::from_be_bytes(*chunk)))
}

pub(crate) fn decode<T: Message + Default>(value: &[u8]) -> Result<T, StorageError> {
    T::decode(value).map_err(|error| {
        StorageError::corrupt(format!("a row of a subscription cannot be read: {error}"))
    })
}

fn state_record(durable: &Durable) -> SubscriptionStateRecord {
    SubscriptionStateRecord {
        generation: durable.generation,
        floor: durable.floor.get(),
        resolved_total: durable.resolved_total,
        failed_total: durable.failed_total,
        discarded_total: durable.discarded_total,
    }
}

fn skip_of(record: SkipRecord) -> Skip {
    Skip {
        from: Position::new(record.from),
        to: Position::new(record.to),
        at: Timestamp::from_micros(record.time_us),
        consumer: record.consumer.into(),
        reason: record.reason.into(),
    }
}
