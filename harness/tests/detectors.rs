//! Detectors of every kind, without a cluster: how they are heard, fed and replayed, and every way in which they fail.
//!
//! The detectors are one-line shell scripts and the shipped example; nothing here needs root.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gauntlet_harness::clock::monotonic_ns;
use gauntlet_harness::detectors::panel::{PanelEnd, PanelError};
use gauntlet_harness::detectors::replay::{Replayed, replay};
use gauntlet_harness::detectors::spec::{Asked, DetectorSpec, resolve};
use gauntlet_harness::detectors::{DetectorCommand, DetectorEnd, DetectorNews, Panel};
use gauntlet_harness::run::result::RunResult;
use gauntlet_harness::score::{RunRecord, score};
use gauntlet_probes::entity::InventoryLine;
use gauntlet_probes::recording::{Record, RecordingReader};
use serde_json::json;

const READY: &str = r#"echo '{"type":"ready","version":1,"detector":"a shell script"}'"#;
const ASKS_FOR_FRAMES: &str = r#"echo '{"type":"ready","version":1,"detector":"a shell script","frames":true}'"#;
const STATEMENT: &str = r#"echo '{"type":"diagnosis","atNs":1,"detector":"sh","candidates":[]}'"#;
const RECORDING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../detector/tests/recordings/cache-network-misconfig.zst"
);
const RESULT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/recordings/cache-network-misconfig.result.json"
);

fn inventory() -> Vec<InventoryLine> {
    let pod = json!({"type": "pod", "name": "cache-0", "service": "cache", "node": "node-1", "ip": "10.0.0.1"});
    vec![
        serde_json::from_value(pod).expect("a line"),
        InventoryLine::Ready { version: 1 },
    ]
}

fn asked(specs: &[String]) -> Vec<Asked> {
    let specs: Vec<DetectorSpec> = specs.iter().map(|spec| spec.parse().expect("a spec")).collect();
    resolve(&specs).expect("shell commands only")
}

/// A program that stands for our own detector.
fn ours(directory: &Path, commands: &str) -> PathBuf {
    let program = directory.join("ours");
    fs::write(&program, format!("#!/bin/sh\n{commands}\n")).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    program
}

/// Runs these detectors together for a while; what was said meanwhile, and how they ended.
async fn run_panel(ours_does: &str, specs: &[String], length: Duration) -> (Vec<DetectorNews>, PanelEnd) {
    let files = tempfile::tempdir().expect("a directory");
    // As ours does: where frames are to go is opened before it is ready.
    let opens = "[ -z \"$4\" ] || exec 3> \"$4\"";
    let program = ours(files.path(), &format!("{opens}\n{READY}\n{ours_does}"));
    let mut panel = Panel::start(&asked(specs), &program, &inventory(), files.path())
        .await
        .expect("ours is ready");
    let mut news = Vec::new();
    let until = tokio::time::Instant::now() + length;
    while let Ok(one) = tokio::time::timeout_at(until, panel.next()).await {
        news.push(one);
    }
    let end = panel.finish(monotonic_ns()).await;
    assert!(!files.path().join("frames.pipe").exists(), "the pipe's name is gone");
    (news, end)
}

/// How one detector ends that runs beside ours for half a second.
async fn end_of(commands: &str) -> DetectorEnd {
    let spec = format!("it=exec:{commands}");
    let (_, mut end) = run_panel("cat > /dev/null", &[spec], Duration::from_millis(500)).await;
    let ours = &end.ends["gauntlet"];
    assert_eq!(ours.failure, None, "another's failure is not ours: {ours:?}");
    end.ends.remove("it").expect("it has an end")
}

#[track_caller]
fn failed_with(end: &DetectorEnd, words: &str) {
    let failure = end.failure.as_deref().unwrap_or_default();
    assert!(failure.contains(words), "`{words}` is missing in {end:?}");
}

#[tokio::test]
async fn one_that_behaves_has_not_failed() {
    let end = end_of(&format!("{READY}; {STATEMENT}; cat > /dev/null")).await;
    assert_eq!(
        (end.failure.as_deref(), end.outcome.as_str()),
        (None, "exit status: 0"),
        "{end:?}"
    );
    assert_eq!(end.version, "a shell script");
    assert!(end.cpu_ns.is_some(), "its cost is known without its help");
    assert_eq!(end.remarks(), Vec::<String>::new());
}

