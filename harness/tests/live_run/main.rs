//! Whole runs of the built program on this kernel: a result with all its evidence, and nothing left however it ends.
//!
//! Needs root; skips with the reason otherwise. A run of somebody else on the machine is waited for. `GAUNTLET_KILLS=20`
//! kills twenty runs instead of three.

mod alerts;
#[path = "../call/mod.rs"]
mod call;
#[path = "../daemon/mod.rs"]
mod daemon;
mod play;
#[path = "../short/mod.rs"]
mod short;
mod suite;
mod traces;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use gauntlet_harness::fault::journal::{Journal, JournalLine};
use gauntlet_harness::residue;
use gauntlet_harness::run::event::{Phase, RunEvent};
use gauntlet_harness::run::lock::{LOCK_PATH, LockError, RunLock};
use nix::sys::signal::Signal;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use play::{Play, gauntlet, past_the_lock, turn};
use short::{FAULTS, short_scenario};
use traces::Traces;

/// Longest run of this file, with room for a busy machine.
const RUN_PATIENCE: Duration = Duration::from_secs(120);
/// When a run is killed: at most this long after the beginning of the phase. The undo comes at the end of the fault phase,
/// and the cluster's removal after that of the recovery.
const KILLED_IN: [(Phase, Duration); 4] = [
    (Phase::Fault, Duration::from_secs(9)),
    (Phase::Start, Duration::from_secs(4)),
    (Phase::Recovery, Duration::from_millis(1500)),
    (Phase::Baseline, Duration::from_secs(3)),
];
/// The warden of a killed run removes its cluster by itself; `recover` does not wait for wardens that live.
const WARDEN_PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn the_seed_scenario_is_solved_and_its_directory_is_whole() {
    let Some(_turn) = turn() else { return };
    let mut play = Play::start(&["cache-network-misconfig", "--seed", "3"]);
    play.wait_for(RUN_PATIENCE, |event| matches!(event, RunEvent::EffectProven { .. }));
    let traces = Traces::of(play.tgid());
    assert!(traces.is_of_a_whole_run(), "{traces:?}");
    let status = play.end(RUN_PATIENCE);
    let answer = play.answer();
    let run = &answer["runs"][0];
    eprintln!(
        "TTD {} s, TTRC {} s, {}",
        run["ttdSeconds"],
        run["ttrcSeconds"],
        traces.counts()
    );
    assert_eq!(run["validity"], "VALID", "{run}");
    assert_eq!(run["verdict"], "pass", "{run}");
    assert_eq!(run["rank"], 1.0, "{run}");
    assert_eq!(run["exactPods"], true, "{run}");
    assert_eq!(run["answer"]["mechanism"], "network.filter", "{run}");
    assert_eq!(
        (status.code(), &answer["exit"], &run["seed"]),
        (Some(0), &json!(0), &json!(3)),
        "{answer}"
    );
    let directory = play.directory().expect("a run directory");
    assert_eq!(
        run["directory"],
        directory.canonicalize().expect("it exists").display().to_string()
    );
    let files = [
        "plan.json",
        "environment.json",
        "journal.jsonl",
        "history.jsonl",
        "recording.gauntlet",
        "result.json",
        "report.html",
        "junit.xml",
    ];
    for file in files {
        let length = fs::metadata(directory.join(file)).map(|metadata| metadata.len());
        assert!(length.as_ref().is_ok_and(|length| *length > 0), "{file}: {length:?}");
    }
    let affected = pods_of(&read_json(&directory.join("plan.json"))["steps"][0]);
    assert_eq!(affected.len(), 2);
    assert_eq!(
        pods_of(&run["answer"]),
        affected,
        "exactly the pods that the plan chose"
    );
    assert_undone(&directory);
    assert_eq!(traces.remains(Duration::ZERO), Vec::<String>::new());
}

#[test]
fn an_interrupt_in_the_fault_phase_recovers_everything() {
    let Some(_turn) = turn() else { return };
    let files = tempfile::tempdir().expect("a directory");
    let scenario = short_scenario(files.path(), &FAULTS[0]);
    let host = residue::host_snapshot("none of ours");
    let mut play = Play::start(&[&scenario.display().to_string(), "--seed", "1"]);
    play.wait_for(RUN_PATIENCE, |event| matches!(event, RunEvent::EffectProven { .. }));
    let traces = Traces::of(play.tgid());
    assert!(traces.is_of_a_whole_run(), "{traces:?}");
    play.signal_group(Signal::SIGINT);
    let status = play.end(Duration::from_secs(20));
    assert_eq!(status.code(), Some(130), "{}", play.stderr());
    assert!(
        play.stderr().contains("interrupted; everything injected was recovered"),
        "{}",
        play.stderr()
    );
    assert_eq!(play.answer()["exit"], 130);
    assert_undone(&play.directory().expect("a run directory"));
    assert_eq!(traces.remains(Duration::ZERO), Vec::<String>::new());
    let differences = residue::diff(&host, &residue::host_snapshot("none of ours"));
    assert_eq!(differences, Vec::new(), "the host is as before");
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_that_recover_does_not_undo() {
    let Some(_turn) = turn() else { return };
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u32>().expect("a number"))
    };
    let (kills, seed) = (
        number("GAUNTLET_KILLS").unwrap_or(3),
        number("GAUNTLET_KILLS_SEED").unwrap_or(1),
    );
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(seed));
    let mut alive = 0;
    for kill in 0..kills {
        // Four phases and five faults: twenty kills meet each fault in each phase.
        let (phase, within) = KILLED_IN[kill as usize % KILLED_IN.len()];
        alive += u32::from(kill_and_recover(kill, phase, within.mul_f64(rng.random::<f64>())));
    }
    eprintln!("{alive} of {kills} runs were killed, the others had ended before; nothing is left of any");
    assert!(alive * 2 > kills, "too few were killed to say anything");
}

