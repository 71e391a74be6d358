//! Suites whose shards run in pods of a real cluster: killed, interrupted, left alone, and none of it counts twice.
//!
//! Needs root, docker and the cluster of `ci/kind`; skips with the reason otherwise. Makes real runs, one at a time, on this
//! machine's kernel, which the cluster's nodes share.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use gauntlet_harness::target::kind::image::{Made, build_app_image};
use nix::sys::signal::Signal;

#[path = "../call/mod.rs"]
mod call;
#[path = "../short/mod.rs"]
mod short;
mod support;
use support::{Given, PATIENCE, Play, answer, docker_said, given, pod_in_a_run, write_suite};

#[test]
fn an_image_of_the_services_starts_and_is_made_once() {
    let Some(_given) = given() else { return };
    let binary = Path::new(env!("CARGO_BIN_EXE_gauntlet-app"));
    let first = build_app_image(binary).expect("an image");
    let again = build_app_image(binary).expect("the same image");
    assert_eq!((&again.name, again.made), (&first.name, Made::Present));
    let said = docker_said(&["run", "--rm", "--network", "none", &first.name, "--version"]);
    assert!(said.starts_with("gauntlet"), "{said}");
    if first.made == Made::New {
        docker_said(&["image", "rm", &first.name]);
    }
}

/// Eight runs in four shards; the pod of one is killed within a run.
#[test]
fn a_shard_that_is_killed_is_retried_and_nothing_counts_twice() {
    let Some(given) = given() else { return };
    let files = tempfile::tempdir().expect("a directory");
    let suite = write_suite(files.path(), 4);
    let planned = answer(&["suite", "plan", "--format", "json", &suite.display().to_string()]);
    let out = files.path().join("out");
    let mut play = Play::start(given, &suite, &out, 4);
    play.wait_until(|play| play.cases().len() == 1);
    let victim = pod_in_a_run(&play.execution());
    victim.kill();
    let status = play.end(PATIENCE);
    let said = play.said();
    eprintln!("{said}");
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        said.contains("4 shards as a Job for each shard") || said.contains("4 shards as one Indexed Job"),
        "{said}"
    );

    let result = support::read_json(&out.join("suite.json"));
    assert_eq!(result["digest"], planned["digest"]);
    assert_eq!(result["plannedCount"], 8);
    let cases = result["cases"].as_array().expect("a list");
    let key = |case: &serde_json::Value| (case["scenario"].to_string(), case["trial"].as_u64());
    let planned: Vec<_> = planned["cases"].as_array().expect("a list").iter().map(key).collect();
    assert_eq!(cases.len(), 8, "{said}");
    assert_eq!(
        cases.iter().map(key).collect::<BTreeSet<_>>(),
        planned.into_iter().collect(),
        "{said}"
    );
    assert_eq!(play.cases().len(), 8, "one line for each case");
    for case in cases {
        assert_eq!(case["validity"]["class"], "VALID", "{case}");
        let run = out.join(case["directory"].as_str().expect("it came along"));
        assert!(run.join("recording.gauntlet").is_file(), "{}", run.display());
    }
    assert_eq!(given.left(&play.execution()), Vec::<String>::new());
    assert!(!given.namespace_is_there(), "it was made for this");
}

/// Two runs: the harness is killed, another goes on with its pods and is interrupted, a third one ends it.
#[test]
fn an_execution_outlives_its_harness_and_an_interruption_leaves_nothing() {
    let Some(given) = given() else { return };
    let files = tempfile::tempdir().expect("a directory");
    let suite = write_suite(files.path(), 1);
    let out = files.path().join("out");
    let mut killed = Play::start(given, &suite, &out, 2);
    killed.wait_until(|play| play.said().contains("runs on"));
    killed.kill();
    let execution = killed.execution();
    assert_ne!(given.left(&execution), Vec::<String>::new(), "its pods go on");

    let mut second = Play::start(given, &suite, &out, 2);
    second.wait_until(|play| play.cases().len() == 1);
    assert_eq!(second.execution(), execution, "it went on with what there was");
    second.signal(Signal::SIGINT);
    let status = second.end(Duration::from_secs(120));
    assert_eq!(status.code(), Some(130), "{}", second.said());
    assert_eq!(given.left(&execution), Vec::<String>::new());
    let first = second.cases();

    let mut third = Play::start(given, &suite, &out, 2);
    let status = third.end(PATIENCE);
    let said = third.said();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!((third.cases().len(), &third.cases()[..1]), (2, &first[..]), "{said}");
    assert_eq!(given.left(&third.execution()), Vec::<String>::new());
}

#[test]
fn what_a_killed_harness_left_is_removed_by_recover() {
    let Some(given) = given() else { return };
    let files = tempfile::tempdir().expect("a directory");
    let suite = write_suite(files.path(), 1);
    let runs = files.path().join("runs");
    let mut killed = Play::start(given, &suite, &runs.join("suite"), 2);
    killed.wait_until(|play| play.said().contains("runs on"));
    let meanwhile = answer(&["recover", "--format", "json"]);
    assert_eq!(meanwhile["recovered"], serde_json::json!([]), "it is on");
    assert_ne!(given.left(&killed.execution()), Vec::<String>::new());
    killed.kill();
    // It finds by itself where that was.
    let recovered = answer(&["recover", "--format", "json"]);
    let done = recovered["recovered"].to_string();
    assert!(
        done.contains(&format!("execution {}: removed", killed.execution())),
        "{recovered}"
    );
    assert_eq!(given.left(&killed.execution()), Vec::<String>::new());
}

#[test]
fn a_pod_that_cannot_start_is_not_waited_for() {
    let Some(given) = given() else { return };
    let files = tempfile::tempdir().expect("a directory");
    let suite = write_suite(files.path(), 1);
    let without = Given {
        // No name of an image, so that no registry is asked for it.
        image: "Gauntlet/Runner".into(),
        ..given.clone()
    };
    let mut play = Play::start(&without, &suite, &files.path().join("out"), 1);
    let status = play.end(Duration::from_secs(150));
    assert_eq!(status.code(), Some(70), "{}", play.said());
    assert!(play.said().contains("InvalidImageName"), "{}", play.said());
    assert_eq!(given.left(&play.execution()), Vec::<String>::new());
}
