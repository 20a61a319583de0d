//! A store in a directory of its own, and events to put into it.

use milepost::{
    model::DatasetName,
    store::{
        Append, AppendMode, DatasetSettings, Durability, EventStore, RegisterSchema, StoreOptions,
    },
};
use serde_json::json;
use tempfile::TempDir;

pub const SCHEMA: &str = "https://ns.example.com/bench/event";
const PERSONS: u64 = 1_000;
const TYPES: [&str; 4] = ["web.view", "web.click", "commerce.purchase", "place.entry"];

/// An open store, its directory and how many events have been made for it.
pub struct Bench {
    pub store: EventStore,
    dataset: DatasetName,
    made: u64,
    _directory: TempDir,
}

impl Bench {
    pub async fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let store = EventStore::open(directory.path(), StoreOptions::default()).expect("a store");
        let schema = json!({
            "$id": SCHEMA,
            "allOf": [{"$ref": "https://ns.adobe.com/xdm/context/experienceevent"}],
            "properties": {"page": {"type": "object", "properties": {"name": {"type": "string"}}}},
        });
        store
            .register_schema(RegisterSchema { document: schema.to_string(), ..Default::default() })
            .await
            .expect("a schema");
        let dataset = DatasetName::parse("name", "bench").expect("a name");
        let settings = DatasetSettings { schema_id: SCHEMA.into(), ..DatasetSettings::default() };
        let created = store.create_dataset(dataset.clone(), settings, false, false).await;
        created.expect("a dataset");
        Self { store, dataset, made: 0, _directory: directory }
    }

    /// New events of about 1.2 KB, no two with the same id.
    pub fn events(&mut self, count: u64) -> Append {
        let numbers = self.made..self.made + count;
        self.made += count;
        let events = numbers.map(|number| Ok(event(number).into())).collect();
        let dataset = self.dataset.clone();
        Append {
            dataset,
            events,
            mode: AppendMode::Atomic,
            conditions: Vec::new(),
            validate_only: false,
            deadline: None,
            releases: Vec::new(),
            on_invalid: None,
            durability: Durability::Sync,
        }
    }

    pub async fn append(&self, append: Append) {
        self.store.append(append).await.expect("stored");
    }
}

fn event(number: u64) -> String {
    let person = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % PERSONS;
    let name = TYPES.iter().cycle().nth(usize::try_from(number % 4).unwrap_or(0));
    let filler = format!("{number:08x}-").repeat(140);
    json!({
        "_id": format!("event-{number}"),
        "timestamp": "2026-01-05T09:30:00Z",
        "eventType": name,
        "identityMap": {
            "Email": [{"id": format!("person{person}@example.com"), "primary": true}],
            "CRMID": [{"id": format!("C-{person}")}],
        },
        "page": {"name": filler.get(..900)},
    })
    .to_string()
}
