//! What users saw, second by second: was it normal, when did it hurt, when was it normal again.
//!
//! Does not measure.

use gauntlet_probes::frame::MonotonicNanos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::model::{Bound, Condition, Impact, Limit, Need, Sli, Threshold};

/// The steady state is back when it held for this many seconds in a row.
const RECOVERED_SECONDS: usize = 2;

/// One second of what users saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliSecond {
    /// When the second ended: then it was known.
    pub end_ns: MonotonicNanos,
    /// Requests that were due in it.
    pub sent: u64,
    /// Good answers.
    pub ok: u64,
    /// Failed requests, those never sent included.
    pub errors: u64,
    /// Median latency, microseconds.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
}

impl SliSecond {
    /// The value of an indicator in its unit; `None` if the second says nothing about it.
    #[must_use]
    pub fn value(&self, sli: Sli) -> Option<f64> {
        let answered = self.ok + self.errors;
        match sli {
            Sli::Throughput => Some(self.ok as f64),
            Sli::ErrorRatio => (answered > 0).then(|| self.errors as f64 / answered as f64),
            Sli::LatencyP50 => (answered > 0).then_some(self.p50_us as f64),
            Sli::LatencyP90 => (answered > 0).then_some(self.p90_us as f64),
            Sli::LatencyP99 => (answered > 0).then_some(self.p99_us as f64),
        }
    }
}

/// An indicator over many seconds: latency by the median of the seconds, errors pooled, throughput by its mean.
#[must_use]
pub fn over(seconds: &[SliSecond], sli: Sli) -> Option<f64> {
    match sli {
        Sli::ErrorRatio => {
            let errors: u64 = seconds.iter().map(|second| second.errors).sum();
            let answered: u64 = seconds.iter().map(|second| second.ok + second.errors).sum();
            (answered > 0).then(|| errors as f64 / answered as f64)
        }
        Sli::Throughput => {
            let ok: u64 = seconds.iter().map(|second| second.ok).sum();
            (!seconds.is_empty()).then(|| ok as f64 / seconds.len() as f64)
        }
        Sli::LatencyP50 | Sli::LatencyP90 | Sli::LatencyP99 => {
            let mut values: Vec<f64> = seconds.iter().filter_map(|second| second.value(sli)).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        }
    }
}

/// The seconds that end after `from_ns` and not after `to_ns`.
#[must_use]
pub fn within(seconds: &[SliSecond], from_ns: MonotonicNanos, to_ns: MonotonicNanos) -> Vec<SliSecond> {
    seconds
        .iter()
        .filter(|second| second.end_ns > from_ns && second.end_ns <= to_ns)
        .copied()
        .collect()
}

/// What broke the steady state over `seconds`, in words; empty if it held.
#[must_use]
pub fn steady_state_breaches(bounds: &[Bound], seconds: &[SliSecond]) -> Vec<String> {
    let breach = |bound: &Bound| {
        let name = name(bound.sli);
        match over(seconds, bound.sli) {
            None => Some(format!("{name} was not measured")),
            Some(value) if keeps(value, bound.limit) => None,
            Some(value) => Some(match bound.limit {
                Limit::Max(max) => format!("{name} {} above {}", show(value, bound.sli), show(max, bound.sli)),
                Limit::Min(min) => format!("{name} {} below {}", show(value, bound.sli), show(min, bound.sli)),
            }),
        }
    };
    bounds.iter().filter_map(breach).collect()
}

/// When harm was first seen, among the seconds of the fault.
#[must_use]
pub fn impact_at(impact: &Impact, baseline: &[SliSecond], during: &[SliSecond]) -> Option<MonotonicNanos> {
    let hurts = |second: &&SliSecond| {
        let mut each = impact
            .conditions
            .iter()
            .map(|condition| holds(condition, baseline, second));
        match impact.need {
            Need::Any => each.any(|holds| holds),
            Need::All => each.all(|holds| holds),
        }
    };
    during.iter().find(hurts).map(|second| second.end_ns)
}

/// When the steady state was back, among the seconds after recovery began.
#[must_use]
pub fn recovered_at(bounds: &[Bound], after: &[SliSecond]) -> Option<MonotonicNanos> {
    let good = |second: &SliSecond| {
        bounds
            .iter()
            .all(|bound| second.value(bound.sli).is_some_and(|value| keeps(value, bound.limit)))
    };
    after
        .windows(RECOVERED_SECONDS)
        .find(|run| run.iter().all(good))
        .map(|run| run[0].end_ns)
}

fn holds(condition: &Condition, baseline: &[SliSecond], second: &SliSecond) -> bool {
    let Some(value) = second.value(condition.sli) else {
        return false;
    };
    match condition.threshold {
        Threshold::AtLeast(least) => value >= least,
        Threshold::AtMost(most) => value <= most,
        Threshold::TimesBaseline(times) => {
            // A baseline of nothing has no multiple.
            over(baseline, condition.sli).is_some_and(|normal| normal > 0.0 && value >= normal * times)
        }
    }
}

