//! Drops and resets under the names of the inventory, with synthetic kernel values.

use std::collections::HashMap;

use gauntlet_abi::record::{
    REASON_UNKNOWN, RECORD_DROP, RECORD_RESET_SENT, RECORD_SYNACK_RETRANSMIT, RecordKey, RecordValue,
};

use super::{Names, RecordSamples, Records};
use crate::connections::Edges;
use crate::entity::{NodeName, Peer};
use crate::frame::Direction;
use crate::identity::tests::{cluster, ip, pod};
use crate::symbols::Symbols;

fn key(kind: u8, netns: u32, source: &str, target: &str) -> RecordKey {
    let octets = |text: &str| match ip(text) {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(ip) => ip.octets(),
    };
    RecordKey {
        location: 0x1234,
        netns,
        reason: 8,
        source: octets(source),
        target: octets(target),
        port: 6379,
        kind,
        transport: 6,
        to_server: 1,
        reserved: [0; 3],
    }
}

fn value(count: u64) -> RecordValue {
    RecordValue {
        count,
        syn_count: count,
        length_bytes_max: 60,
        other_port: 40_000,
    }
}

fn tick(records: &mut Records, table: &[(RecordKey, RecordValue)], edges: &mut Edges) -> RecordSamples {
    let reasons = HashMap::from([(8, "NETFILTER_DROP".to_owned())]);
    let mut symbols = Symbols::default();
    let mut names = Names {
        drop_reasons: &reasons,
        reset_reasons: &reasons,
        symbols: &mut symbols,
    };
    records.tick(table, &cluster(), &mut names, edges)
}

#[test]
fn a_drop_without_socket_is_attributed_by_namespace_and_header() {
    let mut records = Records::default();
    let table = |count| {
        [
            (key(RECORD_DROP, 21, "10.1.0.1", "10.1.0.2"), value(count)),
            (key(RECORD_DROP, 10, "10.1.0.1", "10.1.1.1"), value(count)),
            (key(RECORD_DROP, 20, "10.1.0.1", "10.9.0.1"), value(count)),
            // Another cluster's namespace, the same addresses.
            (key(RECORD_DROP, 99, "10.1.0.1", "10.1.0.2"), value(count)),
        ]
    };
    let drops = tick(&mut records, &table(3), &mut Edges::default()).drops;
    let told: Vec<_> = drops
        .iter()
        .map(|drop| (drop.at.clone().unwrap(), drop.direction, drop.count))
        .collect();
    assert_eq!(
        told,
        [
            (pod("cache-0"), Direction::Ingress, 3),
            (pod("web-0"), Direction::Egress, 3),
            (Peer::Node(NodeName::new("node-1")), Direction::Forward, 3),
        ]
    );
    assert_eq!(
        (drops[0].reason.as_str(), drops[0].symbol.as_str()),
        ("NETFILTER_DROP", "0x1234")
    );
    assert_eq!(drops[1].target, Some(Peer::Service("cache".to_owned())));
    let drops = tick(&mut records, &table(5), &mut Edges::default()).drops;
    assert_eq!((drops.len(), drops[0].count, drops[0].syn_count), (3, 2, 2));
    assert!(tick(&mut records, &table(5), &mut Edges::default()).drops.is_empty());
}

#[test]
fn an_idle_entry_gives_its_room_back() {
    let mut records = Records::default();
    let table = [(key(RECORD_DROP, 21, "10.1.0.1", "10.1.0.2"), value(3))];
    let mut ticks = 0;
    while tick(&mut records, &table, &mut Edges::default()).idle.is_empty() {
        ticks += 1;
        assert!(ticks < 100);
    }
    assert!(ticks > 40);
}

#[test]
fn a_reset_is_told_at_its_end_with_its_reason() {
    let mut sent = key(RECORD_RESET_SENT, 21, "10.1.0.2", "10.1.0.1");
    sent.to_server = 0;
    let mut untold = sent;
    untold.reason = REASON_UNKNOWN;
    let resets = tick(
        &mut Records::default(),
        &[(sent, value(1)), (untold, value(2))],
        &mut Edges::default(),
    )
    .resets;
    assert_eq!(
        (resets[0].reason.as_deref(), resets[1].reason.as_deref()),
        (None, Some("NETFILTER_DROP"))
    );
    assert!(
        resets
            .iter()
            .all(|reset| reset.at == pod("cache-0") && reset.at_server && reset.sent)
    );
    assert_eq!(resets[0].peer, Some(pod("web-0")));
}

#[test]
fn a_synack_sent_again_goes_to_the_servers_side_of_its_edge() {
    let mut again = key(RECORD_SYNACK_RETRANSMIT, 21, "10.1.0.2", "10.1.0.1");
    again.to_server = 0;
    let mut edges = Edges::default();
    tick(&mut Records::default(), &[(again, value(4))], &mut edges);
    let edges = edges.into_samples();
    assert_eq!(
        (edges[0].caller.clone(), edges[0].callee.clone(), edges[0].port),
        (pod("web-0"), pod("cache-0"), 6379)
    );
    assert_eq!(edges[0].server.as_ref().unwrap().synack_retransmits, 4);
}
