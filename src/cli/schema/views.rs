//! `milepost schema sample` and `union`.

use clap::Args;

use crate::{
    cli::{
        args::ClientArgs,
        failure::Done,
        output::{self, Output},
    },
    grpc::pb,
};

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The schema's `$id`
    id: String,
    /// Version; 0: the latest
    #[arg(long, value_name = "N", default_value_t = 0)]
    version: u32,
    /// The first seed; the same one makes the same event
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How many to make, each with the next seed, one on a line
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    /// Leave out what is not required
    #[arg(long)]
    required_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UnionArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// `$id` of the class
    class: String,
}

pub(super) async fn sample(args: SampleArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let mut output = Output::new(args.client.output);
    for place in 0..args.count {
        let request = pb::GenerateSampleRequest {
            id: args.id.clone(),
            version: args.version,
            seed: args.seed.wrapping_add(place),
            required_only: args.required_only,
        };
        let sample = client.generate_sample(request).await?.into_inner();
        // JSON already, and what `append` takes.
        output.line(sample.json)?;
    }
    output.flush()
}

pub(super) async fn union(args: UnionArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let request = pb::GetUnionRequest { class_id: args.class };
    let union = client.get_union(request).await?.into_inner();
    let mut output = Output::new(args.client.output);
    output.line(union.document)?;
    output.flush()?;
    for path in &union.conflicts {
        output::note(output::printable(&format!("types differ at `{path}`")));
    }
    Ok(())
}
