//! Scenarios of the shop with short phases, one for each machinery by which faults are made.
//!
//! Shared by tests of runs, here and in pods.

use std::fs;
use std::path::{Path, PathBuf};

/// A fault of a short scenario: its YAML fields, the service that is to blame, the mechanism.
pub(crate) struct ShortFault {
    pub(crate) name: &'static str,
    pub(crate) yaml: &'static str,
    pub(crate) service: &'static str,
    pub(crate) mechanism: &'static str,
}

/// Faults of each machinery: kernel rules, a queue with a process behind it, signals, limits, cluster objects.
pub(crate) const FAULTS: [ShortFault; 5] = [
    ShortFault {
        name: "filter",
        yaml: "kind: network-filter, direction: ingress, port: 6379, target: {service: cache, mode: fixed, count: 2}",
        service: "cache",
        mechanism: "network.filter",
    },
    ShortFault {
        name: "delay",
        yaml: "kind: network-delay, delay: 60ms, target: {service: cache, mode: fixed, count: 2}",
        service: "cache",
        mechanism: "network.delay",
    },
    ShortFault {
        name: "pause",
        yaml: "kind: process-pause, target: {service: cache, mode: fixed, count: 2}",
        service: "cache",
        mechanism: "process.hang",
    },
    ShortFault {
        name: "cpu-limit",
        yaml: "kind: cpu-limit, millicores: 40, target: {service: web}",
        service: "web",
        mechanism: "resource.cpu",
    },
    ShortFault {
        name: "wrong-port",
        yaml: "kind: service-wrong-port, targetPort: 6380, target: {service: cache, mode: all}",
        service: "cache",
        mechanism: "network.misroute",
    },
];

/// Writes a scenario with short phases.
pub(crate) fn short_scenario(directory: &Path, fault: &ShortFault) -> PathBuf {
    let ShortFault {
        name,
        yaml,
        service,
        mechanism,
    } = fault;
    let text = format!(
        "\
apiVersion: gauntlet/v1
kind: Scenario
metadata: {{name: short-{name}, title: \"Short: {name}\"}}
spec:
  app: shop
  phases: {{warmUp: 1s, baseline: 3s, fault: 8s, recovery: 1s}}
  faults:
    - {{id: fault, {yaml}}}
  impact: {{anyOf: [{{sli: latency-p50, timesBaseline: 1.5}}, {{sli: error-ratio, atLeast: 2%}}]}}
  truth: {{rootCauses: [{{fault: fault, service: {service}, mechanism: {mechanism}}}]}}
  limits: {{timeToRootCause: 6s}}
"
    );
    let path = directory.join(format!("short-{name}.yaml"));
    fs::write(&path, text).expect("written");
    path
}
