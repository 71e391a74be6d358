//! Gauntlet's harness: scenario → plan → target → workload → injection → recording → checks → score → report.
//!
//! Modules stand in the order of the data. Does not know how a detector thinks.

pub mod app;
pub mod check;
pub mod cli;
pub mod clock;
pub mod detectors;
pub mod doctor;
pub mod fault;
pub mod plan;
pub mod report;
pub mod residue;
pub mod run;
pub mod scenario;
pub mod score;
pub mod target;
pub mod timeline;
pub mod workload;
