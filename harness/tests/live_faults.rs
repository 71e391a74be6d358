//! Every fault is seen to bite and seen to be gone, alone and together, and after `kill -9` of whoever made it.
//!
//! Needs root, a kernel with namespaces, and redis-server, nft, tc and ip; says why when it skips.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gauntlet_harness::fault::effect::{Effect, await_effect, await_recovered, verify_effect, verify_recovered};
use gauntlet_harness::fault::injector::Injector;
use gauntlet_harness::fault::journal::{Journal, LeftoverOutcome, UndoneBy, recover_journal};
use gauntlet_harness::fault::kind::{FaultDirection, FaultKind, FilterAction, PacketScope};
use gauntlet_harness::fault::netns::Namespaces;
use gauntlet_probes::entity::ServiceName;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[path = "live_faults/world.rs"]
mod world;
use world::{World, opened, reopen, skipped};

const WITHIN: Duration = Duration::from_secs(6);

fn scope(direction: FaultDirection) -> PacketScope {
    PacketScope {
        direction,
        port: None,
        peer: None,
    }
}

fn from_web() -> PacketScope {
    PacketScope {
        direction: FaultDirection::Ingress,
        port: Some(6379),
        peer: Some(ServiceName::new("web")),
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime")
}

/// The life of one fault: absent, injected, present, recovered, absent, no residue.
fn check(kind: FaultKind) {
    if skipped() {
        return;
    }
    let world = World::new();
    world.in_place("web-0", "redis-cli -h 10.77.1.2 set a b");
    runtime().block_on(async {
        let injector = world.injector();
        let injection = injector.inject(&world.fault("f1", kind)).await.expect("injects");
        let subject = injection.subject();
        let started = Instant::now();
        let effect = await_effect(&injector, &subject, WITHIN).await;
        eprintln!("{:?} after injection: {effect:?}", started.elapsed());
        assert!(matches!(effect, Effect::Present { .. }), "{effect:?}");
        let recovered = injection.recover().await.expect("recovers");
        assert_eq!(recovered.by, UndoneBy::Recovery);
        let effect = await_recovered(&injector, &subject, WITHIN).await;
        eprintln!("recovered ({:?}): {effect:?}", recovered.queues);
        assert!(matches!(effect, Effect::Absent { .. }), "{effect:?}");
    });
    assert_eq!(world.residue(), [], "nothing is left");
    assert!(world.journal().left().expect("journal").is_empty());
}

#[test]
fn filter_drops() {
    check(FaultKind::NetworkFilter {
        action: FilterAction::Drop,
        scope: scope(FaultDirection::Ingress),
    });
}

#[test]
fn filter_rejects() {
    check(FaultKind::NetworkFilter {
        action: FilterAction::Reject,
        scope: scope(FaultDirection::Ingress),
    });
}

#[test]
fn filter_drops_one_peer_and_spares_others() {
    let kind = FaultKind::NetworkFilter {
        action: FilterAction::Drop,
        scope: from_web(),
    };
    check(kind.clone());
    if skipped() {
        return;
    }
    let world = World::new();
    runtime().block_on(async {
        let injection = world
            .injector()
            .inject(&world.fault("f1", kind))
            .await
            .expect("injects");
        assert!(!world.ping(), "the peer is cut off");
        assert_eq!(
            world.in_place("node", "redis-cli -h 10.77.1.2 ping"),
            "PONG",
            "the node is not"
        );
        injection.recover().await.expect("recovers");
        assert!(world.ping());
    });
}

#[test]
fn filter_drops_on_the_way_out() {
    check(FaultKind::NetworkFilter {
        action: FilterAction::Drop,
        scope: scope(FaultDirection::Egress),
    });
}

#[test]
fn loss_takes_its_share_each_way() {
    check(FaultKind::NetworkLoss {
        ratio: 0.2,
        scope: scope(FaultDirection::Both),
    });
}

#[test]
fn loss_takes_its_share_of_one_peer() {
    check(FaultKind::NetworkLoss {
        ratio: 0.5,
        scope: from_web(),
    });
}

#[test]
fn delay_is_a_floor_of_the_round_trip() {
    check(FaultKind::NetworkDelay {
        delay: ms(50),
        jitter: ms(5),
        scope: scope(FaultDirection::Both),
    });
}

#[test]
fn delay_of_one_peer_on_the_way_in() {
    check(FaultKind::NetworkDelay {
        delay: ms(20),
        jitter: ms(0),
        scope: from_web(),
    });
}

#[test]
fn bandwidth_is_a_ceiling_each_way() {
    check(FaultKind::NetworkBandwidth {
        bits_per_second: 8_000_000,
        direction: FaultDirection::Both,
    });
}

#[test]
fn pause_stops_everything() {
    check(FaultKind::ProcessPause);
}

#[test]
fn flush_leaves_no_key() {
    check(FaultKind::CacheFlush);
}

#[test]
fn wrong_port_refuses() {
    check(FaultKind::ServiceWrongPort { target_port: 6380 });
}

#[test]
fn surge_multiplies_the_load() {
    check(FaultKind::LoadSurge { factor: 3.0 });
}

#[test]
fn kill_ends_what_runs_and_what_comes_after() {
    if skipped() {
        return;
    }
    let mut world = World::new();
    runtime().block_on(async {
        let injector = world.injector();
        let fault = world.fault("f1", FaultKind::ProcessKill { every: Some(ms(300)) });
        let injection = injector.inject(&fault).await.expect("injects");
        let subject = injection.subject();
        assert!(matches!(
            await_effect(&injector, &subject, WITHIN).await,
            Effect::Present { .. }
        ));
        world.serve();
        let again = Instant::now();
        while world.ping() {
            assert!(again.elapsed() < WITHIN, "the next one is killed too");
        }
        injection.recover().await.expect("recovers");
        world.serve();
        let effect = await_recovered(&injector, &subject, WITHIN).await;
        assert!(matches!(effect, Effect::Absent { .. }), "{effect:?}");
        tokio::time::sleep(ms(500)).await;
        assert!(world.ping(), "nobody kills any more");
    });
    assert_eq!(world.residue(), []);
}

#[test]
fn cpu_limit_throttles_who_works() {
    if skipped() {
        return;
    }
    let world = World::new();
    runtime().block_on(async {
        let injector = world.injector();
        let fault = world.fault("f1", FaultKind::CpuLimit { millicores: 50 });
        let injection = injector.inject(&fault).await.expect("injects");
        let subject = injection.subject();
        let idle = verify_effect(&injector, &subject).await;
        assert!(
            matches!(idle, Effect::Absent { .. }),
            "a limit that nobody reaches has no effect: {idle:?}"
        );
        world.in_place(
            "web-0",
            "timeout 2 redis-cli -h 10.77.1.2 eval 'for i=1,3000000 do end' 0 || true",
        );
        let effect = await_effect(&injector, &subject, WITHIN).await;
        assert!(matches!(effect, Effect::Present { .. }), "{effect:?}");
        injection.recover().await.expect("recovers");
        let effect = verify_recovered(&injector, &subject).await;
        assert!(matches!(effect, Effect::Absent { .. }), "{effect:?}");
    });
    assert_eq!(world.residue(), []);
}

/// Every kind that touches a pod.
fn kinds() -> Vec<FaultKind> {
    let scope = scope(FaultDirection::Both);
    vec![
        FaultKind::NetworkFilter {
            action: FilterAction::Drop,
            scope: scope.clone(),
        },
        FaultKind::NetworkLoss {
            ratio: 0.3,
            scope: scope.clone(),
        },
        FaultKind::NetworkDelay {
            delay: ms(30),
            jitter: ms(3),
            scope,
        },
        FaultKind::NetworkBandwidth {
            bits_per_second: 4_000_000,
            direction: FaultDirection::Both,
        },
        FaultKind::ServiceWrongPort { target_port: 6380 },
        FaultKind::ProcessKill { every: Some(ms(200)) },
        FaultKind::ProcessPause,
        FaultKind::CpuLimit { millicores: 100 },
        FaultKind::CacheFlush,
        FaultKind::LoadSurge { factor: 3.0 },
    ]
}

#[test]
fn a_placebo_runs_the_machinery_and_has_no_effect() {
    if skipped() {
        return;
    }
    let world = World::new();
    runtime().block_on(async {
        let injector = world.injector();
        for kind in kinds() {
            world.in_place("web-0", "redis-cli -h 10.77.1.2 set a b");
            let fault = world.fault(
                "p",
                FaultKind::Placebo {
                    of: Box::new(kind.clone()),
                },
            );
            let injection = injector.inject(&fault).await.expect("injects");
            assert!(!injection.steps().is_empty(), "{kind:?} has machinery");
            let effect = verify_effect(&injector, &injection.subject()).await;
            assert!(matches!(effect, Effect::Absent { .. }), "{kind:?}: {effect:?}");
            assert!(world.ping(), "{kind:?}");
            assert_eq!(world.in_place("web-0", "redis-cli -h 10.77.1.2 get a"), "b", "{kind:?}");
            injection.recover().await.expect("recovers");
        }
    });
    assert_eq!(world.residue(), []);
}

#[test]
fn none_does_nothing() {
    if skipped() {
        return;
    }
    let world = World::new();
    runtime().block_on(async {
        let injector = world.injector();
        let injection = injector
            .inject(&world.fault("n", FaultKind::None))
            .await
            .expect("injects");
        assert_eq!(
            verify_effect(&injector, &injection.subject()).await,
            Effect::NotApplicable
        );
        assert_eq!(world.residue(), []);
        injection.recover().await.expect("recovers");
    });
}

/// Physics: the filter concerns the peer alone, so the node still measures delay, loss and bandwidth behind it.
fn composed() -> [FaultKind; 4] {
    [
        FaultKind::NetworkDelay {
            delay: ms(40),
            jitter: ms(0),
            scope: scope(FaultDirection::Ingress),
        },
        FaultKind::NetworkLoss {
            ratio: 0.15,
            scope: scope(FaultDirection::Egress),
        },
        FaultKind::NetworkBandwidth {
            bits_per_second: 8_000_000,
            direction: FaultDirection::Both,
        },
        FaultKind::NetworkFilter {
            action: FilterAction::Drop,
            scope: from_web(),
        },
    ]
}

#[test]
fn several_faults_compose_on_one_pod_and_each_is_undone_alone() {
    if skipped() {
        return;
    }
    let world = World::new();
    runtime().block_on(async {
        let injector = world.injector();
        let mut injections = Vec::new();
        for (index, kind) in composed().into_iter().enumerate() {
            injections.push(
                injector
                    .inject(&world.fault(&format!("f{index}"), kind))
                    .await
                    .expect("injects"),
            );
        }
        // First in, first out: no order of undoing may be assumed.
        while !injections.is_empty() {
            for injection in &injections {
                let effect = await_effect(&injector, &injection.subject(), WITHIN).await;
                assert!(
                    matches!(effect, Effect::Present { .. }),
                    "{:?}: {effect:?}",
                    injection.fault()
                );
            }
            let first = injections.remove(0);
            let subject = first.subject();
            first.recover().await.expect("recovers");
            let effect = await_recovered(&injector, &subject, WITHIN).await;
            assert!(matches!(effect, Effect::Absent { .. }), "{effect:?}");
        }
    });
    assert_eq!(world.residue(), []);
}

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

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    if skipped() {
        return;
    }
    let world = World::new();
    world.in_place(
        "cache-0",
        "tc qdisc add dev eth0 root handle 9: tbf rate 1gbit burst 1mb latency 50ms",
    );
    let before = world.snapshot();
    runtime().block_on(async {
        let injector = world.injector();
        // Ingress can be made, egress belongs to somebody else: the first half is taken back.
        let kind = FaultKind::NetworkBandwidth {
            bits_per_second: 1_000_000,
            direction: FaultDirection::Both,
        };
        let refused = injector
            .inject(&world.fault("f", kind))
            .await
            .err()
            .expect("is refused")
            .to_string();
        assert!(
            refused.contains("eth0 is shaped by somebody else already (qdisc tbf 9: root"),
            "{refused}"
        );
        let scope = PacketScope {
            peer: Some(ServiceName::new("nobody")),
            ..from_web()
        };
        let kind = FaultKind::NetworkFilter {
            action: FilterAction::Drop,
            scope,
        };
        assert!(
            injector.inject(&world.fault("f", kind)).await.is_err(),
            "a service without address"
        );
    });
    assert_eq!(gauntlet_harness::residue::diff(&before, &world.snapshot()), []);
    assert!(
        world.journal().left().expect("journal").is_empty(),
        "what was refused was undone by its agent"
    );
}

