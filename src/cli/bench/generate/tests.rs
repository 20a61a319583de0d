use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;

use super::{Generator, TYPES};
use crate::{
    cli::bench::documents,
    model::json::Document,
    schema::{SchemaDocument, built_in, closure, compile},
};

fn events(seed: u64, count: usize) -> Vec<String> {
    let mut generator = Generator::new(seed);
    (0..count).map(|_| generator.next_event()).collect()
}

#[test]
fn the_same_seed_gives_the_same_events() {
    assert_eq!(events(7, 50), events(7, 50));
    assert_ne!(events(7, 1), events(8, 1));
}

#[test]
fn events_have_the_size_and_the_identities_that_are_promised() {
    let events = events(20_260_101, 20_000);
    let bytes = events.iter().map(String::len).sum::<usize>() / events.len();
    assert!((1_200..1_360).contains(&bytes), "mean {bytes} bytes");
    let mut identities = 0;
    let (mut ids, mut types, mut busiest) = (HashSet::new(), HashSet::new(), HashMap::new());
    for event in &events {
        let event: Value = serde_json::from_str(event).unwrap();
        identities += event["identityMap"].as_object().unwrap().len();
        ids.insert(event["_id"].as_str().unwrap().to_owned());
        types.insert(event["eventType"].as_str().unwrap().to_owned());
        let ecid = event["identityMap"]["ECID"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(ecid.len(), 38);
        *busiest.entry(ecid).or_insert(0) += 1;
    }
    assert!((38_000..40_000).contains(&identities), "{identities} identities");
    assert_eq!((ids.len(), types.len()), (events.len(), TYPES.len()));
    let busiest = busiest.values().max().copied().unwrap();
    assert!((300..800).contains(&busiest), "the busiest has {busiest}");
}

#[test]
fn the_schema_accepts_every_generated_event() {
    let library: HashMap<String, Arc<SchemaDocument>> = documents()
        .map(|text| SchemaDocument::parse(text).unwrap())
        .chain(built_in())
        .map(|it| (it.id().to_owned(), Arc::new(it)))
        .collect();
    let root = &library["https://ns.example.com/store/schemas/bench-event"];
    let closure = closure(root, |id| library.get(id).cloned()).unwrap();
    let schema = compile(root, &closure).unwrap();
    for event in events(3, 2_000) {
        let violations = schema.violations(&Document::parse(&event).unwrap(), 10);
        assert!(violations.is_empty(), "{violations:?}\n{event}");
    }
}
