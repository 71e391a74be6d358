//! Results in text and JSON: one run's verdict for a terminal, a table of many runs, the last line of `--format json`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::text;
use super::view::RunView;
use crate::check::validity::Validity;
use crate::plan::Seed;
use crate::run::result::{DetectorResult, RunResult};
use crate::score::matching::{PodsAnswer, Rank};
use crate::score::moments::TimeTo;
use crate::score::summary::{RunOutcome, Summary, summarize};
use crate::suite::case;
use crate::suite::outcome::DetectorOutcome;

/// One run's verdict with its evidence.
#[must_use]
pub fn text(view: &RunView) -> String {
    let mut text = format!("\n{} {}\n", view.verdict, view.headline);
    let _ = writeln!(text, "truth   {}", view.truth);
    for (name, value) in &view.tiles {
        let _ = writeln!(text, "  {name:<22} {value}");
    }
    for answer in &view.answers {
        let _ = writeln!(text, "{} ({})", answer.detector, answer.score);
        if answer.candidates.is_empty() {
            text += "  named nothing\n";
        }
        for (index, candidate) in answer.candidates.iter().take(3).enumerate() {
            let sign = if candidate.right { "✓" } else { "✗" };
            let _ = writeln!(text, "  {}. {sign} {}", index + 1, candidate.text);
            for evidence in candidate.evidence.iter().take(4) {
                let _ = writeln!(text, "       {evidence}");
            }
        }
    }
    for (name, value) in &view.costs {
        let _ = writeln!(text, "cost    {name}: {value}");
    }
    text
}

/// One line for each run, then what they say together.
#[must_use]
pub fn table(results: &[&RunResult]) -> String {
    let mut text = format!("{:<28} {:>10} {}\n", "scenario", "seed", columns_head());
    for result in results {
        let outcome = case::outcome(result, &result.detector);
        let columns = columns(&result.validity, &outcome);
        let _ = writeln!(text, "{:<28} {:>10} {columns}", result.scenario, result.seed);
    }
    let detectors = by_detector(results);
    text + &detector_lines(detectors.iter().map(|(name, summary)| (name.as_str(), summary)))
}

/// What stands above [`columns`].
pub(super) fn columns_head() -> String {
    format!(
        "{:<13} {:<12} {:>7} {:>7} {:>4}  answer",
        "validity", "verdict", "TTD", "TTRC", "rank"
    )
}

/// What came of a run, as the last columns of its line in a table: of runs and of suites.
pub(super) fn columns(validity: &Validity, outcome: &DetectorOutcome) -> String {
    let answer = outcome.score.answer.as_ref();
    let seconds = |time: Option<&TimeTo>| time.and_then(reached_s).map_or("–".to_owned(), |s| format!("{s:.1} s"));
    format!(
        "{:<13} {:<12} {:>7} {:>7} {:>4}  {}",
        validity.class.name(),
        text::verdict(outcome.judgement.verdict),
        seconds(answer.map(|answer| &answer.time_to_detect)),
        seconds(answer.map(|answer| &answer.time_to_root_cause)),
        answer
            .and_then(|answer| rank(answer.full.rank))
            .map_or("–".to_owned(), |rank| format!("{rank}")),
        outcome
            .first
            .as_ref()
            .map_or("nothing".to_owned(), super::console::candidate_text),
    )
}

/// One line for each detector: what its runs say together.
#[must_use]
pub fn detector_lines<'a>(detectors: impl IntoIterator<Item = (&'a str, &'a Summary)>) -> String {
    let mut text = String::new();
    for (name, summary) in detectors {
        let share = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{:.2}", value));
        let _ = writeln!(
            text,
            "{name:<12} runs {} valid {}/{} · AC@1 {} (entity {}) · right {}/{} [{:.2}, {:.2}] · decoys {} · TTD {} · TTRC {} (p90 {}) · false alarms {} in {:.2} h",
            summary.run_count,
            summary.valid.hits,
            summary.valid.of,
            share(summary.ac_at_1),
            share(summary.ac_at_1_entity),
            summary.correct.hits,
            summary.correct.of,
            summary.correct.low,
            summary.correct.high,
            summary.decoys.hits,
            text::quantile(summary.time_to_detect.median),
            text::quantile(summary.time_to_root_cause.median),
            text::quantile(summary.time_to_root_cause.p90),
            summary.false_alarms.count,
            summary.false_alarms.hours,
        );
    }
    text
}

