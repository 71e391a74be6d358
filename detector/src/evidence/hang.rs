//! process.hang: the kernel takes requests and acknowledges them, and the process does not even read them; or it reads
//! them, calls nobody, and never answers.

use super::{Certainty, Finding, by_service, names};
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::residual::failing;
use crate::scene::{PodIx, Scene};

/// Age of unread data (or of an unaccepted or unanswered request), nanoseconds, beyond which a process is stuck: a busy
/// process on a busy machine reads within some hundred milliseconds.
const UNREAD_AGE_NS: u64 = 700_000_000;
/// Share of its usual CPU that a stuck process still uses at most.
const IDLE_CPU_SHARE: f64 = 0.2;
/// CPU, cores, below which use is idle whatever is usual.
const IDLE_CORES: f64 = 0.01;
/// Seconds of the latest ticks in which nothing was answered.
const SILENT_SECONDS: f64 = 0.7;

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
            waiting |= server.accept_backlog > 0 && edge.now.seconds >= SILENT_SECONDS;
        }
        let mut seconds = 0.0;
        for tick in edge.recent().rev() {
            if tick.value.at_server().is_some_and(|flow| flow.responses > 0) {
                return false;
            }
            seconds += tick.seconds;
            if seconds >= SILENT_SECONDS {
                break;
            }
        }
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
    let hung: Vec<PodIx> = (0..scene.pods.len())
        .filter(|&pod| stuck(scene, pod) && idle(scene, pod) && !throttled(scene, pod))
        .collect();
    by_service(scene, hung)
        .into_iter()
        .map(|(service, pods)| {
            let servers = || {
                pods.iter()
                    .flat_map(|&pod| &scene.pods[pod].inbound)
                    .filter_map(|&edge| scene.edges[edge].now.value.server.as_ref())
            };
            let unread: u32 = servers()
                .map(|flow| flow.unread_connections + flow.accept_backlog)
                .sum();
            let age_ns = servers()
                .map(|flow| flow.unread_age_ns.max(flow.outstanding_age_ns))
                .max()
                .unwrap_or(0);
            Finding {
                mechanism: Mechanism::ProcessHang,
                place: Place::Service(service),
                strength: 0.92,
                certainty: Certainty::Stated,
                since_ns: scene.now_ns.saturating_sub(age_ns),
                evidence: vec![
                    format!(
                        "{unread} connections at {} hold data or callers that the process does not take, for {} ms",
                        names(scene, &pods),
                        age_ns / 1_000_000
                    ),
                    "packets are acknowledged, and the process uses no CPU".to_owned(),
                ],
                pods,
            }
        })
        .collect()
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
