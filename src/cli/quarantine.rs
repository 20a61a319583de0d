//! `milepost quarantine`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        lists,
        output::{self, Output, thousands},
        reconnect::Reconnect,
        render::{violation_json, violation_text},
        time,
    },
    grpc::{client::CallError, pb},
};

/// Events that could not be stored and were set aside.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List what is set aside, by fault; or event by event with --events
    List(ListArgs),
    /// Print events as they are set aside, until Ctrl-C
    Follow(FollowArgs),
    /// Show one event, what is wrong with it, and its payload
    Show(ShowArgs),
    /// Store events after all, as they are or mended by a JSON Patch
    Replay(ReplayArgs),
    /// Throw events away for good
    Discard(DiscardArgs),
}

/// Which events.
#[derive(Debug, Args)]
struct SelectionArgs {
    /// Sent to this dataset
    #[arg(long, value_name = "NAME", default_value = "")]
    dataset: String,
    /// With this fault
    #[arg(long, value_name = "HEX", default_value = "")]
    fingerprint: String,
    /// This event; may be repeated
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
}

impl SelectionArgs {
    fn selection(self) -> pb::QuarantineSelection {
        let Self { dataset, fingerprint, ids } = self;
        pb::QuarantineSelection { dataset, fingerprint, ids }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Event by event, oldest first
    #[arg(long)]
    events: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Sent to this dataset
    #[arg(long, value_name = "NAME", default_value = "")]
    dataset: String,
    /// With this fault
    #[arg(long, value_name = "HEX", default_value = "")]
    fingerprint: String,
    /// Begin with the oldest that is kept instead of with the next that is set aside
    #[arg(long)]
    all: bool,
    /// Begin after this event
    #[arg(long, value_name = "ID", default_value = "", conflicts_with = "all")]
    after: String,
    /// Stop after this many events; 0: never
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The event's id in the quarantine, such as `q42`
    id: String,
    /// Print the payload alone, byte for byte
    #[arg(long)]
    payload: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// File with a JSON Patch (RFC 6902) that mends each event; `-` is standard input
    #[arg(long, value_name = "FILE")]
    patch: Option<PathBuf>,
    /// Tell what would become of the events and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiscardArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    selection: SelectionArgs,
}

impl QuarantineCommand {
    pub(crate) fn client(&self) -> &ClientArgs {
        match self {
            Self::List(args) => &args.client,
            Self::Follow(args) => &args.client,
            Self::Show(args) => &args.client,
            Self::Replay(args) => &args.client,
            Self::Discard(args) => &args.client,
        }
    }
}

pub(crate) async fn run(command: QuarantineCommand) -> Done {
    match command {
        QuarantineCommand::List(args) => list(args).await,
        QuarantineCommand::Follow(args) => follow(args).await,
        QuarantineCommand::Show(args) => show(args).await,
        QuarantineCommand::Replay(args) => replay(args).await,
        QuarantineCommand::Discard(args) => discard(args).await,
    }
}

async fn list(args: ListArgs) -> Done {
    let mut client = args.client.connect().await?.quarantine();
    let view = if args.events { pb::QuarantineView::Events } else { pb::QuarantineView::Groups };
    let mut request = pb::ListQuarantinedRequest {
        selection: Some(args.selection.selection()),
        view: view.into(),
        page_size: lists::PAGE_SIZE,
        page_token: String::new(),
    };
    let (mut groups, mut events) = (Vec::new(), Vec::new());
    loop {
        let response = client.list_quarantined(request.clone()).await?.into_inner();
        groups.extend(response.groups);
        events.extend(response.events);
        request.page_token = response.next_page_token;
        if request.page_token.is_empty() || groups.len() + events.len() >= args.limit {
            break;
        }
    }
    groups.truncate(args.limit);
    events.truncate(args.limit);
    if args.events {
        let headings = ["ID", "DATASET", "RECEIVED", "TIMES", "EVENT", "WHAT IS WRONG"];
        let json = |it: &_| Ok(event_json(it));
        lists::print(args.client.output, &events, json, &headings, |it| Ok(event_row(it)))
    } else {
        let headings = ["FINGERPRINT", "DATASET", "COUNT", "LAST", "SAMPLES", "WHAT IS WRONG"];
        let json = |it: &_| Ok(group_json(it));
        lists::print(args.client.output, &groups, json, &headings, |it| Ok(group_row(it)))
    }
}

async fn follow(args: FollowArgs) -> Done {
    tokio::select! {
        done = print_news(args) => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| Failure::Local(error.into()))
        }
    }
}

