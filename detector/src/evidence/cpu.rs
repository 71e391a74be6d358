//! resource.cpu, resource.memory and resource.io: a pod or node is short of what its demand always needed.
//!
//! Shortage that comes with more demand is a symptom of whatever raised the demand, and is not told here.

use super::app::{slowdown, works_more};
use super::{Certainty, Finding, by_service, names};
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::scene::{Demand, PodIx, Scene, UsageView};
use crate::signal::Usage;
use crate::topology::ServiceIx;
use crate::window::{CELLS_MIN, Timed};

/// Rise of the share of throttled periods from which a limit hurts.
const THROTTLED_RISE_MIN: f64 = 0.25;
/// Rise of the time that runnable tasks wait, seconds per second, from which CPU is short.
const WAIT_RISE_MIN: f64 = 0.25;
/// The same, over usual: a pod whose tasks always wait much has to wait much more.
const WAIT_RATIO_MIN: f64 = 3.0;
/// CPU use, cores, below which a pod's waiting says nothing of the machine.
const ACTIVE_CORES_MIN: f64 = 0.004;
/// Waiting per second of CPU, over usual, from which another pod waits as well.
const OTHERS_WAIT_RATIO: f64 = 1.5;
/// The same, added, seconds per second of CPU.
const OTHERS_WAIT_FLOOR: f64 = 0.2;
/// Demand over usual, above which a shortage is the demand's doing.
const DEMAND_RATIO_MAX: f64 = 1.3;
/// A CPU limit below this share of the usual one was lowered.
const LIMIT_LOWERED_SHARE: f64 = 0.8;
/// Rise of stall time for memory or block devices, seconds per second, from which it is short.
const STALL_RISE_MIN: f64 = 0.3;

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let short: Vec<(PodIx, f64)> = (0..scene.pods.len())
        .filter_map(|pod| Some((pod, pod_shortage(scene, pod)?)))
        .collect();
    let mut findings = Vec::new();
    for (service, pods) in by_service(scene, short.iter().map(|&(pod, _)| pod)) {
        let strength = short
            .iter()
            .filter(|(pod, _)| pods.contains(pod))
            .map(|&(_, strength)| strength)
            .fold(0.0, f64::max);
        let throttled = pods
            .iter()
            .filter_map(|&pod| scene.pods[pod].usage.as_ref())
            .map(|usage| usage.now.value.throttled_ratio());
        findings.push(Finding {
            mechanism: Mechanism::ResourceCpu,
            place: Place::Service(service),
            strength,
            // Waiting alone may be the machine's; a limit that bites is measured.
            certainty: if strength < LIMIT_STRENGTH {
                Certainty::Inferred
            } else {
                Certainty::Measured
            },
            since_ns: pods
                .iter()
                .filter_map(|&pod| scene.pods[pod].usage.as_ref())
                .map(|usage| shortage_began(scene, usage))
                .min()
                .unwrap_or(scene.now_ns),
            evidence: vec![
                format!(
                    "tasks of {} wait for CPU or are throttled ({:.0} % of periods) and it answers more slowly",
                    names(scene, &pods),
                    100.0 * throttled.fold(0.0, f64::max)
                ),
                "no more is asked of it than before".to_owned(),
            ],
            pods,
        });
    }
    findings.extend(nodes(scene));
    findings.extend(stalls(scene));
    findings
}

/// Strength of a limit that bites and slows.
const LIMIT_STRENGTH: f64 = 0.85;

