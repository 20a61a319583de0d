//! `milepost schema deprecate` and `delete`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        args::ClientArgs,
        failure::Done,
        output::{Output, printable},
        schema::{details, schema_json},
    },
    grpc::pb,
};

#[derive(Debug, Args)]
pub(crate) struct DeprecateArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The schema's `$id`
    id: String,
    /// `$id` of the schema to use instead
    #[arg(long, value_name = "ID", default_value = "")]
    successor: String,
    /// Why, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Take the deprecation back
    #[arg(long, conflicts_with_all = ["successor", "reason"])]
    undo: bool,
    /// Check everything and change nothing
    #[arg(long)]
    validate_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The schema's `$id`
    id: String,
    /// Check everything and delete nothing
    #[arg(long)]
    validate_only: bool,
}

pub(super) async fn deprecate(args: DeprecateArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let request = pb::DeprecateSchemaRequest {
        id: args.id,
        successor: args.successor,
        reason: args.reason,
        undo: args.undo,
        etag: String::new(),
        validate_only: args.validate_only,
    };
    let response = client.deprecate_schema(request).await?.into_inner();
    let schema = response.schema.unwrap_or_default();
    let mut output = Output::new(args.client.output);
    output.show(&schema_json(&schema)?, || details(&schema))?;
    output.flush()
}

pub(super) async fn delete(args: DeleteArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let DeleteArgs { id, validate_only, .. } = args;
    let request = pb::DeleteSchemaRequest { id: id.clone(), etag: String::new(), validate_only };
    client.delete_schema(request).await?;
    let mut output = Output::new(args.client.output);
    let done = if validate_only { "would be deleted" } else { "deleted" };
    output.show(&json!({ "id": id, "deleted": !validate_only }), || {
        printable(&format!("{id} {done}"))
    })?;
    output.flush()
}
