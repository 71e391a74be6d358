//! What the probes saw in one tick: the only thing that a detector gets beside the inventory.
//!
//! Counts are of this tick alone, gauges are of its end. Nothing here is judged: a frame does not know what is normal.
//! Recordings hold frames without field names, in the order below; JSON has the names, as `camelCase`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::entity::{NodeName, Peer, PodName};

/// Version of [`Frame`]; bumped when a field changes its meaning.
pub const FRAME_VERSION: u32 = 1;

/// Nanoseconds of CLOCK_MONOTONIC, the clock of `bpf_ktime_get_ns`.
pub type MonotonicNanos = u64;

/// Everything seen between two ticks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Frame {
    /// Number of this frame, from 0; a gap means that frames were lost.
    pub seq: u64,
    /// When the tick ended.
    pub at_ns: MonotonicNanos,
    /// How long the tick was, nanoseconds (200 ms by default, longer on a busy machine).
    pub span_ns: u64,
    /// Traffic per edge.
    pub edges: Vec<EdgeSample>,
    /// Packets that the kernel dropped.
    pub drops: Vec<DropSample>,
    /// TCP resets, sent and received.
    pub resets: Vec<ResetSample>,
    /// Name look-ups.
    pub dns: Vec<DnsSample>,
    /// Resources per pod.
    pub pods: Vec<PodSample>,
    /// Resources per node.
    pub nodes: Vec<NodeSample>,
    /// Starts and ends of processes.
    pub events: Vec<ProcessEvent>,
    /// What the probes themselves lost or could not tell.
    pub loss: LossSample,
}

/// Traffic of one caller to one callee, by server port. Both ends are seen when both run on this kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeSample {
    /// Who opened the connections.
    pub caller: Peer,
    /// Who accepts them, after address translation; [`Peer::Service`] when that could not be told.
    pub callee: Peer,
    /// The virtual service that the caller dialled, if it dialled one ([`crate::entity::ServiceInfo::name`]).
    pub via: Option<String>,
    /// The port that the caller dialled.
    pub port: u16,
    /// As seen at the caller's sockets.
    pub client: Option<SideSample>,
    /// As seen at the callee's sockets.
    pub server: Option<SideSample>,
}

/// One side's view of an edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SideSample {
    /// Connections tried (client) or begun to accept (server).
    pub connects_attempted: u32,
    /// Connections opened.
    pub connects_opened: u32,
    /// Connection attempts that failed, by errno (111 refused, 113 unreachable, 110 timed out, 104 reset, 0: given up
    /// by the caller while the handshake was under way).
    pub connects_failed: Vec<(i32, u32)>,
    /// Connections closed after they had been open.
    pub connects_closed: u32,
    /// Errors that an open connection reported, by errno (104 reset, 110 timed out, 32 broken pipe …).
    pub errors: Vec<(i32, u32)>,
    /// Gauge: connections now open.
    pub open: u32,
    /// Gauge: handshakes now under way.
    pub opening: u32,
    /// Gauge: age of the oldest handshake under way, nanoseconds.
    pub opening_age_ns_max: u64,
    /// Segments sent again.
    pub retransmits: Vec<RetransmitCount>,
    /// SYN-ACKs sent again (server).
    pub synack_retransmits: u32,
    /// Smoothed round-trip time, microseconds, median over the connections that had traffic; `None` when none had.
    pub srtt_us_median: Option<u32>,
    /// The same, largest.
    pub srtt_us_max: Option<u32>,
    /// Payload bytes sent by this side.
    pub bytes_sent: u64,
    /// Payload bytes received by this side.
    pub bytes_received: u64,
    /// Gauge: connections with received data that the process has not read.
    pub unread_connections: u32,
    /// Gauge: how long the oldest unread data has waited, nanoseconds.
    pub unread_age_ns_max: u64,
    /// Gauge: connections that the kernel completed and the process has not accepted (server).
    pub accept_backlog: u32,
    /// Requests and answers, by protocol.
    pub l7: Vec<L7Sample>,
}

/// Segments sent again, by what the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetransmitCount {
    /// During the handshake, or on an open connection.
    pub handshake: bool,
    /// Result of the retransmission: 0 sent, -1 refused by a local egress filter, -16 neighbour unresolved,
    /// 1 dropped by the local queue. `None` where the kernel does not tell (before 6.17).
    pub error: Option<i32>,
    /// How many.
    pub count: u32,
}

