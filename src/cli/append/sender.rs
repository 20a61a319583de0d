//! One append, tried again while the server asks for patience.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    cli::output::note,
    grpc::{
        client::{CallError, EventClient},
        pb::{self, event::Payload},
    },
};

/// First wait before trying again; doubles each time.
const WAIT_FIRST: Duration = Duration::from_millis(50);
/// Longest wait before trying again.
const WAIT_LONGEST: Duration = Duration::from_secs(5);

/// How a batch is appended.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) client: EventClient,
    pub(crate) dataset: String,
    pub(crate) mode: pb::AppendMode,
    pub(crate) validate_only: bool,
    pub(crate) on_invalid: pb::OnInvalid,
    pub(crate) durability: pb::Durability,
    /// How long one batch is tried.
    pub(crate) patience: Duration,
}

impl Sender {
    /// Appends, however often it takes: duplicates are recognised by the server.
    pub(crate) async fn append(
        mut self,
        events: Vec<String>,
    ) -> Result<pb::AppendEventsResponse, CallError> {
        let request = pb::AppendEventsRequest {
            dataset: self.dataset,
            events: events.into_iter().map(event).collect(),
            mode: self.mode.into(),
            validate_only: self.validate_only,
            on_invalid: self.on_invalid.into(),
            durability: self.durability.into(),
            ..Default::default()
        };
        let give_up = Instant::now() + self.patience;
        let mut wait = WAIT_FIRST;
        loop {
            let error = match self.client.append_events(request.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => CallError::from(status),
            };
            let pause = wait.max(error.retry_after.unwrap_or_default());
            if !error.is_transient() || Instant::now() + pause > give_up {
                return Err(error);
            }
            if wait > WAIT_FIRST {
                note(format_args!("# {error}; trying again in {} ms", pause.as_millis()));
            }
            sleep(pause).await;
            wait = (wait * 2).min(WAIT_LONGEST);
        }
    }
}

fn event(text: String) -> pb::Event {
    pb::Event { payload: Some(Payload::Json(text.into())) }
}
