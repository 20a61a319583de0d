//! `milepost get`.

use clap::Args;

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        output::Output,
        read::PayloadArgs,
        render,
    },
    grpc::pb::{self, get_event_request::Key},
};

/// Print one event: by its position, or by dataset and event id.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// The event's position; with --dataset, its id (the payload's `_id`)
    #[arg(value_name = "POSITION|ID")]
    event: String,
    /// The dataset that holds the event with this id
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    #[command(flatten)]
    payload: PayloadArgs,
}

pub(crate) async fn run(args: GetArgs) -> Done {
    let key = key(args.dataset, args.event)?;
    let mut events = args.client.connect().await?.events();
    let request = pb::GetEventRequest { key: Some(key), payload_format: args.payload.format() };
    let response = events.get_event(request).await?.into_inner();
    let event = response.event.unwrap_or_default();
    let mut output = Output::new(args.client.output);
    if output.is_json() {
        output.json(&render::event_json(&event)?)?;
    } else {
        output.line(render::event_details(&event)?.trim_end())?;
    }
    output.flush()
}

fn key(dataset: Option<String>, event: String) -> Result<Key, Failure> {
    match dataset {
        Some(dataset) => Ok(Key::Event(pb::EventKey { dataset, event_id: event })),
        None => event.parse().map(Key::Position).map_err(|_not_a_number| {
            Failure::usage(format!("`{event}` is not a position; an event id needs --dataset"))
        }),
    }
}
