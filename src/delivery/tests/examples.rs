//! What the settings mean, by example.

use std::time::Duration;

use super::keep;
use crate::{
    delivery::{Answer, SeekTarget},
    delivery::{
        Arrival, Backoff, ConsumerId, Credit, Current, Delivery, Durable, FailureKind, Hold,
        NoLanePolicy, Ordering, Outcome, ParkPolicy, ParkedBy, ParkedChange, ParkedFull, Settings,
        Standing, Subscription,
    },
    model::{Identity, Position, Timestamp, limits},
};

struct Example {
    machine: Subscription,
    now: Timestamp,
}

fn at(position: u64) -> Position {
    Position::new(position)
}

impl Example {
    fn new(settings: Settings) -> Self {
        let now = Timestamp::from_micros(1_000_000);
        let machine = Subscription::restore(Durable::default(), settings, 3, Timestamp::EPOCH);
        Self { machine, now }
    }

    fn join(&mut self, name: &str, events: u32) -> ConsumerId {
        let credit = Credit { events, bytes: 1000 };
        self.machine.join(&name.into(), 1, credit, None, self.now).unwrap().consumer
    }

    /// An event about these people.
    fn enter(&mut self, position: u64, people: &[&str]) {
        let identities: Vec<_> = people
            .iter()
            .map(|it| Identity { namespace: "ECID".into(), id: (*it).into(), primary: false })
            .collect();
        let position = at(position);
        self.machine.enter(&Arrival { position, identities: &identities, bytes: 100, digest: 0 });
    }

    fn deliver(&mut self) -> Vec<Delivery> {
        keep(&mut self.machine);
        self.machine.wake(self.now);
        self.machine.deliver(self.now, 100)
    }

    #[track_caller]
    fn delivers(&mut self, expected: &[u64]) -> Vec<Delivery> {
        let deliveries = self.deliver();
        let positions: Vec<_> = deliveries.iter().map(|it| it.lease.position.get()).collect();
        assert_eq!(positions, expected);
        deliveries
    }

    fn ack(&mut self, delivery: &Delivery) -> Answer {
        self.machine.apply(delivery.lease, Outcome::Ack, self.now)
    }

    fn nack(&mut self, delivery: &Delivery) {
        let nack = Outcome::Nack { delay: Some(Duration::ZERO), reason: "busy".into() };
        assert_eq!(self.machine.apply(delivery.lease, nack, self.now), Answer::Done);
        keep(&mut self.machine);
        self.machine.wake(self.now);
    }

    fn park(&mut self, delivery: &Delivery) {
        let park = Outcome::Park { reason: "odd".into() };
        assert_eq!(self.machine.apply(delivery.lease, park, self.now), Answer::Done);
    }

    fn wait(&mut self, duration: Duration) {
        self.now = self.now.plus(duration);
        self.machine.expire(self.now);
        self.machine.wake(self.now);
    }
}

#[test]
fn an_event_of_two_people_waits_for_both() {
    let mut it = Example::new(Settings::default());
    it.join("a", 10);
    it.enter(1, &["x"]);
    it.enter(2, &["y"]);
    it.enter(3, &["x", "y"]);
    it.enter(4, &["z"]);
    let first = it.delivers(&[1, 2, 4]);
    it.ack(&first[0]);
    it.delivers(&[]);
    assert!(
        matches!(it.machine.explain(at(3)), Standing::Behind { position, .. } if position == at(2))
    );
    it.ack(&first[1]);
    it.delivers(&[3]);
}

#[test]
fn a_failed_event_keeps_its_lane_and_comes_back_counted() {
    let mut it = Example::new(Settings::default());
    it.join("a", 10);
    it.enter(1, &["x"]);
    it.enter(2, &["x"]);
    let first = it.delivers(&[1]);
    it.nack(&first[0]);
    let again = it.delivers(&[1]);
    assert_eq!((again[0].attempt, again[0].failures.len()), (2, 1));
    assert_eq!(again[0].failures[0].kind, FailureKind::Nacked);
    assert_eq!(again[0].first_delivered_at, first[0].first_delivered_at);
    assert_eq!(it.ack(&first[0]), Answer::Stale(Current::InFlight));
    it.wait(Duration::from_secs(31));
    assert!(matches!(it.machine.explain(at(1)), Standing::RetryAt(_)));
    it.delivers(&[]);
    it.wait(Duration::from_secs(3));
    assert_eq!(it.delivers(&[1])[0].attempt, 3);
}

