//! `milepost subscription`.

mod parked;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        filter::FilterArgs,
        follow, lists,
        output::{self, Format, Output},
        render, time,
    },
    grpc::{
        client::{SubscriptionClient, well_known},
        pb::{self, explain_delivery_response::Standing, seek_subscription_request::Target},
    },
};

/// Subscriptions: durable, shared by competing consumers, in order for every identity.
#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionCommand {
    /// Create a subscription; one with the same settings is left as it is
    Create(Box<CreateArgs>),
    /// List subscriptions by name
    List(ListArgs),
    /// Show a subscription and how it does: lag, lanes that are blocked, consumers
    Show(NameArgs),
    /// Deliver nothing until it is resumed
    Pause(NameArgs),
    /// Deliver again
    Resume(NameArgs),
    /// Go on from elsewhere
    Seek(SeekArgs),
    /// Keep under a name which events are done, for `seek --to snapshot:NAME`
    Snapshot(SnapshotArgs),
    /// List parked events, show one, or watch what becomes of them
    Parked(parked::ListArgs),
    /// Write parked events with their events and attempts to standard output, a JSON object in a line
    ExportParked(parked::ExportArgs),
    /// Deliver parked events again
    Replay(parked::SelectArgs),
    /// Give up parked events
    Discard(parked::SelectArgs),
    /// Tell why an event was delivered or not
    Explain(ExplainArgs),
    /// Take a subscription away, with all that it has done
    Delete(NameArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// 1 to 64 of a-z, 0-9 and -, starting with a letter
    name: String,
    #[command(flatten)]
    filter: FilterArgs,
    /// Where to begin: `beginning`, `end`, `after:POSITION`, `time:TIME`, `happened:TIME`
    #[arg(long, value_name = "START", default_value = "end", value_parser = follow::start)]
    from: pb::start::Start,
    /// Which events wait for which
    #[arg(long, value_enum, default_value_t = Order::PerIdentity)]
    order: Order,
    /// Only identities of this namespace keep events in order; may be repeated
    #[arg(long = "lane-namespace", value_name = "CODE")]
    lane_namespaces: Vec<String>,
    /// How long a consumer has for an event
    #[arg(long, value_name = "AGE", value_parser = time::duration, default_value = "30s")]
    ack_deadline: well_known::Duration,
    /// Failed attempts after which an event is parked; 0: never
    #[arg(long, value_name = "N", default_value_t = 10)]
    max_attempts: u32,
    /// Answer outcomes before they are durable, which they are within so many milliseconds; a crash before lets their
    /// events come again
    #[arg(long, value_name = "MS")]
    async_acks_ms: Option<u16>,
    /// Also store parked events in this dataset
    #[arg(long, value_name = "DATASET", default_value = "", hide_default_value = true)]
    dead_letters: String,
    /// Look at so many events in a second while it catches up, so that others find room on the disk; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    scan_limit: u32,
    /// Tell when it is further behind than this: its state is LAGGING then
    #[arg(long, value_name = "AGE", value_parser = time::duration)]
    max_lag: Option<well_known::Duration>,
    /// It has expired when it had no consumers for so long
    #[arg(long, value_name = "AGE", value_parser = time::duration)]
    expire_after: Option<well_known::Duration>,
    /// Delete it when it has expired
    #[arg(long, requires = "expire_after")]
    delete_expired: bool,
    /// Let retention leave so many bytes of each dataset until they are done
    #[arg(long, value_name = "BYTES")]
    pin_retention: Option<u64>,
    /// Deliver nothing for so long after the server was restarted
    #[arg(long, value_name = "AGE", value_parser = time::duration)]
    restart_grace: Option<well_known::Duration>,
    /// What happens to the people of a parked event
    #[arg(long, value_enum, default_value_t = Park::Skip)]
    park: Park,
    /// For people; at most 1024 bytes
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// Each person's events in order
    PerIdentity,
    /// None: the oldest first
    Unordered,
    /// All events in order, one at a time
    Total,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Park {
    /// They go on without it
    Skip,
    /// They wait until it is replayed or discarded
    Block,
    /// Their later events are parked behind it
    Convoy,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The subscription's name
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct SeekArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The subscription's name
    name: String,
    /// `beginning`, `end`, `after:POSITION`, `time:TIME`, `happened:TIME`, or `snapshot:NAME`
    #[arg(long, value_name = "TARGET", value_parser = target)]
    to: Target,
    /// First let consumers finish what they have
    #[arg(long)]
    drain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The subscription's name
    subscription: String,
    /// The snapshot's name
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The subscription's name
    name: String,
    /// The event's position
    position: u64,
}

fn target(text: &str) -> Result<Target, String> {
    if let Some(name) = text.strip_prefix("snapshot:") {
        return Ok(Target::Snapshot(name.to_owned()));
    }
    Ok(Target::Start(pb::Start { start: Some(follow::start(text)?) }))
}

impl SubscriptionCommand {
    pub(crate) fn client(&self) -> &ClientArgs {
        match self {
            Self::Create(args) => &args.client,
            Self::List(args) => &args.client,
            Self::Show(args) | Self::Pause(args) | Self::Resume(args) | Self::Delete(args) => {
                &args.client
            }
            Self::Parked(args) => &args.client,
            Self::ExportParked(args) => &args.client,
            Self::Seek(args) => &args.client,
            Self::Snapshot(args) => &args.client,
            Self::Replay(args) | Self::Discard(args) => &args.client,
            Self::Explain(args) => &args.client,
        }
    }
}

pub(crate) async fn run(command: SubscriptionCommand) -> Done {
    let mut client = command.client().connect().await?.subscriptions();
    let mut output = Output::new(command.client().output);
    match command {
        SubscriptionCommand::Create(args) => create(client, output, *args).await?,
        SubscriptionCommand::List(args) => list(client, args.client.output).await?,
        SubscriptionCommand::Show(args) => show(client, output, args.name).await?,
        SubscriptionCommand::Pause(args) => {
            client.pause_subscription(pb::PauseSubscriptionRequest { name: args.name }).await?;
        }
        SubscriptionCommand::Resume(args) => {
            client.resume_subscription(pb::ResumeSubscriptionRequest { name: args.name }).await?;
        }
        SubscriptionCommand::Seek(args) => {
            use pb::seek_subscription_request::InFlight;
            let in_flight = if args.drain { InFlight::Drain } else { InFlight::Abandon }.into();
            let target = Some(args.to);
            let request = pb::SeekSubscriptionRequest { name: args.name, target, in_flight };
            let position = client.seek_subscription(request).await?.into_inner().position;
            let text = || format!("goes on after position {position}");
            output.show(&json!({ "position": position }), text)?;
            output.flush()?;
        }
        SubscriptionCommand::Snapshot(SnapshotArgs { subscription, name, .. }) => {
            client.create_snapshot(pb::CreateSnapshotRequest { subscription, name }).await?;
        }
        SubscriptionCommand::Parked(args) => parked::list(client, output, args).await?,
        SubscriptionCommand::ExportParked(args) => parked::export(client, args).await?,
        SubscriptionCommand::Replay(args) => parked::replay(client, output, args).await?,
        SubscriptionCommand::Discard(args) => parked::discard(client, output, args).await?,
        SubscriptionCommand::Explain(args) => explain(client, output, args).await?,
        SubscriptionCommand::Delete(args) => {
            let request = pb::DeleteSubscriptionRequest { name: args.name, etag: String::new() };
            client.delete_subscription(request).await?;
        }
    }
    Ok(())
}

async fn create(mut client: SubscriptionClient, mut output: Output, args: CreateArgs) -> Done {
    let ordering = match args.order {
        Order::PerIdentity => pb::Ordering::PerIdentity,
        Order::Unordered => pb::Ordering::Unordered,
        Order::Total => pb::Ordering::Total,
    };
    let park_policy = match args.park {
        Park::Skip => pb::ParkPolicy::Skip,
        Park::Block => pb::ParkPolicy::Block,
        Park::Convoy => pb::ParkPolicy::Convoy,
    };
    let lane_selector = if args.lane_namespaces.is_empty() {
        pb::LaneSelector::All
    } else {
        pb::LaneSelector::Namespaces
    };
    let durability = match args.async_acks_ms {
        Some(_) => pb::AckDurability::Async,
        None => pb::AckDurability::Sync,
    };
    let subscription = pb::Subscription {
        name: args.name,
        description: args.description,
        filter: Some(args.filter.into()),
        ordering: ordering.into(),
        lane_selector: lane_selector.into(),
        lane_namespaces: args.lane_namespaces,
        ack_deadline: Some(args.ack_deadline),
        max_attempts: Some(args.max_attempts),
        park_policy: park_policy.into(),
        ack_durability: durability.into(),
        ack_flush_interval: args.async_acks_ms.map(|it| well_known::Duration {
            seconds: i64::from(it / 1000),
            nanos: i32::from(it % 1000) * 1_000_000,
        }),
        dead_letter_dataset: args.dead_letters,
        restart_grace: args.restart_grace,
        scan_limit_per_second: args.scan_limit,
        max_lag: args.max_lag,
        expire_after: args.expire_after,
        expire_policy: if args.delete_expired {
            pb::ExpirePolicy::Delete.into()
        } else {
            pb::ExpirePolicy::Keep.into()
        },
        pin_retention: args.pin_retention.is_some(),
        pin_retention_bytes: args.pin_retention.unwrap_or_default(),
        ..Default::default()
    };
    let request = pb::CreateSubscriptionRequest {
        subscription: Some(subscription),
        start: Some(pb::Start { start: Some(args.from) }),
        validate_only: false,
    };
    let response = client.create_subscription(request).await?.into_inner();
    let made = response.subscription.unwrap_or_default();
    output.show(&subscription_json(&made), || output::fields(&settings(&made)))?;
    output.flush()
}

async fn list(mut client: SubscriptionClient, format: Format) -> Done {
    let subscriptions = lists::all(async |page_token| {
        let request = pb::ListSubscriptionsRequest { page_size: lists::PAGE_SIZE, page_token };
        let page = client.list_subscriptions(request).await?.into_inner();
        Ok((page.subscriptions, page.next_page_token))
    });
    let subscriptions = subscriptions.await?;
    let row = |it: &pb::Subscription| {
        let paused = if it.paused { "yes" } else { "" };
        let order = it.ordering().as_str_name().trim_start_matches("ORDERING_");
        Ok(vec![it.name.clone(), order.into(), paused.into()])
    };
    let json = |it: &_| Ok(subscription_json(it));
    lists::print(format, &subscriptions, json, &["NAME", "ORDER", "PAUSED"], row)
}

async fn show(mut client: SubscriptionClient, mut output: Output, name: String) -> Done {
    let got = client.get_subscription(pb::GetSubscriptionRequest { name }).await?.into_inner();
    let (subscription, status) =
        (got.subscription.unwrap_or_default(), got.status.unwrap_or_default());
    let mut value = subscription_json(&subscription);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("status".to_owned(), status_json(&status));
    }
    output.show(&value, || {
        let mut rows = settings(&subscription);
        rows.extend([
            ("state", status.state().as_str_name().to_owned()),
            ("lag", format!("{} events, {}", status.lag_events, age(status.lag))),
            ("floor", status.floor_position.to_string()),
            ("in flight", status.in_flight.to_string()),
            ("retrying", status.retrying.to_string()),
            ("parked", status.parked.to_string()),
            ("consumers", status.consumers.len().to_string()),
            ("filter index", index(status.filter_index()).to_owned()),
            ("filter errors", status.filter_errors_total.to_string()),
            ("dead letters failed", status.dead_letter_failures_total.to_string()),
        ]);
        let mut text = output::fields(&rows);
        for lane in &status.blocked_lanes {
            let who = lane.identity.as_ref().map_or_else(
                || "a lane".to_owned(),
                |it| output::printable(&render::identity_text(it)),
            );
            let line = format!("\n{who}: {} wait for event {}", lane.waiting, lane.position);
            text.push_str(&line);
        }
        for it in &status.consumers {
            let (who, held) = (output::printable(&it.client_id), it.in_flight);
            let (given, done) = (it.delivered_per_second, it.resolved_per_second);
            let failed = it.failed_per_second;
            let line = format!(
                "\n{who}: has {held}; {given:.1} delivered/s, {done:.1} done/s, {failed:.1} failed/s"
            );
            text.push_str(&line);
        }
        for it in &status.filter_errors {
            let message = output::printable(&it.message);
            let line = format!("\nevent {}: the filter comes to nothing: {message}", it.position);
            text.push_str(&line);
        }
        for it in &status.dead_letter_failures {
            let message = output::printable(&it.message);
            let line = format!("\nevent {}: no dead letter: {message}", it.position);
            text.push_str(&line);
        }
        text
    })?;
    output.flush()
}

