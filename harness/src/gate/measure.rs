//! The four metrics that decide, and what two results say about each: effect, interval, chance.
//!
//! Which cases are compared with which is for [`super::paired`] and [`super::independent`] to say. Nothing is decided
//! here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::{Answer, Evidence};
use super::{Settings, independent, paired};
use crate::score::moments::TimeTo;
use crate::score::summary::end;
use crate::statistics::means::Estimate;
use crate::statistics::{Chances, Interval, paired as pairs, poisson, proportion};
use crate::suite::outcome::Mode;

/// Loss of AC@1, as a share, that is no regression yet.
pub const ACCURACY_MARGIN: f64 = -0.05;

/// Factor on a time that is no regression yet.
pub const TIME_MARGIN: f64 = 1.20;

/// More false alarms per hour that are no regression yet.
pub const FALSE_ALARM_MARGIN_PER_HOUR: f64 = 0.25;

/// Exchanges of labels in permutation tests: a chance of 0.05 is then known to ± 0.004.
pub const PERMUTATION_DRAWS: usize = 10_000;

/// Shorter times count as this one. A detector speaks once per frame of 200 ms; below, ratios are those of the clock's
/// grid.
const TIME_FLOOR_S: f64 = 0.2;

/// What is measured: the primary family of the scoring rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// AC@1 on entity and mechanism; mean over scenarios, each weighing the same. Effects are differences.
    Accuracy,
    /// Time to root cause in seconds, cut where watching ended; geometric mean, scenarios weighing the same. Effects
    /// are ratios.
    TimeToRootCause,
    /// Time to detect, likewise.
    TimeToDetect,
    /// False alarms per fault-free hour, surges apart. Effects are differences.
    FalseAlarms,
}

impl Metric {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "AC@1",
            Self::TimeToRootCause => "TTRC",
            Self::TimeToDetect => "TTD",
            Self::FalseAlarms => "false alarms",
        }
    }

    /// The effect up to which a candidate is no worse.
    #[must_use]
    pub const fn margin(self, settings: &Settings) -> f64 {
        match self {
            Self::Accuracy => ACCURACY_MARGIN,
            Self::TimeToRootCause | Self::TimeToDetect => TIME_MARGIN,
            Self::FalseAlarms => settings.false_alarm_margin_per_hour,
        }
    }

    /// Whether `effect` is worse than `margin`.
    #[must_use]
    pub fn beyond(self, effect: f64, margin: f64) -> bool {
        match self {
            Self::Accuracy => effect < margin,
            Self::TimeToRootCause | Self::TimeToDetect | Self::FalseAlarms => effect > margin,
        }
    }

    /// The end of an interval that lies on the worse side.
    #[must_use]
    pub const fn bad_end(self, interval: Interval) -> f64 {
        match self {
            Self::Accuracy => interval.low,
            Self::TimeToRootCause | Self::TimeToDetect | Self::FalseAlarms => interval.high,
        }
    }

    /// The chance that counts against the candidate.
    #[must_use]
    pub const fn worse(self, chances: Chances) -> f64 {
        match self {
            Self::Accuracy => chances.as_low,
            Self::TimeToRootCause | Self::TimeToDetect | Self::FalseAlarms => chances.as_high,
        }
    }
}

/// What two results say about one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// What was measured.
    pub metric: Metric,
    /// The baseline's own value, in the metric's unit.
    pub baseline: f64,
    /// The candidate's.
    pub candidate: f64,
    /// The difference or ratio.
    pub effect: f64,
    /// What the interval is made of.
    pub shape: Shape,
    /// Chances of the candidate's value if nothing changed.
    pub chances: Chances,
    /// Number of pairs, or of the smaller side's runs.
    pub case_count: usize,
}

