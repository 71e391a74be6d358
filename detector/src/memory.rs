//! All that is remembered from frame to frame: tracks per edge, pod and node, and the rare records of the last seconds.
//!
//! Bounded; what the bounds discard is counted.

mod ticks;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use gauntlet_probes::entity::{InventoryLine, NodeName, Peer, PodName, ServiceName};
use gauntlet_probes::frame::{
    DnsSample, DropSample, Frame, MonotonicNanos, ProcessEvent, ProcessEventKind, ResetSample,
};

use crate::evidence::drops::DropClass;
use crate::inventory::Inventory;
use crate::memory::ticks::{EdgeTick, ticks_of};
use crate::signal::{EdgeFlow, Entries, Usage};
use crate::weakness::Weakness;
use crate::window::{EdgeNorm, EntryNorm, Learn, RECENT_SECONDS, Timed, Track, UsageNorm};

/// Edges remembered: a thousand services with dozens of edges each.
const EDGES_MAX: usize = 50_000;
/// Frames without any traffic after which an edge is forgotten: two minutes at five a second, longer than any fault
/// that is worth waiting for.
const IDLE_FRAMES_MAX: u32 = 600;
/// Seconds for which the end of a process is remembered: a restart with back-off takes up to ten.
const EVENTS_SECONDS: f64 = 15.0;
/// Time for which it is remembered that a pod was killed for want of memory, nanoseconds: a restart is put off for up to
/// some minutes.
const OOM_NS: MonotonicNanos = 120_000_000_000;
/// Ends of processes remembered: far more than restarts with back-off can make in that time.
const EVENTS_MAX: usize = 4096;

/// Caller, callee and dialled port of an edge. Everything outside the inventory is one caller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EdgeKey {
    /// Who opens connections.
    pub caller: Peer,
    /// Who accepts them.
    pub callee: Peer,
    /// The port dialled.
    pub port: u16,
}

/// An edge over time.
#[derive(Clone, Debug, Default)]
pub struct EdgeMemory {
    /// Recent ticks and baseline cells.
    pub track: Track<EdgeFlow>,
    /// What is usual.
    pub norm: EdgeNorm,
    /// The virtual service that the caller dialled last.
    pub via: Option<String>,
    idle_frames: u32,
}

/// A pod's or node's resources over time.
#[derive(Clone, Debug, Default)]
pub struct UsageMemory {
    /// Recent ticks and baseline cells.
    pub track: Track<Usage>,
    /// What is usual.
    pub norm: UsageNorm,
}

/// What enters at a service, over time.
#[derive(Clone, Debug, Default)]
pub struct EntryMemory {
    /// Recent ticks and baseline cells.
    pub track: Track<Entries>,
    /// What is usual.
    pub norm: EntryNorm,
}

/// The rare records of one frame.
#[derive(Clone, Debug, Default)]
pub struct RareRecords {
    /// End of the frame.
    pub at_ns: MonotonicNanos,
    /// Its length, seconds.
    pub seconds: f64,
    /// Dropped packets.
    pub drops: Vec<DropSample>,
    /// Resets.
    pub resets: Vec<ResetSample>,
    /// Look-ups.
    pub dns: Vec<DnsSample>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What exists.
    pub inventory: Inventory,
    /// Edges, by caller, callee and port.
    pub edges: BTreeMap<EdgeKey, EdgeMemory>,
    /// Requests from outside, or from pods that nobody calls, by the service at which they enter.
    pub entries: BTreeMap<ServiceName, EntryMemory>,
    /// Pods' resources.
    pub pods: BTreeMap<PodName, UsageMemory>,
    /// Nodes' resources.
    pub nodes: BTreeMap<NodeName, UsageMemory>,
    /// Rare records, oldest first.
    pub rare: VecDeque<RareRecords>,
    /// Processes that ended, oldest first.
    pub events: VecDeque<ProcessEvent>,
    /// When the last frame ended.
    pub now_ns: MonotonicNanos,
    /// Edges that found no room.
    pub edges_refused: u64,
    /// When pods that still exist were last killed for want of memory.
    pub oom_killed: BTreeMap<PodName, MonotonicNanos>,
    /// Services of which a pod that is gone has answered: its successors are expected to.
    pub served: BTreeSet<ServiceName>,
    /// What is made worse on purpose; for proofs only.
    pub weakness: Option<Weakness>,
}

