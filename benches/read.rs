//! What reading costs without the network: all events, one identity's, a count from the index.

#![expect(clippy::expect_used, reason = "a bench that cannot start should stop")]

#[expect(unreachable_pub, reason = "shared with another bench")]
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use milepost::{
    model::{Direction, EventFilter, EventTypePattern, IdentityPattern, Position},
    store::{BelowFloor, EventStore, Read},
};
use tokio::runtime::Runtime;

use support::Bench;

const EVENTS: u64 = 100_000;
const BATCH: u64 = 1_000;

async fn read(store: &EventStore, filter: EventFilter) -> usize {
    let (after, before) = (Position::START, Position::START);
    let (direction, limit, below_floor) = (Direction::Forward, u64::MAX, BelowFloor::Fail);
    let read = Read { filter, after, before, direction, limit, below_floor };
    let mut reader = store.read(&read).expect("a read");
    let mut events = 0;
    while let Some(page) = reader.next_page().await.expect("a page") {
        events += page.events.len();
    }
    events
}

fn reading(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut bench = runtime.block_on(Bench::new());
    for _ in 0..EVENTS / BATCH {
        let append = bench.events(BATCH);
        runtime.block_on(bench.append(append));
    }
    let store = &bench.store;
    let mut group = c.benchmark_group("read");
    group.sample_size(10);
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("all", |b| {
        b.iter(|| runtime.block_on(read(store, EventFilter::default())));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("one identity", |b| {
        let id = Some("person7@example.com".into());
        let identities = vec![IdentityPattern { namespace: "Email".into(), id }];
        let filter = EventFilter { identities, ..EventFilter::default() };
        b.iter(|| runtime.block_on(read(store, filter.clone())));
    });
    group.bench_function("count of a type", |b| {
        let event_types = vec![EventTypePattern::Exact("commerce.purchase".into())];
        let filter = EventFilter { event_types, ..EventFilter::default() };
        b.iter(|| runtime.block_on(store.count(&filter)).expect("a count"));
    });
    group.finish();
}

criterion_group!(benches, reading);
criterion_main!(benches);
