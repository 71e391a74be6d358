//! One moment, ready to be judged: what is now beside what is usual, with everything numbered.
//!
//! Rules read scenes and nothing else.

use std::collections::BTreeMap;

use gauntlet_probes::entity::{NodeName, Peer, PodName, ServiceName};
use gauntlet_probes::frame::{MonotonicNanos, ProcessEvent, Protocol};

use crate::memory::{EdgeKey, EdgeMemory, EntryMemory, Memory, RareRecords, UsageMemory};
use crate::signal::{EdgeFlow, Usage};
use crate::topology::{ServiceIx, Topology};
use crate::window::{BUSY_RATE, EdgeNorm, Timed, UsageNorm};

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
    pod_index: BTreeMap<&'a PodName, PodIx>,
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

/// Resources now and usually.
#[derive(Debug)]
pub struct UsageView<'a> {
    /// In the current window.
    pub now: Timed<Usage>,
    /// Usually.
    pub norm: &'a UsageNorm,
    memory: &'a UsageMemory,
}

impl UsageView<'_> {
    /// Tick by tick, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Timed<Usage>> + Clone {
        self.memory.track.recent()
    }
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

/// One end of an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A pod.
    Pod(PodIx),
    /// A virtual address: one of these pods.
    OneOf(Vec<PodIx>),
    /// A node, or an address outside.
    Outside,
}

impl End {
    /// The pods that it is or may be.
    #[must_use]
    pub fn pods(&self) -> &[PodIx] {
        match self {
            Self::Pod(pod) => std::slice::from_ref(pod),
            Self::OneOf(pods) => pods,
            Self::Outside => &[],
        }
    }
}

/// An edge now.
#[derive(Debug)]
pub struct EdgeView<'a> {
    /// Who calls.
    pub caller: End,
    /// Who is called.
    pub callee: End,
    /// The port dialled.
    pub port: u16,
    /// In the current window.
    pub now: Timed<EdgeFlow>,
    /// Usually.
    pub norm: &'a EdgeNorm,
    /// Answers per second that the caller's own demand makes one expect now.
    pub expected_rate: f64,
    /// Since the first tick in which something failed, in the last seconds.
    pub trouble: Option<Trouble>,
    memory: &'a EdgeMemory,
}

/// What came of an edge's requests since something failed first.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// The first tick in which something failed.
    pub since_ns: MonotonicNanos,
    /// Time since then, that tick excluded, seconds.
    pub seconds: f64,
    /// Answers since then.
    pub answers: u32,
    /// Requests and connections in vain since then.
    pub vain: u32,
    /// Connections tried since then.
    pub attempted: u32,
    /// Connections opened since then.
    pub opened: u32,
}

impl Trouble {
    /// Share of what was expected (or tried, where nothing is expected) that succeeded.
    #[must_use]
    pub fn progress(&self, expected_rate: f64) -> f64 {
        let tried = f64::from(self.answers + self.vain).max(expected_rate * self.seconds);
        if tried > 0.0 {
            f64::from(self.answers) / tried
        } else {
            0.0
        }
    }
}

impl EdgeView<'_> {
    /// Tick by tick, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Timed<EdgeFlow>> + Clone {
        self.memory.track.recent()
    }

    /// Answers in the current window.
    #[must_use]
    pub fn answers(&self) -> u32 {
        self.now.value.best().map_or(0, |flow| flow.responses)
    }

    /// Answers come as they should and nothing fails any more, in the latest ticks.
    #[must_use]
    pub fn healed(&self) -> bool {
        let latest = self.memory.track.since(HEALED_SECONDS);
        let answers = latest.value.best().map_or(0, |flow| flow.responses);
        let failed = latest.value.best().map_or(0, crate::signal::Flow::failed_connects) + latest.value.dropped;
        answers > 0 && failed == 0 && f64::from(answers) >= HEALED_SHARE * self.expected_rate * latest.seconds
    }

    /// Enough was seen, and enough is expected in the current window, to miss it.
    #[must_use]
    pub fn judgeable(&self) -> bool {
        self.norm.learned() && self.expected_rate * self.now.seconds >= EXPECTED_MIN
    }
}

/// Seconds without failure after which an edge has healed: three ticks, in which whoever is blocked tries again.
const HEALED_SECONDS: f64 = 0.6;
/// Share of the expected answers that a healed edge gives at least.
const HEALED_SHARE: f64 = 0.4;

/// Answers expected in a window without which their absence is no evidence: five missing is rarer than 1 in 100.
pub const EXPECTED_MIN: f64 = 5.0;

impl<'a> Scene<'a> {
    /// Numbers everything in `memory`.
    #[must_use]
    pub fn of(memory: &'a Memory) -> Self {
        let mut services: Vec<ServiceName> = memory
            .inventory
            .pods()
            .map(|pod| memory.inventory.service_of(&pod.name))
            .collect();
        services.sort();
        services.dedup();
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
                usage: memory.pods.get(&pod.name).map(usage_view),
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
                usage: memory.nodes.get(name).map(usage_view),
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
            pod_index,
            node_index,
            memory,
        };
        scene.add_edges(memory);
        scene.add_expectations();
        scene.add_calls();
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

    /// The service behind the virtual address that the caller of `edge` dialled.
    #[must_use]
    pub fn dialled(&self, edge: &EdgeView<'_>) -> Option<ServiceIx> {
        let via = edge.memory.via.as_ref()?;
        self.service_of(&self.end(&Peer::Service(via.clone())))
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

    /// Requests per second of a service, now and usually.
    #[must_use]
    pub fn service_demand(&self, service: ServiceIx) -> Demand {
        self.pods_of(service).fold(Demand::default(), |sum, pod| {
            let demand = self.pods[pod].demand;
            Demand {
                now: sum.now + demand.now,
                usual: sum.usual + demand.usual,
            }
        })
    }

    fn add_edges(&mut self, memory: &'a Memory) {
        for (key, edge) in &memory.edges {
            let EdgeKey { caller, callee, port } = key;
            let view = EdgeView {
                caller: self.end(caller),
                callee: self.end(callee),
                port: *port,
                now: edge.track.current(),
                norm: &edge.norm,
                expected_rate: 0.0,
                trouble: trouble(edge),
                memory: edge,
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
            let Some(callee) = self.service_of(&edge.callee) else {
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
                End::OneOf(_) => (),
                End::Outside => topology.add_entrance(callee),
            }
        }
        self.topology = topology;
    }
}

fn usage_view(memory: &UsageMemory) -> UsageView<'_> {
    UsageView {
        now: memory.track.current(),
        norm: &memory.norm,
        memory,
    }
}

fn trouble(edge: &EdgeMemory) -> Option<Trouble> {
    let mut ticks = edge.track.recent().skip_while(|tick| !tick.value.troubled());
    let first = ticks.next()?;
    let mut trouble = Trouble {
        since_ns: first.at_ns,
        seconds: 0.0,
        answers: 0,
        vain: first.value.vain(),
        attempted: 0,
        opened: 0,
    };
    for tick in ticks {
        trouble.seconds += tick.seconds;
        trouble.vain += tick.value.vain();
        if let Some(flow) = tick.value.best() {
            trouble.answers += flow.responses;
            trouble.attempted += flow.attempted;
            trouble.opened += flow.opened;
        }
    }
    Some(trouble)
}
