//! The pods, nodes and addresses among which faults are made and measured.
//!
//! A snapshot: whoever brings pods up, replaces them or sees them replaced makes a new one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use gauntlet_probes::entity::{PodName, ServiceName};

use crate::target::kind::access::ClusterAccess;
use crate::target::{NodeHandle, PodHandle};

/// What exists around a fault.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// All pods.
    pub pods: Vec<PodHandle>,
    /// All nodes; with them, faults can work at the node's end of a pod's link.
    pub nodes: Vec<NodeHandle>,
    /// Virtual addresses by service. A pod that calls a service sends to these; translation happens in its node.
    pub virtual_ips: BTreeMap<ServiceName, Vec<Ipv4Addr>>,
    /// How the cluster's API is reached; `None`: this is no Kubernetes cluster.
    pub kubernetes: Option<ClusterAccess>,
}

impl Surroundings {
    /// The pod of this name.
    #[must_use]
    pub fn pod(&self, name: &PodName) -> Option<&PodHandle> {
        self.pods.iter().find(|pod| pod.name == *name)
    }

    /// The pods of a service.
    pub fn pods_of<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = &'a PodHandle> {
        self.pods.iter().filter(move |pod| pod.service == *service)
    }

    /// Every address that packets to or from a service can bear, sorted.
    #[must_use]
    pub fn addresses_of(&self, service: &ServiceName) -> Vec<Ipv4Addr> {
        let virtual_ips = self.virtual_ips.get(service).into_iter().flatten().copied();
        let mut addresses: Vec<_> = self.pods_of(service).map(|pod| pod.ip).chain(virtual_ips).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }
}
