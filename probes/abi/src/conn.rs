//! The kernel's table of TCP connections: one value per socket, counters that only grow.
//!
//! Does not say to whom a connection belongs; user space attributes it by network namespace and address.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::l7::{L7State, Stream, age_us};

/// An IPv6 address, or an IPv4 address mapped into one, as the bytes on the wire.
pub type Address = [u8; 16];

/// Capacity of the table of connections.
pub const CONNECTIONS_MAX: u32 = 8192;

/// This socket opened the connection (picked up in the middle: its port is the higher one).
pub const ROLE_CLIENT: u8 = 1;
/// This socket was accepted from a listener.
pub const ROLE_SERVER: u8 = 2;

/// The entry is being filled; readers skip it.
pub const STATE_NEW: u8 = 0;
/// The handshake is under way.
pub const STATE_OPENING: u8 = 1;
/// The connection is open.
pub const STATE_OPEN: u8 = 2;
/// The connection is closed; nothing is added any more save late packets.
pub const STATE_CLOSED: u8 = 3;

/// The socket existed before the probes: its opening was not seen.
pub const CONN_PICKED_UP: u32 = 1;
/// Where the bytes sent have come to is known.
pub const CONN_SENT_KNOWN: u32 = 1 << 1;
/// Where the bytes received have come to is known.
pub const CONN_RECEIVED_KNOWN: u32 = 1 << 2;

/// Results of retransmissions that have a counter of their own; anything else is counted after them.
pub const RETRANSMIT_ERRORS: [i32; 4] = [0, -1, -16, 1];
/// Counters of retransmissions per phase.
pub const RETRANSMIT_COUNTERS: usize = RETRANSMIT_ERRORS.len() + 1;

/// Bytes of a line of the CPUs' caches.
const CACHE_LINE: usize = 64;

/// What is known of one TCP socket.
///
/// In the order of what is touched together: what every packet reads, then what is written when it opens, fails and
/// closes, then the two directions (see [`L7State`]). A hash table keeps 48 bytes and the key before a value, so lines of
/// the CPUs' caches begin behind the first eight bytes; a kernel that keeps another number costs time, no more.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Conn {
    // Read with each packet, beside the key that is read, too.
    /// `CONN_…` bits.
    pub flags: u32,
    /// Port of this end; 0 while the kernel has not chosen one.
    pub local_port: u16,
    /// `ROLE_…`.
    pub role: u8,
    /// `STATE_…`.
    pub state: u8,

    // Written when it opens and closes.
    /// When it was first seen.
    pub created_ns: u64,
    /// When it opened; 0 if it has not.
    pub opened_ns: u64,
    /// When it closed; 0 if it has not.
    pub closed_ns: u64,
    /// The kernel's cookie of its network namespace; 0 where the kernel has none.
    pub netns_cookie: u64,
    /// Inode of its network namespace.
    pub netns: u32,
    /// Port of the other end.
    pub remote_port: u16,
    /// Zero.
    pub reserved: u16,
    /// Address of this end.
    pub local: Address,
    /// Positive errno with which it ended, 0 if with none.
    pub close_error: i32,
    /// The last positive errno that was reported while it lived on.
    pub soft_error: i32,

    // Written when it fails.
    /// Address of the other end, as this end knows it.
    pub remote: Address,
    /// Retransmissions during the handshake, by [`RETRANSMIT_ERRORS`], then others.
    pub handshake_retransmits: [u32; RETRANSMIT_COUNTERS],
    /// Retransmissions on the open connection, by [`RETRANSMIT_ERRORS`], then others.
    pub data_retransmits: [u32; RETRANSMIT_COUNTERS],
    /// The last result that has no counter of its own.
    pub other_retransmit_error: i32,
    /// How many errors were reported while it lived on.
    pub soft_error_count: u32,

    /// Bytes, requests and answers.
    pub l7: L7State,
    /// The cgroup (v2) of the process that made it, or of its listener's; 0 where the kernel does not tell.
    pub cgroup_id: u64,
}

impl Conn {
    /// Payload bytes sent, retransmissions excluded.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.sent().bytes
    }

    /// Payload bytes received, retransmissions excluded.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.received().bytes
    }

    /// Smoothed round-trip time at the last data segment sent, microseconds; 0 if unknown.
    #[must_use]
    pub fn srtt_us(&self) -> u32 {
        self.sent().moved_us
    }

    /// When payload was received last, by the clock that says `now_ns`. Wrong by multiples of 71 minutes if that was
    /// longer ago.
    #[must_use]
    pub fn received_ns(&self, now_ns: u64) -> u64 {
        let age_us = age_us((now_ns / 1000) as u32, self.received().moved_us);
        now_ns.saturating_sub(u64::from(age_us) * 1000)
    }

    /// The direction in which it sends.
    #[must_use]
    pub fn sent(&self) -> &Stream {
        match self.role {
            ROLE_CLIENT => &self.l7.to_server,
            _ => &self.l7.to_client,
        }
    }

    /// The direction in which it receives.
    #[must_use]
    pub fn received(&self) -> &Stream {
        match self.role {
            ROLE_CLIENT => &self.l7.to_client,
            _ => &self.l7.to_server,
        }
    }
}

const _: () = assert!(align_of::<Conn>() == 8);
// Where each line begins; the next entry of the table begins with one, too.
const _: () = assert!(offset_of!(Conn, created_ns) == 8);
const _: () = assert!(offset_of!(Conn, l7) == 8 + 2 * CACHE_LINE);
const _: () = assert!(size_of::<Conn>() % CACHE_LINE == 8);
