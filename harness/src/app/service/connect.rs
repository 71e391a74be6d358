//! Connections to the three kinds of callees.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::failure::Failure;
use super::pool::Connector;
use super::resolver::Resolver;
use crate::app::http_client::{HttpAnswer, HttpConnection};
use crate::app::postgres;

/// Options of a database session: the server notices within a second that a client is gone, even while it waits for a lock,
/// so that callers who gave up do not use up its connections.
const SESSION_OPTIONS: &str = "-c client_connection_check_interval=1000";

/// What it takes to dial a callee.
#[derive(Clone)]
pub(crate) struct Callee {
    pub(crate) resolver: Arc<Resolver>,
    /// The name dialled: a service, or a replica of one.
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) connect_timeout: Duration,
}

impl Callee {
    /// Resolves the name, then opens a connection within the bound.
    async fn open<T, F, E>(&self, open: impl FnOnce(std::net::SocketAddr) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let address = self
            .resolver
            .resolve(&self.name, self.port)
            .await
            .map_err(Failure::Resolve)?;
        match timeout(self.connect_timeout, open(address)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Failure::Connect(error.into())),
            Err(_elapsed) => Err(Failure::ConnectTimedOut(self.connect_timeout)),
        }
    }
}

/// The task that reads and writes a connection; ends with it.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens connections to one replica of a cache.
pub(crate) struct RedisConnector(pub(crate) Callee);

/// A connection to a cache. Could multiplex; the pool sees to it that it does not.
pub(crate) struct RedisConnection {
    pub(crate) commands: MultiplexedConnection,
    driver: Driver,
}

impl Connector for RedisConnector {
    type Connection = RedisConnection;

    async fn connect(&self) -> Result<RedisConnection, Failure> {
        self.0
            .open(async |address| {
                let stream = TcpStream::connect(address).await.map_err(boxed)?;
                stream.set_nodelay(true).map_err(boxed)?;
                let (info, config) = (RedisConnectionInfo::default(), AsyncConnectionConfig::new());
                let (commands, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
                    .await
                    .map_err(boxed)?;
                Ok::<_, BoxError>(RedisConnection {
                    commands,
                    driver: Driver(tokio::spawn(driver)),
                })
            })
            .await
    }

    fn is_open(connection: &RedisConnection) -> bool {
        !connection.driver.0.is_finished()
    }
}

/// What a redis error says about the connection.
pub(crate) fn redis_failure(error: redis::RedisError) -> Failure {
    if error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error() {
        Failure::Broken(Box::new(error))
    } else {
        Failure::Refused(error.to_string())
    }
}

/// Opens connections to an http service.
pub(crate) struct HttpConnector(pub(crate) Callee);

impl Connector for HttpConnector {
    type Connection = HttpConnection;

    async fn connect(&self) -> Result<HttpConnection, Failure> {
        self.0.open(HttpConnection::connect).await
    }

    fn is_open(connection: &HttpConnection) -> bool {
        connection.is_open()
    }
}

/// What an http answer says.
pub(crate) fn http_outcome(answer: HttpAnswer) -> Result<Vec<u8>, Failure> {
    match answer.status {
        200..=299 => Ok(answer.body.to_vec()),
        status => Err(Failure::Status(status)),
    }
}

/// Opens connections to a database.
pub(crate) struct PostgresConnector(pub(crate) Callee);

/// A connection to a database, with the statements that it has prepared.
pub(crate) struct PostgresConnection {
    client: Client,
    prepared: HashMap<String, Statement>,
    _driver: Driver,
}

impl Connector for PostgresConnector {
    type Connection = PostgresConnection;

