//! cache.cold, cache.eviction and cache.auth: the cache answers in time, and its answers are of no use.

use std::collections::BTreeMap;

use gauntlet_probes::frame::{MonotonicNanos, Protocol};

use super::{Certainty, Finding, by_service, names};
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::scene::{PodIx, Scene};
use crate::window::{CELLS_MIN, LOOKUPS_MIN};

/// Rise of the miss ratio from which a cache is no longer what it was: a quarter of all lookups.
const MISS_RISE_MIN: f64 = 0.25;
/// Lookups in the current window without which the ratio says nothing.
const LOOKUPS_NOW_MIN: u32 = 2 * LOOKUPS_MIN;
/// Share of answers that are errors from which the cache refuses its clients.
const ERROR_RISE_MIN: f64 = 0.2;
/// Share of its memory limit from which a cache has to throw away.
const FULL_SHARE: f64 = 0.93;

#[derive(Clone, Copy, Debug, Default)]
struct Lookups {
    hits: u32,
    misses: u32,
    usual_misses: f64,
    responses: u32,
    errors: u32,
    usual_errors: f64,
    learned: bool,
    since_ns: MonotonicNanos,
}

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let mut cold: BTreeMap<PodIx, Lookups> = BTreeMap::new();
    let mut refusing: BTreeMap<PodIx, Lookups> = BTreeMap::new();
    for pod in 0..scene.pods.len() {
        let sum = lookups(scene, pod);
        let total = sum.hits + sum.misses;
        let restarted = scene.pods[pod]
            .events
            .iter()
            .any(|event| event.kind != gauntlet_probes::frame::ProcessEventKind::Exec);
        if !sum.learned || restarted {
            continue;
        }
        if total >= LOOKUPS_NOW_MIN && f64::from(sum.misses) / f64::from(total) - sum.usual_misses >= MISS_RISE_MIN {
            cold.insert(pod, sum);
        }
        let excess = f64::from(sum.errors) - sum.usual_errors;
        let refuses = sum.responses >= LOOKUPS_NOW_MIN && excess >= ERROR_RISE_MIN * f64::from(sum.responses);
        if refuses && keeps_refusing(scene, pod) {
            refusing.insert(pod, sum);
        }
    }
    let mut findings = Vec::new();
    for (service, pods) in by_service(scene, cold.keys().copied().filter(|pod| !refusing.contains_key(pod))) {
        let hits: u32 = pods.iter().map(|pod| cold[pod].hits).sum();
        let misses: u32 = pods.iter().map(|pod| cold[pod].misses).sum();
        let full = pods.iter().all(|&pod| full(scene, pod));
        let mut evidence = vec![
            format!(
                "{misses} of {} lookups at {} found nothing",
                hits + misses,
                names(scene, &pods)
            ),
            "the cache is reachable and answers in time".to_owned(),
        ];
        if full {
            evidence.push("its memory is at the limit".to_owned());
        }
        let usual = pods.iter().map(|pod| cold[pod].usual_misses).sum::<f64>() / pods.len() as f64;
        let rise = f64::from(misses) / f64::from((hits + misses).max(1)) - usual;
        findings.push(Finding {
            mechanism: if full {
                Mechanism::CacheEviction
            } else {
                Mechanism::CacheCold
            },
            place: Place::Service(service),
            strength: (0.65 + 0.5 * (rise - MISS_RISE_MIN)).min(0.93),
            certainty: Certainty::Measured,
            since_ns: pods.iter().map(|pod| cold[pod].since_ns).min().unwrap_or(scene.now_ns),
            evidence,
            pods,
        });
    }
    for (service, pods) in by_service(scene, refusing.keys().copied()) {
        let errors: u32 = pods.iter().map(|pod| refusing[pod].errors).sum();
        findings.push(Finding {
            mechanism: Mechanism::CacheAuth,
            place: Place::Service(service),
            strength: 0.85,
            certainty: Certainty::Measured,
            since_ns: pods
                .iter()
                .map(|pod| refusing[pod].since_ns)
                .min()
                .unwrap_or(scene.now_ns),
            evidence: vec![format!("{errors} answers of {} are refusals", names(scene, &pods))],
            pods,
        });
    }
    findings
}

fn lookups(scene: &Scene<'_>, pod: PodIx) -> Lookups {
    let mut sum = Lookups {
        since_ns: scene.now_ns,
        ..Lookups::default()
    };
    let mut weight = 0.0;
    for &edge in &scene.pods[pod].inbound {
        let edge = &scene.edges[edge];
        let Some(flow) = edge.now.value.at_server() else {
            continue;
        };
        if flow.protocol != Some(Protocol::Redis) {
            continue;
        }
        sum.hits += flow.hits;
        sum.misses += flow.misses;
        sum.responses += flow.responses;
        sum.errors += flow.errors;
        if edge.norm.learned() && edge.norm.miss_ratio.count >= CELLS_MIN {
            let rate = edge.norm.request_rate.median;
            sum.usual_misses += edge.norm.miss_ratio.median * rate;
            let by_greeting = edge.norm.errors_per_open * f64::from(flow.opened);
            sum.usual_errors += by_greeting.max(edge.norm.error_ratio * f64::from(flow.responses));
            weight += rate;
        }
        let odd = |flow: &crate::signal::Flow| flow.misses > flow.hits || flow.errors * 2 > flow.responses;
        let first = edge.recent().find(|tick| tick.value.at_server().is_some_and(odd));
        sum.since_ns = sum.since_ns.min(first.map_or(scene.now_ns, |tick| tick.at_ns));
    }
    if weight > 0.0 {
        sum.usual_misses /= weight;
        sum.learned = true;
    }
    sum
}

/// In each of the latest ticks with answers, most were errors: a burst of new connections is over sooner.
fn keeps_refusing(scene: &Scene<'_>, pod: PodIx) -> bool {
    let mut ticks: BTreeMap<MonotonicNanos, (u32, u32)> = BTreeMap::new();
    for &edge in &scene.pods[pod].inbound {
        for tick in scene.edges[edge].recent() {
            if let Some(flow) = tick.value.at_server() {
                let sum = ticks.entry(tick.at_ns).or_default();
                *sum = (sum.0 + flow.errors, sum.1 + flow.responses);
            }
        }
    }
    let latest: Vec<(u32, u32)> = ticks
        .into_values()
        .filter(|&(_, responses)| responses > 0)
        .rev()
        .take(REFUSING_TICKS)
        .collect();
    latest.len() == REFUSING_TICKS && latest.iter().all(|&(errors, responses)| errors * 2 >= responses)
}

/// Ticks in a row in which a cache must refuse: over a second.
const REFUSING_TICKS: usize = 6;

fn full(scene: &Scene<'_>, pod: PodIx) -> bool {
    let usage = scene.pods[pod].usage.as_ref().map(|usage| &usage.now.value);
    let memory = usage.and_then(|usage| Some((usage.memory_bytes?, usage.memory_limit_bytes?)));
    memory.is_some_and(|(used, limit)| used as f64 >= FULL_SHARE * limit as f64)
}
