//! Reads: everything, one identity, one type.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::{
    cli::{
        bench::{
            Bench,
            figures::{Figure, Times, float},
            random::Random,
        },
        failure::Failure,
    },
    grpc::{
        client::EventClient,
        pb::{self, event::Payload},
    },
};

const CLIENTS: [usize; 2] = [1, 8];
const TYPES: [&str; 2] = ["commerce.purchases", "web.webpagedetails.pageViews"];

/// Every event, forward.
pub(crate) async fn read_all(bench: &Bench, dataset: &str) -> Result<Figure, Failure> {
    let mut client = bench.connect().await?.events();
    let meter = bench.meter();
    let (events, bytes) = read(&mut client, bench.filter(dataset)).await?;
    expect(events, bench.events.len() as u64)?;
    Ok(Figure::new("read", "all events, forward")
        .with("events", events)
        .value("events_per_s", meter.per_second(events), "events/s")
        .value("mb_per_s", float(bytes) / meter.seconds() / 1e6, "MB/s")
        .cpu(&meter, events))
}

/// Reads to the end. Returns events and bytes of payload.
async fn read(client: &mut EventClient, filter: pb::EventFilter) -> Result<(u64, u64), Failure> {
    let request = pb::ReadEventsRequest { filter: Some(filter), ..Default::default() };
    let mut responses = client.read_events(request).await?.into_inner();
    let (mut events, mut bytes) = (0, 0);
    while let Some(response) = responses.message().await? {
        events += response.events.len() as u64;
        bytes += response.events.iter().map(payload_bytes).sum::<u64>();
    }
    Ok((events, bytes))
}

fn payload_bytes(event: &pb::RecordedEvent) -> u64 {
    match event.event.as_ref().and_then(|it| it.payload.as_ref()) {
        Some(Payload::Json(text)) => text.len() as u64,
        Some(Payload::Data(_)) | None => 0,
    }
}

fn expect(found: u64, wanted: u64) -> Result<(), Failure> {
    if found == wanted {
        return Ok(());
    }
    Err(Failure::Local(anyhow!("read {found} events, wanted {wanted}")))
}

/// Namespace and id.
pub(crate) type Identity = (String, String);

pub(crate) fn identity_filter(
    bench: &Bench,
    dataset: &str,
    (namespace, id): Identity,
) -> pb::EventFilter {
    let identity = pb::Identity { namespace: namespace.into(), id: id.into(), primary: false };
    pb::EventFilter { identities: vec![identity], ..bench.filter(dataset) }
}

pub(crate) async fn run(
    bench: &Bench,
    dataset: &str,
    lookups: u64,
) -> Result<Vec<Figure>, Failure> {
    let mut counts: HashMap<&Identity, u64> = HashMap::new();
    for identity in bench.events.iter().flat_map(|it| &it.identities) {
        *counts.entry(identity).or_default() += 1;
    }
    let mut identities: Vec<(&Identity, u64)> = counts.into_iter().collect();
    identities.sort_unstable();
    let Some(hottest) = identities.iter().max_by_key(|(_, count)| *count).copied() else {
        return Err(Failure::Local(anyhow!("the events have no identities")));
    };
    let mut random = Random(lookups);
    let mut figures = Vec::new();
    for clients in CLIENTS {
        // Others for each: what has been read once is in memory.
        let picks = (0..lookups).filter_map(|_| {
            let (identity, count) = random.choose(&identities)?;
            Some((identity_filter(bench, dataset, (*identity).clone()), *count))
        });
        figures.push(random_lookups(bench, clients, picks.collect()).await?);
    }
    let filter = identity_filter(bench, dataset, hottest.0.clone());
    figures.push(whole(bench, "the busiest identity", filter, hottest.1).await?);
    for event_type in TYPES {
        let wanted = bench.events.iter().filter(|it| it.event_type == event_type).count();
        let event_types = vec![event_type.to_owned()];
        let filter = pb::EventFilter { event_types, ..bench.filter(dataset) };
        figures.push(whole(bench, event_type, filter, wanted as u64).await?);
    }
    Ok(figures)
}

/// Looks up each pick once, the clients in turn. A pick is a filter and how many events it selects.
pub(crate) async fn random_lookups(
    bench: &Bench,
    clients: usize,
    picks: Vec<(pb::EventFilter, u64)>,
) -> Result<Figure, Failure> {
    let connections = bench.connections(clients).await?;
    // A first call on each connection, as other harnesses make it to prepare their statements.
    for connection in &connections {
        if let Some((filter, _)) = picks.first() {
            read(&mut connection.events(), filter.clone()).await?;
        }
    }
    let picks = Arc::new(picks);
    let next = Arc::new(AtomicUsize::new(0));
    let meter = bench.meter();
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(look_up(connection.events(), Arc::clone(&picks), Arc::clone(&next)));
    }
    let (mut times, mut events) = (Times::default(), 0);
    while let Some(done) = tasks.join_next().await {
        let (own, found) = done.map_err(|panic| Failure::Local(panic.into()))??;
        times.extend(own);
        events += found;
    }
    let lookups = times.count();
    Ok(Figure::new("identity", format!("random identities, {clients} clients"))
        .with("clients", clients as u64)
        .with("lookups", lookups)
        .with("events", events)
        .value("lookups_per_s", meter.per_second(lookups), "lookups/s")
        .times(&mut times)
        .cpu(&meter, lookups))
}

async fn look_up(
    mut client: EventClient,
    picks: Arc<Vec<(pb::EventFilter, u64)>>,
    next: Arc<AtomicUsize>,
) -> Result<(Times, u64), Failure> {
    let (mut times, mut events) = (Times::default(), 0);
    while let Some((filter, wanted)) = picks.get(next.fetch_add(1, Relaxed)) {
        let begin = Instant::now();
        let (found, _) = read(&mut client, filter.clone()).await?;
        times.add(begin.elapsed());
        expect(found, *wanted)?;
        events += found;
    }
    Ok((times, events))
}

async fn whole(
    bench: &Bench,
    what: &str,
    filter: pb::EventFilter,
    wanted: u64,
) -> Result<Figure, Failure> {
    let mut client = bench.connect().await?.events();
    let meter = bench.meter();
    let (events, _) = read(&mut client, filter).await?;
    expect(events, wanted)?;
    Ok(Figure::new("identity", what)
        .with("events", events)
        .value("events_per_s", meter.per_second(events), "events/s")
        .value("ms", meter.seconds() * 1000.0, "ms")
        .cpu(&meter, events))
}
