//! From a scenario, the pods that exist and a seed to a concrete schedule: which fault, on which pods, when.
//!
//! Same scenario, pods and seed: same plan, to the byte. Does nothing, and knows no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use gauntlet_detector::diagnosis::Mechanism;
use gauntlet_probes::entity::{NodeName, PodName, ServiceName};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::kind::{Concern, PlannedFault};
use crate::scenario::model::{Arm, CHOSEN_NODE, Fault, Place, RootCause, Scenario, Selector, Spread};

/// A fault outlives its planned end by this much before it undoes itself: recovery is the harness's work, expiry is for
/// a harness that died.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// The one source of chance of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Seed(pub u64);

/// The pods that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanInventory {
    /// In any order.
    pub pods: Vec<PlanPod>,
}

/// A pod that exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlanPod {
    /// Its name.
    pub name: PodName,
    /// The service whose replica it is.
    pub service: ServiceName,
    /// The node on which it runs.
    pub node: NodeName,
}

/// What a run will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Where chance came from.
    pub seed: Seed,
    /// The case.
    pub scenario: Scenario,
    /// The faults, by their start.
    pub steps: Vec<PlannedStep>,
    /// The right answer, with its pods.
    pub truth: GroundTruth,
}

/// One fault, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// Time from the start of the fault phase.
    pub start_after: Duration,
    /// How long it is active.
    pub duration: Duration,
    /// Within this time of its injection its effect must be proven.
    pub effect_within: Duration,
    /// What is made wrong, and where.
    pub fault: PlannedFault,
}

/// The right answer of one run. No detector gets to see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroundTruth {
    /// What silence and alarms mean.
    pub arm: Arm,
    /// The causes.
    pub causes: Vec<TrueCause>,
    /// Services that look guilty and are not.
    pub decoys: Vec<ServiceName>,
    /// Services from the cause to the symptom; empty: not judged.
    pub path: Vec<ServiceName>,
    /// Which service each pod belongs to.
    pub owners: BTreeMap<PodName, ServiceName>,
    /// On which node each pod runs.
    pub hosts: BTreeMap<PodName, NodeName>,
}

/// One cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrueCause {
    /// The fault that is this cause.
    pub fault: String,
    /// Where it lies.
    pub place: Place,
    /// How it is wrong.
    pub mechanism: Mechanism,
    /// Other answers that are as right.
    pub accept: Vec<AcceptedAnswer>,
    /// Exactly the affected pods, sorted; empty if the cause does not lie with pods of its place.
    pub pods: Vec<PodName>,
    /// Their nodes, sorted.
    pub nodes: Vec<NodeName>,
}

/// An answer that is as right as the first one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedAnswer {
    /// Where.
    pub place: Place,
    /// How.
    pub mechanism: Mechanism,
}

/// The scenario does not fit the pods that exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A fault's service has no pods.
    #[error("failed to choose pods for fault `{fault}`: service {service} has none")]
    NoPods {
        /// The fault.
        fault: String,
        /// The service.
        service: ServiceName,
    },
    /// A fault asks for more pods than there are.
    #[error("failed to choose {wanted} pods for fault `{fault}`: service {service} has {found}")]
    TooFewPods {
        /// The fault.
        fault: String,
        /// The service.
        service: ServiceName,
        /// How many are asked for.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
}

/// Makes the plan of a run.
pub fn plan(scenario: &Scenario, inventory: &PlanInventory, seed: Seed) -> Result<Plan, PlanError> {
    let mut pods = inventory.pods.clone();
    pods.sort();
    let mut steps = Vec::new();
    for (index, fault) in scenario.faults.iter().enumerate() {
        // A stream for each fault: another fault in the file does not change what this one chooses.
        let mut rng = ChaCha8Rng::seed_from_u64(seed.0);
        rng.set_stream(index as u64);
        let chosen = match &fault.target {
            Some(selector) => choose(&mut rng, &pods, &fault.id, selector)?,
            None => Vec::new(),
        };
        steps.push(match fault.kind.concern() {
            Concern::Node => on_node(step(fault, chosen), &pods),
            Concern::Nobody | Concern::Pods | Concern::Service => step(fault, chosen),
        });
    }
    let truth = ground_truth(scenario, &pods, &steps);
    steps.sort_by_key(|step| step.start_after);
    Ok(Plan {
        seed,
        scenario: scenario.clone(),
        steps,
        truth,
    })
}

