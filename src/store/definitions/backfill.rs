//! Matching events that were stored before a definition was in force.
//!
//! Events never change, so what is found is kept beside them: a list of positions in the catalog, which
//! queries ask beside the index. It is written once, when all of them are known.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{Direction, EventFilter, Position, RecordedEvent, json::Document, limits},
    storage::pb::BackfillRecord,
    store::{
        BelowFloor, Error, EventDefinition, EventReader, EventStore, Read, ReaderPlace, blocking,
        definitions::{DefinitionState, DefinitionVersion},
    },
};

/// Positions in one row.
const ROW_POSITIONS: usize = 4 * 1024;

/// The events from before a definition was in force that match it.
#[derive(Debug)]
pub(crate) struct Backfill {
    /// The version that decided about them.
    pub(crate) version: u32,
    /// It decided about events up to here.
    pub(crate) until: Position,
    /// Those that matched, ascending.
    pub(crate) positions: Arc<[Position]>,
}

impl Backfill {
    pub(crate) fn contains(&self, position: Position) -> bool {
        position <= self.until && self.positions.binary_search(&position).is_ok()
    }

    /// The rows of a definition with this number; at least one.
    pub(crate) fn records(&self, definition: u32) -> impl Iterator<Item = BackfillRecord> {
        let rows = self.positions.len().div_ceil(ROW_POSITIONS).max(1);
        (0..rows).map(move |row| {
            let start = row * ROW_POSITIONS;
            let end = (start + ROW_POSITIONS).min(self.positions.len());
            let positions = self.positions.get(start..end).unwrap_or_default();
            let mut before = Position::START;
            let step = |it: &Position| it.since(std::mem::replace(&mut before, *it));
            BackfillRecord {
                definition,
                row: u32::try_from(row).unwrap_or(u32::MAX),
                version: self.version,
                until: self.until.get(),
                steps: positions.iter().map(step).collect(),
            }
        })
    }

    /// Out of their rows, which come by definition and row.
    pub(crate) fn load(records: Vec<BackfillRecord>) -> BTreeMap<u32, Self> {
        let mut found: BTreeMap<u32, (u32, Position, Vec<Position>)> = BTreeMap::new();
        for record in records {
            let (_, _, positions) = found
                .entry(record.definition)
                .or_insert_with(|| (record.version, Position::new(record.until), Vec::new()));
            let mut at = Position::START;
            positions.extend(record.steps.into_iter().map(|step| {
                at = at.plus(step);
                at
            }));
        }
        let make = |(version, until, positions): (_, _, Vec<_>)| Self {
            version,
            until,
            positions: positions.into(),
        };
        found.into_iter().map(|(definition, parts)| (definition, make(parts))).collect()
    }
}

/// How far a back-fill has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillProgress {
    /// The version that decides.
    pub version: u32,
    /// Events up to here have been looked at.
    pub scanned_to: Position,
    /// Events up to here are to be.
    pub until: Position,
    /// How many match so far.
    pub matched: u64,
    /// All is done, and durable.
    pub done: bool,
}

/// A back-fill under way. Nothing is written before its end.
pub struct Backfilling {
    store: EventStore,
    definition: Arc<EventDefinition>,
    version: Arc<DefinitionVersion>,
    /// `None` at the end.
    reader: Option<EventReader>,
    scanned_to: Position,
    until: Position,
    found: Vec<Position>,
    validate_only: bool,
    done: bool,
    _place: ReaderPlace,
}

impl EventStore {
    /// Begins to look for events, stored before a definition was first LIVE, that match its latest version.
    ///
    /// # Errors
    /// When there is no such definition, it has changed since, is not LIVE, or was back-filled before.
    pub fn backfill_event_definition(
        &self,
        name: &str,
        etag: Option<&str>,
        validate_only: bool,
    ) -> Result<Backfilling, Error> {
        self.check_open()?;
        let definition = self.event_definition(name)?;
        definition.check_etag(etag)?;
        definition.check_backfill()?;
        let version = Arc::clone(definition.latest()?);
        let until = definition.first_live().unwrap_or(version.effective_from).previous();
        let schemas = vec![Arc::clone(&version.spec.schema_id)];
        let reader = (until > Position::START).then(|| {
            self.read(&Read {
                filter: EventFilter { schemas, ..EventFilter::default() },
                after: Position::START,
                before: until.next(),
                direction: Direction::Forward,
                limit: u64::MAX,
                below_floor: BelowFloor::Clamp,
            })
        });
        Ok(Backfilling {
            store: self.clone(),
            definition,
            version,
            reader: reader.transpose()?,
            scanned_to: Position::START,
            until,
            found: Vec::new(),
            validate_only,
            done: false,
            _place: self.reader_place()?,
        })
    }
}