/// Whether there was anything to kill.
fn kill_and_recover(kill: u32, phase: Phase, after: Duration) -> bool {
    let files = tempfile::tempdir().expect("a directory");
    let fault = &FAULTS[kill as usize % FAULTS.len()];
    let scenario = short_scenario(files.path(), fault);
    let mut play = Play::start(&[&scenario.display().to_string(), "--seed", &kill.to_string()]);
    play.wait_for(
        RUN_PATIENCE,
        |event| matches!(event, RunEvent::PhaseBegan { phase: begun, .. } if *begun == phase),
    );
    std::thread::sleep(after);
    let ended = play.has_ended();
    let traces = Traces::of(play.tgid());
    play.kill();
    let at = format!(
        "kill {kill} ({}) {:.1} s after the start of {}",
        fault.name,
        after.as_secs_f64(),
        phase.name()
    );
    eprintln!(
        "{at}: {}{}",
        traces.counts(),
        if ended { " (it had ended)" } else { "" }
    );
    let recovered = recover();
    assert_eq!(recovered["failed"], json!([]), "{at}: {recovered}");
    assert_eq!(
        traces.remains(WARDEN_PATIENCE),
        Vec::<String>::new(),
        "{at}: {recovered}"
    );
    let journal = play
        .directory()
        .map(|directory| Journal::at(directory.join("journal.jsonl")));
    let left = journal
        .map(|journal| journal.left().expect("a readable journal"))
        .unwrap_or_default();
    assert!(left.is_empty(), "{at}: still in the journal: {left:?}");
    !ended
}

/// `gauntlet recover`, which finds the run by itself, and must succeed.
fn recover() -> Value {
    let output = past_the_lock(|| {
        let output = gauntlet(&["recover", "--format", "json"])
            .output()
            .expect("the program starts");
        let is_locked =
            output.status.code() == Some(69) && String::from_utf8_lossy(&output.stderr).contains("a run is on");
        (!is_locked).then_some(output)
    });
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn a_second_run_is_told_who_measures() {
    let Some(_turn) = turn() else { return };
    let _lock = past_the_lock(|| match RunLock::acquire(Path::new(LOCK_PATH)) {
        Ok(lock) => Some(lock),
        Err(LockError::Held { .. }) => None,
        Err(error @ LockError::Io { .. }) => panic!("{error}"),
    });
    let files = tempfile::tempdir().expect("a directory");
    let out = files.path().join("runs");
    for (arguments, word) in [
        (&["run", "none"][..], "--no-lock"),
        (&["recover"], "nothing was touched"),
    ] {
        let refused = gauntlet(arguments)
            .arg("--out")
            .arg(&out)
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(69), "{said}");
        assert!(
            said.contains(&format!("process {}", std::process::id())) && said.contains(word),
            "{said}"
        );
    }
    assert!(!out.exists(), "nothing was begun");
}

#[test]
fn a_detector_that_talks_nonsense_and_dies_has_missed() {
    let nonsense = "echo '{\"type\":\"diagnosis\"}'; echo 'Segmentation fault (not really)'; exit 3";
    let Some((result, events)) = judged_foreign(nonsense) else {
        return;
    };
    assert!(
        events
            .iter()
            .any(|event| matches!(event, RunEvent::DetectorNonsense { .. }))
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, RunEvent::DetectorEnded { .. }))
    );
    assert_eq!(result["detectorEnd"]["endedEarly"], true, "{}", result["detectorEnd"]);
    assert_eq!(result["detectorEnd"]["nonsenseCount"], 2, "{}", result["detectorEnd"]);
    let failure = result["detectorEnd"]["failure"].as_str().unwrap_or_default();
    assert!(
        failure.contains("ended by itself during the run (exit status: 3)"),
        "{failure}"
    );
    assert_eq!(
        result["detectorEnd"]["outcome"], "exit status: 3",
        "{}",
        result["detectorEnd"]
    );
}

