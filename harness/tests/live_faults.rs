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
use gauntlet_harness::fault::process;
use gauntlet_probes::entity::ServiceName;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[path = "live_faults/world.rs"]
mod world;
use world::{World, skipped};

const WITHIN: Duration = Duration::from_secs(6);

fn scope(direction: FaultDirection) -> PacketScope {
    PacketScope { direction, port: None, peer: None }
}

fn from_web() -> PacketScope {
    PacketScope { direction: FaultDirection::Ingress, port: Some(6379), peer: Some(ServiceName::new("web")) }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime")
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
    check(FaultKind::NetworkFilter { action: FilterAction::Drop, scope: scope(FaultDirection::Ingress) });
}

#[test]
fn filter_rejects() {
    check(FaultKind::NetworkFilter { action: FilterAction::Reject, scope: scope(FaultDirection::Ingress) });
}

#[test]
fn filter_drops_one_peer_and_spares_others() {
    check(FaultKind::NetworkFilter { action: FilterAction::Drop, scope: from_web() });
}

#[test]
fn filter_drops_on_the_way_out() {
    check(FaultKind::NetworkFilter { action: FilterAction::Drop, scope: scope(FaultDirection::Egress) });
}

#[test]
fn loss_takes_its_share_each_way() {
    check(FaultKind::NetworkLoss { ratio: 0.2, scope: scope(FaultDirection::Both) });
}

#[test]
fn loss_takes_its_share_of_one_peer() {
    check(FaultKind::NetworkLoss { ratio: 0.5, scope: from_web() });
}

#[test]
fn delay_is_a_floor_of_the_round_trip() {
    check(FaultKind::NetworkDelay { delay: ms(50), jitter: ms(5), scope: scope(FaultDirection::Both) });
}

#[test]
fn delay_of_one_peer_on_the_way_in() {
    check(FaultKind::NetworkDelay { delay: ms(20), jitter: ms(0), scope: from_web() });
}

#[test]
fn bandwidth_is_a_ceiling_each_way() {
    check(FaultKind::NetworkBandwidth { bits_per_second: 8_000_000, direction: FaultDirection::Both });
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
