//! Workers that crash, stall, nack, forget, leave and join, on a server that is killed again and again; an
//! independent judge looks at what they saw.
//!
//! `MILEPOST_CHAOS=20 cargo test --test it chaos -- --nocapture` is the long form: so many kills, and ten
//! thousand events for each.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    sync::{Arc, Mutex},
    time::Duration,
};

use milepost::grpc::pb;
use tokio::task::JoinSet;

use super::{create, named, status, worker};
use crate::support::{
    Client, Server,
    client::json_event,
    events::{PURCHASE, Random, purchase_schema},
    judge::{History, Said, Seen, Verdict, Word},
};

const WORKERS: u64 = 16;

/// Events with one to three identities; few people have most of them.
fn event(number: u64, random: &mut Random) -> (String, Vec<String>) {
    let skewed = |random: &mut Random, most: u64| {
        let bound = 1 + random.below(most);
        random.below(bound)
    };
    let mut identities = serde_json::Map::new();
    let mut lanes = Vec::new();
    let mut add = |namespace: &str, id: String, primary: bool| {
        lanes.push(format!("{namespace}:{id}"));
        identities.insert(namespace.into(), serde_json::json!([{"id": id, "primary": primary}]));
    };
    add("Email", format!("p{}", skewed(random, 200)), true);
    if random.below(2) == 0 {
        add("AdCloud", format!("device-{}", skewed(random, 300)), false);
    }
    if random.below(4) == 0 {
        add("Phone", format!("phone-{}", skewed(random, 100)), false);
    }
    let payload = serde_json::json!({
        "_id": format!("e{number}"),
        "timestamp": "2026-11-20T17:26:04.123Z",
        "eventType": "commerce.purchases",
        "identityMap": identities,
        "commerce": {"order": {"purchaseID": format!("e{number}")}}
    });
    (payload.to_string(), lanes)
}

