//! One http/1.1 connection with keep-alive, for calls between services and for the load.
//!
//! Does not pool, resolve or retry.

use std::net::SocketAddr;

use axum::body::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Bound of an answer.
const BODY_BYTES_MAX: usize = 8 << 20;

/// An error of a connection.
pub type HttpError = Box<dyn std::error::Error + Send + Sync>;

/// An open connection.
#[derive(Debug)]
pub struct HttpConnection {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

impl HttpConnection {
    /// Connects, without a bound on time.
    ///
    /// # Errors
    /// When the other side refuses or cannot be reached.
    pub async fn connect(address: SocketAddr) -> Result<Self, HttpError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // The driver's error is also that of the request in flight, and nobody cares about it without one.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }

    /// Whether the other side has not closed it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Asks for `path` and reads the whole answer, without a bound on time. After an error, or when cancelled, the connection
    /// must not be used again.
    ///
    /// # Errors
    /// When the connection breaks or the answer makes no sense.
    pub async fn get(&mut self, host: &str, path: &str) -> Result<HttpAnswer, HttpError> {
        self.sender.ready().await?;
        let request = Request::get(path).header(header::HOST, host).body(Empty::new())?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), BODY_BYTES_MAX)
            .collect()
            .await?
            .to_bytes();
        Ok(HttpAnswer { status, body })
    }
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
