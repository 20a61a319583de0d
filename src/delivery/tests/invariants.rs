//! The invariants, one test each. Every schedule is also checked step by step; see [`Simulation::run`].

use proptest::prelude::*;

use super::{
    keep,
    simulation::{Simulation, Step, any_settings, default_order, steps, steps_and_seeks},
};
use crate::{
    delivery::{
        Arrival, Credit, Durable, Ordering, Outcome, ParkPolicy, ParkedState, SeekTarget, Settings,
        Subscription,
    },
    model::{Position, Timestamp},
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn i1_the_floor_never_passes_an_event_that_is_not_done(
        settings in any_settings(),
        steps in steps(),
    ) {
        let mut simulation = Simulation::new(settings);
        for step in steps {
            // The floor may rise at any time.
            simulation.run(vec![step, Step::RaiseFloor]);
        }
    }

    #[test]
    fn i2_parking_and_replaying_never_move_the_floor_back_or_elsewhere(
        settings in any_settings(),
        steps in steps(),
    ) {
        let mut simulation = Simulation::new(settings);
        for step in steps {
            simulation.run(vec![Step::RaiseFloor]);
            let before = simulation.kept.floor;
            let replays = matches!(step, Step::Replay(..) | Step::Discard(_));
            simulation.run(vec![step]);
            let after = simulation.kept.floor;
            let stayed = after == before || (!replays && after > before);
            prop_assert!(stayed, "{before} became {after}");
        }
    }

    #[test]
    fn i4_a_cursor_passes_what_does_not_match_or_is_gone(
        settings in any_settings(),
        steps in steps(),
        gap in 1..1000_u64,
    ) {
        let mut simulation = Simulation::new(settings);
        simulation.run(steps);
        simulation.log.extend((0..gap).map(|_| None));
        simulation.finish();
        prop_assert_eq!(simulation.kept.floor.get(), simulation.log.len() as u64);
    }

    #[test]
    fn i6_scanning_alone_moves_the_floor(to in 1..10_000_u64, settings in any_settings()) {
        let mut machine = Subscription::restore(Durable::default(), settings, 1, Timestamp::EPOCH);
        machine.scanned(Position::new(to));
        prop_assert_eq!(machine.floor(), Position::new(to));
        machine.raise_floor();
        prop_assert_eq!(machine.durable().floor, Position::new(to));
    }

    #[test]
    fn i7_a_consumer_that_does_nothing_holds_up_only_what_it_has(
        settings in default_order(),
        count in 10..60_usize,
        stuck in 1..5_u32,
    ) {
        let settings = Settings { window_limit: 1000, ..settings };
        let mut machine =
            Subscription::restore(Durable::default(), settings, 1, Timestamp::EPOCH);
        let now = Timestamp::from_micros(1);
        let credit = |events| Credit { events, bytes: u64::MAX };
        machine.join(&"stuck".into(), 1, credit(stuck), None, now).unwrap();
        let active = machine.join(&"active".into(), 1, credit(1), None, now).unwrap().consumer;
        for number in 1..=count as u64 {
            // Everybody is another person.
            let identities = [crate::model::Identity {
                namespace: "ECID".into(),
                id: number.to_string().into(),
                primary: true,
            }];
            let position = Position::new(number);
            machine.enter(&Arrival { position, identities: &identities, bytes: 10, digest: 0 });
        }
        let mut done = 0;
        loop {
            keep(&mut machine);
            let deliveries = machine.deliver(now, 100);
            let to_active: Vec<_> = deliveries.iter().filter(|it| it.consumer == active).collect();
            if to_active.is_empty() {
                break;
            }
            for delivery in to_active {
                machine.apply(delivery.lease, Outcome::Ack, now);
                done += 1;
            }
        }
        let held = usize::try_from(stuck).unwrap();
        prop_assert_eq!(done, count - held.min(count));
    }

    #[test]
    fn i8_what_notes_come_to_is_what_survives(
        settings in any_settings(),
        steps in steps_and_seeks(),
    ) {
        let mut simulation = Simulation::new(settings);
        for step in steps {
            simulation.run(vec![step]);
            let before = simulation.kept.clone();
            simulation.kill();
            simulation.keep_notes();
            let after = &simulation.kept;
            prop_assert_eq!(before.generation + 1, after.generation);
            prop_assert_eq!(&before.attempts, &after.attempts);
            prop_assert_eq!(&before.parked, &after.parked);
            prop_assert_eq!(&before.resolved, &after.resolved);
        }
    }

    #[test]
    fn i9_an_acknowledged_event_never_comes_again(
        settings in any_settings(),
        steps in steps(),
    ) {
        let mut simulation = Simulation::new(settings);
        simulation.run(steps);
        simulation.finish();
        let history = &simulation.history;
        for said in history.said.iter().filter(|it| it.word == super::judge::Word::Ack) {
            let later = history.seen.iter().filter(|it| it.position == said.position);
            if said.result == super::judge::Verdict::Done {
                prop_assert!(later.clone().all(|it| it.at <= said.sent), "{said:?}");
            }
        }
    }

    #[test]
    fn i10_counters_are_what_they_count(settings in any_settings(), steps in steps_and_seeks()) {
        let mut simulation = Simulation::new(settings);
        for step in steps {
            simulation.run(vec![step]); // compares leases, bytes and retries
            let figures = simulation.machine.figures(simulation.now);
            let in_flight: u32 = figures.consumers.iter().map(|it| it.in_flight.events).sum();
            prop_assert_eq!(figures.in_flight, usize::try_from(in_flight).unwrap());
            let parked = simulation.kept.parked.values();
            let waiting = parked.filter(|it| it.state == ParkedState::Waiting).count();
            prop_assert_eq!(figures.parked, waiting);
        }
    }

    #[test]
    fn i11_what_is_refused_changes_nothing(settings in any_settings(), steps in steps()) {
        let mut simulation = Simulation::new(settings);
        simulation.run(steps);
        let before = format!("{:?}", simulation.machine);
        let machine = &mut simulation.machine;
        let nowhere = Position::new(1_000_000);
        prop_assert!(!machine.seek(&SeekTarget::Saved("nowhere".into()), simulation.now));
        prop_assert!(!machine.discard(nowhere));
        prop_assert!(!machine.forget(&"nowhere".into()));
        prop_assert_eq!(machine.replay(nowhere, true), 0);
        prop_assert_eq!(before, format!("{machine:?}"));
    }

    #[test]
    fn i12_lanes_are_delivered_in_order(settings in default_order(), steps in steps_and_seeks()) {
        let mut simulation = Simulation::new(settings);
        simulation.run(steps);
        simulation.judge();
    }

    #[test]
    fn i12_lanes_are_delivered_in_order_whatever_the_settings(
        settings in any_settings(),
        steps in steps_and_seeks(),
    ) {
        let mut simulation = Simulation::new(settings);
        simulation.run(steps);
        simulation.judge();
    }

    #[test]
    fn i12_no_delivery_rests_on_what_a_crash_could_take_back(
        settings in any_settings(),
        steps in steps_and_seeks(),
    ) {
        let mut simulation = Simulation::new(settings);
        simulation.lazy = true;
        simulation.run(steps); // looks at every delivery
    }

    #[test]
    fn i15_a_late_outcome_is_refused_and_changes_nothing(
        settings in any_settings(),
        steps in steps_and_seeks(),
    ) {
        let mut simulation = Simulation::new(settings);
        for step in steps {
            simulation.run(vec![step]);
            for at in 0..simulation.leases.len() {
                simulation.step(Step::Late(at)); // asserts both
            }
        }
    }

    #[test]
    fn i16_every_matching_event_is_delivered_or_parked(
        settings in any_settings(),
        steps in steps(),
    ) {
        let mut simulation = Simulation::new(settings);
        simulation.run(steps);
        simulation.finish();
        simulation.judge();
        prop_assert_eq!(simulation.machine.figures(simulation.now).unresolved, 0);
        prop_assert!(simulation.kept.resolved.is_empty());
    }

    #[test]
    fn a_blocked_lane_waits_for_a_person(steps in steps(), settings in any_settings()) {
        let settings = Settings {
            ordering: Ordering::PerIdentity,
            park_policy: ParkPolicy::Block,
            max_in_flight_per_lane: 1,
            ..settings
        };
        let mut simulation = Simulation::new(settings);
        for step in steps {
            let seen = simulation.history.seen.len();
            let delivers = matches!(step, Step::Deliver(_));
            let holding: Vec<_> = simulation
                .kept
                .parked
                .iter()
                .filter(|it| it.1.state == ParkedState::Waiting)
                .map(|(position, it)| (*position, it.lanes.clone()))
                .collect();
            simulation.run(vec![step]);
            if !delivers {
                continue;
            }
            for seen in &simulation.history.seen[seen..] {
                let position = Position::new(seen.position);
                let lanes = &simulation.machine.entries.get(position).unwrap().lanes;
                let behind = holding.iter().find(|(parked, held)| {
                    *parked < position && held.iter().any(|it| lanes.contains(it))
                });
                prop_assert!(behind.is_none(), "{position} went past {behind:?}");
            }
        }
    }
}