fn step(fault: &Fault, pods: Vec<PodName>) -> PlannedStep {
    PlannedStep {
        start_after: fault.start_after,
        duration: fault.duration,
        effect_within: fault.effect_within,
        fault: PlannedFault {
            id: fault.id.clone(),
            kind: fault.kind.clone(),
            pods,
            service: fault.target.as_ref().map(|target| target.service.clone()),
            node: None,
            expires_after: fault.duration + EXPIRY_MARGIN,
        },
    }
}

/// A pod was chosen for its node: the fault is done to that node, and so to all pods that run there.
fn on_node(mut step: PlannedStep, pods: &[PlanPod]) -> PlannedStep {
    let host = |name: &PodName| pods.iter().find(|pod| pod.name == *name).map(|pod| pod.node.clone());
    step.fault.node = step.fault.pods.first().and_then(host);
    let on_it = pods.iter().filter(|pod| Some(&pod.node) == step.fault.node.as_ref());
    step.fault.pods = on_it.map(|pod| pod.name.clone()).collect();
    step
}

fn choose(rng: &mut ChaCha8Rng, pods: &[PlanPod], fault: &str, selector: &Selector) -> Result<Vec<PodName>, PlanError> {
    let mut all: Vec<&PlanPod> = pods.iter().filter(|pod| pod.service == selector.service).collect();
    if all.is_empty() {
        return Err(PlanError::NoPods {
            fault: fault.to_owned(),
            service: selector.service.clone(),
        });
    }
    let wanted = selector.radius.pods_of(all.len());
    if wanted > all.len() {
        let (fault, service, found) = (fault.to_owned(), selector.service.clone(), all.len());
        return Err(PlanError::TooFewPods {
            fault,
            service,
            wanted,
            found,
        });
    }
    all.shuffle(rng);
    if selector.spread == Spread::Nodes {
        all = over_nodes(&all);
    }
    let mut chosen: Vec<PodName> = all.into_iter().take(wanted).map(|pod| pod.name.clone()).collect();
    chosen.sort();
    Ok(chosen)
}

/// One pod of each node in turn; nodes and pods keep the order in which chance put them.
fn over_nodes<'a>(shuffled: &[&'a PlanPod]) -> Vec<&'a PlanPod> {
    let mut turn: BTreeMap<&NodeName, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, usize, &PlanPod)> = Vec::new();
    for (order, &pod) in shuffled.iter().enumerate() {
        let turns = turn.entry(&pod.node).or_default();
        ranked.push((*turns, order, pod));
        *turns += 1;
    }
    ranked.sort_by_key(|(turns, order, _)| (*turns, *order));
    ranked.into_iter().map(|(_, _, pod)| pod).collect()
}

fn ground_truth(scenario: &Scenario, pods: &[PlanPod], steps: &[PlannedStep]) -> GroundTruth {
    GroundTruth {
        arm: scenario.arm(),
        causes: scenario
            .truth
            .root_causes
            .iter()
            .map(|cause| true_cause(cause, pods, steps))
            .collect(),
        decoys: scenario.truth.not_root_cause.clone(),
        path: scenario.truth.path.clone(),
        owners: pods.iter().map(|pod| (pod.name.clone(), pod.service.clone())).collect(),
        hosts: pods.iter().map(|pod| (pod.name.clone(), pod.node.clone())).collect(),
    }
}

