//! What an endpoint does: its steps, with the pools that they use, and their execution.
//!
//! A cache that cannot be asked is a miss, without a second try; what fails otherwise fails the request.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connect::{Callee, HttpConnector, PostgresConnector, RedisConnector, http_outcome, redis_failure};
use super::failure::{CallError, Failure};
use super::pool::{Connector, Lease, Pool};
use super::resolver::Resolver;
use super::work::burn;
use crate::app::shard::shard_of;
use crate::app::spec::{AppSpec, CacheAside, Call, PoolSpec, Query, Step};
use crate::app::spread::mix;
use crate::app::template::fill;

/// A step with what it needs.
enum Action {
    CacheAside {
        spec: CacheAside,
        shards: Vec<Arc<Target<RedisConnector>>>,
        on_miss: Actions,
    },
    Query {
        spec: Query,
        sql: String,
        database: Arc<Target<PostgresConnector>>,
    },
    Call {
        spec: Call,
        service: Arc<Target<HttpConnector>>,
    },
    Parallel(Vec<Actions>),
    Work(Duration),
}

/// Steps that follow each other.
#[derive(Clone)]
pub(crate) struct Actions(Arc<[Action]>);

/// A callee with its connections.
struct Target<C: Connector> {
    name: String,
    pool: Pool<C>,
}

impl<C: Connector> Target<C> {
    async fn lease(&self) -> Result<Lease<C>, Failure> {
        self.pool.lease().await
    }
}

/// Makes actions of steps; each callee gets one pool, however many steps use it.
pub(crate) struct Builder<'a> {
    spec: &'a AppSpec,
    resolver: Arc<Resolver>,
    pool: PoolSpec,
    caches: BTreeMap<String, Vec<Arc<Target<RedisConnector>>>>,
    databases: BTreeMap<String, Arc<Target<PostgresConnector>>>,
    services: BTreeMap<String, Arc<Target<HttpConnector>>>,
}

impl<'a> Builder<'a> {
    /// For the endpoints of one service, whose pools are of the given size. The app was validated.
    pub(crate) fn new(spec: &'a AppSpec, resolver: Arc<Resolver>, pool: PoolSpec) -> Self {
        let (caches, databases, services) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            spec,
            resolver,
            pool,
            caches,
            databases,
            services,
        }
    }

    /// Makes actions of steps.
    pub(crate) fn actions(&mut self, steps: &[Step]) -> Actions {
        Actions(steps.iter().map(|step| self.action(step)).collect())
    }

    fn action(&mut self, step: &Step) -> Action {
        match step {
            Step::CacheAside(spec) => Action::CacheAside {
                shards: self.cache(&spec.cache),
                on_miss: self.actions(&spec.on_miss),
                spec: spec.clone(),
            },
            Step::Query(spec) => Action::Query {
                sql: self.spec.services[&spec.database].statements[&spec.statement].clone(),
                database: self.database(&spec.database),
                spec: spec.clone(),
            },
            Step::Call(spec) => Action::Call {
                service: self.service(&spec.service),
                spec: spec.clone(),
            },
            Step::Parallel(steps) => Action::Parallel(
                steps
                    .iter()
                    .map(|step| self.actions(std::slice::from_ref(step)))
                    .collect(),
            ),
            Step::Work(work) => Action::Work(work.cpu),
        }
    }

    fn callee(&self, service: &str, name: String) -> Callee {
        let port = self.spec.services[service].serving_port();
        Callee {
            resolver: self.resolver.clone(),
            name,
            port,
            connect_timeout: self.pool.connect_timeout,
        }
    }

    fn cache(&mut self, service: &str) -> Vec<Arc<Target<RedisConnector>>> {
        if let Some(shards) = self.caches.get(service) {
            return shards.clone();
        }
        let shard = |index| {
            let name = format!("{service}-{index}");
            let connector = RedisConnector(self.callee(service, name.clone()));
            Arc::new(Target {
                name,
                pool: Pool::new(connector, self.pool),
            })
        };
        let shards: Vec<_> = (0..self.spec.services[service].replicas).map(shard).collect();
        self.caches.insert(service.to_owned(), shards.clone());
        shards
    }

    fn database(&mut self, service: &str) -> Arc<Target<PostgresConnector>> {
        let connector = PostgresConnector(self.callee(service, service.to_owned()));
        let target = || {
            Arc::new(Target {
                name: service.to_owned(),
                pool: Pool::new(connector, self.pool),
            })
        };
        self.databases.entry(service.to_owned()).or_insert_with(target).clone()
    }

    fn service(&mut self, service: &str) -> Arc<Target<HttpConnector>> {
        let connector = HttpConnector(self.callee(service, service.to_owned()));
        let target = || {
            Arc::new(Target {
                name: service.to_owned(),
                pool: Pool::new(connector, self.pool),
            })
        };
        self.services.entry(service.to_owned()).or_insert_with(target).clone()
    }
}

/// The parameters of a request, by name.
pub(crate) type Parameters = Arc<[(String, String)]>;

type BoxedOutcome = Pin<Box<dyn Future<Output = Result<Vec<u8>, CallError>> + Send>>;

