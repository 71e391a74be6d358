//! Many runs as one: what a suite asked for and what came of it.
//!
//! [`outcome`] is what gate, comparison and reports read, whether the runs were live or replayed.

pub mod outcome;
#[cfg(test)]
pub(crate) mod sample;
