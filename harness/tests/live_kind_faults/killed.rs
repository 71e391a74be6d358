//! Faults of a cluster whose makers are gone: their agents undo them, the journal does, and a cluster that is gone has none.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gauntlet_harness::fault::injector::Injector;
use gauntlet_harness::fault::journal::{Journal, LeftoverOutcome, recover_journal};
use gauntlet_harness::fault::kind::{FaultKind, ObjectFault};
use gauntlet_harness::fault::netns::Namespaces;
use gauntlet_harness::fault::surroundings::Surroundings;
use gauntlet_harness::target::kind::access::ClusterAccess;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::world::{NoControl, World, agent, planned};
use super::{from_environment, in_world, runtime};

/// A change of fields, a rollout of a StatefulSet, and an object that is created.
fn kinds() -> [FaultKind; 3] {
    [
        ObjectFault::WrongSelector,
        ObjectFault::Unready,
        ObjectFault::PolicyDeny,
    ]
    .map(FaultKind::Object)
}

/// Not a test: the process that the others start from this binary, and kill.
#[test]
fn child_that_injects() {
    let (Some(kubeconfig), Some(scratch)) = (from_environment("GTEST_KUBECONFIG"), from_environment("GTEST_SCRATCH"))
    else {
        return;
    };
    let text = |name: &str| std::env::var(name).expect("text");
    let access = ClusterAccess {
        kubeconfig,
        context: text("GTEST_CONTEXT"),
        namespace: text("GTEST_NAMESPACE"),
    };
    let around = Surroundings {
        kubernetes: Some(access),
        ..Surroundings::default()
    };
    let journal = Journal::at(scratch.join("journal.jsonl"));
    let injector = Injector::new(journal, agent(), around, Arc::new(NoControl));
    runtime().block_on(async {
        let mut injections = Vec::new();
        for kind in kinds() {
            injections.push(injector.inject(&planned(kind, "cache", None)).await.expect("injects"));
        }
        let agents: Vec<_> = injections
            .iter()
            .filter_map(|injection| injection.agent_tgid())
            .collect();
        std::fs::write(scratch.join("agents"), serde_json::to_vec(&agents).expect("numbers")).expect("scratch");
        std::fs::rename(scratch.join("agents"), scratch.join("ready")).expect("scratch");
        std::future::pending::<()>().await;
    });
}

/// Starts a process that injects, waits until it has (or for `patience`), kills it, and with it perhaps its agents.
fn kill_injector(world: &World, patience: Option<Duration>, agents_too: bool) {
    let ready = world.scratch.join("ready");
    let _gone = std::fs::remove_file(&ready);
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "killed::child_that_injects"])
        .env("GTEST_KUBECONFIG", &world.access.kubeconfig)
        .env("GTEST_CONTEXT", &world.access.context)
        .env("GTEST_NAMESPACE", &world.access.namespace)
        .env("GTEST_SCRATCH", &world.scratch)
        .stdout(Stdio::null())
        .spawn()
        .expect("starts itself");
    let started = Instant::now();
    while !ready.exists() && patience.is_none_or(|patience| started.elapsed() < patience) {
        assert!(started.elapsed() < Duration::from_secs(30), "it does not get ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    if agents_too {
        let agents: Vec<i32> = serde_json::from_slice(&std::fs::read(&ready).expect("ready")).expect("numbers");
        assert_eq!(agents.len(), kinds().len());
        agents
            .into_iter()
            .for_each(|agent| kill(Pid::from_raw(agent), Signal::SIGKILL).expect("kills"));
    }
    child.kill().expect("kills");
    child.wait().expect("reaps");
}

async fn await_no_residue(world: &World) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let residue = world.residue().await;
        if residue.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{residue:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[test]
fn a_killed_injector_is_undone_by_its_agents() {
    in_world(async |world| {
        for patience in [Some(150), Some(300), Some(500), Some(900), None] {
            kill_injector(world, patience.map(Duration::from_millis), false);
            await_no_residue(world).await;
            // A plan whose deed never began is all that may be left on paper.
            let left = recover_journal(&world.journal(), &Namespaces::default(), None)
                .await
                .expect("journal");
            assert!(left.len() <= 1, "{left:?}");
            await_no_residue(world).await;
        }
    });
}

#[test]
fn killed_with_its_agents_it_is_undone_from_the_journal() {
    in_world(async |world| {
        kill_injector(world, None, true);
        assert!(!world.residue().await.is_empty(), "nobody has undone it");
        let kept = std::env::temp_dir().join(format!("{}.jsonl", world.access.namespace));
        std::fs::copy(world.journal().path(), &kept).expect("copies");
        let left = recover_journal(&world.journal(), &Namespaces::default(), None)
            .await
            .expect("journal");
        assert_eq!(left.len(), kinds().len());
        assert!(
            left.iter().all(|one| matches!(one.outcome, LeftoverOutcome::Recovered)),
            "{left:?}"
        );
        assert_eq!(world.residue().await, []);
        let again = recover_journal(&world.journal(), &Namespaces::default(), None)
            .await
            .expect("journal");
        assert!(again.is_empty(), "twice is once");
        // The same journal, found when the place is gone.
        world.remove().await;
        let left = recover_journal(&Journal::at(PathBuf::from(&kept)), &Namespaces::default(), None).await;
        std::fs::remove_file(&kept).expect("removes");
        let left = left.expect("journal");
        assert!(
            left.iter()
                .all(|one| matches!(one.outcome, LeftoverOutcome::AlreadyGone)),
            "{left:?}"
        );
    });
}
