//! The language against tables of what it should say.

mod operators;
