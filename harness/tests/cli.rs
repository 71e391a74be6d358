//! The command line of the built program: exit codes, and that every refusal says what to do. Needs no privileges.

mod answer;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use answer::Answer;

/// The user `nobody` of most distributions; any user but root would do.
const NOBODY: u32 = 65_534;

fn answer(command: &mut Command) -> Answer {
    command.output().expect("the program starts").into()
}

fn gauntlet(arguments: &[&str]) -> Answer {
    answer(Command::new(env!("CARGO_BIN_EXE_gauntlet")).args(arguments))
}

/// As a user without privileges, whoever runs the tests.
fn gauntlet_unprivileged(arguments: &[&str]) -> Answer {
    if !nix::unistd::geteuid().is_root() {
        return gauntlet(arguments);
    }
    // Through a descriptor: that user may not be able to pass through the directories above the program.
    let program = File::open(env!("CARGO_BIN_EXE_gauntlet")).expect("the program was built");
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    answer(Command::new(path).args(arguments).uid(NOBODY).gid(NOBODY))
}

/// The catalogue of this repository: class and name of each scenario, by its files.
fn catalogue() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let entries = |path: PathBuf| {
        std::fs::read_dir(path)
            .expect("readable")
            .map(|entry| entry.expect("readable").path())
    };
    let name = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let classes = entries(root).filter(|path| path.is_dir() && !["apps", "suites"].contains(&name(path).as_str()));
    let mut found: Vec<(String, String)> = classes
        .flat_map(|class| {
            let class_name = name(&class);
            let files = entries(class).filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
            files.map(|file| (class_name.clone(), name(&file))).collect::<Vec<_>>()
        })
        .collect();
    found.sort();
    found
}

#[test]
fn help_says_what_exit_codes_mean() {
    let cases: [&[&str]; 14] = [
        &["--help"],
        &["run", "--help"],
        &["suite", "run", "--help"],
        &["suite", "plan", "--help"],
        &["suite", "merge", "--help"],
        &["suite", "validate", "--help"],
        &["doctor", "--help"],
        &["recover", "--help"],
        &["scenario", "validate", "--help"],
        &["gate", "--help"],
        &["baseline", "save", "--help"],
        &["compare", "--help"],
        &["cluster", "up", "--help"],
        &["cluster", "down", "--help"],
    ];
    for arguments in cases {
        let help = gauntlet(arguments);
        assert_eq!(help.code, 0, "{arguments:?}: {}", help.err);
        for word in [
            "Exit codes:",
            "0 pass",
            "2 usage",
            "64 invalid scenario",
            "69",
            "70",
            "100",
            "101",
            "130",
        ] {
            assert!(
                help.out.contains(word),
                "`{word}` is missing in the help of {arguments:?}:\n{}",
                help.out
            );
        }
    }
}

