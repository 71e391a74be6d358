//! process.crash, network.misroute and network.down: nobody answers at the address, and the kernel says so.
//!
//! A refusal by the pod's own kernel (`NO_SOCKET`) means that nobody listens on that port: because the process is gone
//! (its end was seen), or because the packets went to a port where it never listened.

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_probes::entity::Peer;
use gauntlet_probes::frame::{MonotonicNanos, ProcessEventKind};

use super::drops::DropClass;
use super::filter::blocked;
use super::{Certainty, Finding, by_service, deserted, hang, names, strength_of};
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::scene::{EdgeView, End, PodIx, Scene};
use crate::topology::ServiceIx;

/// Refused connections without which nothing is said: one or two happen when a process restarts by plan.
const REFUSED_MIN: u32 = 3;
/// Doubt that each further refusal leaves.
const REFUSAL_DOUBT: f64 = 0.6;
/// Seconds after a process ended within which it is still news: one restart with the pools of all callers refilled.
const CRASH_ECHO_SECONDS: f64 = 4.0;
/// When processes of a pod end again and again: this times the last interval, in which the next end is awaited.
const CRASH_LOOP_FACTOR: f64 = 1.4;
/// Seconds that a next end is awaited at most.
const CRASH_LOOP_SECONDS_MAX: f64 = 10.0;
/// Seconds between two ends that are two, and not the processes of one pod ending together.
const CRASH_APART_SECONDS: f64 = 1.0;
/// Time that an inventory may take to say that a pod was relieved before it was told to end, nanoseconds. Who ends by
/// itself is missed later: somebody has to notice first.
const RELIEVED_NS: MonotonicNanos = 500_000_000;
/// Unreachable connections or packets without a route, without which nothing is said.
const UNREACHABLE_MIN: u32 = 3;

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = crashes(scene);
    findings.extend(misroutes(scene));
    findings.extend(downs(scene));
    findings
}

/// Something else than a filter explains that `edge` is blocked.
#[must_use]
pub fn otherwise_explained(scene: &Scene<'_>, edge: &EdgeView<'_>) -> bool {
    edge.now
        .value
        .client
        .as_ref()
        .is_some_and(|flow| flow.unreachable > 0 || flow.neighbour_retransmits > 0)
        || deserted::leads_nowhere(scene, edge)
        || late_answers(scene, edge) >= LATE_MIN
        || edge.now.value.sides().any(|flow| flow.queue_retransmits > 0)
        || edge.callee.pods().iter().any(|&pod| {
            hang::stuck(scene, pod) || !abnormal_ends(scene, pod).is_empty() || no_socket_resets(scene, pod).count > 0
        })
        || edge
            .caller
            .pods()
            .iter()
            .any(|&pod| !abnormal_ends(scene, pod).is_empty() || hang::stuck(scene, pod))
}

/// Packets of the callee that met no socket at the caller any more: they were late, not lost.
#[must_use]
pub fn late_answers(scene: &Scene<'_>, edge: &EdgeView<'_>) -> u32 {
    let at_caller = |peer: &Peer| scene.end(peer) == edge.caller;
    let from_callee = |peer: &Option<Peer>| peer.as_ref().is_some_and(|peer| scene.end(peer) == edge.callee);
    let resets = scene.rare.iter().flat_map(|records| &records.resets);
    let late = resets.filter(|reset| reset.sent && !reset.at_server && reset.reason.as_deref() == Some("NO_SOCKET"));
    late.filter(|reset| at_caller(&reset.at) && from_callee(&reset.peer))
        .map(|reset| reset.count)
        .sum()
}

/// Late answers in the last seconds from which the network is late rather than closed.
pub const LATE_MIN: u32 = 3;