fn age(lag: Option<well_known::Duration>) -> String {
    let lag = lag.unwrap_or_default();
    format!("{}.{:03} s", lag.seconds, lag.nanos / 1_000_000)
}

async fn explain(
    mut client: SubscriptionClient,
    mut output: Output,
    args: ExplainArgs,
) -> Result<(), Failure> {
    let (subscription, position) = (args.name, args.position);
    let request = pb::ExplainDeliveryRequest { subscription, position };
    let it = client.explain_delivery(request).await?.into_inner();
    let standing = it.standing().as_str_name();
    let identity = it.identity.as_ref().map(render::identity_text);
    let when = match it.time {
        None if it.standing() == Standing::Resolved => "not known any more".to_owned(),
        time => time::show(time.as_ref()),
    };
    let rows: Vec<(&str, String)> = [
        ("standing", standing.to_owned()),
        ("filter field", it.filter_field.clone()),
        ("filter index", index(it.filter_index()).to_owned()),
        ("client", it.client_id.clone()),
        ("time", when),
        (
            "waits for",
            if it.blocking_position > 0 { it.blocking_position.to_string() } else { String::new() },
        ),
        ("because of", identity.clone().unwrap_or_default()),
        ("reason", it.reason.clone()),
    ]
    .into();
    let value = json!({
        "standing": standing,
        "filter_field": it.filter_field,
        "filter_index": it.filter_index().as_str_name(),
        "client_id": it.client_id,
        "time": time::show(it.time.as_ref()),
        "blocking_position": it.blocking_position,
        "identity": identity,
        "reason": it.reason,
    });
    output.show(&value, || {
        let told: Vec<_> = rows.iter().filter(|it| !it.1.is_empty()).cloned().collect();
        output::fields(&told)
    })?;
    output.flush()
}

