//! Judges frames: `step(frame)` to ranked suspects. Pure: no I/O, no clock, no randomness, and no way to the truth.
//!
//! Modules in the order of the data: a frame's numbers ([`signal`]), what is now and what is usual ([`window`],
//! [`memory`]), who calls whom ([`topology`]), one moment ready to be judged ([`scene`]), what is unusual ([`anomaly`]),
//! what callees explain ([`residual`]), rules ([`evidence`]), what the affected have in common ([`commonality`]), what
//! explains what ([`mechanism`]), beliefs over time ([`rank`]) and what is said ([`pipeline`], [`diagnosis`]); what
//! others may be fed ([`feed`]). The naive rivals ([`baseline`]) judge the same scenes. For proofs, the judge can be made
//! worse ([`weakness`]).

pub mod inventory;
pub mod signal;
pub mod window;
pub mod topology;
pub mod memory;
pub mod scene;
pub mod anomaly;
pub mod residual;
pub mod evidence;
pub mod commonality;
pub mod rank;
pub mod mechanism;
pub mod diagnosis;
pub mod weakness;
pub mod feed;
pub mod pipeline;
pub mod baseline;
