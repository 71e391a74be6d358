//! Connection pools as production services have them: bounded, aged, one request in flight on each connection.
//!
//! A lease that is not finished, because its request failed, timed out or was cancelled, closes its connection: an answer that
//! comes late must never be taken for that of the next request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Manager, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult};
use tokio::task::JoinHandle;

use super::failure::Failure;
use crate::app::spec::PoolSpec;
use crate::app::spread::jittered;

/// How often idle connections that are too old are looked for.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// Opens connections to one callee.
pub(crate) trait Connector: Send + Sync + 'static {
    /// A connection.
    type Connection: Send + 'static;

    /// Opens one.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Failure>> + Send;

    /// Whether the other side has not closed it.
    fn is_open(connection: &Self::Connection) -> bool;
}

/// Connections to one callee.
pub(crate) struct Pool<C: Connector> {
    connections: managed::Pool<AgingManager<C>>,
    wait_timeout: Duration,
    reaper: JoinHandle<()>,
}

impl<C: Connector> Pool<C> {
    /// An empty pool. Must be called on a tokio runtime.
    pub(crate) fn new(connector: C, spec: PoolSpec) -> Self {
        let manager = AgingManager {
            connector,
            mean_age: spec.max_age,
            opened_count: AtomicU64::new(0),
        };
        let connections = managed::Pool::builder(manager)
            .max_size(usize::from(spec.size))
            .queue_mode(QueueMode::Fifo)
            .wait_timeout(Some(spec.connect_timeout))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("a runtime is given, which is all that building can lack");
        let reaped = connections.clone();
        let reaper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(REAP_INTERVAL).await;
                reaped.retain(|aged, _| aged.is_fresh() && C::is_open(&aged.connection));
            }
        });
        Self {
            connections,
            wait_timeout: spec.connect_timeout,
            reaper,
        }
    }

    /// A connection for one request: an idle one, or a new one.
    pub(crate) async fn lease(&self) -> Result<Lease<C>, Failure> {
        match self.connections.get().await {
            Ok(object) => Ok(Lease { object: Some(object) }),
            Err(PoolError::Backend(failure)) => Err(failure),
            Err(PoolError::Timeout(_) | PoolError::Closed | PoolError::NoRuntimeSpecified) => {
                Err(Failure::PoolExhausted(self.wait_timeout))
            }
            Err(PoolError::PostCreateHook(_)) => unreachable!("no hook is set"),
        }
    }
}

impl<C: Connector> Drop for Pool<C> {
    fn drop(&mut self) {
        self.reaper.abort();
    }
}

/// A connection for one request. Closed unless [`Lease::finish`] says that the whole answer was read.
pub(crate) struct Lease<C: Connector> {
    object: Option<Object<AgingManager<C>>>,
}

impl<C: Connector> Lease<C> {
    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut C::Connection {
        &mut self.object.as_mut().expect("taken only by finish and drop").connection
    }

    /// Gives the connection back for others.
    pub(crate) fn finish(mut self) {
        drop(self.object.take());
    }

    /// Gives the connection back or closes it, whatever the result allows, and hands the result on.
    pub(crate) fn settle<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.as_ref().err().is_none_or(Failure::leaves_connection_usable) {
            self.finish();
        }
        result
    }
}

impl<C: Connector> Drop for Lease<C> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

/// Makes connections, and refuses to hand out old or closed ones again.
struct AgingManager<C> {
    connector: C,
    mean_age: Duration,
    opened_count: AtomicU64,
}

/// A connection with the time at which it is replaced.
struct Aged<T> {
    connection: T,
    fresh_until: Instant,
}

impl<T> Aged<T> {
    fn is_fresh(&self) -> bool {
        Instant::now() < self.fresh_until
    }
}

impl<C: Connector> Manager for AgingManager<C> {
    type Type = Aged<C::Connection>;
    type Error = Failure;

    async fn create(&self) -> Result<Self::Type, Failure> {
        let connection = self.connector.connect().await?;
        let age = jittered(self.mean_age, self.opened_count.fetch_add(1, Ordering::Relaxed));
        Ok(Aged {
            connection,
            fresh_until: Instant::now() + age,
        })
    }

    async fn recycle(&self, aged: &mut Self::Type, _: &Metrics) -> RecycleResult<Failure> {
        if aged.is_fresh() && C::is_open(&aged.connection) {
            Ok(())
        } else {
            Err(RecycleError::Message("too old, or closed by the other side".into()))
        }
    }
}
