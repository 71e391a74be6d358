//! What a detector says: ranked candidates at a moment, and the lines that carry them (NDJSON on standard output).
//!
//! Any detector may print these lines; nothing here is particular to ours.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use gauntlet_probes::entity::{NodeName, PodName, ServiceName};
use gauntlet_probes::frame::MonotonicNanos;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Version of the lines below.
pub const PROTOCOL_VERSION: u32 = 1;

/// How a thing is wrong, from a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// Packets are dropped or rejected by a rule.
    NetworkFilter,
    /// A share of packets is lost.
    NetworkLoss,
    /// Packets take longer.
    NetworkDelay,
    /// Throughput is limited.
    NetworkBandwidth,
    /// Large packets do not pass.
    NetworkMtu,
    /// Packets go to a wrong address, port, selector or route.
    NetworkMisroute,
    /// An interface or link is down.
    NetworkDown,
    /// Names are not answered.
    DnsFailure,
    /// Names are answered late.
    DnsDelay,
    /// Names are answered wrongly.
    DnsWrongAnswer,
    /// The cache is empty.
    CacheCold,
    /// The cache throws values away.
    CacheEviction,
    /// The cache refuses its clients.
    CacheAuth,
    /// Queries wait for locks.
    DbLock,
    /// The database has no connection left.
    DbConnections,
    /// Queries are slow.
    DbSlow,
    /// CPU is short.
    ResourceCpu,
    /// Memory is short.
    ResourceMemory,
    /// Block I/O is short.
    ResourceIo,
    /// Processes end.
    ProcessCrash,
    /// Processes live and do nothing.
    ProcessHang,
    /// The program answers with errors.
    AppError,
    /// The program is slow.
    AppSlow,
    /// More was asked than ever: a true answer, not a fault.
    LoadSurge,
    /// Something is wrong and the evidence does not say what.
    Unknown,
}

impl Mechanism {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 25] = [
        Self::NetworkFilter,
        Self::NetworkLoss,
        Self::NetworkDelay,
        Self::NetworkBandwidth,
        Self::NetworkMtu,
        Self::NetworkMisroute,
        Self::NetworkDown,
        Self::DnsFailure,
        Self::DnsDelay,
        Self::DnsWrongAnswer,
        Self::CacheCold,
        Self::CacheEviction,
        Self::CacheAuth,
        Self::DbLock,
        Self::DbConnections,
        Self::DbSlow,
        Self::ResourceCpu,
        Self::ResourceMemory,
        Self::ResourceIo,
        Self::ProcessCrash,
        Self::ProcessHang,
        Self::AppError,
        Self::AppSlow,
        Self::LoadSurge,
        Self::Unknown,
    ];

    /// Its name in files and on the wire, for example `network.filter`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetworkFilter => "network.filter",
            Self::NetworkLoss => "network.loss",
            Self::NetworkDelay => "network.delay",
            Self::NetworkBandwidth => "network.bandwidth",
            Self::NetworkMtu => "network.mtu",
            Self::NetworkMisroute => "network.misroute",
            Self::NetworkDown => "network.down",
            Self::DnsFailure => "dns.failure",
            Self::DnsDelay => "dns.delay",
            Self::DnsWrongAnswer => "dns.wrong-answer",
            Self::CacheCold => "cache.cold",
            Self::CacheEviction => "cache.eviction",
            Self::CacheAuth => "cache.auth",
            Self::DbLock => "db.lock",
            Self::DbConnections => "db.connections",
            Self::DbSlow => "db.slow",
            Self::ResourceCpu => "resource.cpu",
            Self::ResourceMemory => "resource.memory",
            Self::ResourceIo => "resource.io",
            Self::ProcessCrash => "process.crash",
            Self::ProcessHang => "process.hang",
            Self::AppError => "app.error",
            Self::AppSlow => "app.slow",
            Self::LoadSurge => "load.surge",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no mechanism.
#[derive(Debug, thiserror::Error)]
#[error("unknown mechanism `{0}`")]
pub struct UnknownMechanism(pub String);