/// Application protocol, recognised by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.0 and 1.1.
    Http1,
    /// Redis, RESP2 and RESP3.
    Redis,
    /// PostgreSQL, frontend/backend protocol 3.
    Postgres,
    /// TLS: only connection-level signals are known.
    Encrypted,
    /// Bytes of no protocol known here.
    Unknown,
}

/// Requests and answers of one protocol on one side of an edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct L7Sample {
    /// The protocol.
    pub protocol: Protocol,
    /// Requests sent (client) or received (server).
    pub requests: u32,
    /// Answers received (client) or sent (server).
    pub responses: u32,
    /// Answers that say that the server failed or refused: HTTP 5xx, any other Redis `-` (NOAUTH, OOM, LOADING …), PostgreSQL `E`.
    pub errors: u32,
    /// Answers that say that the request was wrong: HTTP 4xx, Redis `-ERR`.
    pub client_errors: u32,
    /// Answers to Redis GET-class commands that found a value.
    pub hits: u32,
    /// Answers to Redis GET-class commands that found none.
    pub misses: u32,
    /// Time from a request's first byte to its answer's first byte, at this side.
    pub latency: LatencyHistogram,
    /// Gauge: requests without an answer yet.
    pub outstanding: u32,
    /// Gauge: age of the oldest of them, nanoseconds.
    pub outstanding_age_ns_max: u64,
    /// Segments that could not be parsed.
    pub unparsed: u32,
}

/// A log-linear histogram of durations: four buckets to the octave of microseconds.
///
/// Sparse: (bucket, count), ascending. The bucket function is [`gauntlet_abi::latency_bucket`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct LatencyHistogram(pub Vec<(u8, u32)>);

impl LatencyHistogram {
    /// Number of durations counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|&(_, count)| u64::from(count)).sum()
    }

    /// Counts one duration.
    pub fn record_us(&mut self, duration_us: u64) {
        self.add(gauntlet_abi::latency_bucket(duration_us), 1);
    }

    /// Adds `count` durations of `bucket`.
    pub fn add(&mut self, bucket: u8, count: u32) {
        match self.0.binary_search_by_key(&bucket, |&(bucket, _)| bucket) {
            Ok(index) => self.0[index].1 = self.0[index].1.saturating_add(count),
            Err(index) => self.0.insert(index, (bucket, count)),
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for &(bucket, count) in &other.0 {
            self.add(bucket, count);
        }
    }

    /// The duration below which a share `quantile` (0 to 1) lies: middle of its bucket, microseconds; `None` if empty.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts are far below 2^52"
        )]
        let rank = ((quantile.clamp(0.0, 1.0) * total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for &(bucket, count) in &self.0 {
            seen += u64::from(count);
            if seen >= rank {
                return Some(bucket_middle_us(bucket));
            }
        }
        None
    }

    /// Mean of the bucket middles, microseconds; `None` if empty.
    #[must_use]
    pub fn mean_us(&self) -> Option<f64> {
        let total = self.count();
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        (total > 0).then(|| {
            self.0
                .iter()
                .map(|&(bucket, count)| bucket_middle_us(bucket) * f64::from(count))
                .sum::<f64>()
                / total as f64
        })
    }
}

fn bucket_middle_us(bucket: u8) -> f64 {
    let low = gauntlet_abi::latency_bucket_floor_us(bucket);
    let high = gauntlet_abi::latency_bucket_floor_us(bucket.saturating_add(1));
    #[expect(clippy::cast_precision_loss, reason = "the highest bucket is below 2^40")]
    let middle = (low + high) as f64 / 2.0;
    middle
}

/// Which way a dropped packet was going, seen from the place where it was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Into that place.
    Ingress,
    /// Out of that place.
    Egress,
    /// Through it (a node that forwards).
    Forward,
    /// Could not be told.
    Unknown,
}

/// Transport protocol of a dropped packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// Anything else, ARP included.
    Other,
}

/// Packets dropped at one place for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DropSample {
    /// Whose network namespace dropped them; `None` when it belongs to none of the inventory.
    pub at: Option<Peer>,
    /// The kernel's name of the reason, without its prefix, for example `NETFILTER_DROP`.
    pub reason: String,
    /// The kernel function that dropped them, for example `nft_do_chain`; a hexadecimal address where symbols are hidden.
    pub symbol: String,
    /// Which way they were going.
    pub direction: Direction,
    /// Whence, by the packet's header.
    pub source: Option<Peer>,
    /// Whither, by the packet's header.
    pub target: Option<Peer>,
    /// The server's port (the lower of the two), 0 if there is none.
    pub port: u16,
    /// True when `port` is the target's: the packets went to the server.
    pub to_server: bool,
    /// Transport.
    pub transport: Transport,
    /// How many.
    pub count: u32,
    /// How many of them opened a connection (SYN without ACK).
    pub syn_count: u32,
    /// The longest of them, bytes.
    pub length_bytes_max: u32,
}

