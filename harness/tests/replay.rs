//! Replay and corpus by the built program: what a detector gets, what it is worth, what is said of files that are not
//! whole. Needs no privileges; needs `gauntlet-detector` beside `gauntlet` (`cargo build -p gauntlet-detector`).

mod answer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gauntlet_harness::recording::Recording;
use gauntlet_harness::recording::directory::{FRAMES, Salvage, open, seal_directory};
use gauntlet_harness::run::judge::{Said, judge_run};
use gauntlet_harness::suite::outcome::{Mode, SuiteResult};
use serde_json::{Value, json};
use tempfile::TempDir;

use answer::Answer;

const FAULT: &str = "cache-network-misconfig-s11.gauntlet";
const CONTROL: &str = "none-s11.gauntlet";

/// A corpus of two recordings of real runs: the seed story and a control.
fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings")
}

fn odd_detector() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/odd-detector");
    path.display().to_string()
}

fn gauntlet(arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
    command.args(arguments).envs(variables.iter().copied());
    command.output().expect("the program starts").into()
}

fn answer_of(answer: &Answer) -> Value {
    serde_json::from_str(answer.out.lines().last().expect("a line"))
        .unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(corpus().join(name)).expect("a fixture")
}

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn same_recordings_and_same_detector_give_the_same_answer_to_the_byte() {
    let files = scratch();
    let replay = |jobs: &str| {
        let out = files.path().join(jobs);
        let corpus = shown(&corpus());
        let answer = gauntlet(
            &[
                "replay",
                &corpus,
                "--jobs",
                jobs,
                "--format",
                "json",
                "--out",
                &shown(&out),
            ],
            &[],
        );
        assert_eq!(answer.code, 0, "{answer:?}");
        (answer.out.clone(), fs::read_to_string(&out).expect("a result"), answer)
    };
    let (one, three) = (replay("1"), replay("3"));
    assert_eq!((&one.0, &one.1), (&three.0, &three.1));
    let answer = answer_of(&one.2);
    assert_eq!(answer["runs"].as_array().map(Vec::len), Some(2), "{answer}");
    let fault = &answer["runs"][0];
    assert_eq!(fault["rank"], 1.0, "{fault}");
    assert_eq!(fault["exactPods"], true, "{fault}");
    assert_eq!(answer["runs"][1]["falseAlarms"], 0, "{answer}");
    let result: SuiteResult = serde_json::from_str(&one.1).expect("a suite result");
    assert_eq!(
        (result.mode, result.planned_count, result.cases.len()),
        (Mode::Replay, 2, 2)
    );
    assert_eq!(result.suite, "recordings");
    assert!(result.detector.starts_with("gauntlet-detector "), "{}", result.detector);
    let case = &result.cases[0];
    assert_eq!(
        (case.scenario.as_str(), case.trial, case.seed.0),
        ("cache-network-misconfig", 1, 11)
    );
    assert_eq!(case.truth, ["cache: network.filter"]);
    assert_eq!(case.recording.as_deref(), fault["recording"].as_str());
    assert_eq!(case.labels["class"], "cache");
    let rivals: Vec<&str> = case.rivals.iter().map(|rival| rival.name.as_str()).collect();
    assert_eq!(
        (case.detector.name.as_str(), &rivals[..]),
        ("gauntlet", &["alert-count", "max-z"][..])
    );
}

