//! Whether a score is enough: pass, inconclusive or fail, with reasons. The worst reason wins.
//!
//! Knows the scenario's limits, not how scores come about.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matching::{PodsAnswer, Rank};
use super::moments::TimeTo;
use super::{AnswerScore, Score};
use crate::check::validity::{Class, Validity};
use crate::scenario::model::{Arm, Limits, PodsLimit};

/// The judgement of a check. Declared in order of severity; the worst wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Enough.
    Pass,
    /// It cannot be told, which is never a pass.
    Inconclusive,
    /// Not enough.
    Fail,
}

/// A judgement and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// The worst of the findings.
    pub verdict: Verdict,
    /// Each check, worst first.
    pub findings: Vec<Finding>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What it says.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

impl Judgement {
    /// The worst of findings; nothing checked is inconclusive.
    #[must_use]
    pub fn of(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        let verdict = findings
            .first()
            .map_or(Verdict::Inconclusive, |finding| finding.verdict);
        Self { verdict, findings }
    }
}

/// Judges one detector in one run.
#[must_use]
pub fn judge(score: &Score, validity: &Validity, limits: &Limits) -> Judgement {
    if validity.class != Class::Valid {
        let reason = format!("the run does not count: {}", validity.findings.join("; "));
        return Judgement::of(vec![Finding {
            verdict: Verdict::Inconclusive,
            reason,
        }]);
    }
    let mut findings = vec![false_alarms(score, limits)];
    match (score.arm, &score.answer) {
        (Arm::Placebo | Arm::None, _) => (),
        (Arm::Surge, answer) => findings.extend(answer.iter().flat_map(|answer| times(answer, limits))),
        (Arm::Fault, Some(answer)) => {
            findings.push(rank(answer, limits));
            findings.extend(times(answer, limits));
            findings.extend(pods(answer, limits));
        }
        (Arm::Fault, None) => {
            let reason = "a fault without a proven onset cannot be scored".to_owned();
            findings.push(Finding {
                verdict: Verdict::Inconclusive,
                reason,
            });
        }
    }
    Judgement::of(findings)
}

fn pass_if(good: bool, reason: String) -> Finding {
    Finding {
        verdict: if good { Verdict::Pass } else { Verdict::Fail },
        reason,
    }
}

fn false_alarms(score: &Score, limits: &Limits) -> Finding {
    let count = score.false_alarms.episodes_ns.len();
    let what = match score.arm {
        Arm::Surge => "alarms other than load.surge",
        Arm::Fault | Arm::Placebo | Arm::None => "false alarms",
    };
    pass_if(
        count <= limits.false_alarms as usize,
        format!("{count} {what}, limit {}", limits.false_alarms),
    )
}

fn rank(answer: &AnswerScore, limits: &Limits) -> Finding {
    match answer.full.rank {
        Rank::At { rank } => pass_if(
            rank <= f64::from(limits.rank),
            format!(
                "the right cause at rank {rank} of the final answer, limit {}",
                limits.rank
            ),
        ),
        Rank::Absent => pass_if(false, "the right cause is not in the final answer".to_owned()),
    }
}

fn times(answer: &AnswerScore, limits: &Limits) -> impl Iterator<Item = Finding> {
    let checks = [
        ("time to detect", answer.time_to_detect, limits.time_to_detect),
        (
            "time to root cause",
            answer.time_to_root_cause,
            limits.time_to_root_cause,
        ),
    ];
    checks
        .into_iter()
        .filter_map(|(what, time, limit)| Some(time_within(what, time, limit?)))
}

fn time_within(what: &str, time: TimeTo, limit: Duration) -> Finding {
    let seconds = |ns: u64| format!("{:.1} s", Duration::from_nanos(ns).as_secs_f64());
    let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    match time {
        TimeTo::Reached { after_ns } => pass_if(
            after_ns <= limit_ns,
            format!("{what} {}, limit {}", seconds(after_ns), seconds(limit_ns)),
        ),
        TimeTo::NotReached { observed_for_ns } => {
            let reason = format!(
                "{what} not reached in {}, limit {}",
                seconds(observed_for_ns),
                seconds(limit_ns)
            );
            // Watched for less than the limit, it might still have come in time.
            let verdict = if observed_for_ns < limit_ns {
                Verdict::Inconclusive
            } else {
                Verdict::Fail
            };
            Finding { verdict, reason }
        }
    }
}

fn pods(answer: &AnswerScore, limits: &Limits) -> Option<Finding> {
    let finding = match (limits.pods, answer.pods) {
        (PodsLimit::Any, _) | (PodsLimit::Exact, PodsAnswer::NotJudged) => return None,
        (PodsLimit::Exact, PodsAnswer::NoRightAnswer) => pass_if(false, "no right answer to take pods from".to_owned()),
        (PodsLimit::Exact, answer @ PodsAnswer::Named { precision, recall }) => pass_if(
            answer.is_exact(),
            format!("pods named with precision {precision:.2} and recall {recall:.2}"),
        ),
    };
    Some(finding)
}