#[test]
fn waits_double_up_to_a_bound_and_differ_between_events() {
    let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_mins(1) };
    let wait = |failures, position| {
        backoff.next(failures, Timestamp::EPOCH, at(position), 5).since(Timestamp::EPOCH)
    };
    for failures in 1..40 {
        let exact = Duration::from_secs(1 << (failures - 1).min(6)).min(Duration::from_mins(1));
        let found = wait(failures, 1);
        assert!(found >= exact * 8 / 10 && found <= exact * 12 / 10, "{failures}: {found:?}");
    }
    let waits: std::collections::BTreeSet<_> = (0..100).map(|it| wait(1, it)).collect();
    assert!(waits.len() > 50);
}

#[test]
fn after_the_last_attempt_it_is_parked_and_its_lane_goes_on() {
    let mut it = Example::new(Settings { max_attempts: 2, ..Settings::default() });
    it.join("a", 10);
    it.enter(1, &["x"]);
    it.enter(2, &["x"]);
    let first = it.delivers(&[1]);
    it.nack(&first[0]);
    let second = it.delivers(&[1]);
    it.nack(&second[0]);
    it.delivers(&[2]);
    let parked = &it.machine.durable().parked[&at(1)];
    assert_eq!((parked.by, parked.attempts.total), (ParkedBy::MaxAttempts, 2));
    assert_eq!(it.machine.floor(), at(1));
}

#[test]
fn a_replayed_event_begins_anew_and_moves_no_floor() {
    let mut it = Example::new(Settings { max_attempts: 1, ..Settings::default() });
    it.join("a", 10);
    it.enter(1, &["x"]);
    let first = it.delivers(&[1]);
    it.nack(&first[0]);
    it.machine.raise_floor();
    assert_eq!(it.machine.durable().floor, at(1));
    assert_eq!(it.machine.replay(at(1), true), 1);
    let again = it.delivers(&[1]);
    assert_eq!((again[0].attempt, again[0].total_attempts, again[0].replay), (1, 2, true));
    assert_eq!(it.machine.durable().floor, at(1));
    it.ack(&again[0]);
    assert!(it.machine.durable().parked.is_empty());
}

#[test]
fn a_blocked_lane_goes_on_when_the_parked_event_is_given_up() {
    let mut it = Example::new(Settings { park_policy: ParkPolicy::Block, ..Settings::default() });
    it.join("a", 10);
    it.enter(1, &["x"]);
    it.enter(2, &["x"]);
    it.enter(3, &["y"]);
    let first = it.delivers(&[1, 3]);
    it.park(&first[0]);
    it.delivers(&[]);
    assert_eq!(it.machine.blocked_lanes(10).len(), 1);
    assert!(it.machine.discard(at(1)));
    it.delivers(&[2]);
    assert!(it.machine.blocked_lanes(10).is_empty());
}

#[test]
fn a_convoy_is_parked_and_replayed_together() {
    let mut it = Example::new(Settings { park_policy: ParkPolicy::Convoy, ..Settings::default() });
    it.join("a", 10);
    it.enter(1, &["x"]);
    it.enter(2, &["x", "y"]);
    it.enter(3, &["y"]);
    it.enter(4, &["z"]);
    let first = it.delivers(&[1, 4]);
    it.park(&first[0]);
    it.ack(&first[1]);
    it.machine.park_some(it.now, 10);
    it.delivers(&[]);
    assert_eq!(it.machine.durable().parked.len(), 3);
    assert_eq!(it.machine.durable().parked[&at(3)].by, ParkedBy::Convoy(at(1)));
    assert_eq!(it.machine.durable().parked[&at(2)].hold, Hold::Convoy(at(1)));
    assert_eq!(it.machine.floor(), at(4));
    assert_eq!(it.machine.replay(at(1), true), 3);
    for expected in 1..=3 {
        let next = it.delivers(&[expected]);
        it.ack(&next[0]);
    }
    it.enter(5, &["x"]);
    it.delivers(&[5]);
}

