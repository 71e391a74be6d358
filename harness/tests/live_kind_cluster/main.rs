//! Kind clusters for real: they come up and serve, go without a rest, and one that Gauntlet did not make is left alone.
//!
//! Needs root, docker and the fixture's node image; skips with the reason otherwise, and fails instead of skipping where
//! `GAUNTLET_TEST_KUBECONFIG` is set.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[path = "../answer/mod.rs"]
mod answer;
mod given;
mod network;
mod support;
use answer::Answer;
use support::*;

#[test]
fn a_cluster_comes_up_serves_and_goes_without_a_rest() {
    let Some(fixture) = fixture() else { return };
    let cluster = Cluster::named("gt-up", &fixture);
    let archive = tempfile::tempdir().unwrap();
    let (archive, tag) = (archive.path().join("image.tar"), "gauntlet-test/file:1");
    make_archive(&archive, tag);
    let arguments = cluster.up_arguments();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let archive = archive.display().to_string();
    arguments.extend(["--image-archive", &archive]);
    let up = cluster.answer(&arguments);
    assert_eq!(up.code, 0, "{up:?}");
    eprint!("{}{}", up.err, up.out);
    assert!(
        up.out.contains("is up after") && up.err.contains("kind: starting control-plane"),
        "{up:?}"
    );

    let (name, nodes) = (cluster.name.as_str(), cluster.nodes());
    assert_eq!(
        nodes,
        ["control-plane", "worker", "worker2"].map(|role| format!("{name}-{role}"))
    );
    for node in &nodes {
        let limit = docker_said(&["inspect", "--format", "{{.HostConfig.NanoCpus}}", node]);
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(limit, format!("{}", (cores * 450).max(500) * 1_000_000), "{node}");
        let images = docker_said(&["exec", node, "ctr", "--namespace", "k8s.io", "images", "ls", "--quiet"]);
        assert!(images.contains(tag), "{node}: {images}");
    }
    assert!(
        cluster.record().holder.is_none(),
        "it stays when the process that made it is gone"
    );
    let listed = cluster.answer(&["cluster", "list"]);
    assert!(
        listed.out.contains(&format!("{name:<20} up, 3/3 nodes run")),
        "{listed:?}"
    );
    let again = cluster.answer(&cluster.up_arguments().each_ref().map(String::as_str));
    assert_eq!(again.code, 70, "{again:?}");
    assert!(again.err.contains("is up already"), "{again:?}");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(network::serves(&cluster));
    // The node's own init sets its pods' network up again.
    docker_said(&["restart", &nodes[2]]);
    runtime.block_on(network::serves(&cluster));
    runtime.block_on(given::our_own_is_used_by_its_name(&cluster));

    let down = cluster.answer(&["cluster", "down", "--target", "kind", "--name", name]);
    assert_eq!(
        (down.code, down.out.as_str()),
        (0, format!("cluster {name} is down\n").as_str()),
        "{down:?}"
    );
    assert_eq!(cluster.rests(), Vec::<String>::new());
    let down = cluster.answer(&["cluster", "down", "--target", "kind", "--name", name]);
    assert_eq!(down.code, 4, "{down:?}");
    docker_said(&["image", "rm", tag]);
}

/// An image of one file, as `docker save` writes it.
fn make_archive(path: &std::path::Path, tag: &str) {
    let made = std::process::Command::new("sh")
        .args([
            "-euc",
            r#"tar --create --directory /etc hostname | docker import - "$0"; docker save --output "$1" "$0""#,
        ])
        .args([tag, &path.display().to_string()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn an_interrupted_creation_takes_back_what_it_made() {
    let Some(fixture) = fixture() else { return };
    let cluster = Cluster::named("gt-int", &fixture);
    let mut up = cluster.coming_up();
    kill(Pid::from_raw(up.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(up.wait().unwrap().code(), Some(130));
    assert_eq!(cluster.rests(), Vec::<String>::new());
}

#[test]
fn what_a_killed_creation_left_is_removed_by_recover() {
    let Some(fixture) = fixture() else { return };
    let cluster = Cluster::named("gt-kill", &fixture);
    let mut up = cluster.coming_up();
    up.kill().unwrap();
    up.wait().unwrap();
    assert!(
        !cluster.nodes().is_empty(),
        "the nodes outlive the process that made them"
    );
    let listed = cluster.answer(&["cluster", "list"]);
    assert!(listed.out.contains("left by a killed process"), "{listed:?}");
    let runs = tempfile::tempdir().unwrap();
    let recovered = cluster.answer(&["recover", "--out", &runs.path().display().to_string()]);
    assert_eq!(recovered.code, 0, "{recovered:?}");
    let expected = format!("kind cluster {}: removed", cluster.name);
    assert!(recovered.out.contains(&expected), "{recovered:?}");
    // What the killed one had asked docker for would appear now.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(cluster.rests(), Vec::<String>::new());
}

#[test]
fn a_cluster_of_somebody_elses_is_neither_made_again_nor_taken_down() {
    let Some(fixture) = fixture() else { return };
    let cluster = Cluster::named("gt-other", &fixture);
    let name = cluster.name.as_str();
    // As kind would have made it, as far as names and labels go.
    let label = format!("io.x-k8s.kind.cluster={name}");
    let node = format!("{name}-control-plane");
    docker_said(&["create", "--name", &node, "--label", &label, NODE_IMAGE]);
    let up = cluster.answer(&cluster.up_arguments().each_ref().map(String::as_str));
    assert_eq!(up.code, 69, "{up:?}");
    assert!(up.err.contains("Gauntlet did not make it"), "{up:?}");
    let down = cluster.answer(&["cluster", "down", "--target", "kind", "--name", name]);
    assert_eq!(down.code, 69, "{down:?}");
    assert_eq!(cluster.nodes(), [node], "it is still there");
}

#[test]
fn what_is_missing_is_said_before_anything_is_made() {
    let Some(fixture) = fixture() else { return };
    let cluster = Cluster::named("gt-miss", &fixture);
    let arguments = cluster.up_arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let cases: [(&[&str], &str); 4] = [
        (
            &["--kind-program", "no-such-kind"],
            "install kind, or name it with --kind-program",
        ),
        (&["--kind-program", "/bin/false"], "/bin/false does not run"),
        (
            &["--image-archive", "/no/such.tar"],
            "there is no image archive /no/such.tar",
        ),
        (&["--kubeconfig", "/etc/hostname"], "name another with --kubeconfig"),
    ];
    for (more, words) in cases {
        let refused = cluster.answer(&[&arguments, more].concat());
        assert_eq!(refused.code, 69, "{more:?}: {refused:?}");
        assert!(refused.err.contains(words), "{more:?}: {refused:?}");
        assert_eq!(cluster.rests(), Vec::<String>::new(), "{more:?}");
    }
    let mut without_docker = cluster.gauntlet(&arguments);
    let refused: Answer = without_docker.env("PATH", "/nowhere").output().unwrap().into();
    assert_eq!(refused.code, 69, "{refused:?}");
    assert!(refused.err.contains("docker does not answer"), "{refused:?}");
}
