//! The log as a client reads it, held against what was sent and answered.

use std::collections::{BTreeMap, HashMap};

use milepost::grpc::pb::{self, append_result::Outcome};

use super::{
    Client,
    client::{by_identity, by_type, json_of, reading, string_of},
    load::{Batch, DATASETS, all, positions},
};

/// An event as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: String,
    /// The payload's hash.
    pub(crate) payload: u64,
    pub(crate) dataset: String,
}

/// The log as read back, and what follows from it.
#[derive(Default)]
pub(crate) struct Known {
    /// By position.
    pub(crate) events: BTreeMap<u64, Kept>,
    last: u64,
    floors: BTreeMap<String, u64>,
    by_id: HashMap<String, u64>,
    by_identity: BTreeMap<(String, String), Vec<u64>>,
    by_type: BTreeMap<String, Vec<u64>>,
}

pub(crate) fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A read that gives what is kept and says what is not.
fn clamped(filter: pb::EventFilter) -> pb::ReadEventsRequest {
    let mut request = reading(filter);
    request.set_below_floor(pb::BelowFloor::Clamp);
    request
}

impl Known {
    /// The last position.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The position up to which a dataset has lost its events.
    pub(crate) fn floor(&self, dataset: &str) -> u64 {
        self.floors.get(dataset).copied().unwrap_or(0)
    }

    /// Reads what is new; positions must go on without a hole but where events were trimmed.
    pub(crate) async fn catch_up(&mut self, client: &Client) {
        for name in DATASETS {
            // It may not have been created yet.
            let floor = client.dataset(name).await.map_or(0, |it| it.floor_position);
            assert!(self.floor(name) <= floor, "the floor of `{name}` sinks");
            self.floors.insert(name.to_owned(), floor);
        }
        let trimmed_to = self.floors.values().copied().max().unwrap();
        let mut request = clamped(pb::EventFilter::default());
        request.after = self.last;
        let mut reached = self.last;
        for event in client.read(request).await.unwrap() {
            let position = event.position;
            let dense =
                position == reached + 1 || (reached < position && position <= trimmed_to + 1);
            assert!(dense, "positions are not dense: {position} comes after {reached}");
            assert!(position > self.floor(&event.dataset), "position {position} is trimmed");
            reached = position;
            for identity in &event.identities {
                let place = (string_of(&identity.namespace), string_of(&identity.id));
                self.by_identity.entry(place).or_default().push(position);
            }
            self.by_type.entry(string_of(&event.event_type)).or_default().push(position);
            let (id, payload) = (string_of(&event.event_id), hash(json_of(&event)));
            let twice = self.by_id.insert(id.clone(), position);
            assert_eq!(twice, None, "`{id}` is stored twice");
            self.events.insert(position, Kept { id, payload, dataset: event.dataset });
        }
        self.last = client.last_position().await;
        let dense = self.last == reached || (reached < self.last && self.last <= trimmed_to);
        assert!(dense, "the last position is {}, the last read {reached}", self.last);
    }

    /// The batch is at these positions, byte for byte, but for what is trimmed.
    pub(crate) fn has(&self, batch: &Batch, positions: &[u64]) {
        for ((id, payload), position) in batch.ids().zip(positions) {
            let wanted = Kept { id, payload, dataset: batch.dataset.to_owned() };
            self.has_event(*position, &wanted);
        }
    }

    /// The event is at this position, unless it is trimmed.
    pub(crate) fn has_event(&self, position: u64, wanted: &Kept) {
        if position <= self.floor(&wanted.dataset) {
            let found = self.events.get(&position);
            assert_eq!(found, None, "position {position} is trimmed");
            return;
        }
        let Some(found) = self.events.get(&position) else {
            panic!("acknowledged position {position} is lost: {wanted:?}");
        };
        assert_eq!(found, wanted, "position {position} has another event");
    }

    /// Every event is one that was sent, byte for byte.
    pub(crate) fn was_sent(&self, sent: &HashMap<String, u64>) {
        for Kept { id, payload, .. } in self.events.values() {
            assert_eq!(sent.get(id), Some(payload), "`{id}` was not sent like this");
        }
    }

