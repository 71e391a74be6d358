//! The result of a suite: `suite.json`, the one input of gate, baseline, comparison and suite reports.
//!
//! Does not know how runs are made. One case is one (scenario, trial): the attempt that counts, and what earlier ones
//! were invalid for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::validity::Validity;
use crate::plan::Seed;
use crate::score::Score;
use crate::score::summary::RunOutcome;
use crate::score::verdict::Judgement;
use gauntlet_detector::diagnosis::Candidate;

/// Version of [`SuiteResult`].
pub const SUITE_RESULT_VERSION: u32 = 1;

/// Where the runs' evidence came from, which decides how two results may be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Each run happened for this result: two results are independent samples.
    Live,
    /// Recordings were replayed: two results are paired, case by case.
    Replay,
}

/// One part of a suite that was cut in `count` parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    /// Which part, from 1.
    pub index: u32,
    /// Of how many.
    pub count: u32,
}

/// What came of a suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuiteResult {
    /// [`SUITE_RESULT_VERSION`].
    pub version: u32,
    /// Name of the suite, or of the corpus.
    pub suite: String,
    /// SHA-256, in hex, of everything that was asked for: same digest, same cases.
    pub digest: String,
    /// Where the evidence came from.
    pub mode: Mode,
    /// Name and version of the detector under test, as it gave them.
    pub detector: String,
    /// Which part of the suite this is; `None`: all of it.
    pub shard: Option<Shard>,
    /// Number of cases that were asked for; fewer in `cases` means that the suite was interrupted.
    pub planned_count: usize,
    /// The cases that ended, in the suite's order.
    pub cases: Vec<CaseResult>,
}

/// One trial of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaseResult {
    /// Name of the scenario.
    pub scenario: String,
    /// Trial, from 1.
    pub trial: u32,
    /// Seed of the attempt that counts.
    pub seed: Seed,
    /// Name of the application.
    pub app: String,
    /// The scenario's labels; `class` is the one that tables are cut by.
    pub labels: BTreeMap<String, String>,
    /// SHA-256, in hex, of the recording, where there is one: what pairs the cases of two replays.
    pub recording: Option<String>,
    /// Run directory of the attempt that counts, relative to the result's own directory where it lies below it.
    pub directory: Option<PathBuf>,
    /// Whether the attempt that counts is VALID.
    pub validity: Validity,
    /// Attempts that were invalid and repeated, in their order. Never repeated because of a detector's answer.
    pub invalid_attempts: Vec<Validity>,
    /// The right answer as text, entity and mechanism of each root cause; empty in controls.
    pub truth: Vec<String>,
    /// The detector under test.
    pub detector: DetectorOutcome,
    /// Others on the same evidence.
    pub rivals: Vec<DetectorOutcome>,
}

/// One detector's part in a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetectorOutcome {
    /// Who.
    pub name: String,
    /// What its statements were worth.
    pub score: Score,
    /// Against the scenario's limits.
    pub judgement: Judgement,
    /// Rank 1 of the final answer.
    pub first: Option<Candidate>,
    /// How it failed (crashed, hung, flooded, talked nonsense, or was never ready); `None`: it did not.
    pub failure: Option<String>,
}

impl CaseResult {
    /// As the summary of the detector under test wants it.
    #[must_use]
    pub fn outcome(&self) -> RunOutcome {
        self.outcome_of(&self.detector)
    }

    /// As the summary of `detector` wants it.
    #[must_use]
    pub fn outcome_of(&self, detector: &DetectorOutcome) -> RunOutcome {
        RunOutcome {
            scenario: self.scenario.clone(),
            seed: self.seed,
            validity: self.validity.clone(),
            score: detector.score.clone(),
            judgement: detector.judgement.clone(),
        }
    }
}
