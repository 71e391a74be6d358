//! What a detector's statements are worth: pure functions of one recorded run.
//!
//! The definitions are those of the scoring rules; [`matching`] says what is right, [`moments`] since when,
//! [`verdict`] whether that is enough, [`summary`] what many runs say together. Whether a run counts at all is
//! [`crate::check`]'s to say.

pub mod matching;
pub mod moments;
pub mod summary;
pub mod verdict;

use std::time::Duration;

use gauntlet_detector::diagnosis::Diagnosis;
use gauntlet_probes::frame::MonotonicNanos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::GroundTruth;
use crate::scenario::model::Arm;
use matching::{Granularity, PodsAnswer, Rank, Ranking};
use moments::{FalseAlarms, Stream, TimeTo};

/// The right cause must stay at rank 1 this long to count as settled, or until recovery if that is sooner.
pub const HOLD: Duration = Duration::from_secs(5);

/// Everything about one run that scores depend on, for one detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// Who spoke.
    pub detector: String,
    /// All that it said, in the order of time.
    pub diagnoses: Vec<Diagnosis>,
    /// The right answer.
    pub truth: GroundTruth,
    /// How long after the onset a detection counts.
    pub window: Duration,
    /// Start of the baseline: what is said before is not judged.
    pub observation_start_ns: MonotonicNanos,
    /// The injector returned.
    pub inject_ns: Option<MonotonicNanos>,
    /// The first effect was proven.
    pub onset_ns: Option<MonotonicNanos>,
    /// Users saw harm for the first time.
    pub impact_ns: Option<MonotonicNanos>,
    /// Recovery began: from here on silence is right.
    pub recover_start_ns: Option<MonotonicNanos>,
    /// Recovery was confirmed.
    pub end_ns: Option<MonotonicNanos>,
    /// The recording ended.
    pub observation_end_ns: MonotonicNanos,
}

/// What one detector's statements in one run are worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// Who spoke.
    pub detector: String,
    /// What silence and alarms meant in this run.
    pub arm: Arm,
    /// How well the cause was named; `None` where there was none to name: controls, and runs without an onset.
    pub answer: Option<AnswerScore>,
    /// Alarms without a reason.
    pub false_alarms: FalseAlarms,
}

/// How well a cause was named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnswerScore {
    /// From the onset to the first alert.
    pub time_to_detect: TimeTo,
    /// From the onset to the right cause, settled.
    pub time_to_root_cause: TimeTo,
    /// The same, whatever the mechanism.
    pub time_to_root_cause_entity: TimeTo,
    /// From the onset to the first harm; negative if users saw it before the effect was proven.
    pub time_to_impact_ns: Option<i64>,
    /// Alerts between the injection and the onset: by the rules they are false alarms, and here is why there are some.
    pub alerts_before_onset: u32,
    /// The final answer on entity and mechanism.
    pub full: Accuracy,
    /// The final answer on the entity alone.
    pub entity: Accuracy,
    /// How well the pods of the right answer were named.
    pub pods: PodsAnswer,
    /// Whether the right answer came with the right path; `None`: the scenario does not judge it.
    pub exact_path: Option<bool>,
    /// Whether a decoy was at rank 1.
    pub decoy: bool,
    /// Square of the distance of rank 1's confidence from the truth; `None`: nothing was said.
    pub brier: Option<f64>,
}

impl AnswerScore {
    /// Whether an alert came in time.
    #[must_use]
    pub fn detected(&self) -> bool {
        matches!(self.time_to_detect, TimeTo::Reached { .. })
    }

    /// Whether the final answer's first rank was right.
    #[must_use]
    pub fn correct_at_end(&self) -> bool {
        self.full.rank == Rank::At { rank: 1.0 }
    }
}

/// How high the right answers stand in the final answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accuracy {
    /// Rank of the first right answer; the expected one among ties.
    pub rank: Rank,
    /// AC@1 to AC@5.
    pub ac_at: [f64; 5],
    /// Their mean.
    pub avg5: f64,
    /// 1 / rank, 0 if not in the top 10; the expected one among ties.
    pub reciprocal_rank: f64,
}

/// Scores one detector in one run.
#[must_use]
pub fn score(record: &RunRecord) -> Score {
    let stream = Stream::new(record);
    let answer = match record.truth.arm {
        Arm::Fault | Arm::Surge => record.onset_ns.map(|onset_ns| answer_score(record, &stream, onset_ns)),
        Arm::Placebo | Arm::None => None,
    };
    Score {
        detector: record.detector.clone(),
        arm: record.truth.arm,
        answer,
        false_alarms: stream.false_alarms(record),
    }
}

fn answer_score(record: &RunRecord, stream: &Stream<'_>, onset_ns: MonotonicNanos) -> AnswerScore {
    let truth = &record.truth;
    let nothing = Vec::new();
    let last = stream
        .final_answer(record, onset_ns)
        .map_or(&nothing, |diagnosis| &diagnosis.candidates);
    let full = Ranking::new(last, truth, Granularity::EntityAndMechanism);
    let entity = Ranking::new(last, truth, Granularity::Entity);
    let right = full.right_at_top();
    AnswerScore {
        time_to_detect: stream.time_to_detect(record, onset_ns),
        time_to_root_cause: stream.time_to_root_cause(record, onset_ns, Granularity::EntityAndMechanism),
        time_to_root_cause_entity: stream.time_to_root_cause(record, onset_ns, Granularity::Entity),
        time_to_impact_ns: record
            .impact_ns
            .map(|impact_ns| impact_ns.cast_signed() - onset_ns.cast_signed()),
        alerts_before_onset: stream.alerts_between(record.inject_ns.unwrap_or(onset_ns), onset_ns),
        pods: matching::pods_answer(right, truth),
        exact_path: (!truth.path.is_empty()).then(|| right.is_some_and(|right| right.candidate.path == truth.path)),
        decoy: full.decoy_at_top(truth),
        brier: full.brier(),
        full: accuracy(&full),
        entity: accuracy(&entity),
    }
}

fn accuracy(ranking: &Ranking<'_>) -> Accuracy {
    let ac_at = [1, 2, 3, 4, 5].map(|k| ranking.accuracy_at(k));
    Accuracy {
        rank: ranking.rank(),
        ac_at,
        avg5: ac_at.iter().sum::<f64>() / 5.0,
        reciprocal_rank: ranking.reciprocal_rank(),
    }
}

#[cfg(test)]
mod tests;
