//! Suites over recordings by the built program: which recording answers which case, and that a suite that is killed at any
//! moment ends as one that is not. Needs no privileges; needs `gauntlet-detector` beside `gauntlet`
//! (`cargo build -p gauntlet-detector`).

mod answer;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gauntlet_harness::plan::Seed;
use gauntlet_harness::recording::{Recording, seal};
use gauntlet_harness::suite::outcome::{Mode, SuiteResult};
use serde_json::Value;
use tempfile::TempDir;

use answer::Answer;

const FAULT: &str = "cache-network-misconfig";
const CONTROL: &str = "none";
/// Longest wait for what takes less than a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// A user without privileges.
const NOBODY: u32 = 65_534;
/// Trials of the suite that is killed.
const TRIALS: u32 = 4;
/// Its cases: a fault and a control.
const CASES: usize = 2 * TRIALS as usize;

/// A directory with a corpus, suites, and a slow detector.
struct Place(TempDir);

impl Place {
    /// The corpus has recordings of both scenarios under these seeds.
    fn new(seeds: &[u64]) -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(place.at("corpus")).expect("a directory");
        for scenario in [FAULT, CONTROL] {
            seeds.iter().for_each(|seed| place.record(scenario, *seed, |_| ()));
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A recording of a real run, under another seed, and with other changes to its evidence.
    fn record(&self, scenario: &str, seed: u64, change: impl Fn(&mut gauntlet_harness::recording::Evidence)) {
        let fixture = format!("tests/fixtures/recordings/{scenario}-s11.gauntlet");
        let file = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture)).expect("a fixture");
        let recording = Recording::parse(&file).expect("whole");
        let mut evidence = recording.evidence.clone();
        evidence.plan.seed = Seed(seed);
        change(&mut evidence);
        let sealed = seal(&evidence, recording.frames()).expect("sealed");
        fs::write(self.at("corpus").join(format!("{scenario}-s{seed}.gauntlet")), sealed).expect("written");
    }

    /// A suite of both scenarios with seeds from 1 on.
    fn suite(&self, trials: u32) -> String {
        let text = format!(
            "\
apiVersion: gauntlet/v1
kind: Suite
metadata: {{name: small, title: A fault and a control}}
spec:
  scenarios: [{{name: {FAULT}}}, {{name: {CONTROL}}}]
  trials: {trials}
"
        );
        let path = self.at("small.yaml");
        fs::write(&path, text).expect("written");
        shown(&path)
    }

    /// Our detector, two tenths of a second late, which counts how often it is asked.
    fn slow_detector(&self) -> String {
        let ours = Path::new(env!("CARGO_BIN_EXE_gauntlet")).with_file_name("gauntlet-detector");
        let script = format!(
            "#!/bin/sh\necho asked >> {}\nsleep 0.2\nexec {} \"$@\"\n",
            shown(&self.at("asked")),
            shown(&ours)
        );
        let path = self.at("slow-detector");
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made a program");
        shown(&path)
    }

    /// `gauntlet suite run SUITE --replay CORPUS --out OUT`.
    fn command(&self, suite: &str, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
        command
            .args(["suite", "run", suite, "--replay"])
            .arg(self.at("corpus"))
            .arg("--out")
            .arg(self.at(out))
            .args(more);
        command
    }

    fn run(&self, suite: &str, out: &str, more: &[&str]) -> Answer {
        let mut command = self.command(suite, out, more);
        command.output().expect("the program starts").into()
    }

    fn result_text(&self, out: &str) -> String {
        fs::read_to_string(self.at(out).join("suite.json")).expect("a result")
    }

    fn result(&self, out: &str) -> SuiteResult {
        serde_json::from_str(&self.result_text(out)).expect("a suite result")
    }

    /// Whole lines of a file of `out`.
    fn line_count(&self, file: &str) -> usize {
        fs::read_to_string(self.at(file)).map_or(0, |text| text.matches('\n').count())
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Scenario, trial and seed of each case.
fn cases(result: &SuiteResult) -> Vec<(&str, u32, u64)> {
    let cases = result.cases.iter();
    cases
        .map(|case| (case.scenario.as_str(), case.trial, case.seed.0))
        .collect()
}

/// Waits for `until`, and says whether it came while `child` lived.
fn came(child: &mut Child, until: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !until() {
        assert!(began.elapsed() < PATIENCE, "it takes too long");
        if child.try_wait().expect("it is ours").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

#[test]
fn a_suite_that_is_killed_at_any_moment_ends_as_one_that_is_not() {
    let seeds: Vec<u64> = (1..=u64::from(TRIALS)).collect();
    let place = Place::new(&seeds);
    let (suite, detector) = (place.suite(TRIALS), place.slow_detector());
    let with_detector = ["--detector", detector.as_str()];
    let whole = place.run(&suite, "whole", &with_detector);
    assert_eq!(whole.code, 0, "{whole:?}");
    assert_eq!(place.result("whole").cases.len(), CASES);
    let ahead = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);

    for after in [0, 1, 3, 5] {
        let out = format!("killed-{after}");
        let cases_file = format!("{out}/cases.jsonl");
        fs::remove_file(place.at("asked")).expect("it was asked before");
        let mut command = place.command(&suite, &out, &with_detector);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let is_time = || place.at("asked").exists() && place.line_count(&cases_file) >= after;
        assert!(came(&mut child, is_time), "it ended before it could be killed");
        child.kill().expect("killed");
        let status = child.wait().expect("it is ours");
        assert_eq!(status.signal(), Some(9), "it ended before it was killed: {status}");
        let kept = place.line_count(&cases_file);
        assert!((after..CASES).contains(&kept), "killed after {kept} of {CASES}");
        assert!(!place.at(&out).join("suite.json").exists(), "there is no result yet");

        let resumed = place.run(&suite, &out, &[&with_detector[..], &["--resume"]].concat());
        assert_eq!(resumed.code, 0, "{resumed:?}");
        if kept > 0 {
            let said = format!("resumed: {kept} of {CASES} cases have ended");
            assert!(resumed.err.contains(&said), "`{said}`: {resumed:?}");
        }
        assert!(
            place.result_text(&out) == place.result_text("whole"),
            "killed after {kept}: not the same to the byte"
        );
        let asked = place.line_count("asked");
        assert!(
            (CASES..=CASES + ahead).contains(&asked),
            "what ended was asked again: {asked} questions for {CASES} cases, {ahead} at a time"
        );
    }
}

#[test]
fn a_line_that_the_kill_cut_short_is_a_case_that_has_not_ended() {
    let place = Place::new(&[1, 2]);
    let suite = place.suite(2);
    assert_eq!(place.run(&suite, "whole", &[]).code, 0);
    assert_eq!(place.run(&suite, "cut", &[]).code, 0);
    let path = place.at("cut").join("cases.jsonl");
    let lines = fs::read(&path).expect("lines");
    fs::write(&path, &lines[..lines.len() - 100]).expect("written");
    fs::remove_file(place.at("cut").join("suite.json")).expect("it was there");
    let resumed = place.run(&suite, "cut", &["--resume"]);
    assert!(resumed.err.contains("resumed: 3 of 4 cases"), "{resumed:?}");
    assert!(place.result_text("cut") == place.result_text("whole"));
}

#[test]
fn ctrl_c_ends_it_with_what_has_ended_and_blames_no_detector() {
    let place = Place::new(&[1, 2]);
    let (suite, detector) = (place.suite(2), place.slow_detector());
    let more = ["--detector", detector.as_str()];
    let mut command = place.command(&suite, "out", &more);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    assert!(came(&mut child, || place.line_count("out/cases.jsonl") >= 1));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("told");
    let status = child.wait().expect("it is ours");
    assert_eq!(status.code(), Some(130), "{status}");
    let result = place.result("out");
    assert!((1..4).contains(&result.cases.len()), "{}", result.cases.len());
    assert!(result.cases.iter().all(|case| case.detector.failure.is_none()));
    assert_eq!(place.run(&suite, "out", &more).code, 0);
    assert_eq!(place.result("out").cases.len(), 4);
}

#[test]
fn a_case_takes_the_recording_of_its_seed_or_else_the_next_one() {
    let place = Place::new(&[2, 30, 41]);
    // Seeds 1, 2, 3: the second trial finds its own; the others take what is left, by seed.
    let run = place.run(&place.suite(3), "out", &["--format", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let result = place.result("out");
    assert_eq!((result.mode, result.suite.as_str()), (Mode::Replay, "small"));
    assert_eq!(
        cases(&result),
        [
            (FAULT, 1, 30),
            (CONTROL, 1, 30),
            (FAULT, 2, 2),
            (CONTROL, 2, 2),
            (FAULT, 3, 41),
            (CONTROL, 3, 41)
        ]
    );
    let mut recordings: Vec<_> = result.cases.iter().map(|case| case.recording.clone()).collect();
    recordings.sort();
    recordings.dedup();
    assert_eq!(recordings.len(), 6, "no recording answers twice");
    let last: Value = serde_json::from_str(run.out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["cases"][0]["rank"], 1.0, "{last}");
}

#[test]
fn a_suite_without_enough_recordings_does_not_begin() {
    let place = Place::new(&[1, 2]);
    place.record(CONTROL, 3, |_| ());
    place.record(FAULT, 3, |evidence| evidence.residue.push("a rule".to_owned()));
    let suite = place.suite(3);
    let refused = place.run(&suite, "out", &[]);
    assert_eq!(refused.code, 64, "{refused:?}");
    let lack = format!("{FAULT}: recordings wanted: 3, there: 2, there of runs that do not count: 1");
    assert!(refused.err.contains(&lack), "{refused:?}");
    assert!(!refused.err.contains("none:"), "it has enough: {refused:?}");
    assert!(!place.at("out").exists(), "nothing was begun");
    let deselected = place.run(&suite, "out", &["--scenario", CONTROL]);
    assert_eq!(deselected.code, 0, "{deselected:?}");
    assert_eq!(place.result("out").cases.len(), 3);
}

#[test]
fn a_directory_goes_on_with_the_same_recordings_only() {
    let place = Place::new(&[1, 2]);
    let suite = place.suite(1);
    assert_eq!(place.run(&suite, "out", &[]).code, 0);
    place.record(FAULT, 1, |evidence| evidence.degraded.push("told since".to_owned()));
    let other = place.run(&suite, "out", &[]);
    assert_eq!(other.code, 64, "{other:?}");
    assert!(other.err.contains("was begun with another suite"), "{other:?}");
}

#[test]
fn a_scenario_that_changed_since_is_judged_as_it_was_and_told() {
    let place = Place::new(&[1]);
    let suite = place.suite(1);
    let same = place.run(&suite, "same", &[]);
    assert!(!same.err.contains("changed since"), "{same:?}");
    place.record(FAULT, 1, |evidence| {
        let labels = &mut evidence.plan.scenario.labels;
        labels.insert("story".to_owned(), "old".to_owned());
    });
    let changed = place.run(&suite, "changed", &[]);
    assert_eq!(changed.code, 0, "{changed:?}");
    let told = format!("changed since it was recorded, and judged as it was then: {FAULT}\n");
    assert!(changed.err.contains(&told), "{changed:?}");
    assert_eq!(place.result("changed").cases[0].labels["story"], "old");
}

#[test]
fn it_needs_no_privileges() {
    let place = Place::new(&[1]);
    let suite = place.suite(1);
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o777)).expect("opened");
    // That user may not be able to pass through the directories above the programs.
    let built = Path::new(env!("CARGO_BIN_EXE_gauntlet"));
    for name in ["gauntlet", "gauntlet-detector"] {
        fs::copy(built.with_file_name(name), place.at(name)).expect("built");
    }
    let asked = place.command(&suite, "out", &[]);
    let mut command = Command::new(place.at("gauntlet"));
    command.args(asked.get_args());
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let run: Answer = command.output().expect("the program starts").into();
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(place.result("out").cases.len(), 2);
}

#[test]
fn shards_over_the_same_recordings_make_the_whole_result() {
    let place = Place::new(&[1, 2]);
    let suite = place.suite(2);
    assert_eq!(place.run(&suite, "whole", &[]).code, 0);
    for shard in ["1/2", "2/2"] {
        let run = place.run(&suite, &shard[..1], &["--shard", shard]);
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(place.result(&shard[..1]).cases.len(), 2);
    }
    let mut merge = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
    merge.args(["suite", "merge"]).args([place.at("1"), place.at("2")]);
    let merged = Answer::from(merge.arg("--out").arg(place.at("merged")).output().expect("it starts"));
    assert_eq!(merged.code, 0, "{merged:?}");
    assert!(place.result_text("merged") == place.result_text("whole"));
}

#[test]
fn its_reports_lie_beside_its_result() {
    let place = Place::new(&[1]);
    let run = place.run(&place.suite(1), "out", &[]);
    assert_eq!(run.code, 0, "{run:?}");
    let page = fs::canonicalize(place.at("out"))
        .expect("a directory")
        .join("report.html");
    assert!(run.out.contains(&shown(&page)), "{run:?}");
    let read = |name: &str| fs::read_to_string(place.at("out").join(name)).expect("a report");
    let (html, markdown) = (read("report.html"), read("summary.md"));
    assert!(html.contains(FAULT) && markdown.contains(FAULT));
    assert!(read("junit.xml").contains("<testsuite"));
    let again = Command::new(env!("CARGO_BIN_EXE_gauntlet"))
        .arg("report")
        .arg(place.at("out"))
        .output();
    assert_eq!(Answer::from(again.expect("it starts")).code, 0);
    assert!(read("report.html") == html, "made again, they are the same");
}

#[test]
fn a_detector_that_asks_for_frames_answers_the_cases() {
    let place = Place::new(&[1]);
    let suite = place.suite(1);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../detector/examples/threshold.py");
    let detector = format!("exec:python3 '{}'", shown(&example));
    let run = place.run(&suite, "out", &["--detector", &detector]);
    // It names the place and not the mechanism.
    assert_eq!(run.code, 100, "{run:?}");
    let result = place.result("out");
    let detectors: Vec<_> = result.cases.iter().map(|case| &case.detector).collect();
    assert!(detectors.iter().all(|one| one.failure.is_none()), "{detectors:?}");
    assert!(detectors[0].score.answer.as_ref().expect("a fault").detected());
    assert!(detectors[1].score.false_alarms.episodes_ns.is_empty());
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let place = Place::new(&[1]);
    let suite = place.suite(1);
    for detectors in [
        &["--detector", "mine=/bin/sh"][..],
        &["--detector", "/bin/sh", "--detector", "gauntlet"],
    ] {
        let refused = place.run(&suite, "out", detectors);
        assert_eq!(refused.code, 64, "{detectors:?}: {refused:?}");
        assert!(refused.err.contains("there is one detector"), "{refused:?}");
    }
    let missing = place.run(&suite, "out", &["--detector", "no-such-program"]);
    assert_eq!(missing.code, 69, "{missing:?}");
    let usage = place.run(&suite, "out", &["--no-lock"]);
    assert_eq!(usage.code, 2, "{usage:?}");
}