impl Backfilling {
    /// Goes on; `None` after the end, which the last one tells.
    ///
    /// # Errors
    /// When stored data cannot be read, too many events match, or the definition is not the same any more.
    pub async fn next(&mut self) -> Result<Option<BackfillProgress>, Error> {
        if self.done {
            return Ok(None);
        }
        let page = match &mut self.reader {
            Some(reader) => reader.next_page().await?,
            None => None,
        };
        if let Some(page) = page {
            let version = Arc::clone(&self.version);
            self.scanned_to = page.scanned_to;
            let matching = blocking(move || Ok(matching(&version, &page.events)));
            self.found.extend(matching.await?);
            let max = limits::BACKFILL_MATCHES_MAX;
            if self.found.len() > max {
                return Err(Error::Limit { what: "back-filled events of one definition", max });
            }
            return Ok(Some(self.progress()));
        }
        (self.reader, self.scanned_to, self.done) = (None, self.until, true);
        if !self.validate_only {
            self.write().await?;
        }
        Ok(Some(self.progress()))
    }

    async fn write(&self) -> Result<(), Error> {
        let backfill = Backfill {
            version: self.version.version,
            until: self.until,
            positions: self.found.as_slice().into(),
        };
        let seen = Arc::clone(&self.definition);
        self.store
            .change(move |catalog, now| catalog.backfill_event_definition(&seen, backfill, now))
            .await
    }

    fn progress(&self) -> BackfillProgress {
        BackfillProgress {
            version: self.version.version,
            scanned_to: self.scanned_to,
            until: self.until,
            matched: self.found.len() as u64,
            done: self.done,
        }
    }
}

impl EventDefinition {
    /// The first position that a LIVE version decided about.
    fn first_live(&self) -> Option<Position> {
        let mut live = self.versions.iter().filter(|it| it.spec.state == DefinitionState::Live);
        live.next().map(|it| it.effective_from)
    }

    /// Whether it may be back-filled.
    pub(crate) fn check_backfill(&self) -> Result<(), Error> {
        let refused = |what: String| Error::Backfill { name: self.name.to_string(), what };
        if let Some(before) = &self.backfill {
            let Backfill { version, until, .. } = **before;
            return Err(refused(format!(
                "it was back-filled up to position {until}, by version {version}; duplicate it for another \
                 condition"
            )));
        }
        if self.settings.spec.state != DefinitionState::Live {
            return Err(refused("it is not LIVE".to_owned()));
        }
        Ok(())
    }
}

/// Of these events those that match.
fn matching(version: &DefinitionVersion, events: &[RecordedEvent]) -> Vec<Position> {
    let Some(compiled) = &version.compiled else { return Vec::new() };
    let matches = |event: &&RecordedEvent| {
        let text = str::from_utf8(&event.payload).unwrap_or_default();
        let Ok(document) = Document::parse(text) else { return false };
        let time = event.record_time;
        version.spec.effective.contains(time)
            && compiled.condition.holds(document.root(), time).is_ok_and(|it| it)
    };
    events.iter().filter(matches).map(|it| it.position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_out_of_their_rows() {
        for count in [0_u64, 1, 4_096, 10_000] {
            let positions: Vec<_> = (1..=count).map(|it| Position::new(it * it)).collect();
            let until = Position::new(count * count + 5);
            let backfill = Backfill { version: 3, until, positions: positions.clone().into() };
            let records: Vec<_> = backfill.records(7).collect();
            assert!(
                !records.is_empty() && records.iter().all(|it| it.steps.len() <= ROW_POSITIONS)
            );
            let loaded = Backfill::load(records).remove(&7).unwrap();
            assert_eq!((loaded.version, loaded.until), (3, until));
            assert_eq!(&*loaded.positions, positions.as_slice());
            assert!(positions.iter().all(|it| loaded.contains(*it)));
            assert!(!loaded.contains(Position::new(2)) && !loaded.contains(until));
        }
    }
}
