//! `milepost bench`: how fast a server is, with real schemas and real durability.

mod ceiling;
mod consume;
mod crowd;
mod definitions;
mod disk;
mod echo;
mod events;
mod figures;
mod follow;
mod generate;
mod growth;
mod ingest;
mod options;
mod overload;
mod plot;
mod random;
mod reads;
mod registry;
mod server;
mod slow_disk;
mod words;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;

pub(crate) use options::BenchArgs;

use crate::{
    cli::{
        bench::{
            echo::EchoServer,
            events::BenchEvent,
            figures::{Figure, Meter},
            options::{BenchCommand, GenerateArgs, Phase},
            server::{ChildServer, WorkFolder},
        },
        demo,
        failure::{Done, Failure},
        lists,
        output::{Format, Output, note},
    },
    grpc::{client::Connection, pb},
};

/// Documents that generated events are judged by; the last one is the schema.
fn documents() -> impl Iterator<Item = &'static str> {
    let own = [include_str!("schema/environment.json"), include_str!("schema/bench-event.json")];
    demo::FIELD_GROUPS.into_iter().chain(own)
}

pub(crate) async fn run(mut args: BenchArgs) -> Done {
    match args.command.take() {
        Some(BenchCommand::Generate(generate)) => return print_events(&generate),
        Some(BenchCommand::Growth(growth)) => return interruptible(growth::run(growth)).await,
        Some(BenchCommand::Overload(overload)) => {
            return interruptible(overload::run(overload)).await;
        }
        Some(BenchCommand::Registry(registry)) => {
            return interruptible(registry::run(registry)).await;
        }
        Some(BenchCommand::EchoServer) => return echo::serve().await,
        None => (),
    }
    interruptible(Box::pin(measure(args))).await
}

async fn interruptible(work: impl Future<Output = Done>) -> Done {
    tokio::select! {
        done = work => done,
        // Leaving through here stops the server and removes its data.
        _ = tokio::signal::ctrl_c() => Err(Failure::Local(anyhow::anyhow!("interrupted"))),
    }
}

fn print_events(args: &GenerateArgs) -> Done {
    let mut output = Output::new(Format::Text);
    let mut generator = generate::Generator::new(args.seed);
    for _ in 0..args.events {
        output.line(generator.next_event())?;
    }
    output.flush()
}

async fn measure(args: BenchArgs) -> Done {
    let mut output = Output::new(args.output);
    if args.phases().all(|phase| phase == Phase::Disk) {
        return disk(&args, &mut output).map(drop);
    }
    let events = Arc::new(events::load(&args)?);
    let documents = schema_documents(&args.schemas)?;
    // Reads are measured on a log that holds the loaded events alone, so appends have their own.
    if args.wants_reads() {
        let mut bench = Bench::start(&args.dir, args.server(), &events, &documents).await?;
        bench.loaded(&args, &mut output).await?;
        bench.finish().await?;
    }
    // The ceilings right before the appends that are held against them: the machine may be shared.
    let mut figures = Vec::new();
    if args.wants(Phase::Disk) {
        figures.extend(disk(&args, &mut output)?);
    }
    if args.wants(Phase::Echo) {
        let server = EchoServer::start().await?;
        for cell in args.echo_cells() {
            let figure = server.cell(&events, cell, args.seconds).await?;
            figure.print(&mut output)?;
            figures.push(figure);
        }
    }
    if args.wants(Phase::Ingest) {
        let bench = Bench::start(&args.dir, args.server(), &events, &documents).await?;
        for cell in args.cells() {
            let figure = ingest::cell(&bench, cell, args.seconds).await?;
            figure.print(&mut output)?;
            figures.push(figure);
        }
        bench.finish().await?;
    }
    if args.wants(Phase::Crowd) {
        let bench = Bench::start(&args.dir, args.server(), &events, &documents).await?;
        for figure in crowd::run(&bench, args.seconds).await? {
            figure.print(&mut output)?;
        }
        bench.finish().await?;
    }
    if args.wants(Phase::Match) {
        let bench = Bench::start(&args.dir, args.server(), &events, &documents).await?;
        for figure in definitions::run(&bench).await? {
            figure.print(&mut output)?;
        }
        bench.finish().await?;
    }
    if args.wants(Phase::Quarantine) {
        let bench = Bench::start(&args.dir, args.server(), &events, &documents).await?;
        for figure in ingest::quarantine(&bench).await? {
            figure.print(&mut output)?;
        }
        bench.finish().await?;
    }
    for figure in ceiling::ratios(&figures) {
        figure.print(&mut output)?;
    }
    Ok(())
}

