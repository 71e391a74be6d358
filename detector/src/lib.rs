//! Judges frames: `step(frame)` to ranked suspects. Pure: no I/O, no clock, no randomness, and no way to the truth.
//!
//! Modules in the order of the data: a frame's numbers ([`signal`]), what is now and what is usual ([`window`],
//! [`memory`]), who calls whom ([`topology`]), one moment ready to be judged ([`scene`]), what is unusual ([`anomaly`]),
//! what callees explain ([`residual`]), rules ([`evidence`]), what the affected have in common ([`commonality`]), what
//! explains what ([`mechanism`]), beliefs over time ([`rank`]) and what is said ([`pipeline`], [`diagnosis`]). The naive
//! rivals ([`baseline`]) judge the same scenes.

pub mod anomaly;
pub mod baseline;
pub mod commonality;
pub mod diagnosis;
pub mod evidence;
pub mod inventory;
pub mod mechanism;
pub mod memory;
pub mod pipeline;
pub mod rank;
pub mod residual;
pub mod scene;
pub mod signal;
pub mod topology;
pub mod window;
