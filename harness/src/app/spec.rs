//! The declaration of an application (`scenarios/apps/*.yaml`): services, calls, data and default load.
//!
//! Only the shape; what the parts mean together is checked in [`super::validate`]. Every field is described for authors in
//! `scenarios/apps/README.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// An application, as declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppSpec {
    /// Nodes of the cluster that it runs on.
    pub nodes: u16,
    /// The service at which load enters.
    pub entry: String,
    /// What users ask for, unless a scenario says otherwise.
    pub load: LoadDefaults,
    /// Its services, by name.
    pub services: BTreeMap<String, ServiceSpec>,
}

/// What users ask for, unless a scenario says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadDefaults {
    /// Requests per second.
    pub rate: f64,
    /// After this long a user gives up.
    #[serde(default = "three_seconds", with = "duration")]
    pub timeout: Duration,
    /// What is asked for.
    pub paths: Vec<PathShare>,
}

/// One kind of request, and its share of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathShare {
    /// Path with at most one key choice: `/product/{uniform:1..2000}` or `/product/{zipf:1..2000:1.1}`.
    pub path: String,
    /// Weight against the other paths.
    #[serde(default = "unit_weight")]
    pub weight: f64,
    /// Whether each key is asked for once before the run, so that the caches are warm.
    #[serde(default)]
    pub prefill: bool,
}

/// One service. Which fields apply depends on its kind.
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
    /// http: what it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointSpec>,
    /// http: how many requests it works on at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencySpec>,
    /// http: connections to each callee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolSpec>,
    /// postgres: tables, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, TableSpec>,
    /// postgres: SQL that callers may name, with parameters `$1`, `$2`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub statements: BTreeMap<String, String>,
}

impl ServiceSpec {
    /// The port on which it serves.
    #[must_use]
    pub fn serving_port(&self) -> u16 {
        self.port.unwrap_or(self.kind.default_port())
    }

    /// How many requests it works on at once.
    #[must_use]
    pub fn concurrency_or_default(&self) -> ConcurrencySpec {
        self.concurrency.unwrap_or_default()
    }

    /// Connections to each callee.
    #[must_use]
    pub fn pool_or_default(&self) -> PoolSpec {
        self.pool.unwrap_or_default()
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

    /// The kind as authors write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }
}

/// One endpoint of an http service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointSpec {
    /// Pattern such as `/product/{id}`; what stands for `{id}` may be used in the steps.
    pub path: String,
    /// What a request makes it do, in order.
    pub steps: Vec<Step>,
    /// Size to which the response is padded; by default it is as long as what the steps brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u32>,
}

/// One thing that a request makes a service do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Ask the cache; on a miss, or when the cache cannot be asked, do other steps.
    CacheAside(CacheAside),
    /// Execute a named statement.
    Query(Query),
    /// Call another http service.
    Call(Call),
    /// Do several things at once; fails with the first that fails.
    Parallel(Vec<Step>),
    /// Compute.
    Work(Work),
}

/// Ask the cache; on a miss, or when the cache cannot be asked, do other steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheAside {
    /// The redis service; keys are sharded over its replicas.
    pub cache: String,
    /// The key, with the endpoint's parameters, such as `product:{id}`.
    pub key: String,
    /// How long a value stays, spread by a fifth either way so that a prefilled cache does not expire at once.
    #[serde(with = "duration")]
    pub ttl: Duration,
    /// Bound of each operation on the cache, connecting not included.
    #[serde(default = "hundred_milliseconds", with = "duration")]
    pub timeout: Duration,
    /// What brings the value otherwise.
    pub on_miss: Vec<Step>,
}

/// Execute a named statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Query {
    /// The postgres service.
    pub database: String,
    /// Name of one of its statements.
    pub statement: String,
    /// Its arguments in order, with the endpoint's parameters, such as `{id}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Bound of the operation, connecting not included.
    #[serde(default = "two_seconds", with = "duration")]
    pub timeout: Duration,
}

/// Call another http service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// The http service.
    pub service: String,
    /// The path asked for, with the endpoint's parameters.
    pub path: String,
    /// Bound of each try, connecting not included.
    #[serde(default = "two_seconds", with = "duration")]
    pub timeout: Duration,
    /// How often it is tried again after a failure.
    #[serde(default)]
    pub retries: u8,
}

/// Compute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Work {
    /// CPU time, of the thread and not of the wall: a throttled pod takes longer.
    #[serde(with = "duration")]
    pub cpu: Duration,
}

/// How many requests an http service works on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConcurrencySpec {
    /// Requests at work in one pod.
    pub max: u16,
    /// Requests that may wait; one more is answered 503.
    pub queue: u16,
}

impl Default for ConcurrencySpec {
    fn default() -> Self {
        Self { max: 64, queue: 128 }
    }
}

/// Connections from one pod to each callee.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PoolSpec {
    /// Connections, each with one request in flight.
    pub size: u16,
    /// Bound of connecting, looking the name up not included; also of the wait for a free connection.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Mean age at which a connection is replaced; each lives between half and one and a half of it.
    #[serde(with = "duration")]
    pub max_age: Duration,
}

impl Default for PoolSpec {
    fn default() -> Self {
        Self {
            size: 16,
            connect_timeout: Duration::from_millis(250),
            max_age: Duration::from_secs(4),
        }
    }
}

/// One table. Column `id`, 1 to `rows`, is its primary key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableSpec {
    /// Number of rows.
    pub rows: u32,
    /// Its other columns, in order.
    #[serde(default)]
    pub columns: Vec<ColumnSpec>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ColumnSpec {
    /// Its name.
    pub name: String,
    /// What its values are; they are the same on each machine.
    pub generate: Generator,
    /// Has an index.
    #[serde(default)]
    pub indexed: bool,
}

/// What the values of a column are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Generator {
    /// Whole numbers, evenly distributed.
    Uniform {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// Text that does not compress well.
    Text {
        /// Length of each value.
        bytes: u32,
    },
    /// An `id` of another table, evenly distributed.
    Reference {
        /// That table.
        table: String,
    },
}

fn one() -> u16 {
    1
}

fn unit_weight() -> f64 {
    1.0
}

fn hundred_milliseconds() -> Duration {
    Duration::from_millis(100)
}

fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

fn three_seconds() -> Duration {
    Duration::from_secs(3)
}
