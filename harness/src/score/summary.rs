//! What many runs of one detector say together.
//!
//! Invalid runs are counted and never averaged. Means are over scenarios, each weighing the same, never over a pool.
//! The formulas are those of [`crate::statistics`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::moments::TimeTo;
use super::verdict::{Judgement, Verdict};
use super::{AnswerScore, Score};
use crate::check::validity::{Class, Validity};
use crate::plan::Seed;
use crate::scenario::model::Arm;
use crate::statistics::{Interval, TAIL_95, bootstrap, mean, survival};

pub use crate::statistics::poisson::{Rate, rate_of};
pub use crate::statistics::proportion::Proportion;
pub use crate::statistics::survival::{Quantile, Times};

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
    /// The means over scenarios with their intervals; `None` without runs.
    pub means: Option<MacroMeans>,
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

/// Means over scenarios, each weighing the same, with their 95 % intervals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MacroMeans {
    /// AC@1 on entity and mechanism.
    pub ac_at_1: MacroMean,
    /// AC@1 on the entity alone.
    pub ac_at_1_entity: MacroMean,
    /// Avg@5.
    pub avg5: MacroMean,
    /// The reciprocal rank.
    pub mrr: MacroMean,
    /// Time to detect in nanoseconds, each cut where watching ended.
    pub time_to_detect_ns: MacroMean,
    /// Time to root cause in nanoseconds, each cut where watching ended.
    pub time_to_root_cause_ns: MacroMean,
}

/// A mean over scenarios and its 95 % interval by the hierarchical bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MacroMean {
    /// The mean.
    pub mean: f64,
    /// How sure it is.
    pub interval: Interval,
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
    let share = |hit: &dyn Fn(&AnswerScore) -> bool| {
        Proportion::new(answers.iter().filter(|(_, answer)| hit(answer)).count(), answers.len())
    };
    let means = macro_means(&answers);
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
        detected: share(&AnswerScore::detected),
        correct: share(&AnswerScore::correct_at_end),
        decoys: share(&|answer| answer.decoy),
        ac_at_1: means.map(|means| means.ac_at_1.mean),
        ac_at_1_entity: means.map(|means| means.ac_at_1_entity.mean),
        avg5: means.map(|means| means.avg5.mean),
        mrr: means.map(|means| means.mrr.mean),
        means,
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

/// Means over scenarios of the answers to each, and their intervals.
fn macro_means(answers: &[(&str, &AnswerScore)]) -> Option<MacroMeans> {
    let mut by_scenario: BTreeMap<&str, Vec<[f64; 6]>> = BTreeMap::new();
    for (scenario, answer) in answers {
        by_scenario.entry(scenario).or_default().push([
            answer.full.ac_at[0],
            answer.entity.ac_at[0],
            answer.full.avg5,
            answer.full.reciprocal_rank,
            end(answer.time_to_detect).0 as f64,
            end(answer.time_to_root_cause).0 as f64,
        ]);
    }
    let groups: Vec<_> = by_scenario.into_values().collect();
    let intervals = bootstrap::macro_means(&groups, TAIL_95)?;
    let of = |index: usize| {
        let of_group = |group: &Vec<[f64; 6]>| mean(&group.iter().map(|member| member[index]).collect::<Vec<_>>());
        Some(MacroMean {
            mean: mean(&groups.iter().filter_map(of_group).collect::<Vec<_>>())?,
            interval: intervals[index],
        })
    };
    Some(MacroMeans {
        ac_at_1: of(0)?,
        ac_at_1_entity: of(1)?,
        avg5: of(2)?,
        mrr: of(3)?,
        time_to_detect_ns: of(4)?,
        time_to_root_cause_ns: of(5)?,
    })
}

/// Sums up times.
#[must_use]
pub fn times(times: impl Iterator<Item = TimeTo>) -> Times {
    survival::times(times.map(end))
}

/// When watching ended, in nanoseconds, and whether that was because the time was reached.
#[must_use]
pub fn end(time: TimeTo) -> (u64, bool) {
    match time {
        TimeTo::Reached { after_ns } => (after_ns, true),
        TimeTo::NotReached { observed_for_ns } => (observed_for_ns, false),
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

#[cfg(test)]
mod tests {
    use super::super::Accuracy;
    use super::super::matching::{PodsAnswer, Rank};
    use super::super::moments::FalseAlarms;
    use super::*;

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
        // One scenario always right, one always wrong: drawing two of them gives 0, 0.5 or 1.
        let means = summary.means.expect("answers");
        assert_eq!((means.ac_at_1.interval.low, means.ac_at_1.interval.high), (0.0, 1.0));
        // Three times 2 ns on one side, cut at 9 ns on the other.
        assert_eq!(means.time_to_root_cause_ns.mean, 5.5);
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
