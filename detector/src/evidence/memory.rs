//! resource.memory between two kills: a pod that was killed for want of memory fills its limit again.
//!
//! The kills themselves are told by [`super::reach`]; between them everything looks well, and is not.

use std::collections::BTreeMap;

use gauntlet_probes::frame::MonotonicNanos;

use super::{Certainty, Finding, by_service, names};
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::scene::{PodIx, Scene};

/// Share of its limit that a pod uses again: a program that lives well within its limit stays below.
const FULL_SHARE: f64 = 0.85;

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let full: BTreeMap<PodIx, MonotonicNanos> = (0..scene.pods.len())
        .filter_map(|pod| Some((pod, scene.oom_killed_ns(pod).filter(|_| fills_its_limit(scene, pod))?)))
        .collect();
    let services = by_service(scene, full.keys().copied());
    let finding = |(service, pods): (usize, Vec<PodIx>)| Finding {
        mechanism: Mechanism::ResourceMemory,
        place: Place::Service(service),
        strength: 0.85,
        certainty: Certainty::Stated,
        since_ns: pods.iter().map(|pod| full[pod]).min().unwrap_or(scene.now_ns),
        evidence: vec![format!(
            "{} was killed for want of memory, and uses over {:.0} % of its limit again",
            names(scene, &pods),
            100.0 * FULL_SHARE
        )],
        pods,
    };
    services.into_iter().map(finding).collect()
}

fn fills_its_limit(scene: &Scene<'_>, pod: PodIx) -> bool {
    let usage = scene.pods[pod].usage.as_ref().map(|usage| &usage.now.value);
    let ends = usage.and_then(|usage| usage.memory_bytes.zip(usage.memory_limit_bytes));
    ends.is_some_and(|(bytes, limit)| bytes as f64 >= FULL_SHARE * limit as f64 * scene.threshold_factor())
}