/// Processes of `pod` that ended as no process should, oldest first.
fn abnormal_ends(scene: &Scene<'_>, pod: PodIx) -> Vec<(MonotonicNanos, ProcessEventKind)> {
    let abnormal = |kind: ProcessEventKind| match kind {
        ProcessEventKind::Exited(code) => code != 0,
        ProcessEventKind::Signalled(_) | ProcessEventKind::OomKilled => true,
        ProcessEventKind::Exec => false,
    };
    let events = scene.pods[pod].events.iter().filter(|event| abnormal(event.kind));
    events.map(|event| (event.at_ns, event.kind)).collect()
}

/// What the callers of `pod` met in the current window.
#[derive(Clone, Copy, Debug, Default)]
struct Reception {
    refused: u32,
    broken: u32,
    answers: u32,
    vain: u32,
}

fn reception(scene: &Scene<'_>, pod: PodIx) -> Reception {
    let mut sum = Reception::default();
    for &edge in &scene.pods[pod].inbound {
        let edge = &scene.edges[edge].now.value;
        sum.refused += edge.best().map_or(0, |flow| flow.refused);
        sum.broken += edge.sides().map(|flow| flow.broken).sum::<u32>();
        sum.answers += edge.best().map_or(0, |flow| flow.responses);
        sum.vain += edge.vain();
    }
    sum
}

fn crashes(scene: &Scene<'_>) -> Vec<Finding> {
    let mut crashed: BTreeMap<PodIx, (MonotonicNanos, bool, u32)> = BTreeMap::new();
    for pod in 0..scene.pods.len() {
        let ends = abnormal_ends(scene, pod);
        let (Some(first), Some(last)) = (ends.first(), ends.last()) else {
            continue;
        };
        let relieved_ns = scene.inventory().relieved_ns(scene.pods[pod].name);
        if relieved_ns.is_some_and(|at_ns| at_ns <= first.0 + RELIEVED_NS) {
            continue;
        }
        let met = reception(scene, pod);
        let interval = ends
            .iter()
            .rev()
            .map(|end| (last.0 - end.0) as f64 / 1e9)
            .find(|&apart| apart >= CRASH_APART_SECONDS);
        let echo = interval.map_or(CRASH_ECHO_SECONDS, |interval| {
            (CRASH_LOOP_FACTOR * interval).min(CRASH_LOOP_SECONDS_MAX)
        });
        let fresh = (scene.now_ns.saturating_sub(last.0)) as f64 / 1e9 <= echo;
        let gone = met.refused >= 1 && met.answers <= met.vain + met.refused;
        // A worker that exits with an error as its caller leaves is no news; a signal is, and so is a closed port.
        let closed = met.refused > 0 || no_socket_resets(scene, pod).count > 0;
        let signalled = ends
            .iter()
            .any(|(_, kind)| matches!(kind, ProcessEventKind::Signalled(_) | ProcessEventKind::OomKilled));
        let noticed = closed || (signalled && (met.broken + met.vain >= 1 || let_go(scene, pod, first.0, last.0)));
        if gone || (fresh && (noticed || (signalled && interval.is_some()))) {
            let oom = ends.iter().any(|(_, kind)| *kind == ProcessEventKind::OomKilled);
            crashed.insert(pod, (first.0, oom, ends.len() as u32));
        }
    }
    let mut findings = Vec::new();
    for oom in [false, true] {
        for (service, pods) in by_service(scene, crashed.keys().copied().filter(|pod| crashed[pod].1 == oom)) {
            let count: u32 = pods.iter().map(|pod| crashed[pod].2).sum();
            let refused: u32 = pods.iter().map(|&pod| reception(scene, pod).refused).sum();
            let what = if oom {
                "killed for want of memory"
            } else {
                "ended by a signal or with an error"
            };
            findings.push(Finding {
                mechanism: if oom {
                    Mechanism::ResourceMemory
                } else {
                    Mechanism::ProcessCrash
                },
                place: Place::Service(service),
                strength: 0.95,
                certainty: Certainty::Stated,
                since_ns: pods.iter().map(|pod| crashed[pod].0).min().unwrap_or(scene.now_ns),
                evidence: vec![
                    format!("{count} processes at {} {what}", names(scene, &pods)),
                    format!("{refused} connections refused there since"),
                ],
                pods,
            });
        }
    }
    findings
}

