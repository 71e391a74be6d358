//! A scenario of which nothing is in doubt any more: what validation hands on to the plan and to the checks.
//!
//! Does not know YAML, pods or seeds.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use gauntlet_detector::diagnosis::Mechanism;
use gauntlet_probes::entity::{NodeName, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::kind::FaultKind;

/// How a scenario calls the node that a fault's target will choose: which one it is, only the plan knows.
pub const CHOSEN_NODE: &str = "target";

/// An authored case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scenario {
    /// Its unique name.
    pub name: String,
    /// One line for lists.
    pub title: String,
    /// What happens, and why it is worth a test.
    pub description: String,
    /// Words to select it by.
    pub labels: BTreeMap<String, String>,
    /// The application: the name of a file of `scenarios/apps`, or a path.
    pub app: String,
    /// Offered load; `None`: the application's own.
    pub load: Option<LoadProfile>,
    /// How long each part of a run takes.
    pub phases: Phases,
    /// What normal is.
    pub steady_state: Vec<Bound>,
    /// What is made wrong.
    pub faults: Vec<Fault>,
    /// The harm that users must see, or the run is no test; `None` for controls that do none.
    pub impact: Option<Impact>,
    /// The right answer.
    pub truth: Truth,
    /// What a detector must reach.
    pub limits: Limits,
    /// How long after the onset a detection counts (W of the scoring rules).
    pub window: Duration,
}

impl Scenario {
    /// Whether it can be run on a Kubernetes cluster only.
    #[must_use]
    pub fn needs_kubernetes(&self) -> bool {
        self.faults.iter().any(|fault| fault.kind.needs_kubernetes())
    }

    /// What silence, and what an alarm, mean in this scenario.
    #[must_use]
    pub fn arm(&self) -> Arm {
        let placebo = self
            .faults
            .iter()
            .any(|fault| matches!(fault.kind, FaultKind::Placebo { .. }));
        if self
            .truth
            .root_causes
            .iter()
            .any(|cause| cause.mechanism == Mechanism::LoadSurge)
        {
            Arm::Surge
        } else if !self.truth.root_causes.is_empty() {
            Arm::Fault
        } else if placebo {
            Arm::Placebo
        } else {
            Arm::None
        }
    }
}

/// The experimental arm that a scenario belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// Something is wrong, and a detector must say what.
    Fault,
    /// More is asked than before: `load.surge` is right, silence is allowed, anything else is an alarm.
    Surge,
    /// The injector's machinery runs with zero effect: every alarm is false.
    Placebo,
    /// Nothing happens: every alarm is false.
    None,
}

/// Offered load over time, in requests per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum LoadProfile {
    /// Always the same.
    Constant {
        /// Requests per second.
        rate: f64,
    },
    /// From one rate to another in a straight line, then constant.
    Ramp {
        /// Rate at the start.
        from: f64,
        /// Rate at the end.
        to: f64,
        /// Time between.
        over: Duration,
    },
    /// One rate after another; the last one stays.
    Step {
        /// The rates.
        steps: Vec<LoadStep>,
    },
}

/// One rate of a stepped load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadStep {
    /// Requests per second.
    pub rate: f64,
    /// How long.
    pub lasts: Duration,
}

/// How long each part of a run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Phases {
    /// Load without judgement: caches fill, pools open.
    pub warm_up: Duration,
    /// Normal operation: the steady state is checked, and a detector learns what normal is.
    pub baseline: Duration,
    /// Faults are active.
    pub fault: Duration,
    /// Faults are undone; the steady state must come back.
    pub recovery: Duration,
}

impl Phases {
    /// All of them together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.warm_up + self.baseline + self.fault + self.recovery
    }
}

/// What users see, measured once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sli {
    /// Median latency, microseconds.
    LatencyP50,
    /// 90th percentile of latency, microseconds.
    LatencyP90,
    /// 99th percentile of latency, microseconds.
    LatencyP99,
    /// Failed requests per request, 0 to 1.
    ErrorRatio,
    /// Good answers per second.
    Throughput,
}

impl Sli {
    /// All of them with their names in files.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("latency-p50", Self::LatencyP50),
        ("latency-p90", Self::LatencyP90),
        ("latency-p99", Self::LatencyP99),
        ("error-ratio", Self::ErrorRatio),
        ("throughput", Self::Throughput),
    ];
}