fn disk(args: &BenchArgs, output: &mut Output) -> Result<Vec<Figure>, Failure> {
    let folder = WorkFolder::create(&args.dir)?;
    let figures = disk::run(folder.path(), args.seconds)?;
    for figure in &figures {
        figure.print(output)?;
    }
    Ok(figures)
}

fn schema_documents(files: &[PathBuf]) -> Result<Vec<String>, Failure> {
    if files.is_empty() {
        return Ok(documents().map(str::to_owned).collect());
    }
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).map_err(|error| {
            Failure::Local(anyhow::anyhow!("cannot read `{}`: {error}", file.display()))
        })
    };
    files.iter().map(read).collect()
}

/// A server under measurement.
pub(crate) struct Bench {
    address: String,
    child: Option<ChildServer>,
    /// The server's process, when it is known.
    pid: Option<u32>,
    events: Arc<Vec<BenchEvent>>,
    schema_id: String,
    /// Part of the name of every dataset: datasets of earlier runs may still exist.
    tag: String,
    /// Whether only this run's events are in the log, so that reads need no dataset filter.
    alone: bool,
}

impl Bench {
    /// Of a server that runs, by address and process id, or of our own with its data in a new folder.
    async fn start(
        folder: &Path,
        server: Option<(&str, Option<u32>)>,
        events: &Arc<Vec<BenchEvent>>,
        documents: &[String],
    ) -> Result<Self, Failure> {
        if let Some((address, pid)) = server {
            return Self::prepare(None, address.to_owned(), pid, events, documents).await;
        }
        let child = ChildServer::start(WorkFolder::create(folder)?).await?;
        Self::of(child, events, documents).await
    }

    /// Of a server of our own.
    async fn of(
        child: ChildServer,
        events: &Arc<Vec<BenchEvent>>,
        documents: &[String],
    ) -> Result<Self, Failure> {
        let (address, pid) = (child.address().to_owned(), child.pid());
        Self::prepare(Some(child), address, Some(pid), events, documents).await
    }

    async fn prepare(
        child: Option<ChildServer>,
        address: String,
        pid: Option<u32>,
        events: &Arc<Vec<BenchEvent>>,
        documents: &[String],
    ) -> Result<Self, Failure> {
        let connection = Connection::open(&address).await?;
        let mut schema_id = String::new();
        for document in documents {
            schema_id = demo::register_document(&connection, document).await?.0.id;
        }
        let unique = uuid::Uuid::now_v7().simple().to_string();
        Ok(Self {
            address,
            pid,
            alone: child.is_some(),
            child,
            events: Arc::clone(events),
            schema_id,
            tag: unique.get(..13).unwrap_or(&unique).to_owned(),
        })
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        Ok(Connection::open(&self.address).await?)
    }

