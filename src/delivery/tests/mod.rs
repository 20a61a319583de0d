//! Promises of the state machine, against random schedules and an independent judge.

mod examples;
mod invariants;
#[allow(dead_code, unreachable_pub, reason = "tests over gRPC use the rest")]
#[path = "../../../tests/it/support/judge.rs"]
mod judge;
mod simulation;
mod speed;

use super::Subscription;

/// Keeps what is to be kept.
fn keep(machine: &mut Subscription) {
    drop(machine.take_notes());
    machine.kept();
}
