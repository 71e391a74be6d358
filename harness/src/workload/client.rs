//! Users' connections: kept alive, aged, used in turn, so that requests spread over the pods behind one address.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::sample::ErrorKind;
use crate::app::http_client::HttpConnection;
use crate::app::spread::jittered;

/// Sends requests to one address.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    host: String,
    connection_count: usize,
    mean_age: Duration,
    idle: Mutex<VecDeque<Aged>>,
    open_count: AtomicUsize,
    opened_count: AtomicU64,
}

#[derive(Debug)]
struct Aged {
    connection: HttpConnection,
    fresh_until: Instant,
}

impl Aged {
    fn is_usable(&self) -> bool {
        Instant::now() < self.fresh_until && self.connection.is_open()
    }
}

impl Client {
    pub(super) fn new(address: SocketAddr, host: String, connection_count: u16, mean_age: Duration) -> Self {
        Self {
            address,
            host,
            connection_count: usize::from(connection_count),
            mean_age,
            idle: Mutex::default(),
            open_count: AtomicUsize::new(0),
            opened_count: AtomicU64::new(0),
        }
    }

    /// One request, without a second try.
    pub(super) async fn get(&self, path: &str, patience: Duration) -> Result<(), ErrorKind> {
        match tokio::time::timeout(patience, self.get_patiently(path)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(ErrorKind::Timeout),
        }
    }

    async fn get_patiently(&self, path: &str) -> Result<(), ErrorKind> {
        // Counts the connection as open until it is idle again or gone, also when the user gives up.
        let busy = Open::count(&self.open_count);
        let mut aged = match self.idle_one() {
            Some(aged) => aged,
            None => self.open().await?,
        };
        let answer = aged
            .connection
            .get(&self.host, path)
            .await
            .map_err(|_| ErrorKind::Broken)?;
        busy.keep();
        self.idle.lock().expect("no panic while held").push_back(aged);
        ErrorKind::of_status(answer.status).map_or(Ok(()), Err)
    }

    /// The connection that was idle longest, once there are as many as there should be.
    fn idle_one(&self) -> Option<Aged> {
        let mut idle = self.idle.lock().expect("no panic while held");
        let before = idle.len();
        idle.retain(Aged::is_usable);
        self.open_count.fetch_sub(before - idle.len(), Ordering::Relaxed);
        if self.open_count.load(Ordering::Relaxed) <= self.connection_count {
            return None;
        }
        let aged = idle.pop_front()?;
        // It was counted while idle, and the request has counted it again.
        self.open_count.fetch_sub(1, Ordering::Relaxed);
        Some(aged)
    }

    async fn open(&self) -> Result<Aged, ErrorKind> {
        let connection = HttpConnection::connect(self.address)
            .await
            .map_err(|_| ErrorKind::Connect)?;
        let age = jittered(self.mean_age, self.opened_count.fetch_add(1, Ordering::Relaxed));
        Ok(Aged {
            connection,
            fresh_until: Instant::now() + age,
        })
    }
}

/// One open connection in a count.
struct Open<'a>(Option<&'a AtomicUsize>);

impl<'a> Open<'a> {
    fn count(open_count: &'a AtomicUsize) -> Self {
        open_count.fetch_add(1, Ordering::Relaxed);
        Self(Some(open_count))
    }

    /// The connection stays open.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(open_count) = self.0 {
            open_count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
