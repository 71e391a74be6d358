//! Faults of a Kubernetes cluster: objects changed through its API, nodes that are containers of this machine.
//!
//! Every change is data with its undo, read from the live object before anything is done, so that any process that can
//! reach the cluster can undo it. Whether it bites is measured elsewhere; see [`super::effect`].

pub mod api;
pub mod node;
pub mod object;
pub(crate) mod patch;
pub(crate) mod recipe;
pub(crate) mod workload;
