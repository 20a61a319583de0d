//! The command line: one file per verb.

mod append;
mod args;
mod bench;
mod compact;
mod completions;
mod consume;
mod count;
mod dataset;
mod demo;
mod event_definition;
mod failure;
mod filter;
mod follow;
mod get;
mod lists;
mod namespace;
mod output;
mod quarantine;
mod read;
mod reconnect;
mod render;
mod schema;
mod serve;
mod status;
mod subscription;
mod time;
mod top;
mod trace;
mod verify;

use std::{future::Future, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::cli::failure::{Done, Failure};

/// An event store for customer journeys.
#[derive(Debug, Parser)]
#[command(name = "milepost", version, arg_required_else_help = false)]
#[command(after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "\
Without a command the server starts with its defaults (`milepost serve --help` lists them).

Exit codes:
  0   done; for `append`, every event is stored or, in a dataset that quarantines, set aside
  1   the server refused the call, or some events were rejected
  2   wrong usage
  3   the server cannot be reached
  4   a local file or the terminal cannot be read or written
  5   `verify` found something wrong
  78  the configuration cannot be used

Environment:
  MILEPOST_SERVER  the server that client commands talk to";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::ServeArgs),
    /// Append events from a file or from standard input
    Append(append::AppendArgs),
    /// Print stored events
    Read(read::ReadArgs),
    /// Print stored events and then new ones as they come
    Follow(follow::FollowArgs),
    /// Print one event
    Get(get::GetArgs),
    /// Tell what became of an event
    Trace(trace::TraceArgs),
    /// Count stored events
    Count(count::CountArgs),
    /// Register, show and list schemas, and judge events by them
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    /// Create, show, change and delete datasets
    #[command(subcommand)]
    Dataset(dataset::DatasetCommand),
    /// Create, show, try out and explain event definitions
    #[command(subcommand)]
    EventDefinition(event_definition::EventDefinitionCommand),
    /// Create and show identity namespaces
    #[command(subcommand)]
    Namespace(namespace::NamespaceCommand),
    /// List, show, replay and discard events that were set aside
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Create, show, pause, seek and explain subscriptions, and see to their parked events
    #[command(subcommand)]
    Subscription(subscription::SubscriptionCommand),
    /// Work on a subscription's events: print them, or run a command for each
    Consume(consume::ConsumeArgs),
    /// Show what the server is and how it is doing
    Status(status::StatusArgs),
    /// Show how subscriptions do and what is appended, live
    Top(top::TopArgs),
    /// Give back the disk space of trimmed and deleted events
    Compact(compact::CompactArgs),
    /// Check everything that is stored, and save what is sound of a damaged store
    Verify(verify::VerifyArgs),
    /// Fill a running server with a shop's schema and four example events
    Demo(demo::DemoArgs),
    /// Measure a server, and generate events to measure with
    Bench(bench::BenchArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().command.unwrap_or(Command::Serve(serve::ServeArgs::default()));
    let (format, done) = run(command);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(format, &failure);
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> (output::Format, Done) {
    use output::Format;
    let format = match &command {
        Command::Append(args) => args.client.output,
        Command::Read(args) => args.client.output,
        Command::Follow(args) => args.client.output,
        Command::Get(args) => args.client.output,
        Command::Trace(args) => args.client.output,
        Command::Count(args) => args.client.output,
        Command::Schema(command) => command.client().output,
        Command::Dataset(command) => command.client().output,
        Command::EventDefinition(command) => command.client().output,
        Command::Namespace(command) => command.client().output,
        Command::Quarantine(command) => command.client().output,
        Command::Subscription(command) => command.client().output,
        Command::Consume(args) => args.client.output,
        Command::Status(args) => args.client.output,
        Command::Top(args) => args.client.output,
        Command::Compact(args) => args.client.output,
        Command::Verify(args) => args.client.output,
        Command::Demo(args) => args.client.output,
        Command::Bench(args) => args.format(),
        Command::Serve(_) | Command::Completions(_) => Format::Text,
    };
    let done = match command {
        Command::Serve(args) => serve::run(&args),
        Command::Append(args) => block_on(append::run(args)),
        Command::Read(args) => block_on(read::run(args)),
        Command::Follow(args) => block_on(follow::run(args)),
        Command::Get(args) => block_on(get::run(args)),
        Command::Trace(args) => block_on(trace::run(args)),
        Command::Count(args) => block_on(count::run(args)),
        Command::Schema(command) => block_on(schema::run(command)),
        Command::Dataset(command) => block_on(dataset::run(command)),
        Command::EventDefinition(command) => block_on(event_definition::run(command)),
        Command::Namespace(command) => block_on(namespace::run(command)),
        Command::Quarantine(command) => block_on(quarantine::run(command)),
        Command::Subscription(command) => block_on(subscription::run(command)),
        Command::Consume(args) => block_on(consume::run(args)),
        Command::Status(args) => block_on(status::run(args)),
        Command::Top(args) => block_on(top::run(args)),
        Command::Compact(args) => block_on(compact::run(args)),
        Command::Verify(args) => block_on(verify::run(args)),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Bench(args) => block_on(bench::run(args)),
        Command::Completions(args) => completions::run(&args),
    };
    (format, done)
}

fn block_on(work: impl Future<Output = Done>) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Local(error.into()))?;
    let done = runtime.block_on(work);
    // A read of standard input cannot be cancelled; do not wait for it.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
