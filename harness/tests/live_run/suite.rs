//! A suite of two short runs, killed within the second one and gone on with.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use gauntlet_harness::run::event::{RunEvent, TimedEvent};
use serde_json::Value;

use crate::RUN_PATIENCE;
use crate::play::{FAULTS, gauntlet, past_the_lock, short_scenario, turn};
use crate::read_json;
use crate::traces::Traces;

/// Exit code of a suite that may not start.
const CANNOT_HERE: i32 = 69;

#[test]
fn a_killed_suite_is_gone_on_with() {
    let Some(_turn) = turn() else { return };
    let files = tempfile::tempdir().expect("a directory");
    let (filter, pause) = (&FAULTS[0], &FAULTS[2]);
    for fault in [filter, pause] {
        short_scenario(files.path(), fault);
    }
    let suite = files.path().join("suite.yaml");
    let text = "\
apiVersion: gauntlet/v1
kind: Suite
metadata: {name: two, title: Two short runs}
spec: {scenarios: [{name: ./short-filter.yaml}, {name: ./short-pause.yaml}], seed: 4}
";
    fs::write(&suite, text).expect("written");
    let out = files.path().join("out");
    let mut killed = past_the_lock(|| start(&suite, &out, files.path()));
    let second = wait_for_the_second_injection(&mut killed, &out);
    let traces = Traces::of(i32::try_from(killed.id()).expect("a process id"));
    assert!(traces.is_of_a_whole_run(), "{traces:?}");
    killed.kill().expect("it is our child");
    killed.wait().expect("it is our child");
    let first = case_lines(&out);
    assert_eq!(first.len(), 1, "the first run was kept before the second began");

    let mut resumed = past_the_lock(|| start(&suite, &out, files.path()));
    let status = end(&mut resumed, RUN_PATIENCE);
    let said = fs::read_to_string(files.path().join("stderr")).expect("its file");
    assert!(said.contains("resumed: 1 of 2 cases have ended"), "{said}");
    assert_eq!(traces.remains(Duration::ZERO), Vec::<String>::new(), "{said}");
    let lines = case_lines(&out);
    assert_eq!(
        (lines.len(), &lines[0]),
        (2, &first[0]),
        "the first run was not made again"
    );
    let result = read_json(&out.join("suite.json"));
    assert_eq!(result["plannedCount"], 2, "{result}");
    let cases = result["cases"].as_array().expect("a list");
    let seeds: Vec<_> = cases
        .iter()
        .map(|case| (&case["scenario"], &case["seed"], &case["validity"]["class"]))
        .collect();
    eprintln!("{seeds:?}, exit {status}");
    let place = |case: &Value| out.join(case["directory"].as_str().expect("it has one"));
    assert_eq!(cases.len(), 2, "{result}");
    assert_ne!(place(&cases[1]), second, "the killed run is not the one that counts");
    for case in cases {
        assert_eq!(case["validity"]["class"], "VALID", "{case}");
        assert!(place(case).join("result.json").is_file(), "{case}");
        assert!(
            case["recording"].as_str().is_some_and(|digest| digest.len() == 64),
            "{case}"
        );
    }
    assert_eq!(
        result["detector"]
            .as_str()
            .map(|name| name.starts_with("gauntlet-detector ")),
        Some(true)
    );
    assert_eq!(status.code(), Some(0), "{said}");
}

/// Starts the suite; `None`: another run has the lock.
fn start(suite: &Path, out: &Path, files: &Path) -> Option<Child> {
    let mut command = gauntlet(&["suite", "run", "--format", "json", "--out"]);
    command.arg(out).arg(suite).process_group(0);
    command.stdout(File::create(files.join("stdout")).expect("a file"));
    command.stderr(File::create(files.join("stderr")).expect("a file"));
    let mut child = command.spawn().expect("the program starts");
    loop {
        let said = fs::read_to_string(files.join("stderr")).expect("its file");
        if said.contains("suite two digest") {
            return Some(child);
        }
        if let Some(status) = child.try_wait().expect("it is our child") {
            assert_eq!(status.code(), Some(CANNOT_HERE), "{said}");
            assert!(said.contains("another live run holds"), "{said}");
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the fault of the second run is there; its run directory.
fn wait_for_the_second_injection(child: &mut Child, out: &Path) -> PathBuf {
    let deadline = Instant::now() + RUN_PATIENCE;
    loop {
        let runs = fs::read_dir(out.join("runs")).into_iter().flatten().flatten();
        let mut runs: Vec<PathBuf> = runs.map(|entry| entry.path()).collect();
        runs.sort();
        if let Some(second) = runs.get(1) {
            let history = fs::read_to_string(second.join("history.jsonl")).unwrap_or_default();
            let is_proof = |line: &str| {
                serde_json::from_str::<TimedEvent>(line)
                    .is_ok_and(|timed| matches!(timed.event, RunEvent::EffectProven { .. }))
            };
            if history.lines().any(is_proof) {
                return second.clone();
            }
        }
        assert!(child.try_wait().expect("it is our child").is_none(), "it ended before");
        assert!(Instant::now() < deadline, "the second run never got there");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn case_lines(out: &Path) -> Vec<String> {
    let text = fs::read_to_string(out.join("cases.jsonl")).expect("it is there");
    text.lines().map(str::to_owned).collect()
}

fn end(child: &mut Child, patience: Duration) -> ExitStatus {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return status;
        }
        assert!(Instant::now() < deadline, "it did not end within {patience:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
