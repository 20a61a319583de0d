//! Subscriptions that nobody uses, and what retention leaves for those that want it.

use std::time::Duration;

use super::{
    harness::{Harness, event},
    trimming::filled,
};
use crate::{
    delivery::{Credit, Settings},
    model::{DatasetName, EventFilter, Position, SubscriptionName},
    store::{Connect, CreateSubscription, Retention, Seek, SeekInFlight, SeekTo, Start, Upkeep},
};

const SECOND_US: i64 = 1_000_000;

impl Harness {
    async fn subscribe(&self, upkeep: Upkeep) {
        let create = CreateSubscription {
            name: name(),
            description: String::new(),
            filter: EventFilter {
                datasets: vec![DatasetName::parse("dataset", "one").unwrap()],
                ..EventFilter::default()
            },
            delivery: Settings::default(),
            ack_flush_interval: None,
            dead_letter_dataset: None,
            scan_limit: 0,
            upkeep,
            start: Start::Beginning,
            validate_only: false,
        };
        self.store.create_subscription(create).await.unwrap();
    }

    /// Lets what is due happen; whether the subscription is there still.
    async fn is_kept(&self) -> bool {
        let retainer = self.store.retainer();
        let kept = tokio::task::spawn_blocking(move || retainer.keep_subscriptions());
        kept.await.unwrap().unwrap();
        self.store.subscription("journey").is_ok()
    }

    async fn left(&self) -> Vec<u64> {
        self.read_all().await.iter().map(|it| it.position.get()).collect()
    }
}

fn name() -> SubscriptionName {
    SubscriptionName::parse("name", "journey").unwrap()
}

fn expiring(delete_expired: bool) -> Upkeep {
    let expire_after = Some(Duration::from_secs(80));
    Upkeep { expire_after, delete_expired, ..Upkeep::default() }
}

#[tokio::test]
async fn a_subscription_expires_through_restarts_and_leaves_a_record() {
    let mut harness = filled(1).await;
    harness.subscribe(expiring(true)).await;
    harness.advance(60 * SECOND_US);
    assert!(harness.is_kept().await);
    harness.reopen().await;
    harness.advance(25 * SECOND_US);
    assert!(harness.is_kept().await);
    harness.advance(6 * SECOND_US);
    assert!(!harness.is_kept().await);
    harness.reopen().await;
    assert!(harness.store.subscription("journey").is_err());
    let audit = harness.store.audit();
    assert_eq!(audit.last().unwrap().subscription, "journey");
}

#[tokio::test]
async fn a_subscription_that_is_to_be_kept_expires_and_stays() {
    let harness = filled(1).await;
    harness.subscribe(expiring(false)).await;
    harness.advance(1000 * SECOND_US);
    assert!(harness.is_kept().await);
    assert!(harness.store.subscription_status("journey").await.unwrap().expired);
    assert!(harness.store.audit().is_empty());
}

#[tokio::test]
async fn a_subscription_that_is_used_does_not_expire_and_a_crash_forgets_little_of_it() {
    let mut harness = filled(1).await;
    harness.subscribe(expiring(true)).await;
    let connect = Connect {
        client_id: "one".to_owned(),
        instance: 1,
        credit: Credit { events: 0, bytes: 0 },
        heartbeat_interval: Duration::from_secs(10),
        ack_deadline: None,
        keep_alive: false,
    };
    let connection = harness.store.consume("journey", connect).await.unwrap();
    for _ in 0..30 {
        harness.advance(20 * SECOND_US);
        assert!(harness.is_kept().await);
    }
    assert!(!harness.store.subscription_status("journey").await.unwrap().expired);
    drop(connection);
    harness.reopen().await;
    harness.advance(80 * SECOND_US);
    assert!(harness.is_kept().await);
    harness.advance(20 * SECOND_US);
    assert!(!harness.is_kept().await);
}

#[tokio::test]
async fn retention_leaves_what_a_subscription_has_not_done_up_to_its_bytes() {
    let harness = filled(6).await;
    let one = Retention { max_events: 1, ..Retention::default() };
    let bytes = event("e1", "visit", &[("Email", "a@b.c")], 1).len() as u64;
    harness.subscribe(Upkeep { pin_bytes: Some(1 << 20), ..Upkeep::default() }).await;
    harness.retain(one.clone()).await;
    assert_eq!(harness.left().await, [1, 2, 3, 4, 5, 6]);
    let status = harness.store.subscription_status("journey").await.unwrap();
    assert_eq!(status.pinned_after, Some(Position::START));
    // What it has done goes.
    let seek = Seek {
        name: name(),
        to: SeekTo::Start(Start::After(Position::new(2))),
        in_flight: SeekInFlight::Abandon,
    };
    harness.store.seek_subscription(seek).await.unwrap();
    harness.retain(one.clone()).await;
    assert_eq!(harness.left().await, [3, 4, 5, 6]);
    // Two events beyond the one that stays anyway have room.
    harness.store.delete_subscription("journey", None).await.unwrap();
    harness.subscribe(Upkeep { pin_bytes: Some(2 * bytes), ..Upkeep::default() }).await;
    harness.retain(one.clone()).await;
    assert_eq!(harness.left().await, [4, 5, 6]);
    harness.store.delete_subscription("journey", None).await.unwrap();
    harness.retain(one).await;
    assert_eq!(harness.left().await, [6]);
}
