//! `milepost count`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{args::ClientArgs, failure::Done, filter::FilterArgs, output::Output},
    grpc::pb,
};

/// Count stored events, exactly.
#[derive(Debug, Args)]
pub(crate) struct CountArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

pub(crate) async fn run(args: CountArgs) -> Done {
    let mut events = args.client.connect().await?.events();
    let request = pb::CountEventsRequest { filter: Some(args.filter.into()) };
    let count = events.count_events(request).await?.into_inner().count;
    let mut output = Output::new(args.client.output);
    output.show(&json!({ "count": count }), || count.to_string())?;
    output.flush()
}
