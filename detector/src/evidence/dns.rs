//! dns.failure, dns.delay and dns.wrong-answer: names are not answered, late, or with "no such name".

use std::collections::BTreeMap;

use super::{Certainty, Finding, by_service, names};
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::scene::{PodIx, Scene};

/// Look-ups without which nothing is said.
const QUERIES_MIN: u32 = 6;
/// Share of them that must fail.
const FAILED_SHARE_MIN: f64 = 0.4;
/// Ticks in which some must: the stall of a small machine loses many at once.
const FAILING_TICKS_MIN: u32 = 6;
/// Median latency from which names are late, milliseconds: answers within a cluster take less than one.
const LATE_MS: f64 = 20.0;

#[derive(Clone, Debug, Default)]
struct Lookups {
    queries: u32,
    responses: u32,
    failures: u32,
    unanswered: u32,
    nxdomain: u32,
    failing_ticks: u32,
    last_failing_ns: u64,
    latency: gauntlet_probes::frame::LatencyHistogram,
}

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let mut servers: BTreeMap<PodIx, Lookups> = BTreeMap::new();
    for (at_ns, sample) in scene
        .rare
        .iter()
        .flat_map(|records| records.dns.iter().map(|sample| (records.at_ns, sample)))
    {
        let client = scene.end(&sample.client);
        for &pod in scene
            .end(&sample.server)
            .pods()
            .iter()
            .filter(|pod| !client.pods().contains(pod))
        {
            let sum = servers.entry(pod).or_default();
            if sample.failures + sample.unanswered + sample.nxdomain > 0 && sum.last_failing_ns != at_ns {
                sum.failing_ticks += 1;
                sum.last_failing_ns = at_ns;
            }
            sum.queries += sample.queries;
            sum.responses += sample.responses;
            sum.failures += sample.failures;
            sum.unanswered += sample.unanswered;
            sum.nxdomain += sample.nxdomain;
            sum.latency.merge(&sample.latency);
        }
    }
    let mut wrong: BTreeMap<Mechanism, Vec<PodIx>> = BTreeMap::new();
    for (pod, sum) in &servers {
        let share = |count: u32, of: u32| {
            sum.failing_ticks >= FAILING_TICKS_MIN
                && of >= QUERIES_MIN
                && f64::from(count) >= FAILED_SHARE_MIN * f64::from(of)
        };
        let mechanism = if share(sum.unanswered + sum.failures, sum.responses + sum.unanswered) {
            Mechanism::DnsFailure
        } else if share(sum.nxdomain, sum.responses) {
            Mechanism::DnsWrongAnswer
        } else if sum.responses >= QUERIES_MIN && sum.latency.quantile_us(0.5).is_some_and(|us| us / 1e3 >= LATE_MS) {
            Mechanism::DnsDelay
        } else {
            continue;
        };
        wrong.entry(mechanism).or_default().push(*pod);
    }
    let mut findings = Vec::new();
    for (mechanism, pods) in wrong {
        for (service, pods) in by_service(scene, pods) {
            let queries: u32 = pods.iter().map(|pod| servers[pod].queries).sum();
            findings.push(Finding {
                mechanism,
                place: Place::Service(service),
                strength: 0.75,
                certainty: Certainty::Measured,
                since_ns: scene.rare.first().map_or(scene.now_ns, |records| records.at_ns),
                evidence: vec![format!(
                    "{queries} look-ups at {}: most are not answered as they should be",
                    names(scene, &pods)
                )],
                pods,
            });
        }
    }
    findings
}
