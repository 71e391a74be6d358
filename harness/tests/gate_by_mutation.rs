//! The gate's proof by mutation: detectors that were made worse on purpose replay the corpus, and the gate must fail each
//! one that lost accuracy or time there, and pass the one that nobody touched.
//!
//! What a detector lost is reckoned here anew, from its answers and without statistics; no number of right answers is
//! expected. Needs no privileges; needs `gauntlet-detector` beside `gauntlet`, and the example `weakened` of the same
//! profile. Replays the shipped corpus, or the one that `GAUNTLET_CORPUS` names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gauntlet_detector::weakness::Weakness;
use gauntlet_harness::check::validity::Class;
use gauntlet_harness::corpus::CORPUS;
use gauntlet_harness::gate::limits::{FALL_FROM, FALL_TO, FALL_TRIALS_MIN, Limit};
use gauntlet_harness::gate::measure::{ACCURACY_MARGIN, FALSE_ALARM_MARGIN_PER_HOUR, Metric, TIME_MARGIN};
use gauntlet_harness::gate::report::GateReport;
use gauntlet_harness::scenario::model::Arm;
use gauntlet_harness::score::moments::TimeTo;
use gauntlet_harness::score::verdict::Verdict;
use gauntlet_harness::suite::outcome::{CaseResult, SuiteResult};

/// The name of no weakness.
const NONE: &str = "none";
/// So many detectors at least must be worse, or the corpus is too easy to prove anything.
const FAILED_MIN: usize = 8;
/// The gate's exit codes.
const PASSED: i32 = 0;
const FAILED: i32 = 100;
const UNDECIDED: i32 = 101;

#[test]
fn the_gate_fails_whoever_lost_and_passes_who_did_not() {
    let bench = Bench::new();
    let sound = bench.replay("sound", None);
    bench.save_baseline(&sound);
    let weaknesses = Weakness::ALL.iter().map(|weakness| weakness.name());
    let judged: Vec<Judged> = std::iter::once(NONE)
        .chain(weaknesses)
        .map(|name| bench.judge(name, &sound))
        .collect();
    let table = table(&sound, &judged);
    // Not `print!`, which a passing test keeps to itself: the table is what the proof is made of.
    std::io::stderr().write_all(table.as_bytes()).expect("a standard error");

    let failed = judged.iter().filter(|one| one.code == FAILED).count();
    assert!(failed >= FAILED_MIN, "{failed} of {} failed\n{table}", judged.len() - 1);
    for one in &judged {
        let name = &one.replayed.name;
        if name == NONE {
            assert_eq!(
                one.code, PASSED,
                "nobody touched {name}: {:?}\n{table}",
                one.report.reasons
            );
            assert!(one.report.flips.is_empty(), "{name}: {:?}", one.report.flips);
        }
        let lost = |metric: Metric| one.lost.contains(&metric.name());
        if lost(Metric::Accuracy) || lost(Metric::TimeToRootCause) {
            assert_eq!(one.code, FAILED, "{name}: {:?}\n{table}", one.report.reasons);
        }
        if one.lost.is_empty() {
            assert_ne!(
                one.code, FAILED,
                "{name} lost nothing: {:?}\n{table}",
                one.report.reasons
            );
        }
    }
}

/// The programs, the corpus, and where results are kept.
struct Bench {
    corpus: PathBuf,
    weakened: PathBuf,
    files: tempfile::TempDir,
}

/// A detector's replay of the corpus.
struct Replayed {
    name: String,
    result: PathBuf,
    worth: Worth,
    took: Duration,
}

/// What the gate says of one.
struct Judged {
    replayed: Replayed,
    /// In what it lost more than the gate's margins, whether by chance or not.
    lost: Vec<&'static str>,
    code: i32,
    report: GateReport,
    took: Duration,
}

