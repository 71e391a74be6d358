//! A cluster as plans and faults see it: which pods exist, where, and under which addresses.
//!
//! A view of what is there now; keeps nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use gauntlet_probes::entity::{InventoryLine, ServiceName};

use crate::fault::surroundings::Surroundings;
use crate::plan::{PlanInventory, PlanPod};
use crate::target::{Cluster, PodHandle};

/// What a cluster has around its faults: pods, nodes, and every virtual address of each workload.
#[must_use]
pub fn surroundings(cluster: &Cluster) -> Surroundings {
    let pods = cluster.pods();
    let mut virtual_ips: BTreeMap<ServiceName, Vec<Ipv4Addr>> = BTreeMap::new();
    for line in cluster.inventory() {
        let InventoryLine::Service(service) = line else {
            continue;
        };
        let IpAddr::V4(ip) = service.cluster_ip else {
            continue;
        };
        for pod in pods.iter().filter(|pod| service.endpoints.contains(&pod.name)) {
            let known = virtual_ips.entry(pod.service.clone()).or_default();
            if !known.contains(&ip) {
                known.push(ip);
            }
        }
    }
    Surroundings {
        nodes: cluster.nodes(),
        pods,
        virtual_ips,
        kubernetes: cluster.access().cloned(),
    }
}

/// The pods among which a plan chooses.
#[must_use]
pub fn plan_inventory(cluster: &Cluster) -> PlanInventory {
    let pod = |pod: PodHandle| PlanPod {
        name: pod.name,
        service: pod.service,
        node: pod.node,
    };
    PlanInventory {
        pods: cluster.pods().into_iter().map(pod).collect(),
    }
}
