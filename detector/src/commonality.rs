//! Which pods explain all affected edges and are absent from the healthy ones?
//!
//! Judges by membership alone: knows nothing of why an edge is affected.

use std::collections::BTreeMap;

use crate::scene::{EdgeIx, NodeIx, PodIx, Scene};
use crate::topology::ServiceIx;
use crate::weakness::Weakness;

/// How an edge fares under the suspicion at hand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Which edge.
    pub edge: EdgeIx,
    /// It shows the suspected trouble; otherwise it was seen to be free of it.
    pub affected: bool,
}

/// Where a trouble lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At pods of a service.
    Service(ServiceIx),
    /// At a node.
    Node(NodeIx),
    /// Between two services.
    Edge(ServiceIx, ServiceIx),
}

/// A place that explains what was observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The place.
    pub place: Place,
    /// Its affected pods, ascending.
    pub pods: Vec<PodIx>,
    /// How well: 1 if these pods' edges are all of the affected ones and none of the healthy ones.
    pub fit: f64,
}

/// In which role a pod's edges are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Any,
    Callee,
    Caller,
}

/// How likely a cause of this shape is before anything was seen. A pod's trouble usually concerns all its edges; trouble
/// with only those on which it is called is nearly as usual (a port, a rule); with only those on which it calls is rare.
const fn prior(role: Role) -> f64 {
    match role {
        Role::Any => 1.0,
        Role::Callee => 0.97,
        Role::Caller => 0.9,
    }
}

/// A node is blamed rather than a service only if pods of several services share it; then nearly as readily.
const NODE_PRIOR: f64 = 0.96;
/// Blame for what lies between two services needs both to be well elsewhere; then it is rarer than any other.
const PAIR_PRIOR: f64 = 0.85;
/// Share of a pod's judged edges that must be affected for the pod to be: more than half, so that a healthy pod is not
/// drawn in by one affected neighbour.
const POD_PURITY_MIN: f64 = 0.51;

/// All places that explain `observations`, best first. Deterministic, and no better for one name than for another.
#[must_use]
pub fn explain(scene: &Scene<'_>, observations: &[Observation]) -> Vec<Explanation> {
    let affected_total = observations.iter().filter(|observation| observation.affected).count();
    if affected_total == 0 {
        return Vec::new();
    }
    let mut explanations = Vec::new();
    let roles: &[Role] = if scene.weakness == Some(Weakness::NoCommonality) {
        &[Role::Caller]
    } else {
        &[Role::Any, Role::Callee, Role::Caller]
    };
    for &role in roles {
        let tallies = tally(scene, observations, role);
        let impure = |pod: &PodIx| tallies[pod].purity() >= POD_PURITY_MIN;
        let mut by_service: BTreeMap<ServiceIx, Vec<PodIx>> = BTreeMap::new();
        let mut by_node: BTreeMap<NodeIx, Vec<PodIx>> = BTreeMap::new();
        for pod in tallies.keys().filter(|pod| impure(pod)) {
            by_service.entry(scene.pods[*pod].service).or_default().push(*pod);
            by_node.entry(scene.pods[*pod].node).or_default().push(*pod);
        }
        let fit = |pods: &[PodIx]| fit(scene, observations, role, pods, affected_total);
        for (service, pods) in by_service {
            let fit = fit(&pods) * prior(role);
            explanations.push(Explanation {
                place: Place::Service(service),
                pods,
                fit,
            });
        }
        if role == Role::Any {
            for (node, pods) in by_node {
                let several = pods
                    .iter()
                    .any(|&pod| scene.pods[pod].service != scene.pods[pods[0]].service);
                if several {
                    let fit = fit(&pods) * NODE_PRIOR;
                    explanations.push(Explanation {
                        place: Place::Node(node),
                        pods,
                        fit,
                    });
                }
            }
        }
    }
    explanations.extend(pairs(scene, observations, affected_total));
    explanations.sort_by(|a, b| b.fit.total_cmp(&a.fit).then_with(|| a.place.cmp(&b.place)));
    let mut seen = Vec::new();
    explanations.retain(|explanation| {
        let new = !seen.contains(&explanation.place);
        seen.push(explanation.place);
        new
    });
    explanations
}

/// Pairs of services whose edges are affected, and no others of theirs: the affected pods are the callees.
fn pairs(scene: &Scene<'_>, observations: &[Observation], affected_total: usize) -> Vec<Explanation> {
    let mut tallies: BTreeMap<(ServiceIx, ServiceIx), (Tally, Vec<PodIx>)> = BTreeMap::new();
    for observation in observations {
        let edge = &scene.edges[observation.edge];
        let (Some(caller), Some(callee)) = (scene.service_of(&edge.caller), scene.service_of(&edge.callee)) else {
            continue;
        };
        let (tally, pods) = tallies.entry((caller, callee)).or_default();
        if observation.affected {
            tally.affected += 1.0;
            pods.extend(edge.callee.pods());
        } else {
            tally.healthy += 1.0;
        }
    }
    tallies.retain(|_, (tally, _)| tally.purity() >= POD_PURITY_MIN);
    let explanation = |((caller, callee), (tally, mut pods)): ((ServiceIx, ServiceIx), (Tally, Vec<PodIx>))| {
        pods.sort_unstable();
        pods.dedup();
        let fit = harmonic_mean(tally.affected / affected_total as f64, tally.purity()) * PAIR_PRIOR;
        Explanation {
            place: Place::Edge(caller, callee),
            pods,
            fit,
        }
    };
    tallies.into_iter().map(explanation).collect()
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    affected: f64,
    healthy: f64,
}

impl Tally {
    fn purity(self) -> f64 {
        if self.affected > 0.0 {
            self.affected / (self.affected + self.healthy)
        } else {
            0.0
        }
    }
}

fn members<'a>(scene: &'a Scene<'_>, edge: EdgeIx, role: Role) -> impl Iterator<Item = PodIx> + 'a {
    let edge = &scene.edges[edge];
    let callers = if role == Role::Callee {
        &[][..]
    } else {
        edge.caller.pods()
    };
    let callees = if role == Role::Caller {
        &[][..]
    } else {
        edge.callee.pods()
    };
    callers.iter().chain(callees).copied()
}

fn tally(scene: &Scene<'_>, observations: &[Observation], role: Role) -> BTreeMap<PodIx, Tally> {
    let mut tallies: BTreeMap<PodIx, Tally> = BTreeMap::new();
    for observation in observations {
        for pod in members(scene, observation.edge, role) {
            let tally = tallies.entry(pod).or_default();
            if observation.affected {
                tally.affected += 1.0;
            } else {
                tally.healthy += 1.0;
            }
        }
    }
    tallies
}

/// Harmonic mean of coverage (of the affected edges, how many touch these pods) and purity (of these pods' edges, how
/// many are affected).
fn fit(scene: &Scene<'_>, observations: &[Observation], role: Role, pods: &[PodIx], affected_total: usize) -> f64 {
    let mut touched = Tally::default();
    for observation in observations {
        if members(scene, observation.edge, role).any(|pod| pods.binary_search(&pod).is_ok()) {
            if observation.affected {
                touched.affected += 1.0;
            } else {
                touched.healthy += 1.0;
            }
        }
    }
    harmonic_mean(touched.affected / affected_total as f64, touched.purity())
}

fn harmonic_mean(coverage: f64, purity: f64) -> f64 {
    if coverage + purity > 0.0 {
        2.0 * coverage * purity / (coverage + purity)
    } else {
        0.0
    }
}