impl Bench {
    fn new() -> Self {
        let gauntlet = Path::new(env!("CARGO_BIN_EXE_gauntlet"));
        let weakened = gauntlet.with_file_name("examples").join("weakened");
        assert!(
            weakened.is_file(),
            "{} is missing; `cargo build -p gauntlet-detector --example weakened` makes it (with `--release` if this test \
             is run so)",
            weakened.display()
        );
        let shipped = || Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CORPUS);
        Self {
            corpus: std::env::var_os("GAUNTLET_CORPUS").map_or_else(shipped, PathBuf::from),
            weakened,
            files: tempfile::tempdir().expect("a directory"),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn baseline(&self) -> PathBuf {
        self.file("sound.baseline.yaml")
    }

    /// Replays the corpus with the shipped detector, or with a weakness.
    fn replay(&self, name: &str, weakness: Option<&str>) -> Replayed {
        let result = self.file(&format!("{name}.suite.json"));
        let mut command = gauntlet();
        command.arg("replay").arg(&self.corpus).arg("--out").arg(&result);
        if let Some(weakness) = weakness {
            let detector = format!("exec:'{}' --weakness {weakness}", self.weakened.display());
            command.arg("--detector").arg(detector);
        }
        let began = Instant::now();
        let output = command.output().expect("the program starts");
        let took = began.elapsed();
        let code = output.status.code();
        // That some recording's limits are not met is the gate's to judge.
        assert!(matches!(code, Some(PASSED | FAILED | UNDECIDED)), "{name}: {output:?}");
        let suite: SuiteResult = serde_json::from_slice(&read(&result)).expect("a suite's result");
        let failure = suite.cases.iter().find_map(|case| case.detector.failure.as_ref());
        assert_eq!(failure, None, "{name} was to be worse, not to break");
        Replayed {
            name: name.to_owned(),
            worth: Worth::of(&suite),
            result,
            took,
        }
    }

    fn save_baseline(&self, sound: &Replayed) {
        let mut command = gauntlet();
        command.args(["baseline", "save"]).arg(&sound.result);
        let output = command.arg("--out").arg(self.baseline()).output();
        assert_eq!(code_of(output.expect("the program starts")), PASSED);
    }

    fn judge(&self, name: &str, sound: &Replayed) -> Judged {
        let replayed = self.replay(name, Some(name));
        let report = self.file(&format!("{name}.gate.json"));
        let mut command = gauntlet();
        command
            .arg("gate")
            .arg("--baseline")
            .arg(self.baseline())
            .arg(&replayed.result);
        let began = Instant::now();
        let output = command.args(["--format", "json", "--out"]).arg(&report).output();
        let took = began.elapsed();
        Judged {
            lost: replayed.worth.lost(&sound.worth),
            code: code_of(output.expect("the program starts")),
            report: serde_json::from_slice(&read(&report)).expect("a gate's report"),
            replayed,
            took,
        }
    }
}

impl Judged {
    /// By which metrics the gate failed it, or what else it says.
    fn answer(&self) -> String {
        let failing = self.report.metrics.iter().filter(|one| one.verdict == Verdict::Fail);
        let mut by: Vec<&str> = failing.map(|one| one.metric.name()).collect();
        let limits = self.report.limits.iter().filter(|one| one.verdict == Verdict::Fail);
        by.extend(limits.map(|one| one.limit.name()));
        match self.code {
            PASSED => "PASS".to_owned(),
            FAILED => format!("FAIL by {}", by.join(", ")),
            UNDECIDED => "INCONCLUSIVE".to_owned(),
            other => format!("exit code {other}"),
        }
    }
}

/// What the answers of a replay are worth. Means are over scenarios, each weighing the same.
struct Worth {
    /// Runs with the right answer at the end, and all with a cause to name.
    right: usize,
    asked: usize,
    /// AC@1 of each scenario that was tried often enough to fall.
    scenarios: BTreeMap<String, f64>,
    /// Mean of AC@1 over all scenarios.
    accuracy: f64,
    /// Geometric means in seconds; times that were not reached count as long as was watched.
    ttrc_s: f64,
    ttd_s: f64,
    false_alarms: usize,
    fault_free_h: f64,
}

impl Worth {
    fn of(suite: &SuiteResult) -> Self {
        let counts = |case: &&CaseResult| case.validity.class == Class::Valid;
        let mut scenarios: BTreeMap<String, Vec<[f64; 3]>> = BTreeMap::new();
        let (mut right, mut asked, mut false_alarms, mut fault_free_h) = (0, 0, 0, 0.0);
        for case in suite.cases.iter().filter(counts) {
            let score = &case.detector.score;
            if score.arm != Arm::Surge {
                false_alarms += score.false_alarms.episodes_ns.len();
                fault_free_h += score.false_alarms.fault_free_ns as f64 / 3.6e12;
            }
            if let (Arm::Fault, Some(answer)) = (score.arm, &score.answer) {
                asked += 1;
                right += usize::from(answer.correct_at_end());
                let times = [answer.time_to_root_cause, answer.time_to_detect].map(|time| seconds(time).ln());
                let scenario = scenarios.entry(case.scenario.clone()).or_default();
                scenario.push([answer.full.ac_at[0], times[0], times[1]]);
            }
        }
        let of_scenario = |cases: &Vec<[f64; 3]>, index: usize| mean(cases.iter().map(|case| case[index]));
        let mean_of = |index: usize| mean(scenarios.values().map(|cases| of_scenario(cases, index)));
        Self {
            right,
            asked,
            accuracy: mean_of(0),
            ttrc_s: mean_of(1).exp(),
            ttd_s: mean_of(2).exp(),
            scenarios: scenarios
                .iter()
                .filter(|(_, cases)| cases.len() >= FALL_TRIALS_MIN)
                .map(|(name, cases)| (name.clone(), of_scenario(cases, 0)))
                .collect(),
            false_alarms,
            fault_free_h,
        }
    }

