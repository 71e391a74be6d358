//! Aggregated rare things, events, and what the kernel side needs to be told.
//!
//! Every number here is a layout that both sides share; none is a judgement.

use bytemuck::{Pod, Zeroable};

use crate::conn::Address;

/// Capacity of the table of records.
pub const RECORDS_MAX: u32 = 4096;
/// Capacity of the table of DNS pairs.
pub const DNS_PAIRS_MAX: u32 = 1024;
/// Capacity of the table of questions under way.
pub const DNS_QUERIES_MAX: u32 = 4096;
/// Capacity of the ring of events, bytes.
pub const EVENTS_BYTES: u32 = 256 * 1024;
/// Depth of the cgroup tree that is searched for a known cgroup.
pub const CGROUP_LEVELS: u32 = 12;

/// A packet was dropped.
pub const RECORD_DROP: u8 = 1;
/// A reset was sent.
pub const RECORD_RESET_SENT: u8 = 2;
/// A reset was received.
pub const RECORD_RESET_RECEIVED: u8 = 3;
/// A SYN-ACK was sent again.
pub const RECORD_SYNACK_RETRANSMIT: u8 = 4;

/// What is counted together.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct RecordKey {
    /// Address of the instruction that dropped the packet; 0 for other records.
    pub location: u64,
    /// Inode of the network namespace where it was seen; 0 if it could not be told.
    pub netns: u32,
    /// The kernel's reason, by number; [`REASON_UNKNOWN`] where it tells none.
    pub reason: u32,
    /// Source of the packet (drop), or the end at which the reset was seen.
    pub source: Address,
    /// Target of the packet (drop), or the other end.
    pub target: Address,
    /// The lower of the two ports.
    pub port: u16,
    /// `RECORD_…`.
    pub kind: u8,
    /// IP protocol number; 0 for what is not IP.
    pub transport: u8,
    /// 1 when `port` is that of `target`.
    pub to_server: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// [`RecordKey::reason`] where the kernel gives none.
pub const REASON_UNKNOWN: u32 = u32::MAX;

/// How often it was seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RecordValue {
    /// How often.
    pub count: u64,
    /// Of these, packets that open a connection.
    pub syn_count: u64,
    /// The longest, bytes.
    pub length_bytes_max: u32,
    /// The higher of the two ports, of the last packet.
    pub other_port: u32,
}

/// A client and its name server.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct DnsPair {
    /// The kernel's cookie of the client's network namespace.
    pub netns_cookie: u64,
    /// The client's address.
    pub client: Address,
    /// The server's address, as the client knows it.
    pub server: Address,
}

/// Look-ups of a pair; counters that only grow.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct DnsCounts {
    /// Questions.
    pub queries: u64,
    /// Answers.
    pub responses: u64,
    /// Answers: no such name.
    pub nxdomain: u64,
    /// Answers with any other error.
    pub failures: u64,
    /// Time from question to answer.
    pub latency: [u32; crate::LATENCY_BUCKETS],
}

/// A question under way.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct DnsQueryKey {
    /// Cookie of the socket that asked.
    pub cookie: u64,
    /// The question's number.
    pub transaction: u32,
    /// Zero.
    pub reserved: u32,
}

/// When it was asked, and by whom.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct DnsQuery {
    /// When.
    pub asked_ns: u64,
    /// Between whom.
    pub pair: DnsPair,
}

/// The process executed a program.
pub const EVENT_EXEC: u32 = 1;
/// The process ended.
pub const EVENT_EXIT: u32 = 2;
/// The process ended as victim of a memory shortage.
pub const EVENT_OOM: u32 = 3;

/// A process started or ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Event {
    /// When.
    pub at_ns: u64,
    /// The known cgroup (v2) in which it lives.
    pub cgroup_id: u64,
    /// `EVENT_…`.
    pub kind: u32,
    /// Process id, in the host's numbering.
    pub tgid: u32,
    /// Status as `wait` encodes it.
    pub exit_code: u32,
    /// Zero.
    pub reserved: u32,
    /// Its name, zero-padded.
    pub comm: [u8; 16],
}

/// Connections that found no room.
pub const LOST_CONNECTIONS: u32 = 0;
/// Records that found no room.
pub const LOST_RECORDS: u32 = 1;
/// Events that found no room.
pub const LOST_EVENTS: u32 = 2;
/// Number of loss counters.
pub const LOST_COUNTERS: u32 = 3;

