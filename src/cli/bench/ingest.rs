//! Appends: every client has its own connection and one append in flight.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::{
    cli::{
        bench::{
            Bench,
            events::BenchEvent,
            figures::{Figure, Times},
            options::Cell,
        },
        failure::Failure,
    },
    grpc::{
        client::EventClient,
        pb::{self, append_result::Outcome},
    },
};

/// How often a cell may go through the events, each time with a dataset of its own: an event id is
/// stored once per dataset.
const ROUNDS_MAX: usize = 4;
const LOAD: Cell = Cell { batch: 100, clients: 8 };

/// Appends for a time.
pub(crate) async fn cell(bench: &Bench, cell: Cell, seconds: u64) -> Result<Figure, Failure> {
    let Cell { batch, clients } = cell;
    let mut datasets = Vec::new();
    for round in 0..ROUNDS_MAX {
        datasets.push(bench.create_dataset(&format!("{batch}x{clients}-{round}")).await?);
    }
    let until = Some(Duration::from_secs(seconds));
    let figure = Figure::new("ingest", format!("batch {batch}, {clients} clients"));
    run(bench, cell, datasets, until, figure).await
}

/// Appends every event once.
pub(crate) async fn load(bench: &Bench, dataset: &str) -> Result<Figure, Failure> {
    let figure = Figure::new("load", format!("batch {}, {} clients", LOAD.batch, LOAD.clients));
    run(bench, LOAD, vec![dataset.to_owned()], None, figure).await
}

/// What the clients share.
struct Work {
    events: Arc<Vec<BenchEvent>>,
    datasets: Vec<String>,
    batch: usize,
    /// Batches in one round.
    batches: usize,
    next: AtomicUsize,
}

async fn run(
    bench: &Bench,
    Cell { batch, clients }: Cell,
    datasets: Vec<String>,
    limit: Option<Duration>,
    figure: Figure,
) -> Result<Figure, Failure> {
    let work = Arc::new(Work {
        events: Arc::clone(&bench.events),
        datasets,
        batch,
        batches: bench.events.len().div_ceil(batch),
        next: AtomicUsize::new(0),
    });
    let connections = bench.connections(clients).await?;
    let meter = bench.meter();
    let until = limit.map(|limit| meter.started() + limit);
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(client(Arc::clone(&work), connection.events(), until));
    }
    let (mut times, mut appended) = (Times::default(), 0);
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|panic| Failure::Local(panic.into()))??;
        times.extend(done.times);
        appended += done.appended;
    }
    Ok(figure
        .with("batch", batch as u64)
        .with("clients", clients as u64)
        .with("events", appended)
        .value("events_per_s", meter.per_second(appended), "events/s")
        .times(&mut times)
        .cpu(&meter, appended))
}

#[derive(Default)]
struct Appended {
    times: Times,
    appended: u64,
}

async fn client(
    work: Arc<Work>,
    mut client: EventClient,
    until: Option<Instant>,
) -> Result<Appended, Failure> {
    let mut done = Appended::default();
    while until.is_none_or(|until| Instant::now() < until) {
        let Some(request) = work.next_request() else { break };
        let wanted = request.events.len();
        let begin = Instant::now();
        let response = client.append_events(request).await?.into_inner();
        done.times.add(begin.elapsed());
        check(&response, wanted)?;
        done.appended += wanted as u64;
    }
    Ok(done)
}

impl Work {
    fn next_request(&self) -> Option<pb::AppendEventsRequest> {
        let number = self.next.fetch_add(1, Relaxed);
        let dataset = self.datasets.get(number / self.batches)?.clone();
        let from = number % self.batches * self.batch;
        let until = (from + self.batch).min(self.events.len());
        let events = self.events.get(from..until)?.iter().map(BenchEvent::to_proto).collect();
        Some(pb::AppendEventsRequest { dataset, events, ..Default::default() })
    }
}

/// A measurement of appends that stored nothing would be none.
pub(super) fn check(response: &pb::AppendEventsResponse, wanted: usize) -> Result<(), Failure> {
    let appended = response.results.iter().filter(|it| it.outcome() == Outcome::Appended).count();
    if appended == wanted {
        return Ok(());
    }
    let found = format!("appended {appended} of {wanted} events; are their ids unique?");
    Err(Failure::Local(anyhow!(found)))
}
