//! `milepost completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{
    Cli,
    failure::Done,
    output::{Format, Output},
};

/// Which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "milepost", &mut script);
    let mut output = Output::new(Format::Text);
    output.raw(&script)?;
    output.flush()
}
