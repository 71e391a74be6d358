//! Which candidates are right, and how high they stand.
//!
//! By identity and owner, never by likeness of names. Does not know time.

use gauntlet_detector::diagnosis::{Candidate, Entity, Mechanism};
use gauntlet_probes::entity::{PodName, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{GroundTruth, TrueCause};
use crate::scenario::model::Place;

/// The right answer counts down to this rank.
const DEEPEST_RANK: usize = 10;

/// What must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// Where.
    Entity,
    /// Where and how.
    EntityAndMechanism,
}

/// Whether a candidate is in the truth set: entity and mechanism, or an alias of them.
#[must_use]
pub fn is_right(candidate: &Candidate, truth: &GroundTruth) -> bool {
    truth
        .causes
        .iter()
        .any(|cause| names(candidate, cause, truth, Granularity::EntityAndMechanism))
}

/// Rank of the first right answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Rank {
    /// From 1; not whole if it is the expected value among ties.
    At {
        /// The rank.
        rank: f64,
    },
    /// Not among the candidates.
    Absent,
}

/// How well pods were named.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum PodsAnswer {
    /// The cause does not lie with pods.
    NotJudged,
    /// Rank 1 was wrong, or there was none.
    NoRightAnswer,
    /// The pods of the right answer against the true ones.
    Named {
        /// Share of the named pods that are true ones.
        precision: f64,
        /// Share of the true pods that were named.
        recall: f64,
    },
}

impl PodsAnswer {
    /// Whether exactly the true pods were named.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self == Self::Named {
            precision: 1.0,
            recall: 1.0,
        }
    }
}

/// Candidates in their order, aliases merged, ties known.
pub struct Ranking<'a> {
    items: Vec<Item<'a>>,
    causes: usize,
}

/// One candidate of a ranking.
pub struct Item<'a> {
    /// What was said.
    pub candidate: &'a Candidate,
    /// Index of the cause that it names.
    pub cause: Option<usize>,
}

impl<'a> Ranking<'a> {
    /// Ranks `candidates` against the truth.
    #[must_use]
    pub fn new(candidates: &'a [Candidate], truth: &GroundTruth, granularity: Granularity) -> Self {
        let mut items: Vec<Item<'a>> = Vec::new();
        let mut seen = Vec::new();
        for candidate in candidates {
            let cause = truth
                .causes
                .iter()
                .position(|cause| names(candidate, cause, truth, granularity));
            let key = match cause {
                Some(index) => Key::Cause(index),
                None => Key::Other(
                    owner(&candidate.entity, truth),
                    mechanism_at(candidate.mechanism, granularity),
                ),
            };
            if !seen.contains(&key) {
                seen.push(key);
                items.push(Item { candidate, cause });
            }
        }
        Self {
            items,
            causes: truth.causes.len(),
        }
    }

    /// Groups of equal confidence: index of the first item, number of items.
    fn ties(&self) -> Vec<(usize, usize)> {
        let mut groups: Vec<(usize, usize)> = Vec::new();
        for (index, item) in self.items.iter().enumerate() {
            match groups.last_mut() {
                Some((first, size))
                    if self.items[*first]
                        .candidate
                        .confidence
                        .total_cmp(&item.candidate.confidence)
                        .is_eq() =>
                {
                    *size += 1;
                }
                _ => groups.push((index, 1)),
            }
        }
        groups
    }

    fn right_in(&self, (first, size): (usize, usize)) -> usize {
        self.items[first..first + size]
            .iter()
            .filter(|item| item.cause.is_some())
            .count()
    }

    fn top(&self) -> &[Item<'a>] {
        self.ties()
            .first()
            .map_or(&[], |(first, size)| &self.items[*first..first + size])
    }

    /// Whether rank 1 is right, whichever of its ties is taken for it.
    #[must_use]
    pub fn is_right(&self) -> bool {
        !self.top().is_empty() && self.top().iter().all(|item| item.cause.is_some())
    }

