//! The applications that scenarios run on: their declaration, and the code of their http services.
//!
//! Does not know of faults or detectors.

pub mod dns;
pub mod spec;
