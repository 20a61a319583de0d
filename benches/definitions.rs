//! What event definitions cost an append: none, one, and a thousand of them in force.

#![expect(clippy::expect_used, reason = "a bench that cannot start should stop")]

#[expect(dead_code, unreachable_pub, reason = "shared with another bench")]
mod support;

use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use milepost::{
    model::DefinitionName,
    store::{DefinitionKind, DefinitionSettings, DefinitionSpec, DefinitionState},
};
use tokio::runtime::Runtime;

use support::Bench;

const EVENTS: u64 = 100;
const CLIENTS: u64 = 8;

/// A definition of which the condition looks at the type and at one more field of each event.
async fn define(bench: &Bench, number: usize) {
    let kind = ["web.view", "web.click", "commerce.purchase", "place.entry"];
    let kind = kind.iter().cycle().nth(number).expect("a type");
    let spec = DefinitionSpec {
        kind: DefinitionKind::UnitaryRule,
        schema_id: support::SCHEMA.into(),
        condition: format!("eventType == '{kind}' && page.name == 'page-{number}'"),
        namespace: String::new(),
        key: String::new(),
        fields: Vec::new(),
        state: DefinitionState::Live,
        effective: milepost::model::TimeRange::default(),
        coalescing: Duration::ZERO,
    };
    let settings = DefinitionSettings {
        spec,
        display_name: String::new(),
        description: String::new(),
        labels: std::collections::BTreeMap::new(),
        used_by: Vec::new(),
    };
    let name = DefinitionName::parse("name", &format!("definition_{number}")).expect("a name");
    bench.store.create_event_definition(name, settings, false).await.expect("a definition");
}

fn benches_of(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut bench = runtime.block_on(Bench::new());
    let mut defined = 0;
    for definitions in [0, 1, 1000] {
        while defined < definitions {
            runtime.block_on(define(&bench, defined));
            defined += 1;
        }
        // Judged, matched and encoded; nothing is written.
        let mut group = c.benchmark_group("judge and match");
        group.throughput(Throughput::Elements(EVENTS));
        group.bench_function(BenchmarkId::from_parameter(definitions), |b| {
            let store = bench.store.clone();
            b.iter_batched(
                || {
                    let mut append = bench.events(EVENTS);
                    append.validate_only = true;
                    append
                },
                |append| runtime.block_on(store.append(append)).expect("sound"),
                BatchSize::PerIteration,
            );
        });
        group.finish();
        // Durable, by eight clients at a time.
        let mut group = c.benchmark_group("append by 8");
        group.throughput(Throughput::Elements(EVENTS * CLIENTS));
        group.sample_size(20);
        group.bench_function(BenchmarkId::from_parameter(definitions), |b| {
            let store = bench.store.clone();
            b.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let appends: Vec<_> = (0..CLIENTS).map(|_| bench.events(EVENTS)).collect();
                    let begin = Instant::now();
                    runtime.block_on(async {
                        let tasks: Vec<_> = appends
                            .into_iter()
                            .map(|append| {
                                let store = store.clone();
                                tokio::spawn(async move { store.append(append).await })
                            })
                            .collect();
                        for task in tasks {
                            task.await.expect("a task").expect("stored");
                        }
                    });
                    took += begin.elapsed();
                }
                took
            });
        });
        group.finish();
    }
}

criterion_group!(benches, benches_of);
criterion_main!(benches);