/// A bound on an indicator, in the indicator's unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// What is measured.
    pub sli: Sli,
    /// What it must keep.
    pub limit: Limit,
}

/// A limit on a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// This or less.
    Max(f64),
    /// This or more.
    Min(f64),
}

/// One fault of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Its name within the scenario.
    pub id: String,
    /// What is made wrong.
    pub kind: FaultKind,
    /// Which pods; `None` for kinds that concern none.
    pub target: Option<Selector>,
    /// Time from the start of the fault phase.
    pub start_after: Duration,
    /// How long it is active.
    pub duration: Duration,
    /// Within this time of its injection its effect must be proven.
    pub effect_within: Duration,
}

/// Chooses pods of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Of this service.
    pub service: ServiceName,
    /// How many.
    pub radius: BlastRadius,
    /// How they lie on the nodes.
    pub spread: Spread,
}

/// How much may be affected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlastRadius {
    /// One pod.
    One,
    /// All of them.
    All,
    /// This many.
    Fixed(u32),
    /// This share of them, rounded up, at least one.
    Percent(f64),
}

impl BlastRadius {
    /// Number of pods out of `replicas`.
    #[must_use]
    pub fn pods_of(self, replicas: usize) -> usize {
        match self {
            Self::One => 1,
            Self::All => replicas,
            Self::Fixed(pods) => pods as usize,
            Self::Percent(percent) => ((replicas as f64 * percent / 100.0).ceil() as usize).clamp(1, replicas.max(1)),
        }
    }
}

/// How chosen pods lie on the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// On as many nodes as possible.
    Nodes,
    /// Wherever chance puts them.
    Any,
}

/// The harm that users must see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Impact {
    /// Within this time of the onset.
    pub within: Duration,
    /// How the conditions are combined.
    pub need: Need,
    /// The conditions; never empty.
    pub conditions: Vec<Condition>,
}

/// How conditions are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// One of them is enough.
    Any,
    /// All must hold in the same second.
    All,
}

/// One sign of harm, judged each second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is measured.
    pub sli: Sli,
    /// When it counts as harm.
    pub threshold: Threshold,
}

/// When a number counts as harm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threshold {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// This many times the baseline's value, or more.
    TimesBaseline(f64),
}

/// The right answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Truth {
    /// The causes; empty for controls.
    pub root_causes: Vec<RootCause>,
    /// Services that look guilty and are not.
    pub not_root_cause: Vec<ServiceName>,
    /// Services from the cause to the symptom.
    pub path: Vec<ServiceName>,
}

/// The true origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootCause {
    /// The fault that is this cause.
    pub fault: String,
    /// Where it lies.
    pub place: Place,
    /// How it is wrong.
    pub mechanism: Mechanism,
    /// Other answers that are as right.
    pub accept: Vec<Accepted>,
}

/// An answer that is as right as the first one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Where.
    pub place: Place,
    /// How.
    pub mechanism: Mechanism,
    /// Why it is right.
    pub because: String,
}

/// Where a cause lies, before it is known which pods will be chosen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Place {
    /// With a service.
    Service(ServiceName),
    /// Between two services.
    Edge {
        /// Who calls.
        caller: ServiceName,
        /// Who is called.
        callee: ServiceName,
    },
    /// With a node; [`CHOSEN_NODE`] is the one that the fault's target chooses.
    Node(NodeName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => name.fmt(f),
            Self::Edge { caller, callee } => write!(f, "{caller} → {callee}"),
            Self::Node(name) => write!(f, "node {name}"),
        }
    }
}

/// What a detector must reach for a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// An alert within this time of the onset.
    pub time_to_detect: Option<Duration>,
    /// The right cause settled within this time of the onset.
    pub time_to_root_cause: Option<Duration>,
    /// The right cause at this rank or better at the end.
    pub rank: u32,
    /// At most this many false alarms.
    pub false_alarms: u32,
    /// Which pods must be named.
    pub pods: PodsLimit,
}

/// Which pods must be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodsLimit {
    /// It does not matter.
    Any,
    /// Exactly those that were chosen.
    Exact,
}
