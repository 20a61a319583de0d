//! `milepost read`.

use clap::{Args, ValueEnum};

use crate::{
    cli::{
        args::ClientArgs,
        failure::Done,
        filter::FilterArgs,
        output::{Output, note},
        render::{self, EventPrinter},
    },
    grpc::pb,
};

/// Print stored events, one per line.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Events after this position (exclusive); 0: from the first
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    /// Events before this position (exclusive); 0: up to the last
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    before: u64,
    /// Newest first
    #[arg(long)]
    backward: bool,
    /// At most this many events; 0: all
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u64,
    #[command(flatten)]
    payload: PayloadArgs,
    #[command(flatten)]
    below_floor: BelowFloorArgs,
}

/// How payloads come.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PayloadArgs {
    /// The payload as stored, through a protobuf Struct (doubles, sorted keys), or left out
    #[arg(long = "payload", value_name = "FORMAT", value_enum, default_value_t = Payload::Json)]
    payload: Payload,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Payload {
    Json,
    Struct,
    None,
}

impl PayloadArgs {
    pub(crate) fn format(self) -> i32 {
        let format = match self.payload {
            Payload::Json => pb::PayloadFormat::Json,
            Payload::Struct => pb::PayloadFormat::Struct,
            Payload::None => pb::PayloadFormat::None,
        };
        format.into()
    }
}

/// What happens below lost events.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct BelowFloorArgs {
    /// When events after the start are lost by trimming or retention: fail, or tell of the gap and go
    /// on with those that are kept
    #[arg(long = "below-floor", value_name = "WHAT", value_enum, default_value_t = BelowFloor::Fail)]
    below_floor: BelowFloor,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BelowFloor {
    Fail,
    Clamp,
}

impl From<BelowFloorArgs> for i32 {
    fn from(args: BelowFloorArgs) -> Self {
        match args.below_floor {
            BelowFloor::Fail => pb::BelowFloor::Fail.into(),
            BelowFloor::Clamp => pb::BelowFloor::Clamp.into(),
        }
    }
}

pub(crate) async fn run(args: ReadArgs) -> Done {
    let mut events = args.client.connect().await?.events();
    let direction = if args.backward { pb::Direction::Backward } else { pb::Direction::Forward };
    let request = pb::ReadEventsRequest {
        filter: Some(args.filter.into()),
        after: args.after,
        before: args.before,
        direction: direction.into(),
        limit: args.limit,
        payload_format: args.payload.format(),
        below_floor: args.below_floor.into(),
    };
    let mut responses = events.read_events(request).await?.into_inner();
    let mut output = Output::new(args.client.output);
    let printer = EventPrinter::new();
    while let Some(response) = responses.message().await? {
        // Lines on standard output are events; what is missing of them is told beside it.
        for gap in &response.gaps {
            if output.is_json() {
                note(render::gap_json(gap));
            } else {
                note(format_args!("# {}", render::gap_text(gap)));
            }
        }
        for event in &response.events {
            printer.print(&mut output, event)?;
        }
        output.flush()?;
    }
    output.flush()
}
