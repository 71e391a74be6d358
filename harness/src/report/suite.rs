//! What a report shows of a suite: everything that its pages, Markdown and JUnit say, computed once.
//!
//! A function of one `suite.json`, and of the older one that it is put beside. Decides nothing: the gate does.

pub mod case;
pub mod comparison;
pub mod confusion;
pub mod group;
pub mod times;

use std::collections::BTreeSet;

use super::text;
use crate::check::validity::Class;
use crate::gate::report::GateReport;
use crate::score::summary::{Summary, summarize};
use crate::score::verdict::Verdict;
use crate::suite::outcome::{CaseResult, DetectorOutcome, Mode, SuiteResult};
use case::CaseOutcome;
use comparison::Comparison;
use confusion::Confusion;
use group::Group;
use times::TimesView;

/// What is shown beside a suite's own result.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// An older result of the same suite.
    pub baseline: Option<&'a SuiteResult>,
    /// What the gate found.
    pub gate: Option<&'a GateReport>,
}

/// A suite, as shown.
#[derive(Clone, Debug)]
pub struct SuiteView {
    /// Name of the suite.
    pub suite: String,
    /// The detector under test, in its own words.
    pub detector: String,
    /// Version of the harness that made this report.
    pub version: String,
    /// The worst verdict of its cases; inconclusive if cases are missing.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub headline: String,
    /// The figures that matter most.
    pub tiles: Vec<(String, String)>,
    /// Where the evidence came from, digest, number of cases.
    pub facts: Vec<(String, String)>,
    /// Names of the detectors, that under test first.
    pub detectors: Vec<String>,
    /// What all cases say together, for each detector.
    pub overall: Vec<Summary>,
    /// Scenarios × trials.
    pub matrix: Vec<MatrixRow>,
    /// Each scenario's figures.
    pub scenarios: Vec<Group>,
    /// The figures of each class and application.
    pub classes: Vec<Group>,
    /// Distributions of times: to detect, to root cause.
    pub times: Vec<TimesView>,
    /// True mechanisms × those said.
    pub confusion: Confusion,
    /// Cases that do not count.
    pub invalid: Vec<InvalidCase>,
    /// Cases in which the detector failed: name of the case, how.
    pub failures: Vec<(String, String)>,
    /// Beside an older result.
    pub comparison: Option<Comparison>,
    /// What the gate found.
    pub gate: Option<GateReport>,
}

impl SuiteView {
    /// What all cases say of each detector, that under test first.
    pub fn by_detector(&self) -> impl Iterator<Item = (&str, &Summary)> {
        self.detectors.iter().map(String::as_str).zip(&self.overall)
    }
}

/// One scenario's trials.
#[derive(Clone, Debug)]
pub struct MatrixRow {
    /// Class and application.
    pub class: String,
    /// The scenario.
    pub scenario: String,
    /// The right answer.
    pub truth: String,
    /// Its trials, in their order.
    pub cells: Vec<MatrixCell>,
}

/// One trial.
#[derive(Clone, Debug)]
pub struct MatrixCell {
    /// Its number, from 1.
    pub trial: u32,
    /// Its seed.
    pub seed: u64,
    /// What came of it.
    pub outcome: CaseOutcome,
    /// Everything that is known of it, in one line.
    pub story: String,
}

/// A case that does not count.
#[derive(Clone, Debug)]
pub struct InvalidCase {
    /// Scenario, trial and seed.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// What spoke against it.
    pub findings: String,
    /// Classes of the attempts before.
    pub attempts: String,
}

/// Puts a suite into words and figures.
#[must_use]
pub fn view(result: &SuiteResult, beside: Beside<'_>) -> SuiteView {
    let detectors = detectors(result);
    let overall = summaries(&result.cases.iter().collect::<Vec<_>>(), &detectors);
    let missing = result.planned_count.saturating_sub(result.cases.len());
    let worst = result.cases.iter().map(|case| case.detector.judgement.verdict).max();
    let verdict = match (worst, missing) {
        (Some(worst), 0) => worst,
        (Some(worst), _) => worst.max(Verdict::Inconclusive),
        (None, _) => Verdict::Inconclusive,
    };
    SuiteView {
        suite: result.suite.clone(),
        detector: result.detector.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        verdict,
        headline: headline(result, missing),
        tiles: overall.first().map(tiles).unwrap_or_default(),
        facts: facts(result),
        matrix: matrix(&result.cases),
        scenarios: group::by_scenario(&result.cases, &detectors),
        classes: group::by_class(&result.cases, &detectors),
        times: times::times(&result.cases, &detectors),
        confusion: confusion::confusion(&result.cases),
        invalid: result.cases.iter().filter_map(invalid).collect(),
        failures: result.cases.iter().filter_map(failure).collect(),
        comparison: beside.baseline.map(|baseline| comparison::compare(baseline, result)),
        gate: beside.gate.cloned(),
        detectors,
        overall,
    }
}

/// That under test, then the others by name.
fn detectors(result: &SuiteResult) -> Vec<String> {
    let own = result.cases.first().map(|case| case.detector.name.clone());
    let others: BTreeSet<&String> = result
        .cases
        .iter()
        .flat_map(|case| &case.rivals)
        .map(|one| &one.name)
        .collect();
    let others: Vec<String> = others
        .into_iter()
        .filter(|name| Some(*name) != own.as_ref())
        .cloned()
        .collect();
    own.into_iter().chain(others).collect()
}