#[test]
fn a_call_that_is_not_understood_is_usage() {
    let cases: [(&[&str], &str); 15] = [
        (&[], "Usage: gauntlet"),
        (&["rum"], "run"),
        (&["run"], "SCENARIO"),
        (&["run", "none", "--seed", "x"], "--seed"),
        (&["run", "none", "--trials", "0"], "--trials"),
        (&["run", "none", "--format", "xml"], "json"),
        (&["suite", "run"], "SUITE"),
        (&["suite", "run", "smoke", "--shard", "3/2"], "i from 1 to n"),
        (&["suite", "run", "smoke", "--label", "story"], "KEY=VALUE"),
        (&["suite", "run", "smoke", "--resume"], "--out"),
        (&["suite", "merge", "a"], "--out"),
        (&["cluster", "up", "--nodes", "2"], "--nodes has no meaning"),
        (&["cluster", "up", "--target", "kind", "--nodes", "0"], "1..=16"),
        (
            &["cluster", "up", "--target", "kind", "--app", "shop"],
            "--app has no meaning",
        ),
        (
            &["cluster", "down", "--target", "kind", "--name", "existing"],
            "stands for a cluster",
        ),
    ];
    for (arguments, word) in cases {
        let refused = gauntlet(arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {}", refused.err);
        assert!(
            refused.err.contains(word),
            "`{word}` is missing for {arguments:?}:\n{}",
            refused.err
        );
        assert_eq!(refused.out, "", "{arguments:?}");
    }
}

#[test]
fn an_unknown_scenario_is_refused_with_a_near_name() {
    for command in [&["run"][..], &["scenario", "show"], &["scenario", "validate"]] {
        let refused = gauntlet(&[command, &["cache-flus"]].concat());
        assert_eq!(refused.code, 64, "{command:?}: {}", refused.err);
        assert!(
            refused.err.contains("did you mean `cache-flush`?"),
            "{command:?}: {}",
            refused.err
        );
    }
}

#[test]
fn every_problem_of_a_file_is_told_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("broken.yaml");
    let text = "\
apiVersion: gauntlet/v1
kind: Scenario
metadata: {name: broken, title: Broken}
spec:
  app: shop
  phases: {baseline: 2, warm: 3s}
  faults:
    - {id: a, kind: network-filtr, target: {service: cach}}
  truth:
    rootCauses:
      - {fault: b, service: cache, mechanism: network.filtr}
";
    std::fs::write(&path, text).expect("written");
    let path = path.display().to_string();
    for command in [&["run"][..], &["scenario", "validate"]] {
        let refused = gauntlet(&[command, &[path.as_str()]].concat());
        assert_eq!(refused.code, 64, "{command:?}: {}", refused.err);
        let places = [
            (6, 22, "a duration needs a unit"),
            (6, 25, "did you mean `warmUp`?"),
            (8, 21, "`network-filter`"),
            (8, 54, "`cache`"),
            (11, 17, "no fault is named `b`"),
            (11, 47, "did you mean `network.filter`?"),
        ];
        for (line, column, words) in places {
            let place = format!("{path}:{line}:{column}]");
            assert!(refused.err.contains(&place), "{place} is missing:\n{}", refused.err);
            assert!(refused.err.contains(words), "`{words}` is missing:\n{}", refused.err);
        }
    }
}

#[test]
fn one_bad_scenario_among_good_ones_is_refused_before_anything_runs() {
    let refused = gauntlet(&["run", "none", "no-such-scenario"]);
    assert_eq!(refused.code, 64);
    assert!(refused.err.contains("no-such-scenario"), "{}", refused.err);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let refused = gauntlet(&["scenario", "validate", "./nowhere/at-all.yaml"]);
    assert_eq!(refused.code, 64);
    assert!(refused.err.contains("./nowhere/at-all.yaml"), "{}", refused.err);
}

#[test]
fn a_detector_that_cannot_be_meant_is_refused_before_anything_runs() {
    for (spec, words) in [
        ("./no/such/program", "there is no program at `./no/such/program`"),
        ("exec:", "`exec:` names nothing"),
    ] {
        let refused = gauntlet(&["run", "none", "--detector", spec]);
        assert_eq!(refused.code, 2, "{spec}: {}", refused.err);
        assert!(refused.err.contains(words), "`{words}` is missing:\n{}", refused.err);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("alerts.yaml");
    let text = "apiVersion: gauntlet/v1\nkind: Alertmanager\nspec:\n  rules: [{entity: {servise: cache}}]\n";
    std::fs::write(&path, text).expect("written");
    let path = path.display().to_string();
    let refused = gauntlet(&["run", "none", "--detector", &format!("alertmanager:{path}")]);
    assert_eq!(refused.code, 64, "{}", refused.err);
    assert!(refused.err.contains(&format!("{path}:4:")), "{}", refused.err);
    assert!(refused.err.contains("did you mean `service`?"), "{}", refused.err);
}

#[test]
fn the_list_is_the_catalogue_on_disk_and_within_the_program() {
    let expected = catalogue();
    assert!(
        expected.iter().any(|(_, name)| name == "cache-network-misconfig"),
        "{expected:?}"
    );
    let elsewhere = tempfile::tempdir().expect("a directory");
    for directory in [
        Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        elsewhere.path().to_owned(),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
        let list = answer(
            command
                .args(["scenario", "list", "--format", "json"])
                .current_dir(&directory),
        );
        assert_eq!(list.code, 0, "{}", list.err);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&list.out).expect("an array");
        let text = |row: &serde_json::Value, field: &str| row[field].as_str().expect("text").to_owned();
        let mut listed: Vec<_> = rows.iter().map(|row| (text(row, "class"), text(row, "name"))).collect();
        listed.sort();
        assert_eq!(listed, expected, "in {}", directory.display());
        assert!(rows.iter().all(|row| !text(row, "title").is_empty()));
    }
}

