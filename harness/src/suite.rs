//! Many runs that belong together: the file that asks for them, their plan, the playing, and the result.
//!
//! Does not know how a run is made; see [`play::CaseRunner`]. What a result is worth is the gate's and the reports'.

pub mod shapes;
pub mod glob;
pub mod spec;
pub(crate) mod choice;
pub mod plan;
pub mod outcome;
pub mod case;
pub mod event;
pub mod store;
pub mod play;
pub mod merge;

pub use spec::{Chosen, Suite, load};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod sample;