fn keeps(value: f64, limit: Limit) -> bool {
    match limit {
        Limit::Max(max) => value <= max,
        Limit::Min(min) => value >= min,
    }
}

fn name(sli: Sli) -> &'static str {
    Sli::WORDS
        .iter()
        .find(|(_, known)| *known == sli)
        .map(|(word, _)| *word)
        .expect("every indicator has a name")
}

fn show(value: f64, sli: Sli) -> String {
    match sli {
        Sli::LatencyP50 | Sli::LatencyP90 | Sli::LatencyP99 => format!("{:.1} ms", value / 1000.0),
        Sli::ErrorRatio => format!("{:.1} %", value * 100.0),
        Sli::Throughput => format!("{value:.0}/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of (good answers, errors, p50 in milliseconds).
    fn seconds(values: &[(u64, u64, u64)]) -> Vec<SliSecond> {
        let second = |(index, (ok, errors, p50_ms)): (usize, &(u64, u64, u64))| SliSecond {
            end_ns: (index as u64 + 1) * 1_000_000_000,
            sent: ok + errors,
            ok: *ok,
            errors: *errors,
            p50_us: p50_ms * 1000,
            p90_us: p50_ms * 2000,
            p99_us: p50_ms * 4000,
        };
        values.iter().enumerate().map(second).collect()
    }

    #[test]
    fn one_bad_second_of_a_baseline_is_no_unsteady_state() {
        let bounds = [
            Bound {
                sli: Sli::LatencyP50,
                limit: Limit::Max(10_000.0),
            },
            Bound {
                sli: Sli::ErrorRatio,
                limit: Limit::Max(0.01),
            },
            Bound {
                sli: Sli::Throughput,
                limit: Limit::Min(90.0),
            },
        ];
        assert!(steady_state_breaches(&bounds, &seconds(&[(100, 0, 2), (99, 1, 90), (100, 0, 2)])).is_empty());
        let breaches = steady_state_breaches(&bounds, &seconds(&[(50, 50, 20), (50, 50, 20)]));
        assert_eq!(
            breaches,
            [
                "latency-p50 20.0 ms above 10.0 ms",
                "error-ratio 50.0 % above 1.0 %",
                "throughput 50/s below 90/s"
            ]
        );
        assert_eq!(
            steady_state_breaches(&bounds[..1], &[]),
            ["latency-p50 was not measured"]
        );
    }

    #[test]
    fn harm_is_seen_in_the_first_second_that_meets_the_conditions() {
        let baseline = seconds(&[(100, 0, 2), (100, 0, 4), (100, 0, 2)]);
        let during = seconds(&[(100, 0, 3), (100, 0, 5), (60, 40, 9)]);
        let slow = Condition {
            sli: Sli::LatencyP50,
            threshold: Threshold::TimesBaseline(2.0),
        };
        let failing = Condition {
            sli: Sli::ErrorRatio,
            threshold: Threshold::AtLeast(0.05),
        };
        let idle = Condition {
            sli: Sli::Throughput,
            threshold: Threshold::AtMost(0.0),
        };
        let at = |need, conditions: &[Condition]| {
            let impact = Impact {
                within: std::time::Duration::ZERO,
                need,
                conditions: conditions.to_vec(),
            };
            impact_at(&impact, &baseline, &during).map(|end_ns| end_ns / 1_000_000_000)
        };
        assert_eq!(at(Need::Any, &[slow, failing]), Some(2));
        assert_eq!(at(Need::All, &[slow, failing]), Some(3));
        assert_eq!(at(Need::Any, &[idle]), None);
    }

    #[test]
    fn silence_of_users_is_neither_harm_of_latency_nor_recovery() {
        let nothing = SliSecond {
            end_ns: 1,
            ..SliSecond::default()
        };
        assert_eq!(nothing.value(Sli::LatencyP99), None);
        let bounds = [Bound {
            sli: Sli::LatencyP50,
            limit: Limit::Max(10_000.0),
        }];
        assert_eq!(recovered_at(&bounds, &[nothing, nothing]), None);
    }

    #[test]
    fn recovery_needs_two_good_seconds_and_is_dated_by_the_first() {
        let bounds = [Bound {
            sli: Sli::LatencyP50,
            limit: Limit::Max(10_000.0),
        }];
        let after = seconds(&[(100, 0, 50), (100, 0, 2), (100, 0, 30), (100, 0, 2), (100, 0, 2)]);
        assert_eq!(recovered_at(&bounds, &after), Some(4_000_000_000));
    }
}