/// Connections of `pod`, in either direction, closed as its processes ended: it was they who served.
fn let_go(scene: &Scene<'_>, pod: PodIx, first_ns: MonotonicNanos, last_ns: MonotonicNanos) -> bool {
    let edges = scene.pods[pod].inbound.iter().chain(&scene.pods[pod].outbound);
    let mut ticks = edges.flat_map(|&edge| scene.edges[edge].recent());
    ticks.any(|tick| {
        let near = tick.at_ns + LET_GO_NS >= first_ns && tick.at_ns <= last_ns + LET_GO_NS;
        near && tick.value.sides().any(|flow| flow.closed + flow.broken > 0)
    })
}

/// Time within which connections close when their process ends, nanoseconds: two ticks.
const LET_GO_NS: u64 = 400_000_000;

/// Refusals that a pod's own kernel sent.
#[derive(Clone, Copy, Debug, Default)]
struct NoSocket {
    count: u32,
    other_port: bool,
    frames: u32,
    first_ns: MonotonicNanos,
}

fn no_socket_resets(scene: &Scene<'_>, pod: PodIx) -> NoSocket {
    let mut sum = NoSocket::default();
    let dialled: BTreeSet<u16> = scene.pods[pod]
        .inbound
        .iter()
        .map(|&edge| scene.edges[edge].port)
        .collect();
    for records in &scene.rare {
        let mut seen = false;
        for reset in records
            .resets
            .iter()
            .filter(|reset| reset.sent && reset.reason.as_deref() == Some("NO_SOCKET"))
        {
            if !matches!(&reset.at, Peer::Pod(name) if name == scene.pods[pod].name) {
                continue;
            }
            sum.first_ns = if sum.count == 0 { records.at_ns } else { sum.first_ns };
            sum.count += reset.count;
            sum.other_port |= !dialled.contains(&reset.port);
            seen = true;
        }
        sum.frames += u32::from(seen);
    }
    sum
}

/// Refused by the pods' own kernels, although no process ended there.
fn misroutes(scene: &Scene<'_>) -> Vec<Finding> {
    let mut refusing: BTreeMap<PodIx, (u32, NoSocket)> = BTreeMap::new();
    for edge in &scene.edges {
        let refused = if edge.healed() {
            0
        } else {
            edge.now.value.best().map_or(0, |flow| flow.refused)
        };
        for &pod in edge.callee.pods().iter().filter(|_| refused > 0) {
            if !scene.served(pod) {
                continue;
            }
            let resets = no_socket_resets(scene, pod);
            if resets.count > 0 && resets.frames >= 2 && abnormal_ends(scene, pod).is_empty() {
                refusing.entry(pod).or_insert((0, resets)).0 += refused;
            }
        }
    }
    let mut findings = Vec::new();
    for (service, pods) in by_service(scene, refusing.keys().copied()) {
        let refused: u32 = pods.iter().map(|pod| refusing[pod].0).sum();
        if refused < REFUSED_MIN {
            continue;
        }
        let other_port = pods.iter().any(|pod| refusing[pod].1.other_port);
        let by = format!(
            "{refused} connections refused by the kernels of {}",
            names(scene, &pods)
        );
        let (mechanism, strength_max, mut evidence) = if pods.iter().any(|&pod| deserted::runs(scene, pod)) {
            let evidence = vec![
                format!("{by} (no socket on that port)"),
                "no process ended there".to_owned(),
            ];
            (
                Mechanism::NetworkMisroute,
                if other_port { 0.97 } else { 0.9 },
                evidence,
            )
        } else {
            // The program that should serve there was never started, or has not come back.
            (
                Mechanism::ProcessCrash,
                0.9,
                vec![format!("{by}, in which no program runs")],
            )
        };
        if other_port && mechanism == Mechanism::NetworkMisroute {
            evidence.push("the packets arrived at a port that nobody dialled".to_owned());
        }
        findings.push(Finding {
            mechanism,
            place: Place::Service(service),
            strength: strength_of(f64::from(refused), REFUSAL_DOUBT, strength_max),
            certainty: Certainty::Stated,
            since_ns: pods
                .iter()
                .map(|pod| refusing[pod].1.first_ns)
                .min()
                .unwrap_or(scene.now_ns),
            evidence,
            pods,
        });
    }
    findings.extend(misdirected(scene));
    findings
}