/// TCP resets seen at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetSample {
    /// Who sent or received them.
    pub at: Peer,
    /// The other end.
    pub peer: Option<Peer>,
    /// The server's port.
    pub port: u16,
    /// True when `at` is the server of that port.
    pub at_server: bool,
    /// True: sent by `at`; false: received by it.
    pub sent: bool,
    /// The kernel's reason of a sent reset, without its prefix, for example `NO_SOCKET`; `None` where it does not tell.
    pub reason: Option<String>,
    /// How many.
    pub count: u32,
}

/// Name look-ups of one client at one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DnsSample {
    /// Who asked.
    pub client: Peer,
    /// Who was asked.
    pub server: Peer,
    /// Questions.
    pub queries: u32,
    /// Answers, of any kind.
    pub responses: u32,
    /// Answers: no such name.
    pub nxdomain: u32,
    /// Answers: server failure, refusal and other errors.
    pub failures: u32,
    /// Questions that had no answer within two seconds.
    pub unanswered: u32,
    /// Time from question to answer, at the client.
    pub latency: LatencyHistogram,
}

/// Resources of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSample {
    /// The pod.
    pub pod: PodName,
    /// Its resources.
    pub usage: UsageSample,
}

/// Resources of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSample {
    /// The node.
    pub node: NodeName,
    /// Its resources.
    pub usage: UsageSample,
}

/// Resources of one cgroup. `None` where the kernel or the cgroup does not tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageSample {
    /// CPU time used, nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Its CPU limit, in thousandths of a core.
    pub cpu_limit_millicores: Option<u32>,
    /// Enforcement periods that ended.
    pub cpu_periods: Option<u32>,
    /// Of these, periods in which it was throttled.
    pub cpu_throttled_periods: Option<u32>,
    /// Time it was throttled, nanoseconds.
    pub cpu_throttled_ns: Option<u64>,
    /// Time its runnable tasks waited for a CPU, nanoseconds.
    pub run_queue_wait_ns: Option<u64>,
    /// Time in which some task waited for CPU, microseconds (pressure stall information).
    pub cpu_pressure_us: Option<u64>,
    /// Gauge: memory in use, bytes.
    pub memory_bytes: Option<u64>,
    /// Its memory limit, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Time in which some task waited for memory, microseconds.
    pub memory_pressure_us: Option<u64>,
    /// Time in which some task waited for block devices, microseconds.
    pub io_pressure_us: Option<u64>,
    /// Gauge: processes in it.
    pub process_count: Option<u32>,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessEventKind {
    /// It executed a program.
    Exec,
    /// It ended by itself, with this code.
    Exited(i32),
    /// It was ended by this signal.
    Signalled(i32),
    /// The kernel chose it as victim of a memory shortage.
    OomKilled,
}

/// A process of a pod started or ended. Threads are not told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessEvent {
    /// When.
    pub at_ns: MonotonicNanos,
    /// Of which pod.
    pub pod: PodName,
    /// Process id, in the host's numbering.
    pub tgid: u32,
    /// Its name, at most 15 bytes.
    pub comm: String,
    /// What happened.
    pub kind: ProcessEventKind,
}

/// What the probes lost. An absence of evidence counts only while these are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LossSample {
    /// Connections that found no room in the kernel's table.
    pub connections: u64,
    /// Drop, reset and name records that found no room.
    pub records: u64,
    /// Events that found no room in the ring buffer.
    pub events: u64,
    /// Segments that a parser gave up on.
    pub unparsed: u64,
    /// Requests whose latency was not timed, because too many were under way on one connection, or because one CPU saw more
    /// than it may look into: then what their answers said is estimated from those that were (see
    /// [`gauntlet_abi::l7::Budget`]).
    pub untimed: u64,
}

impl LossSample {
    /// True when evidence is missing (what could not be parsed or timed is not missing evidence).
    #[must_use]
    pub fn any(&self) -> bool {
        self.connections > 0 || self.records > 0 || self.events > 0
    }
}
