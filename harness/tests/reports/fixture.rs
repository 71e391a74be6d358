//! A recorded run of the seed scenario (`tests/data/run`), and a suite made of it with everything that a suite can hold.

use std::path::{Path, PathBuf};

use gauntlet_harness::check::validity::{Class, Validity};
use gauntlet_harness::gate::evidence::Evidence;
use gauntlet_harness::gate::report::GateReport;
use gauntlet_harness::gate::{Settings, gate};
use gauntlet_harness::plan::Seed;
use gauntlet_harness::run::result::RunResult;
use gauntlet_harness::scenario::model::Arm;
use gauntlet_harness::score::matching::Rank;
use gauntlet_harness::score::moments::TimeTo;
use gauntlet_harness::score::verdict::{Finding, Judgement, Verdict};
use gauntlet_harness::suite::outcome::{CaseResult, DetectorOutcome, Mode, SUITE_RESULT_VERSION, SuiteResult};

/// A name that breaks a page, a cell or an attribute wherever it is not escaped.
pub(crate) const HOSTILE: &str = "<script>alert('x')</script>|\"&`@all`";

/// Where the recorded run lies.
pub(crate) fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/run")
}

/// The recorded run's result.
pub(crate) fn result() -> RunResult {
    let text = std::fs::read_to_string(recorded().join("result.json")).expect("a file of this repository");
    serde_json::from_str(&text).expect("a result")
}

/// A copy of the recorded run that may be written to.
pub(crate) fn run_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["result.json", "plan.json", "frames.zst"] {
        std::fs::copy(recorded().join(name), directory.path().join(name)).expect("copied");
    }
    directory
}

/// What one case of the suite is to be.
#[derive(Clone, Copy)]
enum Kind {
    Right { after_ms: u64 },
    RightTooLate,
    Wrong,
    Silent,
    Invalid(Class),
    Quiet,
    Alarmed,
}

/// A suite with a case of every kind, a hostile name, a crash of the detector, a repeated run and a case that never ended.
pub(crate) fn suite() -> SuiteResult {
    use Kind::{Alarmed, Invalid, Quiet, Right, RightTooLate, Silent, Wrong};
    let plan: [(&str, &[Kind]); 5] = [
        (
            "cache-network-misconfig",
            &[Right { after_ms: 470 }, Right { after_ms: 510 }, Wrong, RightTooLate],
        ),
        (
            "cache-flush",
            &[Right { after_ms: 900 }, Silent, Invalid(Class::Silent)],
        ),
        ("db-cpu-limit", &[Invalid(Class::Residue), Invalid(Class::HarnessError)]),
        ("none", &[Quiet, Alarmed]),
        (HOSTILE, &[Right { after_ms: 2_400 }]),
    ];
    let mut cases: Vec<CaseResult> = plan
        .iter()
        .flat_map(|(scenario, kinds)| (1..).zip(*kinds).map(move |(trial, kind)| case(scenario, trial, *kind)))
        .collect();
    cases[1].invalid_attempts = vec![validity(Class::Unstable)];
    cases[2].detector.failure = Some("it crashed (signal 11)".to_owned());
    SuiteResult {
        version: SUITE_RESULT_VERSION,
        suite: "nightly".to_owned(),
        digest: "5f".repeat(32),
        mode: Mode::Replay,
        detector: "gauntlet-detector 0.1.0".to_owned(),
        shard: None,
        planned_count: cases.len() + 1,
        cases,
    }
}

/// The same suite, in which one more case was right and another one was wrong.
pub(crate) fn older_suite() -> SuiteResult {
    let mut older = suite();
    older.detector = "gauntlet-detector 0.0.9".to_owned();
    let (first, third) = (older.cases[0].detector.clone(), older.cases[2].detector.clone());
    (older.cases[0].detector, older.cases[2].detector) = (third, first);
    older
}

fn validity(class: Class) -> Validity {
    let findings = match class {
        Class::Valid => Vec::new(),
        other => vec![format!("{}: made up for a test", other.name())],
    };
    Validity { class, findings }
}

fn case(scenario: &str, trial: u32, kind: Kind) -> CaseResult {
    let result = result();
    let outcome = |detector: &gauntlet_harness::run::result::DetectorResult| DetectorOutcome {
        name: detector.score.detector.clone(),
        score: detector.score.clone(),
        judgement: detector.judgement.clone(),
        first: detector
            .answer
            .as_ref()
            .and_then(|answer| answer.candidates.first().cloned()),
        failure: None,
    };
    let mut case = CaseResult {
        scenario: scenario.to_owned(),
        trial,
        seed: Seed(100 + u64::from(trial)),
        app: "shop".to_owned(),
        labels: [("class".to_owned(), "cache".to_owned())].into(),
        recording: Some(format!("{scenario}-{trial}")),
        directory: None,
        validity: validity(Class::Valid),
        invalid_attempts: Vec::new(),
        truth: vec!["cache: network.filter".to_owned()],
        detector: outcome(&result.detector),
        rivals: result.rivals.iter().map(outcome).collect(),
    };
    become_kind(&mut case, kind);
    case
}

fn become_kind(case: &mut CaseResult, kind: Kind) {
    let wrong = case.rivals[0].clone();
    let own = &mut case.detector;
    match kind {
        Kind::Right { after_ms } => settle(
            own,
            TimeTo::Reached {
                after_ns: after_ms * 1_000_000,
            },
        ),
        Kind::RightTooLate => {
            settle(
                own,
                TimeTo::NotReached {
                    observed_for_ns: 15_000_000_000,
                },
            );
            own.judgement = judged(Verdict::Fail, "time to root cause not reached in 15.0 s, limit 12.0 s");
        }
        Kind::Wrong => {
            (own.score, own.judgement, own.first) = (wrong.score, wrong.judgement, wrong.first);
            own.score.detector.clone_from(&own.name);
        }
        Kind::Silent => {
            own.first = None;
            own.judgement = judged(Verdict::Fail, "the right cause is not in the final answer");
            let answer = own.score.answer.as_mut().expect("a fault");
            answer.full.rank = Rank::Absent;
        }
        Kind::Invalid(class) => {
            case.validity = validity(class);
            own.judgement = judged(Verdict::Inconclusive, "the run does not count");
        }
        Kind::Quiet | Kind::Alarmed => {
            case.truth.clear();
            for one in std::iter::once(&mut case.detector).chain(&mut case.rivals) {
                (one.score.arm, one.score.answer, one.first) = (Arm::None, None, None);
                one.score.false_alarms.episodes_ns.clear();
                one.judgement = judged(Verdict::Pass, "0 false alarms, limit 0");
            }
            if matches!(kind, Kind::Alarmed) {
                case.detector.score.false_alarms.episodes_ns.push(1);
                case.detector.first = wrong.first;
                case.detector.judgement = judged(Verdict::Fail, "1 false alarms, limit 0");
            }
        }
    }
}

fn settle(outcome: &mut DetectorOutcome, time: TimeTo) {
    let answer = outcome.score.answer.as_mut().expect("a fault");
    answer.time_to_root_cause = time;
}

fn judged(verdict: Verdict, reason: &str) -> Judgement {
    Judgement::of(vec![Finding {
        verdict,
        reason: reason.to_owned(),
    }])
}

/// What the gate finds of [`suite`] against [`older_suite`].
pub(crate) fn gate_report() -> GateReport {
    let [before, after] = [older_suite(), suite()].map(|suite| Evidence::of(&suite));
    gate(&before, &after, &Settings::default())
}
