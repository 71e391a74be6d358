//! From the API's objects to the inventory, and from one inventory to the lines that lead to the next. Pure.
//!
//! Told are the application's namespace by plain names, and the cluster's own pods as `namespace/name`; the cluster's name
//! server is the service `dns`, as on the local target. A pod is told once its place on this machine is known: without its
//! network namespace it could be taken for that of another cluster with the same addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use gauntlet_probes::entity::{InventoryLine, NodeInfo, NodeName, PodInfo, PodName, ServiceInfo, ServiceName};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use kube::ResourceExt;

use super::handles::PodPlace;
use super::names::{DNS_OBJECT, NAME_LABEL, SYSTEM_NAME_LABEL, SYSTEM_NAMESPACE};
use crate::target::local::layout::DNS_SERVICE;
use crate::target::{Dial, NodeHandle, PodHandle};

/// Label by which the control plane's pods say what they are.
const COMPONENT_LABEL: &str = "component";
/// Where a static pod says the UID that its cgroup bears.
const STATIC_UID: &str = "kubernetes.io/config.hash";

/// The API's objects, as they stand.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Pods.
    pub pods: Vec<Arc<Pod>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// The pods behind them.
    pub endpoints: Vec<Arc<Endpoints>>,
    /// Nodes.
    pub nodes: Vec<Arc<Node>>,
}

/// What a line of the inventory is about; nodes come first, and pods before the services that lead to them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A node.
    Node(NodeName),
    /// A pod.
    Pod(PodName),
    /// A virtual address.
    Service(String),
}

/// The lines that describe a cluster.
pub type Lines = BTreeMap<About, InventoryLine>;

/// A cluster, put together from its objects and from what was found of them on this machine.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// For detectors.
    pub lines: Lines,
    /// For faults: the application's pods and the name server's, with a network namespace of their own.
    pub pods: Vec<PodHandle>,
    /// Virtual addresses, by the name under which they are told.
    pub dials: BTreeMap<String, Dial>,
}

impl Seen {
    /// Describes the cluster whose application lives in `own`; `places` are by UID.
    #[must_use]
    pub fn describe(
        &self,
        own: &str,
        nodes: &BTreeMap<NodeName, NodeHandle>,
        places: &BTreeMap<String, PodPlace>,
    ) -> Description {
        let mut description = Description::default();
        for node in &self.nodes {
            if let Some(handle) = nodes.get(&NodeName::new(node.name_any())) {
                let line = InventoryLine::Node(node_info(node, handle));
                description.lines.insert(About::Node(handle.name.clone()), line);
            }
        }
        for pod in &self.pods {
            let Some((info, place)) = cgroup_uid(pod).and_then(|uid| {
                let place = places.get(&uid)?;
                Some((pod_info(pod, own, place)?, place))
            }) else {
                continue;
            };
            if let Some(handle) = pod_handle(pod, &info, place) {
                description.pods.push(handle);
            }
            description
                .lines
                .insert(About::Pod(info.name.clone()), InventoryLine::Pod(info));
        }
        // The application's pods first, as on the local target.
        description.pods.sort_by(|a, b| {
            (a.service.as_str() == DNS_SERVICE, &a.name).cmp(&(b.service.as_str() == DNS_SERVICE, &b.name))
        });
        for service in &self.services {
            let Some(mut info) = service_info(service, own) else {
                continue;
            };
            info.endpoints = self.behind(service, own);
            info.endpoints
                .retain(|pod| description.lines.contains_key(&About::Pod(pod.clone())));
            if let Some(port) = info.ports.first() {
                let dial = Dial {
                    ip: info.cluster_ip,
                    port: *port,
                };
                description.dials.insert(info.name.clone(), dial);
            }
            let about = About::Service(info.name.clone());
            description.lines.insert(about, InventoryLine::Service(info));
        }
        description
    }

    /// The pods to which a Service leads now.
    fn behind(&self, service: &Service, own: &str) -> Vec<PodName> {
        let same = |endpoints: &&Arc<Endpoints>| {
            endpoints.namespace() == service.namespace() && endpoints.name_any() == service.name_any()
        };
        let subsets = self
            .endpoints
            .iter()
            .find(same)
            .and_then(|endpoints| endpoints.subsets.as_ref());
        let addresses = subsets
            .into_iter()
            .flatten()
            .filter_map(|subset| subset.addresses.as_ref());
        let pods = addresses.flatten().filter_map(|address| {
            let target = address
                .target_ref
                .as_ref()
                .filter(|target| target.kind.as_deref() == Some("Pod"))?;
            let namespace = target.namespace.as_deref().unwrap_or(own);
            Some(PodName::new(told_name(namespace, target.name.as_deref()?, own)))
        });
        let mut pods: Vec<PodName> = pods.collect();
        pods.sort();
        pods.dedup();
        pods
    }
}

impl Description {
    /// What this does not tell yet of an application whose pods and Services the API has: a pod that is not found on this
    /// machine, or is not behind a Service that selects it. Pods serve some time before Services lead to them.
    #[must_use]
    pub fn lacks(&self, pods: &[Arc<Pod>], services: &[Service]) -> Option<String> {
        let is_told = |pod: &&Arc<Pod>| self.pods.iter().any(|told| told.name.as_str() == pod.name_any());
        if let Some(pod) = pods.iter().find(|pod| !is_told(pod)) {
            return Some(format!(
                "finding the processes of pod {} on this machine",
                pod.name_any()
            ));
        }
        services.iter().find_map(|service| {
            let name = service.name_any();
            let behind: &[PodName] = match self.lines.get(&About::Service(name.clone())) {
                Some(InventoryLine::Service(info)) => &info.endpoints,
                _ => &[],
            };
            let is_behind = |pod: &&Arc<Pod>| behind.iter().any(|told| told.as_str() == pod.name_any());
            let left_out = pods
                .iter()
                .filter(|pod| selects(service, pod))
                .find(|pod| !is_behind(pod))?;
            Some(format!("leading Service {name} to pod {}", left_out.name_any()))
        })
    }
}

