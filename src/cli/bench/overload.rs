//! What a server does that is offered many times what it can take, by clients that do not wait as they
//! are told to.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    cli::{
        bench::{
            Bench,
            events::BenchEvent,
            figures::{Figure, float},
            generate::Generator,
            ingest,
            options::{Cell, OverloadArgs},
            plot::{self, Across, Line, Panel},
            schema_documents,
            server::{ChildServer, WorkFolder, resident_bytes},
            slow_disk,
        },
        failure::{Done, Failure},
        output::Output,
    },
    grpc::{
        client::{CallError, EventClient},
        pb,
    },
};

const EVENTS: usize = 100_000;
/// What the server can take is what it takes from these.
const CAPACITY: Cell = Cell { batch: 100, clients: 8 };
const CONNECTIONS: usize = 64;
/// Appends that each connection has on their way.
const AT_ONCE: usize = 32;
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// How long the server is watched afterwards, in samples.
const SAMPLES_AFTER: u32 = 20;

pub(crate) async fn run(args: OverloadArgs) -> Done {
    let mut output = Output::new(args.output);
    let mut generator = Generator::new(args.seed);
    let events = (0..EVENTS).map(|_| BenchEvent::parse(generator.next_event()));
    let events = Arc::new(events.collect::<Result<Vec<_>, _>>()?);
    let child = start(&args).await?;
    let pid = child.pid();
    let bench = Bench::of(child, &events, &schema_documents(&[])?).await?;

    let capacity = ingest::cell(&bench, CAPACITY, args.seconds).await?;
    capacity.print(&mut output)?;
    let rate = capacity.get("events_per_s").unwrap_or_default();
    let mut samples = Samples { begin: Instant::now(), pid, points: Vec::new() };
    samples.take();
    let storm = storm(&bench, rate, args.seconds, &mut samples).await?;
    let stormed = samples.begin.elapsed();
    for _ in 0..SAMPLES_AFTER {
        sleep(SAMPLE_EVERY).await;
        samples.take();
    }
    let last = samples.points.last().map_or(0.0, |it| it.1);
    let most = samples.points.iter().map(|it| it.1).fold(0.0, f64::max);
    let (taken, refused) = (storm.taken.load(Relaxed), storm.refused.load(Relaxed));
    let seconds = stormed.as_secs_f64();
    let per_second = |appends| float(appends * CAPACITY.batch as u64) / seconds;
    Figure::new("overload", format!("{} appends at once", CONNECTIONS * AT_ONCE))
        .value("offered_per_s", per_second(taken + refused), "events/s offered")
        .value("offered_to_capacity", per_second(taken + refused) / rate, "of what it took before")
        .value("offered_to_taken", float(taken + refused) / float(taken), "of what it took")
        .value("taken_per_s", per_second(taken), "events/s taken")
        .value("taken_to_capacity", per_second(taken) / rate, "of what it took before")
        .value("rss_before_mib", samples.points.first().map_or(0.0, |it| it.1), "MiB before")
        .value("rss_peak_mib", most, "MiB at most")
        .value("rss_after_mib", last, "MiB after")
        .print(&mut output)?;
    if let Some(file) = &args.plot {
        write_plot(file, &samples.points)?;
    }
    all_is_there(&bench, &storm).await?;
    bench.finish().await
}

async fn start(args: &OverloadArgs) -> Result<ChildServer, Failure> {
    let folder = WorkFolder::create(&args.dir)?;
    let Some(library) = &args.slow_disk else { return ChildServer::start(folder).await };
    let sync = Duration::from_millis(args.sync_ms);
    let environment = slow_disk::environment(library, sync, folder.path())?;
    let child = ChildServer::start_with(folder, environment).await?;
    slow_disk::check(library, child.pid())?;
    Ok(child)
}

/// Resident memory over time.
struct Samples {
    begin: Instant,
    pid: u32,
    /// Seconds, and MiB.
    points: Vec<(f64, f64)>,
}

impl Samples {
    fn take(&mut self) {
        let mib = float(resident_bytes(self.pid).now / 1024) / 1024.0;
        self.points.push((self.begin.elapsed().as_secs_f64(), mib));
    }
}

