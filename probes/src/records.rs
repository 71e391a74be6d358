//! From the kernel's table of rare things to drops, resets and SYN-ACKs sent again, under the names of the inventory.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use gauntlet_abi::record::{
    REASON_UNKNOWN, RECORD_DROP, RECORD_RESET_RECEIVED, RECORD_RESET_SENT, RECORD_SYNACK_RETRANSMIT, RecordKey,
    RecordValue,
};

use crate::connections::Edges;
use crate::entity::Peer;
use crate::frame::{Direction, DropSample, ResetSample, Transport};
use crate::identity::{Identity, ip_of};
use crate::symbols::Symbols;

/// Ticks without any change after which an entry gives its room back.
const IDLE_TICKS_MAX: u32 = 50;

/// Drops that are part of normal operation everywhere and say nothing of anybody: multicast that nobody joined, and
/// virtual sockets of the machine. (Reason, function.)
const NOISE: &[(&str, &str)] = &[
    ("NOT_SPECIFIED", "ip6_mc_input"),
    ("NOT_SPECIFIED", "ip_mc_output"),
    ("NOT_SPECIFIED", "virtio_transport_recv_pkt"),
    ("TCP_OLD_DATA", "tcp_data_queue"),
    ("TCP_OLD_ACK", "tcp_ack"),
];

/// Last values of each record.
#[derive(Debug, Default)]
pub(crate) struct Records {
    known: HashMap<RecordKey, (RecordValue, u32)>,
}

/// What has happened since the last tick.
#[derive(Debug, Default)]
pub(crate) struct RecordSamples {
    pub(crate) drops: Vec<DropSample>,
    pub(crate) resets: Vec<ResetSample>,
    /// Entries that may be deleted.
    pub(crate) idle: Vec<RecordKey>,
}

/// The kernel's names of numbers.
pub(crate) struct Names<'a> {
    pub(crate) drop_reasons: &'a HashMap<u32, String>,
    pub(crate) reset_reasons: &'a HashMap<u32, String>,
    pub(crate) symbols: &'a mut Symbols,
}

struct Change {
    key: RecordKey,
    count: u32,
    syn_count: u32,
    length_bytes_max: u32,
}

impl Records {
    /// Takes in the table as it stands. SYN-ACKs go to `edges`.
    pub(crate) fn tick(
        &mut self,
        table: &[(RecordKey, RecordValue)],
        identity: &Identity,
        names: &mut Names<'_>,
        edges: &mut Edges,
    ) -> RecordSamples {
        let mut samples = RecordSamples::default();
        let mut drops = BTreeMap::new();
        for (key, value) in table {
            let Some(change) = self.change(key, value, &mut samples.idle) else {
                continue;
            };
            match key.kind {
                RECORD_DROP => add_drop(&mut drops, &change, identity, names),
                RECORD_RESET_SENT | RECORD_RESET_RECEIVED => samples.resets.extend(reset(&change, identity, names)),
                RECORD_SYNACK_RETRANSMIT => add_synack(&change, identity, edges),
                _ => (),
            }
        }
        for key in &samples.idle {
            self.known.remove(key);
        }
        samples.drops = drops.into_values().collect();
        samples.resets.sort_by(|a, b| {
            (&a.at, &a.peer, a.port, a.sent, &a.reason).cmp(&(&b.at, &b.peer, b.port, b.sent, &b.reason))
        });
        samples
    }

    fn change(&mut self, key: &RecordKey, value: &RecordValue, idle: &mut Vec<RecordKey>) -> Option<Change> {
        let zero = RecordValue {
            count: 0,
            syn_count: 0,
            length_bytes_max: 0,
            other_port: 0,
        };
        let (last, idle_ticks) = self.known.entry(*key).or_insert((zero, 0));
        // An entry that was deleted and came again starts at zero.
        if value.count < last.count {
            *last = zero;
        }
        let count = value.count - last.count;
        if count == 0 {
            *idle_ticks += 1;
            if *idle_ticks > IDLE_TICKS_MAX {
                idle.push(*key);
            }
            return None;
        }
        let syn_count = value.syn_count.saturating_sub(last.syn_count);
        *last = *value;
        *idle_ticks = 0;
        Some(Change {
            key: *key,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            syn_count: u32::try_from(syn_count).unwrap_or(u32::MAX),
            length_bytes_max: value.length_bytes_max,
        })
    }
}

