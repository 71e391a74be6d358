//! load.surge: more enters the cluster than ever. What callees are asked because a cache fails is none.

use super::{Certainty, Finding};
use crate::anomaly::rate::surprise_above;
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::scene::{End, Scene};

/// Requests over usual from which it is a surge: load goes up and down by a third without anybody calling it one.
const SURGE_RATIO_MIN: f64 = 1.4;
/// Requests per second below which a rate is too small to surge.
const RATE_MIN: f64 = 5.0;
/// Surprise (powers of ten) at the count.
const SURPRISE_MIN: f64 = 4.0;

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for &service in scene.topology.entrances() {
        let (mut count, mut usual, mut seconds, mut steady) = (0.0, 0.0, 0.0_f64, true);
        for edge in &scene.edges {
            let enters = match edge.caller {
                End::Pod(pod) => scene.pods[pod].inbound.is_empty(),
                End::Outside => true,
                End::OneOf(_) => false,
            };
            if !enters || scene.service_of(&edge.callee) != Some(service) {
                continue;
            }
            count += edge.now.value.at_server().map_or(0.0, |flow| f64::from(flow.requests));
            seconds = seconds.max(edge.now.seconds);
            if edge.norm.learned() {
                usual += edge.norm.request_rate.median;
                steady &= edge.norm.steady;
            }
        }
        let now = count / seconds.max(0.001);
        let surprising = surprise_above(count, usual * seconds) >= SURPRISE_MIN;
        if !steady || usual < RATE_MIN || now < SURGE_RATIO_MIN * usual || !surprising {
            continue;
        }
        findings.push(Finding {
            mechanism: Mechanism::LoadSurge,
            place: Place::Service(service),
            pods: scene.pods_of(service).collect(),
            strength: (0.6 + 0.5 * (now / usual - SURGE_RATIO_MIN)).min(0.95),
            certainty: Certainty::Measured,
            since_ns: scene.now_ns.saturating_sub((seconds * 1e9) as u64 / 2),
            evidence: vec![format!("{now:.0} requests/s enter, {usual:.0} are usual")],
        });
    }
    findings
}
