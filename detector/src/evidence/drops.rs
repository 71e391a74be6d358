//! Dropped packets of the last seconds, by who was at each end and by what dropped them.

use std::collections::BTreeMap;

use gauntlet_probes::entity::Peer;
use gauntlet_probes::frame::{DropSample, MonotonicNanos};

use crate::memory::fold_outside;
use crate::scene::{EdgeIx, End, Scene};

/// What dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropClass {
    /// A rule that looks at packets (netfilter, a cgroup's or socket's BPF program).
    Filter,
    /// Something below the rules: traffic control, XDP.
    Link,
    /// A queue that was full or limited.
    Queue,
    /// No neighbour, no route.
    Route,
    /// Too large to pass.
    TooBig,
    /// The receiver had it already: what was sent again had not been lost.
    Duplicate,
    /// Usual in health, or told better by other records.
    Noise,
}

impl DropClass {
    /// By the kernel's reason, or the function's name where the reason says nothing.
    #[must_use]
    pub fn of(sample: &DropSample) -> Self {
        match sample.reason.as_str() {
            "NETFILTER_DROP" | "BPF_CGROUP_EGRESS" | "SOCKET_FILTER" => Self::Filter,
            "TC_INGRESS" | "TC_EGRESS" | "XDP" => Self::Link,
            "QDISC_DROP" | "QDISC_OVERLIMIT" | "QDISC_CONGESTED" | "FULL_RING" | "CPU_BACKLOG" => Self::Queue,
            "NEIGH_FAILED" | "NEIGH_CREATEFAIL" | "NEIGH_QUEUEFULL" | "NEIGH_DEAD" | "IP_OUTNOROUTES"
            | "IP_INNOROUTES" | "IP_INADDRERRORS" | "IP_RPFILTER" | "DEV_READY" => Self::Route,
            "TCP_OLD_DATA" => Self::Duplicate,
            "PKT_TOO_BIG" => Self::TooBig,
            "NOT_SPECIFIED" => match sample.symbol.as_str() {
                "do_xdp_generic" => Self::Link,
                symbol if symbol.starts_with("tbf_") || symbol.ends_with("_enqueue") => Self::Queue,
                _ => Self::Noise,
            },
            _ => Self::Noise,
        }
    }
}

/// Packets dropped at one place between two ends by one kind of thing, in the last seconds.
#[derive(Clone, Debug)]
pub struct DropFlow {
    /// Where.
    pub at: Option<Peer>,
    /// By what.
    pub class: DropClass,
    /// The caller's end.
    pub client: End,
    /// The callee's end.
    pub server: End,
    /// How many.
    pub count: u32,
    /// How many of them were opening a connection.
    pub syn_count: u32,
    /// In how many frames.
    pub frames: u32,
    /// End of the first of these frames.
    pub first_ns: MonotonicNanos,
    /// End of the last of these frames.
    pub last_ns: MonotonicNanos,
    /// The most frequent reason and function, for people.
    pub words: String,
}

/// Place, class, client and server of dropped packets.
type FlowKey = (Option<Peer>, DropClass, Option<Peer>, Option<Peer>);

/// All of `scene`, ordered by place and ends.
#[must_use]
pub fn drop_flows(scene: &Scene<'_>) -> Vec<DropFlow> {
    let mut flows: BTreeMap<FlowKey, DropFlow> = BTreeMap::new();
    for records in &scene.rare {
        for sample in &records.drops {
            let class = DropClass::of(sample);
            if class == DropClass::Noise {
                continue;
            }
            if class == DropClass::Filter && refused_for_want_of_pods(scene, sample) {
                continue;
            }
            let (client, server) = if sample.to_server {
                (&sample.source, &sample.target)
            } else {
                (&sample.target, &sample.source)
            };
            let key = (
                sample.at.clone(),
                class,
                client.as_ref().map(fold_outside),
                server.clone(),
            );
            let flow = flows.entry(key).or_insert_with(|| DropFlow {
                at: sample.at.clone(),
                class,
                client: client.as_ref().map_or(End::Outside, |peer| scene.end(peer)),
                server: server.as_ref().map_or(End::Outside, |peer| scene.end(peer)),
                count: 0,
                syn_count: 0,
                frames: 0,
                first_ns: records.at_ns,
                last_ns: 0,
                words: format!("{} in {}", sample.reason, sample.symbol),
            });
            flow.count += sample.count;
            flow.syn_count += sample.syn_count;
            flow.frames += u32::from(flow.last_ns != records.at_ns);
            flow.last_ns = records.at_ns;
        }
    }
    flows.into_values().collect()
}

/// A node refuses what is sent to a virtual address that leads nowhere, as far as it knows: that is the doing of whoever
/// left the address without pods. Where it led somewhere, the packet would bear a pod's address.
fn refused_for_want_of_pods(scene: &Scene<'_>, sample: &DropSample) -> bool {
    let target = match (&sample.at, &sample.target) {
        (Some(Peer::Node(_)), Some(target)) if sample.to_server => target,
        _ => return false,
    };
    match target {
        Peer::Service(_) => true,
        Peer::Pod(name) => scene.inventory().lately_found(name),
        Peer::Node(_) | Peer::External(_) => false,
    }
}

/// The edges to which the packets of `flow` belong.
pub fn edges_of<'a>(scene: &'a Scene<'_>, flow: &'a DropFlow) -> impl Iterator<Item = EdgeIx> + 'a {
    let touches = |end: &End, other: &End| other.pods().iter().any(|pod| end.pods().contains(pod));
    let inbound = flow
        .server
        .pods()
        .iter()
        .flat_map(|&pod| scene.pods[pod].inbound.iter().copied());
    inbound.filter(move |&edge| {
        let caller = &scene.edges[edge].caller;
        touches(caller, &flow.client) || (flow.client == End::Outside && *caller == End::Outside)
    })
}
