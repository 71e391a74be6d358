//! One case in a cell: what came of it, as a sign and a few words.

use crate::check::validity::Class;
use crate::scenario::model::Arm;
use crate::score::moments::TimeTo;
use crate::score::verdict::Verdict;
use crate::suite::outcome::CaseResult;

use super::super::text;

/// What came of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum CaseOutcome {
    /// The cause was at rank 1 at the end.
    Right {
        /// When it had settled.
        time_to_root_cause: TimeTo,
        /// All of the scenario's limits were kept.
        within_limits: bool,
    },
    /// Something else was at rank 1 at the end.
    Wrong {
        /// What.
        said: String,
    },
    /// Nothing was said of a fault.
    Silent,
    /// Nothing was said where nothing was wrong.
    Quiet,
    /// Something was said where nothing was wrong.
    Alarmed {
        /// Number of false alarms.
        count: usize,
    },
    /// The run does not count.
    Invalid {
        /// Why.
        class: Class,
    },
}

impl CaseOutcome {
    /// What the detector under test made of a case.
    #[must_use]
    pub fn of(case: &CaseResult) -> Self {
        if case.validity.class != Class::Valid {
            return Self::Invalid {
                class: case.validity.class,
            };
        }
        let score = &case.detector.score;
        let right = score.answer.as_ref().filter(|answer| answer.correct_at_end());
        let count = score.false_alarms.episodes_ns.len();
        match (score.arm, right, &case.detector.first) {
            (Arm::Placebo | Arm::None | Arm::Surge, _, _) if count > 0 => Self::Alarmed { count },
            (Arm::Placebo | Arm::None, _, _) | (Arm::Surge, None, _) => Self::Quiet,
            (Arm::Fault | Arm::Surge, Some(answer), _) => Self::Right {
                time_to_root_cause: answer.time_to_root_cause,
                within_limits: case.detector.judgement.verdict == Verdict::Pass,
            },
            (Arm::Fault, None, Some(first)) => Self::Wrong {
                said: format!("{}: {}", first.entity, first.mechanism),
            },
            (Arm::Fault, None, None) => Self::Silent,
        }
    }

    /// In a few words, a sign first: what colour says is in it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Right {
                time_to_root_cause,
                within_limits,
            } => {
                let sign = if *within_limits { "✓" } else { "◐" };
                match time_to_root_cause {
                    TimeTo::Reached { after_ns } => format!("{sign} {:.1} s", text::seconds_of(*after_ns)),
                    TimeTo::NotReached { .. } => format!("{sign} unsettled"),
                }
            }
            Self::Wrong { said } => format!("✗ {said}"),
            Self::Silent => "∅ silent".to_owned(),
            Self::Quiet => "✓ quiet".to_owned(),
            Self::Alarmed { count } => format!("✗ {}", text::count(*count, "alarm")),
            Self::Invalid { class } => format!("– {}", class.name()),
        }
    }
}

/// What [`CaseOutcome::text`]'s signs mean.
pub const SIGNS: [(&str, &str); 5] = [
    (
        "✓",
        "the cause is at rank 1 at the end, with the time to root cause; in controls: quiet",
    ),
    ("◐", "right, and outside a limit of the scenario"),
    ("✗", "something else is at rank 1; in controls: alarms"),
    ("∅", "nothing was said of a fault"),
    ("–", "the run does not count"),
];

/// The right answer; what there is to say of a control.
#[must_use]
pub fn truth(case: &CaseResult) -> String {
    match case.truth.as_slice() {
        [] => "nothing is wrong".to_owned(),
        causes => causes.join("; "),
    }
}

/// Everything that is known of a case, in one line.
#[must_use]
pub fn story(case: &CaseResult) -> String {
    let reasons: Vec<&str> = case
        .detector
        .judgement
        .findings
        .iter()
        .map(|finding| finding.reason.as_str())
        .collect();
    let said = case.detector.first.as_ref();
    let said = said.map_or_else(|| "nothing".to_owned(), super::super::console::candidate_text);
    let mut story = format!("seed {}; truth {}; said {said}", case.seed.0, truth(case));
    for part in [reasons.join("; "), case.detector.failure.clone().unwrap_or_default()] {
        if !part.is_empty() {
            story += &format!("; {part}");
        }
    }
    story
}
