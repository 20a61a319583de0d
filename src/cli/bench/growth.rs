//! How a server does as its log grows: the same figures again and again while events come in.

mod sample;

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, anyhow};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{
    cli::{
        bench::{
            Bench,
            figures::{Figure, float, ratio},
            generate::Generator,
            growth::sample::Sample,
            ingest,
            options::GrowthArgs,
            plot::{self, Across, Line, Panel},
            random::Random,
            reads::{identity_filter, random_lookups},
            schema_documents, server,
        },
        failure::{Done, Failure},
        output::Output,
    },
    grpc::{
        client::EventClient,
        pb::{self, event::Payload},
    },
};

/// Events in the log at which everything is measured.
const MARKS: [u64; 7] = [100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000];
const BATCH: u64 = 100;
const CLIENTS: usize = 8;
/// Batches generated ahead of the clients.
const QUEUED_BATCHES: usize = 64;

pub(crate) async fn run(args: GrowthArgs) -> Done {
    let mut output = Output::new(args.output);
    let documents = schema_documents(&[])?;
    let mut bench = Bench::start(&args.dir, None, &Arc::default(), &documents).await?;
    let dataset = bench.create_dataset("growth").await?;
    let mut feed = Feed::new(args.seed);
    let mut figures = Vec::new();
    for mark in marks(args.count) {
        let missing = mark - feed.events;
        let figure;
        (feed, figure) = append(&bench, &dataset, feed, missing).await?;
        let figure = at_mark(&mut bench, &dataset, &feed, args.lookups, figure).await?;
        figure.print(&mut output)?;
        figures.push(figure);
        // Each time: a run that is ended early has its picture, too.
        if let Some(file) = &args.plot {
            write_plot(file, &figures)?;
        }
    }
    bench.finish().await
}

fn marks(count: u64) -> impl Iterator<Item = u64> {
    MARKS.into_iter().filter(move |mark| *mark < count).chain([count])
}

/// Generates events and remembers what it has generated.
struct Feed {
    generator: Generator,
    sample: Sample,
    events: u64,
    json_bytes: u64,
}

impl Feed {
    fn new(seed: u64) -> Self {
        let generator = Generator::growing(seed);
        Self { generator, sample: Sample::new(), events: 0, json_bytes: 0 }
    }

    /// Sends that many events in batches, unless nobody takes them any more.
    fn send(&mut self, count: u64, batches: &mpsc::Sender<Vec<String>>) {
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            left -= batch;
            if batches.blocking_send((0..batch).map(|_| self.next_event()).collect()).is_err() {
                return;
            }
        }
    }

    fn next_event(&mut self) -> String {
        let event = self.generator.next_event();
        for (namespace, id) in self.generator.identities() {
            self.sample.add(namespace, id);
        }
        self.events += 1;
        self.json_bytes += event.len() as u64;
        event
    }
}

/// Appends that many more events, generated meanwhile.
async fn append(
    bench: &Bench,
    dataset: &str,
    mut feed: Feed,
    count: u64,
) -> Result<(Feed, Figure), Failure> {
    let connections = bench.connections(CLIENTS).await?;
    let meter = bench.meter();
    let (sender, receiver) = mpsc::channel(QUEUED_BATCHES);
    let generating = tokio::task::spawn_blocking(move || {
        feed.send(count, &sender);
        feed
    });
    let receiver = Arc::new(Mutex::new(receiver));
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(client(connection.events(), dataset.to_owned(), Arc::clone(&receiver)));
    }
    // A client that fails ends the others' source, too.
    drop(receiver);
    while let Some(done) = tasks.join_next().await {
        done.map_err(|panic| Failure::Local(panic.into()))??;
    }
    let rate = meter.per_second(count);
    let feed = generating.await.map_err(|panic| Failure::Local(panic.into()))?;
    let figure = Figure::new("growth", format!("{} events", feed.events))
        .with("events", feed.events)
        .value("events_per_s", rate, "events/s")
        .cpu(&meter, count);
    Ok((feed, figure))
}

