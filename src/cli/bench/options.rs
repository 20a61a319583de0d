//! The flags of `milepost bench`.

use std::{fmt, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::{cli::output::Format, model::limits};

/// Measure a server, and generate events to measure with.
///
/// Without --server it starts a server of its own on a free loopback port, with its data in a new
/// folder under --dir, and removes both afterwards; reads and appends then have a fresh log each.
/// Every append is judged by a schema and durable before it is answered. Clients share the
/// machine with the server. A run with the defaults takes some two minutes and 3 GB of disk.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(super) command: Option<BenchCommand>,
    /// Measure this server, `host:port`, instead of one of our own. It gets datasets `bench-...`,
    /// deleted afterwards; their positions stay used
    #[arg(long, value_name = "ADDR")]
    pub(super) server: Option<String>,
    /// Process id of that server, to measure its processor time
    #[arg(long, value_name = "PID", requires = "server")]
    pub(super) server_pid: Option<u32>,
    /// Folder on the disk to measure
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,
    /// NDJSON file with events (with `_id` and `identityMap`); generated unless given
    #[arg(long, value_name = "FILE")]
    pub(super) events: Option<PathBuf>,
    /// How many events to generate, or to take from the file; 1000 to 10000000
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub(super) count: u64,
    /// Seed of the generator
    #[arg(long, default_value_t = 20_260_101)]
    pub(super) seed: u64,
    /// Schema documents to register, in this order; the last one judges the events
    #[arg(long = "schema", value_name = "FILE")]
    pub(super) schemas: Vec<PathBuf>,
    /// Only these phases; all unless given
    #[arg(long, value_name = "PHASE", value_enum, value_delimiter = ',')]
    only: Vec<Phase>,
    /// Only these cells of `ingest` and `echo`, `BATCHxCLIENTS`; 1, 10, 100, 1000 x 1, 8, 64 unless
    /// given, for `echo` 1x1, 1x64 and 100x8
    #[arg(long, value_name = "CELL", value_delimiter = ',', value_parser = cell)]
    cells: Vec<Cell>,
    /// Seconds per cell of `ingest` and `echo`, per file of `disk`, and of live `follow`; 1 to 600
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) seconds: u64,
    /// Appends per second while following live; 1 to 100000
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(super) rate: u64,
    /// Random identities to look up; 1 to 1000000
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) lookups: u64,
    /// For people, or JSON: one figure per line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Print generated events, one per line
    Generate(GenerateArgs),
    /// Measure a server as its log grows
    Growth(GrowthArgs),
    /// Offer a server many times what it can take
    Overload(OverloadArgs),
    /// Measure the registry with a library of schema documents
    Registry(RegistryArgs),
    /// Answer calls without doing anything with them, as the child of `echo`
    #[command(hide = true)]
    EchoServer,
}

/// Measure a server as its log grows.
///
/// Starts a server of its own, as `milepost bench` does, and appends generated events to it, 100 at a
/// time by 8 clients. At 100 k, 200 k, 500 k, 1 M, 2 M, 5 M and 10 M events, and at the last one, it
/// tells the rate since the mark before, memory, the time to open after a kill, the times of looking
/// up random identities, and bytes on disk. The number of identities grows with that of the events.
/// 10 M events take some minutes and 10 GB of disk.
#[derive(Debug, Args)]
pub(super) struct GrowthArgs {
    /// How many events; 1000 to 10000000
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub(super) count: u64,
    /// Folder on the disk to measure
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,
    /// Seed of the generator
    #[arg(long, default_value_t = 20_260_101)]
    pub(super) seed: u64,
    /// Random identities to look up at each mark; 1 to 1000000
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) lookups: u64,
    /// Draw the figures into this SVG file
    #[arg(long, value_name = "FILE")]
    pub(super) plot: Option<PathBuf>,
    /// For people, or JSON: one mark per line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(super) output: Format,
}

/// Offer a server many times what it can take.
///
/// Starts a server of its own, measures what it takes of 8 clients with batches of 100, and then sends
/// it 2048 such appends at once for as long, each tried again at once when it is refused, against what
/// the server asks for. Tells what was offered and taken and the server's memory, and makes sure that
/// what was taken is stored, and nothing else. Clients on the same machine cannot send ten times what a
/// server takes on an idle disk; on a slow one they can.
#[derive(Debug, Args)]
pub(super) struct OverloadArgs {
    /// Seconds of each; 1 to 600
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) seconds: u64,
    /// Folder on the disk to measure
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,
    /// Seed of the generator
    #[arg(long, default_value_t = 20_260_101)]
    pub(super) seed: u64,
    /// Let every sync of the server take longer, by this library: `tests/shim/disk.c`, compiled
    #[arg(long, value_name = "LIBRARY")]
    pub(super) slow_disk: Option<PathBuf>,
    /// How much longer, in milliseconds; 1 to 10000
    #[arg(long, value_name = "MS", default_value_t = 600, requires = "slow_disk")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(super) sync_ms: u64,
    /// Draw memory over time into this SVG file
    #[arg(long, value_name = "FILE")]
    pub(super) plot: Option<PathBuf>,
    /// For people, or JSON: one figure per line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(super) output: Format,
}

