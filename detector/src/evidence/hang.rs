//! process.hang: the kernel takes requests and acknowledges them, and the process does not even read them; or it reads
//! them, calls nobody, and never answers. Where nothing at all runs on a node, the node hangs, and not its pods.

use std::collections::BTreeSet;

use super::{Certainty, Finding, by_service, names};
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::residual::failing;
use crate::scene::{NodeIx, PodIx, Scene, UsageView};
use crate::topology::ServiceIx;

/// Age of unread data (or of an unaccepted or unanswered request), nanoseconds, beyond which a process is stuck: a busy
/// process on a busy machine reads within some hundred milliseconds.
const UNREAD_AGE_NS: u64 = 700_000_000;
/// Share of its usual CPU that a stuck process still uses at most.
const IDLE_CPU_SHARE: f64 = 0.2;
/// CPU, cores, below which use is idle whatever is usual.
const IDLE_CORES: f64 = 0.01;
/// Seconds of the latest ticks in which nothing was answered.
const SILENT_SECONDS: f64 = 0.7;

/// Seconds of the latest ticks in which nothing ran on a node that stands still.
const STILL_SECONDS: f64 = 0.7;
/// CPU, cores, up to which nothing ran: a frozen process uses none at all.
const STILL_CORES: f64 = 0.0005;
/// CPU, cores, that a node usually uses beyond what its pods use, from which its silence is its own: its agents never rest.
const NODE_OWN_CORES: f64 = 0.003;

/// Seconds of the latest ticks in which requests were read and none was answered.
const MUTE_SECONDS: f64 = 1.4;
/// Requests read in that time without which nothing is said.
const MUTE_REQUESTS_MIN: u32 = 5;
/// Share of throttled periods from which silence is want of CPU.
const THROTTLED_MIN: f64 = 0.25;

/// Data or connections wait at `pod` and nothing takes them.
#[must_use]
pub fn stuck(scene: &Scene<'_>, pod: PodIx) -> bool {
    let mut waiting = false;
    for &edge in &scene.pods[pod].inbound {
        let edge = &scene.edges[edge];
        if let Some(server) = &edge.now.value.server {
            let age_ns_min = UNREAD_AGE_NS as f64 * scene.threshold_factor();
            waiting |= server.unread_connections > 0 && server.unread_age_ns as f64 >= age_ns_min;
        }
        let mut seconds = 0.0;
        // A caller that has just come waits in the moment of a look, too: only who is not let in for long is kept waiting.
        let mut kept_waiting = true;
        for tick in edge.recent().rev() {
            if tick.value.at_server().is_some_and(|flow| flow.responses > 0) {
                return false;
            }
            let server = tick.value.server.as_ref();
            kept_waiting &= server.is_some_and(|flow| flow.accept_backlog > 0);
            seconds += tick.seconds;
            if seconds >= SILENT_SECONDS {
                break;
            }
        }
        waiting |= kept_waiting && seconds >= SILENT_SECONDS;
    }
    waiting
}

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = unread(scene);
    findings.extend(unanswered(scene));
    findings
}

/// Processes that read requests and answer none, though nothing that they call keeps them waiting.
fn unanswered(scene: &Scene<'_>) -> Vec<Finding> {
    let mute: Vec<PodIx> = (0..scene.pods.len()).filter(|&pod| is_mute(scene, pod)).collect();
    by_service(scene, mute)
        .into_iter()
        .map(|(service, pods)| Finding {
            mechanism: Mechanism::ProcessHang,
            place: Place::Service(service),
            strength: 0.75,
            certainty: Certainty::Inferred,
            since_ns: scene.now_ns.saturating_sub((MUTE_SECONDS * 1e9) as u64),
            evidence: vec![
                format!(
                    "{} reads requests and has answered none for {MUTE_SECONDS} s",
                    names(scene, &pods)
                ),
                "it waits for nobody that it calls, and is not short of CPU".to_owned(),
            ],
            pods,
        })
        .collect()
}

fn is_mute(scene: &Scene<'_>, pod: PodIx) -> bool {
    let view = &scene.pods[pod];
    let waits = view.outbound.iter().map(|&edge| &scene.edges[edge]).any(|edge| {
        let flow = edge.now.value.best();
        failing(edge) || flow.is_some_and(|flow| flow.outstanding > 0 || flow.opening_age_ns > 0)
    });
    if waits || throttled(scene, pod) {
        return false;
    }
    let (mut requests, mut expected) = (0, 0.0);
    for &edge in &view.inbound {
        let edge = &scene.edges[edge];
        expected += edge.norm.response_rate * MUTE_SECONDS;
        let mut seconds = 0.0;
        for tick in edge.recent().rev().take_while(|tick| {
            seconds += tick.seconds;
            seconds <= MUTE_SECONDS + 0.01
        }) {
            let Some(server) = &tick.value.server else { continue };
            if server.responses > 0 || server.unread_connections > 0 {
                return false;
            }
            requests += server.requests;
        }
    }
    requests >= MUTE_REQUESTS_MIN && expected >= f64::from(MUTE_REQUESTS_MIN)
}

