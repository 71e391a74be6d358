//! Deltas and attribution of connections, with synthetic kernel values.

use std::net::IpAddr;

use bytemuck::Zeroable as _;
use gauntlet_abi::conn::{CONN_PICKED_UP, Conn, ROLE_CLIENT, ROLE_SERVER, STATE_CLOSED, STATE_OPEN, STATE_OPENING};

use super::{Connections, Edges, Sources, Translations};
use crate::entity::{InventoryLine, NodeName, Peer, PodInfo, PodName};
use crate::frame::EdgeSample;
use crate::identity::Identity;
use crate::identity::tests::{cluster, ip, pod};
use crate::queues::{Queues, Waiting};

struct NoTranslations;

impl Translations for NoTranslations {
    fn look_up(&mut self, _: &Peer, _: (IpAddr, u16), _: (IpAddr, u16)) -> Option<IpAddr> {
        None
    }
}

struct Always(IpAddr);

impl Translations for Always {
    fn look_up(&mut self, _: &Peer, _: (IpAddr, u16), _: (IpAddr, u16)) -> Option<IpAddr> {
        Some(self.0)
    }
}

/// Sockets in which this waits, whatever the socket.
struct Same(Option<Waiting>);

impl Queues for Same {
    fn look_up(&mut self, _: u64, _: &Conn) -> Option<Waiting> {
        self.0
    }
}

fn tick_with(
    connections: &mut Connections,
    now_ns: u64,
    table: &[(u64, Conn)],
    identity: &Identity,
    (translations, queues): (&mut dyn Translations, &mut dyn Queues),
) -> (Vec<EdgeSample>, Vec<u64>) {
    let mut edges = Edges::default();
    let sources = Sources {
        identity,
        translations,
        queues,
    };
    let finished = connections.tick(now_ns, table, sources, &mut edges);
    (edges.into_samples(), finished)
}