/// By what events are found; empty when that is not known.
fn index(index: pb::FilterIndex) -> &'static str {
    match index {
        pb::FilterIndex::Unspecified => "",
        pb::FilterIndex::Identity => "identity",
        pb::FilterIndex::EventDefinition => "event definition",
        pb::FilterIndex::EventType => "event type",
        pb::FilterIndex::Schema => "schema",
        pb::FilterIndex::Dataset => "dataset",
        pb::FilterIndex::FullScan => "none: every event is looked at",
    }
}

fn settings(it: &pb::Subscription) -> Vec<(&'static str, String)> {
    let order = it.ordering().as_str_name().trim_start_matches("ORDERING_");
    let park = it.park_policy().as_str_name().trim_start_matches("PARK_POLICY_");
    vec![
        ("name", it.name.clone()),
        ("description", it.description.clone()),
        ("order", order.to_owned()),
        ("park policy", park.to_owned()),
        ("max attempts", it.max_attempts().to_string()),
        (
            "acks",
            it.ack_durability().as_str_name().trim_start_matches("ACK_DURABILITY_").to_owned(),
        ),
        (
            "scan limit",
            match it.scan_limit_per_second {
                0 => "none".to_owned(),
                limit => format!("{limit}/s"),
            },
        ),
        ("begins after", it.begin_position.to_string()),
        ("etag", it.etag.clone()),
    ]
}

