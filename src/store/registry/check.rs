//! What a change of a schema would mean, before it is made.

use std::sync::Arc;

use crate::{
    model::{Direction, EventFilter, Invalid, Position, RecordedEvent, Violation, limits},
    schema::{self, CompiledSchema},
    store::{
        BelowFloor, Error, EventFault, EventStore, Read, blocking,
        ingest::Judge,
        registry::{
            SchemaInput,
            import::{read, stoppable},
            judge::{self, Affected, RepeatedKeys, Rules},
        },
    },
};

/// What is to be checked.
#[derive(Clone, Debug, Default)]
pub struct CheckSchema {
    /// JSON Schema text.
    pub document: String,
    /// Events of each affected dataset to judge, the newest; `None`: do not.
    pub history: Option<u32>,
}

/// What a change would mean.
#[derive(Debug)]
pub struct SchemaChecked {
    /// The document itself; `None` when it would be the first version, or changes nothing.
    pub own: Option<Affected>,
    /// The schemas that datasets are under.
    pub affected: Vec<Affected>,
    /// How stored events would fare, by dataset.
    pub history: Vec<HistoryCheck>,
}

/// How a dataset's stored events would fare.
#[derive(Clone, Debug, Default)]
pub struct HistoryCheck {
    /// The dataset.
    pub dataset: String,
    /// How many events were judged.
    pub checked: u64,
    /// How many of them would be refused.
    pub failed: u64,
    /// Some of these.
    pub samples: Vec<HistorySample>,
}

/// A stored event that would be refused.
#[derive(Clone, Debug)]
pub struct HistorySample {
    /// Where it is.
    pub position: Position,
    /// Its id.
    pub event_id: String,
    /// What it violates, at first.
    pub violations: Vec<Violation>,
}

const HISTORY_EVENTS_DEFAULT: u32 = 1_000;
const SAMPLES_MAX: usize = 5;
const SAMPLE_VIOLATIONS_MAX: usize = 5;

impl EventStore {
    /// What registering a document would change; nothing is written.
    ///
    /// # Errors
    /// When it could not be registered whatever it breaks, or stored events cannot be read.
    pub async fn check_schema(&self, check: CheckSchema) -> Result<SchemaChecked, Error> {
        self.check_open()?;
        if let Some(found) = check.history.filter(|it| *it > limits::HISTORY_EVENTS_MAX) {
            let message = format!("{found}; at most {}", limits::HISTORY_EVENTS_MAX);
            return Err(Error::OutOfBounds(Invalid::new("max_events", message)));
        }
        let (own, affected) = self.affected(check.document).await?;
        let mut history = Vec::new();
        if let Some(events) = check.history {
            let _place = self.reader_place()?;
            let events = if events == 0 { HISTORY_EVENTS_DEFAULT } else { events };
            for affected in &affected {
                history.extend(self.fare(affected, events).await?);
            }
        }
        Ok(SchemaChecked { own, affected, history })
    }

    async fn affected(&self, document: String) -> Result<(Option<Affected>, Vec<Affected>), Error> {
        let registrars = self.inner.registrars.acquire().await;
        let _registrar = registrars.map_err(|_closed| Error::Closing)?;
        let candidates =
            read(vec![SchemaInput { name: String::new(), document }], RepeatedKeys::Refused)
                .await?;
        let catalog = self.catalog();
        let rules = Rules { force: true, ..self.rules() };
        let judged = stoppable(move |stop| {
            let judgement = judge::judge(&catalog, &candidates, &rules, stop)?;
            Ok((candidates.id(0).map(str::to_owned), judgement))
        });
        let (id, mut judgement) = judged.await?;
        judgement.verdicts.pop().ok_or(Error::Internal)??;
        let is_own = |it: &&Affected| Some(it.schema_id.as_ref()) == id.as_deref();
        let own = judgement.affected.iter().find(is_own).cloned();
        judgement.affected.retain(|it| !it.datasets.is_empty() || it.is_breaking());
        Ok((own, judgement.affected))
    }

    /// Judges the newest events of a schema's datasets by its new version.
    async fn fare(&self, affected: &Affected, events: u32) -> Result<Vec<HistoryCheck>, Error> {
        let Some((document, closure)) = affected.next.clone() else { return Ok(Vec::new()) };
        let compile = move || Ok(Arc::new(schema::compile(&document, &closure)?));
        let compiled = blocking(compile).await?;
        let mut checks = Vec::with_capacity(affected.datasets.len());
        for name in &affected.datasets {
            checks.push(self.fare_of(name, Arc::clone(&compiled), events).await?);
        }
        Ok(checks)
    }

    async fn fare_of(
        &self,
        name: &str,
        compiled: Arc<CompiledSchema>,
        events: u32,
    ) -> Result<HistoryCheck, Error> {
        let dataset = Arc::clone(self.catalog().dataset(name)?);
        let mut judge = Judge::by_schema(dataset.number, 0, compiled);
        judge.fields = self.catalog().event_fields(&dataset.settings.schema_id, &judge.fields);
        judge.policies.unknown_fields = dataset.settings.policies.unknown_fields;
        let filter = EventFilter { datasets: vec![dataset.name.clone()], ..EventFilter::default() };
        let mut reader = self.read(&Read {
            filter,
            after: Position::START,
            before: Position::START,
            direction: Direction::Backward,
            limit: u64::from(events),
            below_floor: BelowFloor::Clamp,
        })?;
        let mut check = HistoryCheck { dataset: name.to_owned(), ..HistoryCheck::default() };
        while let Some(page) = reader.next_page().await? {
            let judge = judge.clone();
            // A page at a time: a caller who leaves is noticed in between.
            check = blocking(move || {
                page.events.iter().for_each(|it| check.judge(&judge, it));
                Ok(check)
            })
            .await?;
        }
        Ok(check)
    }
}

impl HistoryCheck {
    fn judge(&mut self, judge: &Judge, event: &RecordedEvent) {
        self.checked += 1;
        let text = String::from_utf8_lossy(&event.payload);
        let mut violations = match judge.event(&text) {
            Ok(_) | Err(EventFault::Conflict { .. } | EventFault::OutOfTime(_)) => return,
            Err(EventFault::Malformed(found) | EventFault::Violates(found)) => found,
        };
        self.failed += 1;
        if self.samples.len() < SAMPLES_MAX {
            violations.truncate(SAMPLE_VIOLATIONS_MAX);
            let (position, event_id) = (event.position, event.event_id.clone());
            self.samples.push(HistorySample {
                position,
                event_id: event_id.to_string(),
                violations,
            });
        }
    }
}
