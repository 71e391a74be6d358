//! Findings over time become beliefs; beliefs, weighed against each other, become candidates.
//!
//! A belief grows while its finding is repeated and fades when it is not, so that a stall of the machine does not speak.

use std::collections::BTreeMap;

use gauntlet_probes::entity::{NodeName, PodName, ServiceName};
use gauntlet_probes::frame::MonotonicNanos;

use crate::commonality::Place;
use crate::diagnosis::{Candidate, Entity, Mechanism};
use crate::evidence::{Certainty, Finding};
use crate::mechanism::{Suspect, explains, is_dns, is_network};
use crate::scene::Scene;
use crate::topology::ServiceIx;
use crate::weakness::Weakness;

/// Level from which a belief is said: more likely than not.
pub const ALERT_LEVEL: f64 = 0.5;
/// Level below which what was said is taken back: well under the alert level, so that it does not flicker.
const RELEASE_LEVEL: f64 = 0.35;
/// Level below which a belief is forgotten.
const FORGET_LEVEL: f64 = 0.03;
/// Level from which the baseline no longer learns: long before anything is said.
pub const SUSPECT_LEVEL: f64 = 0.2;
/// What is left of a belief that another explains: it stays as the next candidate.
const EXPLAINED_FACTOR: f64 = 0.4;
/// Level from which a belief can explain others.
const EXPLAINING_LEVEL: f64 = 0.3;
/// Time constant with which a belief fades, seconds: a finding may miss a few ticks.
const FADE_SECONDS: f64 = 0.8;
/// Share of the most certain pod's level from which another pod is affected as well.
const POD_SHARE_MIN: f64 = 0.4;
/// Time for which a healed service still shows what hit it (old connections sending again, queues draining),
/// nanoseconds.
const AFTERMATH_NS: u64 = 5_000_000_000;
/// What is left of measured and inferred findings in that time: too little to be said.
const AFTERMATH_FACTOR: f64 = 0.5;
/// Candidates told at most.
const CANDIDATES_MAX: usize = 10;

/// Time constant with which a belief grows, seconds: the less certain the evidence, the longer it must last.
fn growth_seconds(scene: &Scene<'_>, certainty: Certainty) -> f64 {
    let seconds = match certainty {
        Certainty::Stated => 0.25,
        Certainty::Measured => 0.5,
        Certainty::Inferred => 1.2,
    };
    match scene.weakness {
        Some(Weakness::NoHold) => ONE_TICK_SECONDS,
        Some(Weakness::SlowBelief) => 3.0 * seconds,
        Some(_) | None => seconds,
    }
}

/// Time constant with which a belief fades, seconds.
fn fade_seconds(scene: &Scene<'_>) -> f64 {
    if scene.weakness == Some(Weakness::NoHold) {
        ONE_TICK_SECONDS
    } else {
        FADE_SECONDS
    }
}

/// A time constant with which nothing outlasts a tick, seconds.
const ONE_TICK_SECONDS: f64 = 0.01;

#[derive(Clone, Debug)]
struct Belief {
    level: f64,
    certainty: Certainty,
    since_ns: MonotonicNanos,
    pods: BTreeMap<PodName, f64>,
    evidence: Vec<String>,
    alerted: bool,
}

/// All beliefs.
#[derive(Clone, Debug, Default)]
pub struct Beliefs {
    beliefs: BTreeMap<(Entity, Mechanism), Belief>,
    /// Services that something has hit, or their callers, and until when what they show may be its aftermath.
    aftermath: BTreeMap<(Certainty, ServiceName), MonotonicNanos>,
}

impl Beliefs {
    /// Takes in what the rules found in `scene`, `seconds` after the last time.
    pub fn update(&mut self, scene: &Scene<'_>, findings: &[Finding], seconds: f64) {
        let mut found: BTreeMap<(Entity, Mechanism), Vec<&Finding>> = BTreeMap::new();
        for finding in findings {
            found
                .entry((entity(scene, finding.place), finding.mechanism))
                .or_default()
                .push(finding);
        }
        for (key, findings) in &found {
            let belief = self.beliefs.entry(key.clone()).or_insert_with(|| Belief {
                level: 0.0,
                certainty: Certainty::Inferred,
                since_ns: MonotonicNanos::MAX,
                pods: BTreeMap::new(),
                evidence: Vec::new(),
                alerted: false,
            });
            let certainty = findings
                .iter()
                .map(|finding| finding.certainty)
                .max()
                .unwrap_or(Certainty::Inferred);
            let services = services_at(scene, findings[0].place, belief);
            let doubtful = certainty < Certainty::Stated
                && key.1 != Mechanism::LoadSurge
                && services.iter().all(|&service| {
                    self.aftermath
                        .contains_key(&(certainty, scene.services[service].clone()))
                });
            belief.strengthen(scene, findings, seconds, if doubtful { AFTERMATH_FACTOR } else { 1.0 });
        }
        self.note_aftermath(scene);
        for (key, belief) in &mut self.beliefs {
            let holds = belief.certainty == Certainty::Stated && still_silent(scene, belief);
            if !found.contains_key(key) && !holds {
                belief.level *= (-seconds / fade_seconds(scene)).exp();
            }
        }
        self.beliefs.retain(|_, belief| belief.level >= FORGET_LEVEL);
    }

