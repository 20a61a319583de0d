//! Configuration.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// How a server runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// How long calls under way may take after a signal.
    pub drain_timeout: Duration,
    /// Log filter.
    pub log: String,
    /// Bytes of decoded blocks kept.
    pub cache_bytes: u64,
    /// Bytes of appends that may wait.
    pub queue_bytes: u64,
}
