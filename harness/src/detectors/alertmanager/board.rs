//! The alerts that fire now, and what they blame together: a function of what was received, and when.
//!
//! Candidates stand in the order of the rules, then of the alerts' own beginnings. Several alerts that blame the same
//! thing in the same way are one candidate, with the pods of all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gauntlet_detector::diagnosis::{Candidate, Diagnosis, Entity, Mechanism};
use gauntlet_probes::entity::{InventoryLine, NodeName, PodName, ServiceName};

use super::config::{Blame, Config, Rule};
use super::webhook::{Alert, Notification, Status, unix_ns};
use crate::clock::MonotonicNanos;

/// Candidates of a statement; scores look no further.
const CANDIDATES_MAX: usize = 10;
/// Alerts that are kept; more at once name nothing.
const ALERTS_MAX: usize = 10_000;

/// When something was received, by both clocks, since alerts carry the wall's.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedAt {
    /// The one clock.
    pub monotonic_ns: MonotonicNanos,
    /// Nanoseconds since 1970.
    pub wall_ns: u64,
}

type Labels = BTreeMap<String, String>;

/// See the module.
#[derive(Debug)]
pub struct Board {
    config: Arc<Config>,
    nodes: BTreeMap<PodName, NodeName>,
    firing: BTreeMap<Labels, Firing>,
    unmatched: BTreeSet<Labels>,
    last: Vec<Candidate>,
}

#[derive(Debug)]
struct Firing {
    rule: usize,
    candidate: Candidate,
}

impl Board {
    /// A board without alerts. The inventory says on which nodes the alerts' pods are.
    #[must_use]
    pub fn new(config: Arc<Config>, inventory: &[InventoryLine]) -> Self {
        let mut board = Self {
            config,
            nodes: BTreeMap::new(),
            firing: BTreeMap::new(),
            unmatched: BTreeSet::new(),
            last: Vec::new(),
        };
        board.tell(inventory);
        board
    }

    /// The inventory has changed. Where a pod was stays known when it is gone: alerts come later than ends.
    pub fn tell(&mut self, lines: &[InventoryLine]) {
        let pods = lines.iter().filter_map(|line| match line {
            InventoryLine::Pod(pod) => Some((pod.name.clone(), pod.node.clone())),
            InventoryLine::Node(_)
            | InventoryLine::Service(_)
            | InventoryLine::PodGone { .. }
            | InventoryLine::ServiceGone { .. }
            | InventoryLine::Ready { .. } => None,
        });
        self.nodes.extend(pods);
    }

    /// Different alerts for which no rule named an entity.
    #[must_use]
    pub fn unmatched_count(&self) -> u64 {
        self.unmatched.len() as u64
    }

    /// Takes a notification; a statement if it changes what is blamed.
    pub fn take(&mut self, notification: &Notification, at: ReceivedAt) -> Option<Diagnosis> {
        for alert in &notification.alerts {
            match alert.status {
                Status::Resolved => drop(self.firing.remove(&alert.labels)),
                Status::Firing => self.fire(alert, at),
            }
        }
        let candidates = self.candidates();
        if candidates == self.last {
            return None;
        }
        self.last.clone_from(&candidates);
        Some(Diagnosis {
            at_ns: at.monotonic_ns,
            detector: self.config.name.clone(),
            candidates,
        })
    }