/// Prints events until there are enough; reconnects where it stopped.
async fn print_news(args: FollowArgs) -> Done {
    let FollowArgs { client, dataset, fingerprint, all, after, limit } = args;
    let mut output = Output::new(client.output);
    let mut client = client.connect().await?.quarantine();
    let mut request = pb::FollowQuarantinedRequest {
        selection: Some(pb::QuarantineSelection { dataset, fingerprint, ids: Vec::new() }),
        only_new: !all && after.is_empty(),
        after_quarantine_id: after,
        heartbeat_interval: None,
    };
    let (mut reconnect, mut printed) = (Reconnect::new(), 0);
    loop {
        let mut failed = None;
        match client.follow_quarantined(request.clone()).await {
            Ok(responses) => {
                let mut responses = responses.into_inner();
                loop {
                    let response = match responses.message().await {
                        Ok(Some(response)) => response,
                        Ok(None) => break,
                        Err(status) => {
                            failed = Some(CallError::from(status));
                            break;
                        }
                    };
                    reconnect.connected();
                    for event in &response.events {
                        print_event(&mut output, event)?;
                        printed += 1;
                        if printed == limit {
                            return output.flush();
                        }
                    }
                    output.flush()?;
                    // Nothing set aside yet: the first will be new.
                    request.only_new = false;
                    request.after_quarantine_id = response.last_quarantine_id;
                }
            }
            Err(status) => failed = Some(CallError::from(status)),
        }
        match failed {
            Some(error) if !error.is_transient() => return Err(error.into()),
            Some(error) => reconnect.wait(&error.to_string(), error.retry_after).await,
            None => reconnect.wait("the server ended the stream", None).await,
        }
    }
}

fn print_event(output: &mut Output, event: &pb::QuarantinedEvent) -> Done {
    if output.is_json() {
        return output.json(&event_json(event));
    }
    let cells: Vec<_> = event_row(event).iter().map(|cell| output::printable(cell)).collect();
    output.line(cells.join("  "))
}

async fn show(args: ShowArgs) -> Done {
    let mut client = args.client.connect().await?.quarantine();
    let request = pb::GetQuarantinedRequest { quarantine_id: args.id };
    let event = client.get_quarantined(request).await?.into_inner().event.unwrap_or_default();
    let mut output = Output::new(args.client.output);
    if args.payload {
        output.raw(&event.payload)?;
        return output.flush();
    }
    let payload = String::from_utf8_lossy(&event.payload).into_owned();
    let mut value = event_json(&event);
    if let Some(object) = value.as_object_mut() {
        object.insert("payload".to_owned(), Value::from(payload.as_str()));
    }
    output.show(&value, || {
        let wrong = event.violations.iter().map(violation_text).collect::<Vec<_>>().join("\n");
        let fields = output::fields(&[
            ("id", event.quarantine_id.clone()),
            ("dataset", event.dataset.clone()),
            ("class", class_text(event.class())),
            ("fingerprint", event.fingerprint.clone()),
            ("event id", event.event_id.clone()),
            ("schema", format!("{} version {}", event.schema_id, event.schema_version)),
            ("received", time::show(event.receive_time.as_ref())),
            ("last received", time::show(event.last_receive_time.as_ref())),
            ("times received", event.times_received.to_string()),
        ]);
        format!("{fields}\n{wrong}\n{payload}")
    })?;
    output.flush()
}

