//! The script of `ci/action/`, with a made-up `gauntlet`: what it calls, what it leaves, and with which code it ends.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Writes what the real one would, notes how it was called, and ends `replay` and `gate` as it is told.
const GAUNTLET: &str = r#"#!/usr/bin/env bash
echo "$*" >>"$CALLS"
command=$1 out=
while [ $# -gt 0 ]; do [ "$1" != --out ] || out=$2; shift; done
case $command in
  replay) [ "$REPLAY" = 70 ] || echo '{}' >"$out"; exit "$REPLAY" ;;
  gate) [ "$GATE" = 64 ] || echo '{}' >"$out"; exit "$GATE" ;;
  report) echo "report" >"$out" ;;
esac
"#;

struct Ended {
    output: Output,
    calls: String,
    directory: tempfile::TempDir,
}

fn run(replay: i32, gate: i32, arguments: &[&str]) -> Ended {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("gauntlet"), GAUNTLET).expect("written");
    std::fs::set_permissions(at("gauntlet"), PermissionsExt::from_mode(0o755)).expect("made executable");
    let path = std::env::var("PATH").unwrap_or_default();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/action/run");
    let output = Command::new(script.canonicalize().expect("it ships"))
        .args(arguments)
        .current_dir(directory.path())
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .env("CALLS", at("calls"))
        .env("REPLAY", replay.to_string())
        .env("GATE", gate.to_string())
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_STEP_SUMMARY", at("step-summary"))
        .env("GITHUB_OUTPUT", at("outputs"))
        .output()
        .expect("the script starts");
    Ended {
        output,
        calls: std::fs::read_to_string(at("calls")).unwrap_or_default(),
        directory,
    }
}

const USUAL: [&str; 4] = ["--corpus", "my corpus", "--baseline", "b.baseline"];

#[test]
fn it_replays_gates_and_reports_and_ends_as_the_gate_does() {
    // What the replay itself says of the scenarios' limits does not decide: the gate does.
    for (replay, gate) in [(0, 0), (100, 0), (101, 0), (0, 100), (100, 101)] {
        let ended = run(replay, gate, &USUAL);
        assert_eq!(
            ended.output.status.code(),
            Some(gate),
            "{replay} {gate}: {:?}",
            ended.output
        );
        let expected = "\
replay my corpus --out gauntlet-report/suite.json --format human
gate --baseline b.baseline gauntlet-report/suite.json --format json --out gauntlet-report/gate.json
report gauntlet-report/suite.json --gate gauntlet-report/gate.json --format junit --out gauntlet-report/junit.xml
report gauntlet-report/suite.json --gate gauntlet-report/gate.json --format markdown --out gauntlet-report/summary.md
report gauntlet-report/suite.json --gate gauntlet-report/gate.json --format html --out gauntlet-report/report.html
";
        assert_eq!(ended.calls, expected);
        let read = |name: &str| std::fs::read_to_string(ended.directory.path().join(name)).expect("written");
        assert_eq!(read("step-summary"), "report\n");
        assert!(read("outputs").starts_with(&format!("verdict={gate}\njunit=gauntlet-report/junit.xml\n")));
    }
}

#[test]
fn inputs_that_were_left_out_keep_their_defaults_and_a_detector_is_handed_on() {
    let empty = [&USUAL[..], &["--detector", "", "--gauntlet", "", "--out", ""]].concat();
    assert!(
        run(0, 0, &empty)
            .calls
            .starts_with("replay my corpus --out gauntlet-report/suite.json --format human\n")
    );
    let chosen = [&USUAL[..], &["--detector", "./mine", "--out", "o"]].concat();
    let calls = run(0, 0, &chosen).calls;
    assert!(
        calls.starts_with("replay my corpus --out o/suite.json --format human --detector ./mine\n"),
        "{calls}"
    );
}

#[test]
fn a_step_that_breaks_ends_it_with_that_code_and_says_so_on_the_pull_request() {
    for (replay, gate, code, words) in [
        (70, 0, 70, "the replay of my corpus broke"),
        (0, 64, 64, "the gate broke"),
    ] {
        let ended = run(replay, gate, &USUAL);
        assert_eq!(ended.output.status.code(), Some(code), "{:?}", ended.output);
        let out = String::from_utf8_lossy(&ended.output.stdout).into_owned();
        assert!(out.contains("::error title=Gauntlet::") && out.contains(words), "{out}");
        assert!(!ended.calls.contains("report "), "{}", ended.calls);
    }
}

#[test]
fn a_call_that_is_not_understood_is_usage() {
    let cases: [(&[&str], &str); 4] = [
        (&[], "--corpus is missing"),
        (&["--corpus", "c"], "--baseline is missing"),
        (&["--corpus"], "--corpus needs a value"),
        (&["--corpse", "c"], "unknown argument: --corpse"),
    ];
    for (arguments, words) in cases {
        let ended = run(0, 0, arguments);
        assert_eq!(ended.output.status.code(), Some(2), "{arguments:?}");
        assert!(
            String::from_utf8_lossy(&ended.output.stderr).contains(words),
            "{:?}",
            ended.output
        );
        assert_eq!(ended.calls, "");
    }
}
