//! Gauntlet's harness: scenario → plan → target → workload → injection → recording → checks → score → report.
//!
//! Modules stand in the order of the data. Does not know how a detector thinks.

pub mod app;
pub mod target;
pub mod fault;
pub mod residue;
