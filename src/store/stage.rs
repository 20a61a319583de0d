//! One commit group in the making: duplicates decided, positions assigned, records laid out.

use std::{collections::hash_map::Entry, sync::Arc};

use ahash::AHashMap;

use crate::{
    model::{Position, Timestamp, Violation, hex, json::Document},
    storage::{Block, FrameBuffer, RowChange, Storage, StorageError, Tail, pb::EventRecord},
    store::{
        Error, Resource, SchemaVersion,
        catalog::Catalog,
        conditions::{Conditions, State},
        error::{EventFault, EventProblem},
        ingest::{AppendMode, Batch, Prepared},
        quarantine::{Ledger, Quarantine, Refused},
    },
};

/// Stored events with one id that an event with it is compared with, the last ones.
const SAME_ID_MAX: usize = 100;

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Stored now.
    Appended(Position),
    /// Stored now although it is invalid, with what is wrong with it.
    Tagged(Position, Vec<Violation>),
    /// Stored before, with the same content.
    Duplicate(Position),
    /// Not stored: its id belongs to another event.
    Conflict(EventFault),
    /// Not stored, but set aside, under this id.
    Quarantined(u64),
    /// The record of the quarantine that it is made of is not there any more.
    Gone,
}

impl Decision {
    /// A new event gets this position.
    pub(crate) fn stored(position: Position, record: &EventRecord) -> Self {
        if record.violations.is_empty() {
            Self::Appended(position)
        } else {
            let violations = record.violations.iter().cloned().map(Violation::from);
            Self::Tagged(position, violations.collect())
        }
    }
}

/// An event placed in this group.
struct Staged {
    position: Position,
    id_hash: u64,
    record: EventRecord,
}

/// Places of events by the hash of their ids. Different ids seldom share one.
#[derive(Default)]
struct ByHash {
    first: AHashMap<u64, usize>,
    more: Vec<(u64, usize)>,
}

impl ByHash {
    fn insert(&mut self, hash: u64, place: usize) {
        match self.first.entry(hash) {
            Entry::Vacant(vacant) => {
                vacant.insert(place);
            }
            Entry::Occupied(_) => self.more.push((hash, place)),
        }
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let more = self.more.iter().filter(move |(other, _)| *other == hash).map(|it| it.1);
        self.first.get(&hash).copied().into_iter().chain(more)
    }
}

/// The events of a commit group, which may be written ahead and then grow.
pub(crate) struct Run {
    first: Position,
    record_time: Timestamp,
    staged: Vec<Staged>,
    /// Places in `staged`.
    by_hash: ByHash,
    /// The first of `staged` as conditions see them: filled when one is decided.
    indexed: Tail,
    /// The records of `staged`.
    frame: FrameBuffer,
    /// Bytes of them.
    raw_bytes: usize,
}

impl Run {
    pub(crate) fn after(last: Position, record_time: Timestamp, raw_bytes: usize) -> Self {
        Self {
            first: last.next(),
            record_time,
            staged: Vec::new(),
            by_hash: ByHash::default(),
            indexed: Tail::after(last),
            frame: FrameBuffer::with_capacity(raw_bytes),
            raw_bytes: 0,
        }
    }

    /// Bytes of its records.
    pub(crate) fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    pub(crate) fn record_time(&self) -> Timestamp {
        self.record_time
    }

    fn add_records(&mut self, records: &[u8]) {
        self.raw_bytes += records.len();
        self.frame.extend(records);
    }
}

fn count_of(staged: &[Staged]) -> Result<u32, StorageError> {
    u32::try_from(staged.len())
        .map_err(|_too_many| StorageError::corrupt("a commit group of 2^32 events"))
}

/// A commit group.
pub(crate) struct Group<'a> {
    storage: &'a Storage,
    catalog: &'a Catalog,
    run: Run,
    /// What changes in the quarantine.
    ledger: Option<Ledger<'a>>,
    quarantine: &'a Quarantine,
}

