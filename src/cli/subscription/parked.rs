//! `milepost subscription parked`, `export-parked`, `replay` and `discard`.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        output::{self, Format, Output},
        render, time,
    },
    grpc::{
        client::SubscriptionClient,
        pb::{self, watch_parked_response::Message},
    },
    model::Timestamp,
};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The subscription's name
    name: String,
    /// Only the event at this position, with all that is known of it
    #[arg(long, value_name = "POSITION", conflicts_with_all = ["watch", "by", "reason", "since", "until"])]
    position: Option<u64>,
    #[command(flatten)]
    filter: ParkedFilterArgs,
    /// Tell what becomes of parked events from now on, until it is stopped
    #[arg(long, conflicts_with_all = ["by", "reason", "since", "until"])]
    watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The subscription's name
    name: String,
    #[command(flatten)]
    filter: ParkedFilterArgs,
    /// Only those after this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SelectArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The subscription's name
    name: String,
    /// Positions of parked events
    #[arg(
        required_unless_present = "all",
        conflicts_with_all = ["all", "by", "reason", "since", "until"]
    )]
    positions: Vec<u64>,
    /// All of them, or those that the other flags select, at most 10 000
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: ParkedFilterArgs,
}

#[derive(Clone, Debug, Args)]
struct ParkedFilterArgs {
    /// Only events that were parked by this; may be repeated
    #[arg(long, value_enum, value_name = "WHO")]
    by: Vec<By>,
    /// Only events whose reason has this text in it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only events that were parked at this time or later: RFC 3339, a date, or an age such as `15m`
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<Timestamp>,
    /// Only events that were parked before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// It failed too often
    MaxAttempts,
    /// A consumer parked it
    Client,
    /// It has no lane
    NoLane,
    /// It stands behind another one
    Convoy,
}

impl From<ParkedFilterArgs> for pb::ParkedFilter {
    fn from(args: ParkedFilterArgs) -> Self {
        use pb::parked_event::By as Shown;
        let by = args.by.iter().map(|it| match it {
            By::MaxAttempts => Shown::ServerMaxAttempts.into(),
            By::Client => Shown::Client.into(),
            By::NoLane => Shown::NoLane.into(),
            By::Convoy => Shown::Convoy.into(),
        });
        let bounded = args.since.is_some() || args.until.is_some();
        Self {
            parked_by: by.collect(),
            reason_contains: args.reason.unwrap_or_default(),
            park_time: bounded.then(|| pb::TimeRange {
                start: args.since.map(time::to_proto),
                end: args.until.map(time::to_proto),
            }),
        }
    }
}

