//! Quarantine: events that a dataset could not store, durably set aside with what is wrong with them, to
//! be looked at, mended, and stored after all.
//!
//! Records are rows of the table, so that an event is set aside in the same write as the events of its
//! append are stored, and leaves the quarantine in the same write in which it is stored.

mod chunks;
mod class;
mod fixed;
mod follow;
mod ledger;
mod marks;
mod replay;
mod rows;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    model::{Timestamp, Violation},
    storage::{
        Storage,
        pb::{QuarantineGroupRecord, QuarantineRecord, QuarantineTotalsRecord},
    },
    store::{
        Dataset, Error, EventStore, Resource, blocking,
        catalog::{Catalog, micros},
        quarantine::{ledger::decode, marks::Marks},
        sequencer::Writer,
    },
};

pub use class::FaultClass;
pub use fixed::FixedGroup;
pub use follow::{QuarantineFollow, QuarantineFollower, QuarantineNews, QuarantineStart};
pub(crate) use ledger::{Ledger, Refused};
pub use replay::{Replay, ReplayProgress, ReplayRun, StillRefused};

/// Rows of other datasets or faults that one page of a list passes over.
const PASSED_OVER_MAX: usize = 10_000;
/// Records of a group that are shown with it.
const SAMPLES_MAX: usize = 3;
/// Events with one id that are looked up.
const SAME_ID_MAX: usize = 100;
/// Chunks of a group's ids that are read at a time.
const CHUNKS_AT_ONCE: usize = 64;
/// Records that are discarded in one write.
const DISCARDED_AT_ONCE: usize = 500;

/// How much the quarantine keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuarantineQuota {
    /// Bytes; of more the oldest go.
    pub(crate) bytes: u64,
    /// Events; of more the oldest go.
    pub(crate) events: u64,
    /// Older ones go.
    pub(crate) age: Duration,
}

/// What is known of the quarantine beside its rows.
pub(crate) struct Quarantine {
    pub(crate) quota: QuarantineQuota,
    marks: Marks,
}

impl Quarantine {
    /// Reads what a store has of it.
    pub(super) fn open(
        storage: &Storage,
        quota: QuarantineQuota,
        now: Timestamp,
    ) -> Result<Self, Error> {
        Ok(Self { quota, marks: Marks::open(storage, now)? })
    }

    /// Whether what is known is what a store has.
    #[cfg(test)]
    pub(super) fn is_true_to(&self, storage: &Storage) -> bool {
        self.marks.all() == Marks::open(storage, Timestamp::EPOCH).unwrap().all()
    }
}

/// An event that was set aside.
#[derive(Clone, Debug)]
pub struct Quarantined {
    /// Unique in the store, ascending.
    pub id: u64,
    /// Where it was sent to.
    pub dataset: Arc<Dataset>,
    /// What kind of fault it has.
    pub class: FaultClass,
    /// Of its group: events with the same fault.
    pub fingerprint: u64,
    /// Its sender's id; empty when it cannot be read.
    pub event_id: String,
    /// `$id` and version of the schema that judged it.
    pub schema: (Arc<str>, u32),
    /// When it first came.
    pub receive_time: Timestamp,
    /// When it last came.
    pub last_receive_time: Timestamp,
    /// How often it came.
    pub times_received: u32,
    /// What is wrong with it.
    pub violations: Vec<Violation>,
    /// As it was sent; empty in lists.
    pub payload: Bytes,
}

/// Events of a dataset that were set aside for the same fault.
#[derive(Clone, Debug)]
pub struct QuarantineGroup {
    /// Their dataset.
    pub dataset: Arc<Dataset>,
    /// The same for events with the same fault.
    pub fingerprint: u64,
    /// What kind of fault.
    pub class: FaultClass,
    /// What is wrong with the first of them, with `*` for places in arrays.
    pub violation: Violation,
    /// How many.
    pub count: u64,
    /// When the first was set aside.
    pub first_time: Timestamp,
    /// When the last was set aside.
    pub last_time: Timestamp,
    /// Ids of the first few.
    pub samples: Vec<u64>,
}

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct QuarantineSelection {
    /// Of this dataset; empty: of any.
    pub dataset: String,
    /// With this fingerprint.
    pub fingerprint: Option<u64>,
    /// With these ids; empty: any.
    pub ids: Vec<u64>,
}

/// All of the quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuarantineTotals {
    /// Events.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Of more bytes the oldest are dropped.
    pub bytes_max: u64,
    /// Dropped since the store was made, for age or room.
    pub dropped: u64,
}