/// Processes that do not read what has arrived.
fn unread(scene: &Scene<'_>) -> Vec<Finding> {
    let mut hung: Vec<PodIx> = (0..scene.pods.len())
        .filter(|&pod| stuck(scene, pod) && idle(scene, pod) && !throttled(scene, pod))
        .collect();
    let still: Vec<NodeIx> = (0..scene.nodes.len())
        .filter(|&node| stands_still(scene, node, &hung))
        .collect();
    let on = |node: NodeIx| hung.iter().copied().filter(move |&pod| scene.pods[pod].node == node);
    let mut findings: Vec<Finding> = still
        .iter()
        .map(|&node| Finding {
            strength: 0.95,
            pods: scene.nodes[node].pods.clone(),
            ..waiting(
                scene,
                Place::Node(node),
                on(node).collect(),
                "nothing on the node uses any CPU",
            )
        })
        .collect();
    hung.retain(|&pod| !still.contains(&scene.pods[pod].node));
    for (service, pods) in by_service(scene, hung) {
        findings.push(waiting(scene, Place::Service(service), pods, "the process uses no CPU"));
    }
    findings
}

/// What waits at `pods`, which do not take it.
fn waiting(scene: &Scene<'_>, place: Place, pods: Vec<PodIx>, idleness: &str) -> Finding {
    let servers = || {
        pods.iter()
            .flat_map(|&pod| &scene.pods[pod].inbound)
            .filter_map(|&edge| scene.edges[edge].now.value.server.as_ref())
    };
    // A connection that nobody accepts is one that nobody reads, too.
    let unread: u32 = servers()
        .map(|flow| flow.unread_connections.max(flow.accept_backlog))
        .sum();
    let age_ns = servers()
        .map(|flow| flow.unread_age_ns.max(flow.outstanding_age_ns))
        .max()
        .unwrap_or(0);
    Finding {
        mechanism: Mechanism::ProcessHang,
        place,
        strength: 0.92,
        certainty: Certainty::Stated,
        since_ns: scene.now_ns.saturating_sub(age_ns),
        evidence: vec![
            format!(
                "{unread} connections at {} hold data or callers that the process does not take, for {} ms",
                names(scene, &pods),
                age_ns / 1_000_000
            ),
            format!("packets are acknowledged, and {idleness}"),
        ],
        pods,
    }
}

/// Nothing runs on `node`, others work, and it is not just that one service of it hangs on which all the others wait.
fn stands_still(scene: &Scene<'_>, node: NodeIx, hung: &[PodIx]) -> bool {
    let services: BTreeSet<ServiceIx> = hung
        .iter()
        .filter(|&&pod| scene.pods[pod].node == node)
        .map(|&pod| scene.pods[pod].service)
        .collect();
    let rests = |node: NodeIx| latest_cores(scene, node).map(|cores| cores <= STILL_CORES);
    let others_work = (0..scene.nodes.len()).any(|other| rests(other) == Some(false));
    if services.is_empty() || rests(node) != Some(true) || !others_work {
        return false;
    }
    services.len() >= 2 || own_cores(scene, node) >= NODE_OWN_CORES
}

/// Cores busy on `node` in its latest ticks; `None`: not known.
fn latest_cores(scene: &Scene<'_>, node: NodeIx) -> Option<f64> {
    let usage = scene.nodes[node].usage.as_ref()?;
    let (mut seconds, mut cpu_ns) = (0.0, 0);
    for tick in usage.recent().rev() {
        seconds += tick.seconds;
        cpu_ns += tick.value.cpu_ns;
        if seconds >= STILL_SECONDS {
            return Some(cpu_ns as f64 / 1e9 / seconds);
        }
    }
    None
}

/// Cores that `node` usually uses beyond what its pods use.
fn own_cores(scene: &Scene<'_>, node: NodeIx) -> f64 {
    let usual = |usage: &UsageView<'_>| usage.norm.cores.median;
    let pods = scene.nodes[node].pods.iter().map(|&pod| &scene.pods[pod].usage);
    let pods: f64 = pods.flatten().map(usual).sum();
    scene.nodes[node].usage.as_ref().map_or(0.0, usual) - pods
}

/// The processes of `pod` hardly run.
fn idle(scene: &Scene<'_>, pod: PodIx) -> bool {
    scene.pods[pod].usage.as_ref().is_none_or(|usage| {
        let recent_cores = usage.now.value.cpu_ns as f64 / 1e9 / usage.now.seconds.max(0.001);
        // The window may still hold the time before: judge what the usual use would have been by then.
        recent_cores <= IDLE_CORES.max(IDLE_CPU_SHARE * usage.norm.cores.median)
            || usage.norm.cores.median <= IDLE_CORES
    })
}

/// Processes that are not let run are not stuck: they are short of CPU.
fn throttled(scene: &Scene<'_>, pod: PodIx) -> bool {
    let usage = scene.pods[pod].usage.as_ref();
    usage.is_some_and(|usage| usage.now.value.throttled_ratio() >= THROTTLED_MIN)
}
