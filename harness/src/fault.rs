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

use gauntlet_probes::frame::MonotonicNanos;
use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC, the one clock of a run.
pub(crate) fn now_ns() -> MonotonicNanos {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every kernel has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}