fn subscription_json(it: &pb::Subscription) -> Value {
    json!({
        "name": it.name,
        "description": it.description,
        "ordering": it.ordering().as_str_name(),
        "lane_selector": it.lane_selector().as_str_name(),
        "lane_namespaces": it.lane_namespaces,
        "park_policy": it.park_policy().as_str_name(),
        "max_attempts": it.max_attempts(),
        "ack_durability": it.ack_durability().as_str_name(),
        "dead_letter_dataset": it.dead_letter_dataset,
        "scan_limit_per_second": it.scan_limit_per_second,
        "paused": it.paused,
        "begin_position": it.begin_position,
        "etag": it.etag,
    })
}

fn status_json(it: &pb::SubscriptionStatus) -> Value {
    json!({
        "state": it.state().as_str_name(),
        "floor_position": it.floor_position,
        "scanned_position": it.scanned_position,
        "last_position": it.last_position,
        "lag_events": it.lag_events,
        "in_flight": it.in_flight,
        "retrying": it.retrying,
        "parked": it.parked,
        "consumers": it.consumers.iter().map(|it| &it.client_id).collect::<Vec<_>>(),
        "rates": it
            .consumers
            .iter()
            .map(|it| json!({
                "client_id": it.client_id,
                "delivered_per_second": it.delivered_per_second,
                "resolved_per_second": it.resolved_per_second,
                "failed_per_second": it.failed_per_second,
            }))
            .collect::<Vec<_>>(),
        "trouble": it.trouble,
        "dead_letter_failures_total": it.dead_letter_failures_total,
        "pinned_after_position": it.pinned_after_position,
        "filter_index": it.filter_index().as_str_name(),
        "filter_errors_total": it.filter_errors_total,
        "filter_errors": it
            .filter_errors
            .iter()
            .map(|it| json!({
                "position": it.position,
                "time": time::show(it.time.as_ref()),
                "message": it.message,
            }))
            .collect::<Vec<_>>(),
    })
}