#[test]
fn every_scenario_of_the_catalogue_is_valid_and_can_be_shown() {
    let names: Vec<String> = catalogue().into_iter().map(|(_, name)| name).collect();
    let all: Vec<&str> = ["scenario", "validate"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    let validated = gauntlet(&all);
    assert_eq!(validated.code, 0, "{}", validated.err);
    assert_eq!(validated.out.lines().count(), names.len(), "{}", validated.out);
    let shown = gauntlet(&["scenario", "show", "cache-flush"]);
    assert_eq!(shown.code, 0);
    assert!(shown.out.contains("name: cache-flush"), "{}", shown.out);
}

#[test]
fn suites_are_listed_shown_and_validated() {
    let list = gauntlet(&["suite", "list", "--format", "json"]);
    assert_eq!(list.code, 0, "{}", list.err);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&list.out).expect("an array");
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().expect("text")).collect();
    assert_eq!(names, ["controls", "kubernetes", "nightly", "smoke"]);
    assert!(rows.iter().all(|row| row["scenarios"].as_u64() > Some(0)), "{rows:?}");
    let validated = gauntlet(&[&["suite", "validate"][..], &names].concat());
    assert_eq!(
        (validated.code, validated.out.lines().count()),
        (0, 4),
        "{}",
        validated.err
    );
    let shown = gauntlet(&["suite", "show", "smoke"]);
    assert!(shown.code == 0 && shown.out.contains("kind: Suite"), "{}", shown.out);
    for command in ["run", "plan", "show", "validate"] {
        let refused = gauntlet(&["suite", command, "smok"]);
        assert_eq!(refused.code, 64, "{command}: {}", refused.err);
        assert!(
            refused.err.contains("did you mean `smoke`?"),
            "{command}: {}",
            refused.err
        );
    }
}

#[test]
fn a_plan_says_what_runs_where() {
    let plan = |more: &[&str]| {
        let answer = gauntlet(&[&["suite", "plan", "nightly", "--format", "json"], more].concat());
        (
            answer.code,
            serde_json::from_str::<serde_json::Value>(&answer.out).unwrap_or_default(),
        )
    };
    let cases = |value: &serde_json::Value| value["cases"].as_array().expect("a list").len();
    let (code, whole) = plan(&[]);
    let kubernetes = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/kubernetes");
    let elsewhere = std::fs::read_dir(kubernetes).expect("a directory").count();
    assert!(elsewhere > 0);
    assert_eq!((code, cases(&whole)), (0, (catalogue().len() - elsewhere) * 3));
    let (_, half) = plan(&["--shard", "2/2"]);
    assert_eq!(half["digest"], whole["digest"], "shards are of one suite");
    assert_eq!(cases(&half), cases(&whole) / 2);
    let (_, some) = plan(&["--class", "controls", "--scenario", "p*", "--scenario", "none"]);
    assert_eq!(cases(&some), 6, "{some}");
    assert_ne!(some["digest"], whole["digest"]);
    for nothing in [
        &["--label", "story=none"][..],
        &["--scenario", "none", "--shard", "4/4"],
    ] {
        let answer = gauntlet(&[&["suite", "plan", "nightly"], nothing].concat());
        assert_eq!(answer.code, 4, "{nothing:?}: {}", answer.err);
    }
}

