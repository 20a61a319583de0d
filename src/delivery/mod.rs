//! Delivering: which event of a subscription goes to which consumer, and when.
//!
//! A pure state machine. No I/O, no clock, no randomness: events, outcomes and the time come in as
//! values, deliveries and notes come out. A [`Note`] is a change that must survive; what survives
//! ([`Durable`]) is changed by notes and by nothing else, so replaying them gives it back exactly.
//!
//! Words: a *lane* is one identity; the *window* holds the matching events above the *floor* one by
//! one; a *lease* is the right of one consumer to work on one event until a deadline; *parked* events
//! wait outside the window for a person.

mod admin;
mod consumers;
mod durable;
mod entries;
mod explain;
mod flow;
mod lane;
mod meter;
mod note;
mod outcome;
mod park;
mod pending;
mod position_set;
mod recent;
mod settings;
mod subscription;
#[cfg(test)]
mod tests;
mod timers;

pub use admin::SeekTarget;
pub use consumers::{ConsumerFigures, ConsumerId, Credit, Joined, Refused};
pub use durable::{Attempts, Durable, Parked, ParkedState, Saved, Skip};
pub use explain::{Figures, Standing};
pub use flow::{Arrival, Delivery};
pub use lane::{Hold, Lane};
pub use meter::{Counts, Lately};
pub use note::{Failure, FailureKind, Note, ParkedBy, ParkedChange};
pub use outcome::{Answer, Current, LeaseId, Outcome};
pub use park::PARK_BYTES;
pub use position_set::PositionSet;
pub use settings::{
    Backoff, LaneSelector, NoLanePolicy, Ordering, ParkPolicy, ParkedFull, Settings,
};
pub use subscription::Subscription;