#[test]
fn the_host_scan_sees_our_own_cgroups_alone() {
    if skipped() {
        return;
    }
    let own = format!("gtest-host-{}-", std::process::id());
    let cgroups = |state| {
        let findings = gauntlet_harness::residue::diff(&state, &gauntlet_harness::residue::host_snapshot(&own));
        findings
            .into_iter()
            .filter(|finding| finding.section == "cgroups")
            .map(|finding| finding.fact)
            .collect::<Vec<_>>()
    };
    let before = gauntlet_harness::residue::host_snapshot(&own);
    assert!(cgroups(before.clone()).is_empty());
    let root = std::path::Path::new("/sys/fs/cgroup");
    let hierarchy = [root.join("unified"), root.to_owned()]
        .into_iter()
        .find(|path| path.join("cgroup.procs").exists());
    let ours = hierarchy.expect("a version 2 hierarchy").join(format!("{own}0"));
    std::fs::create_dir(&ours).expect("creates");
    let seen = cgroups(before);
    std::fs::remove_dir(&ours).expect("removes");
    assert_eq!(seen, [ours.display().to_string()]);
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
        .args(["--exact", "child_that_injects"])
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

/// Physics: 600 connections with one request each in flight and a round trip of 100 ms make 6,000 requests per second,
/// each at least one packet each way.
#[test]
fn a_delay_holds_thousands_of_packets_per_second() {
    if skipped() {
        return;
    }
    let world = World::new();
    runtime().block_on(async {
        let injector = world.injector();
        let kind = FaultKind::NetworkDelay { delay: ms(50), jitter: ms(0), scope: scope(FaultDirection::Both) };
        let injection = injector.inject(&world.fault("f1", kind)).await.expect("injects");
        let agent = injection.agent_tgid().expect("has an agent");
        let few = world.in_place("web-0", "redis-benchmark -h 10.77.1.2 -c 10 -n 100 -t ping_mbulk --csv 2>/dev/null");
        let few: f64 = few.lines().last().expect("a row").split(',').nth(4).expect("p50").trim_matches('"').parse().unwrap();
        eprintln!("p50 {few:.2} ms with ten connections");
        assert!((100.0..110.0).contains(&few), "{few}");
        let (before, started) = (cpu_ticks(agent), Instant::now());
        let csv = world.in_place("web-0", "redis-benchmark -h 10.77.1.2 -c 600 -n 24000 -t ping_mbulk --csv 2>/dev/null");
        let (took, ticks) = (started.elapsed().as_secs_f64(), cpu_ticks(agent) - before);
        let numbers: Vec<f64> =
            csv.lines().last().expect("a row").split(',').skip(1).map(|cell| cell.trim_matches('"').parse().unwrap()).collect();
        let [requests_per_second, _mean, _min, p50_ms, ..] = numbers[..] else { panic!("{csv}") };
        let recovered = injection.recover().await.expect("recovers");
        let packets_per_second = recovered.queues.held as f64 / took;
        let cores = ticks as f64 / 100.0 / took;
        eprintln!(
            "{requests_per_second:.0} requests/s, {packets_per_second:.0} packets/s, p50 {p50_ms:.1} ms, agent {cores:.3} cores, {:?}",
            recovered.queues
        );
        assert_eq!((recovered.queues.overflowed, recovered.queues.overruns), (0, 0));
        assert!(packets_per_second >= 5_000.0, "{packets_per_second}");
        // The floor is exact; above it are a busy machine and a server that answers 600 requests one after the other.
        assert!((100.0..200.0).contains(&p50_ms), "{p50_ms}");
        assert!(cores < 0.5, "{cores}");
    });
    assert_eq!(world.residue(), []);
}

fn cpu_ticks(tgid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{tgid}/stat")).expect("it lives");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().expect("ticks"))
        .sum()
}