    /// The right answer at rank 1, if it is right.
    #[must_use]
    pub fn right_at_top(&self) -> Option<&Item<'a>> {
        self.is_right().then(|| &self.top()[0])
    }

    /// Expected |A[1..k] ∩ R| / min(k, |R|).
    #[must_use]
    pub fn accuracy_at(&self, k: usize) -> f64 {
        // Not `sum`, whose zero is a negative one.
        let hits = self.ties().into_iter().fold(0.0, |hits, (first, size)| {
            let taken = k.saturating_sub(first).min(size);
            hits + as_f64(self.right_in((first, size))) * as_f64(taken) / as_f64(size)
        });
        hits / as_f64(k.min(self.causes).max(1))
    }

    /// Expected rank of the first right answer.
    #[must_use]
    pub fn rank(&self) -> Rank {
        match self.first_right() {
            Some((first, size, right)) => Rank::At {
                rank: as_f64(first) + as_f64(size + 1) / as_f64(right + 1),
            },
            None => Rank::Absent,
        }
    }

    /// Expected 1 / rank of the first right answer, 0 below the top 10.
    #[must_use]
    pub fn reciprocal_rank(&self) -> f64 {
        let Some((first, size, right)) = self.first_right() else {
            return 0.0;
        };
        // Chance that the first right one is at `offset` of its group: no right one before, then one of those left.
        let mut none_before = 1.0;
        let mut expected = 0.0;
        for offset in 0..=size - right {
            let here = none_before * as_f64(right) / as_f64(size - offset);
            if first + offset < DEEPEST_RANK {
                expected += here / as_f64(first + offset + 1);
            }
            none_before -= here;
        }
        expected
    }

    /// First group with a right answer: its first index, its size, how many are right.
    fn first_right(&self) -> Option<(usize, usize, usize)> {
        let mut groups = self
            .ties()
            .into_iter()
            .map(|group| (group.0, group.1, self.right_in(group)));
        groups.find(|(_, _, right)| *right > 0)
    }

    /// Whether a decoy is at rank 1, or ties for it.
    #[must_use]
    pub fn decoy_at_top(&self, truth: &GroundTruth) -> bool {
        let mut wrong = self.top().iter().filter(|item| item.cause.is_none());
        wrong.any(|item| match owner(&item.candidate.entity, truth) {
            Entity::Service { name } => truth.decoys.contains(&name),
            Entity::Pod { .. } | Entity::Node { .. } | Entity::Edge { .. } => false,
        })
    }

    /// Brier score of rank 1's confidence; `None` if nothing was said.
    #[must_use]
    pub fn brier(&self) -> Option<f64> {
        let top = self.top();
        let confidence = top.first()?.candidate.confidence;
        // What is no probability is as wrong as can be, not a way out of the score.
        if !(0.0..=1.0).contains(&confidence) {
            return Some(1.0);
        }
        let right = as_f64(top.iter().filter(|item| item.cause.is_some()).count()) / as_f64(top.len());
        Some(right * (confidence - 1.0).powi(2) + (1.0 - right) * confidence.powi(2))
    }
}

#[derive(PartialEq)]
enum Key {
    Cause(usize),
    Other(Entity, Option<Mechanism>),
}

fn mechanism_at(mechanism: Mechanism, granularity: Granularity) -> Option<Mechanism> {
    (granularity == Granularity::EntityAndMechanism).then_some(mechanism)
}

/// A pod's service, or the entity itself.
fn owner(entity: &Entity, truth: &GroundTruth) -> Entity {
    let service: Option<&ServiceName> = match entity {
        Entity::Pod { name } => truth.owners.get(name),
        Entity::Service { .. } | Entity::Node { .. } | Entity::Edge { .. } => None,
    };
    service.map_or_else(|| entity.clone(), |name| Entity::Service { name: name.clone() })
}

/// Whether a candidate names a cause, by its own words or by others that are as right.
fn names(candidate: &Candidate, cause: &TrueCause, truth: &GroundTruth, granularity: Granularity) -> bool {
    let own = (&cause.place, cause.mechanism);
    let others = cause.accept.iter().map(|accept| (&accept.place, accept.mechanism));
    std::iter::once(own).chain(others).any(|(place, mechanism)| {
        let pods = if *place == cause.place { &cause.pods[..] } else { &[] };
        is_at(&candidate.entity, place, pods, truth)
            && (granularity == Granularity::Entity || candidate.mechanism == mechanism)
    })
}

/// Whether an entity is a place or a part of it: an affected pod of its service, a pod on its node.
fn is_at(entity: &Entity, place: &Place, pods: &[PodName], truth: &GroundTruth) -> bool {
    match (place, entity) {
        (Place::Service(service), Entity::Service { name }) => service == name,
        (Place::Service(service), Entity::Pod { name }) if pods.is_empty() => truth.owners.get(name) == Some(service),
        (Place::Service(_), Entity::Pod { name }) => pods.contains(name),
        (
            Place::Edge { caller, callee },
            Entity::Edge {
                caller: from,
                callee: to,
            },
        ) => caller == from && callee == to,
        (Place::Node(node), Entity::Node { name }) => node == name,
        (Place::Node(node), Entity::Pod { name }) => truth.hosts.get(name) == Some(node),
        (Place::Service(_) | Place::Node(_), Entity::Edge { .. })
        | (Place::Service(_), Entity::Node { .. })
        | (Place::Node(_), Entity::Service { .. })
        | (Place::Edge { .. }, Entity::Service { .. } | Entity::Pod { .. } | Entity::Node { .. }) => false,
    }
}

/// The pods of the right answer against the true ones.
#[must_use]
pub fn pods_answer(right: Option<&Item<'_>>, truth: &GroundTruth) -> PodsAnswer {
    let Some(Item {
        candidate,
        cause: Some(cause),
    }) = right
    else {
        let judged = truth.causes.iter().any(|cause| !cause.pods.is_empty());
        return if judged {
            PodsAnswer::NoRightAnswer
        } else {
            PodsAnswer::NotJudged
        };
    };
    let true_pods = &truth.causes[*cause].pods;
    if true_pods.is_empty() {
        return PodsAnswer::NotJudged;
    }
    let mut named = candidate.pods.clone();
    if let Entity::Pod { name } = &candidate.entity {
        named.push(name.clone());
    }
    named.sort();
    named.dedup();
    let hits = as_f64(named.iter().filter(|pod| true_pods.contains(pod)).count());
    let precision = if named.is_empty() {
        0.0
    } else {
        hits / as_f64(named.len())
    };
    PodsAnswer::Named {
        precision,
        recall: hits / as_f64(true_pods.len()),
    }
}

/// Counts of candidates and pods are small.
fn as_f64(count: usize) -> f64 {
    count as f64
}