type DropKey = (
    Option<Peer>,
    String,
    String,
    Direction,
    Option<Peer>,
    Option<Peer>,
    u16,
    bool,
    Transport,
);

fn add_drop(drops: &mut BTreeMap<DropKey, DropSample>, change: &Change, identity: &Identity, names: &mut Names<'_>) {
    let key = &change.key;
    let (source_ip, target_ip) = (ip_of(key.source), ip_of(key.target));
    let at = identity.place(key.netns, [source_ip, target_ip]);
    // Outside the inventory, only what this cluster's packets may pass through counts, and only its packets.
    if at.is_none() && !(identity.may_carry(key.netns) && (identity.knows(source_ip) || identity.knows(target_ip))) {
        return;
    }
    let reason = names
        .drop_reasons
        .get(&key.reason)
        .cloned()
        .unwrap_or_else(|| key.reason.to_string());
    let symbol = names.symbols.name(key.location).to_owned();
    if NOISE.contains(&(reason.as_str(), symbol.as_str())) {
        return;
    }
    let peer = |ip: IpAddr| (!ip.is_unspecified()).then(|| identity.remote_peer(ip));
    let (source, target) = (peer(source_ip), peer(target_ip));
    let transport = match key.transport {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        1 | 58 => Transport::Icmp,
        _ => Transport::Other,
    };
    let direction = direction(at.as_ref(), source_ip, target_ip, identity);
    let to_server = key.to_server != 0;
    let merged = (
        at.clone(),
        reason.clone(),
        symbol.clone(),
        direction,
        source.clone(),
        target.clone(),
        key.port,
        to_server,
        transport,
    );
    let sample = drops.entry(merged).or_insert(DropSample {
        at,
        reason,
        symbol,
        direction,
        source,
        target,
        port: key.port,
        to_server,
        transport,
        count: 0,
        syn_count: 0,
        length_bytes_max: 0,
    });
    sample.count = sample.count.saturating_add(change.count);
    sample.syn_count = sample.syn_count.saturating_add(change.syn_count);
    sample.length_bytes_max = sample.length_bytes_max.max(change.length_bytes_max);
}

fn direction(at: Option<&Peer>, source: IpAddr, target: IpAddr, identity: &Identity) -> Direction {
    let Some(at) = at else { return Direction::Unknown };
    if identity.owns(at, source) {
        Direction::Egress
    } else if identity.owns(at, target) {
        Direction::Ingress
    } else if matches!(at, Peer::Node(_)) && !source.is_unspecified() {
        Direction::Forward
    } else {
        Direction::Unknown
    }
}

fn reset(change: &Change, identity: &Identity, names: &Names<'_>) -> Option<ResetSample> {
    let key = &change.key;
    let (local, remote) = (ip_of(key.source), ip_of(key.target));
    let at = identity.local(key.netns, local)?;
    if local.is_loopback() || matches!(at, Peer::External(_)) && !identity.knows(remote) {
        return None;
    }
    let reason = (key.reason != REASON_UNKNOWN).then(|| {
        names
            .reset_reasons
            .get(&key.reason)
            .cloned()
            .unwrap_or_else(|| key.reason.to_string())
    });
    Some(ResetSample {
        at,
        peer: Some(identity.remote_peer(remote)),
        port: key.port,
        at_server: key.to_server == 0,
        sent: key.kind == RECORD_RESET_SENT,
        reason,
        count: change.count,
    })
}

fn add_synack(change: &Change, identity: &Identity, edges: &mut Edges) {
    let key = &change.key;
    let Some(callee) = identity.local(key.netns, ip_of(key.source)) else {
        return;
    };
    let caller = identity.remote_peer(ip_of(key.target));
    let side = edges.server_between(caller, callee, key.port);
    side.sample.synack_retransmits = side.sample.synack_retransmits.saturating_add(change.count);
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
