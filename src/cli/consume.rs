//! `milepost consume`.

mod stream;

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use clap::Args;
use tokio::task::{JoinSet, spawn_blocking};

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        output::{Output, note},
        render::{self, EventPrinter},
    },
    grpc::{
        client::{SubscriptionClient, well_known},
        pb::{self, outcome::Outcome as Said},
    },
};

/// Work on a subscription's events, until Ctrl-C.
///
/// With `--exec` each event is one JSON line on the standard input of a command that a shell runs; when
/// it ends with 0 the event is acknowledged, otherwise it comes again after the back-off. The command finds
/// `MILEPOST_DEDUPE_KEY`, `MILEPOST_ATTEMPT` and `MILEPOST_FENCING_EPOCH` in its environment. Without
/// `--exec` events are printed and acknowledged.
///
/// A command has as long as the subscription's ack deadline; with `--keep-alive` it has its event until it ends.
#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// The subscription's name
    subscription: String,
    /// The command for each event
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// Renew the leases of events as long as their commands run, however long that is
    #[arg(long, requires = "exec")]
    keep_alive: bool,
    /// The consumer's name for itself; with the same name it goes on where it was
    #[arg(long, value_name = "NAME")]
    client_id: Option<String>,
    /// Events at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    parallel: u32,
    /// Stop after this many events; 0: never
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u64,
}

/// Seconds that one call waits for events.
const WAIT_SECONDS: i64 = 20;

pub(crate) async fn run(args: ConsumeArgs) -> Done {
    let client = args.client.connect().await?.subscriptions();
    tokio::select! {
        done = consume(client, args) => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| Failure::Local(error.into()))
        }
    }
}

async fn consume(mut client: SubscriptionClient, args: ConsumeArgs) -> Done {
    let mut output = Output::new(args.client.output);
    let printer = EventPrinter::new();
    let client_id = args.client_id.unwrap_or_else(|| format!("cli-{}", std::process::id()));
    let mut left = if args.limit == 0 { u64::MAX } else { args.limit };
    if let Some(command) = args.exec.clone().filter(|_| args.keep_alive) {
        let (subscription, parallel) = (args.subscription, args.parallel);
        let work = stream::Work { subscription, client_id, command, parallel, limit: left };
        return stream::run(client, work).await;
    }
    while left > 0 {
        let events = u64::from(args.parallel).min(left);
        let request = pb::PullRequest {
            subscription: args.subscription.clone(),
            client_id: client_id.clone(),
            instance: u64::from(std::process::id()),
            max_events: u32::try_from(events).unwrap_or(args.parallel),
            wait: Some(well_known::Duration { seconds: WAIT_SECONDS, nanos: 0 }),
            ..Default::default()
        };
        let delivered = client.pull(request).await?.into_inner().events;
        left -= (delivered.len() as u64).min(left);
        if delivered.is_empty() {
            continue;
        }
        let outcomes = if let Some(command) = &args.exec {
            execute(command, delivered).await?
        } else {
            let mut outcomes = Vec::new();
            for it in delivered {
                if let Some(event) = &it.event {
                    printer.print(&mut output, event)?;
                }
                outcomes.push(outcome(it.ack_id, Said::Ack(pb::outcome::Ack {})));
            }
            output.flush()?;
            outcomes
        };
        let subscription = args.subscription.clone();
        let request = pb::ResolveRequest { subscription, outcomes };
        let results = client.resolve(request).await?.into_inner().results;
        lost(&results);
    }
    Ok(())
}

/// Tells of outcomes that came too late.
fn lost(results: &[pb::OutcomeResult]) {
    let over = results.iter().filter(|it| it.state() != pb::outcome_result::State::Ok);
    let count = over.count();
    if count > 0 {
        note(format!("{count} leases were over before their outcomes; they come again"));
    }
}

fn outcome(ack_id: Vec<u8>, said: Said) -> pb::Outcome {
    pb::Outcome { ack_id, outcome: Some(said) }
}

/// Runs the command for each event, side by side.
async fn execute(
    command: &str,
    delivered: Vec<pb::Delivered>,
) -> Result<Vec<pb::Outcome>, Failure> {
    let mut running = JoinSet::new();
    for it in delivered {
        start(&mut running, command, it)?;
    }
    let mut outcomes = Vec::new();
    while let Some(ended) = running.join_next().await {
        outcomes.push(ended.map_err(|error| Failure::Local(error.into()))??);
    }
    Ok(outcomes)
}

/// Begins to run the command for an event; what it comes to is the event's outcome.
fn start(
    running: &mut JoinSet<Result<pb::Outcome, Failure>>,
    command: &str,
    delivered: pb::Delivered,
) -> Done {
    let line = match &delivered.event {
        Some(event) => serde_json::to_string(&render::event_json(event)?),
        None => Ok(String::new()),
    };
    let line = line.map_err(|error| Failure::Local(error.into()))?;
    let command = command.to_owned();
    running.spawn(async move {
        let ack_id = delivered.ack_id.clone();
        let ended = spawn_blocking(move || execute_one(&command, &delivered, &line)).await;
        let ended = ended.map_err(|error| Failure::Local(error.into()))?;
        let said = match ended.map_err(|error| Failure::Local(error.into()))? {
            None => Said::Ack(pb::outcome::Ack {}),
            Some(reason) => Said::Nack(pb::outcome::Nack { delay: None, reason }),
        };
        Ok(outcome(ack_id, said))
    });
    Ok(())
}

/// Why it failed; `None` when it did not.
fn execute_one(
    command: &str,
    delivered: &pb::Delivered,
    line: &str,
) -> std::io::Result<Option<String>> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("MILEPOST_DEDUPE_KEY", &delivered.dedupe_key)
        .env("MILEPOST_ATTEMPT", delivered.attempt.to_string())
        .env("MILEPOST_FENCING_EPOCH", delivered.fencing_epoch.to_string())
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A command need not read it.
        drop(input.write_all(format!("{line}\n").as_bytes()));
    }
    let status = child.wait()?;
    Ok((!status.success()).then(|| format!("the command ended with {status}")))
}
