//! network.filter: rules that drop or reject all of what they match.
//!
//! A rule that takes only a share is loss; see [`super::loss`]. A rule at a node that takes what pods of several services
//! there send and get is the node's trouble.

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_probes::frame::MonotonicNanos;

use super::drops::{DropClass, DropFlow, edges_of};
use super::{Certainty, Finding, by_service, names, reach, strength_of};
use crate::commonality::{Observation, Place, explain};
use crate::diagnosis::Mechanism;
use crate::scene::{EdgeIx, EdgeView, End, NodeIx, PodIx, Scene, Trouble};

/// Share of an edge's requests that may succeed on it while a rule is said to take all: what was on its way.
pub const BLOCKED_PROGRESS_MAX: f64 = 0.12;
/// The same for droppers below the rules: those usually take a share, so only (nearly) nothing counts as all.
const LINK_PROGRESS_MAX: f64 = 0.02;
/// Seconds since the first failure without which progress says nothing.
const PROGRESS_SECONDS_MIN: f64 = 0.35;
/// Dropped packets at a pod without which no rule is suspected: fewer can be leftovers of a closed connection.
const DROPS_MIN: u32 = 3;
/// Doubt that each further dropped packet leaves: five packets leave one part in thirty.
const DROP_DOUBT: f64 = 0.5;
/// Requests in vain without which an edge is not called blocked.
const VAIN_MIN: u32 = 3;
/// Strength of an edge that is blocked without anything saying by what: other causes look like this.
const SILENT_STRENGTH: f64 = 0.6;
/// Fit below which commonality says nothing.
const FIT_MIN: f64 = 0.5;

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let cut_off = nodes_cut_off(scene);
    let mut findings = by_drop_records(scene, &cut_off);
    findings.extend(cut_off.into_values());
    findings.extend(by_local_refusal(scene));
    let explained: BTreeSet<PodIx> = findings
        .iter()
        .flat_map(|finding| finding.pods.iter().copied())
        .collect();
    findings.extend(by_silence(scene, &explained));
    findings
}

/// Nothing comes through on `edge` although it is tried.
#[must_use]
pub fn blocked(edge: &EdgeView<'_>) -> bool {
    edge.trouble.is_some_and(|trouble| {
        trouble.seconds >= PROGRESS_SECONDS_MIN
            && trouble.vain >= VAIN_MIN
            && trouble.progress(edge.expected_rate) <= BLOCKED_PROGRESS_MAX
            && !edge.healed()
            && !edge.flows_again()
    })
}

#[derive(Default)]
struct Blame {
    count: u32,
    first_ns: MonotonicNanos,
    words: String,
    ends: BTreeSet<String>,
}

impl Blame {
    fn add(&mut self, flow: &DropFlow, ends: String) {
        self.first_ns = if self.count == 0 {
            flow.first_ns
        } else {
            self.first_ns.min(flow.first_ns)
        };
        self.count += flow.count;
        self.words.clone_from(&flow.words);
        self.ends.insert(ends);
    }

    fn evidence(&self, place: &str) -> Vec<String> {
        let Self { count, words, .. } = self;
        let ends: Vec<&str> = self.ends.iter().map(String::as_str).collect();
        vec![
            format!("{count} packets dropped by a rule ({words}) at {place}"),
            format!("nothing comes through any more: {}", ends.join("; ")),
        ]
    }
}

/// The kernel named rules at a node, and what their victims have in common is that node.
fn nodes_cut_off(scene: &Scene<'_>) -> BTreeMap<NodeIx, Finding> {
    let mut at_nodes: BTreeMap<NodeIx, (Blame, BTreeSet<EdgeIx>)> = BTreeMap::new();
    for flow in scene.drops.iter().filter(|flow| takes_all(scene, flow)) {
        if let Some(node) = flow.at.as_ref().and_then(|at| scene.node(at)) {
            let (blame, edges) = at_nodes.entry(node).or_default();
            blame.add(flow, flow_words(scene, flow));
            edges.extend(edges_of(scene, flow));
        }
    }
    at_nodes.retain(|&node, (blame, edges)| blame.count >= DROPS_MIN && is_common(scene, node, edges));
    let finding = |(node, (blame, _)): (NodeIx, (Blame, BTreeSet<EdgeIx>))| {
        let evidence = blame.evidence(scene.nodes[node].name.as_str());
        let finding = Finding {
            mechanism: Mechanism::NetworkFilter,
            place: Place::Node(node),
            pods: scene.nodes[node].pods.clone(),
            strength: strength_of(f64::from(blame.count), DROP_DOUBT, 0.97),
            certainty: Certainty::Stated,
            since_ns: blame.first_ns,
            evidence,
        };
        (node, finding)
    };
    at_nodes.into_iter().map(finding).collect()
}

