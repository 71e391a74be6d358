//! All that gate and comparison know of a suite's result: one short line per case.
//!
//! Times are whole milliseconds, because this is what a baseline file holds: a result and the file made of it are the
//! same evidence, to the digit.

use gauntlet_detector::diagnosis::Candidate;

use crate::check::validity::Class;
use crate::plan::Seed;
use crate::scenario::model::Arm;
use crate::score::AnswerScore;
use crate::score::matching::Rank;
use crate::score::moments::TimeTo;
use crate::suite::outcome::{CaseResult, Mode, SuiteResult};

/// Number of hexadecimal digits by which a recording is known: of 10,000 recordings two agree with a chance below
/// 10⁻¹¹.
pub const RECORDING_DIGITS: usize = 16;

const NS_PER_MS: u64 = 1_000_000;

/// What a suite's result says about the detector under test.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Name of the suite or corpus.
    pub suite: String,
    /// Digest of what was asked for.
    pub digest: String,
    /// Where it came from.
    pub mode: Mode,
    /// Name and version of the detector.
    pub detector: String,
    /// Number of cases that were asked for.
    pub planned_count: usize,
    /// The cases that ended, sorted by scenario, trial and recording.
    pub cases: Vec<Case>,
}

/// One trial of one scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Name of the scenario.
    pub scenario: String,
    /// Trial, from 1.
    pub trial: u32,
    /// Seed.
    pub seed: Seed,
    /// The first digits of the recording's digest.
    pub recording: Option<String>,
    /// Name of the application.
    pub app: String,
    /// The scenario's label `class`.
    pub class: Option<String>,
    /// What silence and alarms mean.
    pub arm: Arm,
    /// What the attempt that counts is good for.
    pub validity: Class,
    /// Whether any attempt of this case left something behind.
    pub residue: bool,
    /// Alarms without a reason.
    pub false_alarms: u32,
    /// Time without a reason for an alarm.
    pub fault_free_ms: u64,
    /// How well the cause was named; `None` where there was none to name.
    pub answer: Option<Answer>,
    /// Rank 1 of the final answer in words; `None`: nothing was named.
    pub said: Option<String>,
    /// How the detector failed.
    pub failure: Option<String>,
}

/// How well a cause was named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// AC@1 on entity and mechanism: 1, 0, or the expected value among ties.
    pub ac_at_1: f64,
    /// Rank of the first right answer.
    pub rank: Rank,
    /// From the onset to the first alert, whole milliseconds.
    pub time_to_detect: TimeTo,
    /// From the onset to the right cause, settled, whole milliseconds.
    pub time_to_root_cause: TimeTo,
}

impl Answer {
    /// Whether rank 1 is right, and alone there.
    #[must_use]
    pub fn right(&self) -> bool {
        self.ac_at_1 >= 1.0
    }
}

impl Case {
    /// Whether it counts.
    #[must_use]
    pub fn valid(&self) -> bool {
        self.validity == Class::Valid
    }

    /// The answer, where a fault had to be named and the run counts: what accuracy and times are about.
    #[must_use]
    pub fn judged(&self) -> Option<&Answer> {
        (self.valid() && self.arm == Arm::Fault)
            .then_some(self.answer.as_ref())
            .flatten()
    }

    /// Whether its alarms are false alarms of the gate. Surges are reported apart.
    #[must_use]
    pub fn watched(&self) -> bool {
        self.valid() && self.arm != Arm::Surge
    }

    /// What a person calls it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} #{}", self.scenario, self.trial)
    }
}

impl Evidence {
    /// Reduces a result to what gate and comparison need.
    #[must_use]
    pub fn of(result: &SuiteResult) -> Self {
        Self {
            suite: result.suite.clone(),
            digest: result.digest.clone(),
            mode: result.mode,
            detector: result.detector.clone(),
            planned_count: result.planned_count,
            cases: result.cases.iter().map(case).collect(),
        }
        .sorted()
    }

    /// The same in the one order, whatever order cases ended in.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.cases.sort_by(|a, b| {
            (&a.scenario, a.trial, a.seed.0, &a.recording).cmp(&(&b.scenario, b.trial, b.seed.0, &b.recording))
        });
        self
    }
}

fn case(case: &CaseResult) -> Case {
    let residue = |class: Class| class == Class::Residue;
    let score = &case.detector.score;
    Case {
        scenario: case.scenario.clone(),
        trial: case.trial,
        seed: case.seed,
        recording: case
            .recording
            .as_ref()
            .map(|digest| digest.chars().take(RECORDING_DIGITS).collect()),
        app: case.app.clone(),
        class: case.labels.get("class").cloned(),
        arm: score.arm,
        validity: case.validity.class,
        residue: residue(case.validity.class) || case.invalid_attempts.iter().any(|attempt| residue(attempt.class)),
        false_alarms: u32::try_from(score.false_alarms.episodes_ns.len()).unwrap_or(u32::MAX),
        fault_free_ms: rounded_ms(score.false_alarms.fault_free_ns),
        answer: score.answer.as_ref().map(answer),
        said: case.detector.first.as_ref().map(said),
        failure: case.detector.failure.clone(),
    }
}

fn answer(score: &AnswerScore) -> Answer {
    Answer {
        ac_at_1: score.full.ac_at[0],
        rank: score.full.rank,
        time_to_detect: whole_ms(score.time_to_detect),
        time_to_root_cause: whole_ms(score.time_to_root_cause),
    }
}

fn said(first: &Candidate) -> String {
    format!("{}: {}", first.entity, first.mechanism)
}

fn rounded_ms(ns: u64) -> u64 {
    (ns + NS_PER_MS / 2) / NS_PER_MS
}

fn whole_ms(time: TimeTo) -> TimeTo {
    match time {
        TimeTo::Reached { after_ns } => TimeTo::Reached {
            after_ns: rounded_ms(after_ns) * NS_PER_MS,
        },
        TimeTo::NotReached { observed_for_ns } => TimeTo::NotReached {
            observed_for_ns: rounded_ms(observed_for_ns) * NS_PER_MS,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::sample::{suite, told};

    #[test]
    fn a_result_becomes_one_short_line_per_case() {
        let mut result = suite(Mode::Replay, "b fault ✓ 1.2004996\na none !2\na fault ✗");
        result.cases[0].invalid_attempts.push(told(Class::Residue));
        let evidence = Evidence::of(&result);
        let names: Vec<_> = evidence.cases.iter().map(Case::name).collect();
        assert_eq!(names, ["a #1", "a #2", "b #1"]);
        let [control, wrong, right] = evidence.cases.as_slice() else {
            panic!("three cases")
        };
        assert_eq!(
            (control.false_alarms, control.answer, control.judged()),
            (2, None, None)
        );
        assert!(!wrong.judged().expect("a fault").right());
        let answer = right.judged().expect("a fault");
        assert_eq!(
            answer.time_to_root_cause,
            TimeTo::Reached {
                after_ns: 1_200_000_000
            }
        );
        assert!(right.residue && !wrong.residue);
        assert_eq!(right.recording.as_ref().map(String::len), Some(RECORDING_DIGITS));
    }

    #[test]
    fn what_does_not_count_is_not_judged() {
        let mut result = suite(Mode::Live, "a fault ✓ 1.2");
        result.cases[0].validity = told(Class::Silent);
        let evidence = Evidence::of(&result);
        assert!(evidence.cases[0].judged().is_none() && !evidence.cases[0].watched());
    }
}
