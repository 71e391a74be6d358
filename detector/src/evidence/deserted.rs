//! network.misroute and process.crash by the inventory: callers dial a virtual address that leads nowhere any more, or a
//! port that it does not have.
//!
//! Whether somebody is missed is for the callers to say: an address that nobody dials in vain is nobody's trouble.

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_probes::frame::MonotonicNanos;

use super::{Certainty, Finding, names, strength_of};
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::scene::{EdgeView, PodIx, Scene};
use crate::topology::ServiceIx;

/// Attempts in vain without which nothing is said: one or two meet a pod that is replaced by plan.
const VAIN_MIN: u32 = 3;
/// Doubt that each further attempt leaves.
const VAIN_DOUBT: f64 = 0.6;
/// What is believed at most: what else is known of the pods says why they are not behind their address.
const STRENGTH_MAX: f64 = 0.88;
/// Time without a sample of its resources after which a pod has no processes, nanoseconds: several ticks.
const UNSEEN_NS: u64 = 1_000_000_000;

/// Attempts in vain, and the virtual services that were dialled.
#[derive(Default)]
struct Vain<'a> {
    count: u32,
    since_ns: MonotonicNanos,
    addresses: BTreeSet<&'a str>,
}

impl<'a> Vain<'a> {
    fn add(&mut self, scene: &Scene<'_>, edge: &EdgeView<'_>, address: &'a str) {
        let since_ns = edge.trouble.map_or(scene.now_ns, |trouble| trouble.since_ns);
        self.since_ns = if self.count == 0 {
            since_ns
        } else {
            self.since_ns.min(since_ns)
        };
        self.count += edge.now.value.vain();
        self.addresses.insert(address);
    }

    fn words(&self) -> String {
        let addresses: Vec<&str> = self.addresses.iter().copied().collect();
        format!("{} attempts on service {} in vain", self.count, addresses.join(", "))
    }
}

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = without_pods(scene);
    findings.extend(without_port(scene));
    findings
}

/// The caller dials a virtual service that leads nowhere, or did until some moments ago.
#[must_use]
pub fn leads_nowhere(scene: &Scene<'_>, edge: &EdgeView<'_>) -> bool {
    edge.callee.pods().is_empty() && edge.via().is_some_and(|via| scene.inventory().lately_deserted(via))
}

/// Services behind whose address no pod is.
fn without_pods(scene: &Scene<'_>) -> Vec<Finding> {
    let mut services: BTreeMap<ServiceIx, Vain<'_>> = BTreeMap::new();
    for edge in scene.edges.iter().filter(|edge| leads_nowhere(scene, edge)) {
        let deserted = edge.via().filter(|via| scene.inventory().deserted(via).is_some());
        if let (Some(address), Some(service), 0) = (deserted, scene.dialled(edge), edge.answers()) {
            services.entry(service).or_default().add(scene, edge, address);
        }
    }
    services.retain(|_, vain| vain.count >= VAIN_MIN);
    services
        .into_iter()
        .map(|(service, vain)| {
            let pods = left_behind(scene, service, &vain);
            let running = pods.iter().any(|&pod| runs(scene, pod));
            let why = if running {
                format!("no service leads to {}, although it runs", names(scene, &pods))
            } else if pods.is_empty() {
                "its pods are gone".to_owned()
            } else {
                format!("nothing runs in {}", names(scene, &pods))
            };
            Finding {
                mechanism: if running {
                    Mechanism::NetworkMisroute
                } else {
                    Mechanism::ProcessCrash
                },
                place: Place::Service(service),
                strength: strength_of(f64::from(vain.count), VAIN_DOUBT, STRENGTH_MAX),
                certainty: Certainty::Stated,
                since_ns: vain.since_ns,
                evidence: vec![vain.words(), format!("no pod is behind it: {why}")],
                pods,
            }
        })
        .collect()
}

/// The pods that should be behind these addresses and still exist: those that were last, or their successors.
fn left_behind(scene: &Scene<'_>, service: ServiceIx, vain: &Vain<'_>) -> Vec<PodIx> {
    let inventory = scene.inventory();
    let last: Vec<PodIx> = scene
        .pods_of(service)
        .filter(|&pod| {
            let mut led_to = vain.addresses.iter().filter_map(|address| inventory.deserted(address));
            led_to.any(|pods| pods.contains(scene.pods[pod].name))
        })
        .collect();
    if !last.is_empty() {
        return last;
    }
    scene
        .pods_of(service)
        .filter(|&pod| !inventory.is_endpoint(scene.pods[pod].name))
        .collect()
}

/// The program of `pod` runs, as far as it shows.
#[must_use]
pub fn runs(scene: &Scene<'_>, pod: PodIx) -> bool {
    let Some(usage) = &scene.pods[pod].usage else {
        return true;
    };
    let seen = usage.now.at_ns + UNSEEN_NS >= scene.now_ns;
    let count = usage.now.value.process_count;
    seen && (usage.now.value.cpu_ns > 0 || count.is_none_or(|count| count >= processes_at_work(scene)))
}

/// The fewest processes with which any pod works: where each pod has one that only keeps its namespaces, these are two.
fn processes_at_work(scene: &Scene<'_>) -> u32 {
    let usages = scene.pods.iter().filter_map(|pod| pod.usage.as_ref());
    let at_work = usages.filter(|usage| usage.now.value.cpu_ns > 0 && usage.now.at_ns + UNSEEN_NS >= scene.now_ns);
    at_work
        .filter_map(|usage| usage.now.value.process_count)
        .min()
        .unwrap_or(1)
}

/// Callers that dial a port that the service does not have: the mistake is theirs.
fn without_port(scene: &Scene<'_>) -> Vec<Finding> {
    let mut pairs: BTreeMap<(ServiceIx, ServiceIx, u16), Vain<'_>> = BTreeMap::new();
    for edge in &scene.edges {
        let via = edge.via().filter(|via| scene.inventory().lacks_port(via, edge.port));
        let ends = (scene.service_of(&edge.caller), scene.dialled(edge));
        if let (Some(address), (Some(caller), Some(callee)), 0) = (via, ends, edge.answers()) {
            let vain = pairs.entry((caller, callee, edge.port)).or_default();
            vain.add(scene, edge, address);
        }
    }
    pairs.retain(|_, vain| vain.count >= VAIN_MIN);
    pairs
        .into_iter()
        .map(|((caller, callee, port), vain)| Finding {
            mechanism: Mechanism::NetworkMisroute,
            place: Place::Edge(caller, callee),
            pods: scene.pods_of(callee).collect(),
            strength: strength_of(f64::from(vain.count), VAIN_DOUBT, STRENGTH_MAX),
            certainty: Certainty::Stated,
            since_ns: vain.since_ns,
            evidence: vec![vain.words(), format!("it has no port {port}")],
        })
        .collect()
}