    fn false_alarms_per_hour(&self) -> f64 {
        self.false_alarms as f64 / self.fault_free_h
    }

    /// In what it is worse than `sound` by more than the gate's margins.
    fn lost(&self, sound: &Self) -> Vec<&'static str> {
        let alarms = self.false_alarms_per_hour() - sound.false_alarms_per_hour();
        let fell = |(name, share): (&String, &f64)| sound.scenarios[name] >= FALL_FROM && *share <= FALL_TO;
        let losses = [
            (
                Metric::Accuracy.name(),
                self.accuracy - sound.accuracy < ACCURACY_MARGIN,
            ),
            (Metric::TimeToRootCause.name(), self.ttrc_s / sound.ttrc_s > TIME_MARGIN),
            (Metric::TimeToDetect.name(), self.ttd_s / sound.ttd_s > TIME_MARGIN),
            (Metric::FalseAlarms.name(), alarms > FALSE_ALARM_MARGIN_PER_HOUR),
            (Limit::ScenarioFall.name(), self.scenarios.iter().any(fell)),
        ];
        let lost = losses.into_iter().filter(|(_, lost)| *lost);
        lost.map(|(name, _)| name).collect()
    }
}

/// A time as the gate counts it: cut where watching ended, and none shorter than a frame of 200 ms.
fn seconds(time: TimeTo) -> f64 {
    let (TimeTo::Reached { after_ns: ns } | TimeTo::NotReached { observed_for_ns: ns }) = time;
    (ns as f64 / 1e9).max(0.2)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    sum / count
}

fn table(sound: &Replayed, judged: &[Judged]) -> String {
    let mut text = format!(
        "\n{:<20} {:>9} {:>6} {:>7} {:>7} {:>8} {:>7} {:>6}  {}\n",
        "weakness", "right", "AC@1", "TTRC", "TTD", "alarms/h", "replay", "gate", "the gate's answer; what was lost"
    );
    let mut row = |replayed: &Replayed, gate: Option<&Judged>| {
        let worth = &replayed.worth;
        let right = format!("{}/{}", worth.right, worth.asked);
        write!(
            text,
            "{:<20} {right:>9} {:>6.3} {:>5.2} s {:>5.2} s {:>8.1} {:>5.1} s",
            replayed.name,
            worth.accuracy,
            worth.ttrc_s,
            worth.ttd_s,
            worth.false_alarms_per_hour(),
            replayed.took.as_secs_f64(),
        )
        .expect("a string takes everything");
        let Some(one) = gate else {
            text.push_str("         the baseline\n");
            return;
        };
        let lost = if one.lost.is_empty() {
            "nothing".to_owned()
        } else {
            one.lost.join(", ")
        };
        let (took_s, answer) = (one.took.as_secs_f64(), one.answer());
        writeln!(text, " {took_s:>4.1} s  {answer}; {lost}").expect("a string takes everything");
    };
    row(sound, None);
    judged.iter().for_each(|one| row(&one.replayed, Some(one)));
    text
}

fn gauntlet() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gauntlet"))
}

fn code_of(output: Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
