//! Appends: every client has its own connection and one append in flight.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::anyhow;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    cli::{
        bench::{
            Bench,
            events::BenchEvent,
            figures::{Figure, Times, float},
            options::Cell,
        },
        failure::Failure,
    },
    grpc::{
        client::{CallError, EventClient},
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
    let figure = Figure::new("ingest", cell.to_string());
    for_a_time(bench, cell, &format!("{batch}x{clients}"), seconds, figure).await
}

/// Appends as the load does, for a time, beside others.
pub(crate) async fn beside(
    bench: &Bench,
    name: &str,
    seconds: u64,
    figure: Figure,
) -> Result<Figure, Failure> {
    for_a_time(bench, LOAD, name, seconds, figure).await
}

async fn for_a_time(
    bench: &Bench,
    cell: Cell,
    name: &str,
    seconds: u64,
    figure: Figure,
) -> Result<Figure, Failure> {
    let mut datasets = Vec::new();
    for round in 0..ROUNDS_MAX {
        datasets.push(bench.create_dataset(&format!("{name}-{round}")).await?);
    }
    let until = Some(Duration::from_secs(seconds));
    run(bench, cell, datasets, until, figure, Spoiled::None).await
}

/// Appends every event once, each by itself, without and with every tenth one wrong, in turns.
pub(crate) async fn quarantine(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for turn in 0..3 {
        for (what, spoiled) in [("clean", Spoiled::NoneOfEach), ("10 % wrong", Spoiled::Tenth)] {
            let name =
                format!("{}-{turn}", if spoiled == Spoiled::Tenth { "wrong" } else { "clean" });
            let dataset = bench.create_quarantine(&name).await?;
            let figure = Figure::new("quarantine", what);
            figures.push(run(bench, LOAD, vec![dataset], None, figure, spoiled).await?);
        }
    }
    Ok(figures)
}

/// Which events are made wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoiled {
    /// None, and batches are atomic.
    None,
    /// None, but each event is taken by itself.
    NoneOfEach,
    /// Every tenth, and each event is taken by itself.
    Tenth,
}

/// One of so many is wrong.
const TENTH: usize = 10;

/// Appends every event once.
pub(crate) async fn load(bench: &Bench, dataset: &str) -> Result<Figure, Failure> {
    load_as(bench, dataset, Figure::new("load", LOAD.to_string())).await
}

/// The same as another figure.
pub(crate) async fn load_as(
    bench: &Bench,
    dataset: &str,
    figure: Figure,
) -> Result<Figure, Failure> {
    run(bench, LOAD, vec![dataset.to_owned()], None, figure, Spoiled::None).await
}

/// What the clients share.
struct Work {
    events: Arc<Vec<BenchEvent>>,
    datasets: Vec<String>,
    batch: usize,
    /// Batches in one round.
    batches: usize,
    next: AtomicUsize,
    spoiled: Spoiled,
}

async fn run(
    bench: &Bench,
    Cell { batch, clients }: Cell,
    datasets: Vec<String>,
    limit: Option<Duration>,
    figure: Figure,
    spoiled: Spoiled,
) -> Result<Figure, Failure> {
    let work = Arc::new(Work {
        events: Arc::clone(&bench.events),
        datasets,
        batch,
        batches: bench.events.len().div_ceil(batch),
        next: AtomicUsize::new(0),
        spoiled,
    });
    let connections = bench.connections(clients).await?;
    let meter = bench.meter();
    let until = limit.map(|limit| meter.started() + limit);
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(client(Arc::clone(&work), connection.events(), until));
    }
    let mut all = Tally::default();
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|panic| Failure::Local(panic.into()))??;
        all.times.extend(done.times);
        all.appended += done.appended;
        all.refusals += done.refusals;
    }
    let figure = figure
        .with("batch", batch as u64)
        .with("clients", clients as u64)
        .with("events", all.appended)
        .value("events_per_s", meter.per_second(all.appended), "events/s")
        .times(&mut all.times)
        .cpu(&meter, all.appended);
    let refusals = float(all.refusals);
    Ok(if all.refusals > 0 { figure.value("refusals", refusals, "times busy") } else { figure })
}

#[derive(Default)]
struct Tally {
    /// From the first call of a batch until it was stored.
    times: Times,
    appended: u64,
    /// Calls that the server was too busy to take.
    refusals: u64,
}

async fn client(
    work: Arc<Work>,
    mut client: EventClient,
    until: Option<Instant>,
) -> Result<Tally, Failure> {
    let mut done = Tally::default();
    while until.is_none_or(|until| Instant::now() < until) {
        let number = work.next.fetch_add(1, Relaxed);
        let Some((dataset, batch)) = work.batch(number) else { break };
        let wanted = batch.len();
        let begin = Instant::now();
        let request = || request(dataset, batch, work.spoiled);
        let (response, refusals) = append(&mut client, request).await?;
        done.times.add(begin.elapsed());
        done.refusals += refusals;
        let wrong = if work.spoiled == Spoiled::Tenth { wanted.div_ceil(TENTH) } else { 0 };
        check(&response, wanted - wrong)?;
        let aside = |it: &&pb::AppendResult| it.outcome() == Outcome::Quarantined;
        if response.results.iter().filter(aside).count() != wrong {
            return Err(Failure::Local(anyhow!("not every wrong event was set aside")));
        }
        done.appended += wanted as u64;
    }
    Ok(done)
}

impl Work {
    /// The batch of that number and its dataset; none after the last round.
    fn batch(&self, number: usize) -> Option<(&str, &[BenchEvent])> {
        let dataset = self.datasets.get(number / self.batches)?;
        let from = number % self.batches * self.batch;
        let until = (from + self.batch).min(self.events.len());
        Some((dataset, self.events.get(from..until)?))
    }
}

fn request(dataset: &str, batch: &[BenchEvent], spoiled: Spoiled) -> pb::AppendEventsRequest {
    let mode = match spoiled {
        Spoiled::None => pb::AppendMode::Atomic,
        Spoiled::NoneOfEach | Spoiled::Tenth => pb::AppendMode::PerEvent,
    };
    let event = |(place, event): (usize, &BenchEvent)| {
        let wrong = spoiled == Spoiled::Tenth && place.is_multiple_of(TENTH);
        if wrong { event.to_spoiled_proto() } else { event.to_proto() }
    };
    pb::AppendEventsRequest {
        dataset: dataset.to_owned(),
        mode: mode.into(),
        events: batch.iter().enumerate().map(event).collect(),
        ..Default::default()
    }
}

/// Appends once, after as many tries as the server asks for. Tells how often it refused.
pub(super) async fn append(
    client: &mut EventClient,
    request: impl Fn() -> pb::AppendEventsRequest,
) -> Result<(pb::AppendEventsResponse, u64), Failure> {
    let mut refusals = 0;
    loop {
        let refused = match client.append_events(request()).await {
            Ok(response) => return Ok((response.into_inner(), refusals)),
            Err(status) => CallError::from(status),
        };
        let Some(wait) = refused.retry_after else { return Err(refused.into()) };
        refusals += 1;
        sleep(wait).await;
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
