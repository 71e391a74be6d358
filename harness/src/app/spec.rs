//! The declaration of an application (`scenarios/apps/*.yaml`): services, calls, data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An application, as declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppSpec {
    /// Nodes of the cluster that it runs on.
    pub nodes: u16,
    /// The service at which load enters.
    pub entry: String,
    /// Its services, by name.
    pub services: BTreeMap<String, ServiceSpec>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// What runs in its pods.
    pub kind: ServiceKind,
    /// Number of pods, spread over the nodes.
    #[serde(default = "one")]
    pub replicas: u16,
    /// The port on which it serves; by default 8080, 6379 or 5432.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// CPU limit of each pod, thousandths of a core; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millicores: Option<u32>,
    /// Memory limit of each pod, mebibytes; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// redis: bound of its data (`maxmemory`), mebibytes; evicts the least recently used. No bound by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory_mib: Option<u32>,
}

impl ServiceSpec {
    /// The port on which it serves.
    #[must_use]
    pub fn serving_port(&self) -> u16 {
        self.port.unwrap_or(self.kind.default_port())
    }
}

/// What runs in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceKind {
    /// Our own http service, which behaves as declared.
    Http,
    /// A real redis-server.
    Redis,
    /// A real PostgreSQL.
    Postgres,
}

impl ServiceKind {
    /// The port on which a service of the kind serves unless told otherwise.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 8080,
            Self::Redis => 6379,
            Self::Postgres => 5432,
        }
    }
}

fn one() -> u16 {
    1
}
