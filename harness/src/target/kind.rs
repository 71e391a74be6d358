//! A Kubernetes cluster whose nodes are containers of this machine: made by kind, or given.
//!
//! Everything that exists is asked of its API; what faults and probes need beyond that (namespaces, cgroups, processes) is
//! found on this machine, whose kernel all nodes share. Does not know what will be done to it.

pub mod access;
pub mod api;
pub mod permission;
pub mod own_namespace;
pub mod ownership;
pub mod docker;
pub mod image;
