//! Gauntlet's harness: scenario → plan → target → workload → injection → recording → checks → score → report.
//!
//! Modules stand in the order of the data. Does not know how a detector thinks.

pub mod clock;
pub mod scenario;
pub mod plan;
pub mod app;
pub mod target;
pub mod workload;
pub mod fault;
pub mod residue;
pub mod detectors;
pub mod timeline;
pub mod recording;
pub mod check;
pub mod statistics;
pub mod score;
pub mod suite;
pub mod gate;
pub mod run;
pub mod schema;
pub mod replay;
pub mod corpus;
pub mod executor;
pub mod report;
pub mod doctor;
pub mod cli;
