//! Hard limits: what no average may hide.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::evidence::Evidence;
use super::flips::right;
use super::measure::hours;
use crate::score::verdict::Verdict;
use crate::statistics::proportion::Proportion;
use crate::statistics::stratified::{Table, conditional_test};
use crate::statistics::{TAIL_95, first_reached, poisson};
use crate::suite::outcome::Mode;

/// Smallest share of cases that must be VALID.
pub const VALID_SHARE_MIN: f64 = 0.9;

/// A scenario falls if it was right in at least this share of its trials …
pub const FALL_FROM: f64 = 0.9;

/// … and is now right in at most this one.
pub const FALL_TO: f64 = 0.5;

/// Trials that a scenario needs on both sides to be held to this: of fewer, two unlucky ones are a fall.
pub const FALL_TRIALS_MIN: usize = 5;

/// Live runs happen anew, so a scenario's trials can fall by chance: from ten of ten at a true share of 0.7 to five of
/// ten, say. Among a dozen scenarios that alone would fail more than one gate in twenty without any change. There the
/// fall must also be unlikely at this level by the exact test of that scenario alone; otherwise it is inconclusive.
pub const FALL_CHANCE_MAX: f64 = 0.05;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// No run may leave anything behind.
    Residue,
    /// Enough cases must be VALID.
    Validity,
    /// The bound on the rate of false alarms must lie within the budget that was given.
    FalseAlarmBudget,
    /// No scenario may fall from nearly always right to half.
    ScenarioFall,
}

impl Limit {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Residue => "residue",
            Self::Validity => "validity",
            Self::FalseAlarmBudget => "false-alarm budget",
            Self::ScenarioFall => "scenario fall",
        }
    }
}

/// What came of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitReport {
    /// Which.
    pub limit: Limit,
    /// Whether it is held.
    pub verdict: Verdict,
    /// Why, in plain words.
    pub reason: String,
}

/// Checks all limits.
#[must_use]
pub fn check(baseline: &Evidence, candidate: &Evidence, settings: &Settings) -> Vec<LimitReport> {
    let mut reports = vec![residue(candidate), validity(candidate)];
    reports.extend(
        settings
            .false_alarm_budget_per_hour
            .map(|budget| false_alarms(candidate, budget)),
    );
    reports.extend(falls(baseline, candidate));
    reports
}

fn report(limit: Limit, verdict: Verdict, reason: String) -> LimitReport {
    LimitReport { limit, verdict, reason }
}

fn pass_if(holds: bool) -> Verdict {
    if holds { Verdict::Pass } else { Verdict::Fail }
}

fn residue(candidate: &Evidence) -> LimitReport {
    let left: Vec<String> = candidate
        .cases
        .iter()
        .filter(|case| case.residue)
        .map(|case| case.name())
        .collect();
    let reason = match left.as_slice() {
        [] => "nothing was left behind".to_owned(),
        some => format!("left something behind: {}", some.join(", ")),
    };
    report(Limit::Residue, pass_if(left.is_empty()), reason)
}

fn validity(candidate: &Evidence) -> LimitReport {
    let valid = Proportion::new(
        candidate.cases.iter().filter(|case| case.valid()).count(),
        candidate.cases.len(),
    );
    let Some(share) = valid.share() else {
        return report(Limit::Validity, Verdict::Inconclusive, "no case ended".to_owned());
    };
    let reason = format!(
        "{} of {} cases are VALID, limit {:.0} %",
        valid.hits,
        valid.of,
        VALID_SHARE_MIN * 100.0
    );
    report(Limit::Validity, pass_if(share >= VALID_SHARE_MIN), reason)
}

fn false_alarms(candidate: &Evidence, budget: f64) -> LimitReport {
    let watched = || candidate.cases.iter().filter(|case| case.watched());
    let alarms: usize = watched().map(|case| case.false_alarms as usize).sum();
    let hours = hours(watched().map(|case| case.fault_free_ms).sum());
    let Some(bound) = poisson::rate_of(alarms, hours).high_per_hour else {
        return report(
            Limit::FalseAlarmBudget,
            Verdict::Inconclusive,
            "no fault-free time was watched".to_owned(),
        );
    };
    let seen = format!("{alarms} false alarms in {hours:.2} h bound the rate by {bound:.2}/h, budget {budget:.2}/h");
    if bound <= budget {
        return report(Limit::FalseAlarmBudget, Verdict::Pass, seen);
    }
    if alarms as f64 / hours > budget {
        return report(Limit::FalseAlarmBudget, Verdict::Fail, seen);
    }
    let reason = format!(
        "{seen}; {:.1} h more at this rate would bring it within",
        hours_needed(alarms, hours, budget) - hours
    );
    report(Limit::FalseAlarmBudget, Verdict::Inconclusive, reason)
}

/// Hours after which the bound lies within `budget` if alarms go on as they did; infinite if they make out just the
/// budget.
fn hours_needed(alarms: usize, hours: f64, budget: f64) -> f64 {
    let tail = if alarms == 0 { 2.0 * TAIL_95 } else { TAIL_95 };
    let within = |scale: f64| poisson::exact_mean(alarms as f64 * scale, tail).high / (hours * scale) <= budget;
    // No one waits longer than a thousand times what was watched.
    const SCALE_MAX: f64 = 1000.0;
    if within(SCALE_MAX) {
        hours * first_reached(1.0, SCALE_MAX, within)
    } else {
        f64::INFINITY
    }
}