#[test]
fn events_without_a_lane_are_free_together_or_parked() {
    for (no_lane_policy, delivered, parked) in [
        (NoLanePolicy::Unordered, vec![1, 2], 0),
        (NoLanePolicy::SingleLane, vec![1], 0),
        (NoLanePolicy::Park, vec![], 2),
    ] {
        let mut it = Example::new(Settings { no_lane_policy, ..Settings::default() });
        it.join("a", 10);
        it.enter(1, &[]);
        it.enter(2, &[]);
        it.machine.park_some(it.now, 10);
        it.delivers(&delivered);
        assert_eq!(it.machine.durable().parked.len(), parked);
    }
}

#[test]
fn several_of_a_lane_go_to_one_consumer_and_a_failure_takes_back_the_later_ones() {
    let mut it = Example::new(Settings { max_in_flight_per_lane: 3, ..Settings::default() });
    it.join("a", 10);
    it.join("b", 10);
    for position in 1..=4 {
        it.enter(position, &["x"]);
    }
    let first = it.delivers(&[1, 2, 3]);
    assert!(first.iter().all(|delivery| delivery.consumer == first[0].consumer));
    it.nack(&first[0]);
    assert_eq!(it.ack(&first[1]), Answer::Stale(Current::Waiting));
    let again = it.delivers(&[1, 2, 3]);
    // The later ones did not fail themselves.
    assert_eq!((again[0].attempt, again[1].attempt), (2, 1));
}

#[test]
fn when_an_event_was_acknowledged_is_remembered_for_a_while() {
    let mut it = Example::new(Settings { ordering: Ordering::Unordered, ..Settings::default() });
    it.join("a", 1);
    let acked_at = |it: &Example, position| {
        let found = it.machine.explain(at(position));
        let Standing::Done { acked_at } = found else { panic!("{position} is {found:?}") };
        acked_at
    };
    let mut first = None;
    let last = 1 + u64::try_from(limits::OUTCOMES_KEPT).unwrap();
    for position in 1..=last {
        it.enter(position, &[]);
        let delivered = it.delivers(&[position]);
        it.wait(Duration::from_millis(1));
        it.ack(&delivered[0]);
        assert_eq!(acked_at(&it, position), Some(it.now));
        first.get_or_insert(it.now);
        if position == last - 1 {
            assert_eq!(acked_at(&it, 1), first);
        }
    }
    assert_eq!(acked_at(&it, 1), None);
    // What was skipped was not acknowledged.
    it.enter(last + 1, &[]);
    let delivered = it.delivers(&[last + 1]);
    let skip = Outcome::Skip { reason: "old".into() };
    it.machine.apply(delivered[0].lease, skip, it.now);
    assert!(matches!(it.machine.explain(at(last + 1)), Standing::Skipped(_)));
}

#[test]
fn in_total_order_one_consumer_works_and_may_acknowledge_many_at_once() {
    let settings =
        Settings { ordering: Ordering::Total, max_in_flight_per_lane: 5, ..Settings::default() };
    let mut it = Example::new(settings);
    it.join("a", 10);
    it.join("b", 10);
    for position in 1..=4 {
        it.enter(position, &["whoever"]);
    }
    let first = it.deliver();
    assert_eq!(it.machine.in_flight(), 4);
    assert_eq!(it.machine.ack_up_to(first[0].consumer, at(3), it.now), Some(3));
    assert_eq!(it.machine.floor(), at(3));
    let mut other = Example::new(Settings::default());
    let consumer = other.join("a", 1);
    assert_eq!(other.machine.ack_up_to(consumer, at(1), other.now), None);
}

