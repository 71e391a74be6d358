//! Faults of a cluster's objects and nodes: what its API then says, and where calls then go.

use gauntlet_probes::entity::{InventoryLine, NodeName, Peer, PodName, ServiceName};
use gauntlet_probes::frame::{Direction, DropSample, EdgeSample, SideSample, Transport};
use rand::Rng;

use super::Sim;
use super::faults::{Active, hits};

/// CPU time of a node's agents in a tick, nanoseconds.
pub const AGENTS_NS: u64 = 2_000_000;

/// What the API says when the fault begins.
pub fn begun(sim: &Sim) -> Vec<InventoryLine> {
    let all = sim.inventory();
    let Some(Active { fault, .. }) = &sim.active else {
        return Vec::new();
    };
    let hit: Vec<PodName> = fault
        .pods
        .iter()
        .map(|&pod| PodName::new(sim.app.pods[pod].name.clone()))
        .collect();
    let mut lines = Vec::new();
    if matches!(fault.kind.as_str(), "unselect" | "scale") {
        for mut line in all {
            if let InventoryLine::Service(service) = &mut line
                && service.endpoints.iter().any(|pod| hit.contains(pod))
            {
                service.endpoints.clear();
                lines.push(line);
            }
        }
    }
    if fault.kind == "scale" {
        lines.extend(hit.into_iter().map(|name| InventoryLine::PodGone { name }));
    }
    lines
}

/// What it says when the fault is undone.
pub fn ended(sim: &Sim) -> Vec<InventoryLine> {
    let changed = sim.active.as_ref().is_some_and(|active| active.fault.kind != "none");
    let mut lines = sim.inventory();
    lines.retain(|line| changed && matches!(line, InventoryLine::Pod(_) | InventoryLine::Service(_)));
    lines
}

/// `pod` does not exist now.
pub fn is_gone(sim: &Sim, pod: usize) -> bool {
    hits(sim, &["scale"], pod).is_some()
}

/// Nothing runs on `node`.
pub fn is_frozen(sim: &Sim, node: usize) -> bool {
    let frozen = |pod: &usize| sim.app.pods[*pod].node == node && hits(sim, &["freeze"], *pod).is_some();
    (0..sim.app.pods.len()).any(|pod| frozen(&pod))
}

/// The node that is cut off between `caller` and `callee`.
pub fn cut_between(sim: &Sim, caller: Option<usize>, callee: usize) -> Option<NodeName> {
    let node = |pod: usize| sim.app.pods[pod].node;
    if caller.map(node) == Some(node(callee)) {
        return None;
    }
    let cut = [Some(callee), caller]
        .into_iter()
        .flatten()
        .find(|&pod| hits(sim, &["cut"], pod).is_some());
    cut.map(|pod| NodeName::new(format!("node-{}", node(pod))))
}

/// A call by a virtual address that leads nowhere: refused by the caller's node. What is open lives on until it is of age,
/// unless the pod is gone.
pub fn nowhere(sim: &mut Sim, caller: Option<usize>, callee: usize) -> Option<(f64, bool)> {
    let gone = is_gone(sim, callee);
    if !gone {
        hits(sim, &["unselect"], callee)?;
    }
    let pool = sim.pools.get_mut(&(caller, callee)).unwrap();
    if gone {
        pool.open = 0;
    } else if pool.open > 0 && sim.rng.random_bool(0.05) {
        pool.open -= 1;
    }
    if sim.rng.random_range(0..4) < pool.open {
        return None;
    }
    let service = sim.app.pods[callee].service;
    let (name, port) = (
        sim.app.services[service].name.clone(),
        sim.app.services[service].kind.port(),
    );
    let caller = caller?;
    let client = SideSample {
        connects_attempted: 1,
        connects_failed: vec![(0, 1)],
        ..SideSample::default()
    };
    sim.frame.edges.push(EdgeSample {
        caller: sim.app.peer(caller),
        callee: Peer::Service(name.clone()),
        via: Some(name.clone()),
        port,
        client: Some(client),
        server: None,
    });
    sim.frame.drops.push(DropSample {
        at: Some(Peer::Node(NodeName::new(format!("node-{}", sim.app.pods[caller].node)))),
        reason: "NETFILTER_DROP".to_owned(),
        symbol: "nft_do_chain".to_owned(),
        direction: Direction::Forward,
        source: Some(sim.app.peer(caller)),
        target: Some(Peer::Service(name)),
        port,
        to_server: true,
        transport: Transport::Tcp,
        count: 1,
        syn_count: 1,
        length_bytes_max: 60,
    });
    Some((0.3, false))
}

/// Who is asked for names at `server`: its pod, or the address behind which it was.
pub fn name_server(sim: &Sim, server: usize) -> Peer {
    if is_gone(sim, server) {
        let service = ServiceName::new(sim.app.services[sim.app.pods[server].service].name.clone());
        Peer::Service(service.to_string())
    } else {
        sim.app.peer(server)
    }
}