/// A virtual address that leads to where no pod is.
fn misdirected(scene: &Scene<'_>) -> Vec<Finding> {
    let mut services: BTreeMap<ServiceIx, (u32, MonotonicNanos)> = BTreeMap::new();
    let outside = |edge: &&EdgeView<'_>| edge.callee == End::Outside && !deserted::leads_nowhere(scene, edge);
    for edge in scene.edges.iter().filter(outside) {
        let Some(service) = scene.dialled(edge) else { continue };
        let vain = edge.now.value.vain();
        if vain >= UNREACHABLE_MIN && edge.answers() == 0 {
            let since_ns = edge.trouble.map_or(scene.now_ns, |trouble| trouble.since_ns);
            let known = services.entry(service).or_insert((0, since_ns));
            *known = (known.0 + vain, known.1.min(since_ns));
        }
    }
    services
        .into_iter()
        .map(|(service, (count, since_ns))| Finding {
            mechanism: Mechanism::NetworkMisroute,
            place: Place::Service(service),
            pods: scene.pods_of(service).collect(),
            strength: strength_of(f64::from(count), REFUSAL_DOUBT, 0.9),
            certainty: Certainty::Stated,
            since_ns,
            evidence: vec![format!(
                "{count} attempts on the service's address were led to an address where no pod is"
            )],
        })
        .collect()
}

/// Pods to which the link layer or the routes no longer lead.
fn downs(scene: &Scene<'_>) -> Vec<Finding> {
    let mut lost: BTreeMap<PodIx, (u32, MonotonicNanos)> = BTreeMap::new();
    let mut note = |pod: PodIx, count: u32, since_ns: MonotonicNanos| {
        let known = lost.entry(pod).or_insert((0, since_ns));
        *known = (known.0 + count, known.1.min(since_ns));
    };
    for flow in scene.drops.iter().filter(|flow| flow.class == DropClass::Route) {
        for &pod in flow.server.pods() {
            note(pod, flow.count, flow.first_ns);
        }
    }
    for edge in &scene.edges {
        let count = edge
            .now
            .value
            .sides()
            .map(|flow| flow.unreachable + flow.neighbour_retransmits)
            .sum::<u32>();
        if let (End::Pod(pod), true) = (&edge.callee, count > 0) {
            note(
                *pod,
                count,
                edge.trouble.map_or(scene.now_ns, |trouble| trouble.since_ns),
            );
        }
    }
    lost.retain(|&pod, (count, _)| {
        let inbound = &scene.pods[pod].inbound;
        let silent = inbound
            .iter()
            .all(|&edge| blocked(&scene.edges[edge]) || !scene.edges[edge].judgeable());
        *count >= UNREACHABLE_MIN && silent && inbound.iter().any(|&edge| blocked(&scene.edges[edge]))
    });
    by_service(scene, lost.keys().copied())
        .into_iter()
        .map(|(service, pods)| Finding {
            mechanism: Mechanism::NetworkDown,
            place: Place::Service(service),
            strength: 0.85,
            certainty: Certainty::Stated,
            since_ns: pods.iter().map(|pod| lost[pod].1).min().unwrap_or(scene.now_ns),
            evidence: vec![format!("no neighbour and no route leads to {}", names(scene, &pods))],
            pods,
        })
        .collect()
}