/// Key in the table of wanted network namespaces that stands for all of them.
pub const NETNS_ANY: u32 = 0;

/// An offset that the running kernel does not have.
pub const OFFSET_MISSING: u32 = u32::MAX;

/// Where the running kernel keeps what the programs read: bytes from the start of each struct.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Offsets {
    /// `sock_common.skc_family`
    pub sock_family: u32,
    /// `sock_common.skc_state`
    pub sock_state: u32,
    /// `sock_common.skc_daddr`
    pub sock_daddr: u32,
    /// `sock_common.skc_rcv_saddr`
    pub sock_rcv_saddr: u32,
    /// `sock_common.skc_dport`
    pub sock_dport: u32,
    /// `sock_common.skc_num`
    pub sock_num: u32,
    /// `sock_common.skc_v6_daddr`
    pub sock_v6_daddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`
    pub sock_v6_rcv_saddr: u32,
    /// `sock_common.skc_net`
    pub sock_net: u32,
    /// `sock.sk_protocol`
    pub sock_protocol: u32,
    /// `sock.sk_err`
    pub sock_err: u32,
    /// `sock.sk_cgrp_data.cgroup`
    pub sock_cgroup: u32,
    /// `cgroup.kn`
    pub cgroup_node: u32,
    /// `kernfs_node.id`
    pub node_id: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// `net.net_cookie`
    pub net_cookie: u32,
    /// `sk_buff.sk`
    pub skb_sk: u32,
    /// `sk_buff.dev`
    pub skb_dev: u32,
    /// `sk_buff.len`
    pub skb_len: u32,
    /// `sk_buff.protocol`
    pub skb_protocol: u32,
    /// `sk_buff.network_header`
    pub skb_network_header: u32,
    /// `sk_buff.head`
    pub skb_head: u32,
    /// `net_device.nd_net`
    pub dev_net: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.exit_code`
    pub task_exit_code: u32,
    /// 1 when the tracepoint of retransmissions tells their result (since 6.17).
    pub retransmit_has_error: u32,
    /// 1 when the tracepoint of drops tells the receiving socket (since 6.11).
    pub drop_has_rx_sock: u32,
    /// 1 when the tracepoint of sent resets tells the reason (since 6.10).
    pub reset_has_reason: u32,
    /// 1 when the tracepoint of process ends tells whether the whole group is dead.
    pub exit_has_group_dead: u32,
}

impl Offsets {
    /// Nothing known: every offset missing, every ability absent.
    #[must_use]
    pub const fn missing() -> Self {
        Self {
            sock_family: OFFSET_MISSING,
            sock_state: OFFSET_MISSING,
            sock_daddr: OFFSET_MISSING,
            sock_rcv_saddr: OFFSET_MISSING,
            sock_dport: OFFSET_MISSING,
            sock_num: OFFSET_MISSING,
            sock_v6_daddr: OFFSET_MISSING,
            sock_v6_rcv_saddr: OFFSET_MISSING,
            sock_net: OFFSET_MISSING,
            sock_protocol: OFFSET_MISSING,
            sock_err: OFFSET_MISSING,
            sock_cgroup: OFFSET_MISSING,
            cgroup_node: OFFSET_MISSING,
            node_id: OFFSET_MISSING,
            net_inum: OFFSET_MISSING,
            net_cookie: OFFSET_MISSING,
            skb_sk: OFFSET_MISSING,
            skb_dev: OFFSET_MISSING,
            skb_len: OFFSET_MISSING,
            skb_protocol: OFFSET_MISSING,
            skb_network_header: OFFSET_MISSING,
            skb_head: OFFSET_MISSING,
            dev_net: OFFSET_MISSING,
            task_tgid: OFFSET_MISSING,
            task_pid: OFFSET_MISSING,
            task_exit_code: OFFSET_MISSING,
            retransmit_has_error: 0,
            drop_has_rx_sock: 0,
            reset_has_reason: 0,
            exit_has_group_dead: 0,
        }
    }
}

const _: () = assert!(size_of::<RecordKey>() == 56);
const _: () = assert!(size_of::<RecordValue>() == 24);
const _: () = assert!(size_of::<DnsPair>() == 40);
const _: () = assert!(size_of::<Event>() == 48);
