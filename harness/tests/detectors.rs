//! Detectors of every kind, without a cluster: how they are heard and fed, and every way in which they fail.
//!
//! The detectors are one-line shell scripts; nothing here needs root. For recordings see `replay.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gauntlet_harness::clock::monotonic_ns;
use gauntlet_harness::detectors::panel::{PanelEnd, PanelError};
use gauntlet_harness::detectors::spec::{Asked, DetectorSpec, resolve};
use gauntlet_harness::detectors::{DetectorEnd, DetectorNews, Panel};
use gauntlet_probes::entity::InventoryLine;
use serde_json::json;

const READY: &str = r#"echo '{"type":"ready","version":1,"detector":"a shell script"}'"#;
const ASKS_FOR_FRAMES: &str = r#"echo '{"type":"ready","version":1,"detector":"a shell script","frames":true}'"#;
const STATEMENT: &str = r#"echo '{"type":"diagnosis","atNs":1,"detector":"sh","candidates":[]}'"#;

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
    assert_eq!(
        voices(&news),
        BTreeMap::from([("it", 2), ("it/max-z", 1), ("max-z", 1)])
    );
}

/// How many statements were made under each name.
fn voices(news: &[DetectorNews]) -> BTreeMap<&str, usize> {
    let mut voices = BTreeMap::new();
    for one in news {
        if let DetectorNews::Statement(received) = one {
            *voices.entry(received.diagnosis.detector.as_str()).or_default() += 1;
        }
    }
    voices
}

#[tokio::test]
async fn those_beside_are_known_before_they_speak() {
    let ready = r#"echo '{"type":"ready","version":1,"detector":"sh","beside":["rival","mute"]}'"#;
    let rival = r#"echo '{"type":"diagnosis","atNs":1,"detector":"rival","candidates":[]}'"#;
    let (news, end) = run_panel(
        "cat > /dev/null",
        &[format!("it=exec:{ready}; {rival}; {STATEMENT}; cat > /dev/null")],
        Duration::from_millis(500),
    )
    .await;
    // The first to speak is not taken for the detector itself.
    assert_eq!(voices(&news), BTreeMap::from([("it", 1), ("it/rival", 1)]));
    assert_eq!(end.ends["it"].beside, ["it/rival", "it/mute"]);
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