#[test]
fn a_consumer_that_is_alive_keeps_what_it_has_and_nothing_that_is_over() {
    let mut it = Example::new(Settings { max_attempts: 0, ..Settings::default() });
    let alive = it.join("a", 2);
    for (position, person) in [(1, "x"), (2, "y"), (3, "z")] {
        it.enter(position, &[person]);
    }
    let first = it.delivers(&[1, 2]);
    it.join("b", 1);
    let others = it.delivers(&[3]);
    // One lease lasts for longer than the message would let it.
    let extend = Outcome::Extend(Duration::from_mins(2));
    let until = it.now.plus(Duration::from_mins(2));
    assert_eq!(it.machine.apply(first[1].lease, extend, it.now), Answer::Extended(until));
    it.wait(Duration::from_secs(20));
    it.machine.keep_alive(alive, it.now);
    let deadline = |it: &Example, delivery: &Delivery| {
        it.machine.entries.lease(delivery.lease.position).map(|it| it.deadline)
    };
    assert_eq!(deadline(&it, &first[0]), Some(it.now.plus(Duration::from_secs(30))));
    assert_eq!(deadline(&it, &first[1]), Some(until));
    // Those of somebody else end as they would have.
    it.wait(Duration::from_secs(20));
    assert_eq!(deadline(&it, &others[0]), None);
    assert!(it.machine.is_valid(first[0].lease) && it.machine.is_valid(first[1].lease));
    // What is over stays over, however alive its consumer is.
    it.wait(Duration::from_secs(11));
    it.machine.keep_alive(alive, it.now);
    assert_eq!(it.ack(&first[0]), Answer::Stale(Current::Waiting));
    assert_eq!(it.ack(&first[1]), Answer::Done);
}

#[test]
fn a_consumer_has_its_own_deadline_when_it_is_alive_and_none_when_it_is_gone() {
    let mut it = Example::new(Settings::default());
    let consumer = it.join("a", 2);
    it.machine.set_ack_deadline(consumer, Some(Duration::from_secs(100)));
    it.enter(1, &["x"]);
    let first = it.delivers(&[1]);
    it.wait(Duration::from_secs(90));
    it.machine.keep_alive(consumer, it.now);
    it.wait(Duration::from_secs(90));
    assert!(it.machine.is_valid(first[0].lease));
    it.machine.disconnect(consumer, it.now);
    it.machine.keep_alive(consumer, it.now);
    it.wait(Duration::from_secs(11));
    assert!(!it.machine.is_valid(first[0].lease));
}

#[test]
fn credit_bounds_events_and_bytes_and_one_event_always_fits() {
    let mut it = Example::new(Settings::default());
    let credit = Credit { events: 10, bytes: 250 };
    it.machine.join(&"a".into(), 1, credit, None, it.now).unwrap();
    for position in 1..=5 {
        it.enter(position, &[&position.to_string()]);
    }
    let first = it.delivers(&[1, 2]);
    it.ack(&first[0]);
    it.delivers(&[3]);
    let credit = Credit { events: 10, bytes: 10 };
    let mut it = Example::new(Settings::default());
    it.machine.join(&"a".into(), 1, credit, Some(5), it.now).unwrap();
    it.enter(1, &["x"]);
    it.enter(2, &["y"]);
    it.delivers(&[1]);
}

#[test]
fn a_pull_gets_no_more_than_it_asked_for() {
    let mut it = Example::new(Settings::default());
    let credit = Credit { events: 100, bytes: 10_000 };
    it.machine.join(&"a".into(), 1, credit, Some(2), it.now).unwrap();
    for position in 1..=5 {
        it.enter(position, &[&position.to_string()]);
    }
    it.delivers(&[1, 2]);
    it.delivers(&[]);
    it.machine.join(&"a".into(), 1, credit, Some(1), it.now).unwrap();
    it.delivers(&[3]);
}

#[test]
fn a_lane_prefers_a_consumer_as_long_as_that_is_idle() {
    let mut it = Example::new(Settings::default());
    for name in 0..8 {
        it.join(&format!("c{name}"), 5);
    }
    let mut consumers = std::collections::BTreeSet::new();
    for position in 1..=20 {
        it.enter(position, &["x"]);
        let delivery = it.delivers(&[position]).remove(0);
        consumers.insert(delivery.consumer);
        it.ack(&delivery);
    }
    assert_eq!(consumers.len(), 1);
}

