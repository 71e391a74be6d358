//! Faults made by hand between namespaces, and the evidence that the kernel gives of each.
//!
//! Needs root and a kernel that takes the probes; says so and passes where it cannot run.

mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use gauntlet_probes::frame::{Direction, Frame, Transport};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{CLIENT, SERVER, SERVICE, clients, cluster, edges, pod, servers, total};

/// Tries to connect for as long as `patience`.
fn try_connect(target: &'static str, port: u16, patience: Duration) -> bool {
    let address: SocketAddr = format!("{target}:{port}").parse().unwrap();
    TcpStream::connect_timeout(&address, patience).is_ok()
}

fn failed(frames: &[Frame], port: u16, errno: i32) -> u32 {
    let sides = clients(frames, port);
    total(&sides, |side| {
        side.connects_failed
            .iter()
            .filter(|(error, _)| *error == errno)
            .map(|(_, count)| count)
            .sum()
    })
}

#[test]
fn a_port_without_listener_refuses_and_its_host_sends_the_reset() {
    let Some(mut cluster) = cluster() else { return };
    cluster
        .client
        .run(|| assert!(!try_connect(SERVER, 6379, Duration::from_secs(1))))
        .join()
        .unwrap();
    let frames = cluster.watch(3);
    assert_eq!(failed(&frames, 6379, 111), 1);
    let resets: Vec<_> = frames.iter().flat_map(|frame| &frame.resets).collect();
    let sent = resets.iter().find(|reset| reset.sent).unwrap();
    assert_eq!(
        (sent.at.clone(), sent.peer.clone(), sent.port),
        (pod("server"), Some(pod("client")), 6379)
    );
    assert_eq!(
        (sent.reason.as_deref(), sent.at_server, sent.count),
        (Some("NO_SOCKET"), true, 1)
    );
    let received = resets.iter().find(|reset| !reset.sent).unwrap();
    assert_eq!(
        (received.at.clone(), received.at_server, received.count),
        (pod("client"), false, 1)
    );
}

#[test]
fn a_filter_that_rejects_is_received_as_a_reset_that_nobody_sent() {
    let Some(mut cluster) = cluster() else { return };
    cluster.server.shell(
        "nft add table ip f; nft 'add chain ip f in { type filter hook input priority 0; }'; \
         nft add rule ip f in tcp dport 6379 reject with tcp reset",
    );
    cluster
        .client
        .run(|| assert!(!try_connect(SERVER, 6379, Duration::from_secs(1))))
        .join()
        .unwrap();
    let frames = cluster.watch(3);
    assert_eq!(failed(&frames, 6379, 111), 1);
    let resets: Vec<_> = frames.iter().flat_map(|frame| &frame.resets).collect();
    assert_eq!(resets.len(), 1, "{resets:?}");
    assert!(!resets[0].sent && resets[0].at == pod("client"));
}

#[test]
fn a_drop_at_the_servers_ingress_is_attributed_without_a_socket() {
    let Some(mut cluster) = cluster() else { return };
    cluster.server.shell(
        "nft add table ip f; nft 'add chain ip f in { type filter hook input priority 0; }'; \
         nft add rule ip f in tcp dport 6379 drop",
    );
    cluster
        .client
        .run(|| assert!(!try_connect(SERVICE, 6379, Duration::from_millis(2500))))
        .join()
        .unwrap();
    let frames = cluster.watch(3);
    let drops: Vec<_> = frames
        .iter()
        .flat_map(|frame| &frame.drops)
        .filter(|drop| drop.port == 6379)
        .collect();
    assert_eq!(drops.len(), 1, "{drops:?}");
    let drop = drops[0];
    assert_eq!(
        (drop.reason.as_str(), drop.at.clone(), drop.direction),
        ("NETFILTER_DROP", Some(pod("server")), Direction::Ingress)
    );
    assert_eq!(
        (drop.source.clone(), drop.target.clone()),
        (Some(pod("client")), Some(pod("server")))
    );
    assert!(drop.to_server && drop.transport == Transport::Tcp);
    let retransmits: Vec<_> = clients(&frames, 6379)
        .iter()
        .flat_map(|side| side.retransmits.clone())
        .collect();
    assert!(!retransmits.is_empty() && retransmits.iter().all(|retransmit| retransmit.handshake));
    let retransmit_count: u32 = retransmits.iter().map(|retransmit| retransmit.count).sum();
    // The SYN and each of its repetitions, and nothing else, was dropped.
    assert_eq!(
        (drop.count, drop.syn_count),
        (retransmit_count + 1, retransmit_count + 1)
    );
    assert!(
        retransmits
            .iter()
            .all(|retransmit| matches!(retransmit.error, Some(0) | None))
    );
    assert_eq!(failed(&frames, 6379, 0), 1);
    // The dropped packet's header told what the virtual address was translated to.
    assert!(
        edges(&frames, 6379)
            .iter()
            .any(|edge| edge.callee == pod("server") && edge.via.is_some())
    );
}