async fn replay(args: ReplayArgs) -> Done {
    let patch = match &args.patch {
        None => String::new(),
        Some(path) => {
            let read = if path.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(path)
            };
            read.map_err(|error| Failure::usage(format!("--patch {}: {error}", path.display())))?
        }
    };
    let mut client = args.client.connect().await?.quarantine();
    let selection = Some(args.selection.selection());
    let request = pb::ReplayQuarantinedRequest { selection, patch, dry_run: args.dry_run };
    let mut responses = client.replay_quarantined(request).await?.into_inner();
    let mut last = pb::ReplayQuarantinedResponse::default();
    while let Some(response) = responses.message().await? {
        last = response;
    }
    let refused: Vec<_> = last
        .still_refused
        .iter()
        .map(|it| {
            let message = it.error.as_ref().map(|error| error.message.as_str());
            (it.quarantine_id.as_str(), message.unwrap_or_default())
        })
        .collect();
    let mut output = Output::new(args.client.output);
    let value = json!({
        "dry_run": args.dry_run,
        "stored": last.stored,
        "duplicates": last.duplicates,
        "refused": last.refused,
        "gone": last.gone,
        "still_refused": refused
            .iter()
            .map(|(id, message)| json!({ "quarantine_id": id, "message": message }))
            .collect::<Vec<_>>(),
    });
    output.show(&value, || {
        let stored = if args.dry_run { "would be stored" } else { "stored" };
        let mut lines = vec![format!(
            "{} {stored}, {} were stored already, {} still refused, {} gone meanwhile",
            thousands(last.stored),
            thousands(last.duplicates),
            thousands(last.refused),
            thousands(last.gone)
        )];
        lines.extend(refused.iter().map(|(id, message)| format!("{id}: {message}")));
        lines.join("\n")
    })?;
    output.flush()?;
    if last.refused == 0 { Ok(()) } else { Err(Failure::Incomplete) }
}

async fn discard(args: DiscardArgs) -> Done {
    let mut client = args.client.connect().await?.quarantine();
    let selection = Some(args.selection.selection());
    let request = pb::DiscardQuarantinedRequest { selection };
    let discarded = client.discard_quarantined(request).await?.into_inner().discarded;
    let mut output = Output::new(args.client.output);
    output.show(&json!({ "discarded": discarded }), || {
        format!("{} events thrown away", thousands(discarded))
    })?;
    output.flush()
}

fn class_text(class: pb::FaultClass) -> String {
    class.as_str_name().trim_start_matches("FAULT_CLASS_").to_owned()
}

fn group_row(group: &pb::QuarantineGroup) -> Vec<String> {
    vec![
        group.fingerprint.clone(),
        group.dataset.clone(),
        thousands(group.count),
        time::show(group.last_time.as_ref()),
        group.samples.join(" "),
        group.violation.as_ref().map(violation_text).unwrap_or_default(),
    ]
}

fn event_row(event: &pb::QuarantinedEvent) -> Vec<String> {
    vec![
        event.quarantine_id.clone(),
        event.dataset.clone(),
        time::show(event.receive_time.as_ref()),
        event.times_received.to_string(),
        event.event_id.clone(),
        event.violations.first().map(violation_text).unwrap_or_default(),
    ]
}

fn group_json(group: &pb::QuarantineGroup) -> Value {
    json!({
        "dataset": group.dataset,
        "fingerprint": group.fingerprint,
        "class": class_text(group.class()),
        "violation": group.violation.as_ref().map(violation_json),
        "count": group.count,
        "first_time": time::show(group.first_time.as_ref()),
        "last_time": time::show(group.last_time.as_ref()),
        "samples": group.samples,
    })
}

fn event_json(event: &pb::QuarantinedEvent) -> Value {
    json!({
        "quarantine_id": event.quarantine_id,
        "dataset": event.dataset,
        "class": class_text(event.class()),
        "fingerprint": event.fingerprint,
        "event_id": event.event_id,
        "schema_id": event.schema_id,
        "schema_version": event.schema_version,
        "receive_time": time::show(event.receive_time.as_ref()),
        "last_receive_time": time::show(event.last_receive_time.as_ref()),
        "times_received": event.times_received,
        "violations": event.violations.iter().map(violation_json).collect::<Vec<_>>(),
    })
}
