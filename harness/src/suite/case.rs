//! From a run, or from its failure, to the result of a case.
//!
//! Does not decide whether a run is repeated.

use std::path::PathBuf;

use super::outcome::{CaseResult, DetectorOutcome};
use crate::check::validity::{Class, Validity};
use crate::plan::Seed;
use crate::run::result::{DetectorResult, RunResult};
use crate::scenario::model::Scenario;
use crate::score::Score;
use crate::score::moments::FalseAlarms;
use crate::score::verdict::judge;

/// A run that ended with a result. `directory` and `recording` are as in [`CaseResult`].
#[must_use]
pub fn of_run(
    scenario: &Scenario,
    result: &RunResult,
    directory: Option<PathBuf>,
    recording: Option<String>,
) -> CaseResult {
    CaseResult {
        scenario: result.scenario.clone(),
        trial: result.trial,
        seed: Seed(result.seed),
        app: result.app.clone(),
        labels: scenario.labels.clone(),
        recording,
        directory,
        validity: result.validity.clone(),
        invalid_attempts: Vec::new(),
        truth: truth_texts(scenario),
        detector: outcome(result, &result.detector),
        rivals: result.rivals.iter().map(|rival| outcome(result, rival)).collect(),
    }
}

/// A run that has no result: the harness or the target failed. It says nothing of the detector.
#[must_use]
pub fn of_failure(scenario: &Scenario, app: &str, trial: u32, seed: Seed, detector: &str, error: &str) -> CaseResult {
    let class = Class::HarnessError;
    let validity = Validity {
        class,
        findings: vec![format!("{}: {error}", class.name())],
    };
    let score = Score {
        detector: detector.to_owned(),
        arm: scenario.arm(),
        answer: None,
        false_alarms: FalseAlarms {
            episodes_ns: Vec::new(),
            fault_free_ns: 0,
        },
    };
    CaseResult {
        scenario: scenario.name.clone(),
        trial,
        seed,
        app: app.to_owned(),
        labels: scenario.labels.clone(),
        recording: None,
        directory: None,
        invalid_attempts: Vec::new(),
        truth: truth_texts(scenario),
        detector: DetectorOutcome {
            name: detector.to_owned(),
            judgement: judge(&score, &validity, &scenario.limits),
            score,
            first: None,
            failure: None,
        },
        rivals: Vec::new(),
        validity,
    }
}

/// One detector's part in a run.
#[must_use]
pub fn outcome(result: &RunResult, detector: &DetectorResult) -> DetectorOutcome {
    let name = detector.score.detector.clone();
    let first = detector.answer.as_ref().and_then(|answer| answer.candidates.first());
    DetectorOutcome {
        failure: result.failure_of(&name).map(str::to_owned),
        name,
        score: detector.score.clone(),
        judgement: detector.judgement.clone(),
        first: first.cloned(),
    }
}

fn truth_texts(scenario: &Scenario) -> Vec<String> {
    let causes = scenario.truth.root_causes.iter();
    causes
        .map(|cause| format!("{}: {}", cause.place, cause.mechanism))
        .collect()
}