/// Of all places, `node` explains best which edges fare like `cut`. What its pods tell each other crosses no border.
fn is_common(scene: &Scene<'_>, node: NodeIx, cut: &BTreeSet<EdgeIx>) -> bool {
    let within = |end: &End| !end.pods().is_empty() && end.pods().iter().all(|&pod| scene.pods[pod].node == node);
    let mut observations = Vec::new();
    for (index, edge) in scene.edges.iter().enumerate() {
        let affected = cut.contains(&index);
        if affected || (edge.answers() > 0 && !(within(&edge.caller) && within(&edge.callee))) {
            observations.push(Observation { edge: index, affected });
        }
    }
    let best = explain(scene, &observations).into_iter().next();
    best.is_some_and(|best| best.place == Place::Node(node) && best.fit >= FIT_MIN)
}

/// The kernel named a rule: blame the pods in whose namespace it is, or those that its victims have in common.
fn by_drop_records(scene: &Scene<'_>, cut_off: &BTreeMap<NodeIx, Finding>) -> Vec<Finding> {
    let mut at_pods: BTreeMap<PodIx, Blame> = BTreeMap::new();
    let mut elsewhere: BTreeMap<PodIx, Blame> = BTreeMap::new();
    for flow in scene.drops.iter().filter(|flow| takes_all(scene, flow)) {
        let node = flow.at.as_ref().and_then(|at| scene.node(at));
        if node.is_some_and(|node| cut_off.contains_key(&node)) {
            continue;
        }
        let ends = flow_words(scene, flow);
        match flow.at.as_ref().map(|at| scene.end(at)) {
            Some(End::Pod(pod)) => at_pods.entry(pod).or_default().add(flow, ends),
            Some(End::OneOf(_) | End::Outside) | None => {
                for &pod in flow.server.pods() {
                    elsewhere.entry(pod).or_default().add(flow, ends.clone());
                }
            }
        }
    }
    let mut findings = Vec::new();
    for blamed in [at_pods, elsewhere] {
        for (service, pods) in by_service(
            scene,
            blamed.keys().copied().filter(|pod| blamed[pod].count >= DROPS_MIN),
        ) {
            let all = Blame {
                count: pods.iter().map(|pod| blamed[pod].count).sum(),
                first_ns: pods
                    .iter()
                    .map(|pod| blamed[pod].first_ns)
                    .min()
                    .unwrap_or(scene.now_ns),
                words: blamed[&pods[0]].words.clone(),
                ends: pods.iter().flat_map(|pod| &blamed[pod].ends).cloned().collect(),
            };
            findings.push(Finding {
                mechanism: Mechanism::NetworkFilter,
                place: Place::Service(service),
                strength: strength_of(f64::from(all.count), DROP_DOUBT, 0.97),
                certainty: Certainty::Stated,
                since_ns: all.first_ns,
                evidence: all.evidence(&names(scene, &pods)),
                pods,
            });
        }
    }
    findings
}

