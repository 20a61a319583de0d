//! Work per event does not grow with the window.

use std::time::{Duration, Instant};

use super::keep;
use crate::{
    delivery::{Arrival, Credit, Durable, Outcome, Settings, Subscription},
    model::{Identity, Position, Timestamp},
};

/// Delivers and acknowledges `count` events behind `stuck` ones that nobody can have yet.
fn work(stuck: u64, count: u64) -> Duration {
    let settings = Settings { window_limit: 1_000_000, ..Settings::default() };
    let mut machine = Subscription::restore(Durable::default(), settings, 1, Timestamp::EPOCH);
    keep(&mut machine);
    let now = Timestamp::from_micros(1);
    for name in 0..16 {
        let credit = Credit { events: 100, bytes: u64::MAX };
        machine.join(&format!("c{name}").into(), 1, credit, None, now).unwrap();
    }
    let person =
        |id: u64| [Identity { namespace: "ECID".into(), id: id.to_string().into(), primary: true }];
    for number in 1..=stuck {
        // One lane; its first event is with a consumer that does not answer.
        let position = Position::new(number);
        machine.enter(&Arrival { position, identities: &person(0), bytes: 100, digest: 0 });
    }
    assert_eq!(machine.deliver(now, 10).len(), usize::from(stuck > 0));
    let begin = Instant::now();
    for number in stuck + 1..=stuck + count {
        let position = Position::new(number);
        machine.enter(&Arrival {
            position,
            identities: &person(1 + number % 1000),
            bytes: 100,
            digest: 0,
        });
        for delivery in machine.deliver(now, 100) {
            machine.apply(delivery.lease, Outcome::Ack, now);
        }
        keep(&mut machine);
    }
    machine.raise_floor();
    assert_eq!(machine.figures(now).resolved_total, count);
    begin.elapsed()
}

#[test]
fn a_full_window_costs_no_more_than_an_empty_one() {
    let (empty, full) = (work(0, 20_000), work(200_000, 20_000));
    println!("20 000 events: {empty:?} in an empty window, {full:?} behind 200 000");
    // A scan of the window would take some thousand times as long.
    assert!(full < empty * 20 + Duration::from_secs(1), "{full:?} and {empty:?}");
}
