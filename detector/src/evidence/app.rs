//! app.slow, app.error, db.slow, db.lock, db.connections: what is left when neither network, resources, demand nor
//! callees explain a server's slowness or errors.

use std::collections::BTreeMap;

use gauntlet_probes::frame::Protocol;

use super::{Certainty, Finding, by_service, names};
use crate::anomaly::change_point;
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::residual::{Slowness, failing, slowness};
use crate::scene::{PodIx, Scene};

/// Growth of a server's latency below which it is noise, milliseconds: scheduling on a busy small machine costs as much.
const SLOW_FLOOR_MS: f64 = 3.0;
/// Latency over usual from which a server is slow.
const SLOW_RATIO_MIN: f64 = 2.0;
/// Growth, in usual spreads, from which it is none.
const SLOW_SPREADS: f64 = 6.0;
/// Share of the growth that callees must leave unexplained for it to be the server's own.
const RESIDUAL_SHARE_MIN: f64 = 0.5;
/// Demand over usual, above which slowness is the demand's doing.
const DEMAND_RATIO_MAX: f64 = 1.3;
/// Ticks in which the growth must have held.
const HELD_TICKS_MIN: usize = 5;
/// Rise of the share of answers that are errors, from which a server fails.
const ERROR_RISE_MIN: f64 = 0.1;
/// Errors in the current window without which nothing is said.
const ERRORS_MIN: u32 = 5;
/// Connections that were opened and closed, per error, from which a database turns callers away.
const TURNED_AWAY_SHARE: f64 = 0.7;
/// CPU per request over usual, from which a slow server works rather than waits.
const WORKING_RATIO_MIN: f64 = 1.5;

/// The slowness of `pod` as a server, if it is beyond noise and has lasted.
#[must_use]
pub fn slowdown(scene: &Scene<'_>, pod: PodIx) -> Option<Slowness> {
    let slowness = slowness(scene, pod)?;
    let growth_ms = slowness.now_ms - slowness.usual_ms;
    let floor_ms = SLOW_FLOOR_MS
        .max((SLOW_RATIO_MIN - 1.0) * slowness.usual_ms)
        .max(SLOW_SPREADS * slowness.spread_ms)
        * scene.threshold_factor();
    (growth_ms >= floor_ms && held(scene, pod, slowness).is_some()).then_some(slowness)
}

/// Since when the inbound edges' latency has been nearer to what it is than to what is usual.
fn held(scene: &Scene<'_>, pod: PodIx, slowness: Slowness) -> Option<u64> {
    let onsets = scene.pods[pod].inbound.iter().filter_map(|&edge| {
        let ticks: Vec<(u64, f64)> = scene.edges[edge]
            .recent()
            .filter_map(|tick| Some((tick.at_ns, tick.value.at_server()?.latency_ms()?)))
            .collect();
        let values: Vec<f64> = ticks.iter().map(|&(_, value)| value).collect();
        let onset = change_point::onset(&values, slowness.usual_ms, slowness.now_ms)?;
        (values.len() - onset >= HELD_TICKS_MIN).then_some(ticks[onset].0)
    });
    onsets.min()
}

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = slow(scene);
    findings.extend(errors(scene));
    findings
}

fn slow(scene: &Scene<'_>) -> Vec<Finding> {
    let mut slow: BTreeMap<(Mechanism, PodIx), (Slowness, u64)> = BTreeMap::new();
    for pod in 0..scene.pods.len() {
        let Some(slowness) = slowdown(scene, pod) else { continue };
        let growth_ms = slowness.now_ms - slowness.usual_ms;
        let own = slowness.residual_ms() >= RESIDUAL_SHARE_MIN * growth_ms;
        if !own || scene.pods[pod].demand.ratio() > DEMAND_RATIO_MAX {
            continue;
        }
        let since_ns = held(scene, pod, slowness).unwrap_or(scene.now_ns);
        slow.insert((mechanism(scene, pod), pod), (slowness, since_ns));
    }
    let mut findings = Vec::new();
    for mechanism in [Mechanism::AppSlow, Mechanism::DbSlow, Mechanism::DbLock] {
        let pods = slow.keys().filter(|(kind, _)| *kind == mechanism).map(|&(_, pod)| pod);
        for (service, pods) in by_service(scene, pods) {
            let (worst, since_ns) = pods
                .iter()
                .map(|&pod| slow[&(mechanism, pod)])
                .reduce(|a, b| if b.0.residual_ms() > a.0.residual_ms() { b } else { a })
                .unwrap_or_default();
            findings.push(Finding {
                mechanism,
                place: Place::Service(service),
                strength: 0.7,
                certainty: Certainty::Inferred,
                since_ns,
                evidence: vec![
                    format!(
                        "{} takes {:.1} ms to answer, {:.1} ms are usual",
                        names(scene, &pods),
                        worst.now_ms,
                        worst.usual_ms
                    ),
                    format!(
                        "its own calls explain {:.1} ms of that; it is asked no more than before",
                        worst.explained_ms
                    ),
                ],
                pods,
            });
        }
    }
    findings
}

