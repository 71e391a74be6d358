//! Suite results for tests, told in a few words: one line per case.
//!
//! `SCENARIO fault ✓ 1.2` is right after 1.2 s, `SCENARIO fault ✗` wrong and never right, `SCENARIO none !2` a control
//! with two false alarms. Trials count up by scenario; seeds and recordings follow from the two, so that two results
//! tell of the same cases.

use std::collections::BTreeMap;

use gauntlet_detector::diagnosis::{Candidate, Entity, Mechanism};
use gauntlet_probes::entity::ServiceName;

use super::outcome::{CaseResult, DetectorOutcome, Mode, SUITE_RESULT_VERSION, SuiteResult};
use crate::check::validity::{Class, Validity};
use crate::plan::Seed;
use crate::recording::container::sha256_hex;
use crate::scenario::model::Arm;
use crate::score::matching::{PodsAnswer, Rank};
use crate::score::moments::{FalseAlarms, TimeTo};
use crate::score::verdict::{Judgement, Verdict};
use crate::score::{Accuracy, AnswerScore, Score};

/// Window of every case.
pub(crate) const WINDOW_NS: u64 = 15_000_000_000;

/// Fault-free time of every case.
pub(crate) const FAULT_FREE_NS: u64 = 30_000_000_000;

/// The result of a suite of which all cases are VALID.
pub(crate) fn suite(mode: Mode, told: &str) -> SuiteResult {
    let mut trials: BTreeMap<&str, u32> = BTreeMap::new();
    let cases: Vec<CaseResult> = told
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let trial = trials.entry(words[0]).or_default();
            *trial += 1;
            case(mode, *trial, &words)
        })
        .collect();
    SuiteResult {
        version: SUITE_RESULT_VERSION,
        suite: "sample".to_owned(),
        digest: "d1".repeat(32),
        mode,
        detector: "gauntlet-detector 0.1.0".to_owned(),
        shard: None,
        planned_count: cases.len(),
        cases,
    }
}

/// `count` times the same `line`, each ended by a newline.
pub(crate) fn times(count: usize, line: &str) -> String {
    format!("{line}\n").repeat(count)
}

/// What is said of a run of this class.
pub(crate) fn told(class: Class) -> Validity {
    let findings = match class {
        Class::Valid => Vec::new(),
        other => vec![other.name().to_owned()],
    };
    Validity { class, findings }
}

fn case(mode: Mode, trial: u32, words: &[&str]) -> CaseResult {
    let scenario = words[0].to_owned();
    let seed = Seed(u64::from(trial) + 10);
    let right = words[2] == "✓";
    let time = match words.get(3) {
        Some(seconds) => TimeTo::Reached {
            after_ns: (seconds.parse::<f64>().expect("seconds") * 1e9) as u64,
        },
        None => TimeTo::NotReached {
            observed_for_ns: WINDOW_NS,
        },
    };
    let (arm, answer) = match words[1] {
        "fault" => (Arm::Fault, Some(answer(right, time))),
        "none" => (Arm::None, None),
        "placebo" => (Arm::Placebo, None),
        other => panic!("arm {other}"),
    };
    let alarms = words[2]
        .strip_prefix('!')
        .map_or(0, |count| count.parse().expect("a number of alarms"));
    let digest = || sha256_hex(format!("{scenario} {trial}").as_bytes());
    CaseResult {
        trial,
        seed,
        app: "shop".to_owned(),
        labels: BTreeMap::from([("class".to_owned(), "cache".to_owned())]),
        recording: (mode == Mode::Replay).then(digest),
        scenario,
        directory: None,
        validity: told(Class::Valid),
        invalid_attempts: Vec::new(),
        truth: answer.iter().map(|_| "cache: network.filter".to_owned()).collect(),
        detector: DetectorOutcome {
            name: "gauntlet-detector".to_owned(),
            score: Score {
                detector: "gauntlet-detector".to_owned(),
                arm,
                false_alarms: FalseAlarms {
                    episodes_ns: (0..alarms).collect(),
                    fault_free_ns: FAULT_FREE_NS,
                },
                answer,
            },
            judgement: Judgement {
                verdict: if right { Verdict::Pass } else { Verdict::Fail },
                findings: Vec::new(),
            },
            first: (arm == Arm::Fault).then(|| first(right)),
            failure: None,
        },
        rivals: Vec::new(),
    }
}

fn answer(right: bool, time: TimeTo) -> AnswerScore {
    let value = f64::from(u8::from(right));
    let accuracy = Accuracy {
        rank: if right { Rank::At { rank: 1.0 } } else { Rank::Absent },
        ac_at: [value; 5],
        avg5: value,
        reciprocal_rank: value,
    };
    AnswerScore {
        time_to_detect: TimeTo::Reached { after_ns: 400_000_000 },
        time_to_root_cause: time,
        time_to_root_cause_entity: time,
        time_to_impact_ns: None,
        alerts_before_onset: 0,
        entity: accuracy.clone(),
        full: accuracy,
        pods: PodsAnswer::NotJudged,
        exact_path: None,
        decoy: !right,
        brier: None,
    }
}

fn first(right: bool) -> Candidate {
    let (service, mechanism) = if right {
        ("cache", Mechanism::NetworkFilter)
    } else {
        ("web", Mechanism::AppSlow)
    };
    Candidate {
        entity: Entity::Service {
            name: ServiceName::new(service),
        },
        mechanism,
        confidence: 0.8,
        since_ns: 1,
        pods: Vec::new(),
        nodes: Vec::new(),
        evidence: Vec::new(),
        path: Vec::new(),
    }
}
