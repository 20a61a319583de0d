//! Parked events and the payloads that the log has of them.

use super::{harness::Harness, keeping_alive::consumer, trimming::filled};
use crate::{
    delivery::Outcome,
    model::Position,
    store::{Error, ParkedEvent, ParkedFilter, ParkedSelector},
};

/// A store whose only event is parked.
async fn parked() -> Harness {
    let harness = filled(1).await;
    let (connection, ack_id) = consumer(&harness).await;
    let park = Outcome::Park { reason: "odd".into() };
    harness.store.resolve_deliveries("journey", vec![(ack_id, park)]).await.unwrap();
    drop(connection);
    harness
}

async fn get(harness: &Harness) -> ParkedEvent {
    harness.store.parked_event("journey", Position::new(1)).await.unwrap()
}

#[tokio::test]
async fn an_event_of_which_the_log_has_another_payload_is_told_and_not_replayed() {
    let mut harness = parked().await;
    harness.reopen().await;
    assert!(!get(&harness).await.payload_differs());
    {
        let owner = harness.store.inner.subscriptions.get("journey").unwrap();
        let mut state = owner.state();
        let parked = state.machine.durable.parked.get_mut(&Position::new(1)).unwrap();
        parked.digest = parked.digest.map(|it| it ^ 1);
    }
    assert!(get(&harness).await.payload_differs());
    for selector in [
        ParkedSelector::Positions(vec![Position::new(1)]),
        ParkedSelector::First(ParkedFilter::default(), 10),
    ] {
        let refused = harness.store.replay_parked("journey", selector, true).await;
        assert!(matches!(refused, Err(Error::Corrupt)), "{refused:?}");
    }
    // It can be given up.
    let all = ParkedSelector::First(ParkedFilter::default(), 10);
    assert_eq!(harness.store.discard_parked("journey", all).await.unwrap(), 1);
}

#[tokio::test]
async fn an_event_that_was_parked_before_digests_were_kept_is_replayed() {
    let harness = parked().await;
    {
        let owner = harness.store.inner.subscriptions.get("journey").unwrap();
        let mut state = owner.state();
        state.machine.durable.parked.get_mut(&Position::new(1)).unwrap().digest = None;
    }
    assert!(!get(&harness).await.payload_differs());
    let all = ParkedSelector::First(ParkedFilter::default(), 10);
    assert_eq!(harness.store.replay_parked("journey", all, true).await.unwrap(), 1);
}
