//! What became of one event: the answer to "why is my event not there".

use std::sync::Arc;

use crate::{
    model::{Position, RecordedEvent, Timestamp, Violation, limits},
    storage::id_hash,
    store::{Error, EventStore, Explained, Refusal, Subscription, blocking, show_id},
};

/// Events with one id that are shown, the last ones.
const STORED_MAX: usize = 100;

/// Where an event is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// In the log.
    Stored,
    /// In the log although it is invalid, and shown only to who asks for such.
    Tagged,
    /// It was in the log, and was removed by a trim, retention or a deletion.
    Removed,
    /// Set aside.
    Quarantined,
    /// It was refused, and its sender was told so.
    Refused,
    /// Nothing is known of it.
    Unknown,
}

/// Something that happened to an event.
#[derive(Clone, Debug)]
pub enum TraceStep {
    /// It came, and was set aside.
    Quarantined {
        /// When it came first.
        time: Timestamp,
        /// Its id in the quarantine.
        id: u64,
        /// How often it came.
        times: u32,
        /// What was wrong, if it still is set aside.
        message: String,
    },
    /// It was refused.
    Refused(Refusal),
    /// It was stored.
    Stored {
        /// When.
        time: Timestamp,
        /// Where.
        position: Position,
        /// What is wrong with it, if it was stored although it is invalid.
        violations: Vec<Violation>,
    },
    /// It was removed from the log.
    Removed {
        /// Where it had been.
        position: Position,
        /// The last position that its dataset has lost.
        floor: Position,
    },
}

impl TraceStep {
    /// When it happened, if that is known.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Quarantined { time, .. } | Self::Stored { time, .. } => Some(*time),
            Self::Refused(refusal) => Some(refusal.time),
            Self::Removed { .. } => None,
        }
    }
}

/// What became of one event.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Where it is now.
    pub state: EventState,
    /// In one sentence.
    pub summary: String,
    /// What happened to it, in order.
    pub steps: Vec<TraceStep>,
    /// Names of the event definitions that it matched.
    pub event_definitions: Vec<Arc<str>>,
    /// How each subscription stands to it that it matches.
    pub deliveries: Vec<(Arc<Subscription>, Explained)>,
}

impl EventStore {
    /// What became of an event, by dataset and the sender's id.
    ///
    /// # Errors
    /// When the dataset does not exist, or stored data cannot be read.
    pub async fn trace(&self, dataset: &str, event_id: &str) -> Result<Trace, Error> {
        let number = self.dataset(dataset)?.number;
        let most = limits::EVENT_ID_BYTES_MAX;
        if event_id.is_empty() || event_id.len() > most {
            let message = format!("{} bytes; wanted 1 to {most}", event_id.len());
            return Err(Error::invalid("event.event_id", message));
        }
        let mut steps = self.set_aside(number, event_id).await?;
        let refusals = self.inner.refusals.of_event(number, event_id);
        steps.extend(refusals.into_iter().map(TraceStep::Refused));
        let (mut event_definitions, mut deliveries) = (Vec::new(), Vec::new());
        let stored = self.stored(number, event_id).await?;
        match stored.last() {
            Some(last) => {
                event_definitions.extend(last.event_definitions.iter().cloned());
                deliveries = self.explain_deliveries(last.position).await?;
            }
            None => steps.extend(self.removed(number, event_id).await?),
        }
        for event in stored {
            if let Some(release) = event.release {
                let message = "replayed since".to_owned();
                let (time, id, times) = (release.receive_time, release.id, 0);
                steps.push(TraceStep::Quarantined { time, id, times, message });
            }
            let (time, position) = (event.record_time, event.position);
            steps.push(TraceStep::Stored { time, position, violations: event.violations });
        }
        steps.sort_by_key(TraceStep::time);
        let (state, summary) = self.verdict(&steps);
        Ok(Trace { state, summary, steps, event_definitions, deliveries })
    }

