//! `milepost follow`.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        filter::FilterArgs,
        output::{Output, note},
        read::{BelowFloorArgs, PayloadArgs},
        reconnect::Reconnect,
        render::{self, EventPrinter},
        time,
    },
    grpc::{
        client::{CallError, EventClient, Streaming, well_known},
        pb::{self, follow_events_response::Message, start},
    },
};

/// Print stored events and then new ones as they come, until Ctrl-C.
///
/// Reconnects where it stopped when the server goes away. Text lines show events alone; what else
/// the server tells goes to standard error. JSON lines show every message, each an object with one
/// key that names its kind; `event` lines carry the resume token at the end of a batch.
#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Where to begin: `beginning`, `end`, `after:POSITION`, `time:TIME` (recorded then or later),
    /// `happened:TIME`, or `token:BASE64` (a resume token of an earlier follow)
    #[arg(long, value_name = "START", default_value = "end", value_parser = start)]
    from: start::Start,
    /// Stop after this many events; 0: never
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u64,
    /// Seconds after which a silent server sends a heartbeat, 1 to 60
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=60))]
    heartbeat: u32,
    #[command(flatten)]
    payload: PayloadArgs,
    #[command(flatten)]
    below_floor: BelowFloorArgs,
}

pub(crate) async fn run(args: FollowArgs) -> Done {
    let mut client = args.client.connect().await?.events();
    let mut follow = Following::new(args);
    tokio::select! {
        done = follow.run(&mut client) => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| Failure::Local(error.into()))
        }
    }
}

/// A follow across its connections.
struct Following {
    request: pb::FollowEventsRequest,
    output: Output,
    printer: EventPrinter,
    /// Events still wanted; `None`: all.
    left: Option<u64>,
    reconnect: Reconnect,
}

enum Next {
    Enough,
    /// The server ended the stream and said so; `retry_after` as it asks.
    Ended(Option<Duration>),
    Failed(CallError),
}

impl Following {
    fn new(args: FollowArgs) -> Self {
        let heartbeat = well_known::Duration { seconds: i64::from(args.heartbeat), nanos: 0 };
        Self {
            request: pb::FollowEventsRequest {
                filter: Some(args.filter.into()),
                start: Some(pb::Start { start: Some(args.from) }),
                payload_format: args.payload.format(),
                heartbeat_interval: Some(heartbeat),
                below_floor: args.below_floor.into(),
            },
            output: Output::new(args.client.output),
            printer: EventPrinter::new(),
            left: (args.limit > 0).then_some(args.limit),
            reconnect: Reconnect::new(),
        }
    }

    async fn run(&mut self, client: &mut EventClient) -> Done {
        loop {
            let next = match client.follow_events(self.request.clone()).await {
                Ok(response) => self.drain(response.into_inner()).await?,
                Err(status) => Next::Failed(status.into()),
            };
            let (why, after) = match next {
                Next::Enough => return self.output.flush(),
                Next::Failed(error) if !error.is_transient() => return Err(error.into()),
                Next::Failed(error) => (error.to_string(), error.retry_after),
                Next::Ended(after) => ("the server ended the stream".to_owned(), after),
            };
            self.reconnect.wait(&why, after).await;
        }
    }

    /// Prints one stream's messages.
    async fn drain(
        &mut self,
        mut stream: Streaming<pb::FollowEventsResponse>,
    ) -> Result<Next, Failure> {
        let mut ending = None;
        loop {
            match stream.message().await {
                Ok(Some(response)) => {
                    let Some(message) = response.message else { continue };
                    self.reconnect.connected();
                    self.remember(&message);
                    if let Message::Ending(end) = &message {
                        ending = Some(end.retry_after.and_then(|it| Duration::try_from(it).ok()));
                    }
                    self.print(&message)?;
                    self.output.flush()?;
                    if self.left == Some(0) {
                        return Ok(Next::Enough);
                    }
                }
                Ok(None) => return Ok(Next::Ended(ending.flatten())),
                Err(status) => return Ok(Next::Failed(status.into())),
            }
        }
    }

    /// The next connection begins where this message ends.
    fn remember(&mut self, message: &Message) {
        let token = resume_token(message);
        if !token.is_empty() {
            let start = start::Start::ResumeToken(token.to_vec());
            self.request.start = Some(pb::Start { start: Some(start) });
        }
    }

    fn print(&mut self, message: &Message) -> Done {
        if let Message::Events(batch) = message {
            return self.print_events(batch);
        }
        if self.output.is_json() {
            return self.output.json(&message_json(message));
        }
        if let Some(text) = message_text(message) {
            note(format_args!("# {text}"));
        }
        Ok(())
    }

    fn print_events(&mut self, batch: &pb::EventBatch) -> Done {
        let last = batch.events.last().map(|it| it.position);
        for event in &batch.events {
            if self.left == Some(0) {
                break;
            }
            self.left = self.left.map(|left| left - 1);
            if self.output.is_json() {
                let token = (last == Some(event.position)).then(|| encode(&batch.resume_token));
                self.output.json(&EventMessage {
                    event: render::event_json(event)?,
                    resume_token: token,
                })?;
            } else {
                self.printer.print(&mut self.output, event)?;
            }
        }
        Ok(())
    }
}