/// Measure the registry with a library of schema documents.
///
/// Imports the documents into a server of its own, tells how long that takes, compiles every one of them and
/// keeps it, and judges generated events by the schema of events that has the most fields.
#[derive(Debug, Args)]
pub(super) struct RegistryArgs {
    /// Directories, whose `.json` files at any depth are taken, or files with one document each
    #[arg(value_name = "DIR|FILE", required = true)]
    pub(super) paths: Vec<PathBuf>,
    /// Folder for the server's data
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,
    /// Seconds of judging; 1 to 600
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) seconds: u64,
    /// For people, or JSON: one figure per line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(super) output: Format,
}

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// How many events
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub(super) events: u64,
    /// The same seed gives the same events
    #[arg(long, default_value_t = 20_260_101)]
    pub(super) seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Phase {
    /// Write and fdatasync of a plain file, growing and overwriting
    Disk,
    /// The batches of `ingest` to a server that does nothing with them
    Echo,
    /// Every event, forward
    Read,
    /// Events of one identity, of one type
    Identity,
    /// Catch up, and live
    Follow,
    /// Every event, by workers of a subscription that acknowledge each
    Consume,
    /// Starting again after a stop and after a crash
    Start,
    /// Appends of several batch sizes by several clients
    Ingest,
    /// Appends in which every tenth event is wrong and is set aside, beside ones without
    Quarantine,
    /// Appends under none, one and a thousand event definitions; of generated events
    Match,
    /// What the loaded log takes after a compaction
    Compact,
    /// Appends beside a hundred followers, and beside a thousand idle subscriptions, and what those cost
    Crowd,
}

/// One cell of `ingest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) batch: usize,
    pub(super) clients: usize,
}

const CLIENTS_MAX: usize = 1024;

impl BenchArgs {
    /// How results, and errors, are printed.
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            Some(BenchCommand::Growth(growth)) => growth.output,
            Some(BenchCommand::Overload(overload)) => overload.output,
            Some(BenchCommand::Registry(registry)) => registry.output,
            Some(BenchCommand::Generate(_) | BenchCommand::EchoServer) | None => self.output,
        }
    }

    /// The address of the server to measure and its process id; `None` for one of our own.
    pub(super) fn server(&self) -> Option<(&str, Option<u32>)> {
        Some((self.server.as_deref()?, self.server_pid))
    }

    pub(super) fn phases(&self) -> impl Iterator<Item = Phase> {
        let all = if self.only.is_empty() { Phase::value_variants() } else { &self.only };
        all.iter().copied()
    }

    pub(super) fn wants(&self, phase: Phase) -> bool {
        self.phases().any(|it| it == phase)
    }

    /// Whether anything reads what has been loaded.
    pub(super) fn wants_reads(&self) -> bool {
        let own = [
            Phase::Disk,
            Phase::Echo,
            Phase::Ingest,
            Phase::Quarantine,
            Phase::Match,
            Phase::Crowd,
        ];
        self.phases().any(|it| !own.contains(&it))
    }

    pub(super) fn echo_cells(&self) -> Vec<Cell> {
        if !self.cells.is_empty() {
            return self.cells.clone();
        }
        [(1, 1), (1, 64), (100, 8)].map(|(batch, clients)| Cell { batch, clients }).into()
    }

    pub(super) fn cells(&self) -> Vec<Cell> {
        if !self.cells.is_empty() {
            return self.cells.clone();
        }
        let batches = [1, 10, 100, 1000];
        let cells = [1, 8, 64].map(|clients| batches.map(|batch| Cell { batch, clients }));
        cells.into_iter().flatten().collect()
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch {}, {} clients", self.batch, self.clients)
    }
}

/// Parses `100x8`.
fn cell(text: &str) -> Result<Cell, String> {
    let parsed = text.split_once('x').and_then(|(batch, clients)| {
        Some(Cell { batch: batch.parse().ok()?, clients: clients.parse().ok()? })
    });
    let most = limits::PAGE_SIZE_MAX;
    parsed
        .filter(|it| (1..=most).contains(&it.batch) && (1..=CLIENTS_MAX).contains(&it.clients))
        .ok_or_else(|| format!("allowed: BATCHxCLIENTS, 1 to {most} x 1 to {CLIENTS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::{Cell, cell};

    #[test]
    fn cells_are_batch_times_clients() {
        assert_eq!(cell("100x8"), Ok(Cell { batch: 100, clients: 8 }));
        for wrong in ["", "x", "100", "0x1", "1x0", "1001x1", "1x1025", "1x2x3"] {
            assert!(cell(wrong).is_err(), "{wrong}");
        }
    }
}