impl Actions {
    /// Does one after the other, and joins what they bring. Boxed because steps contain steps.
    pub(crate) fn execute(&self, parameters: Parameters) -> BoxedOutcome {
        let actions = self.clone();
        Box::pin(async move {
            let mut body = Vec::new();
            for action in actions.0.iter() {
                let part = action.execute(&parameters).await?;
                body.extend_from_slice(&part);
            }
            Ok(body)
        })
    }
}

impl Action {
    async fn execute(&self, parameters: &Parameters) -> Result<Vec<u8>, CallError> {
        match self {
            Self::CacheAside { spec, shards, on_miss } => cache_aside(spec, shards, on_miss, parameters).await,
            Self::Query { spec, sql, database } => {
                let args: Vec<String> = spec.args.iter().map(|argument| fill(argument, parameters)).collect();
                query(spec, sql, &args, database)
                    .await
                    .map_err(|failure| failure.of(&database.name))
            }
            Self::Call { spec, service } => {
                let path = fill(&spec.path, parameters);
                let mut tries_left = spec.retries;
                loop {
                    match call(spec, &path, service).await {
                        Err(_) if tries_left > 0 => tries_left -= 1,
                        outcome => return outcome.map_err(|failure| failure.of(&service.name)),
                    }
                }
            }
            Self::Parallel(branches) => parallel(branches, parameters).await,
            Self::Work(cpu) => {
                burn(*cpu);
                Ok(Vec::new())
            }
        }
    }
}

/// The value from the cache, or from the steps; then the cache is filled, and whether that succeeds does not matter.
///
/// Only a cache that said "I do not have it" is filled: one that could not be asked will not take the value either.
async fn cache_aside(
    spec: &CacheAside,
    shards: &[Arc<Target<RedisConnector>>],
    on_miss: &Actions,
    parameters: &Parameters,
) -> Result<Vec<u8>, CallError> {
    let key = fill(&spec.key, parameters);
    let replica_count = u16::try_from(shards.len()).expect("replicas are counted in a u16");
    let shard = &shards[usize::from(shard_of(&key, replica_count))];
    match cache_get(spec, &key, shard).await {
        Ok(Some(value)) => Ok(value),
        Ok(None) => {
            let value = on_miss.execute(parameters.clone()).await?;
            drop(cache_set(spec, &key, &value, shard).await);
            Ok(value)
        }
        Err(_unavailable) => on_miss.execute(parameters.clone()).await,
    }
}

async fn cache_get(spec: &CacheAside, key: &str, shard: &Target<RedisConnector>) -> Result<Option<Vec<u8>>, Failure> {
    let mut lease = shard.lease().await?;
    let mut command = redis::cmd("GET");
    command.arg(key);
    let answer = timeout(spec.timeout, command.query_async(&mut lease.connection().commands)).await;
    lease.settle(within(spec.timeout, answer, redis_failure))
}

async fn cache_set(spec: &CacheAside, key: &str, value: &[u8], shard: &Target<RedisConnector>) -> Result<(), Failure> {
    let mut lease = shard.lease().await?;
    let mut command = redis::cmd("SET");
    command.arg(key).arg(value).arg("PX").arg(spread_ttl(key, spec.ttl));
    let answer = timeout(spec.timeout, command.query_async(&mut lease.connection().commands)).await;
    lease.settle(within(spec.timeout, answer, redis_failure))
}

/// Milliseconds between four and six fifths of `ttl`, by the key.
fn spread_ttl(key: &str, ttl: Duration) -> u64 {
    let per_mille = 800
        + mix(key
            .bytes()
            .fold(7, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte)))
            % 401;
    u64::try_from(ttl.as_millis())
        .unwrap_or(u64::MAX / 2000)
        .saturating_mul(per_mille)
        / 1000
}

async fn query(
    spec: &Query,
    sql: &str,
    args: &[String],
    database: &Target<PostgresConnector>,
) -> Result<Vec<u8>, Failure> {
    let mut lease = database.lease().await?;
    let answer = timeout(spec.timeout, lease.connection().query(sql, args)).await;
    lease.settle(within(spec.timeout, answer, |failure| failure))
}

async fn call(spec: &Call, path: &str, service: &Target<HttpConnector>) -> Result<Vec<u8>, Failure> {
    let mut lease = service.lease().await?;
    let answer = timeout(spec.timeout, lease.connection().get(&service.name, path)).await;
    lease.settle(within(spec.timeout, answer, Failure::Broken).and_then(http_outcome))
}

async fn parallel(branches: &[Actions], parameters: &Parameters) -> Result<Vec<u8>, CallError> {
    let mut running = JoinSet::new();
    for (index, branch) in branches.iter().enumerate() {
        let outcome = branch.execute(parameters.clone());
        running.spawn(async move { outcome.await.map(|part| (index, part)) });
    }
    let mut parts = BTreeMap::new();
    while let Some(joined) = running.join_next().await {
        // The first failure drops the set, and with it what still runs.
        let (index, part) = joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        parts.insert(index, part);
    }
    Ok(parts.into_values().flatten().collect())
}

fn within<T, E>(
    bound: Duration,
    answer: Result<Result<T, E>, tokio::time::error::Elapsed>,
    failure: impl FnOnce(E) -> Failure,
) -> Result<T, Failure> {
    match answer {
        Ok(outcome) => outcome.map_err(failure),
        Err(_elapsed) => Err(Failure::TimedOut(bound)),
    }
}
