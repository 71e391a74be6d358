//! What a cluster for an application consists of: names, places and addresses. Pure; touches no kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use gauntlet_probes::entity::{InventoryLine, NodeInfo, NodeName, PodInfo, PodName, ServiceInfo, ServiceName};

use crate::app::dns::Records;
use crate::app::spec::{AppSpec, ServiceKind};

/// Most nodes of one cluster: the node's number is one byte of its pods' addresses.
pub const NODES_MAX: u16 = 100;
/// Most pods of one cluster.
pub const PODS_MAX: usize = 200;
/// Name of the service of the cluster's name server.
pub const DNS_SERVICE: &str = "dns";
/// The virtual address of the cluster's name server.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The port of the cluster's name server.
pub const DNS_PORT: u16 = 53;
/// The address from which load enters.
pub const EDGE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 254);
/// The network of virtual addresses.
pub const SERVICES_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
/// Prefix length of the network of virtual addresses.
pub const SERVICES_PREFIX: u8 = 16;
/// Prefix length of the network that nodes and edge share.
pub const FABRIC_PREFIX: u8 = 24;
/// Prefix length of the network of one node's pods.
pub const PODS_PREFIX: u8 = 24;

/// A cluster, as it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Name of the cluster and of its cgroup, for example `gauntlet-1f3a`.
    pub cluster: String,
    /// Its nodes.
    pub nodes: Vec<NodePlan>,
    /// Its pods; the name server is the last.
    pub pods: Vec<PodPlan>,
    /// Its virtual services.
    pub services: Vec<ServicePlan>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Its name.
    pub name: NodeName,
    /// Its address on the fabric.
    pub ip: Ipv4Addr,
    /// The network of its pods.
    pub pod_network: Ipv4Addr,
    /// Its address towards its pods: their gateway.
    pub gateway: Ipv4Addr,
}

/// What runs in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodKind {
    /// The cluster's name server.
    Dns,
    /// A service of the application.
    App(ServiceKind),
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// Its name.
    pub name: PodName,
    /// The service whose replica it is.
    pub service: ServiceName,
    /// What runs in it.
    pub kind: PodKind,
    /// Index of its node.
    pub node_index: usize,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The port on which it serves.
    pub port: u16,
    /// Its CPU limit.
    pub cpu_millicores: Option<u32>,
    /// Its memory limit.
    pub memory_mib: Option<u32>,
    /// Bound of a redis server's data.
    pub max_memory_mib: Option<u32>,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// Its name, and its name in DNS.
    pub name: String,
    /// The service of the application to which it belongs.
    pub workload: ServiceName,
    /// Its virtual address.
    pub ip: Ipv4Addr,
    /// Its port, and that of the pods behind it.
    pub port: u16,
    /// How it is spoken to.
    pub transport: Transport,
    /// Indexes of the pods behind it.
    pub endpoints: Vec<usize>,
}

/// Transport of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The application does not fit a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Number of nodes out of range.
    #[error("{nodes} nodes declared, 1 to {NODES_MAX} are possible")]
    Nodes {
        /// As declared.
        nodes: u16,
    },
    /// Too many pods.
    #[error("{pods} pods declared (with the name server), at most {PODS_MAX} are possible")]
    Pods {
        /// As declared.
        pods: usize,
    },
    /// A name that cannot be a name in DNS or of a directory.
    #[error("service name {name:?} is not 1 to 40 of a-z, 0-9 and '-', beginning and ending with a letter or digit")]
    Name {
        /// The name.
        name: String,
    },
    /// A name that would stand for two things.
    #[error("the name {name:?} would stand for two services (each replica of `s` has a service `s-N`)")]
    Ambiguous {
        /// The name.
        name: String,
    },
}

impl Layout {
    /// Plans the cluster. Pods are dealt to the nodes in turn, service by service.
    pub fn new(app: &AppSpec, cluster: &str) -> Result<Self, LayoutError> {
        if app.nodes == 0 || app.nodes > NODES_MAX {
            return Err(LayoutError::Nodes { nodes: app.nodes });
        }
        let pod_count = app
            .services
            .values()
            .map(|service| usize::from(service.replicas))
            .sum::<usize>()
            + 1;
        if pod_count > PODS_MAX {
            return Err(LayoutError::Pods { pods: pod_count });
        }
        let nodes = (1..=app.nodes).map(node).collect::<Vec<_>>();
        let mut layout = Self {
            cluster: cluster.to_owned(),
            nodes,
            pods: Vec::new(),
            services: Vec::new(),
        };
        for (name, service) in &app.services {
            if !is_label(name) {
                return Err(LayoutError::Name { name: name.clone() });
            }
            let template = PodPlan {
                name: PodName::new(name.as_str()),
                service: ServiceName::new(name.as_str()),
                kind: PodKind::App(service.kind),
                node_index: 0,
                ip: Ipv4Addr::UNSPECIFIED,
                port: service.serving_port(),
                cpu_millicores: service.cpu_millicores,
                memory_mib: service.memory_mib,
                max_memory_mib: service.max_memory_mib,
            };
            layout.add_workload(&template, service.replicas, Transport::Tcp);
        }
        layout.add_name_server();
        layout.check_names()?;
        Ok(layout)
    }

