//! What a commit group changes in the quarantine. Used by the sequencer alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    model::{Timestamp, limits},
    storage::{
        RowChange, Storage,
        pb::{QuarantineGroupRecord, QuarantineRecord, QuarantineTotalsRecord, ViolationRecord},
    },
    store::{
        Error, EventFault,
        quarantine::{
            Quarantine, QuarantineQuota,
            chunks::Chunks,
            class::Fault,
            marks::{mark, mark_of},
            rows::{self, PART_BYTES},
        },
    },
};

/// Records that are taken away in one write: some milliseconds.
const AT_ONCE_MAX: usize = 500;

/// An event to set aside.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// As it was sent.
    pub(crate) payload: Bytes,
    /// Empty when it cannot be read.
    pub(crate) event_id: String,
    pub(crate) fault: EventFault,
}

/// Changes of the quarantine that are written together.
pub(crate) struct Ledger<'a> {
    storage: &'a Storage,
    quarantine: &'a Quarantine,
    now: Timestamp,
    totals: QuarantineTotalsRecord,
    /// `None` takes a row away.
    rows: BTreeMap<Vec<u8>, Option<Bytes>>,
    chunks: Chunks,
    /// Groups that change, over the rows; one that has no events left goes.
    groups: BTreeMap<Vec<u8>, QuarantineGroupRecord>,
    /// Records up to this key have been dropped for the quota.
    dropped_to: Option<Vec<u8>>,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(
        storage: &'a Storage,
        quarantine: &'a Quarantine,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let totals = match storage.row(&rows::totals())? {
            Some(bytes) => decode(&bytes)?,
            None => QuarantineTotalsRecord { next_id: 1, ..Default::default() },
        };
        let (rows, chunks, groups) = (BTreeMap::new(), Chunks::default(), BTreeMap::new());
        Ok(Self { storage, quarantine, now, totals, rows, chunks, groups, dropped_to: None })
    }

    /// Sets an event aside; its id. One that is there already is counted.
    pub(crate) fn add(
        &mut self,
        dataset: u32,
        schema: u32,
        schema_id: &str,
        refused: &Refused,
    ) -> Result<u64, Error> {
        let digest = digest(dataset, &refused.payload);
        let mark = mark(dataset, &refused.event_id, &digest);
        if let Some((id, mut record)) = self.find(mark, &digest)? {
            record.times_received = record.times_received.saturating_add(1);
            record.last_receive_time_us = self.now.micros();
            self.put(rows::record(id), &record);
            return Ok(id);
        }
        let id = self.totals.next_id;
        self.totals.next_id += 1;
        let fault = Fault::of(&refused.fault);
        let fingerprint = fault.fingerprint(schema_id);
        let violations: Vec<_> = violations(&refused.fault, &fault);
        let text = |it: &ViolationRecord| {
            it.instance_path.len() + it.message.len() + it.expected.len() + it.found.len()
        };
        let bytes = refused.payload.len() + violations.iter().map(text).sum::<usize>();
        let mut record = QuarantineRecord {
            dataset,
            schema,
            class: fault.class.number(),
            fingerprint,
            event_id: refused.event_id.clone(),
            receive_time_us: self.now.micros(),
            times_received: 1,
            last_receive_time_us: self.now.micros(),
            violations,
            payload: Bytes::new(),
            parts: 0,
            digest: digest.to_vec(),
            bytes: (bytes + limits::QUARANTINE_OVERHEAD_BYTES) as u64,
        };
        if refused.payload.len() <= PART_BYTES {
            record.payload = refused.payload.clone();
        } else {
            for (part, chunk) in (0..).zip(refused.payload.chunks(PART_BYTES)) {
                self.rows.insert(rows::payload(id, part), Some(Bytes::copy_from_slice(chunk)));
                record.parts = part + 1;
            }
        }
        self.totals.records += 1;
        self.totals.bytes += record.bytes;
        self.put(rows::record(id), &record);
        self.chunks.put_member(self.storage, (dataset, fingerprint), id, true)?;
        self.chunks.put_mark(self.storage, id, mark)?;
        self.quarantine.marks.add(mark, id);
        self.count(dataset, fingerprint, fault)?;
        self.keep_quota(id)?;
        Ok(id)
    }

    /// The id of the last event that was set aside, also if it has left since; 0 for none.
    pub(crate) fn newest(&self) -> u64 {
        self.totals.next_id - 1
    }

    /// Takes a record away; false when it is not there.
    pub(crate) fn remove(&mut self, id: u64) -> Result<bool, Error> {
        let Some(record) = self.record(id)? else { return Ok(false) };
        let (dataset, fingerprint) = (record.dataset, record.fingerprint);
        self.rows.insert(rows::record(id), None);
        for part in 0..record.parts {
            self.rows.insert(rows::payload(id, part), None);
        }
        self.chunks.put_member(self.storage, (dataset, fingerprint), id, false)?;
        self.chunks.put_mark(self.storage, id, 0)?;
        self.quarantine.marks.remove(mark_of(&record), id);
        self.totals.records = self.totals.records.saturating_sub(1);
        self.totals.bytes = self.totals.bytes.saturating_sub(record.bytes);
        let group = self.group(dataset, fingerprint)?;
        group.count = group.count.saturating_sub(1);
        Ok(true)
    }

    /// Drops what is too old, as much as one call may; whether there may be more.
    pub(super) fn expire(&mut self) -> Result<bool, Error> {
        let age = i64::try_from(self.quarantine.quota.age.as_micros()).unwrap_or(i64::MAX);
        let until = self.now.micros().saturating_sub(age);
        let oldest = self.storage.rows(&rows::records(), None, AT_ONCE_MAX)?;
        let more = oldest.len() == AT_ONCE_MAX;
        for (key, bytes) in oldest {
            let record: QuarantineRecord = decode(&bytes)?;
            if record.receive_time_us > until {
                return Ok(false);
            }
            if let Some(id) = rows::id_of(&key)
                && self.remove(id)?
            {
                self.totals.dropped += 1;
            }
        }
        Ok(more)
    }

    /// Takes away what was sent to a dataset, as much as one call may; whether there may be more.
    pub(super) fn forget_dataset(&mut self, dataset: u32) -> Result<bool, Error> {
        let members = self.storage.rows(&rows::members_of(dataset), None, AT_ONCE_MAX)?;
        let ids = members.iter().flat_map(|(key, chunk)| {
            let group = rows::group_of(key);
            rows::members_in(key, chunk).filter_map(move |id| Some((group?, id)))
        });
        let mut left = AT_ONCE_MAX;
        for (group, id) in ids.take(AT_ONCE_MAX) {
            if !self.remove(id)? {
                self.chunks.put_member(self.storage, group, id, false)?; // its record was lost
            }
            left -= 1;
        }
        Ok(left == 0)
    }

    /// The changes.
    pub(crate) fn into_changes(mut self) -> Vec<RowChange> {
        if self.rows.is_empty() && self.chunks.is_empty() {
            // Where a group changes, a record does.
            return Vec::new();
        }
        let totals = std::mem::take(&mut self.totals);
        self.put(rows::totals(), &totals);
        for (key, group) in std::mem::take(&mut self.groups) {
            let kept = (group.count > 0).then(|| group.encode_to_vec().into());
            self.rows.insert(key, kept);
        }
        let rows = self.rows.into_iter().map(|(key, value)| RowChange { key: key.into(), value });
        rows.chain(self.chunks.into_changes()).collect()
    }

    fn count(&mut self, dataset: u32, fingerprint: u64, fault: Fault) -> Result<(), Error> {
        let now = self.now.micros();
        let group = self.group(dataset, fingerprint)?;
        if group.count == 0 {
            *group = QuarantineGroupRecord {
                class: fault.class.number(),
                path: fault.path,
                keyword: fault.keyword,
                schema_path: fault.schema_path,
                message: fault.message,
                expected: fault.expected,
                found: fault.found,
                count: 0,
                first_time_us: now,
                last_time_us: now,
            };
        }
        group.count += 1;
        group.last_time_us = now;
        Ok(())
    }

    /// A group, to be changed; one that is not there has no events.
    fn group(
        &mut self,
        dataset: u32,
        fingerprint: u64,
    ) -> Result<&mut QuarantineGroupRecord, Error> {
        let key = rows::group(dataset, fingerprint);
        if !self.groups.contains_key(&key) {
            let stored = self.get(&key)?.map(|bytes| decode(&bytes)).transpose()?;
            self.groups.insert(key.clone(), stored.unwrap_or_default());
        }
        Ok(self.groups.entry(key).or_default())
    }

    /// Drops the oldest while there is too much, but never the newest.
    fn keep_quota(&mut self, newest: u64) -> Result<(), Error> {
        let QuarantineQuota { bytes, events, .. } = self.quarantine.quota;
        while self.totals.bytes > bytes || self.totals.records > events {
            let after = self.dropped_to.as_deref();
            let oldest = self.storage.rows(&rows::records(), after, 1)?.pop();
            let Some((key, _)) = oldest else { return Ok(()) };
            self.dropped_to = Some(key.to_vec());
            if let Some(id) = rows::id_of(&key).filter(|id| *id != newest)
                && self.remove(id)?
            {
                self.totals.dropped += 1;
            }
        }
        Ok(())
    }

    /// The record of an event that was set aside before.
    fn find(&self, mark: u64, digest: &[u8]) -> Result<Option<(u64, QuarantineRecord)>, Error> {
        for id in self.quarantine.marks.records(mark) {
            if let Some(record) = self.record(id)?.filter(|it| it.digest == digest) {
                return Ok(Some((id, record)));
            }
        }
        Ok(None)
    }

    fn record(&self, id: u64) -> Result<Option<QuarantineRecord>, Error> {
        self.get(&rows::record(id))?.map(|bytes| decode(&bytes)).transpose()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.rows.get(key) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.storage.row(key)?),
        }
    }

    fn put(&mut self, key: Vec<u8>, record: &impl Message) {
        self.rows.insert(key, Some(record.encode_to_vec().into()));
    }
}

fn digest(dataset: u32, payload: &[u8]) -> [u8; 16] {
    let mut bytes = Vec::with_capacity(4 + payload.len());
    bytes.extend_from_slice(&dataset.to_be_bytes());
    bytes.extend_from_slice(payload);
    xxh3_128(&bytes).to_be_bytes()
}

fn violations(fault: &EventFault, summary: &Fault) -> Vec<ViolationRecord> {
    let told = fault.violations().iter().take(limits::QUARANTINE_VIOLATIONS_MAX);
    let told: Vec<_> = told.cloned().map(ViolationRecord::from).collect();
    if told.is_empty() {
        let Fault { path, keyword, schema_path, message, expected, found, .. } = summary.clone();
        let instance_path = path;
        let told =
            ViolationRecord { instance_path, schema_path, keyword, message, expected, found };
        return vec![told];
    }
    told
}

pub(super) fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Error> {
    M::decode(bytes).map_err(|error| {
        tracing::error!(%error, "a row of the quarantine does not decode");
        Error::Corrupt
    })
}