/// One event of a batch; the batch's last one carries the token.
#[derive(serde::Serialize)]
struct EventMessage<'a> {
    event: render::EventJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume_token: Option<String>,
}

fn resume_token(message: &Message) -> &[u8] {
    match message {
        Message::Started(it) => &it.resume_token,
        Message::Events(it) => &it.resume_token,
        Message::Checkpoint(it) => &it.resume_token,
        Message::Ending(it) => &it.resume_token,
        Message::CaughtUp(_) | Message::FellBehind(_) | Message::Heartbeat(_) | Message::Gap(_) => {
            &[]
        }
    }
}

fn encode(token: &[u8]) -> String {
    BASE64.encode(token)
}

fn message_json(message: &Message) -> Value {
    let shown = |it: &Option<well_known::Timestamp>| time::show(it.as_ref());
    match message {
        Message::Started(it) => json!({ "started": {
            "position": it.position,
            "resume_token": encode(&it.resume_token),
            "heartbeat_interval_s": it.heartbeat_interval.map(|it| it.seconds),
        }}),
        Message::Checkpoint(it) => json!({ "checkpoint": {
            "position": it.position,
            "time": shown(&it.time),
            "resume_token": encode(&it.resume_token),
        }}),
        Message::CaughtUp(it) => {
            json!({ "caught_up": { "position": it.position, "time": shown(&it.time) } })
        }
        Message::FellBehind(it) => {
            json!({ "fell_behind": { "position": it.position, "reason": it.reason } })
        }
        Message::Heartbeat(it) => json!({ "heartbeat": {
            "position": it.position, "time": shown(&it.time), "lag": it.lag,
        }}),
        Message::Gap(it) => render::gap_json(it),
        Message::Ending(it) => json!({ "ending": {
            "reason": it.reason().as_str_name(),
            "resume_token": encode(&it.resume_token),
            "retry_after_ms": it.retry_after.and_then(|it| Duration::try_from(it).ok())
                .map(time::millis),
        }}),
        // Events are printed one by one.
        Message::Events(it) => json!({ "events": it.events.len() }),
    }
}

/// What people want to know besides the events.
fn message_text(message: &Message) -> Option<String> {
    match message {
        Message::Started(it) => Some(format!("following after position {}", it.position)),
        Message::CaughtUp(it) => Some(format!("caught up at position {}", it.position)),
        Message::FellBehind(it) => {
            Some(format!("fell behind at position {}: {}", it.position, it.reason))
        }
        Message::Gap(it) => Some(render::gap_text(it)),
        Message::Ending(it) => Some(format!("the server ends: {}", it.reason().as_str_name())),
        Message::Events(_) | Message::Checkpoint(_) | Message::Heartbeat(_) => None,
    }
}

pub(crate) fn start(text: &str) -> Result<start::Start, String> {
    let allowed = "allowed: beginning, end, after:POSITION, time:TIME, happened:TIME, token:BASE64";
    match text.split_once(':') {
        None if text == "beginning" => Ok(start::Start::Beginning(pb::start::Beginning {})),
        None if text == "end" => Ok(start::Start::End(pb::start::End {})),
        Some(("after", position)) => position
            .parse()
            .map(start::Start::AfterPosition)
            .map_err(|_unhelpful| allowed.to_owned()),
        Some(("time", instant)) => {
            time::parse(instant).map(|it| start::Start::RecordTime(time::to_proto(it)))
        }
        Some(("happened", instant)) => {
            time::parse(instant).map(|it| start::Start::EventTime(time::to_proto(it)))
        }
        Some(("token", token)) => BASE64
            .decode(token)
            .map(start::Start::ResumeToken)
            .map_err(|_unhelpful| allowed.to_owned()),
        _ => Err(allowed.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, message_json, pb, start, start::Start};

    #[test]
    fn starts_are_read() {
        assert!(matches!(start("beginning"), Ok(Start::Beginning(_))));
        assert!(matches!(start("end"), Ok(Start::End(_))));
        assert_eq!(start("after:12"), Ok(Start::AfterPosition(12)));
        assert_eq!(start("token:AQI="), Ok(Start::ResumeToken(vec![1, 2])));
        assert!(matches!(start("time:2026-11-23"), Ok(Start::RecordTime(_))));
        for wrong in ["", "after", "after:", "after:-1", "token:?", "time:soon", "12"] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_message_is_an_object_with_one_key() {
        let gap = pb::Gap { from: 3, to: 5, reason: pb::gap::Reason::Erased.into() };
        let shown = message_json(&Message::Gap(gap)).to_string();
        assert_eq!(shown, r#"{"gap":{"from":3,"reason":"ERASED","to":5}}"#);
    }
}