#[test]
fn a_detector_gets_inventory_and_frames_and_nothing_of_the_truth() {
    let files = scratch();
    let capture = |what: &str| files.path().join(format!("it.{what}"));
    let got = |what: &str| fs::read(capture(what)).expect("what it got");
    // The file's own name tells the scenario.
    let innocent = files.path().join("it.gauntlet");
    fs::copy(corpus().join(FAULT), &innocent).expect("copied");
    let arguments = ["replay", &shown(&innocent), "--detector", &odd_detector()];
    let variables = [("ODD", "capture"), ("CAPTURE", &*shown(&files.path().join("it")))];
    let answer = gauntlet(&arguments, &variables);
    assert_eq!(answer.code, 100, "{answer:?}");
    let recording = Recording::parse(&fixture(FAULT)).expect("whole");
    assert_eq!(
        got("recording"),
        recording.frames(),
        "the recorder's stream, and nothing else"
    );
    let stream = zstd::decode_all(&got("recording")[..]).expect("a stream");
    let read = [stream, got("told"), got("surroundings")].concat();
    let text = String::from_utf8_lossy(&read).into_owned();
    assert!(text.contains("cache-1"), "the inventory names pods");
    let told = String::from_utf8(got("told")).expect("text");
    assert!(told.contains(r#"{"type":"pod","#) && !told.contains("frame"), "{told}");
    let evidence = &recording.evidence;
    let fault = evidence.plan.steps[0].fault.id.as_str();
    for secret in [
        evidence.plan.scenario.name.as_str(),
        evidence.plan.scenario.title.as_str(),
        "misconfig",
        "network-filter",
        "network.filter",
        "onset",
        "truth",
        "baseline",
        fault,
    ] {
        assert!(!text.contains(secret), "`{secret}` was told");
    }
}

#[test]
fn a_detector_that_fails_has_missed_and_the_run_still_counts() {
    for (odd, failure) in [
        ("crash", "it crashed at the end (exit status: 3): out of ideas"),
        ("hang", "it hung for 2s"),
        ("mute", "it was never ready: it said nothing for 2s"),
        (
            "nonsense",
            "it printed 1 lines that are none of the protocol's; the first of them is `I think it is the cache`",
        ),
        ("hasty", "it was never ready: its first line was Diagnosis"),
        ("flood", "it flooded: more than 20000 lines"),
        ("own-probes", "it asks neither for frames nor for the recording"),
        ("slow", "it was not through within 2s"),
        ("lost", "it ended by itself during the run (exit status: 9)"),
        // An answer to a question that was not asked is none.
        ("unasked", "the first of them is ``synced` 7, which was not asked`"),
    ] {
        for file in [FAULT, CONTROL] {
            let recording = shown(&corpus().join(file));
            let detector = odd_detector();
            let arguments = [
                "replay",
                &recording,
                "--detector",
                &detector,
                "--within",
                "2",
                "--format",
                "json",
            ];
            let answer = gauntlet(&arguments, &[("ODD", odd)]);
            assert_eq!(answer.code, 100, "{odd}: {answer:?}");
            let run = &answer_of(&answer)["runs"][0];
            assert_eq!(
                (&run["validity"], &run["verdict"]),
                (&json!("VALID"), &json!("fail")),
                "{odd}: {run}"
            );
            let found = run["failure"].as_str().unwrap_or_default();
            assert!(found.contains(failure), "{odd}: `{found}` does not say `{failure}`");
        }
    }
}

#[test]
fn one_that_does_not_read_is_not_at_fault_for_that() {
    let arguments = ["replay", &shown(&corpus().join(CONTROL)), "--detector", &odd_detector()];
    let answer = gauntlet(&arguments, &[("ODD", "deaf")]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

#[test]
fn claimed_moments_are_kept_within_the_recording_and_in_order() {
    let files = scratch();
    let out = files.path().join("result");
    let recording = shown(&corpus().join(FAULT));
    // One reads the recording itself, the other asks for its frames.
    for odd in ["prophet", "seer"] {
        let arguments = [
            "replay",
            &recording,
            "--detector",
            &odd_detector(),
            "--out",
            &shown(&out),
        ];
        gauntlet(&arguments, &[("ODD", odd)]);
        let result: SuiteResult = serde_json::from_slice(&fs::read(&out).expect("a result")).expect("a suite result");
        let detector = &result.cases[0].detector;
        assert_eq!((detector.name.as_str(), &detector.failure), ("odd", &None), "{odd}");
        // It counts from the begin of the recording: an alarm in the warm-up that nothing justified, and no detection.
        let answer = detector.score.answer.as_ref().expect("a fault");
        assert!(!answer.detected(), "{odd}: {answer:?}");
    }
}

/// The shipped example, which asks for frames.
fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../detector/examples/threshold.py");
    format!("exec:python3 '{}'", shown(&path))
}

#[test]
fn a_detector_that_asks_for_frames_is_told_recorded_ones_and_says_the_same_again() {
    let replayed = || {
        let recording = shown(&corpus().join(FAULT));
        let arguments = ["replay", &recording, "--detector", &example(), "--format", "json"];
        let answer = gauntlet(&arguments, &[]);
        // It names the place and not the mechanism.
        assert_eq!(answer.code, 100, "{answer:?}");
        answer_of(&answer)["runs"][0].clone()
    };
    let run = replayed();
    assert_eq!(run["failure"], Value::Null, "{run}");
    assert_eq!(run["validity"], "VALID", "{run}");
    assert_eq!(run["answer"]["mechanism"], "unknown", "{run}");
    assert_eq!(run["falseAlarms"], 0, "{run}");
    assert_eq!(run["entityRank"], 1.0, "{run}");
    assert!(run["ttdSeconds"].is_number(), "{run}");
    assert_eq!(replayed()["statementsDigest"], run["statementsDigest"]);
}

#[test]
fn ours_says_the_same_whether_it_is_meant_or_named() {
    let beside = Path::new(env!("CARGO_BIN_EXE_gauntlet")).with_file_name("gauntlet-detector");
    let recording = shown(&corpus().join(FAULT));
    let digest = |detector: &[&str]| {
        let answer = gauntlet(
            &[&["replay", &recording, "--format", "json"][..], detector].concat(),
            &[],
        );
        assert_eq!(answer.code, 0, "{answer:?}");
        answer_of(&answer)["runs"][0]["statementsDigest"].clone()
    };
    let program = shown(&beside);
    let command = format!("exec:exec '{program}'");
    assert_eq!(digest(&[]), digest(&["--detector", &program]));
    assert_eq!(digest(&[]), digest(&["--detector", &command]));
}

#[test]
fn one_that_says_nothing_in_a_recording_keeps_its_name() {
    let files = scratch();
    let (spoken, out) = (files.path().join("spoken"), files.path().join("result"));
    // The fault comes first, and only there it speaks.
    let detector = format!(
        "exec:if mkdir '{}' 2>/dev/null; then ODD=prophet; else ODD=deaf; fi; export ODD; '{}'",
        shown(&spoken),
        odd_detector()
    );
    let corpus = shown(&corpus());
    let arguments = [
        "replay",
        &corpus,
        "--jobs",
        "1",
        "--detector",
        &detector,
        "--out",
        &shown(&out),
    ];
    gauntlet(&arguments, &[]);
    let result: SuiteResult = serde_json::from_slice(&fs::read(&out).expect("a result")).expect("a suite result");
    let names: Vec<&str> = result.cases.iter().map(|case| case.detector.name.as_str()).collect();
    assert_eq!(names, ["odd", "odd"]);
}

#[test]
fn one_that_is_silent_beside_another_has_missed_as_well() {
    let files = scratch();
    let out = files.path().join("result");
    let ready = r#"{"type":"ready","version":1,"detector":"sh","recording":true,"beside":["mute"]}"#;
    let detector = format!("exec:echo '{ready}'; cat > /dev/null");
    let recording = shown(&corpus().join(FAULT));
    gauntlet(
        &["replay", &recording, "--detector", &detector, "--out", &shown(&out)],
        &[],
    );
    let result: SuiteResult = serde_json::from_slice(&fs::read(&out).expect("a result")).expect("a suite result");
    let [rival] = result.cases[0].rivals.as_slice() else {
        panic!("{:?}", result.cases[0].rivals)
    };
    let answer = rival.score.answer.as_ref().expect("a fault");
    assert_eq!((rival.name.as_str(), answer.detected()), ("mute", false));
}

#[test]
fn a_program_that_is_not_there_is_no_miss() {
    for (detector, code, words) in [
        ("no-such-program", 69, "failed to start the detector no-such-program"),
        ("./no-such-program", 2, "there is no program at `./no-such-program`"),
        ("mine=exec:./mine", 2, "leave `mine=` out"),
        ("alertmanager:mapping.yaml", 2, "a recording holds no alerts"),
    ] {
        let answer = gauntlet(&["replay", &shown(&corpus()), "--detector", detector], &[]);
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.err.contains(words), "`{words}`: {answer:?}");
    }
}

#[test]
fn a_command_goes_through_the_shell_and_is_started_as_live() {
    let files = scratch();
    let seen = files.path().join("its arguments");
    let recording = shown(&corpus().join(CONTROL));
    let command = format!("exec:printf '%s\\n' --fast 'a b' >'{}'", shown(&seen));
    let answer = gauntlet(&["replay", &recording, "--detector", &command], &[]);
    assert!(answer.out.contains("it was never ready"), "{answer:?}");
    assert_eq!(
        fs::read_to_string(&seen).expect("what it was started with"),
        "--fast\na b\n"
    );
}

#[test]
fn help_says_what_exit_codes_mean() {
    let cases: [&[&str]; 3] = [
        &["replay", "--help"],
        &["corpus", "add", "--help"],
        &["corpus", "verify", "--help"],
    ];
    for arguments in cases {
        let help = gauntlet(arguments, &[]);
        assert_eq!(help.code, 0, "{help:?}");
        assert!(help.out.contains("64 invalid scenario, suite, recording"), "{help:?}");
    }
    assert_eq!(gauntlet(&["replay"], &[]).code, 2, "nothing to replay");
}

#[test]
fn scenarios_are_chosen_by_name() {
    let replay = |glob: &str| {
        gauntlet(
            &["replay", &shown(&corpus()), "--format", "json", "--scenario", glob],
            &[],
        )
    };
    let answer = replay("cache-*");
    assert_eq!(
        answer_of(&answer)["runs"].as_array().map(Vec::len),
        Some(1),
        "{answer:?}"
    );
    let answer = replay("nothing-*");
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(answer.err.contains("nothing-*"), "{answer:?}");
}

#[test]
fn what_is_not_whole_is_named_and_salvaged_only_when_asked() {
    let files = scratch();
    let whole = fixture(FAULT);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    let mut newer = whole.clone();
    let version_at = newer
        .windows(13)
        .position(|word| word == b"gauntlet-run ")
        .expect("its first line")
        + 13;
    newer[version_at] = b'2';
    let frames = Recording::parse(&whole).expect("whole").frames().to_vec();
    let cases: [(&str, &[u8], &str, bool); 7] = [
        ("cut", &whole[..whole.len() / 2], "without a seal", true),
        ("unsealed", &whole[..whole.len() - 1], "without a seal", true),
        ("flipped", &flipped, "it is damaged", true),
        ("beheaded", &whole[..500], "without a seal", false),
        (
            "newer",
            &newer,
            "it is of version 2, and this program reads version 1",
            false,
        ),
        ("foreign", b"hello, world", "it is no recording of a run", false),
        ("bare", &frames, "name its run directory instead", false),
    ];
    for (name, bytes, words, is_readable) in cases {
        let path = files.path().join(name);
        fs::write(&path, bytes).expect("a file");
        let path = shown(&path);
        let answer = gauntlet(&["replay", &path], &[]);
        assert_eq!(answer.code, 64, "{name}: {answer:?}");
        assert!(
            answer.err.contains(&path) && answer.err.contains(words),
            "{name}: {answer:?}"
        );
        assert_eq!(answer.out, "", "{name}");
        let answer = gauntlet(&["replay", "--salvage", &path, "--format", "json"], &[]);
        assert_eq!(answer.code, if is_readable { 101 } else { 64 }, "{name}: {answer:?}");
        if is_readable {
            let run = &answer_of(&answer)["runs"][0];
            assert_eq!(
                (&run["validity"], &run["verdict"]),
                (&json!("HARNESS_ERROR"), &json!("inconclusive")),
                "{run}"
            );
            let finding = run["validityFindings"][0].as_str().unwrap_or_default();
            assert!(
                finding.contains("salvaged: ") && finding.contains("frames could be read"),
                "{finding}"
            );
        }
    }
}

/// A run directory whose evidence lies in several files, as before recordings were sealed.
fn directory_of_parts(at: &Path, file: &[u8]) {
    let recording = Recording::parse(file).expect("whole");
    let evidence = &recording.evidence;
    let result = judge_run(evidence, &Said::default());
    let write = |name: &str, value: Value| fs::write(at.join(name), value.to_string()).expect("a file");
    write("plan.json", json!(evidence.plan));
    write("environment.json", json!(evidence.environment));
    write("result.json", json!(result));
    fs::write(at.join(FRAMES), recording.frames()).expect("a file");
}

#[test]
fn a_directory_of_parts_holds_the_same_evidence_and_sealing_it_loses_none() {
    let files = scratch();
    directory_of_parts(files.path(), &fixture(FAULT));
    let parts = open(files.path(), Salvage::No).expect("whole");
    let sealed = Recording::parse(&fixture(FAULT)).expect("whole");
    assert_eq!((&parts.evidence, parts.span), (&sealed.evidence, sealed.span));
    seal_directory(files.path(), &parts.evidence).expect("sealed");
    assert!(!files.path().join(FRAMES).exists(), "the frames are in the sealed file");
    let again = open(files.path(), Salvage::No).expect("whole");
    assert_eq!((&again.evidence, again.span), (&sealed.evidence, sealed.span));
    assert_eq!(again.directory.as_deref(), Some(files.path()));
    // An older build may have written fewer fields of the truth; the frames are the same to the byte.
    assert!(again.frames() == sealed.frames(), "sealing changes no frame");
}

#[test]
fn a_killed_run_shows_its_frames_when_asked() {
    let files = scratch();
    directory_of_parts(files.path(), &fixture(FAULT));
    fs::remove_file(files.path().join("result.json")).expect("it was there");
    let frames = fs::read(files.path().join(FRAMES)).expect("it was there");
    fs::write(files.path().join(FRAMES), &frames[..frames.len() - 100]).expect("a file");
    let path = shown(files.path());
    let answer = gauntlet(&["replay", &path], &[]);
    assert_eq!(answer.code, 64, "{answer:?}");
    assert!(
        answer.err.contains("was killed before it ended") && answer.err.contains("--salvage"),
        "{answer:?}"
    );
    let answer = gauntlet(&["replay", "--salvage", &path, "--format", "json"], &[]);
    assert_eq!(answer.code, 101, "{answer:?}");
    let run = &answer_of(&answer)["runs"][0];
    assert_eq!(run["answer"]["mechanism"], "network.filter", "{run}");
}

#[test]
fn a_corpus_takes_each_run_once_and_notices_every_change() {
    let files = scratch();
    let directory = files.path().join("corpus");
    let here = shown(&directory);
    let at = |name: &str| shown(&corpus().join(name));
    let add = |more: &[&str]| gauntlet(&[&["corpus", "add", "--corpus", &here], more].concat(), &[]);
    let verify = || gauntlet(&["corpus", "verify", "--corpus", &here], &[]);

    let answer = verify();
    assert_eq!(answer.code, 4, "an empty corpus proves nothing: {answer:?}");
    let answer = add(&[&at(CONTROL), &at(FAULT)]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let manifest = || fs::read_to_string(directory.join("manifest.json")).expect("a manifest");
    let shipped = fs::read_to_string(corpus().join("manifest.json")).expect("a manifest");
    assert_eq!(manifest(), shipped, "whatever the order in which they were added");
    let answer = add(&[&at(FAULT)]);
    assert_eq!((answer.code, manifest()), (64, shipped.clone()), "{answer:?}");
    assert!(
        answer.err.contains(&format!("is there already, as {FAULT}")),
        "{answer:?}"
    );
    assert_eq!(verify().code, 0);

    let says = |words: &str| {
        let answer = verify();
        assert_eq!(answer.code, 64, "{answer:?}");
        assert!(answer.err.contains(words), "`{words}`: {answer:?}");
    };
    let path = directory.join(CONTROL);
    let whole = fixture(CONTROL);
    let mut flipped = whole.clone();
    flipped[20_000] ^= 1;
    fs::write(&path, &flipped).expect("a file");
    says("none-s11.gauntlet: it is damaged");
    fs::write(&path, fixture(FAULT)).expect("a file");
    says("none-s11.gauntlet: manifest.json says");
    let answer = gauntlet(&["replay", &here], &[]);
    assert_eq!(answer.code, 64, "{answer:?}");
    assert!(
        answer
            .err
            .contains("another file than the one that manifest.json names"),
        "{answer:?}"
    );
    fs::remove_file(&path).expect("it was there");
    says("none-s11.gauntlet: it cannot be read");
    fs::write(&path, &whole).expect("a file");
    fs::write(directory.join("more.gauntlet"), &whole).expect("a file");
    says("more.gauntlet: it is not in manifest.json");
    fs::remove_file(directory.join("more.gauntlet")).expect("it was there");
    assert_eq!(verify().code, 0);

    fs::write(
        directory.join("manifest.json"),
        shipped.replace("\"version\": 1", "\"version\": 9"),
    )
    .expect("a file");
    says("manifest.json: it is of version 9, and this program reads version 1");
}

#[test]
fn a_run_that_does_not_count_is_added_only_when_asked() {
    let files = scratch();
    let run = files.path().join("run");
    fs::create_dir(&run).expect("a directory");
    directory_of_parts(&run, &fixture(FAULT));
    let mut evidence = open(&run, Salvage::No).expect("whole").evidence;
    evidence.residue.push("a rule".to_owned());
    seal_directory(&run, &evidence).expect("sealed");
    let (here, run) = (shown(&files.path().join("corpus")), shown(&run));
    let answer = gauntlet(&["corpus", "add", &run, "--corpus", &here], &[]);
    assert_eq!(answer.code, 64, "{answer:?}");
    assert!(
        answer.err.contains("RESIDUE: a rule") && answer.err.contains("--invalid"),
        "{answer:?}"
    );
    let answer = gauntlet(&["corpus", "add", &run, "--invalid", "--corpus", &here], &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let listed = answer_of(&gauntlet(
        &["corpus", "list", "--format", "json", "--corpus", &here],
        &[],
    ));
    assert_eq!(listed["recordings"][0]["validity"], "RESIDUE", "{listed}");
}
