//! What the gate found: the one thing that terminal, pull-request comment and `--format json` are made of.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::limits::LimitReport;
use super::measure::Metric;
use crate::check::validity::Class;
use crate::score::verdict::Verdict;
use crate::statistics::Interval;
use crate::statistics::proportion::Proportion;
use crate::suite::outcome::Mode;

/// Version of [`GateReport`].
pub const GATE_REPORT_VERSION: u32 = 1;

/// What the gate found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateReport {
    /// [`GATE_REPORT_VERSION`].
    pub version: u32,
    /// The worst of all that follows.
    pub verdict: Verdict,
    /// Why, in plain words, worst first. Never empty.
    pub reasons: Vec<String>,
    /// What would decide an inconclusive gate, as far as it can be told.
    pub further: Option<Further>,
    /// What was compared with.
    pub baseline: Side,
    /// What was judged.
    pub candidate: Side,
    /// Hard limits. Empty if the two cannot be compared.
    pub limits: Vec<LimitReport>,
    /// The primary metrics. Empty if the two cannot be compared.
    pub metrics: Vec<MetricReport>,
    /// Replay: every case whose answer or alarms changed.
    pub flips: Vec<Flip>,
    /// Each scenario with a cause to name.
    pub scenarios: Vec<ScenarioRow>,
}

/// One of the two results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// Name of the suite or corpus.
    pub suite: String,
    /// Its digest.
    pub digest: String,
    /// Where the evidence came from.
    pub mode: Mode,
    /// Name and version of the detector.
    pub detector: String,
    /// Number of cases that were asked for.
    pub planned_count: usize,
    /// VALID ones of those that ended.
    pub valid: Proportion,
    /// Number of cases of each class.
    pub classes: BTreeMap<Class, usize>,
}

/// What was found about one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricReport {
    /// Which.
    pub metric: Metric,
    /// Whether it became worse.
    pub verdict: Verdict,
    /// Why, in plain words.
    pub reason: String,
    /// The baseline's value: a share, seconds, or alarms per hour.
    pub baseline: f64,
    /// The candidate's.
    pub candidate: f64,
    /// Difference (AC@1, false alarms) or ratio (times).
    pub effect: f64,
    /// The effect up to which the candidate is no worse.
    pub margin: f64,
    /// 90 % interval of the effect: its end on the worse side is a bound at the 5 % level.
    pub interval: Interval,
    /// One-sided chance of an effect at least as bad if nothing changed.
    pub p: f64,
    /// The same, adjusted by Holm for the family of metrics.
    pub p_adjusted: f64,
    /// Number of pairs, or of the smaller side's runs.
    pub case_count: usize,
    /// What would decide it; `None`: it is decided.
    pub further: Option<Further>,
}

/// Cases that would decide if they went on like those seen: the smallest number at which the interval lies within the
/// margin or the test fails the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Further {
    /// So many more cases, on both sides.
    Cases {
        /// How many.
        count: usize,
    },
    /// More than is worth asking for: the effect lies near its margin, or events are too rare.
    MoreThan {
        /// How many would not decide.
        count: usize,
    },
}

/// How a case changed between two replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlipKind {
    /// Right before, not now.
    Lost,
    /// More false alarms than before.
    Noisier,
    /// Right now, not before.
    Gained,
    /// Fewer false alarms than before.
    Quieter,
}

impl FlipKind {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Noisier => "noisier",
            Self::Gained => "gained",
            Self::Quieter => "quieter",
        }
    }
}

/// A case that changed between two replays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Flip {
    /// How.
    pub kind: FlipKind,
    /// The scenario.
    pub scenario: String,
    /// The trial.
    pub trial: u32,
    /// The first digits of the recording's digest.
    pub recording: String,
    /// What the baseline said, in plain words.
    pub before: String,
    /// What the candidate says.
    pub after: String,
}

/// Right answers in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScenarioRow {
    /// Its name.
    pub scenario: String,
    /// The baseline's.
    pub baseline: Proportion,
    /// The candidate's.
    pub candidate: Proportion,
}

impl Side {
    /// What is said of `evidence` as a whole.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let mut classes = BTreeMap::new();
        for case in &evidence.cases {
            *classes.entry(case.validity).or_default() += 1;
        }
        Self {
            suite: evidence.suite.clone(),
            digest: evidence.digest.clone(),
            mode: evidence.mode,
            detector: evidence.detector.clone(),
            planned_count: evidence.planned_count,
            valid: Proportion::new(
                evidence.cases.iter().filter(|case| case.valid()).count(),
                evidence.cases.len(),
            ),
            classes,
        }
    }
}
