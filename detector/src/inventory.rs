//! What the cluster's API said exists, by the indexes that judging needs.
//!
//! Of virtual services it also keeps whose they were when they last led anywhere: an address that leads nowhere is still
//! dialled, and whoever is missed there has a name.

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_probes::entity::{InventoryLine, NodeName, Peer, PodInfo, PodName, ServiceInfo, ServiceName};
use gauntlet_probes::frame::MonotonicNanos;

/// Time for which a virtual service that leads somewhere again may still refuse, nanoseconds: every node is told by itself,
/// and what was refused before is remembered for some seconds.
const DESERTED_ECHO_NS: u64 = 5_000_000_000;

/// Pods, nodes and virtual services.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pods: BTreeMap<PodName, PodInfo>,
    nodes: BTreeSet<NodeName>,
    virtual_services: BTreeMap<String, VirtualService>,
    /// When pods that still exist were taken out of the last virtual service that led to them.
    left_ns: BTreeMap<PodName, MonotonicNanos>,
    now_ns: MonotonicNanos,
    /// All that existed at the start has been said.
    pub ready: bool,
}

/// A virtual address, and where it leads.
#[derive(Clone, Debug, Default)]
struct VirtualService {
    ports: Vec<u16>,
    endpoints: Vec<PodName>,
    /// Where it led last, and whose replicas these pods were; `None`: it never led anywhere.
    led_to: Option<(ServiceName, Vec<PodName>)>,
    /// The last frame at which it led nowhere although it once had.
    deserted_ns: Option<MonotonicNanos>,
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
            InventoryLine::Service(service) => self.apply_service(service),
            InventoryLine::PodGone { name } => {
                self.pods.remove(name);
                self.left_ns.remove(name);
            }
            InventoryLine::ServiceGone { name } => {
                self.virtual_services.remove(name);
            }
            InventoryLine::Ready { version: _ } => self.ready = true,
        }
    }

    fn apply_service(&mut self, service: &ServiceInfo) {
        let workload = service
            .endpoints
            .iter()
            .find(|pod| self.pods.contains_key(*pod))
            .map(|pod| self.service_of(pod));
        let known = self.virtual_services.entry(service.name.clone()).or_default();
        known.ports.clone_from(&service.ports);
        let before = std::mem::replace(&mut known.endpoints, service.endpoints.clone());
        if let Some(workload) = workload {
            known.led_to = Some((workload, service.endpoints.clone()));
        }
        for pod in before {
            if !self.is_endpoint(&pod) {
                self.left_ns.insert(pod, self.now_ns);
            }
        }
        self.left_ns.retain(|pod, _| !service.endpoints.contains(pod));
    }

    /// Notes that a frame ended at `now_ns`.
    pub fn note_time(&mut self, now_ns: MonotonicNanos) {
        self.now_ns = now_ns;
        for service in self.virtual_services.values_mut() {
            if service.is_deserted() {
                service.deserted_ns = Some(now_ns);
            } else if service
                .deserted_ns
                .is_some_and(|at_ns| at_ns + DESERTED_ECHO_NS <= now_ns)
            {
                service.deserted_ns = None;
            }
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

    /// All services, sorted: those that have replicas, and those whose virtual address is all that is left of them.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceName> {
        let replicated = self.pods.keys().map(|pod| self.service_of(pod));
        let addressed = self
            .virtual_services
            .values()
            .filter_map(|service| service.led_to.as_ref());
        let all: BTreeSet<ServiceName> = replicated
            .chain(addressed.map(|(workload, _)| workload.clone()))
            .collect();
        all.into_iter().collect()
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
            Peer::Service(name) => self
                .virtual_services
                .get(name)
                .map(|service| service.endpoints.clone())
                .unwrap_or_default(),
            Peer::Node(_) | Peer::External(_) => Vec::new(),
        }
    }

    /// The service whose replicas are, or were last, behind the virtual service `name`.
    #[must_use]
    pub fn behind(&self, name: &str) -> Option<&ServiceName> {
        let (workload, _) = self.virtual_services.get(name)?.led_to.as_ref()?;
        Some(workload)
    }

    /// The pods to which the virtual service `name` led last, while it leads nowhere; `None`: it leads somewhere, or never
    /// did.
    #[must_use]
    pub fn deserted(&self, name: &str) -> Option<&[PodName]> {
        let service = self
            .virtual_services
            .get(name)
            .filter(|service| service.is_deserted())?;
        service.led_to.as_ref().map(|(_, pods)| pods.as_slice())
    }

    /// The virtual service `name` leads nowhere, or some node may not yet know that it leads somewhere again.
    #[must_use]
    pub fn lately_deserted(&self, name: &str) -> bool {
        self.virtual_services
            .get(name)
            .is_some_and(|service| service.is_deserted() || service.deserted_ns.is_some())
    }

    /// Some node may not yet know that a virtual service leads to `pod`.
    #[must_use]
    pub fn lately_found(&self, pod: &PodName) -> bool {
        self.virtual_services
            .values()
            .any(|service| service.deserted_ns.is_some() && service.endpoints.contains(pod))
    }

    /// Some virtual service leads to `pod`.
    #[must_use]
    pub fn is_endpoint(&self, pod: &PodName) -> bool {
        self.virtual_services
            .values()
            .any(|service| service.endpoints.contains(pod))
    }

    /// Since when no virtual service leads to `pod` any more, while others of its service are still led to: it is replaced,
    /// moved or not wanted any more.
    #[must_use]
    pub fn relieved_ns(&self, pod: &PodName) -> Option<MonotonicNanos> {
        let left_ns = *self.left_ns.get(pod)?;
        let workload = self.service_of(pod);
        let mut services = self.virtual_services.values();
        let others = services.any(|service| {
            let same = service.led_to.as_ref().is_some_and(|(name, _)| *name == workload);
            same && !service.endpoints.is_empty()
        });
        others.then_some(left_ns)
    }

    /// The virtual service `name` has no such port.
    #[must_use]
    pub fn lacks_port(&self, name: &str, port: u16) -> bool {
        self.virtual_services
            .get(name)
            .is_some_and(|service| !service.ports.is_empty() && !service.ports.contains(&port))
    }
}