    /// The service with this virtual name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServicePlan> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The pod's cgroup below each hierarchy's root.
    #[must_use]
    pub fn pod_cgroup(&self, pod: &PodPlan) -> String {
        format!("{}/{}", self.node_cgroup(&self.nodes[pod.node_index]), pod.name)
    }

    /// The node's cgroup below each hierarchy's root.
    #[must_use]
    pub fn node_cgroup(&self, node: &NodePlan) -> String {
        format!("/{}/{}", self.cluster, node.name)
    }

    /// What the name server knows.
    #[must_use]
    pub fn dns_records(&self) -> Records {
        Records(
            self.services
                .iter()
                .map(|service| (service.name.clone(), service.ip))
                .collect(),
        )
    }

    /// What a cluster's API would tell; `node_netns` and `pod_netns` are inodes in the order of `nodes` and `pods`.
    #[must_use]
    pub fn inventory(&self, node_netns: &[u64], pod_netns: &[u64]) -> Vec<InventoryLine> {
        let nodes = self.nodes.iter().zip(node_netns).map(|(node, &netns)| {
            InventoryLine::Node(NodeInfo {
                name: node.name.clone(),
                ips: vec![IpAddr::V4(node.ip), IpAddr::V4(node.gateway)],
                netns: Some(netns),
                cgroup: Some(self.node_cgroup(node)),
            })
        });
        let pods = self.pods.iter().zip(pod_netns).map(|(pod, &netns)| {
            InventoryLine::Pod(PodInfo {
                name: pod.name.clone(),
                service: Some(pod.service.clone()),
                node: self.nodes[pod.node_index].name.clone(),
                ip: IpAddr::V4(pod.ip),
                netns: Some(netns),
                cgroup: Some(self.pod_cgroup(pod)),
            })
        });
        let services = self.services.iter().map(|service| {
            InventoryLine::Service(ServiceInfo {
                name: service.name.clone(),
                cluster_ip: IpAddr::V4(service.ip),
                ports: vec![service.port],
                endpoints: service
                    .endpoints
                    .iter()
                    .map(|&index| self.pods[index].name.clone())
                    .collect(),
            })
        });
        nodes
            .chain(pods)
            .chain(services)
            .chain([InventoryLine::Ready { version: 1 }])
            .collect()
    }

    fn add_workload(&mut self, template: &PodPlan, replicas: u16, transport: Transport) {
        let first = self.pods.len();
        for replica in 0..replicas {
            let node_index = self.pods.len() % self.nodes.len();
            let ip = self.next_pod_address(node_index);
            let name = PodName::new(format!("{}-{replica}", template.service));
            self.pods.push(PodPlan {
                name,
                node_index,
                ip,
                ..template.clone()
            });
        }
        let endpoints = (first..self.pods.len()).collect::<Vec<_>>();
        self.add_service(template.service.to_string(), template, transport, endpoints.clone());
        for index in endpoints {
            self.add_service(self.pods[index].name.to_string(), template, transport, vec![index]);
        }
    }

    fn add_service(&mut self, name: String, template: &PodPlan, transport: Transport, endpoints: Vec<usize>) {
        let number = u8::try_from(self.services.len() % 250).expect("below 250") + 1;
        let block = u8::try_from(self.services.len() / 250).expect("few services") + 1;
        self.services.push(ServicePlan {
            name,
            workload: template.service.clone(),
            ip: Ipv4Addr::new(10, 96, block, number),
            port: template.port,
            transport,
            endpoints,
        });
    }

    fn add_name_server(&mut self) {
        let template = PodPlan {
            name: PodName::new(DNS_SERVICE),
            service: ServiceName::new(DNS_SERVICE),
            kind: PodKind::Dns,
            node_index: 0,
            ip: Ipv4Addr::UNSPECIFIED,
            port: DNS_PORT,
            cpu_millicores: None,
            memory_mib: None,
            max_memory_mib: None,
        };
        let first = self.services.len();
        self.add_workload(&template, 1, Transport::Udp);
        self.services[first].ip = DNS_ADDRESS;
    }