    fn verdict(&self, steps: &[TraceStep]) -> (EventState, String) {
        let stored = steps.iter().rfind(|it| matches!(it, TraceStep::Stored { .. }));
        let decisive = stored.or_else(|| {
            let waits = |it: &&TraceStep| matches!(it, TraceStep::Quarantined { .. });
            let removed = steps.iter().find(|it| matches!(it, TraceStep::Removed { .. }));
            steps.iter().rfind(waits).or(removed).or(steps.last())
        });
        match decisive {
            Some(TraceStep::Stored { position, time, violations }) => match violations.first() {
                None => (EventState::Stored, format!("stored at position {position} at {time}")),
                Some(first) => (
                    EventState::Tagged,
                    format!(
                        "stored at position {position} at {time} although it is invalid, and left out \
                         of reads that do not ask for such: {}",
                        first.message
                    ),
                ),
            },
            Some(TraceStep::Quarantined { id, time, message, .. }) => {
                let id = show_id(*id);
                (EventState::Quarantined, format!("set aside as {id} at {time}: {message}"))
            }
            Some(TraceStep::Removed { position, floor }) => (
                EventState::Removed,
                format!(
                    "was at position {position}; its dataset has lost its events up to {floor} by a \
                     trim or by retention"
                ),
            ),
            Some(TraceStep::Refused(refusal)) => {
                let Refusal { time, reason, message, .. } = refusal;
                (EventState::Refused, format!("refused at {time} with {reason}: {message}"))
            }
            None => (
                EventState::Unknown,
                format!(
                    "nothing is known of it: it did not reach this server since {}, or was refused \
                     among {} or more others since",
                    self.start_time(),
                    limits::REFUSALS_MAX
                ),
            ),
        }
    }

    /// Where it was set aside.
    async fn set_aside(&self, dataset: u32, event_id: &str) -> Result<Vec<TraceStep>, Error> {
        let records = self.quarantined_with_id(dataset, event_id).await?;
        let step = |it: crate::store::Quarantined| {
            let message = it.violations.first().map(|it| it.message.clone());
            TraceStep::Quarantined {
                time: it.receive_time,
                id: it.id,
                times: it.times_received,
                message: message.unwrap_or_default(),
            }
        };
        Ok(records.into_iter().map(step).collect())
    }

    /// The events with an id that are there, in order: several where a dataset has a horizon beyond which duplicates are
    /// not found.
    async fn stored(&self, dataset: u32, event_id: &str) -> Result<Vec<RecordedEvent>, Error> {
        let (store, event_id) = (self.clone(), event_id.to_owned());
        blocking(move || {
            let mut positions = store.inner.storage.ids_with(id_hash(dataset, &event_id))?;
            positions.sort_unstable();
            let last = positions.len().saturating_sub(STORED_MAX);
            let mut stored = Vec::new();
            for position in positions.into_iter().skip(last) {
                let found = store.load(position)?;
                let is_it =
                    |it: &(RecordedEvent, u32)| it.1 == dataset && it.0.event_id == event_id;
                stored.extend(found.filter(is_it).map(|it| it.0));
            }
            Ok(stored)
        })
        .await
    }

    /// Where it was before it was removed, as long as the index has not forgotten that.
    async fn removed(&self, dataset: u32, event_id: &str) -> Result<Option<TraceStep>, Error> {
        let (store, event_id) = (self.clone(), event_id.to_owned());
        blocking(move || {
            let storage = &store.inner.storage;
            let floor = store.catalog().dataset_by_number(dataset).map(|it| it.floor);
            for position in storage.ids_with(id_hash(dataset, &event_id))? {
                let Some(block) = storage.block(position)? else { continue };
                let record = block.get(position)?;
                let is_it = |it: &crate::storage::pb::EventRecord| {
                    it.dataset == dataset && it.event_id == event_id
                };
                if record.as_ref().is_some_and(is_it) {
                    let floor = floor.unwrap_or_default();
                    return Ok(Some(TraceStep::Removed { position, floor }));
                }
            }
            Ok(None)
        })
        .await
    }
}