#[tokio::test]
async fn one_that_is_never_ready_has_failed() {
    failed_with(&end_of("exit 3").await, "it ended (exit status: 3)");
    failed_with(&end_of("kill -SEGV $$").await, "it ended (signal: 11 (SIGSEGV)");
    failed_with(
        &end_of("echo hello; cat > /dev/null").await,
        "its first line was `hello`",
    );
    failed_with(
        &end_of(&format!("{STATEMENT}; cat > /dev/null")).await,
        "its first line was Diagnosis",
    );
    let future = r#"echo '{"type":"ready","version":2,"detector":"x","news":1}'; cat > /dev/null"#;
    failed_with(&end_of(future).await, "it speaks version 2 of the protocol, not 1");
    failed_with(&end_of("no-such-program-at-all").await, "exit status: 127");
}

#[tokio::test]
async fn one_that_says_nothing_is_waited_for_fifteen_seconds() {
    failed_with(&end_of("sleep 60").await, "was not ready within 15s: it said nothing");
}

#[tokio::test]
async fn one_that_crashes_has_failed() {
    let end = end_of(&format!("{READY}; {STATEMENT}; kill -ABRT $$")).await;
    failed_with(&end, "it ended by itself during the run (signal: 6 (SIGABRT)");
    assert!(end.ended_early);
    let end = end_of(&format!("{READY}; cat > /dev/null; exit 4")).await;
    failed_with(&end, "it crashed at the end (exit status: 4)");
    assert!(!end.ended_early);
}