    fn next_pod_address(&self, node_index: usize) -> Ipv4Addr {
        let here = self.pods.iter().filter(|pod| pod.node_index == node_index).count();
        let [a, b, c, _] = self.nodes[node_index].pod_network.octets();
        Ipv4Addr::new(a, b, c, u8::try_from(here).expect("at most PODS_MAX pods") + 2)
    }

    fn check_names(&self) -> Result<(), LayoutError> {
        let mut seen = BTreeSet::new();
        match self.services.iter().find(|service| !seen.insert(service.name.as_str())) {
            Some(twice) => Err(LayoutError::Ambiguous {
                name: twice.name.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Ports to which virtual services lead instead of their own, by workload.
pub type TargetPorts = BTreeMap<ServiceName, u16>;

fn node(number: u16) -> NodePlan {
    let number = u8::try_from(number).expect("at most NODES_MAX");
    NodePlan {
        name: NodeName::new(format!("node-{number}")),
        ip: Ipv4Addr::new(10, 88, 0, number),
        pod_network: Ipv4Addr::new(10, 244, number, 0),
        gateway: Ipv4Addr::new(10, 244, number, 1),
    }
}

fn is_label(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    name.len() <= 40
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| edge(Some(byte)) || *byte == b'-')
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn app(services: &[(&str, ServiceKind, u16)], nodes: u16) -> AppSpec {
        let services = services
            .iter()
            .map(|&(name, kind, replicas)| {
                let kind = serde_json::to_value(kind).unwrap();
                (name.to_owned(), serde_json::json!({"kind": kind, "replicas": replicas}))
            })
            .collect::<serde_json::Map<_, _>>();
        let load = serde_json::json!({"rate": 1.0, "paths": []});
        let spec = serde_json::json!({"nodes": nodes, "entry": "web", "load": load, "services": services});
        serde_json::from_value(spec).unwrap()
    }

    fn shop() -> Layout {
        let services = [
            ("cache", ServiceKind::Redis, 3),
            ("db", ServiceKind::Postgres, 1),
            ("web", ServiceKind::Http, 2),
        ];
        Layout::new(&app(&services, 3), "gauntlet-1").unwrap()
    }

    #[test]
    fn deals_pods_to_nodes_in_turn() {
        let layout = shop();
        let places = layout
            .pods
            .iter()
            .map(|pod| format!("{}@{}={}", pod.name, pod.node_index + 1, pod.ip));
        expect_test::expect![[
            "cache-0@1=10.244.1.2 cache-1@2=10.244.2.2 cache-2@3=10.244.3.2 db-0@1=10.244.1.3 web-0@2=10.244.2.3 web-1@3=10.244.3.3 dns-0@1=10.244.1.4"
        ]]
        .assert_eq(&places.collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn gives_a_virtual_service_to_each_workload_and_to_each_replica() {
        let layout = shop();
        assert_eq!(layout.service("cache").unwrap().endpoints, [0, 1, 2]);
        assert_eq!(layout.service("cache-1").unwrap().endpoints, [1]);
        assert_eq!(layout.service("dns").unwrap().ip, DNS_ADDRESS);
        assert_eq!(layout.services.len(), 4 + 7);
        let addresses = layout
            .services
            .iter()
            .map(|service| service.ip)
            .collect::<BTreeSet<_>>();
        assert_eq!(addresses.len(), layout.services.len());
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let refused = |services: &[_], nodes| Layout::new(&app(services, nodes), "gauntlet-1").unwrap_err();
        assert_eq!(refused(&[], 0), LayoutError::Nodes { nodes: 0 });
        assert_eq!(
            refused(&[("web", ServiceKind::Http, 200)], 1),
            LayoutError::Pods { pods: 201 }
        );
        assert_eq!(
            refused(&[("We", ServiceKind::Http, 1)], 1),
            LayoutError::Name { name: "We".into() }
        );
        let twice = [("web", ServiceKind::Http, 1), ("web-0", ServiceKind::Http, 1)];
        assert_eq!(refused(&twice, 1), LayoutError::Ambiguous { name: "web-0".into() });
        assert_eq!(
            refused(&[("dns", ServiceKind::Http, 1)], 1),
            LayoutError::Ambiguous { name: "dns".into() }
        );
    }
}
