//! To whom a socket or packet belongs: the inventory, indexed.
//!
//! The near end is told by its network namespace, so that two clusters with the same addresses never mix, and pods that
//! share one (a node's own: host-network pods) by the cgroup of the process; the far end is told by its address. Nothing is
//! guessed from names.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use gauntlet_abi::conn::{Address, Conn};

use crate::entity::{InventoryLine, NodeInfo, NodeName, Peer, PodInfo, PodName, ServiceInfo};

/// The inventory as it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pods: BTreeMap<PodName, PodInfo>,
    nodes: BTreeMap<NodeName, NodeInfo>,
    services: BTreeMap<String, ServiceInfo>,
    by_netns: HashMap<u32, Vec<Owner>>,
    by_ip: HashMap<IpAddr, Owner>,
    service_by_ip: HashMap<IpAddr, String>,
    /// Pods that share a network namespace with others, by the cgroups of their processes.
    by_cgroup: HashMap<u64, Peer>,
    /// Some pod's or node's namespace is not told.
    has_unknown_netns: bool,
    /// Network namespace of the detector itself: on a real host, that of the cluster's outside.
    own_netns: Option<u32>,
}

/// A pod or node with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    peer: Peer,
    ips: Vec<IpAddr>,
    netns: Option<u32>,
}

/// A far end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    /// A pod, a node, or an address outside.
    Peer(Peer),
    /// A virtual address, by the service's own name.
    Service(String),
}

/// An address as the kernel programs write it.
pub(crate) fn ip_of(address: Address) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}

impl Identity {
    /// An empty inventory, seen from a detector in `own_netns`.
    pub(crate) fn new(own_netns: Option<u32>) -> Self {
        Self {
            own_netns,
            ..Self::default()
        }
    }

    /// Takes in one line.
    pub(crate) fn apply(&mut self, line: &InventoryLine) {
        match line {
            InventoryLine::Node(node) => {
                self.nodes.insert(node.name.clone(), node.clone());
            }
            InventoryLine::Pod(pod) => {
                self.pods.insert(pod.name.clone(), pod.clone());
            }
            InventoryLine::Service(service) => {
                self.services.insert(service.name.clone(), service.clone());
            }
            InventoryLine::PodGone { name } => {
                self.pods.remove(name);
            }
            InventoryLine::ServiceGone { name } => {
                self.services.remove(name);
            }
            InventoryLine::Ready { version: _ } => return,
        }
        self.index();
    }

    fn index(&mut self) {
        self.by_netns.clear();
        self.by_ip.clear();
        // Nodes come first: a pod that shares its node's namespace also shares its address, and the node is the owner.
        let nodes = self.nodes.values().map(|node| Owner {
            peer: Peer::Node(node.name.clone()),
            ips: node.ips.clone(),
            netns: narrow(node.netns),
        });
        let pods = self.pods.values().map(|pod| Owner {
            peer: Peer::Pod(pod.name.clone()),
            ips: vec![pod.ip],
            netns: narrow(pod.netns),
        });
        for owner in nodes.chain(pods) {
            for ip in &owner.ips {
                self.by_ip.entry(*ip).or_insert_with(|| owner.clone());
            }
            if let Some(netns) = owner.netns {
                self.by_netns.entry(netns).or_default().push(owner);
            }
        }
        self.has_unknown_netns = self.wanted_netns().is_none();
        self.service_by_ip = self
            .services
            .values()
            .map(|service| (service.cluster_ip, service.name.clone()))
            .collect();
    }

    /// The network namespaces whose sockets are wanted; `None` if some pod's or node's is not known, so that all are.
    pub(crate) fn wanted_netns(&self) -> Option<Vec<u32>> {
        let known = self
            .pods
            .values()
            .map(|pod| pod.netns)
            .chain(self.nodes.values().map(|node| node.netns));
        let mut wanted = known.map(narrow).collect::<Option<Vec<u32>>>()?;
        wanted.sort_unstable();
        wanted.dedup();
        Some(wanted)
    }

