//! Distributions of times: each run's own for each scenario, and how many are still waiting at each time.

use crate::check::validity::Class;
use crate::scenario::model::Arm;
use crate::score::AnswerScore;
use crate::score::moments::TimeTo;
use crate::suite::outcome::{CaseResult, DetectorOutcome};

use super::super::text::seconds_of;
use super::outcome_of;

/// Picks one of an answer's times.
type TimeOf = fn(&AnswerScore) -> TimeTo;

/// Distributions of one kind of time.
#[derive(Clone, Debug)]
pub struct TimesView {
    /// Its name.
    pub name: &'static str,
    /// From what to what.
    pub meaning: &'static str,
    /// The detector under test, scenario by scenario.
    pub strips: Vec<Strip>,
    /// Each detector over all runs.
    pub curves: Vec<Curve>,
}

/// Times of one scenario's runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Strip {
    /// The scenario.
    pub scenario: String,
    /// Of each run.
    pub times: Vec<TimeTo>,
}

/// How many are still waiting (Kaplan–Meier).
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The detector.
    pub detector: String,
    /// Seconds, and the share that waits longer; from (0, 1) on.
    pub steps: Vec<(f64, f64)>,
}

pub(super) fn times(cases: &[CaseResult], detectors: &[String]) -> Vec<TimesView> {
    let kinds: [(&str, &str, TimeOf); 2] = [
        ("Time to detect", "from the onset to the first alert", |answer| {
            answer.time_to_detect
        }),
        (
            "Time to root cause",
            "from the onset until the true cause stays at rank 1",
            |answer| answer.time_to_root_cause,
        ),
    ];
    kinds
        .into_iter()
        .map(|(name, meaning, time)| TimesView {
            name,
            meaning,
            strips: strips(cases, time),
            curves: (0..detectors.len())
                .map(|index| Curve {
                    detector: detectors[index].clone(),
                    steps: waiting(cases.iter().filter_map(|case| {
                        let outcome = outcome_of(case, detectors, index)?;
                        time_of(case, outcome, time)
                    })),
                })
                .collect(),
        })
        .collect()
}

/// Only faults of runs that count have times.
fn time_of(case: &CaseResult, outcome: &DetectorOutcome, time: fn(&AnswerScore) -> TimeTo) -> Option<TimeTo> {
    let counts = case.validity.class == Class::Valid && outcome.score.arm == Arm::Fault;
    outcome.score.answer.as_ref().filter(|_| counts).map(time)
}

fn strips(cases: &[CaseResult], time: fn(&AnswerScore) -> TimeTo) -> Vec<Strip> {
    let mut strips: Vec<Strip> = Vec::new();
    for case in cases {
        let Some(time) = time_of(case, &case.detector, time) else {
            continue;
        };
        match strips.iter_mut().find(|strip| strip.scenario == case.scenario) {
            Some(strip) => strip.times.push(time),
            None => strips.push(Strip {
                scenario: case.scenario.clone(),
                times: vec![time],
            }),
        }
    }
    strips.sort_by(|one, other| one.scenario.cmp(&other.scenario));
    strips
}

/// The estimate of Kaplan and Meier: at each time reached, the share that waits longer.
fn waiting(times: impl Iterator<Item = TimeTo>) -> Vec<(f64, f64)> {
    let mut ends: Vec<(u64, bool)> = times
        .map(|time| match time {
            TimeTo::Reached { after_ns } => (after_ns, true),
            TimeTo::NotReached { observed_for_ns } => (observed_for_ns, false),
        })
        .collect();
    // At equal times those reached come first, as Kaplan and Meier have it.
    ends.sort_by_key(|(end, reached)| (*end, !reached));
    let mut steps = vec![(0.0, 1.0)];
    let mut share = 1.0;
    for (index, (end_ns, reached)) in ends.iter().enumerate() {
        if *reached {
            #[expect(clippy::cast_precision_loss, reason = "a number of runs")]
            let at_risk = (ends.len() - index) as f64;
            share *= 1.0 - 1.0 / at_risk;
        }
        steps.push((seconds_of(*end_ns), share));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_left_early_no_longer_wait() {
        let reached = |after_s: u64| TimeTo::Reached {
            after_ns: after_s * 1_000_000_000,
        };
        let left = |after_s: u64| TimeTo::NotReached {
            observed_for_ns: after_s * 1_000_000_000,
        };
        // Three reached of four at risk, then of two: 3/4, then 3/4 × 1/2.
        let steps = waiting([reached(1), left(2), reached(3), left(5)].into_iter());
        assert_eq!(
            steps,
            [(0.0, 1.0), (1.0, 0.75), (2.0, 0.75), (3.0, 0.375), (5.0, 0.375)]
        );
        assert_eq!(waiting(std::iter::empty()), [(0.0, 1.0)]);
    }
}