    fn note_aftermath(&mut self, scene: &Scene<'_>) {
        self.aftermath.retain(|_, until_ns| scene.now_ns < *until_ns);
        for ((entity, _), belief) in &self.beliefs {
            let Some(place) = place(scene, entity).filter(|_| belief.alerted) else {
                continue;
            };
            for service in services_at(scene, place, belief) {
                let mut note = |certainty: Certainty, service: ServiceIx| {
                    self.aftermath.insert(
                        (certainty, scene.services[service].clone()),
                        scene.now_ns + AFTERMATH_NS,
                    );
                };
                if belief.certainty == Certainty::Stated {
                    note(Certainty::Measured, service);
                }
                if belief.certainty >= Certainty::Measured {
                    note(Certainty::Inferred, service);
                }
                // Callers go on failing for a while, whatever it was.
                for caller in scene.topology.callers_of_all_depths(service) {
                    note(Certainty::Inferred, caller);
                }
            }
        }
    }

    /// Something may be wrong: this is no time to learn what is usual.
    #[must_use]
    pub fn suspicious(&self) -> bool {
        self.beliefs.values().any(|belief| belief.level >= SUSPECT_LEVEL)
    }

    /// The candidates, most likely first; none unless one is more likely than not.
    pub fn candidates(&mut self, scene: &Scene<'_>) -> Vec<Candidate> {
        let mut order: Vec<(Suspect, &(Entity, Mechanism), &mut Belief)> = self
            .beliefs
            .iter_mut()
            .filter_map(|(key, belief)| {
                let place = place(scene, &key.0)?;
                let services = services_at(scene, place, belief);
                Some((
                    Suspect {
                        mechanism: key.1,
                        place,
                        services,
                        certainty: belief.certainty,
                    },
                    key,
                    belief,
                ))
            })
            .collect();
        order.sort_by(|a, b| b.0.certainty.cmp(&a.0.certainty).then(b.2.level.total_cmp(&a.2.level)));
        // However strong the belief in a failing name server: what ails its clients' network explains it.
        let believed = |belief: &Belief| belief.level >= EXPLAINING_LEVEL;
        let networks: Vec<Suspect> = order
            .iter()
            .filter(|(suspect, _, belief)| is_network(suspect.mechanism) && believed(belief))
            .map(|(suspect, ..)| suspect.clone())
            .collect();
        let mut causes: Vec<Suspect> = Vec::new();
        let mut scored = Vec::new();
        for (suspect, key, belief) in order {
            let mut explained = causes.iter().any(|cause| explains(scene, cause, &suspect));
            explained |= is_dns(suspect.mechanism) && networks.iter().any(|cause| explains(scene, cause, &suspect));
            let score = belief.level * if explained { EXPLAINED_FACTOR } else { 1.0 };
            if !explained && believed(belief) {
                causes.push(suspect.clone());
            }
            belief.alerted = score >= if belief.alerted { RELEASE_LEVEL } else { ALERT_LEVEL };
            scored.push((score, belief.alerted, suspect, key, belief));
        }
        if !scored.iter().any(|(_, alerted, ..)| *alerted) {
            return Vec::new();
        }
        scored.sort_by(|a, b| b.1.cmp(&a.1).then(b.0.total_cmp(&a.0)));
        scored.truncate(CANDIDATES_MAX);
        scored
            .into_iter()
            .map(|(score, _, suspect, key, belief)| candidate(scene, score, &suspect, key, belief))
            .collect()
    }
}