impl<'a> Group<'a> {
    /// A group that begins, or goes on, with these events.
    pub(crate) fn of(
        run: Run,
        storage: &'a Storage,
        catalog: &'a Catalog,
        quarantine: &'a Quarantine,
    ) -> Self {
        Self { storage, catalog, run, ledger: None, quarantine }
    }

    /// Decides a batch and gives its new events positions; gives the batch back when it was judged
    /// by a schema version, descriptors, settings or event definitions that are not in force any more. What
    /// else it depends on, `admit` decides; it is told whether all of its events are stored already.
    pub(crate) fn place(
        &mut self,
        mut batch: Batch,
        conditions: Option<Result<Conditions, Error>>,
        admit: impl FnOnce(bool) -> Result<(), Error>,
    ) -> Result<Result<Vec<Decision>, Batch>, Error> {
        self.storage_is_sound()?;
        let dataset = self.catalog.dataset_by_number(batch.dataset).ok_or(Error::Internal)?;
        if dataset.deleted {
            return Err(Error::not_found(Resource::Dataset, dataset.name.as_str()));
        }
        if dataset.settings.closed {
            return Err(Error::DatasetClosed(dataset.name.to_string()));
        }
        let judge = self.catalog.judge(dataset)?;
        let now = (judge.number, dataset.revision, self.catalog.descriptors_revision());
        if now != (batch.schema, batch.revision, batch.descriptors) {
            return Ok(Err(batch));
        }
        let matchers = self.catalog.matchers(&dataset.settings.schema_id);
        if matchers.map(Arc::as_ptr) != batch.matchers.as_ref().map(Arc::as_ptr) {
            return Ok(Err(batch));
        }
        batch.settle(self.run.record_time);
        let known_since = dataset.known_since(self.run.record_time);
        let mut found = self.decide(&batch, known_since)?;
        let conflicts = || {
            let places = batch.indexes.iter().zip(&batch.events);
            found.iter().zip(places).filter_map(|(decision, (index, event))| match decision {
                Some(Decision::Conflict(fault)) => {
                    let event_id = event.record.event_id().to_owned();
                    Some(EventProblem { index: *index, event_id, fault: fault.clone() })
                }
                _ => None,
            })
        };
        if batch.mode == AppendMode::Atomic && conflicts().next().is_some() {
            return Err(Error::Events(conflicts().collect()));
        }
        // A retry of what is stored succeeds, although the world has moved on.
        if let Some(conditions) = conditions
            && found.iter().any(Option::is_none)
        {
            self.check(&conditions?, judge.version)?;
        }
        admit(found.iter().all(Option::is_some))?;
        let set_aside = self.quarantine(&batch, &mut found, judge)?;
        let mut decisions = self.place_each(batch, found);
        decisions.extend(set_aside);
        Ok(Ok(decisions))
    }

    /// Sets aside what cannot be stored, and takes out of the quarantine what is stored now; what became
    /// of the events that were refused before they came here.
    fn quarantine(
        &mut self,
        batch: &Batch,
        found: &mut [Option<Decision>],
        judge: &SchemaVersion,
    ) -> Result<Vec<Decision>, Error> {
        for (decision, event) in found.iter_mut().zip(&batch.events) {
            let release = event.record.release.as_ref();
            match decision {
                Some(Decision::Conflict(fault)) if batch.quarantines => {
                    let stored = || event.record.payload.clone();
                    let payload =
                        event.sent.as_ref().map_or_else(stored, |it| it.as_bytes().clone());
                    let event_id = event.record.event_id().to_owned();
                    let refused = Refused { payload, event_id, fault: fault.clone() };
                    *decision = Some(self.set_aside(batch, judge, &refused)?);
                }
                None | Some(Decision::Duplicate(_)) if release.is_some() => {
                    let id = release.map(|it| it.quarantine_id).unwrap_or_default();
                    if !self.ledger()?.remove(id)? {
                        *decision = Some(Decision::Gone);
                    }
                }
                _ => {}
            }
        }
        let refused = batch.refused.iter();
        refused.map(|(_, refused)| self.set_aside(batch, judge, refused)).collect()
    }