#[test]
fn shells_get_completions() {
    for (shell, word) in [
        ("bash", "complete -F _gauntlet"),
        ("zsh", "#compdef gauntlet"),
        ("fish", "complete -c gauntlet"),
    ] {
        let script = gauntlet(&["completions", shell]);
        assert_eq!(script.code, 0);
        assert!(script.out.contains(word), "{shell}");
        assert!(script.out.contains("recover"), "{shell}");
    }
}

#[test]
fn without_privileges_it_says_what_to_do() {
    for arguments in [
        &["run", "none"][..],
        &["suite", "run", "smoke"],
        &["recover"],
        &["cluster", "up"],
        &["cluster", "up", "--target", "kind"],
        &["cluster", "down", "--target", "kind"],
    ] {
        let refused = gauntlet_unprivileged(arguments);
        assert_eq!(refused.code, 69, "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains("root"), "{arguments:?}: {}", refused.err);
    }
    let examined = gauntlet_unprivileged(&["doctor"]);
    assert_eq!(examined.code, 69, "{}", examined.err);
    assert!(examined.out.contains("→ run as root"), "{}", examined.out);
    // What needs no privileges works without.
    assert_eq!(gauntlet_unprivileged(&["scenario", "list"]).code, 0);
    assert_eq!(gauntlet_unprivileged(&["suite", "plan", "nightly"]).code, 0);
}

/// A baseline file of `right` right and `wrong` wrong replays.
fn baseline(digest: &str, right: usize, wrong: usize) -> String {
    let mut text = format!(
        "apiVersion: gauntlet/v1\nkind: Baseline\nmetadata: {{name: corpus}}\nspec:\n  digest: {digest}\n  mode: replay\n  \
         detector: some 1.0\n  planned: {}\n  cases:\n",
        right + wrong
    );
    for index in 1..=right + wrong {
        let answer = if index <= right {
            "ac1: 1, rank: 1, ttd: 0.4s, ttrc: 1.2s"
        } else {
            "ac1: 0, rank: absent, ttd: 0.4s, ttrc: not in 15s"
        };
        text += &format!(
            "  - {{scenario: cache-crash, trial: {index}, seed: 1, recording: \"r{index:03}\", app: shop, arm: fault, validity: VALID, \
             {answer}, falseAlarms: 0, faultFree: 8s}}\n"
        );
    }
    text
}

#[test]
fn the_gates_exit_code_says_what_it_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a plain path").to_owned()
    };
    let main = file("main.yaml", &baseline("d1", 100, 0));
    let gate = |result: &str| gauntlet(&["gate", "--baseline", &main, result]);
    let same = gate(&main);
    assert_eq!(same.code, 0, "{}", same.err);
    assert!(same.out.starts_with("gate PASS\n"), "{}", same.out);
    let worse = gate(&file("worse.yaml", &baseline("d1", 80, 20)));
    assert_eq!(worse.code, 100, "{}", worse.err);
    assert_eq!(
        worse.out.matches("\nlost ").count(),
        20,
        "every flip is listed:\n{}",
        worse.out
    );
    let other = gate(&file("other.yaml", &baseline("d2", 100, 0)));
    assert_eq!(other.code, 101, "{}", other.err);
    let broken = gate(&file(
        "broken.yaml",
        &baseline("d1", 1, 0).replace("ttrc: 1.2s", "ttrc: soon"),
    ));
    assert_eq!(broken.code, 64, "{}", broken.out);
    assert!(broken.err.contains("`soon` is no duration"), "{}", broken.err);
    assert_eq!(gauntlet(&["gate", &main]).code, 2);
    assert_eq!(
        gauntlet(&["gate", "--baseline", &main, "--false-alarm-budget", "-1", &main]).code,
        2
    );
    let side_by_side = gauntlet(&["compare", &main, &file("worse2.yaml", &baseline("d1", 80, 20))]);
    assert_eq!(side_by_side.code, 0, "{}", side_by_side.err);
    assert!(side_by_side.out.contains("80/100"), "{}", side_by_side.out);
    let markdown = gauntlet(&["gate", "--baseline", &main, &main, "--format", "markdown"]);
    assert!(
        markdown.out.starts_with("### ✅ Detection gate: PASS\n"),
        "{}",
        markdown.out
    );
}
