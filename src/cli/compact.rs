//! `milepost compact`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        args::ClientArgs,
        failure::Done,
        output::{Output, note, thousands},
    },
    grpc::pb,
};

/// Give back the disk space of trimmed and deleted events, and of what writing has left over.
///
/// Appends and reads go on meanwhile. Breaking it off loses nothing: the next call goes on with what
/// is left.
#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: CompactArgs) -> Done {
    let mut admin = args.client.connect().await?.admin();
    let mut states = admin.compact_store(pb::CompactStoreRequest {}).await?.into_inner();
    let mut output = Output::new(args.client.output);
    while let Some(state) = states.message().await? {
        if !state.done && state.volumes_done < state.volumes {
            note(format!("{} of {} volumes rewritten", state.volumes_done, state.volumes));
            continue;
        }
        let json = json!({
            "volumes_done": state.volumes_done,
            "volumes": state.volumes,
            "events_removed": state.events_removed,
            "bytes_before": state.bytes_before,
            "bytes_after": state.bytes_after,
            "done": state.done,
        });
        output.show(&json, || {
            format!(
                "{} volumes rewritten: {} events removed, {} bytes before, {} after",
                thousands(state.volumes_done),
                thousands(state.events_removed),
                thousands(state.bytes_before),
                thousands(state.bytes_after),
            )
        })?;
    }
    output.flush()
}
