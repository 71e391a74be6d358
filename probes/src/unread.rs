//! Whether a connection holds data, or is a caller, that its process does not take, and since when.
//!
//! Whoever answers has read: only connections that were given something and gave nothing back are asked about, so that a
//! busy or an idle one costs nothing. Knows one connection.

use gauntlet_abi::conn::{Conn, ROLE_SERVER, STATE_OPEN};

use crate::frame::{MonotonicNanos, SideSample};
use crate::queues::{Queues, Waiting};

/// What is known of a connection's process.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// Received bytes that it has taken, at least.
    taken_bytes: u64,
    /// It has the socket; the kernel completes connections before that.
    is_accepted: bool,
    /// Since when what waits has waited without any read; `None`: nothing waits.
    since_ns: Option<MonotonicNanos>,
}

impl Unread {
    /// Takes in what happened between `last` and `conn`.
    pub(crate) fn tick(
        &mut self,
        now_ns: MonotonicNanos,
        cookie: u64,
        last: &Conn,
        conn: &Conn,
        queues: &mut dyn Queues,
    ) {
        if conn.state != STATE_OPEN {
            self.since_ns = None;
            return;
        }
        // Clients' sockets are their processes' from the start.
        self.is_accepted |= conn.role != ROLE_SERVER;
        let waited = self.since_ns.is_some() || !self.is_accepted;
        let has_answered = conn.bytes_sent() != last.bytes_sent();
        if !waited && (has_answered || conn.bytes_received() == self.taken_bytes) {
            return;
        }
        match queues.look_up(cookie, conn) {
            Some(waiting) => self.learn(now_ns, conn, waiting),
            // Not known to wait.
            None => *self = Self::taken(conn),
        }
    }

    fn learn(&mut self, now_ns: MonotonicNanos, conn: &Conn, waiting: Waiting) {
        if waiting.is_accepted && waiting.bytes == 0 {
            *self = Self::taken(conn);
            return;
        }
        self.is_accepted |= waiting.is_accepted;
        if waiting.bytes == 0 {
            self.since_ns = None;
            return;
        }
        // At most so many: more may have come since the table was read.
        let taken_bytes = conn.bytes_received().saturating_sub(waiting.bytes.into());
        self.since_ns = match self.since_ns {
            Some(since_ns) if taken_bytes <= self.taken_bytes => Some(since_ns),
            Some(_) => Some(now_ns),
            None => Some(conn.received_ns(now_ns)),
        };
        self.taken_bytes = self.taken_bytes.max(taken_bytes);
    }

    /// All that has come is taken.
    fn taken(conn: &Conn) -> Self {
        Self {
            taken_bytes: conn.bytes_received(),
            is_accepted: true,
            since_ns: None,
        }
    }

    /// Adds what waits to a sample.
    pub(crate) fn add(&self, sample: &mut SideSample, conn: &Conn, now_ns: MonotonicNanos) {
        sample.accept_backlog += u32::from(conn.state == STATE_OPEN && !self.is_accepted);
        if let Some(since_ns) = self.since_ns {
            sample.unread_connections += 1;
            sample.unread_age_ns_max = sample.unread_age_ns_max.max(now_ns.saturating_sub(since_ns));
        }
    }
}