impl Belief {
    fn strengthen(&mut self, scene: &Scene<'_>, findings: &[&Finding], seconds: f64, trust: f64) {
        let doubt: f64 = findings.iter().map(|finding| 1.0 - finding.strength).product();
        let strength = (1.0 - doubt) * trust;
        let certainty = findings
            .iter()
            .map(|finding| finding.certainty)
            .max()
            .unwrap_or(Certainty::Inferred);
        let step = 1.0 - (-seconds / growth_seconds(scene, certainty)).exp();
        self.level += (strength - self.level) * step;
        self.certainty = if self.level < FORGET_LEVEL {
            certainty
        } else {
            self.certainty.max(certainty)
        };
        self.since_ns = findings
            .iter()
            .map(|finding| finding.since_ns)
            .fold(self.since_ns, MonotonicNanos::min);
        self.evidence = findings
            .iter()
            .flat_map(|finding| finding.evidence.iter().cloned())
            .collect();
        for level in self.pods.values_mut() {
            *level *= (-seconds / fade_seconds(scene)).exp();
        }
        for &pod in findings.iter().flat_map(|finding| &finding.pods) {
            let level = self.pods.entry(scene.pods[pod].name.clone()).or_default();
            *level += (1.0 - *level) * step;
        }
        self.pods.retain(|_, level| *level >= FORGET_LEVEL);
    }

    fn affected_pods(&self) -> Vec<PodName> {
        let most = self.pods.values().copied().fold(0.0, f64::max);
        self.pods
            .iter()
            .filter(|&(_, &level)| level >= POD_SHARE_MIN * most)
            .map(|(pod, _)| pod.clone())
            .collect()
    }
}

/// Answers are due on the edges into these pods and none comes: that callers stopped trying heals nothing.
fn still_silent(scene: &Scene<'_>, belief: &Belief) -> bool {
    let mut due = scene
        .pods
        .iter()
        .filter(|pod| belief.pods.contains_key(pod.name))
        .flat_map(|pod| &pod.inbound)
        .map(|&edge| &scene.edges[edge])
        .filter(|edge| edge.judgeable())
        .peekable();
    due.peek().is_some() && due.all(|edge| edge.answers() == 0)
}

fn candidate(
    scene: &Scene<'_>,
    score: f64,
    suspect: &Suspect,
    key: &(Entity, Mechanism),
    belief: &Belief,
) -> Candidate {
    let pods = belief.affected_pods();
    let mut nodes: Vec<NodeName> = Vec::new();
    for pod in scene.pods.iter().filter(|pod| pods.contains(pod.name)) {
        nodes.push(scene.nodes[pod.node].name.clone());
    }
    nodes.sort();
    nodes.dedup();
    let path = most_asked(scene, &suspect.services)
        .map(|service| scene.topology.path_to_entrance(service))
        .unwrap_or_default();
    Candidate {
        entity: key.0.clone(),
        mechanism: key.1,
        confidence: (score * 100.0).round() / 100.0,
        since_ns: belief.since_ns,
        pods,
        nodes,
        evidence: belief.evidence.clone(),
        path: path
            .into_iter()
            .map(|service| scene.services[service].clone())
            .collect(),
    }
}

/// The one of `services` of which most is usually asked.
fn most_asked(scene: &Scene<'_>, services: &[ServiceIx]) -> Option<ServiceIx> {
    let asked = |service: ServiceIx| -> f64 { scene.pods_of(service).map(|pod| scene.pods[pod].demand.usual).sum() };
    let mut services = services.iter().copied();
    let first = services.next()?;
    Some(services.fold(
        first,
        |most, service| {
            if asked(service) > asked(most) { service } else { most }
        },
    ))
}

fn services_at(scene: &Scene<'_>, place: Place, belief: &Belief) -> Vec<ServiceIx> {
    match place {
        Place::Service(service) => vec![service],
        Place::Edge(_, callee) => vec![callee],
        Place::Node(_) => {
            let mut services: Vec<ServiceIx> = scene
                .pods
                .iter()
                .filter(|pod| belief.pods.contains_key(pod.name))
                .map(|pod| pod.service)
                .collect();
            services.sort_unstable();
            services.dedup();
            services
        }
    }
}

fn entity(scene: &Scene<'_>, place: Place) -> Entity {
    match place {
        Place::Service(service) => Entity::Service {
            name: scene.services[service].clone(),
        },
        Place::Node(node) => Entity::Node {
            name: scene.nodes[node].name.clone(),
        },
        Place::Edge(caller, callee) => Entity::Edge {
            caller: scene.services[caller].clone(),
            callee: scene.services[callee].clone(),
        },
    }
}

/// The place of an entity in this scene; `None` when it is gone.
fn place(scene: &Scene<'_>, entity: &Entity) -> Option<Place> {
    let service = |name: &ServiceName| scene.services.binary_search(name).ok();
    match entity {
        Entity::Service { name } => service(name).map(Place::Service),
        Entity::Pod { name } => scene
            .pods
            .iter()
            .find(|pod| pod.name == name)
            .map(|pod| Place::Service(pod.service)),
        Entity::Node { name } => scene.nodes.iter().position(|node| node.name == name).map(Place::Node),
        Entity::Edge { caller, callee } => Some(Place::Edge(service(caller)?, service(callee)?)),
    }
}