async fn append(
    client: &Client,
    from: u64,
    count: u64,
    random: &mut Random,
    record: &worker::Record,
) {
    let made: Vec<_> = (from..from + count).map(|number| event(number, random)).collect();
    let request = pb::AppendEventsRequest {
        dataset: "store".into(),
        events: made.iter().map(|it| json_event(&it.0)).collect(),
        ..Default::default()
    };
    let appended = client.append_request(request).await.unwrap();
    let mut history = record.history();
    for (result, (_, lanes)) in appended.results.iter().zip(made) {
        history.events.insert(result.position, lanes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_workers_and_the_server_do_order_and_outcomes_hold() {
    chaos(named("chaos"), 20_261_127).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_that_are_answered_early_are_lost_at_most_and_order_holds() {
    let early = pb::AckDurability::Async.into();
    chaos(pb::Subscription { ack_durability: early, ..named("chaos") }, 20_261_128).await;
}

/// Lets workers loose on a subscription with these settings, and judges.
async fn chaos(settings: pb::Subscription, seed: u64) {
    let long = std::env::var("MILEPOST_CHAOS").ok().and_then(|it| it.parse::<u64>().ok());
    let kills = long.unwrap_or(3);
    let events = long.map_or(3_000, |kills| kills * 10_000);
    let mut random = Random::seeded("chaos", seed);
    let record = worker::Record::default();
    record.history().per_lane = 1;
    record.history().early = settings.ack_durability() == pb::AckDurability::Async;

    let mut server = Server::start();
    let client = server.client().await;
    client.register(purchase_schema().to_string()).await.unwrap();
    client.create("store", PURCHASE).await.unwrap();
    let subscription = pb::Subscription {
        ack_deadline: super::seconds(1),
        min_backoff: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
        max_backoff: Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 }),
        max_attempts: Some(0),
        session_timeout: super::seconds(1),
        quarantine_after: Some(0),
        ..settings
    };
    create(&client, subscription).await.unwrap();

    let address = Arc::new(Mutex::new(server.address().to_owned()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let (address, stop, record) = (Arc::clone(&address), Arc::clone(&stop), record.clone());
        let mut random = Random::from_seed(random.below(u64::MAX));
        workers.spawn(async move {
            let mut life = 0;
            while !stop.load(Ordering::Relaxed) {
                let at = address.lock().unwrap().clone();
                let Ok(client) = Client::try_connect(&at).await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                worker::live(&client, &format!("w{number}-{life}"), &record, &mut random).await;
                life += 1;
            }
        });
    }
    let mut appended = 0;
    for kill in 0..=kills {
        let client = server.client().await;
        let until = events * (kill + 1) / (kills + 1);
        while appended < until {
            let count = (until - appended).min(500);
            append(&client, appended, count, &mut random, &record).await;
            appended += count;
        }
        // Into the middle of the work.
        let goal = usize::try_from(events * (2 * kill + 1) / (2 * kills + 2)).unwrap();
        while record.acknowledged() < goal {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if kill < kills {
            server = Server::start_on(server.kill());
            server.address().clone_into(&mut address.lock().unwrap());
        }
    }
    let client = server.client().await;
    while status(&client, "chaos").await.lag_events > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    while workers.join_next().await.is_some() {}
    let mut history = record.history().clone();
    history.finished = true;
    eprintln!(
        "chaos: {} events, {} deliveries, {} outcomes, {kills} kills",
        history.events.len(),
        history.seen.len(),
        history.said.len()
    );
    assert!(history.seen.len() > history.events.len(), "nothing went wrong");
    let wrong = history.judge();
    assert!(
        wrong.is_empty(),
        "{} promises broken: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(10)]
    );
}

/// A delivery at a time, of which attempt, to whom; its lease takes 100.
fn seen(at: i64, position: u64, attempt: u32, consumer: &str) -> Seen {
    let (consumer, deadline) = (consumer.to_owned(), at + 100);
    Seen { at, position, consumer, epoch: 1, attempt, deadline, replay: false }
}

fn said(sent: i64, position: u64, attempt: u32, word: Word) -> Said {
    Said { sent, position, epoch: 1, attempt, word, result: Verdict::Done }
}

/// Two events of one person, and what the judge has to say of a history of them.
#[track_caller]
fn judged(seen: Vec<Seen>, said: Vec<Said>, expected: Option<&str>) {
    let lanes = || vec!["ann".to_owned()];
    let events = [(1, lanes()), (2, lanes())].into();
    let history = History { events, seen, said, per_lane: 1, finished: true, ..History::default() };
    let wrong = history.judge();
    match expected {
        None => assert_eq!(wrong, Vec::<String>::new()),
        Some(expected) => assert!(wrong.iter().any(|it| it.contains(expected)), "{wrong:?}"),
    }
}

#[test]
fn the_judge_sees_every_kind_of_broken_promise() {
    let good_seen = || vec![seen(1, 1, 1, "a"), seen(10, 2, 1, "b")];
    let good_said = || vec![said(5, 1, 1, Word::Ack), said(20, 2, 1, Word::Ack)];
    judged(good_seen(), good_said(), None);
    // The second one came before the first was done.
    judged(vec![seen(1, 1, 1, "a"), seen(4, 2, 1, "b")], good_said(), Some("before 1"));
    judged(good_seen(), vec![said(5, 1, 1, Word::Ack)], Some("2 was never done"));
    let again = [good_seen(), vec![seen(30, 1, 2, "b")]].concat();
    judged(again, good_said(), Some("1 was acknowledged as attempt (1, 1) and delivered"));
    let both = vec![seen(1, 1, 1, "a"), seen(3, 1, 2, "b"), seen(10, 2, 1, "b")];
    judged(both, vec![said(5, 1, 2, Word::Ack), said(20, 2, 1, Word::Ack)], Some("while a had it"));
    // The first attempt was over when the second began, and was read later.
    let mut late = vec![seen(5, 1, 2, "b"), seen(6, 1, 1, "a"), seen(20, 2, 1, "b")];
    late[1].deadline = 4;
    let acks = vec![said(7, 1, 2, Word::Ack), said(30, 2, 1, Word::Ack)];
    judged(late.clone(), acks.clone(), None);
    late[1].deadline = 6;
    judged(late, acks, Some("while a had it"));
    let twice = [good_said(), vec![said(6, 1, 2, Word::Ack)]].concat();
    judged(good_seen(), twice, Some("as attempt (1, 1) and as (1, 2)"));
    let foreign = [good_seen(), vec![seen(30, 9, 1, "b")]].concat();
    judged(foreign, good_said(), Some("9 does not match"));
    let mut forgotten = vec![seen(1, 1, 1, "a"), seen(3, 1, 1, "a"), seen(10, 2, 1, "b")];
    forgotten[1].epoch = 2;
    let mut acks = [vec![said(2, 1, 1, Word::Nack)], good_said()].concat();
    acks[1].epoch = 2;
    judged(forgotten, acks, Some("attempt (1, 1) failed"));
}

/// The same of outcomes that were answered early, and a kill before the last event that was seen.
#[track_caller]
fn judged_early(mut seen: Vec<Seen>, expected: Option<&str>) {
    seen.last_mut().unwrap().epoch = 2;
    let lanes = || vec!["ann".to_owned()];
    let events = [(1, lanes()), (2, lanes())].into();
    let said = vec![said(5, 1, 1, Word::Ack)];
    let history = History { events, seen, said, per_lane: 1, early: true, ..History::default() };
    let wrong = history.judge();
    assert_eq!(
        wrong.iter().any(|it| it.contains(expected.unwrap_or_default())),
        expected.is_some()
    );
}

#[test]
fn the_judge_of_early_answers_lets_a_kill_take_them_back_but_nothing_overtake() {
    judged_early(vec![seen(1, 1, 1, "a"), seen(30, 1, 1, "b")], None);
    judged_early(vec![seen(1, 1, 1, "a"), seen(10, 2, 1, "b"), seen(30, 2, 1, "b")], None);
    let overtaken = vec![seen(1, 1, 1, "a"), seen(10, 2, 1, "b"), seen(30, 1, 1, "b")];
    judged_early(overtaken, Some("1 came in epoch 2, 2 of lane ann in 1 before"));
}
