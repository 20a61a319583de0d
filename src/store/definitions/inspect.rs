//! Trying definitions out, and why they did what they did.

use std::sync::Arc;

use crate::{
    condition::{self, Clause},
    model::{
        Direction, EventFilter, Position, RecordedEvent, Timestamp, Violation, json::Document,
        limits,
    },
    schema::Fields,
    store::{
        BelowFloor, DefinitionSettings, Error, EventDefinition, EventFault, EventStore, Payload,
        Read, blocking,
        catalog::Catalog,
        definitions::{
            DefinitionVersion,
            delivery::{Discard, Fate, Key, Seen},
        },
        ingest::Judge,
        read::identity,
    },
};

/// Which definition is tried out.
#[derive(Clone, Debug)]
pub enum Tried {
    /// One that exists, at its latest version.
    Existing(String),
    /// One that does not exist yet.
    New(Box<DefinitionSettings>),
}

/// Which stored events are looked at.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Only events after this position.
    pub after: Position,
    /// Only events before this position; `START`: up to the last.
    pub before: Position,
    /// Events looked at, at most; the newest.
    pub max_events: u32,
}

/// What became of one event that a definition was tried on.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Place among the events given, or in the log.
    pub place: TrialPlace,
    /// Its id; empty when it has none.
    pub event_id: String,
    /// What became of it.
    pub outcome: TrialOutcome,
}

/// Where an event that was tried comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialPlace {
    /// Among the events given, from 0.
    Given(usize),
    /// In the log.
    Stored(Position),
}

/// What became of an event that a definition was tried on.
#[derive(Clone, Debug)]
pub enum TrialOutcome {
    /// It is not an event of the schema.
    Invalid(Vec<Violation>),
    /// The condition does not hold.
    NoMatch,
    /// The condition holds, and it would not be delivered.
    Discarded(Discard),
    /// It would be delivered: about whom, and what of it.
    Delivered(Key, String),
}

/// What came of trying a definition.
#[derive(Clone, Debug, Default)]
pub struct Tested {
    /// Events that it was tried on.
    pub tested: u64,
    /// Of these: its condition holds.
    pub matched: u64,
    /// Of these: they would be delivered.
    pub delivered: u64,
    /// All of the events given; then some of the stored ones: delivered, discarded, without a match.
    pub trials: Vec<Trial>,
}

/// Why an event matches a definition or not.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The version that was asked.
    pub version: Arc<DefinitionVersion>,
    /// What was decided when the event was stored; `None` for one that is not stored.
    pub stored: Option<bool>,
    /// The condition, clause by clause.
    pub clause: Clause,
    /// What becomes of the event.
    pub outcome: TrialOutcome,
}

/// An event that listeners of a definition did not get.
#[derive(Clone, Debug)]
pub struct Discarded {
    /// The event.
    pub position: Position,
    /// Its id.
    pub event_id: String,
    /// When it was stored.
    pub record_time: Timestamp,
    /// The version that decided about it.
    pub version: u32,
    /// Why.
    pub discard: Discard,
}

/// Stored events that are told of each outcome.
const SAMPLES_MAX: usize = 5;
const HISTORY_EVENTS_DEFAULT: u32 = 1_000;

impl EventStore {
    /// Tries a definition, as if it were LIVE and without regard to its interval, on the events given
    /// and on stored ones of its schema. Nothing is written.
    ///
    /// # Errors
    /// When there is no such definition, or the settings are not sound.
    pub async fn test_event_definition(
        &self,
        tried: Tried,
        events: Vec<Payload>,
        history: Option<History>,
    ) -> Result<Tested, Error> {
        self.check_open()?;
        let version = Arc::new(self.tried(tried).await?.if_live());
        let mut tested = Tested::default();
        let (store, of_schema, asked) = (self.clone(), Arc::clone(&version), self.now());
        let given = blocking(move || {
            let catalog = store.catalog();
            let schema = catalog.schema_by_number(of_schema.schema).ok_or(Error::Internal)?;
            let judge = Judge::by_schema(0, schema.number, store.compiled(&catalog, schema)?);
            let given = events.into_iter().enumerate();
            Ok(given
                .map(|(index, event)| try_given(&catalog, &of_schema, &judge, index, event, asked))
                .collect::<Vec<_>>())
        });
        for trial in given.await? {
            tested.count(&trial.outcome);
            tested.trials.push(trial);
        }
        if let Some(history) = history {
            tested = self.try_history(version, history, tested).await?;
        }
        Ok(tested)
    }

