//! Eyes: loads the kernel programs, reads their maps each tick, attributes what they saw to pods, and yields [`frame::Frame`]s.
//!
//! Does not know what is normal, what a fault is, or who will look at the frames.

pub mod entity;
pub mod frame;
