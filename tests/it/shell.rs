//! The shell page.