    /// The pods, in order of their names.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &PodInfo> {
        self.pods.values()
    }

    /// The nodes, in order of their names.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    /// The node on which a pod runs, or which a node is.
    pub(crate) fn node_of(&self, peer: &Peer) -> Option<&NodeInfo> {
        match peer {
            Peer::Pod(name) => self.nodes.get(&self.pods.get(name)?.node),
            Peer::Node(name) => self.nodes.get(name),
            Peer::Service(_) | Peer::External(_) => None,
        }
    }

    /// Owner of a near end.
    ///
    /// A namespace outside the inventory is nobody's, unless it is the detector's own: there, `ip` itself is the peer,
    /// outside the cluster. Where the namespace could not be told (0), or the inventory does not tell those of its pods,
    /// the address decides.
    pub(crate) fn local(&self, netns: u32, ip: IpAddr) -> Option<Peer> {
        if let Some(owners) = self.by_netns.get(&netns) {
            let owner = owners
                .iter()
                .find(|owner| owner.ips.contains(&ip))
                .or_else(|| owners.first())?;
            return Some(owner.peer.clone());
        }
        let by_ip = self.by_ip.get(&ip);
        match by_ip {
            Some(owner) if netns == 0 || owner.netns.is_none() => Some(owner.peer.clone()),
            Some(_) => None,
            None => (self.own_netns == Some(netns)).then_some(Peer::External(ip)),
        }
    }

    /// Pods that share their network namespace with a node or another pod: only their processes tell them apart.
    pub(crate) fn sharing_pods(&self) -> impl Iterator<Item = &PodInfo> {
        self.pods.values().filter(|pod| {
            let owners = narrow(pod.netns).and_then(|netns| self.by_netns.get(&netns));
            owners.is_some_and(|owners| owners.len() > 1)
        })
    }

    /// Learns the cgroups of the processes of [`Identity::sharing_pods`].
    pub(crate) fn learn_cgroups(&mut self, cgroups: HashMap<u64, PodName>) {
        self.by_cgroup = cgroups.into_iter().map(|(id, pod)| (id, Peer::Pod(pod))).collect();
    }

    /// Owner of a connection's near end.
    pub(crate) fn owner(&self, conn: &Conn) -> Option<Peer> {
        self.sharing_owner(conn)
            .or_else(|| self.local(conn.netns, ip_of(conn.local)))
    }

    /// Owner of a connection's near end if it shares its network namespace, so that its address does not tell it.
    pub(crate) fn sharing_owner(&self, conn: &Conn) -> Option<Peer> {
        self.by_cgroup.get(&conn.cgroup_id).cloned()
    }

    /// Owner of the place where something was seen, if its namespace is in the inventory.
    pub(crate) fn place(&self, netns: u32, ips: [IpAddr; 2]) -> Option<Peer> {
        let owners = self.by_netns.get(&netns)?;
        let owner = owners
            .iter()
            .find(|owner| ips.iter().any(|ip| owner.ips.contains(ip)))
            .or_else(|| owners.first())?;
        Some(owner.peer.clone())
    }

    /// Whether a place outside the inventory may hold packets of this cluster: the detector's own namespace, one that
    /// could not be told, or any if the inventory does not tell all.
    pub(crate) fn may_carry(&self, netns: u32) -> bool {
        netns == 0 || self.own_netns == Some(netns) || self.has_unknown_netns
    }

    /// A far end, by its address.
    pub(crate) fn remote(&self, ip: IpAddr) -> Remote {
        if let Some(name) = self.service_by_ip.get(&ip) {
            return Remote::Service(name.clone());
        }
        Remote::Peer(
            self.by_ip
                .get(&ip)
                .map_or(Peer::External(ip), |owner| owner.peer.clone()),
        )
    }

    /// A far end as a peer, virtual addresses resolved where only one pod is behind them.
    pub(crate) fn remote_peer(&self, ip: IpAddr) -> Peer {
        match self.remote(ip) {
            Remote::Peer(peer) => peer,
            Remote::Service(name) => self.only_endpoint(&name).unwrap_or(Peer::Service(name)),
        }
    }

    /// Whether an address is that of a pod, node or service.
    pub(crate) fn knows(&self, ip: IpAddr) -> bool {
        self.by_ip.contains_key(&ip) || self.service_by_ip.contains_key(&ip)
    }

    /// The pod behind a service, if it is the only one.
    pub(crate) fn only_endpoint(&self, service: &str) -> Option<Peer> {
        match self.services.get(service)?.endpoints.as_slice() {
            [pod] => Some(Peer::Pod(pod.clone())),
            _ => None,
        }
    }

    /// Whether a pod is behind a service.
    pub(crate) fn is_endpoint(&self, service: &str, peer: &Peer) -> bool {
        let Peer::Pod(pod) = peer else { return false };
        self.services
            .get(service)
            .is_some_and(|service| service.endpoints.contains(pod))
    }

    /// Whether an address is one of a peer's own.
    pub(crate) fn owns(&self, peer: &Peer, ip: IpAddr) -> bool {
        match peer {
            Peer::Pod(name) => self.pods.get(name).is_some_and(|pod| pod.ip == ip),
            Peer::Node(name) => self.nodes.get(name).is_some_and(|node| node.ips.contains(&ip)),
            Peer::Service(_) => false,
            Peer::External(own) => *own == ip,
        }
    }
}