    async fn tried(&self, tried: Tried) -> Result<DefinitionVersion, Error> {
        match tried {
            Tried::Existing(name) => {
                let definition = self.event_definition(&name)?;
                Ok(DefinitionVersion::clone(definition.latest()?))
            }
            Tried::New(settings) => {
                let checked =
                    self.check_definition(self.catalog(), *settings, Arc::default(), None).await?;
                Ok(DefinitionVersion {
                    version: 0,
                    effective_from: Position::START,
                    time: self.now(),
                    spec: checked.settings.spec,
                    schema: checked.seen.schema,
                    compiled: Some(checked.compiled),
                })
            }
        }
    }

    async fn try_history(
        &self,
        version: Arc<DefinitionVersion>,
        history: History,
        mut tested: Tested,
    ) -> Result<Tested, Error> {
        let _place = self.reader_place()?;
        let most = limits::HISTORY_EVENTS_MAX;
        let events = match history.max_events {
            0 => HISTORY_EVENTS_DEFAULT,
            found if found > most => {
                let message = format!("{found}; at most {most}");
                let invalid = crate::model::Invalid::new("history.max_events", message);
                return Err(Error::OutOfBounds(invalid));
            }
            events => events,
        };
        let schemas = vec![Arc::clone(&version.spec.schema_id)];
        let mut reader = self.read(&Read {
            filter: EventFilter { schemas, ..EventFilter::default() },
            after: history.after,
            before: history.before,
            direction: Direction::Backward,
            limit: u64::from(events),
            below_floor: BelowFloor::Clamp,
        })?;
        let mut shown = [0_usize; 3];
        while let Some(page) = reader.next_page().await? {
            let (store, version) = (self.clone(), Arc::clone(&version));
            // A page at a time: a caller who leaves is noticed in between.
            (tested, shown) = blocking(move || {
                let catalog = store.catalog();
                for event in page.events {
                    let outcome = outcome(&catalog, &version, &event);
                    tested.count(&outcome);
                    let kind = match outcome {
                        TrialOutcome::Invalid(_) | TrialOutcome::NoMatch => 0,
                        TrialOutcome::Discarded(_) => 1,
                        TrialOutcome::Delivered(..) => 2,
                    };
                    if let Some(shown) = shown.get_mut(kind).filter(|it| **it < SAMPLES_MAX) {
                        *shown += 1;
                        let place = TrialPlace::Stored(event.position);
                        tested.trials.push(Trial {
                            place,
                            event_id: event.event_id.to_string(),
                            outcome,
                        });
                    }
                }
                Ok((tested, shown))
            })
            .await?;
        }
        tested.trials.sort_by_key(|it| match (&it.place, &it.outcome) {
            (TrialPlace::Given(index), _) => (0, *index),
            (_, TrialOutcome::Delivered(..)) => (1, 0),
            (_, TrialOutcome::Discarded(_)) => (2, 0),
            (_, TrialOutcome::Invalid(_) | TrialOutcome::NoMatch) => (3, 0),
        });
        Ok(tested)
    }

