//! `milepost status`.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::Done,
        output::{self, Output, thousands},
        time,
    },
    grpc::pb,
};

/// Show what the server is and how it is doing.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: StatusArgs) -> Done {
    let connection = args.client.connect().await?;
    let mut admin = connection.admin();
    let info = admin.get_server_info(pb::GetServerInfoRequest {}).await?.into_inner();
    let status = admin.get_status(pb::GetStatusRequest {}).await?.into_inner();
    let mut output = Output::new(args.client.output);
    output.show(&to_json(&info, &status), || to_text(connection.address(), &info, &status))?;
    output.flush()
}

fn state(status: &pb::GetStatusResponse) -> &'static str {
    status.state().as_str_name().trim_start_matches("STORE_STATE_")
}

fn to_text(
    address: &str,
    info: &pb::GetServerInfoResponse,
    status: &pb::GetStatusResponse,
) -> String {
    let index = status.index.unwrap_or_default();
    let quarantine = status.quarantine.unwrap_or_default();
    let refused: Vec<_> = status
        .refused
        .iter()
        .map(|it| format!("{} {}", thousands(it.since_start), it.reason))
        .collect();
    output::fields(&[
        ("server", address.to_owned()),
        ("version", format!("{}, disk format {}", info.version, info.format_version)),
        ("state", state(status).to_owned()),
        ("started", time::show(info.start_time.as_ref())),
        ("log epoch", info.log_epoch.clone()),
        ("last position", thousands(status.last_position)),
        ("last event stored", time::show(status.last_record_time.as_ref())),
        ("datasets", thousands(status.datasets)),
        ("schemas", thousands(status.schemas)),
        ("followers", thousands(status.followers)),
        (
            "append queue",
            format!(
                "{} of {} bytes",
                thousands(status.queue_bytes),
                thousands(status.queue_bytes_max)
            ),
        ),
        (
            "disk",
            format!(
                "{} bytes: {} live in {} volumes, {} journal; {} free, reserve {}",
                thousands(status.disk_bytes),
                thousands(status.live_bytes),
                thousands(status.volumes),
                thousands(status.journal_bytes),
                thousands(status.disk_free_bytes),
                thousands(status.disk_reserve_bytes)
            ),
        ),
        ("refused since start", refused.join(", ")),
        (
            "quarantine",
            format!(
                "{} events, {} of {} bytes; {} dropped",
                thousands(quarantine.events),
                thousands(quarantine.bytes),
                thousands(quarantine.bytes_max),
                thousands(quarantine.dropped)
            ),
        ),
        ("tagged events", thousands(status.tagged_events)),
        (
            "index",
            format!(
                "{} segments up to position {}, {} events in memory",
                thousands(index.segments),
                thousands(index.checkpoint),
                thousands(index.tail_events)
            ),
        ),
    ])
}

fn to_json(info: &pb::GetServerInfoResponse, status: &pb::GetStatusResponse) -> Value {
    let limits = info.limits.unwrap_or_default();
    let index = status.index.unwrap_or_default();
    let quarantine = status.quarantine.unwrap_or_default();
    json!({
        "version": info.version,
        "log_epoch": info.log_epoch,
        "format_version": info.format_version,
        "start_time": time::show(info.start_time.as_ref()),
        "state": state(status),
        "last_position": status.last_position,
        "last_record_time": time::show(status.last_record_time.as_ref()),
        "datasets": status.datasets,
        "schemas": status.schemas,
        "followers": status.followers,
        "queue_bytes": status.queue_bytes,
        "queue_bytes_max": status.queue_bytes_max,
        "disk_bytes": status.disk_bytes,
        "live_bytes": status.live_bytes,
        "volumes": status.volumes,
        "journal_bytes": status.journal_bytes,
        "disk_free_bytes": status.disk_free_bytes,
        "disk_reserve_bytes": status.disk_reserve_bytes,
        "refused": status.refused.iter().map(|it| json!({
            "reason": it.reason,
            "last_hour": it.last_hour,
            "since_start": it.since_start,
        })).collect::<Vec<_>>(),
        "quarantine": {
            "events": quarantine.events,
            "bytes": quarantine.bytes,
            "bytes_max": quarantine.bytes_max,
            "dropped": quarantine.dropped,
        },
        "tagged_events": status.tagged_events,
        "index": {
            "segments": index.segments,
            "checkpoint": index.checkpoint,
            "tail_events": index.tail_events,
        },
        "limits": {
            "max_request_bytes": limits.max_request_bytes,
            "max_batch_events": limits.max_batch_events,
            "max_event_bytes": limits.max_event_bytes,
            "max_json_depth": limits.max_json_depth,
            "max_event_identities": limits.max_event_identities,
            "max_page_size": limits.max_page_size,
            "max_filter_values": limits.max_filter_values,
            "max_schema_bytes": limits.max_schema_bytes,
            "max_datasets": limits.max_datasets,
            "max_schemas": limits.max_schemas,
        },
    })
}