/// How sure it is that `pod` is short of CPU by no fault of its callers.
fn pod_shortage(scene: &Scene<'_>, pod: PodIx) -> Option<f64> {
    let view = &scene.pods[pod];
    let usage = view.usage.as_ref().filter(|usage| usage.norm.cell_count >= CELLS_MIN)?;
    if view.demand.ratio() > DEMAND_RATIO_MAX {
        return None;
    }
    let slow = slowdown(scene, pod).is_some() || starved(scene, pod);
    let throttled_rise = usage.now.value.throttled_ratio() - usage.norm.throttled_ratio.median;
    let throttled = throttled_rise >= THROTTLED_RISE_MIN * scene.threshold_factor();
    let lowered = match (usage.now.value.cpu_limit_millicores, usage.norm.cpu_limit_millicores) {
        (Some(now), Some(usual)) => f64::from(now) < LIMIT_LOWERED_SHARE * f64::from(usual),
        (Some(_), None) => true,
        (None, _) => false,
    };
    let waits = waits(usage) && !everybody_waits(scene) && !others_wait(scene, view.service);
    match (throttled, lowered, waits, slow) {
        (true, true, _, _) => Some(0.92),
        (false, true, _, _) if pinched(scene, view.service) => Some(LIMIT_STRENGTH),
        // A limit that always was there, and bites because each request costs more: the program is at fault.
        (true, false, _, true) if works_more(scene, pod) => None,
        (true, false, _, true) => Some(LIMIT_STRENGTH),
        (false, _, true, true) => Some(0.7),
        (true, false, _, false) | (false, _, _, false) | (false, _, false, true) => None,
    }
}

/// Some pod of `service`, none of which usually is, was throttled in the last seconds. Where the limit was lowered, that
/// is its doing: it hurts the slow requests long before it moves their median.
fn pinched(scene: &Scene<'_>, service: ServiceIx) -> bool {
    let usages = || scene.pods_of(service).filter_map(|pod| scene.pods[pod].usage.as_ref());
    usages().all(|usage| usage.norm.throttled_ratio.median == 0.0)
        && usages().any(|usage| usage.recent().any(|tick| tick.value.throttled_periods > 0))
}

/// Requests reach `pod` and hardly any is answered: what a latency that is never taken cannot show.
fn starved(scene: &Scene<'_>, pod: PodIx) -> bool {
    let flows = || {
        scene.pods[pod]
            .inbound
            .iter()
            .filter_map(|&edge| scene.edges[edge].now.value.server.as_ref())
    };
    let requests: u32 = flows().map(|flow| flow.requests).sum();
    let responses: u32 = flows().map(|flow| flow.responses).sum();
    requests >= 10 && f64::from(responses) < 0.7 * f64::from(requests)
}

fn waits(usage: &UsageView<'_>) -> bool {
    let now = usage.now.value.wait_ns as f64 / 1e9 / usage.now.seconds.max(0.001);
    now - usage.norm.wait.median >= WAIT_RISE_MIN && now >= WAIT_RATIO_MIN * usage.norm.wait.median
}

/// First of the recent ticks in which tasks were throttled or waited more than is usual.
fn shortage_began(scene: &Scene<'_>, usage: &UsageView<'_>) -> u64 {
    let short = |tick: &&Timed<Usage>| {
        tick.value.throttled_ratio() - usage.norm.throttled_ratio.median >= THROTTLED_RISE_MIN
            || tick.value.wait_ns as f64 / 1e9 / tick.seconds - usage.norm.wait.median >= WAIT_RISE_MIN
    };
    usage.recent().find(short).map_or(scene.now_ns, |tick| tick.at_ns)
}

/// The whole machine is short: whoever makes it so, it is none of its nodes in particular.
fn everybody_waits(scene: &Scene<'_>) -> bool {
    let nodes: Vec<bool> = scene
        .nodes
        .iter()
        .filter_map(|node| node.usage.as_ref().map(waits))
        .collect();
    nodes.len() > 1 && nodes.iter().filter(|&&waits| waits).count() * 2 > nodes.len()
}

/// Pods of most other services wait more for each second of CPU than they usually do: the machine is short, not one pod.
fn others_wait(scene: &Scene<'_>, service: ServiceIx) -> bool {
    let (mut active, mut waiting) = (0, 0);
    for usage in scene
        .pods
        .iter()
        .filter(|pod| pod.service != service)
        .filter_map(|pod| pod.usage.as_ref())
    {
        let per_cpu = |wait: f64, cores: f64| wait / cores.max(ACTIVE_CORES_MIN);
        let seconds = usage.now.seconds.max(0.001);
        let cores = usage.now.value.cpu_ns as f64 / 1e9 / seconds;
        if cores < ACTIVE_CORES_MIN || usage.norm.cell_count < CELLS_MIN {
            continue;
        }
        active += 1;
        let now = per_cpu(usage.now.value.wait_ns as f64 / 1e9 / seconds, cores);
        let usual = per_cpu(usage.norm.wait.median, usage.norm.cores.median);
        waiting += u32::from(now >= OTHERS_WAIT_RATIO * usual + OTHERS_WAIT_FLOOR);
    }
    active > 0 && waiting * 2 >= active
}

