//! Faults whose makers are gone: they expire, their agents undo them, the journal does.

use gauntlet_harness::fault::injector::Injector;
use gauntlet_harness::fault::journal::{Journal, LeftoverOutcome, UndoneBy, recover_journal};
use gauntlet_harness::fault::kind::FaultKind;
use gauntlet_harness::fault::netns::Namespaces;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::world::{self, World, opened, reopen, skipped};
use super::{WITHIN, composed, kinds, ms, runtime};

#[test]
fn faults_expire_by_themselves() {
    if skipped() {
        return;
    }
    let world = World::new();
    runtime().block_on(async {
        let injector = world.injector();
        for kind in kinds()
            .into_iter()
            .filter(|kind| !matches!(kind, FaultKind::ProcessKill { .. }))
        {
            let mut fault = world.fault("f", kind.clone());
            fault.expires_after = ms(400);
            let injection = injector.inject(&fault).await.expect("injects");
            let deadline = Instant::now() + WITHIN;
            while !world.journal().left().expect("journal").is_empty() {
                assert!(Instant::now() < deadline, "{kind:?} does not expire");
                tokio::time::sleep(ms(50)).await;
            }
            assert_eq!(world.residue(), [], "{kind:?}");
            assert_eq!(*world.control.port.lock().unwrap(), None);
            let recovered = injection.recover().await.expect("what has expired is recovered");
            assert_eq!(recovered.by, UndoneBy::Expiry, "{kind:?}");
        }
    });
    assert_eq!(*world.control.factor.lock().unwrap(), Some(1.0));
}

#[test]
fn a_killed_agent_loses_nothing() {
    if skipped() {
        return;
    }
    let world = World::new();
    runtime().block_on(async {
        let injector = world.injector();
        // Without those that have no agent, and those after which there is no server for the next.
        let without = |kind: &FaultKind| {
            matches!(
                kind,
                FaultKind::ServiceWrongPort { .. } | FaultKind::LoadSurge { .. } | FaultKind::ProcessKill { .. }
            )
        };
        for kind in kinds().into_iter().filter(|kind| !without(kind)) {
            let injection = injector.inject(&world.fault("f", kind.clone())).await.expect("injects");
            let agent = injection.agent_tgid().expect("has an agent");
            kill(Pid::from_raw(agent as i32), Signal::SIGKILL).expect("kills");
            injection.recover().await.expect("recovers without its agent");
            assert_eq!(world.residue(), [], "{kind:?}");
        }
    });
}

/// Not a test: the process that [`a_killed_injector_is_undone`] starts from this binary, and kills.
#[test]
fn child_that_injects() {
    let (Ok(places), Ok(scratch)) = (std::env::var("GTEST_PLACES"), std::env::var("GTEST_SCRATCH")) else {
        return;
    };
    let scratch = PathBuf::from(scratch);
    let cgroup = PathBuf::from(std::env::var("GTEST_CGROUP").expect("cgroup"));
    let around = opened(&places, &cgroup);
    let journal = Journal::at(scratch.join("journal.jsonl"));
    let injector = Injector::new(
        journal,
        world::agent(),
        around,
        std::sync::Arc::<world::FakeControl>::default(),
    );
    runtime().block_on(async {
        let mut injections = Vec::new();
        for (index, kind) in composed().into_iter().chain([FaultKind::ProcessPause]).enumerate() {
            let fault = world::fault(&format!("f{index}"), kind);
            injections.push(injector.inject(&fault).await.expect("injects"));
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
    let _gone = std::fs::remove_file(world.scratch.join("ready"));
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "killed::child_that_injects"])
        .env("GTEST_PLACES", reopen(&world.around))
        .env("GTEST_SCRATCH", &world.scratch)
        .env("GTEST_CGROUP", &world.cache().cgroup.unified)
        .stdout(Stdio::null())
        .spawn()
        .expect("starts itself");
    let started = Instant::now();
    let ready = world.scratch.join("ready");
    while !ready.exists() && patience.is_none_or(|patience| started.elapsed() < patience) {
        assert!(started.elapsed() < Duration::from_secs(20), "it does not get ready");
        std::thread::sleep(ms(5));
    }
    if agents_too {
        let agents: Vec<i32> = serde_json::from_slice(&std::fs::read(&ready).expect("ready")).expect("numbers");
        agents
            .into_iter()
            .for_each(|agent| kill(Pid::from_raw(agent), Signal::SIGKILL).expect("kills"));
    }
    child.kill().expect("kills");
    child.wait().expect("reaps");
}

#[test]
fn a_killed_injector_is_undone_at_once_by_its_agents() {
    if skipped() {
        return;
    }
    let world = World::new();
    // At any moment: while it injects, and when it has.
    for patience in [20, 60, 100, 140, 180, 220, 260]
        .map(|after| Some(ms(after)))
        .into_iter()
        .chain([None])
    {
        kill_injector(&world, patience, false);
        let deadline = Instant::now() + WITHIN;
        while !world.residue().is_empty() {
            assert!(Instant::now() < deadline, "{patience:?}: {:?}", world.residue());
            std::thread::sleep(ms(50));
        }
        // A plan whose deed never began is all that may be left on paper.
        let runtime = runtime();
        let left = runtime
            .block_on(recover_journal(&world.journal(), &Namespaces::default(), None))
            .expect("journal");
        assert!(left.len() <= 1, "{left:?}");
        assert_eq!(world.residue(), []);
    }
}

#[test]
fn killed_with_its_agents_it_is_undone_from_the_journal() {
    if skipped() {
        return;
    }
    let world = World::new();
    kill_injector(&world, None, true);
    assert!(!world.residue().is_empty(), "nobody has undone it");
    let runtime = runtime();
    // No handles at hand: the namespaces are found through the processes that live in them.
    let recover = || {
        runtime
            .block_on(recover_journal(&world.journal(), &Namespaces::default(), None))
            .expect("journal")
    };
    let left = recover();
    assert_eq!(left.len(), composed().len() + 1);
    assert!(
        left.iter().all(|one| matches!(one.outcome, LeftoverOutcome::Recovered)),
        "{left:?}"
    );
    assert_eq!(world.residue(), []);
    assert!(world.ping());
    assert!(recover().is_empty(), "twice is once");
}

#[test]
fn what_has_no_place_any_more_is_already_gone() {
    if skipped() {
        return;
    }
    let world = World::new();
    kill_injector(&world, None, true);
    let kept = std::env::temp_dir().join(format!("gtest-journal-{}", std::process::id()));
    std::fs::copy(world.journal().path(), &kept).expect("copies");
    drop(world);
    let left = runtime()
        .block_on(recover_journal(&Journal::at(&kept), &Namespaces::default(), None))
        .expect("journal");
    std::fs::remove_file(&kept).expect("removes");
    assert!(
        left.iter()
            .all(|one| matches!(one.outcome, LeftoverOutcome::AlreadyGone)),
        "{left:?}"
    );
}