impl Memory {
    /// Nothing remembered yet.
    #[must_use]
    pub fn new(weakness: Option<Weakness>) -> Self {
        Self {
            weakness,
            ..Self::default()
        }
    }

    /// Takes in a line of the inventory.
    pub fn apply(&mut self, line: &InventoryLine) {
        let service = match line {
            InventoryLine::PodGone { name } => Some(self.inventory.service_of(name)),
            _ => None,
        };
        self.inventory.apply(line);
        if let (InventoryLine::PodGone { name }, Some(service)) = (line, service) {
            if self
                .inventory
                .pods()
                .all(|pod| self.inventory.service_of(&pod.name) != service)
            {
                self.entries.remove(&service);
            }
            self.pods.remove(name);
            // Whoever comes under the same name has not ended.
            self.events.retain(|event| event.pod != *name);
            self.oom_killed.remove(name);
            let gone = Peer::Pod(name.clone());
            if self
                .edges
                .iter()
                .any(|(key, edge)| key.callee == gone && edge.norm.busy_cells > 0)
            {
                self.served.insert(service);
                let known = self.inventory.services();
                self.served.retain(|service| known.binary_search(service).is_ok());
            }
            self.edges.retain(|key, _| key.caller != gone && key.callee != gone);
        }
    }

    /// Takes in a frame.
    pub fn absorb(&mut self, frame: &Frame, learn: Learn) {
        self.now_ns = frame.at_ns;
        self.inventory.note_time(frame.at_ns);
        let seconds = frame.span_ns as f64 / 1e9;
        self.absorb_edges(frame, seconds, learn);
        for sample in &frame.pods {
            let memory = self.pods.entry(sample.pod.clone()).or_default();
            absorb_usage(
                memory,
                Timed {
                    at_ns: frame.at_ns,
                    seconds,
                    value: Usage::of(&sample.usage),
                },
                learn,
            );
        }
        for sample in &frame.nodes {
            let memory = self.nodes.entry(sample.node.clone()).or_default();
            absorb_usage(
                memory,
                Timed {
                    at_ns: frame.at_ns,
                    seconds,
                    value: Usage::of(&sample.usage),
                },
                learn,
            );
        }
        self.rare.push_back(RareRecords {
            at_ns: frame.at_ns,
            seconds,
            drops: frame.drops.clone(),
            resets: frame.resets.clone(),
            dns: frame.dns.clone(),
        });
        let oldest_rare = frame.at_ns.saturating_sub((RECENT_SECONDS * 1e9) as u64);
        while self.rare.front().is_some_and(|records| records.at_ns <= oldest_rare) {
            self.rare.pop_front();
        }
        let killed = frame
            .events
            .iter()
            .filter(|event| event.kind == ProcessEventKind::OomKilled);
        self.oom_killed
            .extend(killed.map(|event| (event.pod.clone(), event.at_ns)));
        let oldest_kill = frame.at_ns.saturating_sub(OOM_NS);
        self.oom_killed.retain(|_, at_ns| *at_ns > oldest_kill);
        self.events.extend(frame.events.iter().cloned());
        let oldest_event = frame.at_ns.saturating_sub((EVENTS_SECONDS * 1e9) as u64);
        while self.events.len() > EVENTS_MAX || self.events.front().is_some_and(|event| event.at_ns <= oldest_event) {
            self.events.pop_front();
        }
    }

