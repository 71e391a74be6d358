//! One moment, ready to be judged: what is now beside what is usual, with everything numbered.
//!
//! Rules read scenes and nothing else.

pub mod edge;
pub mod usage;

use std::collections::{BTreeMap, HashMap};

use gauntlet_probes::entity::{NodeName, Peer, PodName, ServiceName};
use gauntlet_probes::frame::{MonotonicNanos, ProcessEvent, Protocol};

use crate::evidence::drops::{DropFlow, drop_flows};
use crate::inventory::Inventory;
use crate::memory::{EdgeKey, EntryMemory, Memory, RareRecords};
pub use crate::scene::edge::{EXPECTED_MIN, EdgeView, End, Trouble};
pub use crate::scene::usage::UsageView;
use crate::topology::{ServiceIx, Topology};
use crate::weakness::Weakness;
use crate::window::{BUSY_RATE, CURRENT_SECONDS};

/// Index of a pod in its scene.
pub type PodIx = usize;
/// Index of a node in its scene.
pub type NodeIx = usize;
/// Index of an edge in its scene.
pub type EdgeIx = usize;

/// See the module.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The moment.
    pub now_ns: MonotonicNanos,
    /// Services, sorted.
    pub services: Vec<ServiceName>,
    /// Pods, sorted.
    pub pods: Vec<PodView<'a>>,
    /// Nodes, sorted.
    pub nodes: Vec<NodeView<'a>>,
    /// Edges, sorted.
    pub edges: Vec<EdgeView<'a>>,
    /// Rare records of the last seconds, oldest first.
    pub rare: Vec<&'a RareRecords>,
    /// Who calls whom.
    pub topology: Topology,
    /// Dropped packets of the last seconds.
    pub drops: Vec<DropFlow>,
    /// What is made worse on purpose; for proofs only.
    pub weakness: Option<Weakness>,
    pod_index: HashMap<&'a PodName, PodIx>,
    node_index: BTreeMap<&'a NodeName, NodeIx>,
    memory: &'a Memory,
}

/// A pod now.
#[derive(Debug)]
pub struct PodView<'a> {
    /// Its name.
    pub name: &'a PodName,
    /// Its service.
    pub service: ServiceIx,
    /// Its node.
    pub node: NodeIx,
    /// Its resources in the current window, and usually.
    pub usage: Option<UsageView<'a>>,
    /// Edges on which it is called.
    pub inbound: Vec<EdgeIx>,
    /// Edges on which it calls.
    pub outbound: Vec<EdgeIx>,
    /// Requests that reach it, now.
    pub demand: Demand,
    /// Ends of its processes, oldest first.
    pub events: Vec<&'a ProcessEvent>,
}

/// A node now.
#[derive(Debug)]
pub struct NodeView<'a> {
    /// Its name.
    pub name: &'a NodeName,
    /// Its pods.
    pub pods: Vec<PodIx>,
    /// Its resources in the current window, and usually.
    pub usage: Option<UsageView<'a>>,
}

/// Requests per second, now and usually.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    /// In the current window.
    pub now: f64,
    /// Usually.
    pub usual: f64,
}

impl Demand {
    /// Now over usual; 1 where nothing is known.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.usual < BUSY_RATE {
            1.0
        } else {
            self.now / self.usual
        }
    }
}