/// What an interval is made of, so that it can also be asked what more of the same would say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Paired shares: Tango's interval. It stays open where no pair differs, so few silent pairs prove nothing.
    PairedShares {
        /// Effective number of pairs right only in the candidate.
        gained: f64,
        /// Effective number of pairs right only in the baseline.
        lost: f64,
        /// Effective number of pairs.
        count: f64,
    },
    /// Independent shares: Newcombe's interval, on shares and effective numbers of runs.
    Shares {
        /// The baseline's.
        baseline: (f64, f64),
        /// The candidate's.
        candidate: (f64, f64),
    },
    /// A mean of logarithms: Student's interval, as ratios.
    LogMean(Estimate),
    /// Paired false alarms: given how many differ, the exact interval, cut to those seen: on the same recorded hours no
    /// more alarms can be new than are. Where none is new it ends at 0, because there a rate is counted and not
    /// estimated; no corpus is long enough (12 h) to bound what it does not hold.
    PairedAlarms {
        /// Alarms more in the candidate.
        more: f64,
        /// Alarms fewer.
        fewer: f64,
        /// Fault-free hours of the pairs.
        hours: f64,
    },
    /// Independent false alarms: counts and hours.
    Rates {
        /// The baseline's.
        baseline: (f64, f64),
        /// The candidate's.
        candidate: (f64, f64),
    },
}

impl Shape {
    /// The interval that leaves `tail` on each side, if there were `scale` times as much of the same.
    #[must_use]
    pub fn interval(&self, tail: f64, scale: f64) -> Interval {
        match *self {
            Self::PairedShares { gained, lost, count } => {
                pairs::tango(gained * scale, lost * scale, count * scale, tail)
            }
            Self::Shares { baseline, candidate } => {
                let more = |(share, count): (f64, f64)| (share, count * scale);
                proportion::newcombe(more(baseline), more(candidate), tail)
            }
            Self::LogMean(estimate) => estimate.of_more(scale).interval(tail).map(f64::exp),
            Self::PairedAlarms { more, fewer, hours } => {
                let (more, fewer, hours) = (more * scale, fewer * scale, hours * scale);
                let alarms = pairs::conditional_difference(more, fewer, tail);
                alarms.map(|alarms| alarms.clamp(-fewer, more) / hours)
            }
            Self::Rates { baseline, candidate } => {
                let more = |(count, hours): (f64, f64)| (count * scale, hours * scale);
                poisson::rate_difference(more(baseline), more(candidate), tail)
            }
        }
    }
}

/// Measures everything that both sides have cases for, in the order of [`Metric`].
#[must_use]
pub fn measure(baseline: &Evidence, candidate: &Evidence, settings: &Settings) -> Vec<Measurement> {
    let measured = match (baseline.mode, candidate.mode) {
        (Mode::Replay, Mode::Replay) => paired::measure(&paired::pair(baseline, candidate)),
        (Mode::Live | Mode::Replay, Mode::Live) | (Mode::Live, Mode::Replay) => {
            independent::measure(baseline, candidate, settings)
        }
    };
    measured.into_iter().flatten().collect()
}

/// Logarithm of the time to detect or to root cause in seconds, cut where watching ended.
pub(super) fn log_time(metric: Metric, answer: &Answer) -> f64 {
    cut_s(time(metric, answer)).ln()
}

/// The time that `metric` is about.
fn time(metric: Metric, answer: &Answer) -> TimeTo {
    match metric {
        Metric::TimeToDetect => answer.time_to_detect,
        Metric::TimeToRootCause => answer.time_to_root_cause,
        Metric::Accuracy | Metric::FalseAlarms => unreachable!("{} is no time", metric.name()),
    }
}

/// A time in seconds, cut where watching ended.
fn cut_s(time: TimeTo) -> f64 {
    (end(time).0 as f64 / 1e9).max(TIME_FLOOR_S)
}

/// Fault-free milliseconds as hours.
pub(super) fn hours(milliseconds: u64) -> f64 {
    milliseconds as f64 / 3.6e6
}
