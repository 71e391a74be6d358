//! A suite's result beside an older one: each scenario's figures before and after, and each case whose answer changed.
//!
//! No statistics: whether a difference is more than chance is the gate's to say.

use crate::score::summary::{RunOutcome, Summary, summarize};
use crate::suite::outcome::{CaseResult, SuiteResult};

use super::case::CaseOutcome;
use super::case_name;

/// Two results.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The older result's detector.
    pub detector: String,
    /// Both asked for the same cases.
    pub same_suite: bool,
    /// Each scenario: name, before, after; `None` where a result has none of it.
    pub scenarios: Vec<(String, Option<Summary>, Option<Summary>)>,
    /// Cases that changed sides: name, before, after, whether it became right.
    pub flips: Vec<Flip>,
    /// Cases of which only one result knows.
    pub unpaired_count: usize,
}

/// A case whose answer changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Flip {
    /// Scenario, trial and seed.
    pub name: String,
    /// What came of it before.
    pub before: String,
    /// What came of it after.
    pub after: String,
    /// It became right; else it became wrong.
    pub gained: bool,
}

pub(super) fn compare(before: &SuiteResult, after: &SuiteResult) -> Comparison {
    let of = |result: &SuiteResult, scenario: &str| {
        let cases: Vec<&CaseResult> = result.cases.iter().filter(|case| case.scenario == scenario).collect();
        (!cases.is_empty()).then(|| own_summary(&cases))
    };
    let cases = before.cases.iter().chain(&after.cases);
    let mut names: Vec<String> = cases.map(|case| case.scenario.clone()).collect();
    names.sort();
    names.dedup();
    let pairs: Vec<(&CaseResult, &CaseResult)> = after
        .cases
        .iter()
        .filter_map(|new| Some((before.cases.iter().find(|old| is_same(old, new))?, new)))
        .collect();
    Comparison {
        detector: before.detector.clone(),
        same_suite: before.digest == after.digest,
        scenarios: names
            .into_iter()
            .map(|name| (name.clone(), of(before, &name), of(after, &name)))
            .collect(),
        flips: pairs.iter().filter_map(|(old, new)| flip(old, new)).collect(),
        unpaired_count: before.cases.len() + after.cases.len() - 2 * pairs.len(),
    }
}

fn own_summary(cases: &[&CaseResult]) -> Summary {
    let outcomes: Vec<RunOutcome> = cases.iter().map(|case| case.outcome()).collect();
    summarize(&outcomes)
}

/// The same recording where there is one, else the same trial with the same seed.
fn is_same(old: &CaseResult, new: &CaseResult) -> bool {
    match (&old.recording, &new.recording) {
        (Some(old), Some(new)) => old == new,
        (None, None) => (&old.scenario, old.trial, old.seed) == (&new.scenario, new.trial, new.seed),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn flip(old: &CaseResult, new: &CaseResult) -> Option<Flip> {
    let right = |outcome: &CaseOutcome| match outcome {
        CaseOutcome::Right { .. } | CaseOutcome::Quiet => Some(true),
        CaseOutcome::Wrong { .. } | CaseOutcome::Silent | CaseOutcome::Alarmed { .. } => Some(false),
        CaseOutcome::Invalid { .. } => None,
    };
    let (before, after) = (CaseOutcome::of(old), CaseOutcome::of(new));
    let (was, is) = (right(&before)?, right(&after)?);
    (was != is).then(|| Flip {
        name: case_name(new),
        before: before.text(),
        after: after.text(),
        gained: is,
    })
}
