//! What an append costs without the network: judged, indexed and durable, by batch size.

#![expect(clippy::expect_used, reason = "a bench that cannot start should stop")]

#[expect(dead_code, unreachable_pub, reason = "shared with another bench")]
mod support;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

use support::Bench;

fn append(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut bench = runtime.block_on(Bench::new());
    let mut group = c.benchmark_group("append");
    for batch in [1, 100, 1000] {
        group.throughput(Throughput::Elements(batch));
        group.sample_size(20);
        group.bench_function(BenchmarkId::from_parameter(batch), |b| {
            let store = bench.store.clone();
            b.iter_batched(
                || bench.events(batch),
                |append| runtime.block_on(store.append(append)).expect("stored"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