pub(super) async fn list(
    mut client: SubscriptionClient,
    mut output: Output,
    args: ListArgs,
) -> Done {
    if let Some(position) = args.position {
        let request = pb::GetParkedRequest { subscription: args.name, position, payload_format: 0 };
        let parked = client.get_parked(request).await?.into_inner().parked.unwrap_or_default();
        output.show(&whole(&parked)?, || text(&parked))?;
        return output.flush();
    }
    if args.watch {
        return watch(client, output, args.name).await;
    }
    let filter: pb::ParkedFilter = args.filter.into();
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListParkedRequest {
            subscription: args.name.clone(),
            page_size: 1000,
            page_token,
            payload_format: 0,
            filter: Some(filter.clone()),
        };
        let page = client.list_parked(request).await?.into_inner();
        for it in &page.parked {
            if output.is_json() {
                output.json(&whole(it)?)?;
            } else {
                rows.push(row(it));
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if !output.is_json() {
        let table = output::table(&["POSITION", "PARKED BY", "ATTEMPTS", "REASON"], &rows);
        output.line(table.trim_end())?;
    }
    output.flush()
}

pub(super) async fn export(mut client: SubscriptionClient, args: ExportArgs) -> Done {
    let mut output = Output::new(Format::Json);
    let request = pb::ExportParkedRequest {
        subscription: args.name,
        filter: Some(args.filter.into()),
        after_position: args.after,
        payload_format: 0,
    };
    let mut pages = client.export_parked(request).await?.into_inner();
    while let Some(page) = pages.message().await? {
        for it in &page.parked {
            output.json(&whole(it)?)?;
        }
    }
    output.flush()
}

async fn watch(mut client: SubscriptionClient, mut output: Output, subscription: String) -> Done {
    let request = pb::WatchParkedRequest { subscription, heartbeat_interval: None };
    let mut responses = client.watch_parked(request).await?.into_inner();
    while let Some(response) = responses.message().await? {
        match response.message {
            Some(Message::Started(it)) => {
                output.show(&json!({ "parked": it.parked }), || format!("{} parked", it.parked))?;
            }
            Some(Message::Changed(it)) => {
                let parked = it.parked.as_ref();
                let reason = parked.map(|it| it.reason.clone()).unwrap_or_default();
                let kind = it.kind().as_str_name();
                let value = json!({ "change": kind, "position": it.position, "reason": reason });
                output.show(&value, || {
                    format!("{} {kind} {}", it.position, output::printable(&reason))
                })?;
            }
            Some(Message::Ending(it)) => {
                let reason = it.reason().as_str_name();
                output
                    .show(&json!({ "ending": reason }), || format!("the server ends: {reason}"))?;
            }
            Some(Message::Heartbeat(_)) | None => {}
        }
        output.flush()?;
    }
    Ok(())
}

fn selector(positions: Vec<u64>, filter: ParkedFilterArgs) -> pb::ParkedSelector {
    let filter = positions.is_empty().then(|| filter.into());
    pb::ParkedSelector { positions, limit: 0, filter }
}

pub(super) async fn replay(
    mut client: SubscriptionClient,
    mut output: Output,
    args: SelectArgs,
) -> Done {
    let selector = Some(selector(args.positions, args.filter));
    let subscription = args.name;
    let request = pb::ReplayParkedRequest { subscription, selector, keep_attempts: false };
    let replayed = client.replay_parked(request).await?.into_inner().replayed;
    output.show(&json!({ "replayed": replayed }), || format!("{replayed} replayed"))?;
    output.flush()
}

pub(super) async fn discard(
    mut client: SubscriptionClient,
    mut output: Output,
    args: SelectArgs,
) -> Done {
    let selector = Some(selector(args.positions, args.filter));
    let request = pb::DiscardParkedRequest { subscription: args.name, selector };
    let discarded = client.discard_parked(request).await?.into_inner().discarded;
    output.show(&json!({ "discarded": discarded }), || format!("{discarded} discarded"))?;
    output.flush()
}

fn row(it: &pb::ParkedEvent) -> Vec<String> {
    vec![
        it.position.to_string(),
        it.parked_by().as_str_name().to_owned(),
        it.total_attempts.to_string(),
        output::printable(&it.reason),
    ]
}

fn text(it: &pb::ParkedEvent) -> String {
    let mut text = output::fields(&[
        ("position", it.position.to_string()),
        ("parked by", it.parked_by().as_str_name().to_owned()),
        ("parked at", time::show(it.park_time.as_ref())),
        ("reason", output::printable(&it.reason)),
        ("attempts", it.total_attempts.to_string()),
        ("payload digest", it.payload_digest.clone()),
    ]);
    if it.payload_differs {
        text.push_str("\nthe log has another payload now: the store is damaged");
    }
    for failure in &it.failures {
        let (time, kind) = (time::show(failure.time.as_ref()), failure.kind().as_str_name());
        let (who, why) =
            (output::printable(&failure.client_id), output::printable(&failure.reason));
        let line = format!("\n{time} {kind} {who} {why}");
        text.push_str(&line);
    }
    text
}

/// A parked event with its event and attempts.
fn whole(it: &pb::ParkedEvent) -> Result<Value, Failure> {
    let failure = |it: &pb::DeliveryFailure| {
        json!({
            "time": time::show(it.time.as_ref()),
            "client_id": it.client_id,
            "kind": it.kind().as_str_name(),
            "reason": it.reason,
        })
    };
    Ok(json!({
        "position": it.position,
        "parked_by": it.parked_by().as_str_name(),
        "behind_position": it.behind_position,
        "reason": it.reason,
        "attempts": it.attempts,
        "total_attempts": it.total_attempts,
        "failures": it.failures.iter().map(failure).collect::<Vec<_>>(),
        "park_time": time::show(it.park_time.as_ref()),
        "replaying": it.replaying,
        "payload_digest": it.payload_digest,
        "payload_differs": it.payload_differs,
        "event": it.event.as_ref().map(render::event_json).transpose()?,
    }))
}