/// Whether a pod is meant to be behind a Service.
fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|labels| labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value)))
}

/// The lines that turn `before` into `now`. A pod that was replaced under its old name is gone before it is there.
#[must_use]
pub fn changes(before: &Lines, now: &Lines) -> Vec<InventoryLine> {
    let mut lines = Vec::new();
    for (about, line) in before {
        let is_same = now.get(about).is_some_and(|new| match (line, new) {
            (InventoryLine::Pod(old), InventoryLine::Pod(new)) => old.netns == new.netns,
            _ => true,
        });
        match about {
            About::Pod(name) if !is_same => lines.push(InventoryLine::PodGone { name: name.clone() }),
            About::Service(name) if !is_same => lines.push(InventoryLine::ServiceGone { name: name.clone() }),
            // The protocol knows no end of a node.
            About::Pod(_) | About::Service(_) | About::Node(_) => {}
        }
    }
    let changed = now.iter().filter(|(about, line)| before.get(about) != Some(*line));
    lines.extend(changed.map(|(_, line)| line.clone()));
    lines
}

/// The UID in the name of the pod's cgroup; `None` for a pod that has none yet, or no longer.
#[must_use]
pub fn cgroup_uid(pod: &Pod) -> Option<String> {
    let phase = pod.status.as_ref()?.phase.as_deref()?;
    if matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    pod.annotations().get(STATIC_UID).cloned().or_else(|| pod.uid())
}

/// The first address of a pod.
fn pod_ip(pod: &Pod) -> Option<Ipv4Addr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// The name under which an object of a namespace is told.
fn told_name(namespace: &str, name: &str, own: &str) -> String {
    if namespace == own {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

/// The first address of a node by which other nodes reach it.
#[must_use]
pub fn node_ip(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).next()
}

fn node_info(node: &Node, handle: &NodeHandle) -> NodeInfo {
    let ranges = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref());
    let gateway = ranges.and_then(gateway);
    let ips = [Some(handle.ip), gateway].into_iter().flatten().map(IpAddr::V4);
    NodeInfo {
        name: handle.name.clone(),
        ips: ips.collect(),
        netns: Some(handle.netns_inode),
        cgroup: Some(handle.cgroup.relative.clone()),
    }
}

/// The first address of a node's range, which is the node's end of each pod's link (kindnet, and whoever uses `ptp`).
fn gateway(range: &str) -> Option<Ipv4Addr> {
    let network: Ipv4Addr = range.split('/').next()?.parse().ok()?;
    Some(Ipv4Addr::from_bits(network.to_bits().checked_add(1)?))
}

fn pod_info(pod: &Pod, own: &str, place: &PodPlace) -> Option<PodInfo> {
    let namespace = pod.namespace()?;
    Some(PodInfo {
        name: PodName::new(told_name(&namespace, &pod.name_any(), own)),
        service: service_of(pod).map(ServiceName::new),
        node: NodeName::new(pod.spec.as_ref()?.node_name.as_deref()?),
        ip: IpAddr::V4(pod_ip(pod)?),
        netns: Some(place.netns_inode),
        cgroup: Some(place.cgroup.relative.clone()),
    })
}

/// The service whose replica a pod is, by the labels that the makers of clusters and applications give.
fn service_of(pod: &Pod) -> Option<String> {
    let label = [NAME_LABEL, SYSTEM_NAME_LABEL, COMPONENT_LABEL]
        .iter()
        .find_map(|label| pod.labels().get(*label))?;
    let is_dns = label == DNS_OBJECT && pod.namespace().as_deref() == Some(SYSTEM_NAMESPACE);
    Some(if is_dns { DNS_SERVICE.to_owned() } else { label.clone() })
}

fn pod_handle(pod: &Pod, info: &PodInfo, place: &PodPlace) -> Option<PodHandle> {
    let spec = pod.spec.as_ref()?;
    let service = info.service.clone()?;
    let is_ours = pod.namespace().as_deref() != Some(SYSTEM_NAMESPACE) || service.as_str() == DNS_SERVICE;
    if !is_ours || spec.host_network == Some(true) {
        return None;
    }
    let port = spec
        .containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten())
        .next()?;
    Some(PodHandle {
        name: info.name.clone(),
        service,
        node: info.node.clone(),
        ip: pod_ip(pod)?,
        port: u16::try_from(port.container_port).ok()?,
        netns: Arc::clone(&place.netns),
        netns_inode: place.netns_inode,
        cgroup: place.cgroup.clone(),
    })
}

/// A Service without its endpoints; `None` if it has no virtual address.
fn service_info(service: &Service, own: &str) -> Option<ServiceInfo> {
    let spec = service.spec.as_ref()?;
    let (namespace, name) = (service.namespace()?, service.name_any());
    let ports = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| u16::try_from(port.port).ok());
    let mut ports: Vec<u16> = ports.collect();
    // The same port for two transports is one port.
    ports.dedup();
    Some(ServiceInfo {
        name: match (namespace.as_str(), name.as_str()) {
            (SYSTEM_NAMESPACE, DNS_OBJECT) => DNS_SERVICE.to_owned(),
            _ => told_name(&namespace, &name, own),
        },
        // `None` for a headless one is no address.
        cluster_ip: spec.cluster_ip.as_ref()?.parse().ok()?,
        ports,
        endpoints: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