/// The fields of one run in the last line of `--format json`.
#[must_use]
pub fn result_json(result: &RunResult) -> Value {
    let rivals: BTreeMap<&str, Value> = result
        .rivals
        .iter()
        .map(|rival| {
            let rank = rival.score.answer.as_ref().and_then(|answer| rank(answer.full.rank));
            (
                rival.score.detector.as_str(),
                json!({"verdict": verdict_name(rival), "rank": rank}),
            )
        })
        .collect();
    let mut value = outcome_json(&result.validity, &case::outcome(result, &result.detector));
    value["rivals"] = json!(rivals);
    value
}

/// What came of a run, as fields: of runs and of a suite's cases.
pub(super) fn outcome_json(validity: &Validity, outcome: &DetectorOutcome) -> Value {
    let answer = outcome.score.answer.as_ref();
    let exact = answer.map(|answer| match answer.pods {
        PodsAnswer::NotJudged => Value::Null,
        PodsAnswer::NoRightAnswer => json!(false),
        #[expect(clippy::float_cmp, reason = "shares of whole numbers: 1 is exact")]
        PodsAnswer::Named { precision, recall } => json!(precision == 1.0 && recall == 1.0),
    });
    let findings = outcome.judgement.findings.iter();
    let reasons: Vec<&str> = findings.map(|finding| finding.reason.as_str()).collect();
    json!({
        "validity": validity.class.name(),
        "validityFindings": validity.findings,
        "verdict": text::verdict(outcome.judgement.verdict),
        "reasons": reasons,
        "ttdSeconds": answer.and_then(|answer| reached_s(&answer.time_to_detect)),
        "ttrcSeconds": answer.and_then(|answer| reached_s(&answer.time_to_root_cause)),
        "rank": answer.and_then(|answer| rank(answer.full.rank)),
        "entityRank": answer.and_then(|answer| rank(answer.entity.rank)),
        "exactPods": exact,
        "falseAlarms": outcome.score.false_alarms.episodes_ns.len(),
        "answer": outcome.first,
        "failure": outcome.failure,
    })
}

/// What many runs say together, for each detector.
#[must_use]
pub fn summary_json(results: &[&RunResult]) -> Value {
    by_detector(results)
        .into_iter()
        .map(|(name, summary)| (name, json!(summary)))
        .collect()
}

fn by_detector(results: &[&RunResult]) -> Vec<(String, Summary)> {
    let mut detectors: Vec<(String, Vec<RunOutcome>)> = Vec::new();
    for result in results {
        for detector in std::iter::once(&result.detector).chain(&result.rivals) {
            let outcome = RunOutcome {
                scenario: result.scenario.clone(),
                seed: Seed(result.seed),
                validity: result.validity.clone(),
                score: detector.score.clone(),
                judgement: detector.judgement.clone(),
            };
            match detectors.iter_mut().find(|(name, _)| *name == detector.score.detector) {
                Some((_, outcomes)) => outcomes.push(outcome),
                None => detectors.push((detector.score.detector.clone(), vec![outcome])),
            }
        }
    }
    let summary = |(name, outcomes): (String, Vec<RunOutcome>)| (name, summarize(&outcomes));
    detectors.into_iter().map(summary).collect()
}

/// `pass`, `inconclusive` or `fail`.
#[must_use]
pub fn verdict_name(detector: &DetectorResult) -> &'static str {
    text::verdict(detector.judgement.verdict)
}

/// Seconds of a time that was reached.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
pub fn reached_s(time: &TimeTo) -> Option<f64> {
    match time {
        TimeTo::Reached { after_ns } => Some(*after_ns as f64 / 1e9),
        TimeTo::NotReached { .. } => None,
    }
}

/// A rank that is there.
#[must_use]
pub fn rank(rank: Rank) -> Option<f64> {
    match rank {
        Rank::At { rank } => Some(rank),
        Rank::Absent => None,
    }
}
