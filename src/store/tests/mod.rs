//! The store against a model of itself, and its promises one by one.

mod harness;
mod keeping_alive;
mod model;
mod parking;
mod planning;
mod promises;
mod quarantine;
mod trimming;
mod upkeep;
mod verify;