#[test]
fn a_client_that_comes_back_keeps_its_leases_and_a_new_instance_does_not() {
    let mut it = Example::new(Settings::default());
    let consumer = it.join("a", 10);
    it.enter(1, &["x"]);
    let first = it.delivers(&[1]);
    it.machine.disconnect(consumer, it.now);
    it.wait(Duration::from_secs(10));
    let credit = Credit { events: 10, bytes: 1000 };
    let joined = it.machine.join(&"a".into(), 1, credit, None, it.now).unwrap();
    assert!(joined.resumed && !joined.replaced);
    let joined = it.machine.join(&"a".into(), 2, credit, None, it.now).unwrap();
    assert!(!joined.resumed && joined.replaced);
    assert!(matches!(it.ack(&first[0]), Answer::Stale(_)));
    it.wait(Duration::from_secs(2));
    assert_eq!(it.delivers(&[1])[0].failures[0].kind, FailureKind::Replaced);
}

#[test]
fn a_consumer_that_leaves_gives_back_what_it_had() {
    let mut it = Example::new(Settings::default());
    let consumer = it.join("a", 10);
    it.enter(1, &["x"]);
    let first = it.delivers(&[1]);
    it.machine.leave(consumer);
    it.join("b", 10);
    assert_eq!(it.delivers(&[1])[0].attempt, 1);
    assert_eq!(it.ack(&first[0]), Answer::Stale(Current::InFlight));
}

#[test]
fn a_draining_consumer_gets_nothing_new() {
    let mut it = Example::new(Settings::default());
    let consumer = it.join("a", 10);
    it.enter(1, &["x"]);
    let first = it.delivers(&[1]);
    it.machine.drain(consumer);
    it.enter(2, &["y"]);
    it.delivers(&[]);
    assert_eq!(it.ack(&first[0]), Answer::Done);
}

#[test]
fn a_consumer_that_lets_its_leases_expire_is_left_out_for_a_while() {
    let settings = Settings { quarantine_after: 2, max_attempts: 0, ..Settings::default() };
    let mut it = Example::new(settings);
    it.join("a", 1);
    it.enter(1, &["x"]);
    it.delivers(&[1]);
    it.wait(Duration::from_secs(31));
    it.wait(Duration::from_secs(2));
    it.delivers(&[1]);
    it.wait(Duration::from_secs(31));
    assert!(it.machine.figures(it.now).consumers[0].quarantined_until.is_some());
    it.enter(2, &["y"]);
    it.delivers(&[]);
    it.join("b", 1);
    it.delivers(&[2]);
    it.wait(Duration::from_secs(2));
    assert!(it.machine.figures(it.now).consumers[0].quarantined_until.is_none());
}

#[test]
fn a_session_ends_after_its_timeout_when_no_lease_is_left() {
    let mut it = Example::new(Settings::default());
    let consumer = it.join("a", 1);
    it.machine.disconnect(consumer, it.now);
    it.wait(Duration::from_secs(29));
    assert_eq!(it.machine.figures(it.now).consumers.len(), 1);
    assert!(it.machine.next_due().is_some());
    it.wait(Duration::from_secs(1));
    assert!(it.machine.figures(it.now).consumers.is_empty());
    assert_eq!(it.machine.next_due(), None);
}

#[test]
fn a_full_window_takes_no_more_and_says_so() {
    let mut it = Example::new(Settings { window_limit: 3, ..Settings::default() });
    it.join("a", 10);
    for position in 1..=3 {
        it.enter(position, &[&position.to_string()]);
    }
    assert!(it.machine.figures(it.now).window_full);
    assert_eq!(it.machine.wanted(), 0);
    let first = it.delivers(&[1, 2, 3]);
    // The first one pins the floor.
    it.ack(&first[1]);
    it.machine.raise_floor();
    assert_eq!(it.machine.room(), 0);
    it.ack(&first[0]);
    it.machine.raise_floor();
    assert_eq!(it.machine.room(), 2);
}

