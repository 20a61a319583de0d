//! Trims and retention: what goes, what stays, and what is told.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    model::{Direction, EventFilter, Position, Timestamp},
    storage::Floors,
    store::{
        AgeBy, AppendMode, BelowFloor, DatasetChanges, Error, EventStore, Follow, FollowMessage,
        Gap, Read, Retention, Start, TrimBefore,
        retention::{Retainer, Round},
        tests::harness::{Harness, event},
    },
};

fn payload(n: u32) -> String {
    event(&format!("e{n}"), "visit", &[("Email", "a@b.c")], u64::from(n))
}

/// Events 1 to `count` at these positions, one after the other, a second apart.
pub(super) async fn filled(count: u32) -> Harness {
    let harness = Harness::new().await;
    harness.create_dataset("one").await.unwrap();
    for n in 1..=count {
        harness.append("one", vec![payload(n)], AppendMode::Atomic).await.unwrap();
        harness.advance(1_000_000);
    }
    harness
}

impl EventStore {
    pub(super) fn retainer(&self) -> Retainer {
        let inner = &self.inner;
        let (catalog, queue) = (Arc::clone(&inner.catalog), self.queue().unwrap().downgrade());
        let (storage, last) = (Arc::clone(&inner.storage), inner.last_position.clone());
        let subscriptions = Arc::clone(&inner.subscriptions);
        Retainer::new(storage, catalog, last, queue, subscriptions, inner.clock.clone())
    }
}

impl Harness {
    async fn trim(&self, dataset: &str, before: u64) -> u64 {
        let before = TrimBefore::Position(Position::new(before));
        self.store.trim_dataset(dataset.into(), before, None, false).await.unwrap().removed
    }

    async fn positions(&self) -> Vec<u64> {
        self.read_all().await.iter().map(|it| it.position.get()).collect()
    }

    pub(super) async fn retain(&self, retention: Retention) {
        let changes = DatasetChanges { retention: Some(retention), ..Default::default() };
        self.store.update_dataset("one".into(), None, changes, false).await.unwrap();
        let mut retainer = self.store.retainer();
        let rounds = move || while retainer.round().unwrap() == Round::Interrupted {};
        tokio::task::spawn_blocking(rounds).await.unwrap();
    }

    /// Totals, and that they are those of the events that are read.
    async fn check_stats(&self, dataset: &str) {
        let stats = self.store.dataset_stats(&self.store.dataset(dataset).unwrap()).await.unwrap();
        let events: Vec<_> =
            self.read_all().await.into_iter().filter(|it| &*it.dataset == dataset).collect();
        let bytes: u64 = events.iter().map(|it| it.payload.len() as u64).sum();
        let bound = |it: Option<&crate::model::RecordedEvent>| it.map(|it| it.position);
        assert_eq!((stats.events, stats.payload_bytes), (events.len() as u64, bytes));
        assert_eq!(stats.first, bound(events.first()).unwrap_or_default());
        assert_eq!(stats.last, bound(events.last()).unwrap_or_default());
    }
}

