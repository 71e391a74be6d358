//! Every fault is seen to bite and seen to be gone, alone and together, and after `kill -9` of whoever made it.
//!
//! Needs root, a kernel with namespaces, and redis-server, nft, tc and ip; says why when it skips.

use std::time::{Duration, Instant};

use gauntlet_harness::fault::effect::{Effect, await_effect, await_recovered, verify_effect, verify_recovered};
use gauntlet_harness::fault::journal::UndoneBy;
use gauntlet_harness::fault::kind::{FaultDirection, FaultKind, FilterAction, PacketScope};
use gauntlet_probes::entity::ServiceName;

mod killed;
mod world;
use world::{World, skipped};

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
        // The floor is physics and exact; what is above it is a busy machine, and bounded only against nonsense.
        assert!((100.0..200.0).contains(&few), "{few}");
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
        assert!(packets_per_second >= 1_000.0, "{packets_per_second}");
        assert!((100.0..1_000.0).contains(&p50_ms), "{p50_ms}");
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