impl<'a> Scene<'a> {
    /// Numbers everything in `memory`.
    #[must_use]
    pub fn of(memory: &'a Memory) -> Self {
        let window_seconds = window_seconds(memory.weakness);
        let services = memory.inventory.services();
        let node_index: BTreeMap<&NodeName, NodeIx> = memory
            .inventory
            .nodes()
            .enumerate()
            .map(|(index, name)| (name, index))
            .collect();
        let pods: Vec<PodView<'a>> = memory
            .inventory
            .pods()
            .map(|pod| PodView {
                name: &pod.name,
                service: services
                    .binary_search(&memory.inventory.service_of(&pod.name))
                    .unwrap_or(0),
                node: node_index.get(&pod.node).copied().unwrap_or(0),
                usage: memory
                    .pods
                    .get(&pod.name)
                    .map(|usage| UsageView::of(usage, window_seconds)),
                inbound: Vec::new(),
                outbound: Vec::new(),
                demand: Demand::default(),
                events: Vec::new(),
            })
            .collect();
        let pod_index = pods.iter().enumerate().map(|(index, pod)| (pod.name, index)).collect();
        let nodes = memory
            .inventory
            .nodes()
            .enumerate()
            .map(|(index, name)| NodeView {
                name,
                pods: (0..pods.len()).filter(|&pod| pods[pod].node == index).collect(),
                usage: memory.nodes.get(name).map(|usage| UsageView::of(usage, window_seconds)),
            })
            .collect();
        let mut scene = Self {
            now_ns: memory.now_ns,
            services,
            pods,
            nodes,
            edges: Vec::new(),
            rare: memory.rare.iter().collect(),
            topology: Topology::default(),
            drops: Vec::new(),
            weakness: memory.weakness,
            pod_index,
            node_index,
            memory,
        };
        scene.add_edges(memory);
        scene.add_expectations();
        scene.add_calls();
        scene.drops = drop_flows(&scene);
        for event in &memory.events {
            if let Some(&pod) = scene.pod_index.get(&event.pod) {
                scene.pods[pod].events.push(event);
            }
        }
        scene
    }

    /// The end that `peer` is.
    #[must_use]
    pub fn end(&self, peer: &Peer) -> End {
        match peer {
            Peer::Pod(name) => self.pod_index.get(name).map_or(End::Outside, |&pod| End::Pod(pod)),
            // What was tried in vain before it led anywhere was no pod's doing.
            Peer::Service(name) if self.memory.inventory.lately_deserted(name) => End::Outside,
            Peer::Service(_) => {
                let pods = self.memory.inventory.pods_of(peer);
                let pods: Vec<PodIx> = pods
                    .iter()
                    .filter_map(|name| self.pod_index.get(name).copied())
                    .collect();
                if let [pod] = pods[..] {
                    End::Pod(pod)
                } else if pods.is_empty() {
                    End::Outside
                } else {
                    End::OneOf(pods)
                }
            }
            Peer::Node(_) | Peer::External(_) => End::Outside,
        }
    }

    /// The node that `peer` is.
    #[must_use]
    pub fn node(&self, peer: &Peer) -> Option<NodeIx> {
        match peer {
            Peer::Node(name) => self.node_index.get(name).copied(),
            Peer::Pod(_) | Peer::Service(_) | Peer::External(_) => None,
        }
    }

    /// The service of an end, if all its pods agree.
    #[must_use]
    pub fn service_of(&self, end: &End) -> Option<ServiceIx> {
        end.pods().first().map(|&pod| self.pods[pod].service)
    }

    /// Pods of a service.
    pub fn pods_of(&self, service: ServiceIx) -> impl Iterator<Item = PodIx> {
        (0..self.pods.len()).filter(move |&pod| self.pods[pod].service == service)
    }

    /// What enters at a service.
    #[must_use]
    pub fn entries(&self, service: ServiceIx) -> Option<&EntryMemory> {
        self.memory.entries.get(&self.services[service])
    }

    /// The service whose replicas are, or were last, behind the virtual address that the caller of `edge` dialled.
    #[must_use]
    pub fn dialled(&self, edge: &EdgeView<'_>) -> Option<ServiceIx> {
        self.behind(edge.memory.via.as_ref()?)
    }

    /// The service whose replicas are, or were last, behind the virtual service `name`.
    #[must_use]
    pub fn behind(&self, name: &str) -> Option<ServiceIx> {
        let service = self.memory.inventory.behind(name)?;
        self.services.binary_search(service).ok()
    }

    /// When `pod` was last killed for want of memory.
    #[must_use]
    pub fn oom_killed_ns(&self, pod: PodIx) -> Option<MonotonicNanos> {
        self.memory.oom_killed.get(self.pods[pod].name).copied()
    }

    /// `pod`, or one that it replaced, is known to answer.
    #[must_use]
    pub fn served(&self, pod: PodIx) -> bool {
        let view = &self.pods[pod];
        let answers = |edge: &EdgeView<'_>| edge.norm.busy_cells > 0 || edge.answers() > 0;
        self.memory.served.contains(&self.services[view.service])
            || view.inbound.iter().any(|&edge| answers(&self.edges[edge]))
    }

