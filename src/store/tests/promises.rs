//! Promises of the store, one by one.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::{
    model::{DatasetName, EventFilter, Position},
    store::{
        Append, AppendMode, AppendOutcome, BelowFloor, DatasetChanges, Deadline, Durability, Error,
        EventFault, EventStore, Follow, FollowMessage, Start, StoreOptions, TraceStep,
        catalog::Change,
        tests::harness::{Harness, SCHEMA, all, event, register},
    },
};

fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| event(&format!("e{n}"), "visit", &[("Email", "a@b.c")], 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_storming_one_id_leave_one_copy() {
    let harness = Harness::new().await;
    harness.create_dataset("one").await.unwrap();
    let append = || harness.append("one", numbered(0..1), AppendMode::Atomic);
    let mut stored = 0;
    for appended in all((0..64).map(|_| append())).await {
        match appended.unwrap().outcomes.as_slice() {
            [AppendOutcome::Appended(position)] => {
                stored += 1;
                assert_eq!(*position, Position::new(1));
            }
            [AppendOutcome::Duplicate(position)] => assert_eq!(*position, Position::new(1)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((stored, harness.store.last_position()), (1, Position::new(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_every_event_once_while_others_append() {
    const APPENDERS: u32 = 8;
    const EACH: u32 = 200;
    let harness = Harness::new().await;
    harness.create_dataset("one").await.unwrap();
    harness.append("one", numbered(1_000_000..1_000_100), AppendMode::Atomic).await.unwrap();
    let (out, mut messages) = mpsc::channel(1);
    let follow = Follow {
        filter: EventFilter::default(),
        start: Start::Beginning,
        heartbeat_interval: Duration::from_mins(1),
        below_floor: BelowFloor::Fail,
    };
    harness.store.follow(follow, out).await.unwrap();
    let harness = &harness;
    let appending = all((0..APPENDERS).map(|appender| async move {
        for n in 0..EACH {
            let id = appender * EACH + n;
            harness.append("one", numbered(id..id + 1), AppendMode::Atomic).await.unwrap();
        }
    }));
    let following = async {
        let mut next = Position::new(1);
        while next.get() <= u64::from(100 + APPENDERS * EACH) {
            if let FollowMessage::Events(events) = messages.recv().await.unwrap().unwrap() {
                for event in events {
                    assert_eq!(event.position, next);
                    next = next.next();
                }
            }
        }
    };
    tokio::join!(appending, following);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_judged_by_an_old_version_is_judged_again() {
    let harness = Harness::new().await;
    harness.create_dataset("one").await.unwrap();
    harness.append("one", numbered(0..2), AppendMode::Atomic).await.unwrap();
    let stricter = serde_json::json!({
        "$id": SCHEMA,
        "allOf": [{"$ref": "https://ns.adobe.com/xdm/context/experienceevent"}],
        "properties": {"price": {"type": "string"}},
    });
    let registered = harness.store.register_schema(register(&stricter)).await.unwrap();
    assert_eq!((registered.version.version, registered.created), (2, true));
    let outcome = harness.append("one", numbered(2..3), AppendMode::Atomic).await;
    assert!(matches!(outcome, Err(Error::Events(_))), "{outcome:?}");
    let events = harness.read_all().await;
    assert_eq!(events.iter().map(|it| it.schema_version).collect::<Vec<_>>(), [1, 1]);
}

/// A batch that is judged again must not be judged by the settings that made it stale, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn judging_again_goes_by_the_datasets_settings_of_now() {
    let harness = Harness::new().await;
    harness.create_dataset("one").await.unwrap();
    let store = &harness.store;
    let seen = store.dataset("one").unwrap();
    let pin = |version| {
        let changes = DatasetChanges { pinned_version: Some(version), ..Default::default() };
        store.update_dataset("one".into(), None, changes, false)
    };
    pin(1).await.unwrap();
    let first = store.judge(seen.number).unwrap().schema;
    let second = serde_json::json!({"$id": SCHEMA, "title": "another"});
    store.register_schema(register(&second)).await.unwrap();
    assert_eq!(store.judge(seen.number).unwrap().schema, first);
    pin(2).await.unwrap();
    assert_ne!(store.judge(seen.number).unwrap().schema, first);
    harness.append("one", numbered(0..1), AppendMode::Atomic).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_deadline_passes_in_the_queue_is_dropped() {
    let harness = Harness::new().await;
    harness.create_dataset("one").await.unwrap();
    let append = |n: u32, deadline: &Deadline| {
        harness.store.append(Append {
            dataset: DatasetName::parse("dataset", "one").unwrap(),
            events: numbered(n..n + 1).into_iter().map(|it| Ok(it.into())).collect(),
            mode: AppendMode::Atomic,
            conditions: Vec::new(),
            validate_only: false,
            deadline: Some(deadline.clone()),
            releases: Vec::new(),
            on_invalid: None,
            durability: Durability::Sync,
        })
    };
    let soon = Instant::now() + Duration::from_millis(300);
    let (late, given_up) = (Deadline::new(soon), Deadline::new(soon + Duration::from_hours(1)));
    let in_time = Deadline::new(soon + Duration::from_hours(1));
    // The sequencer is busy until the first deadline is over and the second caller has given up.
    let other = given_up.clone();
    let (begun, begins) = oneshot::channel();
    let busy = harness.store.change(move |_catalog, _now| {
        begun.send(()).unwrap();
        while Instant::now() <= soon {
            std::hint::spin_loop();
        }
        assert!(other.give_up());
        Ok(Change::Nothing(()))
    });
    let appends = async {
        begins.await.unwrap();
        all([append(0, &late), append(1, &given_up), append(2, &in_time)]).await
    };
    let (busy, outcomes) = tokio::join!(busy, appends);
    busy.unwrap();
    for outcome in &outcomes[..2] {
        assert!(matches!(outcome, Err(Error::Deadline { begun: false })), "{outcome:?}");
    }
    outcomes[2].as_ref().unwrap();
    assert!(late.give_up(), "it never began");
    assert!(!in_time.give_up(), "it has begun");
    let stored = harness.read_all().await;
    assert_eq!(stored.iter().map(|it| &*it.event_id).collect::<Vec<_>>(), ["e2"]);
    // What is too late on arrival is not even queued.
    let outcome = append(3, &late).await;
    assert!(matches!(outcome, Err(Error::Deadline { begun: false })), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_refuses_new_work_and_keeps_the_old() {
    let mut harness = Harness::new().await;
    harness.create_dataset("one").await.unwrap();
    harness.append("one", numbered(0..40), AppendMode::Atomic).await.unwrap();
    harness.store.start_closing();
    let outcome = harness.append("one", numbered(40..41), AppendMode::Atomic).await;
    assert!(matches!(outcome, Err(Error::Closing)), "{outcome:?}");
    harness.reopen().await;
    assert_eq!(harness.read_all().await.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_store_reads_and_refuses_every_write() {
    let harness = Harness::new().await;
    harness.create_dataset("one").await.unwrap();
    harness.append("one", numbered(0..3), AppendMode::Atomic).await.unwrap();
    harness.store.inner.storage.poison("a test");
    let append = harness.append("one", numbered(3..4), AppendMode::Atomic).await;
    assert!(matches!(append, Err(Error::Poisoned)), "{append:?}");
    let create = harness.create_dataset("two").await;
    assert!(matches!(create, Err(Error::Poisoned)), "{create:?}");
    assert_eq!(harness.read_all().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_known_up_to_the_horizon_and_not_a_microsecond_longer() {
    const SECOND: i64 = 1_000_000;
    let mut harness = Harness::new().await;
    let horizon = |horizon: Option<u64>| DatasetChanges {
        dedupe_horizon: Some(horizon.map(Duration::from_secs)),
        ..DatasetChanges::default()
    };
    harness.create_dataset("one").await.unwrap();
    let (first, other) = (event("e", "a", &[], 1), event("e", "a", &[], 2));
    let outcome = async |harness: &Harness, event: &String| {
        let appended = harness.append("one", vec![event.clone()], AppendMode::PerEvent).await;
        match appended.unwrap().outcomes.remove(0) {
            AppendOutcome::Appended(position) => format!("new {position}"),
            AppendOutcome::Duplicate(position) => format!("known {position}"),
            AppendOutcome::Rejected(problem) => {
                let EventFault::Conflict { position, .. } = problem.fault else { panic!() };
                format!("conflict {position}")
            }
            outcome @ (AppendOutcome::Tagged(..)
            | AppendOutcome::Quarantined(_)
            | AppendOutcome::Gone) => panic!("{outcome:?}"),
        }
    };
    assert_eq!(outcome(&harness, &first).await, "new 1");
    harness.store.update_dataset("one".into(), None, horizon(Some(10)), false).await.unwrap();
    harness.append("one", numbered(0..40), AppendMode::Atomic).await.unwrap();
    harness.advance(10 * SECOND);
    assert_eq!(outcome(&harness, &first).await, "known 1");
    assert_eq!(outcome(&harness, &other).await, "conflict 1");
    harness.advance(1);
    harness.reopen().await;
    assert_eq!(outcome(&harness, &other).await, "new 42");
    assert_eq!(outcome(&harness, &other).await, "known 42");
    assert_eq!(outcome(&harness, &first).await, "conflict 42");
    assert_eq!(harness.store.event_with_id("one", "e").await.unwrap().position.get(), 42);
    // Twice in one batch is never new twice.
    harness.advance(20 * SECOND);
    let twice = vec![first.clone(), first.clone()];
    let appended = harness.append("one", twice, AppendMode::Atomic).await.unwrap();
    let places =
        [AppendOutcome::Appended(Position::new(43)), AppendOutcome::Duplicate(Position::new(43))];
    assert_eq!(appended.outcomes, places);
    // Without a horizon all of them are known: the last one with the same content.
    harness.store.update_dataset("one".into(), None, horizon(None), false).await.unwrap();
    harness.reopen().await;
    assert_eq!(outcome(&harness, &first).await, "known 43");
    assert_eq!(outcome(&harness, &other).await, "known 42");
    assert_eq!(outcome(&harness, &event("e", "a", &[], 3)).await, "conflict 43");
    let trace = harness.store.trace("one", "e").await.unwrap();
    let stored = trace.steps.iter().filter_map(|it| match it {
        TraceStep::Stored { position, .. } => Some(position.get()),
        TraceStep::Quarantined { .. } | TraceStep::Refused(_) | TraceStep::Removed { .. } => None,
    });
    assert_eq!(stored.collect::<Vec<_>>(), [1, 42, 43]);
    for wrong in [0, 36_525 * 24 * 60 * 60 + 1] {
        let update = harness.store.update_dataset("one".into(), None, horizon(Some(wrong)), false);
        assert!(update.await.unwrap_err().to_string().contains("dedupe_horizon"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_cut_off_while_it_was_made_is_made_anew() {
    let directory = tempfile::TempDir::new().unwrap();
    for torn in ["catalog", "volumes/00000001"] {
        std::fs::create_dir_all(directory.path().join(torn)).unwrap();
        std::fs::write(directory.path().join(torn).join("conf"), [0; 40]).unwrap();
    }
    let format = format!("milepost {}\n", crate::store::FORMAT_VERSION);
    std::fs::write(directory.path().join("FORMAT"), format).unwrap();
    let harness = Harness::on(directory);
    assert_eq!(harness.store.last_position(), Position::START);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_the_list_of_its_volumes_is_refused_and_kept() {
    let harness = Harness::new().await;
    harness.create_dataset("one").await.unwrap();
    harness.append("one", numbered(0..3), AppendMode::Atomic).await.unwrap();
    let directory = harness.close().await;
    let list = directory.path().join("volumes/VOLUMES");
    let text = std::fs::read(&list).unwrap();
    std::fs::remove_file(&list).unwrap();
    let error = EventStore::open(directory.path(), StoreOptions::default()).unwrap_err();
    assert!(error.to_string().contains("`volumes/VOLUMES` is missing"), "{error}");
    std::fs::write(&list, text).unwrap();
    assert_eq!(Harness::on(directory).read_all().await.len(), 3);
}