/// The kernel's inodes of namespaces have 32 bits.
fn narrow(netns: Option<u64>) -> Option<u32> {
    netns.and_then(|netns| u32::try_from(netns).ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::IpAddr;

    use super::{Identity, Remote};
    use crate::entity::{InventoryLine, NodeInfo, NodeName, Peer, PodInfo, PodName, ServiceInfo};

    /// Two nodes, a caller `web-0` and two endpoints of service `cache`; namespaces 10, 11, 20, 21, 22.
    pub(crate) fn cluster() -> Identity {
        let mut identity = Identity::new(Some(1));
        for (name, ip, netns) in [("node-1", "10.0.0.1", 10), ("node-2", "10.0.0.2", 11)] {
            identity.apply(&InventoryLine::Node(NodeInfo {
                name: NodeName::new(name),
                ips: vec![ip.parse().unwrap()],
                netns: Some(netns),
                cgroup: None,
            }));
        }
        for (name, node, ip, netns) in [
            ("web-0", "node-1", "10.1.0.1", 20),
            ("cache-0", "node-1", "10.1.0.2", 21),
            ("cache-1", "node-2", "10.1.1.1", 22),
        ] {
            identity.apply(&InventoryLine::Pod(PodInfo {
                name: PodName::new(name),
                service: None,
                node: NodeName::new(node),
                ip: ip.parse().unwrap(),
                netns: Some(netns),
                cgroup: None,
            }));
        }
        identity.apply(&InventoryLine::Service(ServiceInfo {
            name: "cache".to_owned(),
            cluster_ip: ip("10.9.0.1"),
            ports: vec![6379],
            endpoints: vec![PodName::new("cache-0"), PodName::new("cache-1")],
        }));
        identity
    }

    pub(crate) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    pub(crate) fn pod(name: &str) -> Peer {
        Peer::Pod(PodName::new(name))
    }

    #[test]
    fn the_namespace_tells_the_near_end_and_a_foreign_one_is_nobody() {
        let identity = cluster();
        assert_eq!(identity.local(20, ip("10.1.0.1")), Some(pod("web-0")));
        // The same address in another cluster's namespace.
        assert_eq!(identity.local(99, ip("10.1.0.1")), None);
        // The detector's own namespace: a caller from outside.
        assert_eq!(
            identity.local(1, ip("192.0.2.1")),
            Some(Peer::External(ip("192.0.2.1")))
        );
        assert_eq!(identity.local(0, ip("10.1.0.1")), Some(pod("web-0")));
    }

    #[test]
    fn without_namespaces_the_address_tells() {
        let mut identity = cluster();
        identity.apply(&InventoryLine::Pod(PodInfo {
            name: PodName::new("db-0"),
            service: None,
            node: NodeName::new("node-1"),
            ip: ip("10.1.0.9"),
            netns: None,
            cgroup: None,
        }));
        assert_eq!(identity.local(77, ip("10.1.0.9")), Some(pod("db-0")));
        assert_eq!(identity.wanted_netns(), None);
    }

    #[test]
    fn a_virtual_address_is_a_service_until_one_pod_alone_is_behind_it() {
        let mut identity = cluster();
        assert_eq!(identity.remote(ip("10.9.0.1")), Remote::Service("cache".to_owned()));
        assert_eq!(identity.only_endpoint("cache"), None);
        identity.apply(&InventoryLine::Service(ServiceInfo {
            name: "cache".to_owned(),
            cluster_ip: ip("10.9.0.1"),
            ports: vec![6379],
            endpoints: vec![PodName::new("cache-1")],
        }));
        assert_eq!(identity.remote_peer(ip("10.9.0.1")), pod("cache-1"));
        assert_eq!(identity.remote_peer(ip("192.0.2.7")), Peer::External(ip("192.0.2.7")));
    }
}
