//! Whether a run counts: steady state, harm, recovery, validity. Pure functions of measured facts.
//!
//! Never looks at what a detector said: a run is not dropped for that.

pub mod sli;
pub mod validity;
