//! What the cluster's API said exists, by the indexes that judging needs.

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_probes::entity::{InventoryLine, NodeName, Peer, PodInfo, PodName, ServiceName};

/// Pods, nodes and virtual services.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pods: BTreeMap<PodName, PodInfo>,
    nodes: BTreeSet<NodeName>,
    virtual_services: BTreeMap<String, Vec<PodName>>,
    /// All that existed at the start has been said.
    pub ready: bool,
}

impl Inventory {
    /// Takes in a line of the inventory stream.
    pub fn apply(&mut self, line: &InventoryLine) {
        match line {
            InventoryLine::Node(node) => {
                self.nodes.insert(node.name.clone());
            }
            InventoryLine::Pod(pod) => {
                self.nodes.insert(pod.node.clone());
                self.pods.insert(pod.name.clone(), pod.clone());
            }
            InventoryLine::Service(service) => {
                self.virtual_services
                    .insert(service.name.clone(), service.endpoints.clone());
            }
            InventoryLine::PodGone { name } => {
                self.pods.remove(name);
            }
            InventoryLine::ServiceGone { name } => {
                self.virtual_services.remove(name);
            }
            InventoryLine::Ready { version: _ } => self.ready = true,
        }
    }

    /// All pods, by name.
    pub fn pods(&self) -> impl Iterator<Item = &PodInfo> {
        self.pods.values()
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.iter()
    }

    /// The service whose replica `pod` is; a pod that is nobody's replica is a service of its own.
    #[must_use]
    pub fn service_of(&self, pod: &PodName) -> ServiceName {
        let service = self.pods.get(pod).and_then(|pod| pod.service.clone());
        service.unwrap_or_else(|| ServiceName::new(pod.as_str()))
    }

    /// The pods that `peer` may stand for; none if it lies outside.
    #[must_use]
    pub fn pods_of(&self, peer: &Peer) -> Vec<PodName> {
        match peer {
            Peer::Pod(name) => vec![name.clone()],
            Peer::Service(name) => self.virtual_services.get(name).cloned().unwrap_or_default(),
            Peer::Node(_) | Peer::External(_) => Vec::new(),
        }
    }
}
