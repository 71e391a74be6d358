//! The discovered topology with what was blamed and what was true drawn onto it.

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_detector::diagnosis::{Candidate, Entity};

use super::super::traffic::{Call, End, Traffic};
use super::place_text;
use crate::run::result::RunResult;
use crate::scenario::model::Place;

/// Suspects that are drawn.
const SUSPECTS_MAX: usize = 5;

/// A drawing of who calls whom.
#[derive(Clone, Debug)]
pub struct TopologyView {
    /// What calls and is called, by layer and name.
    pub boxes: Vec<NodeView>,
    /// The calls that are drawn.
    pub calls: Vec<CallView>,
    /// Calls of and to nodes themselves (health checks, effect probes): told, and not drawn among the services'.
    pub undrawn: Vec<Call>,
    /// What cannot be pointed at in the drawing: blame of nodes and of what was never seen to call.
    pub notes: Vec<String>,
}

/// A box.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Number of calls between the users and it, along the longest way.
    pub layer: usize,
    /// Pods that the first candidate names, or that are truly affected.
    pub pods: Vec<String>,
    /// Marks on it.
    pub marks: Marks,
}

/// An arrow.
#[derive(Clone, Debug)]
pub struct CallView {
    /// Index of the caller's box.
    pub caller: usize,
    /// Index of the callee's box.
    pub callee: usize,
    /// How often and how well.
    pub call: Call,
    /// Marks on it.
    pub marks: Marks,
}

/// What is said of a thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Ranks at which the detector under test blames it.
    pub ranks: Vec<usize>,
    /// It is a true cause.
    pub cause: bool,
    /// It looks guilty and is not.
    pub decoy: bool,
}

impl Marks {
    /// The marks in words; empty without any.
    #[must_use]
    pub fn text(&self) -> String {
        let mut words: Vec<String> = self.ranks.iter().map(|rank| format!("blamed at rank {rank}")).collect();
        words.extend(self.cause.then(|| "true cause".to_owned()));
        words.extend(self.decoy.then(|| "decoy".to_owned()));
        words.join(", ")
    }
}

/// Draws the calls of a run.
#[must_use]
pub fn topology(traffic: &Traffic, result: &RunResult) -> TopologyView {
    let of_node = |call: &Call| matches!((&call.caller, &call.callee), (End::Node(_), _) | (_, End::Node(_)));
    let (undrawn, drawn): (Vec<Call>, Vec<Call>) = traffic.calls.iter().cloned().partition(of_node);
    let layers = layers(&drawn);
    let ends: Vec<&End> = layers.keys().copied().collect();
    let candidates = result
        .detector
        .answer
        .as_ref()
        .map(|answer| answer.candidates.as_slice());
    let suspects: Vec<&Candidate> = candidates.unwrap_or_default().iter().take(SUSPECTS_MAX).collect();
    let painter = Painter { result, suspects };
    let boxes: Vec<NodeView> = ends.iter().map(|end| painter.node(end, layers[*end])).collect();
    let index = |end: &End| ends.iter().position(|one| *one == end).unwrap_or(0);
    let calls: Vec<CallView> = drawn
        .iter()
        .map(|call| CallView {
            caller: index(&call.caller),
            callee: index(&call.callee),
            call: call.clone(),
            marks: painter.call_marks(call),
        })
        .collect();
    let mut notes = painter.undrawn(&boxes, &calls);
    notes.extend(
        traffic
            .cut_short
            .as_ref()
            .map(|why| format!("the recording was not read to its end: {why}")),
    );
    TopologyView {
        boxes,
        calls,
        undrawn,
        notes,
    }
}

/// Longest way to each end from one that nobody calls. A circle of calls is walked no further than there are ends.
fn layers(calls: &[Call]) -> BTreeMap<&End, usize> {
    let ends: BTreeSet<&End> = calls.iter().flat_map(|call| [&call.caller, &call.callee]).collect();
    let mut layers: BTreeMap<&End, usize> = ends.iter().map(|end| (*end, 0)).collect();
    for _ in 0..ends.len() {
        for call in calls.iter().filter(|call| call.callee != End::Outside) {
            let next = (layers[&call.caller] + 1).min(ends.len());
            if layers[&call.callee] < next {
                layers.insert(&call.callee, next);
            }
        }
    }
    layers
}

struct Painter<'a> {
    result: &'a RunResult,
    suspects: Vec<&'a Candidate>,
}

impl Painter<'_> {
    fn node(&self, end: &End, layer: usize) -> NodeView {
        let mut pods = BTreeSet::new();
        let mut marks = Marks::default();
        if let End::Service(service) = end {
            for (index, suspect) in self.suspects.iter().enumerate() {
                let blamed = match &suspect.entity {
                    Entity::Service { name } => name == service,
                    Entity::Pod { name } => self.result.truth.owners.get(name) == Some(service),
                    Entity::Node { .. } | Entity::Edge { .. } => false,
                };
                if blamed {
                    marks.ranks.push(index + 1);
                    pods.extend(suspect.pods.iter().map(ToString::to_string));
                }
            }
            for cause in &self.result.truth.causes {
                if cause.place == Place::Service(service.clone()) {
                    marks.cause = true;
                    pods.extend(cause.pods.iter().map(ToString::to_string));
                }
            }
            marks.decoy = self.result.truth.decoys.contains(service);
        }
        NodeView {
            name: end.to_string(),
            layer,
            pods: pods.into_iter().collect(),
            marks,
        }
    }

    fn call_marks(&self, call: &Call) -> Marks {
        let (End::Service(from), End::Service(to)) = (&call.caller, &call.callee) else {
            return Marks::default();
        };
        let blamed =
            |entity: &Entity| matches!(entity, Entity::Edge { caller, callee } if caller == from && callee == to);
        let is_cause =
            |place: &Place| matches!(place, Place::Edge { caller, callee } if caller == from && callee == to);
        Marks {
            ranks: (1..)
                .zip(&self.suspects)
                .filter(|(_, suspect)| blamed(&suspect.entity))
                .map(|(rank, _)| rank)
                .collect(),
            cause: self.result.truth.causes.iter().any(|cause| is_cause(&cause.place)),
            decoy: false,
        }
    }

    /// Blame and truth that have no place in the drawing.
    fn undrawn(&self, boxes: &[NodeView], calls: &[CallView]) -> Vec<String> {
        let drawn = || {
            boxes
                .iter()
                .map(|one| &one.marks)
                .chain(calls.iter().map(|one| &one.marks))
        };
        let ranks: BTreeSet<usize> = drawn().flat_map(|marks| marks.ranks.clone()).collect();
        let suspects = (1..).zip(&self.suspects).filter(|(rank, _)| !ranks.contains(rank));
        let mut notes: Vec<String> = suspects
            .map(|(rank, suspect)| format!("blamed at rank {rank}, not in the drawing: {}", suspect.entity))
            .collect();
        if !drawn().any(|marks| marks.cause) {
            let causes = self.result.truth.causes.iter();
            notes.extend(causes.map(|cause| format!("true cause, not in the drawing: {}", place_text(&cause.place))));
        }
        notes
    }
}