async fn client(
    mut client: EventClient,
    dataset: String,
    batches: Arc<Mutex<mpsc::Receiver<Vec<String>>>>,
) -> Done {
    loop {
        let next = batches.lock().await.recv().await;
        let Some(batch) = next else { return Ok(()) };
        let request = || pb::AppendEventsRequest {
            dataset: dataset.clone(),
            events: batch.iter().map(|it| event(it)).collect(),
            ..Default::default()
        };
        let (response, _refusals) = ingest::append(&mut client, request).await?;
        ingest::check(&response, batch.len())?;
    }
}

fn event(json: &str) -> pb::Event {
    pb::Event { payload: Some(Payload::Json(json.to_owned().into())) }
}

/// What is measured when the log has reached a mark, right after the last answer: the server is
/// killed while its background work is under way.
async fn at_mark(
    bench: &mut Bench,
    dataset: &str,
    feed: &Feed,
    lookups: u64,
    figure: Figure,
) -> Result<Figure, Failure> {
    let memory = bench.pid.map(server::resident_bytes).unwrap_or_default();
    let opened = bench.crash().await?;
    let status = bench.connect().await?.admin().get_status(pb::GetStatusRequest {}).await?;
    let last = status.into_inner().last_position;
    if last != feed.events {
        return Err(anyhow!("the log ends at {last} after a crash, not at {}", feed.events).into());
    }
    let identities = feed.sample.identities();
    let mut random = Random(feed.events);
    let picks = (0..lookups).filter_map(|_| {
        let (identity, count) = random.choose(&identities)?;
        Some((identity_filter(bench, dataset, (*identity).clone()), *count))
    });
    let found = random_lookups(bench, 1, picks.collect()).await?;
    let of_lookups = |name| found.get(name).unwrap_or_default();
    let peak = bench.pid.map(server::resident_bytes).unwrap_or_default().peak.max(memory.peak);
    let disk = bench.disk_bytes().await?;
    let mib = |bytes| ratio(bytes, 1024 * 1024);
    Ok(figure
        .value("lookup_p50_us", of_lookups("p50_us"), "us lookup p50")
        .value("lookup_p99_us", of_lookups("p99_us"), "us p99")
        .value("events_per_lookup", of_lookups("events") / float(lookups), "events/lookup")
        .value("rss_mib", mib(memory.now), "MiB resident")
        .value("rss_peak_mib", mib(peak), "MiB at most")
        .value("open_ms", opened.as_secs_f64() * 1000.0, "ms to open")
        .value("disk_bytes_per_event", ratio(disk, feed.events), "bytes/event on disk")
        .value("disk_to_json", ratio(disk, feed.json_bytes), "of the JSON"))
}

fn write_plot(file: &Path, figures: &[Figure]) -> anyhow::Result<()> {
    let line = |name, of: &str| {
        let points = figures.iter().filter_map(|it| Some((it.get("events")?, it.get(of)?)));
        Line { name, points: points.collect() }
    };
    let panels = [
        Panel {
            title: "Appending, since the mark before",
            unit: "events/s",
            lines: vec![line("", "events_per_s")],
        },
        Panel {
            title: "Looking up one identity",
            unit: "µs",
            lines: vec![line("p50", "lookup_p50_us"), line("p99", "lookup_p99_us")],
        },
        Panel {
            title: "Memory, resident",
            unit: "MiB",
            lines: vec![line("now", "rss_mib"), line("peak", "rss_peak_mib")],
        },
        Panel {
            title: "Opening after kill -9",
            unit: "ms until a first read",
            lines: vec![line("", "open_ms")],
        },
        Panel {
            title: "On disk",
            unit: "bytes per event",
            lines: vec![line("", "disk_bytes_per_event")],
        },
    ];
    let title = "One server as its log grows";
    let axis = "events in the log (logarithmic)";
    fs::write(file, plot::svg(title, axis, Across::Logarithmic, &panels))
        .with_context(|| format!("cannot write `{}`", file.display()))
}
