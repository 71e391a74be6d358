//! Names of the things that can be observed or blamed, and the inventory that a cluster's API gives of them.
//!
//! The inventory is all that a detector is told: which pods, nodes and services exist and what addresses they have.
//! It says nothing of scenarios, faults, calls or what a service is for.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps `name`; any non-empty string that the cluster uses is a name.
            #[must_use]
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    };
}

name_type! {
    /// Name of a pod, unique in its cluster, for example `cache-1`.
    PodName
}
name_type! {
    /// Name of a node, for example `node-2`.
    NodeName
}
name_type! {
    /// Name of a service: of the workload whose replicas are pods, for example `cache`.
    ServiceName
}

/// One line of the inventory stream (NDJSON on the detector's standard input).
///
/// The stream opens with what exists, then [`InventoryLine::Ready`], then changes as they come. A line for a name that
/// is already known replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum InventoryLine {
    /// A node exists or changed.
    Node(NodeInfo),
    /// A pod exists or changed.
    Pod(PodInfo),
    /// A service exists or changed.
    Service(ServiceInfo),
    /// A pod is gone.
    PodGone {
        /// Its name.
        name: PodName,
    },
    /// A service is gone.
    ServiceGone {
        /// Its virtual name, as in [`ServiceInfo::name`].
        name: String,
    },
    /// All that existed at the start has been said.
    Ready {
        /// Version of this protocol; 1 now.
        version: u32,
    },
}

/// A node, as a cluster API knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeInfo {
    /// Its name.
    pub name: NodeName,
    /// Its addresses on the cluster network.
    pub ips: Vec<IpAddr>,
    /// Inode of its network namespace, where the runtime knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
    /// Path of its cgroup below each hierarchy's root, for example `/gauntlet-1f3a/node-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// A pod, as a cluster API and container runtime know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodInfo {
    /// Its name.
    pub name: PodName,
    /// The service (workload) whose replica it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The node on which it runs.
    pub node: NodeName,
    /// Its address.
    pub ip: IpAddr,
    /// Inode of its network namespace, where the runtime knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
    /// Path of its cgroup below each hierarchy's root, for example `/gauntlet-1f3a/node-1/cache-0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// A virtual address that is balanced over pods, as a cluster API knows it (a Kubernetes Service and its endpoints).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceInfo {
    /// Its own name. Several may lead to pods of one workload: `cache`, and `cache-0` for its first replica alone.
    pub name: String,
    /// Its virtual address.
    pub cluster_ip: IpAddr,
    /// Its ports, as callers use them.
    pub ports: Vec<u16>,
    /// The pods behind it.
    pub endpoints: Vec<PodName>,
}

/// One end of an edge, or the place where something was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// A pod of the inventory.
    Pod(PodName),
    /// A node of the inventory.
    Node(NodeName),
    /// A virtual address whose pod could not be told (for example a connection that never opened, to a service of
    /// several endpoints). The text is [`ServiceInfo::name`].
    Service(String),
    /// An address outside the inventory.
    External(IpAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => name.fmt(f),
            Self::Node(name) => name.fmt(f),
            Self::Service(name) => write!(f, "service {name}"),
            Self::External(ip) => ip.fmt(f),
        }
    }
}
