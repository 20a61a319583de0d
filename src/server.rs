//! Opens the store and serves it until a signal.

use crate::config::Config;

/// Why the server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[error("not part of this build")]
pub struct ServeError;

/// Serves until a signal.
///
/// # Errors
/// Always, here.
pub fn run(_config: &Config) -> Result<(), ServeError> {
    Err(ServeError)
}
