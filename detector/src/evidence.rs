//! Rules that turn a scene into findings: each says what mechanism, at which pods, how strongly, since when and why.
//!
//! A rule looks at its own evidence only. What explains what is the ranker's business; see [`crate::rank`].

pub mod app;
pub mod cache;
pub mod cpu;
pub mod delay;
pub mod deserted;
pub mod demand;
pub mod dns;
pub mod drops;
pub mod filter;
pub mod hang;
pub mod loss;
pub mod memory;
pub mod reach;

use std::collections::BTreeMap;

use gauntlet_probes::frame::MonotonicNanos;

use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::scene::{PodIx, Scene};
use crate::topology::ServiceIx;

/// What kind of evidence a finding rests on; more certain kinds explain less certain ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// What is left when nothing else explains it (a residual).
    Inferred,
    /// Measured at the place itself (a latency between two sockets, a rate, a ratio).
    Measured,
    /// The kernel said so (a drop with its reason, an exit, a refusal).
    Stated,
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How it is wrong.
    pub mechanism: Mechanism,
    /// Where.
    pub place: Place,
    /// The affected pods, ascending.
    pub pods: Vec<PodIx>,
    /// 0 to 1: how often evidence like this means that mechanism at that place.
    pub strength: f64,
    /// What kind of evidence it is.
    pub certainty: Certainty,
    /// When it began, as far as it shows.
    pub since_ns: MonotonicNanos,
    /// In plain words.
    pub evidence: Vec<String>,
}

/// Everything that the rules find in `scene`.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = filter::judge(scene);
    findings.extend(reach::judge(scene));
    findings.extend(deserted::judge(scene));
    findings.extend(memory::judge(scene));
    findings.extend(hang::judge(scene));
    findings.extend(loss::judge(scene));
    findings.extend(delay::judge(scene));
    findings.extend(cache::judge(scene));
    findings.extend(cpu::judge(scene));
    findings.extend(demand::judge(scene));
    findings.extend(dns::judge(scene));
    findings.extend(app::judge(scene));
    findings
}

/// Strength of `count` pieces of evidence, each of which leaves `doubt` (0 to 1) that it is chance, up to `most`.
#[must_use]
pub fn strength_of(count: f64, doubt: f64, most: f64) -> f64 {
    (1.0 - doubt.powf(count)).min(most)
}

/// Pods by the service to which they belong.
#[must_use]
pub fn by_service(scene: &Scene<'_>, pods: impl IntoIterator<Item = PodIx>) -> BTreeMap<ServiceIx, Vec<PodIx>> {
    let mut services: BTreeMap<ServiceIx, Vec<PodIx>> = BTreeMap::new();
    for pod in pods {
        services.entry(scene.pods[pod].service).or_default().push(pod);
    }
    for pods in services.values_mut() {
        pods.sort_unstable();
        pods.dedup();
    }
    services
}

/// Names of pods, for people.
#[must_use]
pub fn names(scene: &Scene<'_>, pods: &[PodIx]) -> String {
    pods.iter()
        .map(|&pod| scene.pods[pod].name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
