//! Every fault of a Kubernetes cluster is seen to bite and seen to be gone, and undone whoever is killed.
//!
//! Needs root and a kind cluster whose nodes have the fixture's image; says why when it skips. Not to be run beside a
//! measurement on the same cluster: nodes and name servers are everybody's.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use gauntlet_harness::fault::effect::{Effect, await_effect, await_recovered, verify_effect};
use gauntlet_harness::fault::journal::UndoneBy;
use gauntlet_harness::fault::kind::{FaultKind, NodeFault, ObjectFault};
use gauntlet_harness::target::namespace::run_in_netns;

mod killed;
mod world;
use world::World;

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("runtime")
}

/// Plays in a world of its own, and removes it whether that went well or not.
fn in_world(play: impl AsyncFnOnce(&World)) {
    let Some(cluster) = world::cluster() else { return };
    runtime().block_on(async {
        let mut world = World::new(cluster).await;
        let played = AssertUnwindSafe(async {
            world.start().await;
            play(&world).await;
        });
        let played = played.catch_unwind().await;
        world.remove().await;
        if let Err(panic) = played {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The life of one fault: injected, present, recovered, absent, no residue.
async fn check(world: &World, kind: FaultKind, service: &str, within: Duration) {
    let injector = world.injector();
    let fault = world.fault(kind.clone(), service);
    let started = Instant::now();
    let injection = injector
        .inject(&fault)
        .await
        .unwrap_or_else(|error| panic!("{kind:?}: {error:#?}"));
    let made = started.elapsed();
    let subject = injection.subject();
    let effect = await_effect(&injector, &subject, within).await;
    let proven = started.elapsed();
    let recovered = injection.recover().await.expect("recovers");
    assert_eq!(recovered.by, UndoneBy::Recovery);
    let undone = Instant::now();
    eprintln!(
        "{}: made in {made:.1?}, proven after {proven:.1?}: {effect:?}",
        kind.words()
    );
    assert!(matches!(effect, Effect::Present { .. }), "{kind:?}: {effect:?}");
    let effect = await_recovered(&injector, &subject, kind.gone_within()).await;
    eprintln!("  gone {:.1?} after its undo: {effect:?}", undone.elapsed());
    assert!(matches!(effect, Effect::Absent { .. }), "{kind:?}: {effect:?}");
    assert_eq!(world.residue().await, [], "{kind:?}");
    assert!(world.journal().left().expect("journal").is_empty());
}

#[test]
fn services_lead_nowhere_and_back() {
    in_world(async |world| {
        let within = Duration::from_secs(10);
        check(
            world,
            FaultKind::ServiceWrongPort { target_port: 6380 },
            "cache",
            within,
        )
        .await;
        check(world, FaultKind::Object(ObjectFault::WrongSelector), "cache", within).await;
        check(world, FaultKind::Object(ObjectFault::WrongSelector), "web", within).await;
    });
}

#[test]
fn rollouts_break_pods_and_mend_them() {
    in_world(async |world| {
        let within = Duration::from_secs(45);
        let address = ObjectFault::WrongAddress {
            peer: "cache".into(),
            port: 6390,
        };
        check(world, FaultKind::Object(address), "web", within).await;
        for fault in [ObjectFault::BadImage, ObjectFault::Unready] {
            check(world, FaultKind::Object(fault.clone()), "cache", within).await;
            check(world, FaultKind::Object(fault), "web", within).await;
        }
        check(world, FaultKind::Object(ObjectFault::ScaleToZero), "cache", within).await;
    });
}

/// A server that starts within the limit dies of what it is given: users do that, and so does this.
#[test]
fn too_little_memory_kills() {
    in_world(async |world| {
        for service in ["cache", "web"] {
            let is_over = Arc::new(AtomicBool::new(false));
            let filling = {
                let (is_over, servers, netns) = (
                    is_over.clone(),
                    world.addresses(service).await,
                    world.around.nodes[0].netns.clone(),
                );
                std::thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        for server in &servers {
                            // It may be dead at the moment.
                            let _filled = run_in_netns(&netns, || fill(*server));
                        }
                        std::thread::sleep(Duration::from_millis(200));
                    }
                })
            };
            let kind = FaultKind::Object(ObjectFault::MemoryLimit { mebibytes: 5 });
            let checked = AssertUnwindSafe(check(world, kind, service, Duration::from_secs(45)))
                .catch_unwind()
                .await;
            is_over.store(true, Ordering::Relaxed);
            filling.join().expect("fills");
            checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// Makes a Redis server keep 8 MiB.
fn fill(server: SocketAddr) -> std::io::Result<()> {
    let patience = Duration::from_millis(500);
    let mut connection = TcpStream::connect_timeout(&server, patience)?;
    connection.set_write_timeout(Some(patience))?;
    let value = "x".repeat(1 << 20);
    for key in 0..8 {
        write!(
            connection,
            "*3\r\n$3\r\nSET\r\n$1\r\n{key}\r\n${}\r\n{value}\r\n",
            value.len()
        )?;
    }
    Ok(())
}

#[test]
fn names_are_answered_again() {
    in_world(async |world| {
        let kind = FaultKind::Object(ObjectFault::DnsScaleToZero);
        check(world, kind, "cache", Duration::from_secs(45)).await;
    });
}

/// The fixture's network enforces no policy, and others do: either way it is told, and nothing is left.
#[test]
fn a_policy_bites_or_is_said_not_to() {
    in_world(async |world| {
        let injector = world.injector();
        let fault = world.fault(FaultKind::Object(ObjectFault::PolicyDeny), "cache");
        let injection = injector.inject(&fault).await.expect("injects");
        let subject = injection.subject();
        let effect = await_effect(&injector, &subject, Duration::from_secs(3)).await;
        eprintln!("policy: {effect:?}");
        assert!(matches!(
            effect,
            Effect::Present { .. } | Effect::Absent { partly: false, .. }
        ));
        injection.recover().await.expect("recovers");
        let effect = await_recovered(&injector, &subject, subject.gone_within()).await;
        assert!(matches!(effect, Effect::Absent { .. }), "{effect:?}");
        assert_eq!(world.residue().await, []);
    });
}

#[test]
fn nodes_fail_and_come_back() {
    in_world(async |world| {
        for fault in [NodeFault::Pause, NodeFault::NetworkCut] {
            check(world, FaultKind::Node(fault), "cache", Duration::from_secs(5)).await;
        }
        check(
            world,
            FaultKind::Node(NodeFault::Drain),
            "cache",
            Duration::from_secs(45),
        )
        .await;
    });
}

#[test]
fn a_node_whose_kubelet_ends_is_declared_down() {
    in_world(async |world| {
        check(
            world,
            FaultKind::Node(NodeFault::KubeletStop),
            "cache",
            Duration::from_secs(80),
        )
        .await;
    });
}

#[test]
fn what_needs_an_api_is_refused_without_one() {
    let scratch = tempfile::tempdir().expect("directory");
    let journal = gauntlet_harness::fault::journal::Journal::at(scratch.path().join("journal.jsonl"));
    let around = gauntlet_harness::fault::surroundings::Surroundings::default();
    let injector = gauntlet_harness::fault::injector::Injector::new(
        journal.clone(),
        world::agent(),
        around,
        std::sync::Arc::new(world::NoControl),
    );
    let fault = world::planned(FaultKind::Object(ObjectFault::BadImage), "cache", None);
    let refused = runtime().block_on(injector.inject(&fault)).err().expect("is refused");
    let source = std::error::Error::source(&refused).expect("has a cause").to_string();
    assert_eq!(source, "it needs a Kubernetes cluster; run it with --target kind");
    assert_eq!(journal.read().expect("journal"), [], "nothing was announced");
}

/// What was not injected does not bite: the probes do not see faults everywhere.
#[test]
fn before_the_deed_nothing_bites() {
    in_world(async |world| {
        let injector = world.injector();
        let kinds = [
            FaultKind::ServiceWrongPort { target_port: 6380 },
            FaultKind::Object(ObjectFault::WrongSelector),
            FaultKind::Object(ObjectFault::BadImage),
            FaultKind::Object(ObjectFault::MemoryLimit { mebibytes: 5 }),
            FaultKind::Object(ObjectFault::DnsScaleToZero),
        ];
        for kind in kinds {
            let injection = injector
                .inject(&world.fault(kind.clone(), "cache"))
                .await
                .expect("injects");
            let subject = injection.subject();
            injection.recover().await.expect("recovers");
            let effect = await_recovered(&injector, &subject, subject.gone_within()).await;
            assert!(matches!(effect, Effect::Absent { .. }), "{kind:?}: {effect:?}");
            let effect = verify_effect(&injector, &subject).await;
            assert!(matches!(effect, Effect::Absent { .. }), "{kind:?}: {effect:?}");
        }
    });
}

fn from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}
