//! The kinds of faults and their parameters, as a plan states them.

use std::time::Duration;

use gauntlet_probes::entity::{NodeName, PodName, ServiceName};
use serde::{Deserialize, Serialize};

/// One fault of a plan: what, and on which pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedFault {
    /// Its name in the scenario.
    pub id: String,
    /// What is made wrong.
    pub kind: FaultKind,
    /// The pods chosen, sorted; empty for kinds that have none. Of a fault of a node: all pods that run on it.
    pub pods: Vec<PodName>,
    /// The service whose pods these are, or by whose pod the node was chosen.
    pub service: Option<ServiceName>,
    /// The node chosen, for kinds that are done to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
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
    /// An object of a Kubernetes API is made wrong.
    Object(ObjectFault),
    /// A node of a Kubernetes cluster is made wrong.
    Node(NodeFault),
}

/// What is made wrong in the objects of a Kubernetes API. All but the last concern all pods of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum ObjectFault {
    /// The service's selectors match no pod.
    WrongSelector,
    /// A policy lets nothing into the pods, if the cluster's network enforces policies.
    PolicyDeny,
    /// The pods are rolled out with a configuration that has a wrong port for a callee.
    WrongAddress {
        /// The callee.
        peer: ServiceName,
        /// The port, on which nobody listens.
        port: u16,
    },
    /// The pods are rolled out with an image that cannot be had.
    BadImage,
    /// The pods are rolled out with a readiness check that never passes.
    Unready,
    /// There are no pods.
    ScaleToZero,
    /// The pods are rolled out with too little memory.
    MemoryLimit {
        /// This much.
        mebibytes: u32,
    },
    /// The cluster's name servers have no pods.
    DnsScaleToZero,
}

/// What is made wrong with a node of a Kubernetes cluster whose nodes are containers of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeFault {
    /// Everything on it stops (the container is frozen).
    Pause,
    /// Nothing passes its interface to the other nodes; its pods still reach each other.
    NetworkCut,
    /// Its kubelet ends; its pods go on.
    KubeletStop,
    /// It takes no more pods, and those of the application are evicted.
    Drain,
}

/// Whom a kind is done to, which is what its `target` chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// Nobody in particular.
    Nobody,
    /// Some pods of a service.
    Pods,
    /// All pods of a service, because they share what is made wrong.
    Service,
    /// The node of one pod.
    Node,
}

impl FaultKind {
    /// Whom it is done to.
    #[must_use]
    pub fn concern(&self) -> Concern {
        match self {
            Self::None | Self::LoadSurge { .. } | Self::Object(ObjectFault::DnsScaleToZero) => Concern::Nobody,
            Self::Placebo { of } => of.concern(),
            Self::NetworkFilter { .. }
            | Self::NetworkLoss { .. }
            | Self::NetworkDelay { .. }
            | Self::NetworkBandwidth { .. }
            | Self::ProcessKill { .. }
            | Self::ProcessPause
            | Self::CpuLimit { .. }
            | Self::CacheFlush => Concern::Pods,
            Self::ServiceWrongPort { .. }
            | Self::Object(
                ObjectFault::WrongSelector
                | ObjectFault::PolicyDeny
                | ObjectFault::WrongAddress { .. }
                | ObjectFault::BadImage
                | ObjectFault::Unready
                | ObjectFault::ScaleToZero
                | ObjectFault::MemoryLimit { .. },
            ) => Concern::Service,
            Self::Node(_) => Concern::Node,
        }
    }

    /// Whether it can be made on a Kubernetes cluster only.
    #[must_use]
    pub fn needs_kubernetes(&self) -> bool {
        match self {
            Self::Object(_) | Self::Node(_) => true,
            Self::Placebo { of } => of.needs_kubernetes(),
            Self::None
            | Self::LoadSurge { .. }
            | Self::NetworkFilter { .. }
            | Self::NetworkLoss { .. }
            | Self::NetworkDelay { .. }
            | Self::NetworkBandwidth { .. }
            | Self::ServiceWrongPort { .. }
            | Self::ProcessKill { .. }
            | Self::ProcessPause
            | Self::CpuLimit { .. }
            | Self::CacheFlush => false,
        }
    }

    /// How long its effect may outlast its undo before that is a failure of recovery: new pods have to be scheduled,
    /// started and found ready, and a database among them fills itself first.
    #[must_use]
    pub fn gone_within(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Object(ObjectFault::WrongSelector | ObjectFault::PolicyDeny) => 10,
            Self::Object(
                ObjectFault::WrongAddress { .. }
                | ObjectFault::BadImage
                | ObjectFault::Unready
                | ObjectFault::ScaleToZero
                | ObjectFault::MemoryLimit { .. }
                | ObjectFault::DnsScaleToZero,
            )
            | Self::Node(NodeFault::Drain) => 90,
            Self::Node(NodeFault::Pause | NodeFault::NetworkCut | NodeFault::KubeletStop) => 30,
            Self::None
            | Self::Placebo { .. }
            | Self::LoadSurge { .. }
            | Self::NetworkFilter { .. }
            | Self::NetworkLoss { .. }
            | Self::NetworkDelay { .. }
            | Self::NetworkBandwidth { .. }
            | Self::ServiceWrongPort { .. }
            | Self::ProcessKill { .. }
            | Self::ProcessPause
            | Self::CpuLimit { .. }
            | Self::CacheFlush => 5,
        })
    }

    /// The kind and its parameters in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::None => "nothing".to_owned(),
            Self::Placebo { of } => format!("placebo of {}", of.words()),
            Self::LoadSurge { factor } => format!("load × {factor}"),
            Self::NetworkFilter { action, scope } => format!("network filter ({action:?}, {:?})", scope.direction),
            Self::NetworkLoss { ratio, .. } => format!("network loss of {:.0} %", ratio * 100.0),
            Self::NetworkDelay { delay, jitter, .. } => format!("network delay of {delay:?} ± {jitter:?}"),
            Self::NetworkBandwidth { bits_per_second, .. } => format!("bandwidth of {bits_per_second} bit/s"),
            Self::ServiceWrongPort { target_port } => format!("service leads to port {target_port}"),
            Self::ProcessKill { every: Some(every) } => format!("kill every {every:?}"),
            Self::ProcessKill { every: None } => "kill".to_owned(),
            Self::ProcessPause => "pause".to_owned(),
            Self::CpuLimit { millicores } => format!("CPU limit of {millicores} millicores"),
            Self::CacheFlush => "cache flush".to_owned(),
            Self::Object(fault) => fault.words(),
            Self::Node(fault) => fault.words().to_owned(),
        }
    }
}

impl ObjectFault {
    fn words(&self) -> String {
        match self {
            Self::WrongSelector => "service selects no pod".to_owned(),
            Self::PolicyDeny => "network policy that lets nothing in".to_owned(),
            Self::WrongAddress { peer, port } => format!("configuration with port {port} of {peer}"),
            Self::BadImage => "image that cannot be had".to_owned(),
            Self::Unready => "readiness check that never passes".to_owned(),
            Self::ScaleToZero => "scale to zero".to_owned(),
            Self::MemoryLimit { mebibytes } => format!("memory limit of {mebibytes} MiB"),
            Self::DnsScaleToZero => "name servers scaled to zero".to_owned(),
        }
    }
}

impl NodeFault {
    /// The fault in words.
    fn words(self) -> &'static str {
        match self {
            Self::Pause => "node paused",
            Self::NetworkCut => "node cut off",
            Self::KubeletStop => "kubelet stopped",
            Self::Drain => "node drained",
        }
    }
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
