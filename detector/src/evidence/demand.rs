//! load.surge: more enters the cluster than ever. What callees are asked because a cache fails is none.

use super::{Certainty, Finding};
use crate::anomaly::change_point;
use crate::anomaly::rate::surprise_above;
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::memory::EntryMemory;
use crate::scene::Scene;
use crate::window::CELLS_MIN;

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
        let Some(entries) = scene.entries(service) else {
            continue;
        };
        let current = entries.track.current();
        let (count, usual) = (f64::from(current.value.requests), entries.norm.rate.median);
        let now = count / current.seconds.max(0.001);
        let learned = entries.norm.rate.count >= CELLS_MIN && entries.norm.steady && usual >= RATE_MIN;
        let surprising = surprise_above(count, usual * current.seconds) >= SURPRISE_MIN;
        if !learned || now < (1.0 + (SURGE_RATIO_MIN - 1.0) * scene.threshold_factor()) * usual || !surprising {
            continue;
        }
        findings.push(Finding {
            mechanism: Mechanism::LoadSurge,
            place: Place::Service(service),
            pods: scene.pods_of(service).collect(),
            strength: (0.6 + 0.5 * (now / usual - SURGE_RATIO_MIN)).min(0.95),
            certainty: Certainty::Measured,
            since_ns: began(entries, usual, now).unwrap_or(scene.now_ns),
            evidence: vec![format!("{now:.0} requests/s enter, {usual:.0} are usual")],
        });
    }
    findings
}

/// When the rate left what is usual for what it is now.
fn began(entries: &EntryMemory, usual: f64, now: f64) -> Option<u64> {
    let rates: Vec<f64> = entries
        .track
        .recent()
        .map(|tick| f64::from(tick.value.requests) / tick.seconds.max(0.001))
        .collect();
    let onset = change_point::onset(&rates, usual, now)?;
    entries.track.recent().nth(onset).map(|tick| tick.at_ns)
}
