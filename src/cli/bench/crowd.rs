//! Many who listen at once: what they cost while nothing happens, and what they cost those who append.

use std::time::Duration;

use tokio::{task::JoinSet, time::sleep};

use crate::{
    cli::{
        bench::{
            Bench,
            consume::{self, Consumer},
            figures::{Figure, Meter, ratio},
            follow, ingest, server,
        },
        failure::Failure,
    },
    grpc::pb::{self, start::Start},
};

const FOLLOWERS: usize = 100;
const SUBSCRIPTIONS: usize = 1000;
/// Streams on one connection.
const STREAMS: usize = 50;

/// Appends alone, beside followers of everything, and beside subscriptions that match nothing of it.
pub(crate) async fn run(bench: &Bench, seconds: u64) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    let alone = || Figure::new("crowd", "appends alone");
    figures.push(ingest::beside(bench, "alone", seconds, alone()).await?);
    let followers = follow_all(bench).await?;
    let figure = Figure::new("crowd", format!("appends beside {FOLLOWERS} followers"));
    figures.push(ingest::beside(bench, "followed", seconds, figure).await?);
    drop(followers);
    figures.push(ingest::beside(bench, "alone-again", seconds, alone()).await?);
    let before = memory(bench);
    let subscriptions = subscribe(bench).await?;
    let meter = Meter::start(bench.pid);
    sleep(Duration::from_secs(seconds)).await;
    let mut idle = Figure::new("crowd", format!("{SUBSCRIPTIONS} idle subscriptions"));
    if let (Some(before), Some(after)) = (before, memory(bench)) {
        let kib = ratio(after.saturating_sub(before), 1024 * SUBSCRIPTIONS as u64);
        idle = idle.value("kib_each", kib, "KiB in memory each");
    }
    if let Some(used) = meter.cpu_us() {
        idle = idle.value("cores", used / 1e6 / meter.seconds(), "of a core in all");
    }
    figures.push(idle);
    let figure = Figure::new("crowd", format!("appends beside {SUBSCRIPTIONS} subscriptions"));
    figures.push(ingest::beside(bench, "subscribed", seconds, figure).await?);
    drop(subscriptions);
    Ok(figures)
}

fn memory(bench: &Bench) -> Option<u64> {
    bench.pid.and_then(server::memory_bytes)
}

/// Followers of everything that is to come, each of which takes what it gets.
async fn follow_all(bench: &Bench) -> Result<JoinSet<()>, Failure> {
    let mut followers = JoinSet::new();
    for connection in bench.connections(FOLLOWERS.div_ceil(STREAMS)).await? {
        for _ in 0..STREAMS {
            let start = Start::End(pb::start::End {});
            let filter = pb::EventFilter::default();
            let mut stream = follow::open(&mut connection.events(), filter, start).await?;
            followers.spawn(async move { while follow::next(&mut stream).await.is_ok() {} });
        }
    }
    Ok(followers)
}

/// Subscriptions to what never comes, each with a consumer.
async fn subscribe(bench: &Bench) -> Result<Vec<Consumer>, Failure> {
    let dataset = bench.create_dataset("idle").await?;
    let filter = pb::EventFilter { datasets: vec![dataset], ..Default::default() };
    let connections = bench.connections(SUBSCRIPTIONS.div_ceil(STREAMS)).await?;
    let mut consumers = Vec::with_capacity(SUBSCRIPTIONS);
    for number in 0..SUBSCRIPTIONS {
        let name = format!("bench-{}-idle-{number}", bench.tag);
        let Some(connection) = connections.get(number / STREAMS) else { break };
        let mut client = connection.subscriptions();
        let settings = pb::Subscription { filter: Some(filter.clone()), ..Default::default() };
        consume::create(&mut client, &name, settings).await?;
        consumers.push(consume::open(&mut client, &name, "worker".to_owned()).await?);
    }
    Ok(consumers)
}