/// Since the first drop, nothing (or no new connection) came through between these ends.
fn takes_all(scene: &Scene<'_>, flow: &DropFlow) -> bool {
    let (progress_max, certain) = match flow.class {
        DropClass::Filter => (BLOCKED_PROGRESS_MAX, true),
        DropClass::Link => (LINK_PROGRESS_MAX, false),
        DropClass::Queue | DropClass::Route | DropClass::TooBig | DropClass::Duplicate | DropClass::Noise => {
            return false;
        }
    };
    if edges_of(scene, flow).any(|edge| scene.edges[edge].healed()) {
        return false;
    }
    let troubles: Vec<(&EdgeView<'_>, Trouble)> = edges_of(scene, flow)
        .map(|edge| &scene.edges[edge])
        .filter_map(|edge| edge.trouble.map(|trouble| (edge, trouble)))
        .filter(|(_, trouble)| trouble.seconds >= PROGRESS_SECONDS_MIN)
        .collect();
    let only_handshakes = flow.syn_count == flow.count && flow.count >= DROPS_MIN;
    if troubles.is_empty() {
        return certain && only_handshakes && flow.frames >= 2;
    }
    troubles.iter().all(|(edge, trouble)| {
        let nothing = trouble.progress(edge.expected_rate) <= progress_max
            && !edge.flows_again()
            && (certain || trouble.vain >= 2 * VAIN_MIN);
        let no_new_connection = certain && only_handshakes && trouble.opened == 0 && trouble.attempted >= VAIN_MIN;
        nothing || no_new_connection
    })
}

/// The kernel refused to send at one side: the rule is there.
fn by_local_refusal(scene: &Scene<'_>) -> Vec<Finding> {
    let mut refusals: BTreeMap<PodIx, (u32, MonotonicNanos)> = BTreeMap::new();
    for edge in scene.edges.iter().filter(|edge| blocked(edge)) {
        let since_ns = edge.trouble.map_or(scene.now_ns, |trouble| trouble.since_ns);
        for (end, flow) in [
            (&edge.caller, &edge.now.value.client),
            (&edge.callee, &edge.now.value.server),
        ] {
            let (End::Pod(pod), Some(flow)) = (end, flow) else {
                continue;
            };
            let count = flow.denied_retransmits + flow.failed_otherwise;
            if count > 0 {
                let known = refusals.entry(*pod).or_insert((0, since_ns));
                *known = (known.0 + count, known.1.min(since_ns));
            }
        }
    }
    let mut findings = Vec::new();
    for (service, pods) in by_service(scene, refusals.keys().copied()) {
        let count: u32 = pods.iter().map(|pod| refusals[pod].0).sum();
        if count < DROPS_MIN {
            continue;
        }
        findings.push(Finding {
            mechanism: Mechanism::NetworkFilter,
            place: Place::Service(service),
            strength: strength_of(f64::from(count), DROP_DOUBT, 0.9),
            certainty: Certainty::Stated,
            since_ns: pods.iter().map(|pod| refusals[pod].1).min().unwrap_or(scene.now_ns),
            evidence: vec![format!(
                "{count} transmissions refused by a local egress rule at {}",
                names(scene, &pods)
            )],
            pods,
        });
    }
    findings
}

/// Blocked without a word, or refused though nobody's kernel sent the refusal: a rule is the likeliest cause. Blame
/// what the blocked edges have in common.
fn by_silence(scene: &Scene<'_>, explained: &BTreeSet<PodIx>) -> Vec<Finding> {
    let mut observations = Vec::new();
    let mut refused = 0;
    let mut since_ns = scene.now_ns;
    for (index, edge) in scene.edges.iter().enumerate() {
        let ends = || edge.caller.pods().iter().chain(edge.callee.pods());
        if ends().any(|pod| explained.contains(pod)) {
            continue;
        }
        if blocked(edge) && !reach::otherwise_explained(scene, edge) {
            observations.push(Observation {
                edge: index,
                affected: true,
            });
            refused += edge.now.value.best().map_or(0, |flow| flow.refused);
            since_ns = since_ns.min(edge.trouble.map_or(scene.now_ns, |trouble| trouble.since_ns));
        } else if edge.answers() > 0 {
            observations.push(Observation {
                edge: index,
                affected: false,
            });
        }
    }
    let best = explain(scene, &observations).into_iter().next();
    let Some(best) = best.filter(|best| best.fit >= FIT_MIN) else {
        return Vec::new();
    };
    let words = if refused > 0 {
        format!(
            "{refused} connections to {} refused, and no kernel of theirs sent the refusal",
            names(scene, &best.pods)
        )
    } else {
        format!(
            "handshakes and requests through {} stay unanswered, and nothing says that a process is gone",
            names(scene, &best.pods)
        )
    };
    vec![Finding {
        mechanism: Mechanism::NetworkFilter,
        place: best.place,
        strength: (SILENT_STRENGTH + if refused > 0 { 0.2 } else { 0.0 }) * best.fit,
        certainty: Certainty::Measured,
        since_ns,
        evidence: vec![words],
        pods: best.pods,
    }]
}

fn flow_words(scene: &Scene<'_>, flow: &DropFlow) -> String {
    format!(
        "{} → {}",
        end_words(scene, &flow.client),
        end_words(scene, &flow.server)
    )
}

fn end_words(scene: &Scene<'_>, end: &End) -> String {
    match end {
        End::Pod(_) | End::OneOf(_) => names(scene, end.pods()),
        End::Outside => "outside".to_owned(),
    }
}