    /// Says why a stored event matches a definition or not: by the version that decided about it, or,
    /// when the definition is younger, by the first one.
    ///
    /// # Errors
    /// When there is no such definition or event, or the event is of another schema.
    pub async fn explain_stored(
        &self,
        name: &str,
        position: Position,
    ) -> Result<Explanation, Error> {
        let definition = self.event_definition(name)?;
        let event = self.event_at(position).await?;
        if !event.violations.is_empty() {
            let message = format!("the event at {position} is tagged: no definition matches it");
            return Err(Error::invalid("position", message));
        }
        let store = self.clone();
        blocking(move || {
            let version = definition.version_at(position).or(definition.versions.first());
            let version = Arc::clone(version.ok_or(Error::Internal)?);
            if event.schema_id != version.spec.schema_id {
                let message = format!(
                    "the event at {position} is of schema `{}`, the definition of `{}`",
                    event.schema_id, version.spec.schema_id
                );
                return Err(Error::invalid("position", message));
            }
            let stored = event.event_definitions.iter().any(|it| **it == *definition.name.as_str());
            let catalog = store.catalog();
            let outcome = outcome(&catalog, &version, &event);
            let text = str::from_utf8(&event.payload).unwrap_or_default();
            let clause = explain(&catalog, &definition, &version, text, event.record_time)?;
            Ok(Explanation { version, stored: Some(stored), clause, outcome })
        })
        .await
    }

    /// Says why an event that is not stored would match a definition's latest version or not.
    ///
    /// # Errors
    /// When there is no such definition, or the text is not an event of its schema.
    pub async fn explain_given(&self, name: &str, event: Payload) -> Result<Explanation, Error> {
        let definition = self.event_definition(name)?;
        let (store, now) = (self.clone(), self.now());
        blocking(move || {
            let version = Arc::clone(definition.latest()?);
            let catalog = store.catalog();
            let schema = catalog.schema_by_number(version.schema).ok_or(Error::Internal)?;
            let judge = Judge::by_schema(0, schema.number, store.compiled(&catalog, schema)?);
            let text = event.clone().unwrap_or_default();
            let trial = try_given(&catalog, &version, &judge, 0, event, now);
            if let TrialOutcome::Invalid(violations) = trial.outcome {
                let fault = EventFault::Violates(violations);
                return Err(Error::Events(vec![crate::store::EventProblem {
                    index: 0,
                    event_id: String::new(),
                    fault,
                }]));
            }
            let clause = explain(&catalog, &definition, &version, &text, now)?;
            Ok(Explanation { version, stored: None, clause, outcome: trial.outcome })
        })
        .await
    }

    /// Events after a position of which a definition's condition holds and that its listeners did not
    /// get all the same, at most `limit`; and the position up to which events were looked at.
    ///
    /// # Errors
    /// When there is no such definition.
    pub async fn discards(
        &self,
        name: &str,
        after: Position,
        limit: usize,
    ) -> Result<(Vec<Discarded>, Position), Error> {
        let _place = self.reader_place()?;
        let definition = self.event_definition(name)?;
        let schema_id = Arc::clone(&definition.settings.spec.schema_id);
        let last = self.last_position();
        let mut reader = self.read(&Read {
            filter: EventFilter { schemas: vec![schema_id], ..EventFilter::default() },
            after,
            before: last.next(),
            direction: Direction::Forward,
            limit: u64::from(limits::HISTORY_EVENTS_MAX),
            below_floor: BelowFloor::Clamp,
        })?;
        let (mut found, mut scanned_to, mut looked_at) = (Vec::new(), after, 0);
        while let Some(page) = reader.next_page().await? {
            if page.gap.is_some() {
                continue;
            }
            let (store, definition) = (self.clone(), Arc::clone(&definition));
            let room = limit - found.len();
            looked_at += page.events.len();
            let (new, cut) = blocking(move || {
                Ok(discards_of(&store.catalog(), &definition, &page.events, room))
            })
            .await?;
            found.extend(new);
            scanned_to = cut.unwrap_or(page.scanned_to);
            if found.len() >= limit {
                return Ok((found, scanned_to));
            }
        }
        // The reader may have stopped at its limit, else it has seen all.
        let most = usize::try_from(limits::HISTORY_EVENTS_MAX).unwrap_or(usize::MAX);
        Ok((found, if looked_at < most { last.max(after) } else { scanned_to }))
    }
}

