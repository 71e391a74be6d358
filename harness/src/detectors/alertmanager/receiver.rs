//! The HTTP end: takes what Alertmanager posts, and says what the alerts blame.
//!
//! A notification counts from the moment at which its body had arrived. What Alertmanager waits for before it notifies
//! (grouping, evaluation) is the alerting's own time and counts.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use gauntlet_probes::entity::InventoryLine;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::board::{Board, ReceivedAt};
use super::config::Config;
use super::webhook::{Notification, WEBHOOK_VERSION};
use crate::clock::{MonotonicNanos, monotonic_ns};
use crate::detectors::process::Said;
use crate::detectors::{DetectorEnd, Received};

/// Longest notification that is read; Alertmanager's are some kilobytes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Notifications of one run; more are refused, and counted as a flood.
const NOTIFICATIONS_MAX: u64 = 20_000;
/// Characters of a bad notification that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// A receiver that is listening. Dropping it closes it.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    said: mpsc::UnboundedReceiver<Said>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    board: Board,
    sender: mpsc::UnboundedSender<Said>,
    notification_count: u64,
    end: DetectorEnd,
}

impl Receiver {
    /// Listens where the mapping says.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start(config: Arc<Config>, inventory: &[InventoryLine]) -> std::io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let (sender, said) = mpsc::unbounded_channel();
        let version = format!("{}, alerts received at http://{address}/", config.name);
        let end = DetectorEnd {
            version,
            ..DetectorEnd::default()
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                board: Board::new(config, inventory),
                sender,
                notification_count: 0,
                end,
            }),
        });
        // Any path: what follows the port in the webhook's URL is a matter of taste.
        let routes = Router::new()
            .route("/", post(receive))
            .route("/{*path}", post(receive))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            // It ends when it is aborted; a listener has no other end.
            let _ended = axum::serve(listener, routes).await;
        });
        Ok(Self {
            address,
            shared,
            said,
            server,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The inventory has changed.
    pub(in crate::detectors) fn tell(&self, lines: &[InventoryLine]) {
        self.shared.lock().board.tell(lines);
    }

    /// What the alerts say next; never [`Said::Ended`].
    pub(in crate::detectors) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Said> {
        match ready!(self.said.poll_recv(context)) {
            Some(said) => Poll::Ready(said),
            // The sender lives as long as `shared`.
            None => Poll::Pending,
        }
    }

    /// Waits for what the alerts say next. Safe to drop and call again.
    pub async fn next(&mut self) -> Said {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Stops listening. Statements until `until_ns` that were not yet taken are returned, later ones counted.
    pub async fn finish(mut self, until_ns: MonotonicNanos) -> (Vec<Received>, DetectorEnd) {
        self.server.abort();
        let mut inner = self.shared.lock();
        let mut end = std::mem::take(&mut inner.end);
        end.unmatched_count = inner.board.unmatched_count();
        drop(inner);
        let mut in_time = Vec::new();
        while let Ok(said) = self.said.try_recv() {
            match said {
                Said::Statement(received) if received.received_ns <= until_ns => in_time.push(received),
                Said::Statement(_) => end.late_count += 1,
                Said::Nonsense(_) | Said::Synced | Said::Ended => {}
            }
        }
        end.outcome = "stopped listening".to_owned();
        if end.nonsense_count > 0 {
            let count = end.nonsense_count;
            end.fail(format!(
                "{count} notifications were none of webhook version {WEBHOOK_VERSION}"
            ));
        }
        if end.flood_count > 0 {
            end.fail(format!("it flooded: more than {NOTIFICATIONS_MAX} notifications"));
        }
        (in_time, end)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // What a panicking handler leaves is a whole board: it is changed alert by alert.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn receive(State(shared): State<Arc<Shared>>, body: Bytes) -> StatusCode {
    let at = ReceivedAt {
        monotonic_ns: monotonic_ns(),
        wall_ns: wall_ns(),
    };
    let mut inner = shared.lock();
    inner.notification_count += 1;
    if inner.notification_count > NOTIFICATIONS_MAX {
        inner.end.flood_count += 1;
        return StatusCode::TOO_MANY_REQUESTS;
    }
    let notification = serde_json::from_slice::<Notification>(&body).ok();
    let said = match notification.filter(|notification| notification.version == WEBHOOK_VERSION) {
        Some(notification) => inner.board.take(&notification, at).map(|diagnosis| {
            let received_ns = at.monotonic_ns;
            Said::Statement(Received { received_ns, diagnosis })
        }),
        None => {
            inner.end.nonsense_count += 1;
            let text = String::from_utf8_lossy(&body).chars().take(SHOWN_CHARS_MAX).collect();
            // Alertmanager does not repeat what is refused with a 4xx.
            let _gone = inner.sender.send(Said::Nonsense(text));
            return StatusCode::BAD_REQUEST;
        }
    };
    if let Some(said) = said {
        let _gone = inner.sender.send(said);
    }
    StatusCode::OK
}

fn wall_ns() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}
