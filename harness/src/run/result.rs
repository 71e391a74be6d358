//! The result of a run: `result.json`, from which everything that is shown is made.

use std::collections::BTreeMap;

use gauntlet_detector::diagnosis::Diagnosis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::sli::SliSecond;
use crate::check::validity::Validity;
use crate::clock::MonotonicNanos;
use crate::detectors::DetectorEnd;
use crate::plan::GroundTruth;
use crate::score::Score;
use crate::score::verdict::Judgement;

/// Version of [`RunResult`].
pub const RESULT_VERSION: u32 = 1;

/// Moments of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Moments {
    /// The run began.
    pub started_ns: MonotonicNanos,
    /// Load was offered for the first time.
    pub load_ns: MonotonicNanos,
    /// The baseline began.
    pub baseline_ns: MonotonicNanos,
    /// The fault phase began.
    pub fault_phase_ns: MonotonicNanos,
    /// Recovery began: the first undo was asked for.
    pub recover_start_ns: MonotonicNanos,
    /// Everything was undone.
    pub recovered_ns: MonotonicNanos,
    /// Observation ended.
    pub end_ns: MonotonicNanos,
    /// Users were harmed for the first time.
    pub impact_ns: Option<MonotonicNanos>,
    /// The steady state was back.
    pub steady_again_ns: Option<MonotonicNanos>,
}

/// What became of a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultRecord {
    /// Its id in the scenario.
    pub fault: String,
    /// When it was asked for.
    pub requested_ns: Option<MonotonicNanos>,
    /// When the injector returned.
    pub injected_ns: Option<MonotonicNanos>,
    /// When its effect was first there.
    pub onset_ns: Option<MonotonicNanos>,
    /// What the last effect probe measured.
    pub measured: Option<String>,
    /// When it was undone.
    pub recovered_ns: Option<MonotonicNanos>,
    /// Why it could not be injected.
    pub error: Option<String>,
    /// Why it could not be undone, or that its effect stayed.
    pub recovery_error: Option<String>,
}

/// One detector's part in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetectorResult {
    /// What its statements were worth.
    pub score: Score,
    /// Against the scenario's limits.
    pub judgement: Judgement,
    /// Its last statement before recovery began.
    pub answer: Option<Diagnosis>,
    /// What it held at rank 1, and when.
    pub held: Vec<Held>,
}

/// What a detector held at rank 1 for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// From.
    pub from_ns: MonotonicNanos,
    /// Until.
    pub to_ns: MonotonicNanos,
    /// Entity and mechanism.
    pub text: String,
    /// Whether it is in the truth set.
    pub right: bool,
}

/// A run, measured and judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// [`RESULT_VERSION`].
    pub version: u32,
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the application.
    pub app: String,
    /// Seed.
    pub seed: u64,
    /// Trial, from 1.
    pub trial: u32,
    /// Whether the run counts.
    pub validity: Validity,
    /// The detector under test.
    pub detector: DetectorResult,
    /// Everyone else who was there: our own detector if another is under test, its naive rivals, further detectors.
    pub rivals: Vec<DetectorResult>,
    /// The truth, with its pods.
    pub truth: GroundTruth,
    /// Moments.
    pub moments: Moments,
    /// Each fault's story.
    pub faults: Vec<FaultRecord>,
    /// What was left behind.
    pub residue: Vec<String>,
    /// How the detector under test ended, what it cost and lost.
    pub detector_end: DetectorEnd,
    /// The same of each detector, by its name. The naive rivals live in our own's process.
    #[serde(default)]
    pub ends: BTreeMap<String, DetectorEnd>,
    /// What our own detector worked without.
    pub degraded: Vec<String>,
    /// Users' experience.
    pub seconds: Vec<SliSecond>,
}

impl RunResult {
    /// The first proven effect.
    #[must_use]
    pub fn onset_ns(&self) -> Option<MonotonicNanos> {
        self.faults.iter().filter_map(|fault| fault.onset_ns).min()
    }

    /// How this detector failed; `None` if it did not.
    #[must_use]
    pub fn failure_of(&self, detector: &str) -> Option<&str> {
        self.ends.get(detector)?.failure.as_deref()
    }
}
