//! The store against a model of itself, and its promises one by one.

mod harness;
mod model;
mod promises;
mod quarantine;
mod trimming;
mod upkeep;
mod verify;