    fn set_aside(
        &mut self,
        batch: &Batch,
        judge: &SchemaVersion,
        refused: &Refused,
    ) -> Result<Decision, Error> {
        let ledger = self.ledger()?;
        ledger.add(batch.dataset, batch.schema, &judge.id, refused).map(Decision::Quarantined)
    }

    fn ledger(&mut self) -> Result<&mut Ledger<'a>, Error> {
        let ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::new(self.storage, self.quarantine, self.run.record_time)?,
        };
        Ok(self.ledger.insert(ledger))
    }

    /// Whether there are events to write.
    pub(crate) fn has_events(&self) -> bool {
        !self.run.staged.is_empty()
    }

    /// Adds changes of the table to the group.
    pub(crate) fn change(&mut self, changes: Vec<RowChange>) {
        self.run.frame.change(changes);
    }

    /// The last event that is set aside, if the group changes the quarantine.
    pub(crate) fn newest_quarantined(&self) -> Option<u64> {
        self.ledger.as_ref().map(Ledger::newest)
    }

    /// Writes the group ahead of making it durable, if it has events and nothing else; until then it may have so
    /// many bytes. False: it was not written.
    pub(crate) fn write_ahead(&mut self, bytes_max: u64) -> Result<bool, StorageError> {
        let Run { first, record_time, staged, frame, .. } = &mut self.run;
        if staged.is_empty() || self.ledger.is_some() || !frame.is_without_changes() {
            return Ok(false);
        }
        let count = count_of(staged)?;
        self.storage.write_ahead(*first, count, *record_time, frame, bytes_max)
    }

    /// What was written ahead, to go on with.
    pub(crate) fn into_run(self) -> Run {
        self.run
    }

    /// Writes the group and makes it visible to the indexes; the last durable position.
    pub(crate) fn write(mut self) -> Result<Position, StorageError> {
        let last = self.next().previous();
        let changes = self.ledger.take().map(Ledger::into_changes).unwrap_or_default();
        let Run { first, record_time, staged, mut frame, .. } = self.run;
        frame.change(changes);
        if staged.is_empty() && frame.is_without_changes() {
            return Ok(last);
        }
        self.storage.commit(first, count_of(&staged)?, record_time, &mut frame)?;
        if staged.is_empty() {
            return Ok(last);
        }
        let run = Block::new(first, record_time, frame.into_body())?;
        let events = staged.iter().map(|it| (it.position, it.id_hash, &it.record));
        self.storage.publish(run, events)?;
        Ok(last)
    }

    fn check(&mut self, conditions: &Conditions, schema_version: u32) -> Result<(), Error> {
        let Run { first, staged, indexed, .. } = &mut self.run;
        let known = usize::try_from(indexed.len()).unwrap_or(usize::MAX);
        for event in staged.iter().skip(known) {
            indexed.add(event.position, event.id_hash, &event.record);
        }
        let (storage, catalog) = (self.storage, self.catalog);
        let state = State { storage, catalog, durable: first.previous(), placed: indexed };
        conditions.check(&state, schema_version)
    }

    fn next(&self) -> Position {
        self.run.first.plus(self.run.staged.len() as u64)
    }

    fn storage_is_sound(&self) -> Result<(), Error> {
        if self.storage.is_poisoned() { Err(Error::Poisoned) } else { Ok(()) }
    }

    /// For each event: duplicate, conflict, or new (`None`). A duplicate of an earlier event of the
    /// same batch has the place it will get. Events stored before `known_since` are passed over.
    fn decide(
        &self,
        batch: &Batch,
        known_since: Option<Timestamp>,
    ) -> Result<Vec<Option<Decision>>, Error> {
        let mut decisions = Vec::with_capacity(batch.events.len());
        let mut in_batch = ByHash::default();
        let mut positions = Vec::with_capacity(batch.events.len());
        let mut next = self.next();
        for (index, event) in batch.events.iter().enumerate() {
            let twin = in_batch.places(event.id_hash).find_map(|place| {
                let other = &batch.events.get(place)?.record;
                let position = *positions.get(place)?;
                (other.event_id == event.record.event_id).then_some((other, position))
            });
            let decision = match twin {
                Some((other, position)) => {
                    Some(compare(&event.record, other, position, Position::START))
                }
                None => self.find(event, known_since)?,
            };
            positions.push(next);
            if decision.is_none() {
                in_batch.insert(event.id_hash, index);
                next = next.next();
            }
            decisions.push(decision);
        }
        Ok(decisions)
    }

    /// An event with the same id, in this group or stored before. There are several when one was stored anew that
    /// was not known any more, and a longer time counts now: the last one with the same content, or else the last.
    fn find(
        &self,
        event: &Prepared,
        known_since: Option<Timestamp>,
    ) -> Result<Option<Decision>, Error> {
        let record = &event.record;
        let is_twin = |other: &EventRecord| {
            other.dataset == record.dataset && other.event_id == record.event_id
        };
        for place in self.run.by_hash.places(event.id_hash) {
            if let Some(staged) = self.run.staged.get(place).filter(|it| is_twin(&it.record)) {
                let position = staged.position;
                return Ok(Some(compare(record, &staged.record, position, position)));
            }
        }
        let mut positions = self.storage.ids_with(event.id_hash)?;
        positions.sort_unstable();
        let mut conflict = None;
        for position in positions.into_iter().rev().take(SAME_ID_MAX) {
            // An id is known no longer than its event is kept.
            if self.catalog.floors().removes(record.dataset, position) {
                continue;
            }
            let block = self.storage.block(position)?.ok_or(Error::Corrupt)?;
            let Some(other) = block.get(position)?.filter(is_twin) else { continue };
            if known_since.is_some_and(|since| block.record_time(&other) < since) {
                break;
            }
            let found = Some(compare(record, &other, position, position));
            if matches!(found, Some(Decision::Duplicate(_))) {
                return Ok(found);
            }
            conflict = conflict.or(found);
        }
        Ok(conflict)
    }

    /// Gives the new events of a batch their positions.
    fn place_each(&mut self, batch: Batch, found: Vec<Option<Decision>>) -> Vec<Decision> {
        let mut decisions = Vec::with_capacity(batch.events.len());
        let all_new = found.iter().all(Option::is_none);
        if all_new {
            self.run.add_records(&batch.raw);
        }
        let mut start = 0;
        for (event, decision) in batch.events.into_iter().zip(found) {
            let bytes = batch.raw.get(start..event.end).unwrap_or_default();
            start = event.end;
            decisions.push(decision.unwrap_or_else(|| {
                if !all_new {
                    self.run.add_records(bytes);
                }
                let stored = Decision::stored(self.next(), &event.record);
                self.stage(event);
                stored
            }));
        }
        decisions
    }

    fn stage(&mut self, event: Prepared) {
        self.run.by_hash.insert(event.id_hash, self.run.staged.len());
        let position = self.next();
        let Prepared { record, id_hash, .. } = event;
        self.run.staged.push(Staged { position, id_hash, record });
    }
}

/// Judges an event whose id another has: the same content, or a conflict.
fn compare(
    sent: &EventRecord,
    other: &EventRecord,
    position: Position,
    shown: Position,
) -> Decision {
    if sent.payload == other.payload {
        return Decision::Duplicate(position);
    }
    let text = |record: &EventRecord| String::from_utf8_lossy(&record.payload).into_owned();
    let (sent_text, other_text) = (text(sent), text(other));
    let digest = |text: &str| {
        Document::parse(text).map(|it| it.root().canonical_digest()).unwrap_or_default()
    };
    let (sent_digest, stored_digest) = (digest(&sent_text), digest(&other_text));
    if sent_digest == stored_digest {
        return Decision::Duplicate(position);
    }
    Decision::Conflict(EventFault::Conflict {
        event_id: sent.event_id().to_owned(),
        position: shown,
        sent_digest: hex(&sent_digest),
        stored_digest: hex(&stored_digest),
    })
}