    /// What the cluster's API said exists.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.memory.inventory
    }

    /// The protocol that a pod speaks as a server.
    #[must_use]
    pub fn protocol(&self, pod: PodIx) -> Option<Protocol> {
        let flows = self.pods[pod]
            .inbound
            .iter()
            .filter_map(|&edge| self.edges[edge].memory.track.cells().next_back());
        let usual = flows.filter_map(|cell| cell.value.at_server()?.protocol).next();
        usual.or_else(|| {
            self.pods[pod]
                .inbound
                .iter()
                .find_map(|&edge| self.edges[edge].now.value.at_server()?.protocol)
        })
    }

    /// By how much more than usual a signal must leave what is usual.
    #[must_use]
    pub fn threshold_factor(&self) -> f64 {
        if self.weakness == Some(Weakness::TripledThresholds) {
            3.0
        } else {
            1.0
        }
    }

    fn add_edges(&mut self, memory: &'a Memory) {
        let window_seconds = window_seconds(memory.weakness);
        for (key, remembered) in &memory.edges {
            let EdgeKey { caller, callee, port } = key;
            let view = EdgeView {
                caller: self.end(caller),
                callee: self.end(callee),
                port: *port,
                now: remembered.track.since(window_seconds),
                norm: &remembered.norm,
                expected_rate: 0.0,
                trouble: edge::trouble(remembered),
                memory: remembered,
            };
            let index = self.edges.len();
            if let End::Pod(pod) = view.caller {
                self.pods[pod].outbound.push(index);
            }
            if let End::Pod(pod) = view.callee {
                self.pods[pod].inbound.push(index);
                let rate = view
                    .now
                    .value
                    .at_server()
                    .map_or(0.0, |flow| f64::from(flow.requests) / view.now.seconds);
                self.pods[pod].demand.now += rate;
                self.pods[pod].demand.usual += if view.norm.learned() {
                    view.norm.request_rate_mean
                } else {
                    rate
                };
            }
            self.edges.push(view);
        }
    }

    fn add_expectations(&mut self) {
        for edge in &mut self.edges {
            let growth = if let End::Pod(pod) = edge.caller {
                self.pods[pod].demand.ratio()
            } else {
                1.0
            };
            edge.expected_rate = if edge.norm.learned() {
                edge.norm.response_rate * growth
            } else {
                0.0
            };
        }
    }

    fn add_calls(&mut self) {
        let called: Vec<bool> = self.pods.iter().map(|pod| !pod.inbound.is_empty()).collect();
        let mut topology = Topology::default();
        for edge in &self.edges {
            let Some(callee) = self.service_of(&edge.callee).or_else(|| self.dialled(edge)) else {
                continue;
            };
            let rate = edge.norm.request_rate.median;
            match edge.caller {
                End::Pod(pod) => {
                    topology.add_call(self.pods[pod].service, callee, rate);
                    if !called[pod] {
                        topology.add_entrance(callee);
                    }
                }
                // Who only connects, as health checks do, enters nowhere.
                End::Outside if edge.asks() => topology.add_entrance(callee),
                End::OneOf(_) | End::Outside => (),
            }
        }
        for sample in self.rare.iter().flat_map(|records| &records.dns) {
            let addressed = match &sample.server {
                Peer::Service(name) => self.behind(name),
                Peer::Pod(_) | Peer::Node(_) | Peer::External(_) => None,
            };
            let server = self.service_of(&self.end(&sample.server)).or(addressed);
            if let (End::Pod(client), Some(server)) = (self.end(&sample.client), server) {
                topology.add_call(self.pods[client].service, server, 0.0);
            }
        }
        self.topology = topology;
    }
}

/// Length of the current window, seconds.
fn window_seconds(weakness: Option<Weakness>) -> f64 {
    if weakness == Some(Weakness::DoubledWindow) {
        2.0 * CURRENT_SECONDS
    } else {
        CURRENT_SECONDS
    }
}