#[test]
fn a_detector_that_is_silent_has_missed() {
    let Some((result, _)) = judged_foreign("cat > /dev/null") else {
        return;
    };
    assert_eq!(result["detectorEnd"]["endedEarly"], false, "{}", result["detectorEnd"]);
    assert_eq!(
        result["detectorEnd"]["outcome"], "exit status: 0",
        "{}",
        result["detectorEnd"]
    );
}

/// Runs a detector that says `ready` and then does as the shell commands say; the run counts and the detector fails.
fn judged_foreign(commands: &str) -> Option<(Value, Vec<RunEvent>)> {
    let _turn = turn()?;
    let files = tempfile::tempdir().expect("a directory");
    let detector = files.path().join("detector");
    let ready = r#"{"type":"ready","version":1,"detector":"a shell script"}"#;
    fs::write(&detector, format!("#!/bin/sh\necho '{ready}'\n{commands}\n")).expect("written");
    fs::set_permissions(&detector, fs::Permissions::from_mode(0o755)).expect("executable");
    Some(missed(&["--detector", &detector.display().to_string()]))
}

/// Runs with these detectors, of which the first misses: the run counts, and it fails.
fn missed(detectors: &[&str]) -> (Value, Vec<RunEvent>) {
    let files = tempfile::tempdir().expect("a directory");
    let scenario = short_scenario(files.path(), &FAULTS[0]).display().to_string();
    let mut play = Play::start(&[&[scenario.as_str(), "--seed", "2"], detectors].concat());
    let status = play.end(RUN_PATIENCE);
    let answer = play.answer();
    let run = &answer["runs"][0];
    assert_eq!(
        (&run["validity"], &run["verdict"]),
        (&json!("VALID"), &json!("fail")),
        "{run}"
    );
    assert_eq!(status.code(), Some(100), "{answer}");
    let directory = play.directory().expect("a run directory");
    (read_json(&directory.join("result.json")), play.events())
}

#[test]
fn detectors_stand_side_by_side_and_one_that_never_speaks_has_missed() {
    let Some(_turn) = turn() else { return };
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../detector/examples/threshold.py");
    let (broken, example) = ("broken=exec:exit 3", format!("example=exec:python3 {example}"));
    let (result, events) = missed(&["--detector", broken, "--detector", &example]);
    let failure = result["ends"]["broken"]["failure"].as_str().unwrap_or_default();
    assert!(failure.contains("it ended (exit status: 3)"), "{}", result["ends"]);
    let reasons = &result["detector"]["judgement"]["findings"][0]["reason"];
    assert!(
        reasons
            .as_str()
            .is_some_and(|reason| reason.contains("the detector failed")),
        "{reasons}"
    );
    let rivals: Vec<&str> = result["rivals"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|rival| rival["score"]["detector"].as_str().expect("a name"))
        .collect();
    assert_eq!(rivals, ["alert-count", "example", "gauntlet", "max-z"]);
    assert_eq!(
        result["rivals"][2]["judgement"]["verdict"], "pass",
        "ours is not touched"
    );
    // It got live frames, kept up with them, and ended as it should.
    let end = &result["ends"]["example"];
    assert_eq!(
        (&end["version"], &end["failure"]),
        (&json!("threshold 1.0"), &Value::Null),
        "{end}"
    );
    assert_eq!(
        (&end["outcome"], &end["framesDropped"]),
        (&json!("exit status: 0"), &json!(0)),
        "{end}"
    );
    let named = events.iter().any(|event| {
        matches!(event, RunEvent::Diagnosed(one)
            if one.diagnosis.detector == "example" && one.diagnosis.candidates[..].iter().any(|it| it.entity.to_string() == "cache"))
    });
    assert!(named, "it blames the cache, whose clients fail");
}

/// Every injection of the journal was undone.
fn assert_undone(directory: &Path) {
    let text = fs::read_to_string(directory.join("journal.jsonl")).expect("a journal");
    let lines: Vec<JournalLine> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of it"))
        .collect();
    let count = |wanted: fn(&JournalLine) -> bool| lines.iter().filter(|line| wanted(line)).count();
    let planned = count(|line| matches!(line, JournalLine::Planned { .. }));
    assert!(planned > 0, "{text}");
    assert_eq!(
        count(|line| matches!(line, JournalLine::Undone { .. })),
        planned,
        "{text}"
    );
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("it is there")).expect("JSON")
}

/// The pods that a step or a candidate names, sorted.
fn pods_of(value: &Value) -> Vec<String> {
    let pods = value["pods"]
        .as_array()
        .or(value["fault"]["pods"].as_array())
        .expect("a list of pods");
    let mut pods: Vec<String> = pods
        .iter()
        .map(|pod| pod.as_str().expect("a name").to_owned())
        .collect();
    pods.sort();
    pods
}
