//! Subscriptions: workers that consume and acknowledge everything, each person's events in order.

use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::anyhow;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    cli::{
        bench::{
            Bench,
            figures::{Figure, Times},
            follow::Live,
        },
        failure::Failure,
    },
    grpc::{
        client::{Streaming, SubscriptionClient},
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
        let settings = pb::Subscription {
            filter: Some(bench.filter(dataset)),
            max_in_flight_per_lane: per_lane,
            ..Default::default()
        };
        create(&mut bench.connect().await?.subscriptions(), &name, settings).await?;
        let connections = bench.connections(workers).await?;
        let done = Arc::new(AtomicU64::new(0));
        let finished = Arc::new(watch::Sender::new(false));
        let meter = bench.meter();
        let mut tasks = JoinSet::new();
        for (number, connection) in connections.into_iter().enumerate() {
            let (done, finished) = (Arc::clone(&done), Arc::clone(&finished));
            let (name, live, stay) = (name.clone(), None, None);
            let worker = Worker { name, number, wanted, done, finished, live, stay };
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
        delete(bench, name).await?;
    }
    Ok(figures)
}

/// Workers that consume live, and whether another one joins and leaves all the time.
pub(crate) const LIVE_SHAPES: [(usize, bool); 3] = [(1, false), (16, false), (4, true)];
/// How long the one that joins and leaves stays.
const STAY: Duration = Duration::from_millis(100);

/// Single appends at a fixed rate; from the call of the append until a worker has the event.
pub(crate) async fn live(
    bench: &Bench,
    (workers, joining): (usize, bool),
    rate: u64,
    seconds: u64,
) -> Result<Figure, Failure> {
    let name = format!("consume-{workers}-{joining}");
    let live = Live::create(bench, &name, rate, seconds).await?;
    let name = format!("bench-{}-{name}", bench.tag);
    let filter = pb::EventFilter { datasets: vec![live.dataset.clone()], ..Default::default() };
    let settings = pb::Subscription { filter: Some(filter), ..Default::default() };
    create(&mut bench.connect().await?.subscriptions(), &name, settings).await?;
    let (done, finished) = (Arc::new(AtomicU64::new(0)), Arc::new(watch::Sender::new(false)));
    let mut tasks = JoinSet::new();
    let count = workers + usize::from(joining);
    for (number, connection) in bench.connections(count).await?.into_iter().enumerate() {
        let worker = Worker {
            name: name.clone(),
            number,
            wanted: live.total as u64,
            done: Arc::clone(&done),
            finished: Arc::clone(&finished),
            live: Some(Arc::clone(&live)),
            stay: (number >= workers).then_some(STAY),
        };
        tasks.spawn(worker.run(connection.subscriptions()));
    }
    let meter = bench.meter();
    let (_, kept) = live.append(bench).await?;
    let mut delivered = Live::all(tasks).await?;
    let beside = if joining { ", one joining and leaving" } else { "" };
    let figure = Figure::new("consume", format!("live, {workers} workers{beside}"))
        .with("workers", workers as u64)
        .with("rate", rate)
        .value("kept_per_s", kept, "appends/s")
        .times(&mut delivered)
        .value("max_us", delivered.quantile_us(1.0), "us at most")
        .cpu(&meter, live.total as u64);
    delete(bench, name).await?;
    Ok(figure)
}

/// Makes a subscription that begins with the first event.
pub(super) async fn create(
    client: &mut SubscriptionClient,
    name: &str,
    settings: pb::Subscription,
) -> Result<(), Failure> {
    let start = pb::start::Start::Beginning(pb::start::Beginning {});
    let request = pb::CreateSubscriptionRequest {
        subscription: Some(pb::Subscription { name: name.to_owned(), ..settings }),
        start: Some(pb::Start { start: Some(start) }),
        validate_only: false,
    };
    client.create_subscription(request).await?;
    Ok(())
}

/// A consumer's stream, in both directions.
pub(super) type Consumer = (mpsc::Sender<pb::ConsumeRequest>, Streaming<pb::ConsumeResponse>);

/// Connects a consumer.
pub(super) async fn open(
    client: &mut SubscriptionClient,
    subscription: &str,
    client_id: String,
) -> Result<Consumer, Failure> {
    let (requests, sent) = mpsc::channel(64);
    let open = pb::consume_request::Open {
        subscription: subscription.to_owned(),
        client_id,
        ..Default::default()
    };
    send(&requests, Request::Open(open)).await?;
    let responses = client.consume(ReceiverStream::new(sent)).await?.into_inner();
    Ok((requests, responses))
}

async fn delete(bench: &Bench, name: String) -> Result<(), Failure> {
    let request = pb::DeleteSubscriptionRequest { name, etag: String::new() };
    bench.connect().await?.subscriptions().delete_subscription(request).await?;
    Ok(())
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
    /// Events that come while they are appended.
    live: Option<Arc<Live>>,
    /// Leaves after so long, and joins again.
    stay: Option<Duration>,
}

impl Worker {
    /// Acknowledges what comes, until everything is. The times of live events.
    async fn run(self, mut client: SubscriptionClient) -> Result<Times, Failure> {
        let mut times = Times::default();
        while !*self.finished.borrow() {
            self.connect(&mut client, &mut times).await?;
        }
        Ok(times)
    }

    /// The same, until it leaves.
    async fn connect(
        &self,
        client: &mut SubscriptionClient,
        times: &mut Times,
    ) -> Result<(), Failure> {
        let client_id = format!("worker-{}", self.number);
        let (requests, mut responses) = open(client, &self.name, client_id).await?;
        let mut finished = self.finished.subscribe();
        let mut leaves = self.stay.map(|it| Instant::now() + it);
        while !*finished.borrow_and_update() {
            let message = tokio::select! {
                message = responses.message() => message,
                _ = finished.changed() => break,
                () = until(leaves) => {
                    leaves = None;
                    let drain = pb::consume_request::Drain { give_back: false };
                    send(&requests, Request::Drain(drain)).await?;
                    continue;
                }
            };
            match message?.and_then(|it| it.message) {
                Some(Message::Events(batch)) => {
                    if let Some(live) = &self.live {
                        let events = batch.events.iter().filter_map(|it| it.event.as_ref());
                        events.for_each(|it| live.delivered(&it.event_id, times));
                    }
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
                Some(Message::Ending(_)) if self.stay.is_some() && leaves.is_none() => break,
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

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => future::pending().await,
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