/// Nodes whose limit bites, or whose tasks wait, although their pods are asked no more than before.
fn nodes(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, node) in scene.nodes.iter().enumerate() {
        let Some(usage) = node.usage.as_ref().filter(|usage| usage.norm.cell_count >= CELLS_MIN) else {
            continue;
        };
        let demand = node.pods.iter().fold(Demand::default(), |sum, &pod| {
            let demand = scene.pods[pod].demand;
            Demand {
                now: sum.now + demand.now,
                usual: sum.usual + demand.usual,
            }
        });
        let asked_more = node
            .pods
            .iter()
            .any(|&pod| scene.pods[pod].demand.ratio() > DEMAND_RATIO_MAX);
        let throttled = usage.now.value.throttled_ratio() - usage.norm.throttled_ratio.median >= THROTTLED_RISE_MIN;
        let waits = waits(usage) && !everybody_waits(scene);
        let slow: Vec<PodIx> = node
            .pods
            .iter()
            .copied()
            .filter(|&pod| slowdown(scene, pod).is_some())
            .collect();
        let services = by_service(scene, slow.iter().copied());
        if demand.ratio() > DEMAND_RATIO_MAX || asked_more || !(throttled || waits) || services.len() < 2 {
            continue;
        }
        findings.push(Finding {
            mechanism: Mechanism::ResourceCpu,
            place: Place::Node(index),
            strength: if throttled { 0.85 } else { 0.7 },
            certainty: Certainty::Measured,
            since_ns: shortage_began(scene, usage),
            evidence: vec![
                format!(
                    "tasks of node {} wait for CPU; {} answer more slowly",
                    node.name,
                    names(scene, &slow)
                ),
                "no more is asked of its pods than before".to_owned(),
            ],
            pods: slow,
        });
    }
    findings
}

/// Stalls for memory or block devices.
fn stalls(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut stalled: [Vec<PodIx>; 2] = [Vec::new(), Vec::new()];
    for (pod, view) in scene.pods.iter().enumerate() {
        let Some(usage) = view.usage.as_ref().filter(|usage| usage.norm.cell_count >= CELLS_MIN) else {
            continue;
        };
        let rise = |stall_us: u64, usual: f64| stall_us as f64 / 1e6 / usage.now.seconds.max(0.001) - usual;
        if view.demand.ratio() > DEMAND_RATIO_MAX || slowdown(scene, pod).is_none() {
            continue;
        }
        if rise(usage.now.value.memory_pressure_us, usage.norm.memory_pressure.median) >= STALL_RISE_MIN {
            stalled[0].push(pod);
        } else if rise(usage.now.value.io_pressure_us, usage.norm.io_pressure.median) >= STALL_RISE_MIN {
            stalled[1].push(pod);
        }
    }
    for (pods, mechanism, what) in [
        (&stalled[0], Mechanism::ResourceMemory, "memory"),
        (&stalled[1], Mechanism::ResourceIo, "block devices"),
    ] {
        for (service, pods) in by_service(scene, pods.iter().copied()) {
            findings.push(Finding {
                mechanism,
                place: Place::Service(service),
                strength: 0.8,
                certainty: Certainty::Measured,
                since_ns: pods
                    .iter()
                    .filter_map(|&pod| scene.pods[pod].usage.as_ref())
                    .map(|usage| shortage_began(scene, usage))
                    .min()
                    .unwrap_or(scene.now_ns),
                evidence: vec![format!(
                    "tasks of {} stall for {what} and it answers more slowly",
                    names(scene, &pods)
                )],
                pods,
            });
        }
    }
    findings
}