#[test]
fn a_filter_at_the_callers_egress_refuses_the_retransmission() {
    let Some(mut cluster) = cluster() else { return };
    cluster.client.shell(
        "nft add table ip f; nft 'add chain ip f out { type filter hook output priority 0; }'; \
         nft add rule ip f out tcp dport 6379 drop",
    );
    cluster
        .client
        .run(|| assert!(!try_connect(SERVER, 6379, Duration::from_millis(1500))))
        .join()
        .unwrap();
    let frames = cluster.watch(3);
    let refused: u32 = clients(&frames, 6379)
        .iter()
        .flat_map(|side| &side.retransmits)
        .filter(|retransmit| retransmit.error == Some(-1))
        .map(|retransmit| retransmit.count)
        .sum();
    assert!(refused >= 1);
    let drop = frames
        .iter()
        .flat_map(|frame| &frame.drops)
        .find(|drop| drop.port == 6379)
        .unwrap();
    assert_eq!(
        (drop.at.clone(), drop.direction),
        (Some(pod("client")), Direction::Egress)
    );
}

#[test]
fn a_server_that_is_stopped_leaves_data_unread() {
    let Some(mut cluster) = cluster() else { return };
    let redis = cluster.redis();
    // `nsenter` and `setpriv` execute what they are given: the child is the server itself.
    let server = Pid::from_raw(i32::try_from(redis.0.id()).unwrap());
    kill(server, Signal::SIGSTOP).unwrap();
    let work = cluster.client.run(|| {
        let mut stream = TcpStream::connect((SERVER, 6379)).unwrap();
        stream.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(600));
    });
    let frames = cluster.watch(8);
    kill(server, Signal::SIGCONT).unwrap();
    work.join().unwrap();
    let sides = servers(&frames, 6379);
    let last = sides.last().unwrap();
    assert_eq!((last.unread_connections, last.accept_backlog), (1, 1));
    assert!(last.unread_age_ns_max > 200_000_000, "{}", last.unread_age_ns_max);
    assert_eq!((last.l7[0].outstanding, last.l7[0].responses), (1, 0));
}

#[test]
fn a_caller_outside_the_inventory_is_seen_by_the_server_alone() {
    let Some(mut cluster) = cluster() else { return };
    let _redis = cluster.redis();
    cluster
        .node
        .run(|| assert!(try_connect(SERVER, 6379, Duration::from_secs(1))))
        .join()
        .unwrap();
    // A second cluster with the same addresses: nothing of it may be seen.
    let foreign = support::Namespace::alone(CLIENT);
    foreign
        .run(|| {
            let _listener = TcpListener::bind((CLIENT, 6379)).unwrap();
            assert!(try_connect(CLIENT, 6379, Duration::from_secs(1)));
            assert!(!try_connect(SERVER, 6379, Duration::from_millis(50)));
        })
        .join()
        .unwrap();
    let frames = cluster.watch(3);
    assert!(edges(&frames, 6379).is_empty(), "{:?}", edges(&frames, 6379));
    assert!(
        frames
            .iter()
            .all(|frame| frame.drops.iter().all(|drop| drop.at.is_some()))
    );
    let callers: Vec<_> = frames
        .iter()
        .flat_map(|frame| &frame.edges)
        .map(|edge| edge.caller.to_string())
        .collect();
    assert!(callers.iter().all(|caller| caller == "node-1"), "{callers:?}");
}
