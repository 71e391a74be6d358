//! The result of a suite in text and JSON: a line for each case, what they say together, what is missing.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::console::candidate_text;
use super::summary::{detector_lines, rank, reached_s};
use super::text;
use crate::score::moments::TimeTo;
use crate::score::summary::{RunOutcome, summarize};
use crate::suite::outcome::{CaseResult, SuiteResult};
use crate::suite::store::short;

/// The table of a suite.
#[must_use]
pub fn table(result: &SuiteResult) -> String {
    let shard = result.shard.map_or(String::new(), |shard| format!(", shard {shard}"));
    let mut text = format!(
        "suite {} digest {}{shard}, detector {}\n{:<28} {:>5} {:>10} {:<13} {:<12} {:>7} {:>7} {:>4}  {}\n",
        result.suite,
        short(&result.digest),
        if result.detector.is_empty() {
            "–"
        } else {
            &result.detector
        },
        "scenario",
        "trial",
        "seed",
        "validity",
        "verdict",
        "TTD",
        "TTRC",
        "rank",
        "answer",
    );
    for case in &result.cases {
        text += &row(case);
    }
    text += &detector_lines(&by_detector(result));
    let missing = result.planned_count - result.cases.len();
    if missing > 0 {
        let _ = writeln!(text, "{missing} of {} cases have no result", result.planned_count);
    }
    text
}

fn row(case: &CaseResult) -> String {
    let score = &case.detector.score;
    let answer = score.answer.as_ref();
    let seconds = |time: Option<&TimeTo>| time.and_then(reached_s).map_or("–".to_owned(), |s| format!("{s:.1} s"));
    let mut text = format!(
        "{:<28} {:>5} {:>10} {:<13} {:<12} {:>7} {:>7} {:>4}  {}",
        case.scenario,
        case.trial,
        case.seed.0,
        case.validity.class.name(),
        text::verdict(case.detector.judgement.verdict),
        seconds(answer.map(|answer| &answer.time_to_detect)),
        seconds(answer.map(|answer| &answer.time_to_root_cause)),
        answer
            .and_then(|answer| rank(answer.full.rank))
            .map_or("–".to_owned(), |rank| format!("{rank}")),
        case.detector
            .first
            .as_ref()
            .map_or("nothing".to_owned(), candidate_text),
    );
    if let Some(failure) = &case.detector.failure {
        let _ = write!(text, " (detector failed: {failure})");
    }
    if !case.invalid_attempts.is_empty() {
        let classes: Vec<&str> = case.invalid_attempts.iter().map(|one| one.class.name()).collect();
        let _ = write!(text, " (after {})", classes.join(", "));
    }
    text.push('\n');
    for finding in &case.validity.findings {
        let _ = writeln!(text, "    {finding}");
    }
    text
}

/// The fields of a suite in the last line of `--format json`.
#[must_use]
pub fn suite_json(result: &SuiteResult) -> Value {
    let case = |case: &CaseResult| {
        let answer = case.detector.score.answer.as_ref();
        let invalid: Vec<&str> = case.invalid_attempts.iter().map(|one| one.class.name()).collect();
        json!({
            "scenario": case.scenario,
            "trial": case.trial,
            "seed": case.seed,
            "directory": case.directory,
            "validity": case.validity.class.name(),
            "validityFindings": case.validity.findings,
            "invalidAttempts": invalid,
            "verdict": text::verdict(case.detector.judgement.verdict),
            "ttdSeconds": answer.and_then(|answer| reached_s(&answer.time_to_detect)),
            "ttrcSeconds": answer.and_then(|answer| reached_s(&answer.time_to_root_cause)),
            "rank": answer.and_then(|answer| rank(answer.full.rank)),
            "answer": case.detector.first,
            "failure": case.detector.failure,
        })
    };
    let summary: serde_json::Map<String, Value> = by_detector(result)
        .into_iter()
        .map(|(name, outcomes)| (name, json!(summarize(&outcomes))))
        .collect();
    json!({
        "suite": result.suite,
        "digest": result.digest,
        "shard": result.shard,
        "detector": result.detector,
        "plannedCount": result.planned_count,
        "cases": result.cases.iter().map(case).collect::<Vec<_>>(),
        "summary": summary,
    })
}

/// The outcomes of the detector under test first, then those of its rivals, by name.
fn by_detector(result: &SuiteResult) -> Vec<(String, Vec<RunOutcome>)> {
    let Some(first) = result.cases.first() else {
        return Vec::new();
    };
    let own: Vec<RunOutcome> = result.cases.iter().map(CaseResult::outcome).collect();
    let mut detectors = vec![(first.detector.name.clone(), own)];
    for case in &result.cases {
        for rival in &case.rivals {
            let outcome = case.outcome_of(rival);
            match detectors.iter_mut().skip(1).find(|(name, _)| *name == rival.name) {
                Some((_, outcomes)) => outcomes.push(outcome),
                None => detectors.push((rival.name.clone(), vec![outcome])),
            }
        }
    }
    detectors[1..].sort_by(|(a, _), (b, _)| a.cmp(b));
    detectors
}