fn conn(netns: u32, local: (&str, u16), remote: (&str, u16), role: u8, state: u8) -> Conn {
    let octets = |text: &str| match ip(text) {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    Conn {
        netns,
        local: octets(local.0),
        local_port: local.1,
        remote: octets(remote.0),
        remote_port: remote.1,
        role,
        state,
        created_ns: 1_000,
        opened_ns: if state == STATE_OPENING { 0 } else { 2_000 },
        ..Conn::zeroed()
    }
}

fn tick(connections: &mut Connections, table: &[(u64, Conn)]) -> (Vec<EdgeSample>, Vec<u64>) {
    let nothing_told: (&mut dyn Translations, &mut dyn Queues) = (&mut NoTranslations, &mut Same(None));
    tick_with(connections, 10_000, table, &cluster(), nothing_told)
}

fn web_to(remote: (&str, u16), state: u8) -> Conn {
    conn(20, ("10.1.0.1", 40_000), remote, ROLE_CLIENT, state)
}

#[test]
fn counts_are_what_grew_and_gauges_what_is() {
    let mut connections = Connections::default();
    let mut open = web_to(("10.1.0.2", 6379), STATE_OPEN);
    open.l7.to_server.bytes = 100;
    let (edges, _) = tick(&mut connections, &[(7, open)]);
    let side = edges[0].client.as_ref().unwrap();
    assert_eq!(
        (edges[0].caller.clone(), edges[0].callee.clone(), edges[0].port),
        (pod("web-0"), pod("cache-0"), 6379)
    );
    assert_eq!(
        (
            side.connects_attempted,
            side.connects_opened,
            side.open,
            side.bytes_sent
        ),
        (1, 1, 1, 100)
    );
    open.l7.to_server.bytes = 130;
    open.l7.to_server.moved_us = 50;
    let (edges, _) = tick(&mut connections, &[(7, open)]);
    let side = edges[0].client.as_ref().unwrap();
    assert_eq!(
        (
            side.connects_attempted,
            side.connects_opened,
            side.open,
            side.bytes_sent
        ),
        (0, 0, 1, 30)
    );
    assert_eq!(side.srtt_us_median, Some(50));
}

#[test]
fn a_closed_connection_is_counted_once_and_deleted_one_tick_later() {
    let mut connections = Connections::default();
    let mut closed = web_to(("10.1.0.2", 6379), STATE_CLOSED);
    closed.close_error = 104;
    let (edges, finished) = tick(&mut connections, &[(7, closed)]);
    let side = edges[0].client.as_ref().unwrap();
    assert_eq!(
        (side.connects_closed, side.open, side.errors.clone()),
        (1, 0, vec![(104, 1)])
    );
    assert!(finished.is_empty());
    let (edges, finished) = tick(&mut connections, &[(7, closed)]);
    assert_eq!(edges[0].client.as_ref().unwrap().connects_closed, 0);
    assert_eq!(finished, [7]);
}

#[test]
fn an_attempt_that_never_opened_failed_with_its_errno() {
    let mut connections = Connections::default();
    let mut attempt = web_to(("10.1.0.2", 6379), STATE_OPENING);
    let (edges, _) = tick(&mut connections, &[(7, attempt)]);
    let side = edges[0].client.as_ref().unwrap();
    assert_eq!(
        (side.opening, side.opening_age_ns_max, side.connects_opened),
        (1, 9_000, 0)
    );
    attempt.state = STATE_CLOSED;
    attempt.close_error = 111;
    let (edges, _) = tick(&mut connections, &[(7, attempt)]);
    assert_eq!(edges[0].client.as_ref().unwrap().connects_failed, [(111, 1)]);
}

#[test]
fn the_twin_at_the_other_end_tells_the_pod_behind_a_virtual_address() {
    let client = web_to(("10.9.0.1", 6379), STATE_OPEN);
    let server = conn(22, ("10.1.1.1", 6379), ("10.1.0.1", 40_000), ROLE_SERVER, STATE_OPEN);
    let (edges, _) = tick(&mut Connections::default(), &[(1, server), (2, client)]);
    assert_eq!(edges.len(), 1);
    assert_eq!(
        (edges[0].callee.clone(), edges[0].via.as_deref()),
        (pod("cache-1"), Some("cache"))
    );
    assert!(edges[0].client.is_some() && edges[0].server.is_some());
}

#[test]
fn an_unresolved_virtual_address_stays_a_service_until_something_tells() {
    let mut connections = Connections::default();
    let table = [(2, web_to(("10.9.0.1", 6379), STATE_OPENING))];
    // A young handshake is not counted yet: the other end may appear at any moment.
    assert!(tick(&mut connections, &table).0.is_empty());
    let (edges, _) = tick_with(
        &mut connections,
        200_000_000,
        &table,
        &cluster(),
        (&mut NoTranslations, &mut Same(None)),
    );
    assert_eq!(edges[0].callee, Peer::Service("cache".to_owned()));
    assert_eq!(edges[0].client.as_ref().unwrap().connects_attempted, 1);
    let (edges, _) = tick_with(
        &mut connections,
        300_000_000,
        &table,
        &cluster(),
        (&mut Always(ip("10.1.0.2")), &mut Same(None)),
    );
    assert_eq!(edges[0].callee, pod("cache-0"));
}

#[test]
fn another_clusters_socket_with_the_same_addresses_is_nobodys() {
    let foreign = conn(99, ("10.1.0.1", 40_000), ("10.1.0.2", 6379), ROLE_CLIENT, STATE_OPEN);
    assert!(tick(&mut Connections::default(), &[(1, foreign)]).0.is_empty());
}

#[test]
fn a_connection_that_was_picked_up_was_neither_tried_nor_opened() {
    let mut old = web_to(("10.1.0.2", 6379), STATE_OPEN);
    old.opened_ns = 0;
    old.flags = CONN_PICKED_UP;
    let mut connections = Connections::default();
    let (edges, _) = tick(&mut connections, &[(1, old)]);
    let side = edges[0].client.as_ref().unwrap();
    assert_eq!((side.connects_attempted, side.connects_opened, side.open), (0, 0, 1));
    old.state = STATE_CLOSED;
    let (edges, _) = tick(&mut connections, &[(1, old)]);
    let side = edges[0].client.as_ref().unwrap();
    assert_eq!((side.connects_closed, side.connects_failed.len()), (1, 0));
}

#[test]
fn results_of_retransmissions_are_kept_apart() {
    let mut conn = web_to(("10.1.0.2", 6379), STATE_OPENING);
    conn.handshake_retransmits = [2, 1, 0, 0, 3];
    let (edges, _) = tick(&mut Connections::default(), &[(1, conn)]);
    let told: Vec<_> = edges[0]
        .client
        .as_ref()
        .unwrap()
        .retransmits
        .iter()
        .map(|r| (r.handshake, r.error, r.count))
        .collect();
    assert_eq!(told, [(true, None, 3), (true, Some(-1), 1), (true, Some(0), 2)]);
}

#[test]
fn pods_that_share_a_namespace_are_told_apart_by_process_and_by_port() {
    let mut identity = cluster();
    for name in ["agent", "proxy"] {
        identity.apply(&InventoryLine::Pod(PodInfo {
            name: PodName::new(name),
            service: None,
            node: NodeName::new("node-1"),
            ip: ip("10.0.0.1"),
            netns: Some(10),
            cgroup: Some(format!("/{name}")),
        }));
    }
    let sharing: Vec<_> = identity.sharing_pods().map(|pod| pod.name.as_str()).collect();
    assert_eq!(sharing, ["agent", "proxy"]);
    identity.learn_cgroups([(71, PodName::new("agent")), (72, PodName::new("proxy"))].into());
    let of = |cgroup_id, conn| Conn { cgroup_id, ..conn };
    let web = web_to(("10.0.0.1", 9100), STATE_OPEN);
    let agent = conn(10, ("10.0.0.1", 9100), ("10.1.0.1", 40_000), ROLE_SERVER, STATE_OPEN);
    let proxy = conn(10, ("10.0.0.1", 50_000), ("10.1.0.2", 6379), ROLE_CLIENT, STATE_OPEN);
    let host = conn(10, ("10.0.0.1", 50_001), ("10.1.0.2", 6379), ROLE_CLIENT, STATE_OPEN);
    let table = [(1, web), (2, of(71, agent)), (3, of(72, proxy)), (4, of(99, host))];
    let (edges, _) = tick_with(
        &mut Connections::default(),
        10_000,
        &table,
        &identity,
        (&mut NoTranslations, &mut Same(None)),
    );
    let told: Vec<_> = edges
        .iter()
        .map(|edge| format!("{} → {} {}", edge.caller, edge.callee, edge.client.is_some()))
        .collect();
    assert_eq!(
        told,
        ["proxy → cache-0 true", "web-0 → agent true", "node-1 → cache-0 true"]
    );
}

/// Ticks of a server's connection that has received `received` bytes and sent `sent`, of which `waiting` is told: what is
/// unread then, for how many milliseconds, and how many callers wait for being accepted.
fn unread(ticks: &[(u64, u64, Option<Waiting>)]) -> Vec<(u32, u64, u32)> {
    const TICK_NS: u64 = 200_000_000;
    let mut connections = Connections::default();
    let mut server = conn(21, ("10.1.0.2", 6379), ("10.1.0.1", 40_000), ROLE_SERVER, STATE_OPEN);
    let mut now_ns = 0;
    let mut told = Vec::new();
    for &(received, sent, waiting) in ticks {
        now_ns += TICK_NS;
        if received != server.bytes_received() {
            server.l7.to_server.moved_us = ((now_ns - TICK_NS / 2) / 1000) as u32;
        }
        (server.l7.to_server.bytes, server.l7.to_client.bytes) = (received, sent);
        let (edges, _) = tick_with(
            &mut connections,
            now_ns,
            &[(7, server)],
            &cluster(),
            (&mut NoTranslations, &mut Same(waiting)),
        );
        let side = edges[0].server.as_ref().unwrap();
        told.push((
            side.unread_connections,
            side.unread_age_ns_max / 1_000_000,
            side.accept_backlog,
        ));
    }
    told
}

fn waits(bytes: u32) -> Option<Waiting> {
    Some(Waiting {
        bytes,
        is_accepted: true,
    })
}

#[test]
fn data_waits_from_its_arrival_until_somebody_reads() {
    let stuck = [
        (10, 0, waits(0)),
        (30, 0, waits(20)),
        // More comes, and nothing is read.
        (50, 0, waits(40)),
        // Something is read: whoever reads is not stuck.
        (50, 0, waits(5)),
        (50, 0, waits(0)),
    ];
    assert_eq!(
        unread(&stuck),
        [(0, 0, 0), (1, 100, 0), (1, 300, 0), (1, 0, 0), (0, 0, 0)]
    );
}

#[test]
fn whoever_answers_or_is_idle_is_not_asked_about() {
    // Were it asked, it would wait.
    let told = unread(&[(10, 0, waits(0)), (30, 7, waits(20)), (30, 14, waits(20))]);
    assert_eq!(told, [(0, 0, 0); 3]);
    let told = unread(&[(10, 0, waits(0)), (10, 0, waits(20))]);
    assert_eq!(told, [(0, 0, 0); 2]);
}

#[test]
fn answers_do_not_hide_what_has_waited() {
    let told = unread(&[(10, 0, waits(10)), (10, 7, waits(10)), (10, 7, waits(0))]);
    assert_eq!(told, [(1, 100, 0), (1, 300, 0), (0, 0, 0)]);
}

#[test]
fn a_caller_that_nobody_has_accepted_waits_with_data_or_without() {
    let not_accepted = |bytes| {
        Some(Waiting {
            bytes,
            is_accepted: false,
        })
    };
    let told = unread(&[(0, 0, not_accepted(0)), (10, 0, not_accepted(10)), (10, 0, waits(0))]);
    assert_eq!(told, [(0, 0, 1), (1, 100, 1), (0, 0, 0)]);
    let told = unread(&[(0, 0, not_accepted(0)), (0, 0, waits(0))]);
    assert_eq!(told, [(0, 0, 1), (0, 0, 0)], "it is let in, and says nothing yet");
    assert_eq!(unread(&[(10, 0, None)]), [(0, 0, 0)], "what is not told does not wait");
}