    async fn connections(&self, count: usize) -> Result<Vec<Connection>, Failure> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(self.connect().await?);
        }
        Ok(connections)
    }

    /// Creates a dataset of this run.
    async fn create_dataset(&self, name: &str) -> Result<String, Failure> {
        self.create_on(name, &self.schema_id, pb::OnInvalid::Reject).await
    }

    /// Creates a dataset of this run that sets aside what it cannot store.
    async fn create_quarantine(&self, name: &str) -> Result<String, Failure> {
        self.create_on(name, &self.schema_id, pb::OnInvalid::Quarantine).await
    }

    async fn create_on(
        &self,
        name: &str,
        schema_id: &str,
        on_invalid: pb::OnInvalid,
    ) -> Result<String, Failure> {
        let name = format!("bench-{}-{name}", self.tag);
        let dataset = pb::Dataset {
            name: name.clone(),
            schema_id: schema_id.to_owned(),
            on_invalid: on_invalid.into(),
            ..Default::default()
        };
        let request = pb::CreateDatasetRequest { dataset: Some(dataset), validate_only: false };
        self.connect().await?.datasets().create_dataset(request).await?;
        Ok(name)
    }

    /// Selects this run's events of a dataset, by nothing at all where there are no others.
    fn filter(&self, dataset: &str) -> pb::EventFilter {
        let datasets = if self.alone { Vec::new() } else { vec![dataset.to_owned()] };
        pb::EventFilter { datasets, ..Default::default() }
    }

    fn meter(&self) -> Meter {
        Meter::start(self.pid)
    }

    /// Loads every event once and measures what reads it.
    async fn loaded(&mut self, args: &BenchArgs, output: &mut Output) -> Done {
        let dataset = self.create_dataset("load").await?;
        ingest::load(self, &dataset).await?.print(output)?;
        self.footprint("footprint").await?.print(output)?;
        if args.wants(Phase::Read) {
            reads::read_all(self, &dataset).await?.print(output)?;
        }
        if args.wants(Phase::Identity) {
            for figure in reads::run(self, &dataset, args.lookups).await? {
                figure.print(output)?;
            }
        }
        if args.wants(Phase::Follow) {
            for figure in follow::catch_up(self, &dataset).await? {
                figure.print(output)?;
            }
            for followers in [1, 16] {
                follow::live(self, followers, args.rate, args.seconds).await?.print(output)?;
            }
        }
        if args.wants(Phase::Consume) {
            for figure in consume::run(self, &dataset).await? {
                figure.print(output)?;
            }
            for shape in consume::LIVE_SHAPES {
                consume::live(self, shape, args.rate, args.seconds).await?.print(output)?;
            }
        }
        if args.wants(Phase::Compact) {
            self.compact().await?;
            self.footprint("after compaction").await?.print(output)?;
        }
        if args.wants(Phase::Start) {
            match &mut self.child {
                None => note("# start: left out, the server is not ours"),
                Some(child) => {
                    for figure in server::start_up(child).await? {
                        figure.print(output)?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn compact(&self) -> Done {
        let mut admin = self.connect().await?.admin();
        let mut steps = admin.compact_store(pb::CompactStoreRequest {}).await?.into_inner();
        while steps.message().await?.is_some() {}
        Ok(())
    }

    /// Bytes on disk and in memory.
    async fn footprint(&self, what: &str) -> Result<Figure, Failure> {
        let status = self.connect().await?.admin().get_status(pb::GetStatusRequest {}).await?;
        // Another server may hold other events, too: they count in both numbers.
        let events = status.into_inner().last_position;
        let bytes = figures::ratio(self.disk_bytes().await?, events);
        let json = self.events.iter().map(BenchEvent::json_bytes).sum();
        let figure = Figure::new("load", what)
            .with("events", events)
            .value("disk_bytes_per_event", bytes, "bytes/event on disk")
            .value(
                "disk_to_json",
                bytes / figures::ratio(json, self.events.len() as u64),
                "of the JSON",
            );
        Ok(match self.pid.and_then(server::memory_bytes) {
            Some(memory) => {
                figure.value("memory_mib", figures::ratio(memory, 1024 * 1024), "MiB in memory")
            }
            None => figure,
        })
    }

    /// Bytes that the data directory takes from the disk.
    async fn disk_bytes(&self) -> Result<u64, Failure> {
        if let Some(child) = &self.child {
            let bytes = server::allocated_bytes(&child.data());
            return Ok(bytes.context("cannot read the data directory")?);
        }
        let status = self.connect().await?.admin().get_status(pb::GetStatusRequest {}).await?;
        Ok(status.into_inner().disk_bytes)
    }

    /// Kills a server of ours and starts it again. Tells how long that took, until a first read.
    async fn crash(&mut self) -> Result<Duration, Failure> {
        let Some(child) = &mut self.child else {
            return Err(Failure::usage("the server is not ours"));
        };
        let opened = child.restart(true).await?;
        child.address().clone_into(&mut self.address);
        self.pid = Some(child.pid());
        Ok(opened)
    }

    /// Stops a server of ours; leaves no dataset behind on another.
    async fn finish(self) -> Done {
        if let Some(child) = self.child {
            return child.stop().await;
        }
        let mut datasets = Connection::open(&self.address).await?.datasets();
        let prefix = format!("bench-{}-", self.tag);
        let all = lists::all(async |page_token| {
            let request = pb::ListDatasetsRequest { page_size: lists::PAGE_SIZE, page_token };
            let page = datasets.list_datasets(request).await?.into_inner();
            Ok((page.datasets, page.next_page_token))
        });
        let names = all.await?.into_iter().map(|it| it.name);
        for name in names.filter(|name| name.starts_with(&prefix)) {
            let request = pb::DeleteDatasetRequest { name, force: true, ..Default::default() };
            datasets.delete_dataset(request).await?;
        }
        Ok(())
    }
}
