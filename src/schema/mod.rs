//! The schema registry's rules.