/// What the clients share.
struct Storm {
    events: Arc<Vec<BenchEvent>>,
    datasets: Vec<String>,
    next: AtomicUsize,
    over: AtomicBool,
    /// Appends that were stored, and tries that were not.
    taken: AtomicU64,
    refused: AtomicU64,
}

/// Offers batches from everywhere for a time; whoever is refused tries again at once.
async fn storm(
    bench: &Bench,
    rate: f64,
    seconds: u64,
    samples: &mut Samples,
) -> Result<Arc<Storm>, Failure> {
    let mut storm = Storm {
        events: Arc::clone(&bench.events),
        datasets: Vec::new(),
        next: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        taken: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    };
    // Twice as many events as are taken of few clients, and, for a disk that takes more of many, four
    // times as many as are on their way.
    let on_their_way = float((CONNECTIONS * AT_ONCE * CAPACITY.batch) as u64);
    let enough = 2.0 * rate * float(seconds) + 4.0 * on_their_way;
    while float((storm.datasets.len() * EVENTS) as u64) < enough {
        let name = format!("storm-{}", storm.datasets.len());
        storm.datasets.push(bench.create_dataset(&name).await?);
    }
    let storm = Arc::new(storm);
    let mut tasks = JoinSet::new();
    for connection in bench.connections(CONNECTIONS).await? {
        for _ in 0..AT_ONCE {
            tasks.spawn(client(Arc::clone(&storm), connection.events()));
        }
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        sleep(SAMPLE_EVERY).await;
        samples.take();
    }
    storm.over.store(true, Relaxed);
    while let Some(done) = tasks.join_next().await {
        done.map_err(|panic| Failure::Local(panic.into()))??;
    }
    Ok(storm)
}

async fn client(storm: Arc<Storm>, mut client: EventClient) -> Done {
    loop {
        let number = storm.next.fetch_add(1, Relaxed);
        let from = number * CAPACITY.batch;
        let Some(dataset) = storm.datasets.get(from / EVENTS) else {
            return Err(anyhow!("more events were taken than had been made").into());
        };
        let batch = storm.events.iter().skip(from % EVENTS).take(CAPACITY.batch);
        let events: Vec<_> = batch.map(BenchEvent::to_proto).collect();
        loop {
            let request = pb::AppendEventsRequest {
                dataset: dataset.clone(),
                events: events.clone(),
                ..Default::default()
            };
            let refused = match client.append_events(request).await {
                Ok(response) => {
                    ingest::check(response.get_ref(), CAPACITY.batch)?;
                    storm.taken.fetch_add(1, Relaxed);
                    break;
                }
                Err(status) => CallError::from(status),
            };
            if refused.retry_after.is_none() {
                return Err(refused.into());
            }
            storm.refused.fetch_add(1, Relaxed);
            if storm.over.load(Relaxed) {
                return Ok(());
            }
        }
        if storm.over.load(Relaxed) {
            return Ok(());
        }
    }
}

/// What was answered is there, and nothing else is.
async fn all_is_there(bench: &Bench, storm: &Storm) -> Done {
    let request = pb::CountEventsRequest {
        filter: Some(pb::EventFilter { datasets: storm.datasets.clone(), ..Default::default() }),
    };
    let found = bench.connect().await?.events().count_events(request).await?.into_inner().count;
    let wanted = storm.taken.load(Relaxed) * CAPACITY.batch as u64;
    if found == wanted {
        return Ok(());
    }
    Err(anyhow!("{found} events are stored, and {wanted} were taken").into())
}

fn write_plot(file: &Path, points: &[(f64, f64)]) -> anyhow::Result<()> {
    let line = Line { name: "", points: points.to_vec() };
    let panel = Panel { title: "Memory, resident", unit: "MiB", lines: vec![line] };
    let (title, axis) = ("Overload", "seconds");
    fs::write(file, plot::svg(title, axis, Across::Linear, &[panel]))
        .with_context(|| format!("cannot write `{}`", file.display()))
}
