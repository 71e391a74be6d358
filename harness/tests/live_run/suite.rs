//! A suite of two short runs, killed within the second one and gone on with.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gauntlet_harness::run::event::{RunEvent, TimedEvent};
use serde_json::Value;

use crate::RUN_PATIENCE;
use crate::call::Call;
use crate::play::{gauntlet, is_refused, past_the_lock, turn};
use crate::read_json;
use crate::short::{FAULTS, short_scenario};
use crate::traces::Traces;

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
    let traces = Traces::of(killed.tgid());
    assert!(traces.is_of_a_whole_run(), "{traces:?}");
    killed.kill();
    let first = case_lines(&out);
    assert_eq!(first.len(), 1, "the first run was kept before the second began");

    let mut resumed = past_the_lock(|| start(&suite, &out, files.path()));
    let status = resumed.end(RUN_PATIENCE);
    let said = resumed.said();
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
fn start(suite: &Path, out: &Path, files: &Path) -> Option<Call> {
    let mut command = gauntlet(&["suite", "run", "--format", "json", "--out"]);
    command.arg(out).arg(suite).process_group(0);
    let mut call = Call::start(&mut command, &files.join("stdout"), &files.join("stderr"));
    while !call.said().contains("suite two digest") {
        if is_refused(&mut call) {
            return None;
        }
    }
    Some(call)
}

/// Waits until the fault of the second run is there; its run directory.
fn wait_for_the_second_injection(call: &mut Call, out: &Path) -> PathBuf {
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
        call.go_on(deadline);
    }
}

fn case_lines(out: &Path) -> Vec<String> {
    let text = fs::read_to_string(out.join("cases.jsonl")).expect("it is there");
    text.lines().map(str::to_owned).collect()
}