#[tokio::test]
async fn one_that_hangs_is_killed_with_all_that_it_started() {
    let files = tempfile::tempdir().expect("a directory");
    let child = files.path().join("child");
    let commands = format!("{READY}; sleep 300 & echo $! > {}; wait; sleep 300", child.display());
    let end = end_of(&commands).await;
    failed_with(&end, "it did not end within 5s and was killed (signal: 9 (SIGKILL)");
    let child = fs::read_to_string(child).expect("it wrote its child's number");
    // A killed process takes a moment to be gone, and its new parent may leave it unreaped.
    let gone = || {
        let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    for _ in 0..100 {
        if gone() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("its child lives");
}

#[tokio::test]
async fn one_that_floods_is_stopped() {
    let (news, end) = run_panel(
        "cat > /dev/null",
        &[format!("it=exec:{READY}; while :; do {STATEMENT}; done")],
        Duration::from_secs(4),
    )
    .await;
    failed_with(&end.ends["it"], "it flooded: more than 20000 lines");
    let statements = news.iter().filter(|one| matches!(one, DetectorNews::Statement(_)));
    assert_eq!(statements.count(), 19_999, "all but the first and the one too many");
    let end = end_of(&format!("{READY}; tr '\\0' x < /dev/zero")).await;
    failed_with(&end, "it flooded");
}

#[tokio::test]
async fn nonsense_is_shown_a_few_times_and_counted() {
    let lines = [
        "Segmentation fault (not really)",
        r#"{"type":"diagnosis"}"#,
        r#"{"type":"synced","id":0}"#,
        r#"{"type":"ready","version":1,"detector":"again"}"#,
        r#"{"type":"diagnosis","atNs":1,"detector":"x","candidates":[{"entity":{"kind":"pod","name":"a"},"mechanism":"unknown","confidence":1.5,"sinceNs":1}]}"#,
        r#"{"type":"diagnosis","atNs":1,"detector":"x","candidates":[{"entity":{"kind":"pod","name":"a"},"mechanism":"gremlins","confidence":0.5,"sinceNs":1}]}"#,
        "\u{1}",
    ];
    let echoes: Vec<String> = lines.iter().map(|line| format!("echo '{line}'")).collect();
    let spec = format!("it=exec:{READY}; {}; cat > /dev/null", echoes.join("; "));
    let (news, end) = run_panel("cat > /dev/null", &[spec], Duration::from_millis(500)).await;
    let end = &end.ends["it"];
    failed_with(end, "it printed 7 lines that are none of the protocol's");
    let shown = news
        .iter()
        .filter(|one| matches!(one, DetectorNews::Nonsense { detector, .. } if detector == "it"));
    assert_eq!((shown.count(), end.nonsense_count), (5, 7));
    assert!(
        !news.iter().any(|one| matches!(one, DetectorNews::Statement(_))),
        "{news:?}"
    );
}

#[tokio::test]
async fn statements_after_the_end_are_ignored_and_counted() {
    let (news, end) = run_panel(
        "cat > /dev/null",
        &[format!("it=exec:{READY}; cat > /dev/null; {STATEMENT}; {STATEMENT}")],
        Duration::from_millis(300),
    )
    .await;
    assert!(news.is_empty(), "{news:?}");
    assert!(end.statements.is_empty(), "{end:?}");
    let end = &end.ends["it"];
    assert_eq!((end.late_count, end.failure.as_deref()), (2, None), "{end:?}");
    assert_eq!(end.remarks(), ["2 statements after the end, ignored"]);
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let impostor = r#"echo '{"type":"diagnosis","atNs":1,"detector":"gauntlet","candidates":[]}'"#;
    let second = r#"echo '{"type":"diagnosis","atNs":1,"detector":"max-z","candidates":[]}'"#;
    let (news, _) = run_panel(
        "echo '{\"type\":\"diagnosis\",\"atNs\":1,\"detector\":\"max-z\",\"candidates\":[]}'; cat > /dev/null",
        &[format!(
            "it=exec:{READY}; {impostor}; {second}; {impostor}; cat > /dev/null"
        )],
        Duration::from_millis(500),
    )
    .await;
    let mut voices: BTreeMap<String, usize> = BTreeMap::new();
    for one in &news {
        if let DetectorNews::Statement(received) = one {
            *voices.entry(received.diagnosis.detector.clone()).or_default() += 1;
        }
    }
    let expected = [("it", 2), ("it/max-z", 1), ("max-z", 1)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(voices, BTreeMap::from(expected));
}

#[tokio::test]
async fn frames_reach_those_who_asked_and_a_slow_reader_misses_some() {
    let files = tempfile::tempdir().expect("a directory");
    let told = |name: &str| files.path().join(name);
    // Ours writes 4,000 frames of 1 kB, far more than a pipe holds.
    let frame = format!(r#"{{"type":"frame","pad":"{}"}}"#, "x".repeat(1000));
    let ours_does = format!("i=0; while [ $i -lt 4000 ]; do echo '{frame}'; i=$((i+1)); done >&3; cat > /dev/null");
    let (_, end) = run_panel(
        &ours_does,
        &[
            format!("reads=exec:{ASKS_FOR_FRAMES}; cat > {}", told("reads").display()),
            format!(
                "sleeps=exec:{ASKS_FOR_FRAMES}; sleep 2; cat > {}",
                told("sleeps").display()
            ),
            format!("plain=exec:{READY}; cat > {}", told("plain").display()),
        ],
        Duration::from_secs(3),
    )
    .await;
    let frames = |name: &str| {
        let text = fs::read_to_string(told(name)).expect("it wrote what it read");
        assert!(
            text.lines().all(|line| line == frame || !line.contains("frame")),
            "{name}: a torn line"
        );
        text.lines().filter(|line| *line == frame).count() as u64
    };
    let dropped = |name: &str| end.ends[name].frames_dropped;
    assert_eq!(frames("plain"), 0);
    assert!(frames("reads") > 0);
    assert!(dropped("sleeps") > 3000, "{}", dropped("sleeps"));
    for name in ["reads", "sleeps"] {
        assert_eq!(
            frames(name) + dropped(name),
            4000,
            "{name}: each frame was told or counted"
        );
    }
}

#[tokio::test]
async fn only_ours_can_say_that_the_machine_cannot() {
    let files = tempfile::tempdir().expect("a directory");
    let start = async |commands: &str, specs: &[String]| {
        let program = ours(files.path(), commands);
        Panel::start(&asked(specs), &program, &inventory(), files.path()).await
    };
    match start("echo 'no BTF here' >&2; exit 69", &[]).await {
        Err(PanelError::CannotHere(why)) => assert_eq!(why, "no BTF here"),
        other => panic!("{other:?}"),
    }
    let panel = start("exit 1", &[])
        .await
        .expect("a broken detector is a miss, and not the machine's fault");
    failed_with(
        &panel.finish(monotonic_ns()).await.ends["gauntlet"],
        "it ended (exit status: 1)",
    );
    let cannot = ["it=exec:exit 69".to_owned()];
    let panel = start(&format!("{READY}; cat > /dev/null"), &cannot)
        .await
        .expect("ours is ready");
    failed_with(
        &panel.finish(monotonic_ns()).await.ends["it"],
        "it ended (exit status: 69)",
    );
}

fn recorded() -> Vec<Record> {
    let reader = RecordingReader::new(File::open(RECORDING).expect("it is there")).expect("a recording");
    reader.collect::<Result<_, _>>().expect("it is whole")
}

async fn replayed(program: &str, arguments: &[&str]) -> Replayed {
    let files = tempfile::tempdir().expect("a directory");
    let command = DetectorCommand {
        program: program.into(),
        arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
        log: files.path().join("log"),
    };
    let replayed = replay(&command, recorded()).await;
    eprint!("{}", fs::read_to_string(files.path().join("log")).unwrap_or_default());
    replayed
}

#[tokio::test]
async fn the_shipped_example_is_scored_in_replay_and_says_the_same_again() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../detector/examples/threshold.py");
    let Replayed { statements, end } = replayed("python3", &[example]).await;
    assert_eq!(
        (end.failure.as_deref(), end.version.as_str()),
        (None, "threshold 1.0"),
        "{end:?}"
    );
    let result: RunResult = serde_json::from_slice(&fs::read(RESULT).expect("it is there")).expect("a result");
    let moments = result.moments;
    let diagnoses = statements.iter().map(|one| {
        // The frame's time, and not a clock's.
        assert_eq!(one.received_ns, one.diagnosis.at_ns);
        one.diagnosis.clone()
    });
    let score = score(&RunRecord {
        detector: "threshold".to_owned(),
        diagnoses: diagnoses.collect(),
        truth: result.truth.clone(),
        window: Duration::from_secs(15),
        observation_start_ns: moments.baseline_ns,
        inject_ns: result.faults[0].injected_ns,
        onset_ns: result.onset_ns(),
        impact_ns: moments.impact_ns,
        recover_start_ns: Some(moments.recover_start_ns),
        end_ns: moments.steady_again_ns,
        observation_end_ns: moments.end_ns,
    });
    assert!(score.false_alarms.episodes_ns.is_empty(), "{score:?}");
    let answer = score.answer.expect("a fault was proven");
    let value = serde_json::to_value(&answer).expect("JSON");
    assert_eq!(value["timeToDetect"]["outcome"], "reached", "{value}");
    assert_eq!(value["entity"]["rank"]["rank"], 1.0, "it names the place: {value}");
    assert_ne!(
        value["full"]["rank"]["rank"], 1.0,
        "it does not name the mechanism: {value}"
    );
    assert_eq!(replayed("python3", &[example]).await.statements, statements);
}

#[tokio::test]
async fn a_replay_survives_every_detector() {
    for (commands, words) in [
        (format!("{READY}; cat > /dev/null"), "it does not ask for frames"),
        (
            format!("{ASKS_FOR_FRAMES}; cat > /dev/null"),
            "it did not answer `sync` within 5s",
        ),
        (
            format!("{ASKS_FOR_FRAMES}; sed '/sync/q' > /dev/null; exit 9"),
            "ended by itself during the run (exit status: 9)",
        ),
        ("exit 1".to_owned(), "it ended (exit status: 1)"),
    ] {
        let Replayed { statements, end } = replayed("/bin/sh", &["-c", &commands]).await;
        failed_with(&end, words);
        assert!(statements.is_empty(), "{commands}");
    }
    // An answer to a question that was not asked is none. One that is asked later may be answered early: what is stated
    // after it counts later, so there is nothing to be gained.
    let unasked = r#"echo '{"type":"synced","id":7}'; cat > /dev/null"#;
    let Replayed { end, .. } = replayed("/bin/sh", &["-c", &format!("{ASKS_FOR_FRAMES}; {unasked}")]).await;
    assert_eq!(end.nonsense_count, 1, "{end:?}");
    failed_with(&end, "it did not answer `sync` within 5s");
}
