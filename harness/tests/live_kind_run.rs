//! Whole runs of the built program on a real Kubernetes cluster: the same scenario file, the same answer, and nothing left.
//!
//! `GAUNTLET_TEST_KUBECONFIG`, `GAUNTLET_TEST_CONTEXT`, `GAUNTLET_SERVERS_IMAGE` and `GAUNTLET_KIND` say which cluster and how
//! (`ci/kind up` makes one); skips with the reason without. A cluster that is named and does not do is a failure.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// The arguments by which the tests' cluster is used, with or without its context named.
fn cluster(owned: bool) -> Option<Vec<String>> {
    let Ok(kubeconfig) = std::env::var("GAUNTLET_TEST_KUBECONFIG") else {
        eprintln!("skipped: no Kubernetes cluster (GAUNTLET_TEST_KUBECONFIG is not set)");
        return None;
    };
    let named =
        |variable: &str| std::env::var(variable).unwrap_or_else(|_| panic!("{variable} goes with the kubeconfig"));
    let (context, image) = (named("GAUNTLET_TEST_CONTEXT"), named("GAUNTLET_SERVERS_IMAGE"));
    let mut arguments = vec!["--target", "kind", "--cluster", "existing", "--kubeconfig", &kubeconfig];
    arguments.extend(["--redis-image", &image, "--postgres-image", &image]);
    if owned {
        arguments.extend(["--i-own-this-cluster", &context]);
    }
    Some(arguments.into_iter().map(str::to_owned).collect())
}

fn run(arguments: &[String], out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
    command.args([
        "run",
        "cache-network-misconfig",
        "--seed",
        "5",
        "--format",
        "json",
        "--out",
    ]);
    command.arg(out).args(arguments).output().expect("the program starts")
}

#[test]
fn the_seed_scenario_is_solved_on_kubernetes() {
    let Some(arguments) = cluster(true) else { return };
    let files = tempfile::tempdir().expect("a directory");
    let out = files.path().join("runs");
    let output = run(&arguments, &out);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let answer: Value = serde_json::from_str(stdout.lines().last().unwrap_or_default()).expect(&stderr);
    let run = &answer["runs"][0];
    eprintln!(
        "TTRC {} s; {}",
        run["ttrcSeconds"],
        stderr.lines().last().unwrap_or_default()
    );
    assert_eq!(
        (&run["validity"], &run["verdict"]),
        (&json!("VALID"), &json!("pass")),
        "{run}\n{stderr}"
    );
    assert_eq!((&run["rank"], &run["exactPods"]), (&json!(1.0), &json!(true)), "{run}");
    assert_eq!(run["answer"]["mechanism"], "network.filter", "{run}");
    assert_eq!(output.status.code(), Some(0));
    let directory = run["directory"].as_str().expect("a directory");
    let environment = std::fs::read_to_string(Path::new(directory).join("environment.json")).expect("it is written");
    assert!(environment.contains("Kubernetes v"), "{environment}");
}

#[test]
fn a_cluster_whose_context_nobody_named_is_refused_before_anything() {
    let Some(arguments) = cluster(false) else { return };
    let files = tempfile::tempdir().expect("a directory");
    let out = files.path().join("runs");
    let output = run(&arguments, &out);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let context = std::env::var("GAUNTLET_TEST_CONTEXT").expect("looked at before");
    assert_eq!(output.status.code(), Some(69), "{stderr}");
    assert!(
        stderr.contains(&context) && stderr.contains("nothing was touched"),
        "{stderr}"
    );
    assert!(!out.exists(), "nothing was begun");
}
