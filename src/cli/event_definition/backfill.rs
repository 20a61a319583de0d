//! `milepost event-definition backfill`.

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

/// Match the events that were stored before a definition was in force.
///
/// By its latest version, which must be LIVE; once and for all. Breaking it off leaves nothing.
#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The definition's name
    name: String,
    /// Only if the definition is as it was when it had this etag
    #[arg(long, default_value = "")]
    etag: String,
    /// Say how many match and keep nothing
    #[arg(long)]
    validate_only: bool,
}

pub(super) async fn run(args: BackfillArgs) -> Done {
    let mut client = args.client.connect().await?.event_definitions();
    let BackfillArgs { name, etag, validate_only, .. } = args;
    let request = pb::BackfillEventDefinitionRequest { name, etag, validate_only };
    let mut states = client.backfill_event_definition(request).await?.into_inner();
    let mut output = Output::new(args.client.output);
    while let Some(state) = states.message().await? {
        if !state.done {
            note(format!("looked at {} of {} positions", state.scanned_to, state.until));
            continue;
        }
        let json = json!({
            "version": state.version,
            "until": state.until,
            "matched": state.matched,
            "kept": !validate_only,
        });
        output.show(&json, || {
            let kept = if validate_only { "; nothing was kept" } else { "" };
            let (matched, until) = (thousands(state.matched), thousands(state.until));
            format!("{matched} events up to position {until} match version {}{kept}", state.version)
        })?;
    }
    output.flush()
}
