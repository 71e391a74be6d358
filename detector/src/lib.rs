//! Judges frames: `step(now, frame)` to ranked suspects. Pure: no I/O, no clock, no randomness, and no way to the truth.

pub mod diagnosis;
