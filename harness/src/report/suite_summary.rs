//! The result of a suite in text and JSON: a line for each case, what they say together, what is missing.
//!
//! Figures and words are those of the suite's page ([`SuiteView`]); lines are those of [`super::summary`].

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::suite::SuiteView;
use super::summary::{columns, columns_head, detector_lines, outcome_json};
use crate::suite::outcome::{CaseResult, SuiteResult};
use crate::suite::store::short;

/// The table of a suite.
#[must_use]
pub fn table(result: &SuiteResult, view: &SuiteView) -> String {
    let shard = result.shard.map_or(String::new(), |shard| format!(", shard {shard}"));
    let detector = if result.detector.is_empty() {
        "–"
    } else {
        &result.detector
    };
    let mut text = format!(
        "suite {} digest {}{shard}, detector {detector}\n{:<28} {:>5} {:>10} {}\n",
        result.suite,
        short(&result.digest),
        "scenario",
        "trial",
        "seed",
        columns_head(),
    );
    for case in &result.cases {
        text += &row(case);
    }
    text += &detector_lines(view.by_detector());
    let _ = writeln!(text, "{}", view.headline);
    text
}

fn row(case: &CaseResult) -> String {
    let mut text = format!(
        "{:<28} {:>5} {:>10} {}",
        case.scenario,
        case.trial,
        case.seed.0,
        columns(&case.validity, &case.detector)
    );
    if let Some(failure) = &case.detector.failure {
        let _ = write!(text, " (detector failed: {failure})");
    }
    if !case.invalid_attempts.is_empty() {
        let _ = write!(text, " (after {})", invalid_classes(case).join(", "));
    }
    text.push('\n');
    for finding in &case.validity.findings {
        let _ = writeln!(text, "    {finding}");
    }
    text
}

fn invalid_classes(case: &CaseResult) -> Vec<&'static str> {
    case.invalid_attempts.iter().map(|one| one.class.name()).collect()
}

/// The fields of a suite in the last line of `--format json`.
#[must_use]
pub fn suite_json(result: &SuiteResult, view: &SuiteView) -> Value {
    let case = |case: &CaseResult| {
        let mut value = outcome_json(&case.validity, &case.detector);
        value["scenario"] = json!(case.scenario);
        value["trial"] = json!(case.trial);
        value["seed"] = json!(case.seed);
        value["directory"] = json!(case.directory);
        value["invalidAttempts"] = json!(invalid_classes(case));
        value
    };
    let by_detector = view.by_detector();
    let summary: serde_json::Map<String, Value> = by_detector
        .map(|(name, summary)| (name.to_owned(), json!(summary)))
        .collect();
    json!({
        "suite": result.suite,
        "digest": result.digest,
        "mode": result.mode,
        "shard": result.shard,
        "detector": result.detector,
        "plannedCount": result.planned_count,
        "cases": result.cases.iter().map(case).collect::<Vec<_>>(),
        "summary": summary,
    })
}
