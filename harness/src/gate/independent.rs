//! Live against live: two sets of runs that happened for their own sake, compared within scenarios.

use std::collections::BTreeMap;

use super::Settings;
use super::evidence::{Answer, Case, Evidence};
use super::measure::{Measurement, Metric, Shape, hours, log_time};
use crate::statistics::mean;
use crate::statistics::means::stratified_difference;
use crate::statistics::permutation::stratified_means;
use crate::statistics::poisson::rate_test;
use crate::statistics::stratified::{Table, conditional_test};
use crate::statistics::weights::{effective_count, equal_strata};

/// Answers of baseline and candidate in one scenario; both sides have some.
type Stratum<'a> = (Vec<&'a Answer>, Vec<&'a Answer>);

/// Each metric, where both sides have runs for it.
pub(super) fn measure(baseline: &Evidence, candidate: &Evidence, settings: &Settings) -> [Option<Measurement>; 4] {
    let strata = strata(baseline, candidate);
    [
        accuracy(&strata),
        times(&strata, Metric::TimeToRootCause, settings),
        times(&strata, Metric::TimeToDetect, settings),
        false_alarms(baseline, candidate),
    ]
}

fn strata<'a>(baseline: &'a Evidence, candidate: &'a Evidence) -> Vec<Stratum<'a>> {
    let mut strata: BTreeMap<&str, Stratum<'a>> = BTreeMap::new();
    for case in &baseline.cases {
        if let Some(answer) = case.judged() {
            strata.entry(&case.scenario).or_default().0.push(answer);
        }
    }
    for case in &candidate.cases {
        if let Some(answer) = case.judged() {
            strata.entry(&case.scenario).or_default().1.push(answer);
        }
    }
    strata
        .into_values()
        .filter(|(first, second)| !first.is_empty() && !second.is_empty())
        .collect()
}

fn case_count(strata: &[Stratum<'_>]) -> usize {
    let first: usize = strata.iter().map(|(first, _)| first.len()).sum();
    let second: usize = strata.iter().map(|(_, second)| second.len()).sum();
    first.min(second)
}

fn accuracy(strata: &[Stratum<'_>]) -> Option<Measurement> {
    if strata.is_empty() {
        return None;
    }
    let hits = |side: &[&Answer]| side.iter().filter(|answer| answer.right()).count() as u64;
    let tables: Vec<Table> = strata
        .iter()
        .map(|(first, second)| Table {
            first: (hits(first), first.len() as u64),
            second: (hits(second), second.len() as u64),
        })
        .collect();
    let baseline = macro_share(tables.iter().map(|table| table.first));
    let candidate = macro_share(tables.iter().map(|table| table.second));
    Some(Measurement {
        metric: Metric::Accuracy,
        baseline: baseline.0,
        candidate: candidate.0,
        effect: candidate.0 - baseline.0,
        shape: Shape::Shares { baseline, candidate },
        chances: conditional_test(&tables),
        case_count: case_count(strata),
    })
}

/// The share with scenarios weighing the same, of (hits, of how many) for each, and the number of runs in one pool that
/// would say as much. Where scenarios have as many runs each, an interval made of the two is rather too wide than too
/// narrow: the variance within scenarios is never more than that of a pool of the same mean.
fn macro_share(scenarios: impl Iterator<Item = (u64, u64)> + Clone) -> (f64, f64) {
    let shares: Vec<f64> = scenarios.clone().map(|(hits, of)| hits as f64 / of as f64).collect();
    let strata: Vec<usize> = scenarios
        .enumerate()
        .flat_map(|(index, (_, of))| std::iter::repeat_n(index, of as usize))
        .collect();
    let share = shares.iter().sum::<f64>() / shares.len() as f64;
    (share, effective_count(&equal_strata(&strata)))
}

fn times(strata: &[Stratum<'_>], metric: Metric, settings: &Settings) -> Option<Measurement> {
    let logs = |side: &[&Answer]| side.iter().map(|answer| log_time(metric, answer)).collect::<Vec<_>>();
    let values: Vec<_> = strata
        .iter()
        .map(|(first, second)| (logs(first), logs(second)))
        .collect();
    let estimate = stratified_difference(&values)?;
    let middle = |sides: Vec<Option<f64>>| {
        let means: Vec<f64> = sides.into_iter().flatten().collect();
        mean(&means).map(f64::exp)
    };
    Some(Measurement {
        metric,
        baseline: middle(values.iter().map(|(first, _)| mean(first)).collect())?,
        candidate: middle(values.iter().map(|(_, second)| mean(second)).collect())?,
        effect: estimate.value.exp(),
        shape: Shape::LogMean(estimate),
        chances: stratified_means(&values, settings.permutation_draws),
        case_count: case_count(strata),
    })
}

fn false_alarms(baseline: &Evidence, candidate: &Evidence) -> Option<Measurement> {
    let side = |evidence: &Evidence| {
        let watched: Vec<&Case> = evidence.cases.iter().filter(|case| case.watched()).collect();
        let alarms: u64 = watched.iter().map(|case| u64::from(case.false_alarms)).sum();
        let fault_free_ms = watched.iter().map(|case| case.fault_free_ms).sum();
        (alarms, hours(fault_free_ms), watched.len())
    };
    let (before, after) = (side(baseline), side(candidate));
    if before.1 <= 0.0 || after.1 <= 0.0 {
        return None;
    }
    let rate = |(alarms, hours, _): (u64, f64, usize)| alarms as f64 / hours;
    Some(Measurement {
        metric: Metric::FalseAlarms,
        baseline: rate(before),
        candidate: rate(after),
        effect: rate(after) - rate(before),
        shape: Shape::Rates {
            baseline: (before.0 as f64, before.1),
            candidate: (after.0 as f64, after.1),
        },
        chances: rate_test((before.0, before.1), (after.0, after.1)),
        case_count: before.2.min(after.2),
    })
}
