//! Arguments that several verbs share.

use clap::Args;

use crate::{
    cli::{failure::Failure, output::Format},
    config::ENV_SERVER,
    grpc::client::Connection,
};

/// Which server, and how to print.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArgs {
    /// Address of the server, `host:port`
    #[arg(long, value_name = "ADDR", env = ENV_SERVER, hide_env_values = true)]
    #[arg(default_value = "127.0.0.1:7373")]
    pub(crate) server: String,
    /// For people, or JSON: one object per line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

impl ClientArgs {
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        Ok(Connection::open(&self.server).await?)
    }
}

/// Parses `KEY=VALUE`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("allowed: KEY=VALUE".to_owned()),
    }
}
