//! The transport alone: a server that answers every batch without doing anything with it.

use std::{
    io::{self, Write},
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    cli::{
        bench::{
            events::BenchEvent,
            figures::{Figure, Meter, Times},
            options::Cell,
            server::Process,
        },
        failure::{Done, Failure},
    },
    grpc::{self, client::Connection, pb::bench::EchoRequest},
};

/// Answers until the process is ended. What `milepost bench` starts as a child.
pub(crate) async fn serve() -> Done {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
    let address = listener.local_addr().context("cannot listen")?;
    let mut out = io::stdout();
    writeln!(out, "echo listening on {address}").and_then(|()| out.flush()).context("no output")?;
    Ok(grpc::serve_echo(listener).await.context("cannot serve")?)
}

/// A server that echoes, in a process of its own as the server of events is.
pub(crate) struct EchoServer {
    process: Process,
    address: String,
}

impl EchoServer {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let (process, address) = Process::start(vec!["bench".into(), "echo-server".into()]).await?;
        Ok(Self { process, address })
    }

    /// Calls for a time; what [`ingest::cell`](super::ingest::cell) does, without a store.
    pub(crate) async fn cell(
        &self,
        events: &Arc<Vec<BenchEvent>>,
        cell: Cell,
        seconds: u64,
    ) -> Result<Figure, Failure> {
        let mut connections = Vec::with_capacity(cell.clients);
        for _ in 0..cell.clients {
            connections.push(Connection::open(&self.address).await?);
        }
        let next = Arc::new(AtomicUsize::new(0));
        let meter = Meter::start(Some(self.process.pid()));
        let until = meter.started() + Duration::from_secs(seconds);
        let mut tasks = JoinSet::new();
        for connection in connections {
            let (events, next) = (Arc::clone(events), Arc::clone(&next));
            tasks.spawn(client(connection, events, next, cell.batch, until));
        }
        let mut times = Times::default();
        while let Some(done) = tasks.join_next().await {
            times.extend(done.map_err(|panic| Failure::Local(panic.into()))??);
        }
        let sent = times.count() * cell.batch as u64;
        Ok(Figure::new("echo", cell.to_string())
            .with("batch", cell.batch as u64)
            .with("clients", cell.clients as u64)
            .with("events", sent)
            .value("events_per_s", meter.per_second(sent), "events/s")
            .times(&mut times)
            .cpu(&meter, sent))
    }
}

async fn client(
    connection: Connection,
    events: Arc<Vec<BenchEvent>>,
    next: Arc<AtomicUsize>,
    batch: usize,
    until: Instant,
) -> Result<Times, Failure> {
    let mut client = connection.echo();
    let mut times = Times::default();
    while Instant::now() < until {
        let from = next.fetch_add(batch, Relaxed);
        let batch = events.iter().cycle().skip(from % events.len()).take(batch);
        let request = EchoRequest { payloads: batch.map(BenchEvent::to_bytes).collect() };
        let begin = Instant::now();
        client.echo(request).await?;
        times.add(begin.elapsed());
    }
    Ok(times)
}