fn true_cause(cause: &RootCause, pods: &[PlanPod], steps: &[PlannedStep]) -> TrueCause {
    let step = steps
        .iter()
        .find(|step| step.fault.id == cause.fault)
        .expect("validated: the fault exists");
    // Pods of another service than the blamed one are where the fault was done, not what is to be named.
    let lies_with_pods = step.fault.node.is_none()
        && matches!(&cause.place, Place::Service(service) if Some(service) == step.fault.service.as_ref());
    let named = if lies_with_pods {
        step.fault.pods.clone()
    } else {
        Vec::new()
    };
    let of_named = pods.iter().filter(|pod| named.contains(&pod.name));
    let mut nodes: Vec<NodeName> = of_named.map(|pod| pod.node.clone()).collect();
    nodes.extend(step.fault.node.clone());
    nodes.sort();
    nodes.dedup();
    TrueCause {
        fault: cause.fault.clone(),
        place: chosen_place(&cause.place, step),
        mechanism: cause.mechanism,
        accept: cause
            .accept
            .iter()
            .map(|accept| AcceptedAnswer {
                place: chosen_place(&accept.place, step),
                mechanism: accept.mechanism,
            })
            .collect(),
        pods: named,
        nodes,
    }
}

/// A place of the scenario, with the node that was chosen where it says so.
fn chosen_place(place: &Place, step: &PlannedStep) -> Place {
    match (place, &step.fault.node) {
        (Place::Node(name), Some(chosen)) if name.as_str() == CHOSEN_NODE => Place::Node(chosen.clone()),
        (Place::Node(_) | Place::Service(_) | Place::Edge { .. }, _) => place.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::scenario::read_text;

    fn inventory(text: &str) -> PlanInventory {
        let pod = |word: &str| {
            let (name, node) = word.split_once('@').expect("pod@node");
            let (service, _) = name.rsplit_once('-').expect("service-index");
            PlanPod {
                name: name.into(),
                service: service.into(),
                node: node.into(),
            }
        };
        PlanInventory {
            pods: text.split_whitespace().map(pod).collect(),
        }
    }

    const PODS: &str = "cache-0@n1 cache-1@n2 cache-2@n3 web-0@n1 web-1@n2 db-0@n3";
    /// Four pods on two nodes.
    const CROWDED: &str = "cache-0@n1 cache-1@n1 cache-2@n1 cache-3@n2";

    fn scenario(target: &str) -> Scenario {
        let text = format!(
            "apiVersion: gauntlet/v1\nkind: Scenario\nmetadata: {{name: t, title: T}}\nspec:\n  app: shop\n  faults:\n    \
             - {{id: f, kind: process-pause, startAfter: 2s, target: {target}}}\n  impact: {{anyOf: [{{sli: latency-p50, \
             timesBaseline: 2}}]}}\n  truth: {{rootCauses: [{{fault: f, service: cache, mechanism: process.hang}}]}}\n"
        );
        let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        read_text("t", &text, &catalogue).unwrap_or_else(|errors| panic!("{}", errors.render_plain()))
    }

    fn check(target: &str, pods: &str, seeds: std::ops::Range<u64>, expected: Expect) {
        let line = |seed| match plan(&scenario(target), &inventory(pods), Seed(seed)) {
            Ok(plan) => {
                let cause = &plan.truth.causes[0];
                format!("{} on {}\n", join(&plan.steps[0].fault.pods), join(&cause.nodes))
            }
            Err(error) => format!("{error}\n"),
        };
        expected.assert_eq(&seeds.map(line).collect::<String>());
    }

    fn join<T: ToString>(names: &[T]) -> String {
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_seed_chooses_the_pods() {
        check(
            "{service: cache, mode: fixed, count: 2}",
            PODS,
            0..6,
            expect![[r#"
            cache-0 cache-2 on n1 n3
            cache-0 cache-2 on n1 n3
            cache-0 cache-1 on n1 n2
            cache-1 cache-2 on n2 n3
            cache-1 cache-2 on n2 n3
            cache-0 cache-1 on n1 n2
        "#]],
        );
        check(
            "{service: cache, mode: all}",
            PODS,
            0..1,
            expect![[r#"
            cache-0 cache-1 cache-2 on n1 n2 n3
        "#]],
        );
        check(
            "{service: cache, mode: percent, percent: 34}",
            PODS,
            0..2,
            expect![[r#"
            cache-0 cache-2 on n1 n3
            cache-0 cache-2 on n1 n3
        "#]],
        );
    }

    #[test]
    fn spread_reaches_as_many_nodes_as_possible() {
        for seed in 0..50 {
            let target = "{service: cache, mode: fixed, count: 2, spread: nodes}";
            let plan = plan(&scenario(target), &inventory(CROWDED), Seed(seed)).expect("enough pods");
            assert_eq!(plan.truth.causes[0].nodes.len(), 2, "seed {seed}");
        }
        check(
            "{service: cache, mode: fixed, count: 2, spread: any}",
            CROWDED,
            0..4,
            expect![[r#"
            cache-0 cache-2 on n1
            cache-0 cache-3 on n1 n2
            cache-0 cache-3 on n1 n2
            cache-1 cache-2 on n1
        "#]],
        );
    }

    #[test]
    fn too_few_pods_are_an_error() {
        check(
            "{service: cache, mode: fixed, count: 3}",
            "cache-0@n1 web-0@n1",
            0..1,
            expect![[r#"
            failed to choose 3 pods for fault `f`: service cache has 1
        "#]],
        );
        check(
            "{service: cache, mode: all}",
            "web-0@n1",
            0..1,
            expect![[r#"
            failed to choose pods for fault `f`: service cache has none
        "#]],
        );
    }

    #[test]
    fn same_seed_same_plan_whatever_the_order_of_the_pods() {
        let scenario = scenario("{service: cache, mode: one}");
        let mut shuffled = inventory(PODS);
        shuffled.pods.reverse();
        let plan = |pods: &PlanInventory, seed| plan(&scenario, pods, Seed(seed)).expect("enough pods");
        let text = |plan: &Plan| serde_json::to_string(plan).expect("plans are data");
        for seed in 0..20 {
            let (one, other) = (plan(&inventory(PODS), seed), plan(&shuffled, seed));
            assert_eq!(text(&one), text(&other), "seed {seed}");
            let read: Plan = serde_json::from_str(&text(&one)).expect("what was written can be read");
            assert_eq!(read, one);
        }
        let chosen: std::collections::BTreeSet<_> = (0..20)
            .map(|seed| plan(&inventory(PODS), seed).steps[0].fault.pods.clone())
            .collect();
        assert_eq!(chosen.len(), 3, "every cache pod is chosen by some seed");
    }

    #[test]
    fn a_fault_of_a_node_concerns_all_pods_there_and_the_truth_names_it() {
        let text = "apiVersion: gauntlet/v1\nkind: Scenario\nmetadata: {name: t, title: T}\nspec:\n  app: shop\n  faults:\n    \
             - {id: f, kind: node-network-cut, target: {service: cache, mode: one}}\n  impact: {anyOf: [{sli: latency-p50, \
             timesBaseline: 2}]}\n  truth: {rootCauses: [{fault: f, node: target, mechanism: network.down, accept: \
             [{service: cache, because: it is all that users notice}]}]}\n";
        let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let scenario = read_text("t", text, &catalogue).unwrap_or_else(|errors| panic!("{}", errors.render_plain()));
        let plan = plan(&scenario, &inventory(PODS), Seed(1)).expect("enough pods");
        let (step, cause) = (&plan.steps[0].fault, &plan.truth.causes[0]);
        let node = step.node.clone().expect("one was chosen");
        let there = format!("@{node}");
        let mut on_it: Vec<&str> = PODS
            .split_whitespace()
            .filter_map(|word| word.strip_suffix(&there))
            .collect();
        on_it.sort_unstable();
        assert_eq!(join(&step.pods), on_it.join(" "));
        assert_eq!(cause.place, Place::Node(node.clone()));
        assert_eq!(cause.accept[0].place, Place::Service("cache".into()));
        assert_eq!((cause.nodes.clone(), cause.pods.len()), (vec![node], 0));
    }

    #[test]
    fn times_are_those_of_the_scenario_and_expiry_comes_after_the_end() {
        let plan = plan(&scenario("{service: cache}"), &inventory(PODS), Seed(1)).expect("enough pods");
        let step = &plan.steps[0];
        assert_eq!((step.start_after.as_secs(), step.duration.as_secs()), (2, 13));
        assert!(step.fault.expires_after > step.duration);
    }
}
