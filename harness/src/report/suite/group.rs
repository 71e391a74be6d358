//! The same figures for each scenario, and for each class and application.

use crate::score::summary::Summary;
use crate::suite::outcome::CaseResult;

use super::{class_of, summaries};

/// What some cases say together.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// Figures for each detector, in the order of [`super::SuiteView::detectors`].
    pub summaries: Vec<Summary>,
    /// Seeds of their runs.
    pub seeds: Vec<u64>,
}

pub(super) fn by_scenario(cases: &[CaseResult], detectors: &[String]) -> Vec<Group> {
    groups(cases, detectors, |case| case.scenario.clone())
}

pub(super) fn by_class(cases: &[CaseResult], detectors: &[String]) -> Vec<Group> {
    groups(cases, detectors, class_of)
}

fn groups(cases: &[CaseResult], detectors: &[String], name: impl Fn(&CaseResult) -> String) -> Vec<Group> {
    let mut names: Vec<String> = cases.iter().map(&name).collect();
    names.sort();
    names.dedup();
    let group = |group: String| {
        let members: Vec<&CaseResult> = cases.iter().filter(|case| name(case) == group).collect();
        Group {
            summaries: summaries(&members, detectors),
            seeds: members.iter().map(|case| case.seed.0).collect(),
            name: group,
        }
    };
    names.into_iter().map(group).collect()
}