    fn fire(&mut self, alert: &Alert, at: ReceivedAt) {
        // Alertmanager repeats what still fires; that is no news.
        if self.firing.contains_key(&alert.labels) || self.firing.len() >= ALERTS_MAX {
            return;
        }
        let rules = self.config.rules.iter().enumerate();
        let mut fitting = rules.filter_map(|(rule, it)| Some((rule, blamed(it, alert, at)?)));
        match fitting.next() {
            Some((rule, candidate)) => drop(self.firing.insert(alert.labels.clone(), Firing { rule, candidate })),
            None if self.unmatched.len() < ALERTS_MAX => drop(self.unmatched.insert(alert.labels.clone())),
            None => {}
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let mut firing: Vec<&Firing> = self.firing.values().collect();
        firing.sort_by_key(|one| (one.rule, one.candidate.since_ns));
        let mut candidates: Vec<Candidate> = Vec::new();
        for Firing { candidate, .. } in firing {
            let same = |one: &&mut Candidate| (&one.entity, one.mechanism) == (&candidate.entity, candidate.mechanism);
            match candidates.iter_mut().find(same) {
                Some(first) => join(first, candidate),
                None => candidates.push(candidate.clone()),
            }
        }
        candidates.truncate(CANDIDATES_MAX);
        for candidate in &mut candidates {
            candidate.pods.sort();
            candidate.pods.dedup();
            candidate.nodes = nodes_of(&candidate.pods, &self.nodes);
        }
        candidates
    }
}

fn join(first: &mut Candidate, other: &Candidate) {
    first.confidence = first.confidence.max(other.confidence);
    first.since_ns = first.since_ns.min(other.since_ns);
    first.pods.extend(other.pods.iter().cloned());
    first.evidence.extend(other.evidence.iter().cloned());
}

fn nodes_of(pods: &[PodName], nodes: &BTreeMap<PodName, NodeName>) -> Vec<NodeName> {
    let of_pods: BTreeSet<&NodeName> = pods.iter().filter_map(|pod| nodes.get(pod)).collect();
    of_pods.into_iter().cloned().collect()
}

/// What the alert blames by this rule; `None` if the rule does not fit, or lacks one of the alert's labels.
fn blamed(rule: &Rule, alert: &Alert, at: ReceivedAt) -> Option<Candidate> {
    if !rule.matchers.iter().all(|matcher| matcher.holds(&alert.labels)) {
        return None;
    }
    let fill = |template: &super::template::Template| template.fill(&alert.labels);
    let service = |template| fill(template).map(ServiceName::new);
    let entity = match &rule.blame {
        Blame::Service(name) => Entity::Service { name: service(name)? },
        Blame::Pod(name) => Entity::Pod {
            name: PodName::new(fill(name)?),
        },
        Blame::Node(name) => Entity::Node {
            name: NodeName::new(fill(name)?),
        },
        Blame::Edge { caller, callee } => Entity::Edge {
            caller: service(caller)?,
            callee: service(callee)?,
        },
    };
    let age_ns = unix_ns(&alert.starts_at).map_or(0, |starts_ns| at.wall_ns.saturating_sub(starts_ns));
    let words = ["alertname", "severity"].map(|label| alert.labels.get(label).map_or("", String::as_str));
    let summary = ["summary", "description"]
        .into_iter()
        .find_map(|name| alert.annotations.get(name));
    let evidence = [words[0], words[1], summary.map_or("", String::as_str)];
    let evidence: Vec<&str> = evidence.into_iter().filter(|words| !words.is_empty()).collect();
    Some(Candidate {
        entity,
        // A label whose value is none of the list's says that something is wrong, and not what.
        mechanism: fill(&rule.mechanism)?.parse().unwrap_or(Mechanism::Unknown),
        confidence: rule.confidence,
        since_ns: at.monotonic_ns.saturating_sub(age_ns),
        pods: rule.pods.iter().filter_map(fill).map(PodName::new).collect(),
        nodes: Vec::new(),
        evidence: vec![format!("alert {}", evidence.join(", "))],
        path: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    const EXAMPLE: &str = include_str!("../../../../detector/examples/alertmanager.yaml");

    fn alert(status: &str, starts_at: &str, labels: &[(&str, &str)]) -> serde_json::Value {
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        json!({"status": status, "labels": labels, "startsAt": starts_at, "endsAt": "", "fingerprint": "f"})
    }

    fn unreachable(status: &str, pod: &str) -> serde_json::Value {
        let labels = [
            ("alertname", "CacheUnreachable"),
            ("severity", "page"),
            ("service", "cache"),
            ("pod", pod),
        ];
        alert(status, "2026-11-23T00:00:01Z", &labels)
    }

    /// Each statement, and at the end what was not matched.
    fn check(notifications: &[Vec<serde_json::Value>], expected: Expect) {
        let config = Arc::new(Config::parse("example", EXAMPLE).expect("valid"));
        let pod = json!({"type": "pod", "name": "cache-0", "node": "node-2", "ip": "10.0.0.1"});
        let mut board = Board::new(config, &[serde_json::from_value(pod).expect("a line")]);
        let mut text = String::new();
        for (index, alerts) in notifications.iter().enumerate() {
            let body = json!({"version": "4", "groupKey": "{}", "receiver": "gauntlet", "alerts": alerts});
            let notification = serde_json::from_value(body).expect("a notification");
            let at = ReceivedAt {
                monotonic_ns: 100_000_000_000,
                wall_ns: unix_ns("2026-11-23T00:00:05Z").expect("a time"),
            };
            let said = board.take(&notification, at).map(|diagnosis| diagnosis.candidates);
            let words = |one: &Candidate| {
                let pods: Vec<&str> = one.pods.iter().map(PodName::as_str).collect();
                let nodes: Vec<&str> = one.nodes.iter().map(NodeName::as_str).collect();
                let since = one.since_ns / 1_000_000_000;
                format!(
                    "{}: {} {:.1} since {since} {pods:?} {nodes:?}",
                    one.entity, one.mechanism, one.confidence
                )
            };
            let said = said.map(|candidates| candidates.iter().map(words).collect::<Vec<_>>());
            text += &format!("{index} {said:?}\n");
        }
        expected.assert_eq(&format!("{text}unmatched {}\n", board.unmatched_count()));
    }

    #[test]
    fn alerts_fire_join_and_resolve() {
        check(
            &[
                vec![unreachable("firing", "cache-0")],
                vec![unreachable("firing", "cache-0")],
                vec![unreachable("firing", "cache-0"), unreachable("firing", "cache-1")],
                vec![unreachable("resolved", "cache-0")],
                vec![unreachable("resolved", "cache-1")],
            ],
            expect![[r#"
                0 Some(["cache: network.filter 0.9 since 96 [\"cache-0\"] [\"node-2\"]"])
                1 None
                2 Some(["cache: network.filter 0.9 since 96 [\"cache-0\", \"cache-1\"] [\"node-2\"]"])
                3 Some(["cache: network.filter 0.9 since 96 [\"cache-1\"] []"])
                4 Some([])
                unmatched 0
            "#]],
        );
    }

    #[test]
    fn earlier_rules_rank_first_then_older_alerts() {
        let slow = |at: &str, callee: &str| {
            let labels = [("alertname", "HighLatency"), ("source", "web"), ("destination", callee)];
            alert("firing", at, &labels)
        };
        check(
            &[vec![
                alert(
                    "firing",
                    "2026-11-23T00:00:00Z",
                    &[("service", "db"), ("mechanism", "a mystery")],
                ),
                slow("2026-11-23T00:00:03.5Z", "db"),
                slow("2026-11-23T00:00:03Z", "cache"),
            ]],
            expect![[r#"
                0 Some(["web → cache: network.delay 0.5 since 98 [] []", "web → db: network.delay 0.5 since 98 [] []", "db: unknown 0.2 since 95 [] []"])
                unmatched 0
            "#]],
        );
    }

    #[test]
    fn an_alert_without_a_rule_is_counted_once_and_blames_nothing() {
        let watchdog = || alert("firing", "2026-11-23T00:00:00Z", &[("alertname", "Watchdog")]);
        check(
            &[vec![watchdog()], vec![watchdog()]],
            expect![[r#"
            0 None
            1 None
            unmatched 1
        "#]],
        );
    }
}