#[test]
fn too_many_parked_events_discard_the_oldest_or_stop_all() {
    for (parked_full, kept, delivered) in
        [(ParkedFull::DiscardOldest, vec![2], vec![3]), (ParkedFull::Stop, vec![1, 2], vec![])]
    {
        let settings = Settings {
            parked_full,
            max_parked: 1,
            ordering: Ordering::Unordered,
            ..Settings::default()
        };
        let mut it = Example::new(settings);
        it.join("a", 2);
        it.enter(1, &[]);
        it.enter(2, &[]);
        it.enter(3, &[]);
        let first = it.delivers(&[1, 2]);
        it.park(&first[0]);
        it.park(&first[1]);
        let parked: Vec<_> = it.machine.durable().parked.keys().map(|it| it.get()).collect();
        assert_eq!(parked, kept);
        it.delivers(&delivered);
    }
}

#[test]
fn a_seek_back_makes_everything_new_and_a_seek_forward_is_remembered() {
    let mut it = Example::new(Settings::default());
    it.join("a", 10);
    for position in 1..=4 {
        it.enter(position, &["x"]);
    }
    let first = it.delivers(&[1]);
    it.machine.save(&"s".into(), it.now);
    it.ack(&first[0]);
    let second = it.delivers(&[2]);
    it.park(&second[0]);
    assert!(it.machine.seek(&SeekTarget::Saved("s".into()), it.now));
    assert!(it.machine.durable().parked.is_empty());
    assert_eq!(it.machine.scanned_to(), Position::START);
    assert!(it.machine.seek(&SeekTarget::After(at(3)), it.now));
    assert!(matches!(it.machine.explain(at(2)), Standing::Skipped(skip) if skip.to == at(3)));
    it.enter(4, &["x"]);
    it.delivers(&[4]);
}

#[test]
fn nothing_is_delivered_while_paused_and_leases_go_on() {
    let mut it = Example::new(Settings::default());
    it.join("a", 10);
    it.enter(1, &["x"]);
    let first = it.delivers(&[1]);
    it.machine.set_paused(true);
    it.enter(2, &["y"]);
    it.delivers(&[]);
    assert_eq!(it.ack(&first[0]), Answer::Done);
    it.machine.set_paused(false);
    it.delivers(&[2]);
}

#[test]
fn other_settings_of_order_look_at_everything_anew_and_keep_what_is_done() {
    let mut it = Example::new(Settings::default());
    it.join("a", 10);
    for position in 1..=3 {
        it.enter(position, &[&position.to_string()]);
    }
    let first = it.delivers(&[1, 2, 3]);
    it.ack(&first[1]);
    it.nack(&first[2]);
    let total = Settings { ordering: Ordering::Total, ..Settings::default() };
    it.machine.update(total, false);
    assert!(matches!(it.ack(&first[0]), Answer::Stale(_)));
    for position in 1..=3 {
        it.enter(position, &[&position.to_string()]);
    }
    it.machine.wake(it.now);
    let next = it.delivers(&[1]);
    it.ack(&next[0]);
    assert_eq!(it.delivers(&[3])[0].attempt, 2);
}

#[test]
fn a_replay_waits_after_a_restart_for_the_events_before_it() {
    let settings = Settings { max_in_flight_per_lane: 2, ..Settings::default() };
    let mut it = Example::new(settings.clone());
    it.join("a", 10);
    it.enter(1, &["x"]);
    it.enter(2, &["x"]);
    let both = it.delivers(&[1, 2]);
    it.park(&both[1]);
    it.machine.replay(at(2), false);
    let kept = it.machine.durable().clone();
    it.machine = Subscription::restore(kept, settings, 3, Timestamp::EPOCH);
    it.join("a", 10);
    it.delivers(&[]);
    it.enter(1, &["x"]);
    let first = it.delivers(&[1]);
    it.ack(&first[0]);
    it.machine.scanned(at(2));
    it.delivers(&[2]);
}