/// What detector `index` of [`SuiteView::detectors`] made of a case; `None` if it was not there. That under test is found
/// by its place: one that crashed before it said anything has no name of its own.
pub(super) fn outcome_of<'a>(case: &'a CaseResult, detectors: &[String], index: usize) -> Option<&'a DetectorOutcome> {
    match index {
        0 => Some(&case.detector),
        index => case.rivals.iter().find(|one| Some(&one.name) == detectors.get(index)),
    }
}

/// What some cases say of each detector.
pub(super) fn summaries(cases: &[&CaseResult], detectors: &[String]) -> Vec<Summary> {
    let outcomes = |index| {
        let cases = cases.iter();
        cases.filter_map(move |case| Some(case.outcome_of(outcome_of(case, detectors, index)?)))
    };
    (0..detectors.len())
        .map(|index| summarize(&outcomes(index).collect::<Vec<_>>()))
        .collect()
}

/// How a case is called wherever one is listed.
pub(crate) fn case_name(case: &CaseResult) -> String {
    format!("{} trial {} seed {}", case.scenario, case.trial, case.seed.0)
}

fn headline(result: &SuiteResult, missing: usize) -> String {
    let count = |verdict| {
        let cases = result.cases.iter();
        cases.filter(|case| case.detector.judgement.verdict == verdict).count()
    };
    let mut parts = vec![
        format!("{} within their limits", count(Verdict::Pass)),
        format!("{} outside", count(Verdict::Fail)),
        format!("{} undecided", count(Verdict::Inconclusive)),
    ];
    if missing > 0 {
        parts.push(format!("{missing} of {} planned never ended", result.planned_count));
    }
    format!("{}: {}", text::count(result.cases.len(), "case"), parts.join(", "))
}

fn tiles(summary: &Summary) -> Vec<(String, String)> {
    let alarms = &summary.false_alarms;
    let rate = match alarms.high_per_hour {
        Some(high) => format!(
            "{} in {:.2} h [{:.1}, {high:.1}]/h",
            alarms.count, alarms.hours, alarms.low_per_hour
        ),
        None => "not watched".to_owned(),
    };
    [
        ("valid runs", text::proportion(&summary.valid)),
        ("right at rank 1", text::proportion(&summary.correct)),
        ("AC@1, mean over scenarios", text::optional(summary.ac_at_1)),
        ("detected", text::proportion(&summary.detected)),
        ("median TTD", text::quantile(summary.time_to_detect.median)),
        ("median TTRC", text::quantile(summary.time_to_root_cause.median)),
        ("decoys blamed", text::proportion(&summary.decoys)),
        ("false alarms", rate),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn facts(result: &SuiteResult) -> Vec<(String, String)> {
    let mode = match result.mode {
        Mode::Live => "live: each run happened for this result",
        Mode::Replay => "replay of recordings",
    };
    let part = result.shard.map_or_else(
        || "all".to_owned(),
        |shard| format!("{} of {}", shard.index, shard.count),
    );
    [
        ("detector", result.detector.clone()),
        ("evidence", mode.to_owned()),
        (
            "cases",
            format!("{} of {} planned", result.cases.len(), result.planned_count),
        ),
        ("part of the suite", part),
        ("digest", result.digest.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The class by which tables are cut; scenarios without one stand together.
pub(super) fn class_of(case: &CaseResult) -> String {
    let class = case.labels.get("class").map_or("unlabelled", String::as_str);
    format!("{class} × {}", case.app)
}

fn matrix(cases: &[CaseResult]) -> Vec<MatrixRow> {
    let mut rows: Vec<MatrixRow> = Vec::new();
    for case in cases {
        let class = class_of(case);
        let known = rows
            .iter_mut()
            .find(|row| row.scenario == case.scenario && row.class == class);
        let cell = MatrixCell {
            trial: case.trial,
            seed: case.seed.0,
            outcome: CaseOutcome::of(case),
            story: case::story(case),
        };
        match known {
            Some(row) => row.cells.push(cell),
            None => rows.push(MatrixRow {
                class,
                scenario: case.scenario.clone(),
                truth: case::truth(case),
                cells: vec![cell],
            }),
        }
    }
    rows.sort_by(|one, other| (&one.class, &one.scenario).cmp(&(&other.class, &other.scenario)));
    rows.iter_mut()
        .for_each(|row| row.cells.sort_by_key(|cell| (cell.trial, cell.seed)));
    rows
}

fn invalid(case: &CaseResult) -> Option<InvalidCase> {
    let attempts = case.invalid_attempts.iter().map(|attempt| attempt.class.name());
    let invalid = InvalidCase {
        name: case_name(case),
        class: case.validity.class,
        findings: case.validity.findings.join("; "),
        attempts: attempts.collect::<Vec<_>>().join(", "),
    };
    // A repeated case counts, and still tells that its machine was not quiet.
    (invalid.class != Class::Valid || !invalid.attempts.is_empty()).then_some(invalid)
}

fn failure(case: &CaseResult) -> Option<(String, String)> {
    Some((case_name(case), case.detector.failure.clone()?))
}
