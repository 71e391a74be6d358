//! The kinds of faults and their parameters, as a plan states them.

use std::time::Duration;

use gauntlet_probes::entity::{PodName, ServiceName};
use serde::{Deserialize, Serialize};

/// One fault of a plan: what, and on which pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedFault {
    /// Its name in the scenario.
    pub id: String,
    /// What is made wrong.
    pub kind: FaultKind,
    /// The pods chosen, sorted; empty for kinds that have none.
    pub pods: Vec<PodName>,
    /// The service whose pods these are.
    pub service: Option<ServiceName>,
    /// After this long it undoes itself, whatever became of the harness.
    pub expires_after: Duration,
}

/// What is made wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum FaultKind {
    /// Nothing, by nobody: the negative control.
    None,
    /// All of another fault's machinery, with zero effect: a rule that matches nothing, a delay of 0, a limit far away.
    Placebo {
        /// The fault whose machinery runs, with the parameters it would have.
        of: Box<FaultKind>,
    },
    /// Offered load is multiplied (done by the workload).
    LoadSurge {
        /// By this.
        factor: f64,
    },
    /// A netfilter rule in the pod's network namespace.
    NetworkFilter {
        /// What the rule does with a packet.
        action: FilterAction,
        /// Which packets.
        scope: PacketScope,
    },
    /// A share of packets is lost, below netfilter.
    NetworkLoss {
        /// Share of packets, 0 to 1.
        ratio: f64,
        /// Which packets.
        scope: PacketScope,
    },
    /// Packets take longer.
    NetworkDelay {
        /// By this much, each way that the scope names.
        delay: Duration,
        /// Give or take (uniform).
        jitter: Duration,
        /// Which packets.
        scope: PacketScope,
    },
    /// Throughput of the pod's interface is limited, each way that the scope names.
    NetworkBandwidth {
        /// To this.
        bits_per_second: u64,
        /// Which direction; peer and port are not used.
        direction: FaultDirection,
    },
    /// The virtual addresses of a service lead to a port on which nobody listens.
    ServiceWrongPort {
        /// That port.
        target_port: u16,
    },
    /// The pod's processes are killed (SIGKILL), again and again while the fault lasts.
    ProcessKill {
        /// Time from a kill to the next one; `None`: once.
        every: Option<Duration>,
    },
    /// The pod's processes are stopped (SIGSTOP).
    ProcessPause,
    /// The pod's CPU is limited.
    CpuLimit {
        /// To this, thousandths of a core.
        millicores: u32,
    },
    /// A Redis server forgets all its keys.
    CacheFlush,
}

/// What a filter rule does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterAction {
    /// Silently dropped.
    Drop,
    /// Answered with a TCP reset or an ICMP error.
    Reject,
}

/// Which way, seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultDirection {
    /// Into the pod.
    Ingress,
    /// Out of the pod.
    Egress,
    /// Both.
    Both,
}

/// Which packets of a pod a network fault concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketScope {
    /// Which way.
    pub direction: FaultDirection,
    /// Only packets of this port of the pod's own service (local port), or of the peer's if the peer is the server;
    /// either end matches. `None`: all TCP and UDP.
    pub port: Option<u16>,
    /// Only packets to and from pods of this service (all their addresses). `None`: all.
    pub peer: Option<ServiceName>,
}