    async fn connect(&self) -> Result<PostgresConnection, Failure> {
        self.0
            .open(async |address| {
                let stream = TcpStream::connect(address).await.map_err(boxed)?;
                stream.set_nodelay(true).map_err(boxed)?;
                let mut config = tokio_postgres::Config::new();
                config
                    .user(postgres::USER)
                    .dbname(postgres::DATABASE)
                    .options(SESSION_OPTIONS);
                let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(boxed)?;
                // The connection's error is also that of the statement in flight.
                let driver = tokio::spawn(async move { drop(connection.await) });
                Ok::<_, BoxError>(PostgresConnection {
                    client,
                    prepared: HashMap::new(),
                    _driver: Driver(driver),
                })
            })
            .await
    }

    fn is_open(connection: &PostgresConnection) -> bool {
        !connection.client.is_closed()
    }
}

impl PostgresConnection {
    /// Executes `sql`, prepared once for each connection, and gives its rows as text.
    pub(crate) async fn query(&mut self, sql: &str, args: &[String]) -> Result<Vec<u8>, Failure> {
        if !self.prepared.contains_key(sql) {
            let statement = self.client.prepare(sql).await.map_err(postgres_failure)?;
            self.prepared.insert(sql.to_owned(), statement);
        }
        let statement = &self.prepared[sql];
        let values = args
            .iter()
            .zip(statement.params())
            .map(|(text, wanted)| argument(text, wanted))
            .collect::<Result<Vec<_>, _>>()?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
        let rows = self.client.query(statement, &values).await.map_err(postgres_failure)?;
        let mut text = Vec::new();
        for row in &rows {
            push_row(&mut text, row)?;
        }
        Ok(text)
    }
}

fn postgres_failure(error: tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(answer) => Failure::Refused(answer.to_string()),
        None => Failure::Broken(Box::new(error)),
    }
}

fn argument(text: &str, wanted: &Type) -> Result<Box<dyn ToSql + Sync + Send>, Failure> {
    let not_a = |kind| Failure::Refused(format!("`{text}` is not {kind}"));
    match *wanted {
        Type::INT8 => Ok(Box::new(text.parse::<i64>().map_err(|_| not_a("a bigint"))?)),
        Type::INT4 => Ok(Box::new(text.parse::<i32>().map_err(|_| not_a("an integer"))?)),
        Type::FLOAT8 => Ok(Box::new(text.parse::<f64>().map_err(|_| not_a("a double precision"))?)),
        Type::TEXT | Type::VARCHAR => Ok(Box::new(text.to_owned())),
        _ => Err(Failure::Declaration(format!(
            "a parameter is of type {wanted}: cast it to bigint or text"
        ))),
    }
}

/// Appends a row as `column=value` words and a line feed.
fn push_row(text: &mut Vec<u8>, row: &Row) -> Result<(), Failure> {
    for (index, column) in row.columns().iter().enumerate() {
        let value = match *column.type_() {
            Type::INT8 => row
                .try_get::<_, Option<i64>>(index)
                .map(|value| value.map(|value| value.to_string())),
            Type::INT4 => row
                .try_get::<_, Option<i32>>(index)
                .map(|value| value.map(|value| value.to_string())),
            Type::FLOAT8 => row
                .try_get::<_, Option<f64>>(index)
                .map(|value| value.map(|value| value.to_string())),
            Type::BOOL => row
                .try_get::<_, Option<bool>>(index)
                .map(|value| value.map(|value| value.to_string())),
            Type::TEXT | Type::VARCHAR => row.try_get::<_, Option<String>>(index),
            _ => {
                let (name, sql_type) = (column.name(), column.type_());
                return Err(Failure::Declaration(format!(
                    "column {name} is of type {sql_type}: cast it to text"
                )));
            }
        };
        let value = value.map_err(|error| Failure::Declaration(error.to_string()))?;
        text.extend_from_slice(column.name().as_bytes());
        text.push(b'=');
        text.extend_from_slice(value.as_deref().unwrap_or("null").as_bytes());
        text.push(b' ');
    }
    text.push(b'\n');
    Ok(())
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn boxed(error: impl std::error::Error + Send + Sync + 'static) -> BoxError {
    Box::new(error)
}