impl VirtualService {
    fn is_deserted(&self) -> bool {
        self.endpoints.is_empty() && self.led_to.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use gauntlet_probes::entity::{InventoryLine, PodInfo, PodName, ServiceInfo, ServiceName};

    use super::{DESERTED_ECHO_NS, Inventory};

    fn pod(name: &str, service: &str) -> InventoryLine {
        InventoryLine::Pod(PodInfo {
            name: PodName::new(name),
            service: Some(ServiceName::new(service)),
            node: "n".into(),
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            netns: None,
            cgroup: None,
        })
    }

    fn service(endpoints: &[&str]) -> InventoryLine {
        InventoryLine::Service(ServiceInfo {
            name: "address".to_owned(),
            cluster_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: vec![80],
            endpoints: endpoints.iter().map(|&pod| PodName::new(pod)).collect(),
        })
    }

    #[test]
    fn an_address_that_never_led_anywhere_misses_nobody() {
        let mut inventory = Inventory::default();
        inventory.apply(&service(&[]));
        inventory.note_time(1);
        assert_eq!(inventory.deserted("address"), None);
        assert!(!inventory.lately_deserted("address"));
        assert!(inventory.services().is_empty());
    }

    #[test]
    fn who_is_relieved_leaves_others_behind() {
        let mut inventory = Inventory::default();
        for line in [pod("a-0", "a"), pod("a-1", "a"), service(&["a-0", "a-1"])] {
            inventory.apply(&line);
        }
        inventory.note_time(7);
        inventory.apply(&service(&["a-1"]));
        assert_eq!(inventory.relieved_ns(&PodName::new("a-0")), Some(7));
        assert_eq!(inventory.relieved_ns(&PodName::new("a-1")), None);
        inventory.apply(&service(&[]));
        assert_eq!(inventory.relieved_ns(&PodName::new("a-0")), None, "nobody took over");
    }

    #[test]
    fn who_is_gone_is_still_known_by_the_address() {
        let mut inventory = Inventory::default();
        for line in [pod("a-0", "a"), service(&["a-0"]), service(&[])] {
            inventory.apply(&line);
        }
        inventory.apply(&InventoryLine::PodGone {
            name: PodName::new("a-0"),
        });
        inventory.note_time(1);
        assert_eq!(inventory.deserted("address"), Some(&[PodName::new("a-0")][..]));
        assert_eq!(inventory.behind("address"), Some(&ServiceName::new("a")));
        assert_eq!(inventory.services(), vec![ServiceName::new("a")]);
    }

    #[test]
    fn nodes_learn_one_by_one_that_it_leads_somewhere_again() {
        let mut inventory = Inventory::default();
        for line in [pod("a-0", "a"), service(&["a-0"]), service(&[])] {
            inventory.apply(&line);
        }
        inventory.note_time(1);
        inventory.apply(&service(&["a-0"]));
        inventory.note_time(2);
        assert_eq!(inventory.deserted("address"), None);
        assert!(inventory.lately_deserted("address") && inventory.lately_found(&PodName::new("a-0")));
        inventory.note_time(1 + DESERTED_ECHO_NS);
        assert!(!inventory.lately_deserted("address") && !inventory.lately_found(&PodName::new("a-0")));
    }
}