/// Found by `i12_no_delivery_rests_on_what_a_crash_could_take_back`.
#[test]
fn a_replay_that_is_not_kept_is_not_taken_up_by_who_reads_past_it() {
    let mut it = Example::new(Settings::default());
    it.join("a", 10);
    it.enter(1, &["x"]);
    it.enter(2, &["y"]);
    let both = it.delivers(&[1, 2]);
    it.park(&both[1]);
    keep(&mut it.machine);
    let kept = it.machine.durable().clone();
    it.machine = Subscription::restore(kept, Settings::default(), 3, Timestamp::EPOCH);
    it.join("a", 10);
    it.delivers(&[]);
    it.machine.replay(at(2), true);
    it.enter(1, &["x"]);
    it.machine.scanned(at(2));
    let now: Vec<_> =
        it.machine.deliver(it.now, 10).iter().map(|it| it.lease.position.get()).collect();
    assert_eq!(now, [1], "a crash could take the replay back");
    it.delivers(&[2]);
    it.delivers(&[]);
}

#[test]
fn a_consumer_is_drained_when_it_has_been_answered() {
    let mut it = Example::new(Settings::default());
    let a = it.join("a", 10);
    it.enter(1, &["x"]);
    let first = it.delivers(&[1]);
    it.machine.drain(a);
    assert!(!it.machine.is_drained(a));
    it.ack(&first[0]);
    assert!(!it.machine.is_drained(a), "the ack may still fail to be kept");
    drop(it.machine.take_notes());
    assert!(!it.machine.is_drained(a));
    it.machine.kept();
    assert!(it.machine.is_drained(a));
}

#[test]
fn after_a_restart_nothing_is_delivered_until_the_grace_is_over() {
    let mut it = Example::new(Settings::default());
    let opens_at = it.now.plus(Duration::from_secs(5));
    it.machine = Subscription::restore(Durable::default(), Settings::default(), 3, opens_at);
    it.join("a", 10);
    it.enter(1, &["x"]);
    it.delivers(&[]);
    assert_eq!(it.machine.next_due(), Some(opens_at));
    it.wait(Duration::from_secs(5));
    it.delivers(&[1]);
    assert_ne!(it.machine.next_due(), Some(opens_at));
}

#[test]
fn what_becomes_of_parked_events_is_told_once_it_is_kept() {
    let mut it = Example::new(Settings::default());
    it.join("a", 10);
    it.enter(1, &["x"]);
    it.enter(2, &["y"]);
    let first = it.delivers(&[1, 2]);
    it.park(&first[0]);
    it.ack(&first[1]);
    let told = |it: &mut Example| {
        drop(it.machine.take_notes());
        it.machine.kept()
    };
    assert_eq!(told(&mut it), [(at(1), ParkedChange::Parked)]);
    assert!(told(&mut it).is_empty());
    assert_eq!(it.machine.replay(at(1), true), 1);
    // Not even what begins anew in between takes it back.
    it.machine.update(Settings { ordering: Ordering::Total, ..Settings::default() }, false);
    assert_eq!(told(&mut it), [(at(1), ParkedChange::Replayed)]);
    let again = it.delivers(&[1]);
    it.ack(&again[0]);
    assert_eq!(told(&mut it), [(at(1), ParkedChange::Resolved)]);
    it.enter(3, &["z"]);
    let last = it.delivers(&[3]);
    it.park(&last[0]);
    assert!(it.machine.discard(at(3)));
    assert_eq!(told(&mut it), [(at(3), ParkedChange::Parked), (at(3), ParkedChange::Discarded)]);
}

#[test]
fn a_consumers_own_deadline_counts_for_what_it_is_given() {
    let mut it = Example::new(Settings::default());
    let consumer = it.join("a", 10);
    it.machine.set_ack_deadline(consumer, Some(Duration::from_secs(3)));
    it.enter(1, &["x"]);
    assert_eq!(it.delivers(&[1])[0].deadline, it.now.plus(Duration::from_secs(3)));
    it.machine.set_ack_deadline(consumer, None);
    it.enter(2, &["y"]);
    assert_eq!(it.delivers(&[2])[0].deadline, it.now.plus(Settings::default().ack_deadline));
}