/// Discards among events, and the position of the last one when there is no room for more.
fn discards_of(
    catalog: &Catalog,
    definition: &EventDefinition,
    events: &[RecordedEvent],
    room: usize,
) -> (Vec<Discarded>, Option<Position>) {
    let mut found = Vec::new();
    for event in events {
        let Some(version) = definition.version_at(event.position) else { continue };
        if let TrialOutcome::Discarded(discard) = outcome(catalog, version, event) {
            found.push(Discarded {
                position: event.position,
                event_id: event.event_id.to_string(),
                record_time: event.record_time,
                version: version.version,
                discard,
            });
        }
        if found.len() >= room {
            return (found, Some(event.position));
        }
    }
    (found, None)
}

fn outcome(catalog: &Catalog, version: &DefinitionVersion, event: &RecordedEvent) -> TrialOutcome {
    let text = str::from_utf8(&event.payload).unwrap_or_default();
    let Ok(document) = Document::parse(text) else { return TrialOutcome::NoMatch };
    let (identities, record_time) = (event.identities.as_slice(), event.record_time);
    of_fate(catalog, version, &Seen { event: document.root(), identities, record_time })
}

fn of_fate(catalog: &Catalog, version: &DefinitionVersion, seen: &Seen<'_>) -> TrialOutcome {
    match version.fate(catalog, seen) {
        Fate::NoMatch => TrialOutcome::NoMatch,
        Fate::Discarded(discard) => TrialOutcome::Discarded(discard),
        Fate::Delivered(key) => {
            let payload = version.project(seen.event);
            let text = match payload {
                Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                None => seen.event.to_value().to_string(),
            };
            TrialOutcome::Delivered(key, text)
        }
    }
}

fn try_given(
    catalog: &Catalog,
    version: &DefinitionVersion,
    judge: &Judge,
    index: usize,
    event: Payload,
    record_time: Timestamp,
) -> Trial {
    let place = TrialPlace::Given(index);
    let invalid = |violations| {
        let outcome = TrialOutcome::Invalid(violations);
        Trial { place, event_id: String::new(), outcome }
    };
    let text = match event {
        Ok(text) => text,
        Err(unreadable) => return invalid(unreadable.violations),
    };
    let Ok(envelope) = judge.event(&text) else { return invalid(judge.violations(&text)) };
    let Ok(document) = Document::parse(&text) else { return invalid(Vec::new()) };
    let identities: Vec<_> = envelope.identities.into_iter().filter_map(identity).collect();
    let seen = Seen { event: document.root(), identities: &identities, record_time };
    Trial { place, event_id: envelope.event_id, outcome: of_fate(catalog, version, &seen) }
}

/// The condition clause by clause.
fn explain(
    catalog: &Catalog,
    definition: &EventDefinition,
    version: &DefinitionVersion,
    text: &str,
    record_time: Timestamp,
) -> Result<Clause, Error> {
    let schema = catalog.schema_by_number(version.schema).ok_or(Error::Internal)?;
    let fields = Fields::new(Arc::clone(&schema.document), &catalog.closure(schema)?);
    let document = Document::parse(text).map_err(|_was_judged| Error::Internal)?;
    let condition = version.condition_text(&definition.event_id);
    condition::explain(&condition, Some(&fields), &document, record_time).map_err(|problems| {
        let invalid = |message| crate::model::Invalid::new("condition", message);
        Error::Definition(problems.messages().map(invalid).collect())
    })
}

impl Tested {
    fn count(&mut self, outcome: &TrialOutcome) {
        let (matched, delivered) = match outcome {
            TrialOutcome::Invalid(_) | TrialOutcome::NoMatch => (0, 0),
            TrialOutcome::Discarded(_) => (1, 0),
            TrialOutcome::Delivered(..) => (1, 1),
        };
        self.tested += 1;
        self.matched += matched;
        self.delivered += delivered;
    }
}
