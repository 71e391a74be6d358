//! The gate: is a detector worse than the one whose baseline was saved? Pass, fail, or honestly inconclusive.
//!
//! [`evidence`] is what both sides are reduced to, [`baseline`] is how one is kept in a file; [`measure`] turns two
//! into numbers, by pairs ([`paired`]) or by independent runs ([`independent`]); [`limits`] need no statistics,
//! [`decide`] does; [`report`] is what is printed. [`compare`] says the same without a verdict. Does not run or replay
//! anything.
//!
//! What is inferred: how the candidate would do in more trials of *these* scenarios. No number of trials says anything
//! about scenarios that the suite lacks.

pub mod evidence;
pub mod baseline;
pub mod load;
pub mod measure;
mod paired;
mod independent;
pub mod limits;
pub mod decide;
mod flips;
pub mod report;
pub mod text;
pub mod markdown;
pub mod compare;

use evidence::Evidence;
use report::GateReport;

/// What the gate may be told; everything else is fixed, so that a verdict means the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// False alarms per fault-free hour that the candidate may have at most; `None`: no budget was given.
    pub false_alarm_budget_per_hour: Option<f64>,
    /// How many more false alarms per hour than the baseline are no regression.
    pub false_alarm_margin_per_hour: f64,
    /// Exchanges of labels in permutation tests.
    pub permutation_draws: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            false_alarm_budget_per_hour: None,
            false_alarm_margin_per_hour: measure::FALSE_ALARM_MARGIN_PER_HOUR,
            permutation_draws: measure::PERMUTATION_DRAWS,
        }
    }
}

/// Judges `candidate` against `baseline`. Same evidence, same report.
#[must_use]
pub fn gate(baseline: &Evidence, candidate: &Evidence, settings: &Settings) -> GateReport {
    decide::decide(baseline, candidate, settings)
}

#[cfg(test)]
mod tests;