/// A page of a list, and the key after which the next one begins.
pub type QuarantinePage<T> = (Vec<T>, Option<Vec<u8>>);

impl EventStore {
    /// Groups of events with the same fault, by dataset and fingerprint, after a key.
    ///
    /// # Errors
    /// When the dataset does not exist, or stored data cannot be read.
    pub async fn quarantine_groups(
        &self,
        selection: QuarantineSelection,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<QuarantinePage<QuarantineGroup>, Error> {
        let reader = self.quarantine_reader();
        blocking(move || reader.groups(&selection, after.as_deref(), limit)).await
    }

    /// Events that were set aside, by id, after a key; without their payloads.
    ///
    /// # Errors
    /// When the dataset does not exist, or stored data cannot be read.
    pub async fn quarantined(
        &self,
        selection: QuarantineSelection,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<QuarantinePage<Quarantined>, Error> {
        let reader = self.quarantine_reader();
        blocking(move || reader.records(&selection, after.as_deref(), limit)).await
    }

    /// Events that were set aside after one, or from the first, by id; without their payloads.
    async fn quarantined_after(
        &self,
        selection: QuarantineSelection,
        after: Option<u64>,
        limit: usize,
    ) -> Result<QuarantinePage<Quarantined>, Error> {
        let reader = self.quarantine_reader();
        blocking(move || {
            let after = after.map(rows::record);
            reader.records(&selection, after.as_deref(), limit)
        })
        .await
    }

    /// One event that was set aside, with its payload.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn quarantined_event(&self, id: u64) -> Result<Quarantined, Error> {
        let reader = self.quarantine_reader();
        blocking(move || {
            let record = reader.with_payload(id)?;
            record.ok_or_else(|| Error::not_found(Resource::Quarantined, show_id(id)))
        })
        .await
    }

    /// Throws events away; how many.
    ///
    /// # Errors
    /// When nothing is selected, the dataset does not exist, or the store takes no writes.
    pub async fn discard_quarantined(&self, selection: QuarantineSelection) -> Result<u64, Error> {
        selection.check()?;
        let mut discarded = 0;
        let mut after = None;
        loop {
            let (page, next) =
                self.quarantined(selection.clone(), after, DISCARDED_AT_ONCE).await?;
            let ids: Vec<u64> = page.iter().map(|it| it.id).collect();
            if !ids.is_empty() {
                discarded += self.write(move |writer| writer.discard(&ids)).await?;
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(discarded),
            }
        }
    }

    /// Events with a sender's id that are set aside, oldest first; without their payloads.
    pub(super) async fn quarantined_with_id(
        &self,
        dataset: u32,
        event_id: &str,
    ) -> Result<Vec<Quarantined>, Error> {
        let mut ids = self.inner.quarantine.marks.of_event(dataset, event_id, SAME_ID_MAX);
        let (reader, event_id) = (self.quarantine_reader(), event_id.to_owned());
        blocking(move || {
            let mut found = Vec::new();
            ids.sort_unstable();
            for id in ids {
                let Some(record) = reader.record(id)? else { continue };
                if record.dataset == dataset && record.event_id == event_id {
                    found.extend(reader.quarantined(id, record)?);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Takes away what was sent to a dataset that is deleted.
    pub(super) async fn forget_quarantined(&self, dataset: u32) -> Result<(), Error> {
        let forget = move |writer: &Writer| {
            writer.change_quarantine(|ledger| ledger.forget_dataset(dataset))
        };
        while self.write(forget).await? {}
        Ok(())
    }

    /// How many events of a dataset are set aside.
    pub(super) async fn quarantined_count(&self, dataset: u32) -> Result<u64, Error> {
        let reader = self.quarantine_reader();
        blocking(move || {
            let groups = reader.storage.rows(&rows::groups(Some(dataset)), None, usize::MAX)?;
            let count = |bytes: &Bytes| decode::<QuarantineGroupRecord>(bytes).map(|it| it.count);
            groups.iter().map(|(_, bytes)| count(bytes)).sum()
        })
        .await
    }

    /// All of the quarantine.
    ///
    /// # Errors
    /// When stored data cannot be read.
    pub fn quarantine_totals(&self) -> Result<QuarantineTotals, Error> {
        let row = self.inner.storage.row(&rows::totals())?;
        let totals: QuarantineTotalsRecord =
            row.map(|it| decode(&it)).transpose()?.unwrap_or_default();
        let QuarantineTotalsRecord { records, bytes, dropped, .. } = totals;
        let bytes_max = self.inner.quarantine.quota.bytes;
        Ok(QuarantineTotals { records, bytes, bytes_max, dropped })
    }

    fn quarantine_reader(&self) -> QuarantineReader {
        QuarantineReader { storage: Arc::clone(&self.inner.storage), catalog: self.catalog() }
    }
}

impl Writer {
    /// Throws events away; how many were there.
    fn discard(&self, ids: &[u64]) -> Result<u64, Error> {
        self.change_quarantine(|ledger| {
            let mut discarded = 0;
            for id in ids {
                discarded += u64::from(ledger.remove(*id)?);
            }
            Ok(discarded)
        })
    }

    /// Drops some of what is too old; whether there may be more.
    pub(super) fn expire_quarantined(&self) -> Result<bool, Error> {
        self.change_quarantine(|ledger: &mut Ledger<'_>| {
            let more = ledger.expire()?;
            Ok(more)
        })
    }

    fn change_quarantine<T>(
        &self,
        change: impl FnOnce(&mut Ledger<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut ledger = Ledger::new(&self.storage, &self.quarantine, self.clock.now())?;
        let answer = change(&mut ledger)?;
        self.storage.commit_rows(self.clock.now(), ledger.into_changes())?;
        Ok(answer)
    }
}

impl QuarantineSelection {
    /// Refuses to take everything there is by mistake.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.dataset.is_empty() && self.ids.is_empty() {
            let message =
                "selects nothing; wanted a dataset, with or without a fingerprint, or ids";
            return Err(Error::invalid("selection", message));
        }
        Ok(())
    }
}

/// What reads the quarantine.
struct QuarantineReader {
    storage: Arc<Storage>,
    catalog: Arc<Catalog>,
}

impl QuarantineReader {
    fn dataset(&self, selection: &QuarantineSelection) -> Result<Option<u32>, Error> {
        if selection.dataset.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.catalog.dataset(&selection.dataset)?.number))
    }

    fn groups(
        &self,
        selection: &QuarantineSelection,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<QuarantinePage<QuarantineGroup>, Error> {
        let prefix = rows::groups(self.dataset(selection)?);
        let found = self.storage.rows(&prefix, after, PASSED_OVER_MAX)?;
        let mut page = Vec::new();
        let mut reached = None;
        let all = found.len();
        for (key, bytes) in found {
            if page.len() == limit {
                return Ok((page, reached));
            }
            reached = Some(key.to_vec());
            let Some((dataset, fingerprint)) = rows::group_of(&key) else { continue };
            let wanted = selection.fingerprint.is_none_or(|it| it == fingerprint);
            let Some(dataset) = self.living(dataset).filter(|_| wanted) else { continue };
            page.push(self.group(dataset, fingerprint, &bytes)?);
        }
        Ok((page, reached.filter(|_| all == PASSED_OVER_MAX)))
    }

    fn group(
        &self,
        dataset: Arc<Dataset>,
        fingerprint: u64,
        bytes: &[u8],
    ) -> Result<QuarantineGroup, Error> {
        let record: QuarantineGroupRecord = decode(bytes)?;
        let members = rows::members(dataset.number, fingerprint);
        let samples = self.storage.rows(&members, None, SAMPLES_MAX)?;
        let samples = samples.iter().flat_map(|(key, chunk)| rows::members_in(key, chunk));
        Ok(QuarantineGroup {
            dataset,
            fingerprint,
            class: class(record.class)?,
            violation: Violation {
                instance_path: record.path,
                schema_path: record.schema_path,
                keyword: record.keyword,
                message: record.message,
                expected: record.expected,
                found: record.found,
            },
            count: record.count,
            first_time: micros(record.first_time_us),
            last_time: micros(record.last_time_us),
            samples: samples.take(SAMPLES_MAX).collect(),
        })
    }

    fn records(
        &self,
        selection: &QuarantineSelection,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<QuarantinePage<Quarantined>, Error> {
        let dataset = self.dataset(selection)?;
        let (keys, last) = self.keys(selection, dataset, after)?;
        let mut page = Vec::new();
        let mut reached = None;
        for key in keys {
            if page.len() == limit {
                return Ok((page, reached));
            }
            let Some(id) = rows::id_of(&key) else { continue };
            reached = Some(key);
            let Some(record) = self.record(id)? else { continue };
            let is_wanted = dataset.is_none_or(|it| it == record.dataset)
                && selection.fingerprint.is_none_or(|it| it == record.fingerprint);
            if is_wanted && let Some(found) = self.quarantined(id, record)? {
                page.push(found);
            }
        }
        Ok((page, reached.filter(|_| !last)))
    }

    /// Keys of records, some more than are wanted, and whether they are the last.
    fn keys(
        &self,
        selection: &QuarantineSelection,
        dataset: Option<u32>,
        after: Option<&[u8]>,
    ) -> Result<(Vec<Vec<u8>>, bool), Error> {
        if !selection.ids.is_empty() {
            let mut ids = selection.ids.clone();
            ids.sort_unstable();
            ids.dedup();
            let keys = ids.into_iter().map(rows::record);
            let after = after.unwrap_or_default();
            return Ok((keys.filter(|key| key.as_slice() > after).collect(), true));
        }
        if let (Some(dataset), Some(fingerprint)) = (dataset, selection.fingerprint) {
            let after = after.and_then(rows::id_of).unwrap_or_default();
            let ids = self.members(dataset, fingerprint, after, PASSED_OVER_MAX)?;
            let last = ids.len() < PASSED_OVER_MAX;
            return Ok((ids.into_iter().map(rows::record).collect(), last));
        }
        let found = self.storage.rows(&rows::records(), after, PASSED_OVER_MAX)?;
        let last = found.len() < PASSED_OVER_MAX;
        Ok((found.into_iter().map(|(key, _)| key.to_vec()).collect(), last))
    }

    /// Ids of a group's records after one, at most so many.
    fn members(
        &self,
        dataset: u32,
        fingerprint: u64,
        after: u64,
        limit: usize,
    ) -> Result<Vec<u64>, Error> {
        let prefix = rows::members(dataset, fingerprint);
        let mut before = rows::before_members_after(dataset, fingerprint, after);
        let mut ids = Vec::new();
        loop {
            let chunks = self.storage.rows(&prefix, before.as_deref(), CHUNKS_AT_ONCE)?;
            for (key, chunk) in &chunks {
                ids.extend(rows::members_in(key, chunk).filter(|id| *id > after));
            }
            if ids.len() >= limit || chunks.len() < CHUNKS_AT_ONCE {
                ids.truncate(limit);
                return Ok(ids);
            }
            before = chunks.last().map(|(key, _)| key.to_vec());
        }
    }

    fn record(&self, id: u64) -> Result<Option<QuarantineRecord>, Error> {
        let row = self.storage.row(&rows::record(id))?;
        row.map(|bytes| decode(&bytes)).transpose()
    }

    fn with_payload(&self, id: u64) -> Result<Option<Quarantined>, Error> {
        let Some(mut record) = self.record(id)? else { return Ok(None) };
        let mut payload = record.payload.to_vec();
        for part in 0..record.parts {
            // Gone since: so is the record.
            let Some(bytes) = self.storage.row(&rows::payload(id, part))? else { return Ok(None) };
            payload.extend_from_slice(&bytes);
        }
        record.payload = Bytes::new();
        let found = self.quarantined(id, record)?;
        Ok(found.map(|it| Quarantined { payload: payload.into(), ..it }))
    }

    /// `None` when its dataset is gone.
    fn quarantined(&self, id: u64, record: QuarantineRecord) -> Result<Option<Quarantined>, Error> {
        let Some(dataset) = self.living(record.dataset) else { return Ok(None) };
        let schema = self.catalog.schema_by_number(record.schema);
        let violations = record.violations.into_iter().map(Violation::from);
        Ok(Some(Quarantined {
            id,
            dataset,
            class: class(record.class)?,
            fingerprint: record.fingerprint,
            event_id: record.event_id,
            schema: schema.map(|it| (Arc::clone(&it.id), it.version)).unwrap_or_default(),
            receive_time: micros(record.receive_time_us),
            last_receive_time: micros(record.last_receive_time_us),
            times_received: record.times_received,
            violations: violations.collect(),
            payload: Bytes::new(),
        }))
    }

    fn living(&self, dataset: u32) -> Option<Arc<Dataset>> {
        self.catalog.dataset_by_number(dataset).filter(|it| !it.deleted).cloned()
    }
}

fn class(number: u32) -> Result<FaultClass, Error> {
    FaultClass::from_number(number).ok_or(Error::Corrupt)
}

/// The id of the last event that was set aside, also if it has left since; 0 for none.
pub(super) fn newest(storage: &Storage) -> Result<u64, Error> {
    let Some(row) = storage.row(&rows::totals())? else { return Ok(0) };
    Ok(decode::<QuarantineTotalsRecord>(&row)?.next_id.saturating_sub(1))
}

/// An id as users see it.
#[must_use]
pub fn show_id(id: u64) -> String {
    format!("q{id}")
}

/// The id that a text shows.
#[must_use]
pub fn parse_id(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('q')?;
    let is_plain = !digits.starts_with('0') && digits.bytes().all(|it| it.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}
