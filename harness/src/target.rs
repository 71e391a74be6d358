//! Where a run takes place. A pod is a handle (network namespace, cgroup, processes), whatever made it.
//!
//! Does not know what will be done to it.

pub mod cluster;
pub mod holder;
pub mod kind;
pub mod local;
pub mod namespace;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use gauntlet_probes::entity::{NodeName, PodName, ServiceName};

pub use self::cluster::Cluster;
use crate::clock::MonotonicNanos;

/// Open descriptor of a network namespace, shared by all who need to enter it.
pub type NetnsFd = Arc<OwnedFd>;

/// What faults and effect probes need of a pod.
#[derive(Clone, Debug)]
pub struct PodHandle {
    /// Its name.
    pub name: PodName,
    /// The service whose replica it is.
    pub service: ServiceName,
    /// The node on which it runs.
    pub node: NodeName,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The port on which it serves.
    pub port: u16,
    /// Its network namespace; `eth0` is its interface there.
    pub netns: NetnsFd,
    /// Inode of that namespace.
    pub netns_inode: u64,
    /// Its cgroup.
    pub cgroup: CgroupPaths,
}

/// What faults and effect probes need of a node.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    /// Its name.
    pub name: NodeName,
    /// Its address on the cluster network.
    pub ip: Ipv4Addr,
    /// Its network namespace.
    pub netns: NetnsFd,
    /// Inode of that namespace.
    pub netns_inode: u64,
    /// Its cgroup.
    pub cgroup: CgroupPaths,
}

/// Something happened to a pod: its processes ended or started, or it is another pod now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNews {
    /// When the harness heard of it, CLOCK_MONOTONIC.
    pub at_ns: MonotonicNanos,
    /// The pod.
    pub pod: PodName,
    /// What, in words.
    pub text: String,
}

/// Directories of one cgroup in each hierarchy. On a pure v2 machine all are the same directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPaths {
    /// Path below each hierarchy's root, for example `/gauntlet-1f3a/node-1/cache-0`.
    pub relative: String,
    /// The v2 directory: identity, pressure, `cgroup.procs`.
    pub unified: PathBuf,
    /// The directory with the CPU limit: `cpu.cfs_quota_us` (v1) or `cpu.max` (v2).
    pub cpu: PathBuf,
    /// The directory with the memory limit: `memory.limit_in_bytes` (v1) or `memory.max` (v2).
    pub memory: PathBuf,
    /// The directory that can freeze: `freezer.state` (v1) or `cgroup.freeze` (v2).
    pub freezer: PathBuf,
}

/// An address as callers dial it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Virtual or pod address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
}