/// One report for each scenario that fell, or one that says that none did.
fn falls(baseline: &Evidence, candidate: &Evidence) -> Vec<LimitReport> {
    let (before, after) = (right(baseline), right(candidate));
    let fallen: Vec<_> = before
        .iter()
        .filter_map(|(scenario, before)| Some((scenario, *before, *after.get(scenario)?)))
        .filter_map(|(scenario, before, after)| fall(scenario, before, after, candidate.mode))
        .collect();
    if fallen.is_empty() {
        let reason = format!(
            "no scenario fell from at least {:.0} % right to at most {:.0} %",
            FALL_FROM * 100.0,
            FALL_TO * 100.0
        );
        return vec![report(Limit::ScenarioFall, Verdict::Pass, reason)];
    }
    fallen
}

fn fall(scenario: &str, before: (usize, usize), after: (usize, usize), mode: Mode) -> Option<LimitReport> {
    let share = |(right, of): (usize, usize)| right as f64 / of as f64;
    let enough = before.1.min(after.1) >= FALL_TRIALS_MIN;
    if !enough || share(before) < FALL_FROM || share(after) > FALL_TO {
        return None;
    }
    let whole = |(right, of): (usize, usize)| (right as u64, of as u64);
    let chance = conditional_test(&[Table {
        first: whole(before),
        second: whole(after),
    }])
    .as_low;
    let seen = format!(
        "{scenario} fell from {}/{} right to {}/{}",
        before.0, before.1, after.0, after.1
    );
    let (verdict, reason) = match mode {
        Mode::Replay => (Verdict::Fail, seen),
        Mode::Live if chance < FALL_CHANCE_MAX => (Verdict::Fail, format!("{seen} (p = {chance:.3})")),
        Mode::Live => (
            Verdict::Inconclusive,
            format!("{seen}, which chance alone can do (p = {chance:.3}); repeat it"),
        ),
    };
    Some(report(Limit::ScenarioFall, verdict, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::validity::Class;
    use crate::suite::sample::{suite, times, told};

    fn evidence(mode: Mode, text: &str) -> Evidence {
        Evidence::of(&suite(mode, text))
    }

    fn verdict(reports: &[LimitReport], limit: Limit) -> Verdict {
        reports
            .iter()
            .filter(|report| report.limit == limit)
            .map(|report| report.verdict)
            .max()
            .expect("checked")
    }

    /// The verdict on a scenario that was right in `before` trials and is right in `after`, both of ten.
    fn fall_verdict(mode: Mode, before: usize, after: usize) -> Verdict {
        let told = |right: usize| times(right, "a fault ✓ 1") + &times(10 - right, "a fault ✗");
        let reports = check(
            &evidence(mode, &told(before)),
            &evidence(mode, &told(after)),
            &Settings::default(),
        );
        verdict(&reports, Limit::ScenarioFall)
    }

    #[test]
    fn a_scenario_that_falls_to_half_fails_the_gate() {
        assert_eq!(fall_verdict(Mode::Replay, 9, 5), Verdict::Fail);
        assert_eq!(fall_verdict(Mode::Replay, 9, 6), Verdict::Pass);
        assert_eq!(fall_verdict(Mode::Replay, 8, 0), Verdict::Pass);
    }

    #[test]
    fn live_a_fall_must_be_more_than_chance() {
        // scipy: fisher_exact gives 0.016 for ten to five, 0.070 for nine to five.
        assert_eq!(fall_verdict(Mode::Live, 10, 5), Verdict::Fail);
        assert_eq!(fall_verdict(Mode::Live, 9, 5), Verdict::Inconclusive);
    }

    #[test]
    fn residue_is_never_forgiven_and_validity_has_its_limit() {
        let mut result = suite(Mode::Live, &times(10, "a fault ✓ 1"));
        result.cases[3].invalid_attempts.push(told(Class::Residue));
        result.cases[0].validity = told(Class::Silent);
        let reports = check(&Evidence::of(&result), &Evidence::of(&result), &Settings::default());
        assert_eq!(verdict(&reports, Limit::Residue), Verdict::Fail);
        assert_eq!(verdict(&reports, Limit::Validity), Verdict::Pass);
        result.cases[1].validity = told(Class::Unstable);
        let reports = check(&Evidence::of(&result), &Evidence::of(&result), &Settings::default());
        assert_eq!(verdict(&reports, Limit::Validity), Verdict::Fail);
    }

    #[test]
    fn silence_bounds_the_rate_of_false_alarms_only_if_it_is_long_enough() {
        let check = |told: &str, budget: f64| {
            let settings = Settings {
                false_alarm_budget_per_hour: Some(budget),
                ..Settings::default()
            };
            let one = evidence(Mode::Live, told);
            let reports = check(&one, &one, &settings);
            let budget = reports
                .into_iter()
                .find(|report| report.limit == Limit::FalseAlarmBudget)
                .expect("given");
            (budget.verdict, budget.reason)
        };
        // 120 cases of 30 s are one hour: no alarm bounds the rate by 3.0/h.
        let hour = times(120, "n none !0");
        assert_eq!(check(&hour, 3.1).0, Verdict::Pass);
        let (verdict, reason) = check(&hour, 1.0);
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(reason.contains("2.0 h more"), "{reason}");
        assert_eq!(check(&(hour + "n none !2"), 1.0).0, Verdict::Fail);
    }
}