    /// No batch of the log is torn: all its events are there, side by side, in order, but for what is
    /// trimmed.
    pub(crate) fn is_whole(&self, after: u64) {
        for (position, event) in self.events.range(after + 1..) {
            let (batch, rest) = event.id.split_once('.').unwrap();
            let (index, size) = rest.split_once('/').unwrap();
            let (index, size): (u64, u64) = (index.parse().unwrap(), size.parse().unwrap());
            assert!(*position > index, "a batch starts in its middle: {event:?}");
            // Its neighbours look at theirs.
            for other in index.saturating_sub(1)..size.min(index + 2) {
                let place = position - index + other;
                let wanted = format!("{batch}.{other}/{size}");
                let found = self.events.get(&place).map(|it| &it.id);
                let trimmed = place <= self.floor(&event.dataset);
                assert!(
                    if trimmed { found.is_none() } else { found == Some(&wanted) },
                    "a torn batch: {wanted} should be at {place}, there is {found:?}"
                );
            }
        }
    }

    /// A batch without an answer is there whole or not at all, and a retry tells. Returns where it is
    /// now; `None` when a part of it is trimmed, which a retry would store anew.
    pub(crate) async fn settle(&mut self, client: &Client, batch: &Batch) -> Option<Vec<u64>> {
        let places: Vec<_> = batch.ids().map(|(id, _)| self.position_of(&id)).collect();
        let stored = places.iter().filter(|it| it.is_some()).count();
        if stored > 0 && stored < places.len() && self.floor(batch.dataset) > 0 {
            return None;
        }
        let answer = batch.append(client).await.unwrap();
        let wanted = if stored > 0 { Outcome::Duplicate } else { Outcome::Appended };
        if batch.is_atomic() {
            assert!(all(&answer, wanted), "{places:?}: {answer:?}");
        }
        let positions = positions(&answer);
        for (place, position) in places.iter().zip(&positions) {
            assert!(
                place.is_none_or(|it| it == *position),
                "a retry moved {place:?} to {position}"
            );
        }
        self.catch_up(client).await;
        self.has(batch, &positions);
        Some(positions)
    }

    /// Where an event is.
    pub(crate) fn position_of(&self, id: &str) -> Option<u64> {
        self.by_id.get(id).copied()
    }

    /// Counts say what the log says.
    pub(crate) async fn counts_agree(&self, client: &Client) {
        let events = self.events.len() as u64;
        assert_eq!(client.count(pb::EventFilter::default()).await.unwrap(), events);
        assert_eq!(client.last_position().await, self.last());
        for ((namespace, id), positions) in &self.by_identity {
            let count = client.count(by_identity(namespace, id)).await.unwrap();
            assert_eq!(count, positions.len() as u64, "{namespace}:{id}");
        }
        for (event_type, positions) in &self.by_type {
            let count = client.count(by_type(event_type)).await.unwrap();
            assert_eq!(count, positions.len() as u64, "{event_type}");
        }
        let under = self.by_type.range("commerce.".to_owned().."commerce/".to_owned());
        let under: usize = under.map(|(_, positions)| positions.len()).sum();
        assert_eq!(client.count(by_type("commerce.*")).await.unwrap(), under as u64);
        for name in DATASETS {
            let found = client.dataset(name).await.map_or(0, |it| it.stats.unwrap().events);
            let wanted = self.events.values().filter(|it| it.dataset == name).count();
            assert_eq!(found, wanted as u64, "events of `{name}`");
        }
    }

    /// Reads by identity and by type find what the log says.
    pub(crate) async fn reads_agree(&self, client: &Client) {
        let found = async |filter| {
            let mut request = clamped(filter);
            request.set_payload_format(pb::PayloadFormat::None);
            let events = client.read(request).await.unwrap();
            events.iter().map(|it| it.position).collect::<Vec<_>>()
        };
        for ((namespace, id), positions) in &self.by_identity {
            assert_eq!(found(by_identity(namespace, id)).await, *positions, "{namespace}:{id}");
        }
        for (event_type, positions) in &self.by_type {
            assert_eq!(found(by_type(event_type)).await, *positions, "{event_type}");
        }
    }
}
