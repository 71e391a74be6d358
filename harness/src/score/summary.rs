//! What many runs of one detector say together.
//!
//! Invalid runs are counted and never averaged. Means are over scenarios, each weighing the same, never over a pool.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Score;
use super::moments::TimeTo;
use super::verdict::{Judgement, Verdict};
use crate::check::validity::{Class, Validity};
use crate::plan::Seed;
use crate::scenario::model::Arm;

/// 97.5th percentile of the normal distribution: intervals are of 95 %.
const Z: f64 = 1.959_964;

/// One run of a suite, for one detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunOutcome {
    /// The case.
    pub scenario: String,
    /// Where chance came from.
    pub seed: Seed,
    /// Whether it counts.
    pub validity: Validity,
    /// What the detector's statements are worth.
    pub score: Score,
    /// Whether that is enough.
    pub judgement: Judgement,
}

/// What many runs of one detector say together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// All runs.
    pub run_count: usize,
    /// Those that count, of all.
    pub valid: Proportion,
    /// Number of runs of each class.
    pub classes: BTreeMap<Class, usize>,
    /// Seeds of all runs, in their order.
    pub seeds: Vec<Seed>,
    /// Runs with a cause to name that count: those whose alert came in time.
    pub detected: Proportion,
    /// The same runs: those whose final answer was right at rank 1.
    pub correct: Proportion,
    /// The same runs: those with a decoy at rank 1.
    pub decoys: Proportion,
    /// Mean over scenarios of AC@1 on entity and mechanism; `None` without runs.
    pub ac_at_1: Option<f64>,
    /// Mean over scenarios of AC@1 on the entity alone.
    pub ac_at_1_entity: Option<f64>,
    /// Mean over scenarios of Avg@5.
    pub avg5: Option<f64>,
    /// Mean over scenarios of the reciprocal rank.
    pub mrr: Option<f64>,
    /// Times to detect.
    pub time_to_detect: Times,
    /// Times to root cause.
    pub time_to_root_cause: Times,
    /// Alarms without a reason, surges apart.
    pub false_alarms: Rate,
    /// In surges: alarms other than `load.surge`.
    pub surge_alarms: Rate,
    /// Placebo runs that count: those with an alarm.
    pub placebo_alarms: Proportion,
    /// Runs without any fault that count: those with an alarm.
    pub idle_alarms: Proportion,
    /// P(alarm | placebo) − P(alarm | nothing): above 0, the detector sees the injector. `None` if an arm is missing.
    pub placebo_gap: Option<f64>,
    /// The worst verdict; `None`: nothing ran, which is not a pass.
    pub verdict: Option<Verdict>,
}

/// A share with its 95 % interval (Wilson).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proportion {
    /// How many.
    pub hits: usize,
    /// Of how many.
    pub of: usize,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Proportion {
    /// `hits` of `of`. Of nothing, everything is possible.
    #[must_use]
    pub fn new(hits: usize, of: usize) -> Self {
        assert!(hits <= of, "{hits} hits of {of}");
        if of == 0 {
            return Self {
                hits,
                of,
                low: 0.0,
                high: 1.0,
            };
        }
        let (count, share) = (of as f64, hits as f64 / of as f64);
        let scale = 1.0 + Z * Z / count;
        let middle = (share + Z * Z / (2.0 * count)) / scale;
        let half = Z / scale * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
        Self {
            hits,
            of,
            low: (middle - half).max(0.0),
            high: (middle + half).min(1.0),
        }
    }

    /// The share itself; `None` of nothing.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        (self.of > 0).then(|| self.hits as f64 / self.of as f64)
    }
}

/// Times of which some were not reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// Number of times, reached or not.
    pub count: usize,
    /// Number of those reached.
    pub reached: usize,
    /// Median by Kaplan–Meier.
    pub median: Quantile,
    /// 90th percentile by Kaplan–Meier.
    pub p90: Quantile,
    /// Mean of the times, each cut where watching ended: never the mean of the successes alone.
    pub restricted_mean_ns: Option<f64>,
}

