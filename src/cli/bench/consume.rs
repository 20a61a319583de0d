//! Subscriptions: workers that consume and acknowledge everything, each person's events in order.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::anyhow;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    cli::{
        bench::{Bench, figures::Figure},
        failure::Failure,
    },
    grpc::{
        client::SubscriptionClient,
        pb::{
            self, consume_request::Message as Request, consume_response::Message,
            outcome::Outcome as Said,
        },
    },
};

/// Workers, and events of one lane that a worker may have at a time. The busiest person has some 2.5 % of the events,
/// so that one at a time is bound by how soon an ack is durable.
const SHAPES: [(usize, u32); 6] = [(1, 1), (4, 1), (16, 1), (1, 32), (4, 32), (16, 32)];

/// Delivers and acknowledges every event, durably, by more and more workers.
pub(crate) async fn run(bench: &Bench, dataset: &str) -> Result<Vec<Figure>, Failure> {
    let wanted = bench.events.len() as u64;
    let mut figures = Vec::new();
    for (workers, per_lane) in SHAPES {
        let name = format!("bench-{}-{workers}-{per_lane}", bench.tag);
        let mut admin = bench.connect().await?.subscriptions();
        let start = pb::start::Start::Beginning(pb::start::Beginning {});
        let request = pb::CreateSubscriptionRequest {
            subscription: Some(pb::Subscription {
                name: name.clone(),
                filter: Some(bench.filter(dataset)),
                max_in_flight_per_lane: per_lane,
                ..Default::default()
            }),
            start: Some(pb::Start { start: Some(start) }),
            validate_only: false,
        };
        admin.create_subscription(request).await?;
        let connections = bench.connections(workers).await?;
        let done = Arc::new(AtomicU64::new(0));
        let finished = Arc::new(watch::Sender::new(false));
        let meter = bench.meter();
        let mut tasks = JoinSet::new();
        for (number, connection) in connections.into_iter().enumerate() {
            let (done, finished) = (Arc::clone(&done), Arc::clone(&finished));
            let worker = Worker { name: name.clone(), number, wanted, done, finished };
            tasks.spawn(worker.run(connection.subscriptions()));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|panic| Failure::Local(panic.into()))??;
        }
        let shape = format!("in order per identity, {per_lane} at a time, {workers} workers");
        let figure = Figure::new("consume", shape)
            .with("workers", workers as u64)
            .with("per_lane", u64::from(per_lane))
            .with("events", wanted)
            .value("acks_per_s", meter.per_second(wanted), "durable acks/s")
            .cpu(&meter, wanted);
        figures.push(figure);
        let request = pb::DeleteSubscriptionRequest { name, etag: String::new() };
        admin.delete_subscription(request).await?;
    }
    Ok(figures)
}

struct Worker {
    name: String,
    number: usize,
    /// Events in all.
    wanted: u64,
    /// Events that have been acknowledged by all workers.
    done: Arc<AtomicU64>,
    /// Whether that is all of them.
    finished: Arc<watch::Sender<bool>>,
}

impl Worker {
    /// Acknowledges what comes, until everything is.
    async fn run(self, mut client: SubscriptionClient) -> Result<(), Failure> {
        let (requests, sent) = mpsc::channel(64);
        let open = pb::consume_request::Open {
            subscription: self.name.clone(),
            client_id: format!("worker-{}", self.number),
            ..Default::default()
        };
        send(&requests, Request::Open(open)).await?;
        let mut responses = client.consume(ReceiverStream::new(sent)).await?.into_inner();
        let mut finished = self.finished.subscribe();
        while !*finished.borrow_and_update() {
            let message = tokio::select! {
                message = responses.message() => message,
                _ = finished.changed() => break,
            };
            match message?.and_then(|it| it.message) {
                Some(Message::Events(batch)) => {
                    let ack = |it: pb::Delivered| pb::Outcome {
                        ack_id: it.ack_id,
                        outcome: Some(Said::Ack(pb::outcome::Ack {})),
                    };
                    let outcomes = batch.events.into_iter().map(ack).collect();
                    let outcomes = pb::consume_request::Outcomes { outcomes };
                    send(&requests, Request::Outcomes(outcomes)).await?;
                }
                Some(Message::OutcomeResults(answer)) => {
                    let ok = |it: &&pb::OutcomeResult| it.state() == pb::outcome_result::State::Ok;
                    let acknowledged = answer.results.iter().filter(ok).count();
                    let before = self.done.fetch_add(acknowledged as u64, Relaxed);
                    if before + acknowledged as u64 >= self.wanted {
                        self.finished.send_replace(true);
                    }
                }
                Some(Message::Ending(ending)) => {
                    return Err(Failure::Local(anyhow!("the stream ended: {}", ending.message)));
                }
                Some(_) => {}
                None => return Err(Failure::Local(anyhow!("the stream ended"))),
            }
        }
        Ok(())
    }
}

async fn send(
    requests: &mpsc::Sender<pb::ConsumeRequest>,
    message: Request,
) -> Result<(), Failure> {
    let request = pb::ConsumeRequest { message: Some(message) };
    let sent = requests.send(request).await;
    sent.map_err(|_closed| Failure::Local(anyhow!("the stream is closed")))
}