fn mechanism(scene: &Scene<'_>, pod: PodIx) -> Mechanism {
    if scene.protocol(pod) != Some(Protocol::Postgres) {
        return Mechanism::AppSlow;
    }
    if scene.pods[pod].usage.is_none() || works_more(scene, pod) {
        Mechanism::DbSlow
    } else {
        Mechanism::DbLock
    }
}

/// Each request costs `pod` more CPU than it usually does: it is not the CPU that is short.
#[must_use]
pub fn works_more(scene: &Scene<'_>, pod: PodIx) -> bool {
    let view = &scene.pods[pod];
    let per_request = |cores: f64, rate: f64| if rate > 0.0 { cores / rate } else { 0.0 };
    view.usage.as_ref().is_some_and(|usage| {
        let cores = usage.now.value.cpu_ns as f64 / 1e9 / usage.now.seconds.max(0.001);
        let usual = per_request(usage.norm.cores.median, view.demand.usual);
        per_request(cores, view.demand.now) >= WORKING_RATIO_MIN * usual
    })
}

fn errors(scene: &Scene<'_>) -> Vec<Finding> {
    let mut failing_pods: BTreeMap<PodIx, (u32, u32, u32)> = BTreeMap::new();
    for (pod, view) in scene.pods.iter().enumerate() {
        let (mut errors, mut responses, mut usual, mut short_lived) = (0, 0, 0.0, 0);
        for &edge in &view.inbound {
            let edge = &scene.edges[edge];
            let Some(flow) = edge.now.value.at_server().filter(|_| edge.norm.learned()) else {
                continue;
            };
            errors += flow.errors;
            responses += flow.responses;
            short_lived += flow.opened.min(flow.closed);
            usual += edge.norm.error_ratio * f64::from(flow.responses);
        }
        let explained = view.outbound.iter().any(|&edge| failing(&scene.edges[edge]));
        let rise = (f64::from(errors) - usual) / f64::from(responses.max(1));
        let redis = scene.protocol(pod) == Some(Protocol::Redis);
        if errors >= ERRORS_MIN
            && rise >= ERROR_RISE_MIN
            && !explained
            && !redis
            && view.demand.ratio() <= DEMAND_RATIO_MAX
        {
            failing_pods.insert(pod, (errors, responses, short_lived));
        }
    }
    let mut findings = Vec::new();
    for (service, pods) in by_service(scene, failing_pods.keys().copied()) {
        let errors: u32 = pods.iter().map(|pod| failing_pods[pod].0).sum();
        let responses: u32 = pods.iter().map(|pod| failing_pods[pod].1).sum();
        let short_lived: u32 = pods.iter().map(|pod| failing_pods[pod].2).sum();
        let postgres = pods.iter().all(|&pod| scene.protocol(pod) == Some(Protocol::Postgres));
        // A failed statement leaves its connection open; whoever is turned away loses it.
        let turned_away = f64::from(short_lived) >= TURNED_AWAY_SHARE * f64::from(errors);
        findings.push(Finding {
            mechanism: if postgres && turned_away {
                Mechanism::DbConnections
            } else {
                Mechanism::AppError
            },
            place: Place::Service(service),
            strength: 0.7,
            certainty: Certainty::Inferred,
            since_ns: scene.now_ns.saturating_sub(1_000_000_000),
            evidence: vec![format!(
                "{errors} of {responses} answers of {} are errors, and its own calls succeed",
                names(scene, &pods)
            )],
            pods,
        });
    }
    findings
}

/// Latency over usual from which users suffer.
const SUFFERING_RATIO: f64 = 4.0;
/// Growth from which they do, milliseconds.
const SUFFERING_MS: f64 = 20.0;
/// Share of errors from which they do.
const SUFFERING_ERRORS: f64 = 0.2;

/// Those who call `pod` wait several times as long as usual, or see many errors.
#[must_use]
pub fn suffers(scene: &Scene<'_>, pod: PodIx) -> bool {
    let slow = slowdown(scene, pod).is_some_and(|slowness| {
        slowness.now_ms >= SUFFERING_RATIO * slowness.usual_ms && slowness.now_ms - slowness.usual_ms >= SUFFERING_MS
    });
    let flows = || {
        let learned = scene.pods[pod]
            .inbound
            .iter()
            .filter(|&&edge| scene.edges[edge].norm.learned());
        learned.filter_map(|&edge| scene.edges[edge].now.value.at_server())
    };
    let (errors, responses) = flows().fold((0, 0), |(errors, responses), flow| {
        (errors + flow.errors, responses + flow.responses)
    });
    slow || (errors >= ERRORS_MIN && f64::from(errors) >= SUFFERING_ERRORS * f64::from(responses))
}