/// A quantile of times of which some were not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Quantile {
    /// So many were reached.
    At {
        /// By this time.
        after_ns: u64,
    },
    /// Fewer were reached while they were watched.
    Beyond {
        /// The longest watching.
        observed_for_ns: u64,
    },
}

/// Events per hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// How many.
    pub count: usize,
    /// In how many hours.
    pub hours: f64,
    /// Lower end of the exact Poisson 95 % interval, per hour.
    pub low_per_hour: f64,
    /// Upper end; for no event the one-sided bound 3.0 / hours. `None`: nothing was watched.
    pub high_per_hour: Option<f64>,
}

/// Sums up the runs of one detector.
#[must_use]
pub fn summarize(runs: &[RunOutcome]) -> Summary {
    let mut classes = BTreeMap::new();
    for run in runs {
        *classes.entry(run.validity.class).or_default() += 1;
    }
    let valid: Vec<&RunOutcome> = runs.iter().filter(|run| run.validity.class == Class::Valid).collect();
    let answers: Vec<_> = valid
        .iter()
        .filter(|run| run.score.arm == Arm::Fault)
        .filter_map(|run| Some((run.scenario.as_str(), run.score.answer.as_ref()?)))
        .collect();
    let share = |hit: &dyn Fn(&super::AnswerScore) -> bool| {
        Proportion::new(answers.iter().filter(|(_, answer)| hit(answer)).count(), answers.len())
    };
    let macro_mean = |value: &dyn Fn(&super::AnswerScore) -> f64| {
        let mut by_scenario: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (scenario, answer) in &answers {
            by_scenario.entry(scenario).or_default().push(value(answer));
        }
        mean(
            &by_scenario
                .values()
                .filter_map(|values| mean(values))
                .collect::<Vec<_>>(),
        )
    };
    let alarms = |arm: Arm| {
        let of_arm: Vec<_> = valid.iter().filter(|run| run.score.arm == arm).collect();
        let alarmed = of_arm
            .iter()
            .filter(|run| !run.score.false_alarms.episodes_ns.is_empty());
        Proportion::new(alarmed.count(), of_arm.len())
    };
    let (placebo_alarms, idle_alarms) = (alarms(Arm::Placebo), alarms(Arm::None));
    Summary {
        placebo_alarms,
        idle_alarms,
        placebo_gap: placebo_alarms
            .share()
            .zip(idle_alarms.share())
            .map(|(placebo, idle)| placebo - idle),
        run_count: runs.len(),
        valid: Proportion::new(valid.len(), runs.len()),
        classes,
        seeds: runs.iter().map(|run| run.seed).collect(),
        detected: share(&super::AnswerScore::detected),
        correct: share(&super::AnswerScore::correct_at_end),
        decoys: share(&|answer| answer.decoy),
        ac_at_1: macro_mean(&|answer| answer.full.ac_at[0]),
        ac_at_1_entity: macro_mean(&|answer| answer.entity.ac_at[0]),
        avg5: macro_mean(&|answer| answer.full.avg5),
        mrr: macro_mean(&|answer| answer.full.reciprocal_rank),
        time_to_detect: times(answers.iter().map(|(_, answer)| answer.time_to_detect)),
        time_to_root_cause: times(answers.iter().map(|(_, answer)| answer.time_to_root_cause)),
        false_alarms: rate(
            valid
                .iter()
                .filter(|run| run.score.arm != Arm::Surge)
                .map(|run| &run.score),
        ),
        surge_alarms: rate(
            valid
                .iter()
                .filter(|run| run.score.arm == Arm::Surge)
                .map(|run| &run.score),
        ),
        verdict: runs.iter().map(|run| run.judgement.verdict).max(),
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sums up times.
#[must_use]
pub fn times(times: impl Iterator<Item = TimeTo>) -> Times {
    // Time, and whether it was reached; at equal times those reached come first, as Kaplan and Meier have it.
    let mut ends: Vec<(u64, bool)> = times
        .map(|time| match time {
            TimeTo::Reached { after_ns } => (after_ns, true),
            TimeTo::NotReached { observed_for_ns } => (observed_for_ns, false),
        })
        .collect();
    ends.sort_by_key(|(end, reached)| (*end, !reached));
    let values: Vec<f64> = ends.iter().map(|(end, _)| *end as f64).collect();
    Times {
        count: ends.len(),
        reached: ends.iter().filter(|(_, reached)| *reached).count(),
        median: quantile(&ends, 0.5),
        p90: quantile(&ends, 0.9),
        restricted_mean_ns: mean(&values),
    }
}

/// First time at which the Kaplan–Meier estimate of those still waiting falls to `1 - share`.
fn quantile(ends: &[(u64, bool)], share: f64) -> Quantile {
    let mut waiting = 1.0;
    for (index, (after_ns, reached)) in ends.iter().enumerate() {
        if *reached {
            waiting *= 1.0 - 1.0 / (ends.len() - index) as f64;
            // Rounding must not push an exact half past the half.
            if waiting <= 1.0 - share + 1e-9 {
                return Quantile::At { after_ns: *after_ns };
            }
        }
    }
    Quantile::Beyond {
        observed_for_ns: ends.last().map_or(0, |(end, _)| *end),
    }
}

fn rate<'a>(scores: impl Iterator<Item = &'a Score>) -> Rate {
    let mut count = 0;
    let mut nanoseconds = 0;
    for score in scores {
        count += score.false_alarms.episodes_ns.len();
        nanoseconds += score.false_alarms.fault_free_ns;
    }
    rate_of(count, nanoseconds as f64 / 3.6e12)
}

/// A rate and its exact Poisson interval.
#[must_use]
pub fn rate_of(count: usize, hours: f64) -> Rate {
    if hours <= 0.0 {
        return Rate {
            count,
            hours: 0.0,
            low_per_hour: 0.0,
            high_per_hour: None,
        };
    }
    let low = if count == 0 {
        0.0
    } else {
        poisson_mean(|mean| 1.0 - poisson_cdf(count - 1, mean) >= 0.025)
    };
    let tail = if count == 0 { 0.05 } else { 0.025 };
    let high = poisson_mean(|mean| poisson_cdf(count, mean) <= tail);
    Rate {
        count,
        hours,
        low_per_hour: low / hours,
        high_per_hour: Some(high / hours),
    }
}

/// Smallest mean for which `reached` holds; it must hold from some mean on.
fn poisson_mean(reached: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while !reached(high) {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if reached(middle) { high = middle } else { low = middle }
    }
    high
}

/// Chance of at most `count` events.
fn poisson_cdf(count: usize, mean: f64) -> f64 {
    let mut term = (-mean).exp();
    let mut sum = term;
    for event in 1..=count {
        term *= mean / event as f64;
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::matching::{PodsAnswer, Rank};
    use super::super::moments::FalseAlarms;
    use super::super::{Accuracy, AnswerScore};
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 0.005
    }

    #[test]
    fn proportions_have_wilson_intervals() {
        let five = Proportion::new(5, 5);
        assert!(near(five.low, 0.566) && near(five.high, 1.0), "{five:?}");
        let half = Proportion::new(5, 10);
        assert!(near(half.low, 0.237) && near(half.high, 0.763), "{half:?}");
        assert_eq!((Proportion::new(0, 0).low, Proportion::new(0, 0).high), (0.0, 1.0));
    }

    #[test]
    fn rates_have_exact_poisson_intervals() {
        assert!(near(rate_of(0, 2.0).high_per_hour.expect("watched"), 3.0 / 2.0));
        let four = rate_of(4, 1.0);
        assert!(
            near(four.low_per_hour, 1.09) && near(four.high_per_hour.expect("watched"), 10.24),
            "{four:?}"
        );
        assert_eq!(rate_of(0, 0.0).high_per_hour, None);
    }

    /// `scenario arm hit`: a valid run, its AC@1 or its false alarm.
    fn run(text: &str) -> RunOutcome {
        let words: Vec<_> = text.split_whitespace().collect();
        let hit = words[2] == "1";
        let arm = match words[1] {
            "fault" => Arm::Fault,
            "placebo" => Arm::Placebo,
            "none" => Arm::None,
            other => panic!("arm {other}"),
        };
        let value = f64::from(u8::from(hit));
        let accuracy = Accuracy {
            rank: if hit { Rank::At { rank: 1.0 } } else { Rank::Absent },
            ac_at: [value; 5],
            avg5: value,
            reciprocal_rank: value,
        };
        let time = if hit {
            TimeTo::Reached { after_ns: 2 }
        } else {
            TimeTo::NotReached { observed_for_ns: 9 }
        };
        let answer = AnswerScore {
            time_to_detect: time,
            time_to_root_cause: time,
            time_to_root_cause_entity: time,
            time_to_impact_ns: None,
            alerts_before_onset: 0,
            full: accuracy.clone(),
            entity: accuracy,
            pods: PodsAnswer::NotJudged,
            exact_path: None,
            decoy: !hit,
            brier: None,
        };
        let alarm = arm != Arm::Fault && hit;
        let verdict = if hit == (arm == Arm::Fault) {
            Verdict::Pass
        } else {
            Verdict::Fail
        };
        RunOutcome {
            scenario: words[0].to_owned(),
            seed: Seed(1),
            validity: Validity {
                class: Class::Valid,
                findings: Vec::new(),
            },
            score: Score {
                detector: "d".to_owned(),
                arm,
                answer: (arm == Arm::Fault).then_some(answer),
                false_alarms: FalseAlarms {
                    episodes_ns: if alarm { vec![1] } else { Vec::new() },
                    fault_free_ns: 3_600_000_000_000,
                },
            },
            judgement: Judgement {
                verdict,
                findings: Vec::new(),
            },
        }
    }

    #[test]
    fn scenarios_weigh_the_same_and_invalid_runs_are_counted_only() {
        let mut runs: Vec<_> = ["a fault 1", "a fault 1", "a fault 1", "b fault 0"].map(run).into();
        runs.push(run("b fault 1"));
        runs[4].validity.class = Class::Silent;
        let summary = summarize(&runs);
        assert_eq!(
            (summary.ac_at_1, summary.correct.hits, summary.correct.of),
            (Some(0.5), 3, 4)
        );
        assert_eq!(
            (summary.valid.hits, summary.valid.of, summary.classes[&Class::Silent]),
            (4, 5, 1)
        );
        assert_eq!((summary.decoys.hits, summary.verdict), (1, Some(Verdict::Fail)));
        assert_eq!(summary.time_to_root_cause.median, Quantile::At { after_ns: 2 });
    }

    #[test]
    fn a_detector_that_sees_the_injector_has_a_placebo_gap() {
        let summary = summarize(&["p placebo 1", "p placebo 0", "n none 0"].map(run));
        assert_eq!(summary.placebo_gap, Some(0.5));
        assert_eq!((summary.false_alarms.count, summary.ac_at_1), (1, None));
        assert!((summary.false_alarms.hours - 3.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_ran_is_no_pass() {
        let summary = summarize(&[]);
        assert_eq!(
            (summary.verdict, summary.ac_at_1, summary.placebo_gap),
            (None, None, None)
        );
    }

    #[test]
    fn times_not_reached_are_not_forgotten() {
        let reached = |after_ns| TimeTo::Reached { after_ns };
        let watched = |observed_for_ns| TimeTo::NotReached { observed_for_ns };
        let all = times([reached(1), reached(3), reached(5), watched(10)].into_iter());
        assert_eq!(
            (all.median, all.p90),
            (Quantile::At { after_ns: 3 }, Quantile::Beyond { observed_for_ns: 10 })
        );
        assert_eq!(all.restricted_mean_ns, Some(4.75));
        // One who was watched for less than the others were waiting says nothing about later times.
        let early = times([watched(2), reached(4), reached(6)].into_iter());
        assert_eq!(early.median, Quantile::At { after_ns: 4 });
        assert_eq!(
            times([watched(9), watched(9)].into_iter()).median,
            Quantile::Beyond { observed_for_ns: 9 }
        );
    }
}
