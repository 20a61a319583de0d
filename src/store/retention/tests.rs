//! What rules say, without a disk and without a clock.

use super::*;

const NONE: Due = NO_RULES;

/// Runs of `(last position, events, bytes, second in which the latest happened)`.
fn check(rules: Due, runs: &[(u64, u64, u64, i64)], expected: Option<u64>) {
    let due_now = Due {
        events: runs.iter().map(|it| it.1).sum(),
        payload_bytes: runs.iter().map(|it| it.2).sum(),
        ..rules
    };
    let runs = runs.iter().map(|(last, events, payload_bytes, second)| {
        Ok(Run {
            last: Position::new(*last),
            events: *events,
            payload_bytes: *payload_bytes,
            happened: Timestamp::new(*second, 0),
        })
    });
    let found = due(due_now, runs).unwrap().map(Position::get);
    assert_eq!(found, expected, "{due_now:?}");
}

const SINGLES: &[(u64, u64, u64, i64)] =
    &[(2, 1, 10, 100), (4, 1, 10, 300), (5, 1, 10, 200), (9, 1, 10, 400)];
const RUNS: &[(u64, u64, u64, i64)] = &[(5, 3, 30, 300), (9, 1, 10, 400)];

#[test]
fn without_rules_nothing_goes() {
    check(NONE, SINGLES, None);
    check(NONE, &[], None);
}

#[test]
fn what_is_too_old_goes() {
    for (until, expected) in [(1, None), (2, Some(2)), (4, Some(4)), (8, Some(5)), (9, Some(9))] {
        check(Due { recorded_until: Position::new(until), ..NONE }, SINGLES, expected);
    }
    check(Due { recorded_until: Position::new(4), ..NONE }, RUNS, None);
    check(Due { recorded_until: Position::new(5), ..NONE }, RUNS, Some(5));
}

#[test]
fn by_event_time_the_oldest_run_goes_that_is_all_too_old() {
    let before = |second| Due { happened_before: Timestamp::new(second, 0), ..NONE };
    check(before(100), SINGLES, None);
    check(before(101), SINGLES, Some(2));
    // The one at 5 is too old, but the one before it is not.
    check(before(250), SINGLES, Some(2));
    check(before(301), SINGLES, Some(5));
}

#[test]
fn the_newest_stay_by_number_and_by_bytes() {
    let most = |max_events| Due { max_events: Some(max_events), ..NONE };
    for (max, expected) in [(4, None), (3, Some(2)), (1, Some(5)), (0, Some(9))] {
        check(most(max), SINGLES, expected);
    }
    check(most(2), RUNS, None);
    check(most(1), RUNS, Some(5));
    let most = |max_bytes| Due { max_bytes: Some(max_bytes), ..NONE };
    for (max, expected) in [(40, None), (39, Some(2)), (30, Some(2)), (29, Some(4)), (9, Some(9))] {
        check(most(max), SINGLES, expected);
    }
    check(most(11), RUNS, None);
    check(most(10), RUNS, Some(5));
}

#[test]
fn rules_add_up() {
    let both = Due { recorded_until: Position::new(2), max_events: Some(2), ..NONE };
    check(both, SINGLES, Some(4));
}

#[test]
fn a_rule_that_cannot_be_is_refused() {
    let age = |secs| Retention { max_age: Some(Duration::from_secs(secs)), ..Retention::default() };
    for (retention, sound) in [
        (Retention::default(), true),
        (age(1), true),
        (age(limits::RETENTION_AGE_SECONDS_MAX), true),
        (age(0), false),
        (age(limits::RETENTION_AGE_SECONDS_MAX + 1), false),
        (Retention { age_by: AgeBy::EventTime, ..Retention::default() }, false),
        (Retention { age_by: AgeBy::EventTime, ..age(1) }, true),
        (Retention { max_events: u64::MAX, max_bytes: 1, ..Retention::default() }, true),
    ] {
        assert_eq!(retention.check().is_ok(), sound, "{retention:?}");
    }
}
