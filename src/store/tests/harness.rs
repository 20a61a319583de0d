//! A store in a directory of its own, with a clock that the test owns.

use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::Poll,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    model::{DatasetName, Direction, EventFilter, Position, RecordedEvent, Timestamp},
    store::{
        Append, AppendMode, Appended, BelowFloor, Clock, DatasetSettings, Durability, Error,
        EventStore, Read, StoreOptions,
    },
};

pub(super) const SCHEMA: &str = "https://example.com/schemas/visit";

/// Small enough that a few dozen events make several segments.
const INDEX_TAIL_EVENTS: u64 = 16;
/// And volumes of some segments.
const VOLUME_EVENTS: u64 = 150;

/// A registration of a document, whatever it breaks.
pub(super) fn register(document: &Value) -> crate::store::RegisterSchema {
    crate::store::RegisterSchema {
        document: document.to_string(),
        validate_only: false,
        force: true,
    }
}

pub(super) struct Harness {
    directory: TempDir,
    now_us: Arc<AtomicI64>,
    options: StoreOptions,
    pub(super) store: EventStore,
}

impl Harness {
    pub(super) async fn new() -> Self {
        Self::with(TempDir::new().unwrap(), StoreOptions::default()).await
    }

    /// A new store that is opened in a certain way.
    pub(super) async fn with(directory: TempDir, options: StoreOptions) -> Self {
        let now_us = Arc::new(AtomicI64::new(1_000_000));
        let store = open(&directory, &now_us, &options);
        let schema = json!({
            "$id": SCHEMA,
            "allOf": [{"$ref": "https://ns.adobe.com/xdm/context/experienceevent"}],
            "properties": {"price": {"type": "number"}},
        });
        store.register_schema(register(&schema)).await.unwrap();
        Self { directory, now_us, options, store }
    }

    /// Closes the store and opens it again from disk.
    pub(super) async fn reopen(&mut self) {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.close().unwrap()).await.unwrap();
        // The last handle on the old store gives the directory's lock back.
        let empty = TempDir::new().unwrap();
        self.store = open(&empty, &self.now_us, &self.options);
        self.store = open(&self.directory, &self.now_us, &self.options);
    }

    /// Closes the store; its directory.
    pub(super) async fn close(self) -> TempDir {
        let Self { directory, store, .. } = self;
        tokio::task::spawn_blocking(move || store.close().unwrap()).await.unwrap();
        directory
    }

    /// A store in a directory that has one.
    pub(super) fn on(directory: TempDir) -> Self {
        let now_us = Arc::new(AtomicI64::new(2_000_000));
        let options = StoreOptions::default();
        let store = open(&directory, &now_us, &options);
        Self { directory, now_us, options, store }
    }

    /// Moves the clock, also backward.
    pub(super) fn advance(&self, by_us: i64) {
        self.now_us.fetch_add(by_us, Ordering::Relaxed);
    }

    pub(super) async fn create_dataset(&self, name: &str) -> Result<(), Error> {
        let settings = DatasetSettings { schema_id: SCHEMA.into(), ..DatasetSettings::default() };
        let name = DatasetName::parse("name", name).unwrap();
        self.store.create_dataset(name, settings, false, false).await.map(drop)
    }

    pub(super) async fn append(
        &self,
        dataset: &str,
        events: Vec<String>,
        mode: AppendMode,
    ) -> Result<Appended, Error> {
        let dataset = DatasetName::parse("dataset", dataset).unwrap();
        let events = events.into_iter().map(|it| Ok(it.into())).collect();
        self.store
            .append(Append {
                dataset,
                events,
                mode,
                conditions: Vec::new(),
                validate_only: false,
                deadline: None,
                releases: Vec::new(),
                on_invalid: None,
                durability: Durability::Sync,
            })
            .await
    }

    pub(super) async fn read(
        &self,
        filter: EventFilter,
        direction: Direction,
        after: u64,
        before: u64,
        limit: u64,
    ) -> Result<Vec<RecordedEvent>, Error> {
        let (after, before) = (Position::new(after), Position::new(before));
        let below_floor = BelowFloor::Clamp;
        let read = Read { filter, after, before, direction, limit, below_floor };
        let mut reader = self.store.read(&read)?;
        let mut events = Vec::new();
        while let Some(page) = reader.next_page().await? {
            events.extend(page.events);
        }
        Ok(events)
    }

    /// Gives back all space that can be given back.
    pub(super) async fn compact(&self) {
        let (progress, mut states) = tokio::sync::mpsc::channel(1);
        let (done, ()) = tokio::join!(self.store.compact(progress), async {
            while states.recv().await.is_some() {}
        });
        let done = done.unwrap();
        assert_eq!(done.volumes_done, done.volumes);
    }

    pub(super) async fn read_all(&self) -> Vec<RecordedEvent> {
        self.read(EventFilter::default(), Direction::Forward, 0, 0, u64::MAX).await.unwrap()
    }
}

fn open(directory: &TempDir, now_us: &Arc<AtomicI64>, options: &StoreOptions) -> EventStore {
    let now_us = Arc::clone(now_us);
    let clock = Clock::new(move || Timestamp::from_micros(now_us.load(Ordering::Relaxed)));
    let options = StoreOptions {
        index_tail_events: INDEX_TAIL_EVENTS,
        volume_events: VOLUME_EVENTS,
        clock,
        ..options.clone()
    };
    EventStore::open(directory.path(), options).unwrap()
}

/// An event's JSON text.
pub(super) fn event(id: &str, event_type: &str, identities: &[(&str, &str)], price: u64) -> String {
    let mut map = serde_json::Map::new();
    for (namespace, id) in identities {
        let items = map.entry(*namespace).or_insert_with(|| Value::Array(Vec::new()));
        items.as_array_mut().unwrap().push(json!({"id": id}));
    }
    json!({
        "_id": id,
        "timestamp": "2026-01-05T09:30:00Z",
        "eventType": event_type,
        "identityMap": map,
        "price": price,
    })
    .to_string()
}

/// Runs all futures at once, on this task.
pub(super) async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(|it| (Box::pin(it), None)).collect();
    poll_fn(|cx| {
        for (future, done) in &mut waiting {
            if done.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *done = Some(output);
            }
        }
        if waiting.iter().all(|it| it.1.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|it| it.1).collect()
}
