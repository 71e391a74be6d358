//! What is made wrong: each fault injects, is undone, expires by itself, and proves its effect.
//!
//! A fault is planned into steps (data), the steps are journalled, an agent makes and undoes them, and the effect is
//! measured from where the fault's victims stand. Does not know when it is called, nor what the truth file says of it.

pub mod agent;
pub mod control;
pub mod cpu;
pub mod effect;
mod filter;
pub mod flush;
mod handle;
pub mod injection;
pub mod injector;
pub mod journal;
pub mod kind;
pub mod kubernetes;
mod link;
mod loss;
pub mod netns;
pub mod packets;
pub mod process;
pub mod queue;
mod recipe;
pub mod shape;
pub mod step;
pub mod surroundings;
mod tool;

pub(crate) use crate::clock::monotonic_ns as now_ns;
