//! `milepost bench`.
use crate::cli::{failure::Done, output::Format};
use clap::Args;
/// Measure.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}
pub(crate) async fn run(_args: BenchArgs) -> Done {
    Ok(())
}
