//! `milepost consume --keep-alive`: a stream over which leases are renewed while commands run.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    cli::{
        consume::{lost, start},
        failure::{Done, Failure},
        output::note,
    },
    grpc::{
        client::SubscriptionClient,
        pb::{self, consume_request::Message as Request, consume_response::Message},
    },
};

/// Messages to the server that wait for it to take them.
const REQUESTS_MAX: usize = 64;
/// Times within an ack deadline that leases are renewed: some may be late.
const RENEWALS: u32 = 4;

/// What to consume, and how.
pub(super) struct Work {
    pub(super) subscription: String,
    pub(super) client_id: String,
    pub(super) command: String,
    /// Events at a time.
    pub(super) parallel: u32,
    /// Events to work on in all.
    pub(super) limit: u64,
}

/// Runs the command for each event until there were as many as wanted, or the server ends.
pub(super) async fn run(mut client: SubscriptionClient, work: Work) -> Done {
    let (requests, sent) = mpsc::channel(REQUESTS_MAX);
    let sender = Sender { requests };
    let mut left = work.limit;
    let mut credit = credit(work.parallel, 0, left);
    let open = pb::consume_request::Open {
        subscription: work.subscription,
        client_id: work.client_id,
        instance: u64::from(std::process::id()),
        credit: Some(credit),
        keep_alive: true,
        ..Default::default()
    };
    sender.send(Request::Open(open)).await;
    let mut responses = client.consume(ReceiverStream::new(sent)).await?.into_inner();
    let mut running = JoinSet::new();
    let mut renewal = every(Duration::from_secs(1));
    loop {
        tokio::select! {
            response = responses.message() => match response?.and_then(|it| it.message) {
                Some(Message::Started(started)) => {
                    let settings = started.subscription.unwrap_or_default();
                    let deadline = settings.ack_deadline.unwrap_or_default();
                    let deadline = Duration::try_from(deadline).unwrap_or_default();
                    renewal = every(deadline.max(Duration::from_secs(1)) / RENEWALS);
                }
                Some(Message::Events(batch)) => {
                    for it in batch.events {
                        left = left.saturating_sub(1);
                        start(&mut running, &work.command, it)?;
                    }
                    if left == 0 {
                        let drain = pb::consume_request::Drain { give_back: false };
                        sender.send(Request::Drain(drain)).await;
                    }
                }
                Some(Message::OutcomeResults(results)) => {
                    if let Some(error) = results.error {
                        note(error.message);
                    }
                    lost(&results.results);
                }
                Some(Message::Ending(ending)) => {
                    if ending.reason() != pb::consume_ending::Reason::Drained {
                        note(format!("the server ends: {}", ending.message));
                    }
                }
                Some(_) => {}
                None => return Ok(()),
            },
            Some(ended) = running.join_next() => {
                let outcome = ended.map_err(|error| Failure::Local(error.into()))??;
                // Before its place is free, so that not more come than wanted.
                let next = self::credit(work.parallel, running.len(), left);
                if left > 0 && next != credit {
                    credit = next;
                    sender.send(Request::Credit(credit)).await;
                }
                let outcomes = vec![outcome];
                sender.send(Request::Outcomes(pb::consume_request::Outcomes { outcomes })).await;
            }
            _ = renewal.tick(), if !running.is_empty() => {
                sender.send(Request::KeepAlive(pb::consume_request::KeepAlive {})).await;
            }
        }
    }
}

/// One that is late delays those after it.
fn every(between: Duration) -> Interval {
    let mut interval = interval(between);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// As many events at a time as wanted, and not more in all.
fn credit(parallel: u32, running: usize, left: u64) -> pb::ConsumerCredit {
    let most = left.saturating_add(running as u64);
    let events = u32::try_from(most).unwrap_or(parallel).min(parallel);
    pb::ConsumerCredit { max_outstanding_events: events, max_outstanding_bytes: 0 }
}

struct Sender {
    requests: mpsc::Sender<pb::ConsumeRequest>,
}

impl Sender {
    /// When the stream is over, its responses tell why.
    async fn send(&self, message: Request) {
        drop(self.requests.send(pb::ConsumeRequest { message: Some(message) }).await);
    }
}