impl FromStr for Mechanism {
    type Err = UnknownMechanism;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name() == text)
            .ok_or_else(|| UnknownMechanism(text.to_owned()))
    }
}

impl Serialize for Mechanism {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Mechanism {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Mechanism {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Mechanism")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How a thing is wrong, from a closed list.",
            "enum": Self::ALL.map(Self::name),
        })
    }
}

/// What is blamed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entity {
    /// A service; [`Candidate::pods`] says which of its pods.
    Service {
        /// Its name.
        name: ServiceName,
    },
    /// One pod.
    Pod {
        /// Its name.
        name: PodName,
    },
    /// A node.
    Node {
        /// Its name.
        name: NodeName,
    },
    /// What lies between two services.
    Edge {
        /// Who calls.
        caller: ServiceName,
        /// Who is called.
        callee: ServiceName,
    },
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { name } => name.fmt(f),
            Self::Pod { name } => write!(f, "pod {name}"),
            Self::Node { name } => write!(f, "node {name}"),
            Self::Edge { caller, callee } => write!(f, "{caller} → {callee}"),
        }
    }
}

/// A suspect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// What is blamed.
    pub entity: Entity,
    /// How it is wrong.
    pub mechanism: Mechanism,
    /// 0 to 1: the share of such statements that the detector expects to be right.
    pub confidence: f64,
    /// When it began, as far as the evidence tells.
    pub since_ns: MonotonicNanos,
    /// Exactly the affected pods, sorted; empty if the blame does not lie with pods.
    #[serde(default)]
    pub pods: Vec<PodName>,
    /// The nodes of these pods, sorted.
    #[serde(default)]
    pub nodes: Vec<NodeName>,
    /// The evidence in plain words, strongest first.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// Services from the cause to the symptom, for example `cache, web`.
    #[serde(default)]
    pub path: Vec<ServiceName>,
}

/// What a detector holds true from a moment on, until its next statement. No candidate means: nothing is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// When it was stated.
    pub at_ns: MonotonicNanos,
    /// Who states it: `gauntlet`, or a rival on the same frames (`alert-count`, `max-z`).
    pub detector: String,
    /// Suspects, most likely first; at most 10.
    pub candidates: Vec<Candidate>,
}

/// One line of a detector's standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum DetectorLine {
    /// First line: what speaks, and that it is ready. Nothing is injected before.
    Ready {
        /// [`PROTOCOL_VERSION`].
        version: u32,
        /// Name and version of the detector.
        detector: String,
        /// What it works without, in plain words, one degraded ability each.
        #[serde(default)]
        degraded: Vec<String>,
        /// It has no probes of its own and asks for frames on its standard input.
        #[serde(default)]
        frames: bool,
        /// It is going to judge the recording that [`RECORDING_VARIABLE`](crate::feed::RECORDING_VARIABLE) names.
        #[serde(default)]
        recording: bool,
        /// Names of others that speak in its stream. Each is judged by itself, and one that stays silent has missed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        beside: Vec<String>,
    },
    /// A statement.
    Diagnosis(Diagnosis),
    /// All that came before the `sync` of this number has been judged, and what there was to say has been said.
    Synced {
        /// The number.
        id: u64,
    },
    /// Last line: what the detector cost and lost.
    Summary(Summary),
}

/// What a detector cost and lost. Whatever it does not account for is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Frames judged.
    pub frames: u64,
    /// Frames missed.
    pub frames_missed: u64,
    /// Evidence lost: connections, records and events together.
    pub lost: u64,
    /// Segments that a parser gave up on.
    pub unparsed: u64,
    /// CPU time of the detector's process while it watched, nanoseconds; what starting cost is left out.
    pub cpu_ns: u64,
    /// How long it ran, nanoseconds.
    pub wall_ns: u64,
    /// Its largest resident set, bytes.
    pub rss_bytes_max: u64,
    /// Each kernel program: name, runs, nanoseconds.
    pub programs: Vec<ProgramCost>,
}

/// What a kernel program cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgramCost {
    /// Its name.
    pub name: String,
    /// How often it ran.
    pub run_count: u64,
    /// How long in all, nanoseconds.
    pub run_ns: u64,
}
