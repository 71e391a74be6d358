//! A Kubernetes cluster whose nodes are containers of this machine: made by kind, or given.
//!
//! Everything that exists is asked of its API; what faults and probes need beyond that (namespaces, cgroups, processes) is
//! found on this machine, whose kernel all nodes share. Does not know what will be done to it.

pub mod name;
pub mod access;
pub mod api;
pub mod permission;
pub mod own_namespace;
pub mod record;
pub mod docker;
pub mod program;
pub mod containers;
pub mod prerequisites;
pub mod config;
pub mod node_image;
pub mod network;
pub mod ready;
pub mod split;
pub mod lifecycle;
pub mod removal;
pub mod ownership;
pub mod leftovers;
