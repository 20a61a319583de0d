//! Follows: catching up with the log, and live.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use anyhow::anyhow;
use tokio::{
    task::JoinSet,
    time::{sleep_until, timeout},
};

use crate::{
    cli::{
        bench::{
            Bench,
            events::BenchEvent,
            figures::{Figure, Times, float},
            ingest,
        },
        failure::Failure,
    },
    grpc::{
        client::{EventClient, Streaming},
        pb::{self, follow_events_response::Message, start::Start},
    },
};

const CATCH_UP_FOLLOWERS: [u64; 2] = [1, 4];
/// Connections that append while following live.
const APPENDERS: usize = 32;
/// Appends begin this long after the followers are ready.
const HEAD_START: Duration = Duration::from_millis(200);
/// Followers may take this long after the last append.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// All events from the beginning.
pub(crate) async fn catch_up(bench: &Bench, dataset: &str) -> Result<Vec<Figure>, Failure> {
    let wanted = bench.events.len() as u64;
    let mut figures = Vec::new();
    for followers in CATCH_UP_FOLLOWERS {
        let connections = bench.connections(usize::try_from(followers).unwrap_or(1)).await?;
        let meter = bench.meter();
        let mut tasks = JoinSet::new();
        for connection in connections {
            let start = Start::Beginning(pb::start::Beginning {});
            let filter = bench.filter(dataset);
            tasks.spawn(follow_count(connection.events(), filter, start, wanted));
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|panic| Failure::Local(panic.into()))??;
        }
        let events = wanted * followers;
        let figure = Figure::new("follow", format!("catch up, {followers} followers"))
            .with("followers", followers)
            .with("events", events)
            .value("events_per_s", meter.per_second(events), "events/s")
            .cpu(&meter, events);
        figures.push(figure);
    }
    Ok(figures)
}

pub(super) async fn open(
    client: &mut EventClient,
    filter: pb::EventFilter,
    start: Start,
) -> Result<Streaming<pb::FollowEventsResponse>, Failure> {
    let request = pb::FollowEventsRequest {
        filter: Some(filter),
        start: Some(pb::Start { start: Some(start) }),
        ..Default::default()
    };
    Ok(client.follow_events(request).await?.into_inner())
}

async fn follow_count(
    mut client: EventClient,
    filter: pb::EventFilter,
    start: Start,
    wanted: u64,
) -> Result<(), Failure> {
    let mut stream = open(&mut client, filter, start).await?;
    let mut seen = 0;
    while seen < wanted {
        if let Message::Events(batch) = next(&mut stream).await? {
            seen += batch.events.len() as u64;
        }
    }
    Ok(())
}

pub(super) async fn next(
    stream: &mut Streaming<pb::FollowEventsResponse>,
) -> Result<Message, Failure> {
    loop {
        match stream.message().await? {
            Some(pb::FollowEventsResponse { message: Some(message) }) => return Ok(message),
            Some(pb::FollowEventsResponse { message: None }) => (),
            None => return Err(Failure::Local(anyhow!("the follow ended"))),
        }
    }
}

/// What appenders and readers share. Times are nanoseconds after `begin`.
pub(super) struct Live {
    events: Arc<Vec<BenchEvent>>,
    pub(super) dataset: String,
    pub(super) total: usize,
    rate: u64,
    begin: Instant,
    /// When the append of each event was called.
    called: Vec<AtomicU64>,
    /// Events by id.
    places: HashMap<String, usize>,
    next: AtomicUsize,
}