    fn absorb_edges(&mut self, frame: &Frame, seconds: f64, learn: Learn) {
        let ticks = ticks_of(frame);
        self.add_edges(&ticks);
        self.count_entries(frame.at_ns, seconds, &ticks, learn);
        let mut dropped = self.drops_by_edge(frame);
        // Both are in the order of their keys, so one walk through them is enough.
        let mut ticks = ticks.into_iter().peekable();
        self.edges.retain(|key, memory| {
            // Edges that found no room are passed over.
            while ticks.next_if(|tick| tick.key < *key).is_some() {}
            let tick = ticks.next_if(|tick| tick.key == *key);
            let (mut value, via) = tick.map(|tick| (tick.flow, tick.via)).unwrap_or_default();
            value.dropped += dropped.remove(key).unwrap_or(0);
            if via.is_some() && via != memory.via.as_ref() {
                memory.via = via.cloned();
            }
            let busy = value
                .sides()
                .any(|flow| flow.requests > 0 || flow.attempted > 0 || flow.open > 0)
                || value.dropped > 0;
            memory.idle_frames = if busy { 0 } else { memory.idle_frames + 1 };
            if memory.track.push(
                Timed {
                    at_ns: frame.at_ns,
                    seconds,
                    value,
                },
                learn,
            ) {
                memory.norm = EdgeNorm::of(&memory.track);
            }
            memory.idle_frames < IDLE_FRAMES_MAX
        });
    }

    /// Makes room for edges that are new.
    fn add_edges(&mut self, ticks: &[EdgeTick<'_>]) {
        let mut known = self.edges.keys().peekable();
        let mut new = Vec::new();
        for tick in ticks {
            while known.next_if(|key| **key < tick.key).is_some() {}
            if known.peek().is_none_or(|key| **key != tick.key) {
                new.push(tick.key.clone());
            }
        }
        let room = EDGES_MAX.saturating_sub(self.edges.len());
        for key in new.drain(..new.len().min(room)) {
            self.edges.insert(key, EdgeMemory::default());
        }
        self.edges_refused += new.len() as u64;
    }

    fn count_entries(&mut self, at_ns: MonotonicNanos, seconds: f64, ticks: &[EdgeTick<'_>], learn: Learn) {
        let called: HashSet<&Peer> = self.edges.keys().map(|key| &key.callee).collect();
        let mut entered: BTreeMap<ServiceName, u32> = BTreeMap::new();
        for tick in ticks {
            let enters = match &tick.key.caller {
                Peer::Pod(_) => !called.contains(&tick.key.caller),
                Peer::External(_) | Peer::Node(_) => true,
                Peer::Service(_) => false,
            };
            if !enters {
                continue;
            }
            if let Some(pod) = self.inventory.pods_of(&tick.key.callee).first() {
                let requests = tick.flow.at_server().map_or(0, |flow| flow.requests);
                *entered.entry(self.inventory.service_of(pod)).or_default() += requests;
            }
        }
        for service in entered.keys() {
            self.entries.entry(service.clone()).or_default();
        }
        for (service, memory) in &mut self.entries {
            let value = Entries {
                requests: entered.get(service).copied().unwrap_or(0),
            };
            if memory.track.push(Timed { at_ns, seconds, value }, learn) {
                memory.norm = EntryNorm::of(&memory.track);
            }
        }
    }

    /// Dropped packets by the edges to which they belong.
    fn drops_by_edge(&self, frame: &Frame) -> BTreeMap<EdgeKey, u32> {
        let mut dropped = BTreeMap::new();
        for sample in &frame.drops {
            if matches!(DropClass::of(sample), DropClass::Noise | DropClass::Duplicate) {
                continue;
            }
            let (client, server) = if sample.to_server {
                (&sample.source, &sample.target)
            } else {
                (&sample.target, &sample.source)
            };
            let (Some(client), Some(server)) = (client, server) else {
                continue;
            };
            let from = EdgeKey {
                caller: fold_outside(client),
                callee: server.clone(),
                port: 0,
            };
            let to = EdgeKey {
                port: u16::MAX,
                ..from.clone()
            };
            for (key, _) in self.edges.range(from..=to) {
                *dropped.entry(key.clone()).or_default() += sample.count;
            }
        }
        dropped
    }
}

/// All callers outside the inventory are one: the world.
#[must_use]
pub fn fold_outside(peer: &Peer) -> Peer {
    match peer {
        Peer::External(_) => Peer::External(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Peer::Pod(_) | Peer::Node(_) | Peer::Service(_) => peer.clone(),
    }
}

fn absorb_usage(memory: &mut UsageMemory, tick: Timed<Usage>, learn: Learn) {
    if memory.track.push(tick, learn) {
        memory.norm = UsageNorm::of(&memory.track);
    }
}