/// Index segments have 16 events here, so floors fall inside, between and beyond them.
#[tokio::test(flavor = "multi_thread")]
async fn totals_are_exact_after_every_trim_and_every_append() {
    let mut harness = filled(40).await;
    harness.create_dataset("two").await.unwrap();
    let mut next = 41;
    for before in [2, 3, 10, 17, 18, 30, 33, 42, 44, 47] {
        harness.trim("one", before).await;
        harness.check_stats("one").await;
        for dataset in ["one", "two"] {
            harness.append(dataset, vec![payload(next)], AppendMode::Atomic).await.unwrap();
            next += 1;
        }
        harness.check_stats("one").await;
        harness.check_stats("two").await;
        if before == 18 {
            harness.reopen().await;
            harness.check_stats("one").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_by_time_stops_at_the_first_event_stored_then() {
    let harness = filled(10).await;
    let fifth = harness.read_all().await[4].record_time;
    let trim = |time| harness.store.trim_dataset("one".into(), time, None, false);
    let trimmed = trim(TrimBefore::RecordTime(fifth)).await.unwrap();
    assert_eq!((trimmed.removed, trimmed.dataset.floor), (4, Position::new(4)));
    let future = Timestamp::from_micros(i64::MAX);
    assert_eq!(trim(TrimBefore::RecordTime(future)).await.unwrap().removed, 6);
    // Everything went, but what comes now stays.
    harness.append("one", vec![payload(1)], AppendMode::Atomic).await.unwrap();
    assert_eq!(harness.positions().await, [11]);
}

#[tokio::test(flavor = "multi_thread")]
async fn trims_side_by_side_count_every_event_once() {
    let harness = filled(40).await;
    let trims = (1..=20).map(|n| harness.trim("one", 2 * n + 1));
    let removed: u64 = crate::store::tests::harness::all(trims).await.into_iter().sum();
    assert_eq!((removed, harness.positions().await), (40, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_removes_what_it_says() {
    let age = |secs| Some(Duration::from_secs(secs));
    let bytes = payload(20).len() as u64;
    // Forty events, a second apart, the last one second ago.
    let rows = [
        (Retention { max_events: 3, ..Retention::default() }, 38..=40),
        (Retention { max_bytes: 5 * bytes, ..Retention::default() }, 36..=40),
        (Retention { max_bytes: 5 * bytes + bytes - 1, ..Retention::default() }, 36..=40),
        (Retention { max_age: age(10), ..Retention::default() }, 31..=40),
        (Retention { max_age: age(10), max_events: 4, ..Retention::default() }, 37..=40),
        (Retention { max_age: age(100), ..Retention::default() }, 1..=40),
        // The events all happened in 2026; the clock here stands at 1970.
        (Retention { max_age: age(1), age_by: AgeBy::EventTime, ..Retention::default() }, 1..=40),
    ];
    for (retention, kept) in rows {
        let harness = filled(40).await;
        harness.retain(retention.clone()).await;
        assert_eq!(harness.positions().await, kept.collect::<Vec<_>>(), "{retention:?}");
        harness.check_stats("one").await;
    }
    let harness = filled(40).await;
    // A day after the events happened.
    let day_after = Timestamp::parse_rfc3339("2026-01-06T09:30:00Z").unwrap().micros();
    harness.advance(day_after - harness.store.now().micros());
    let by_event_time =
        |secs| Retention { max_age: age(secs), age_by: AgeBy::EventTime, ..Retention::default() };
    harness.retain(by_event_time(24 * 60 * 60)).await;
    assert_eq!(harness.positions().await.len(), 40);
    harness.retain(by_event_time(24 * 60 * 60 - 1)).await;
    assert_eq!(harness.positions().await.len(), 0);
}

/// A reader that began before a trim is told, and reads what is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_a_trim_overtakes_is_told_of_the_gap() {
    let harness = filled(2).await;
    let batch = |from: u32| (from..from + 1000).map(payload).collect();
    for from in [10_000, 20_000] {
        harness.append("one", batch(from), AppendMode::Atomic).await.unwrap();
    }
    for direction in [Direction::Forward, Direction::Backward] {
        let read = Read {
            filter: EventFilter::default(),
            after: Position::START,
            before: Position::START,
            direction,
            limit: u64::MAX,
            below_floor: BelowFloor::Fail,
        };
        let mut reader = harness.store.read(&read).unwrap();
        let first = reader.next_page().await.unwrap().unwrap();
        assert!(!first.done && first.gap.is_none());
        let floor = harness.store.dataset("one").unwrap().floor;
        let to = floor.plus(if direction == Direction::Forward { 1000 } else { 10 });
        harness.trim("one", to.next().get()).await;
        let (mut gap, mut last) = (None, first.scanned_to);
        while let Some(page) = reader.next_page().await.unwrap() {
            if let Some(found) = page.gap {
                assert!(page.events.is_empty());
                gap = Some(found);
            }
            assert!(page.events.iter().all(|it| it.position > to));
            last = page.scanned_to;
        }
        let from = match direction {
            Direction::Forward => first.scanned_to.next(),
            Direction::Backward => Position::new(1),
        };
        assert_eq!(gap, Some(Gap { from, to }));
        let end = match direction {
            Direction::Forward => harness.store.last_position(),
            Direction::Backward => Position::new(1),
        };
        assert_eq!(last, end);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_whose_dataset_is_deleted_meanwhile_fails() {
    let harness = filled(1).await;
    let batch = (10_000..11_000).map(payload).collect();
    harness.append("one", batch, AppendMode::Atomic).await.unwrap();
    let mut filter = EventFilter::default();
    filter.datasets.push(crate::model::DatasetName::parse("", "one").unwrap());
    let read = Read {
        filter,
        after: Position::START,
        before: Position::START,
        direction: Direction::Forward,
        limit: u64::MAX,
        below_floor: BelowFloor::Fail,
    };
    let mut reader = harness.store.read(&read).unwrap();
    assert!(!reader.next_page().await.unwrap().unwrap().done);
    harness.store.delete_dataset("one".into(), None, true, false).await.unwrap();
    let outcome = reader.next_page().await;
    assert!(matches!(outcome, Err(Error::NotFound { .. })), "{outcome:?}");
    assert_eq!(harness.store.catalog().floors().iter().next().unwrap().1, Floors::DELETED);
}

/// What a follow is told, up to `CaughtUp`.
async fn follow(harness: &Harness, start: Start, datasets: &[&str]) -> Result<Vec<String>, Error> {
    let (out, mut messages) = mpsc::channel(1);
    let mut filter = EventFilter::default();
    for name in datasets {
        filter.datasets.push(crate::model::DatasetName::parse("", name).unwrap());
    }
    let below_floor = BelowFloor::Clamp;
    let heartbeat_interval = Duration::from_mins(1);
    let fail = Follow { filter, start, heartbeat_interval, below_floor: BelowFloor::Fail };
    let clamp = Follow { below_floor, ..fail.clone() };
    harness.store.follow(clamp, out).await.unwrap();
    let mut told = Vec::new();
    loop {
        match messages.recv().await.unwrap().unwrap() {
            FollowMessage::Gap(gap) => told.push(format!("gap {}-{}", gap.from, gap.to)),
            FollowMessage::Events(events) => {
                told.extend(events.iter().map(|it| it.position.to_string()));
            }
            FollowMessage::CaughtUp { .. } => break,
            FollowMessage::Started { .. }
            | FollowMessage::Checkpoint { .. }
            | FollowMessage::FellBehind { .. }
            | FollowMessage::Heartbeat { .. } => {}
        }
    }
    // Refused exactly when there is a gap to be told of.
    let (out, _messages) = mpsc::channel(1);
    match harness.store.follow(fail, out).await {
        Ok(()) => assert!(!told.iter().any(|it| it.starts_with("gap")), "{told:?}"),
        Err(Error::Trimmed { floor, .. }) => {
            assert!(told[0].ends_with(&format!("-{floor}")), "{told:?}");
        }
        Err(error) => return Err(error),
    }
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_told_only_where_events_were_lost() {
    let harness = Harness::new().await;
    for dataset in ["one", "two"] {
        harness.create_dataset(dataset).await.unwrap();
    }
    // one: 1 3 5 7 9, two: 2 4 6 8 10
    for n in 1..=10 {
        let dataset = if n % 2 == 1 { "one" } else { "two" };
        harness.append(dataset, vec![payload(n)], AppendMode::Atomic).await.unwrap();
        harness.advance(1_000_000);
    }
    let third = harness.read_all().await[2].record_time;
    // Loses 1, 3 and 5; the floor is the last lost event, not the bound.
    assert_eq!(harness.trim("one", 7).await, 3);
    assert_eq!(harness.store.dataset("one").unwrap().floor, Position::new(5));
    let after = |n| Start::After(Position::new(n));
    let token = Start::Token(harness.store.resume_token(Position::new(3)));
    let rows: Vec<(Start, &[&str], &str)> = vec![
        (Start::Beginning, &[], "2 4 6 7 8 9 10"),
        (after(0), &[], "2 4 6 7 8 9 10"),
        (after(1), &[], "gap 2-5 2 4 6 7 8 9 10"),
        (after(4), &["one"], "gap 5-5 7 9"),
        (after(4), &["two"], "6 8 10"),
        (after(4), &["one", "two"], "gap 5-5 6 7 8 9 10"),
        (after(5), &[], "6 7 8 9 10"),
        (after(10), &[], ""),
        (token, &["one"], "gap 4-5 7 9"),
        (Start::RecordTime(third), &[], "gap 3-5 4 6 7 8 9 10"),
        (Start::RecordTime(third), &["two"], "4 6 8 10"),
        (Start::RecordTime(Timestamp::EPOCH), &["one"], "gap 1-5 7 9"),
        // From before the first event of any dataset that happened then: what was lost since may have.
        (Start::EventTime(Timestamp::EPOCH), &["one"], "gap 2-5 7 9"),
        (Start::End, &[], ""),
    ];
    for (start, datasets, expected) in rows {
        let told = follow(&harness, start.clone(), datasets).await.unwrap().join(" ");
        assert_eq!(told, expected, "{start:?} {datasets:?}");
    }
    // A deleted dataset makes no gap.
    harness.store.delete_dataset("two".into(), None, true, false).await.unwrap();
    assert_eq!(follow(&harness, after(5), &[]).await.unwrap(), ["7", "9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_that_a_trim_overtakes_is_told_and_goes_on() {
    let harness = filled(2).await;
    let batch = |from: u32| (from..from + 1000).map(payload).collect::<Vec<_>>();
    for from in [10_000, 20_000, 30_000, 40_000, 50_000] {
        harness.append("one", batch(from), AppendMode::Atomic).await.unwrap();
    }
    // One message waits at most, so the follow stands still until it is listened to.
    let (out, mut messages) = mpsc::channel(1);
    let follow = Follow {
        filter: EventFilter::default(),
        start: Start::Beginning,
        heartbeat_interval: Duration::from_mins(1),
        below_floor: BelowFloor::Fail,
    };
    harness.store.follow(follow, out).await.unwrap();
    while !matches!(messages.recv().await.unwrap().unwrap(), FollowMessage::Events(_)) {}
    harness.trim("one", 4001).await;
    let (mut gap, mut next) = (None, None);
    loop {
        match messages.recv().await.unwrap().unwrap() {
            FollowMessage::Gap(found) => {
                assert_eq!((gap, found.to), (None, Position::new(4000)));
                (gap, next) = (Some(found), Some(Position::new(4001)));
            }
            FollowMessage::Events(events) => {
                for event in events {
                    assert!(next.is_none_or(|next| next == event.position));
                    next = Some(event.position.next());
                }
            }
            FollowMessage::CaughtUp { position, .. } => break assert_eq!(position.get(), 5002),
            FollowMessage::Started { .. }
            | FollowMessage::Checkpoint { .. }
            | FollowMessage::FellBehind { .. }
            | FollowMessage::Heartbeat { .. } => {}
        }
    }
    assert!(gap.is_some_and(|it| it.from < it.to), "{gap:?}");
    assert_eq!(next, Some(Position::new(5003)));
}