impl Live {
    /// Of a dataset of its own.
    pub(super) async fn create(
        bench: &Bench,
        name: &str,
        rate: u64,
        seconds: u64,
    ) -> Result<Arc<Self>, Failure> {
        let dataset = bench.create_dataset(name).await?;
        let total = usize::try_from(rate * seconds).unwrap_or(usize::MAX).min(bench.events.len());
        let places = bench.events.iter().take(total).enumerate();
        Ok(Arc::new(Self {
            events: Arc::clone(&bench.events),
            dataset,
            total,
            rate,
            begin: Instant::now(),
            called: (0..total).map(|_| AtomicU64::new(0)).collect(),
            places: places.map(|(place, event)| (event.id.clone(), place)).collect(),
            next: AtomicUsize::new(0),
        }))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Appends everything at its rate. Tells the times until the answers, and the rate that was kept.
    pub(super) async fn append(self: &Arc<Self>, bench: &Bench) -> Result<(Times, f64), Failure> {
        let appenders = bench.connections(APPENDERS).await?;
        let first = Instant::now() + HEAD_START;
        let mut appending = JoinSet::new();
        for connection in appenders {
            appending.spawn(append(Arc::clone(self), connection.events(), first));
        }
        let mut answered = Times::default();
        while let Some(done) = appending.join_next().await {
            answered.extend(done.map_err(|panic| Failure::Local(panic.into()))??);
        }
        Ok((answered, float(self.total as u64) / first.elapsed().as_secs_f64()))
    }

    /// An event has come: how long after the call of its append.
    pub(super) fn delivered(&self, event_id: &[u8], times: &mut Times) {
        let now = self.now();
        let called = str::from_utf8(event_id)
            .ok()
            .and_then(|it| self.places.get(it))
            .and_then(|it| self.called.get(*it));
        let called = called.map_or(now, |it| it.load(Acquire));
        times.add(Duration::from_nanos(now.saturating_sub(called)));
    }

    /// All times of readers that come to an end.
    pub(super) async fn all(
        mut readers: JoinSet<Result<Times, Failure>>,
    ) -> Result<Times, Failure> {
        let mut delivered = Times::default();
        while let Some(done) = timeout(DELIVERY_TIMEOUT, readers.join_next()).await.map_err(late)? {
            delivered.extend(done.map_err(|panic| Failure::Local(panic.into()))??);
        }
        Ok(delivered)
    }
}

/// Single appends at a fixed rate; from the call of the append until a follower has the event.
pub(crate) async fn live(
    bench: &Bench,
    followers: usize,
    rate: u64,
    seconds: u64,
) -> Result<Figure, Failure> {
    let live = Live::create(bench, &format!("live-{followers}"), rate, seconds).await?;
    let mut following = JoinSet::new();
    for connection in bench.connections(followers).await? {
        let mut client = connection.events();
        let filter =
            pb::EventFilter { datasets: vec![live.dataset.clone()], ..pb::EventFilter::default() };
        let mut stream = open(&mut client, filter, Start::End(pb::start::End {})).await?;
        // `Started`: nothing from here on is missed.
        next(&mut stream).await?;
        following.spawn(receive(Arc::clone(&live), stream));
    }
    let meter = bench.meter();
    let (mut answered, kept) = live.append(bench).await?;
    let mut delivered = Live::all(following).await?;
    Ok(Figure::new("follow", format!("live, {followers} followers"))
        .with("followers", followers as u64)
        .with("rate", rate)
        .value("kept_per_s", kept, "appends/s")
        .times(&mut delivered)
        .value("answered_p50_us", answered.quantile_us(0.5), "us answered p50")
        .value("answered_p99_us", answered.quantile_us(0.99), "us answered p99")
        .cpu(&meter, live.total as u64))
}

fn late(_elapsed: tokio::time::error::Elapsed) -> Failure {
    Failure::Local(anyhow!("events were not delivered within {} s", DELIVERY_TIMEOUT.as_secs()))
}

/// Appends each event when it is due.
async fn append(
    live: Arc<Live>,
    mut client: EventClient,
    first: Instant,
) -> Result<Times, Failure> {
    let mut times = Times::default();
    loop {
        let place = live.next.fetch_add(1, Relaxed);
        let (Some(event), Some(called)) = (live.events.get(place), live.called.get(place)) else {
            return Ok(times);
        };
        let request = pb::AppendEventsRequest {
            dataset: live.dataset.clone(),
            events: vec![event.to_proto()],
            ..Default::default()
        };
        let due = first + Duration::from_secs_f64(float(place as u64) / float(live.rate));
        sleep_until(due.into()).await;
        let begin = Instant::now();
        called.store(live.now(), Release);
        let response = client.append_events(request).await?.into_inner();
        times.add(begin.elapsed());
        ingest::check(&response, 1)?;
    }
}

async fn receive(
    live: Arc<Live>,
    mut stream: Streaming<pb::FollowEventsResponse>,
) -> Result<Times, Failure> {
    let mut times = Times::default();
    while times.count() < live.total as u64 {
        let Message::Events(batch) = next(&mut stream).await? else { continue };
        for event in &batch.events {
            live.delivered(&event.event_id, &mut times);
        }
    }
    Ok(times)
}
