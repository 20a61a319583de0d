//! Waits before a command that follows connects again.

use std::time::Duration;

use tokio::time::sleep;

use crate::cli::output::note;

/// First wait; doubles with each failure.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait, unless the server asks for more.
const LONGEST: Duration = Duration::from_secs(5);

/// How long to wait next time.
pub(crate) struct Reconnect {
    wait: Duration,
}

impl Reconnect {
    pub(crate) fn new() -> Self {
        Self { wait: FIRST }
    }

    /// The server answers again.
    pub(crate) fn connected(&mut self) {
        self.wait = FIRST;
    }

    /// Says why, and waits: at least as long as the server asks.
    pub(crate) async fn wait(&mut self, why: &str, asked: Option<Duration>) {
        let wait = asked.unwrap_or_default().max(self.wait);
        self.wait = (self.wait * 2).min(LONGEST);
        note(format_args!("# {why}; reconnecting in {} ms", wait.as_millis()));
        sleep(wait).await;
    }
}
