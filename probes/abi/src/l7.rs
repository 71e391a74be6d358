//! Follows one connection's requests and answers: HTTP/1.1, Redis and PostgreSQL heads, TLS by its look.
//!
//! One source for both sides of the kernel boundary: a kernel program runs [`pass_over`], [`at_once`], and
//! [`step_to_server`] or [`step_to_client`] under `bpf_loop`; user space runs [`on_segment`]. A step takes one token (a
//! length line, a message head, a header
//! line); bodies are skipped by their length, never walked. It allocates nothing, trusts no byte, and counts what it
//! could not follow. It does not reorder or deduplicate segments (its caller does, by sequence number), and does not
//! know who talks to whom.
//!
//! The two directions may run on two CPUs at once: each writes only its own counters and its own [`Stream`], and the
//! ring of requests under way has one producer (to the server) and one consumer (to the client).

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::LATENCY_BUCKETS;

mod budget;
pub mod dns;
mod http;
mod postgres;
mod recognise;
mod redis;
mod ring;
mod stream;
mod whole;

pub use budget::Budget;
pub use stream::Stream;
use stream::{MODE_RESYNC, Rest, Token, Way, Window};

/// Steps after which the rest of a segment is given up and counted as unparsed.
pub const STEP_LIMIT: u32 = 1024;
/// Requests under way on one connection whose kind is remembered; beyond it hits and misses are not told apart.
pub const TRACKED_REQUESTS: usize = 128;
/// Requests under way on one connection that are timed; beyond it they are counted as `untimed`.
pub const TIMED_REQUESTS: usize = 32;
/// Requests under way on one connection that are remembered beside the ring's head: most connections have no more.
const NEAR_REQUESTS: usize = 8;

const PROTOCOL_UNKNOWN: u8 = 0;
const PROTOCOL_HTTP1: u8 = 1;
const PROTOCOL_REDIS: u8 = 2;
const PROTOCOL_POSTGRES: u8 = 3;
const PROTOCOL_ENCRYPTED: u8 = 4;

/// The connection left its protocol (HTTP upgrade or CONNECT); what follows is not ours to parse.
const FLAG_TUNNEL: u8 = 1;
/// Redis: the connection subscribed to something, so answers no longer pair with requests.
const FLAG_SUBSCRIBED: u8 = 2;
/// PostgreSQL: encryption was asked for, the answer is one byte without a head.
const FLAG_ENCRYPTION_ASKED: u8 = 4;

/// Kind of a request whose answer needs no care. Kinds are never 0: that is an empty slot.
const KIND_PLAIN: u8 = 1;
/// Redis: a missing value is answered by nil.
const KIND_GET: u8 = 2;
/// Redis: an array with a nil for each missing value.
const KIND_GET_MANY: u8 = 3;
/// Redis: a missing value is answered by an empty aggregate.
const KIND_GET_ALL: u8 = 4;
/// HTTP: the answer has no body whatever its head says.
const KIND_HEAD: u8 = 5;
/// HTTP: a successful answer makes a tunnel of the connection.
const KIND_CONNECT: u8 = 6;
/// PostgreSQL: a cycle that executes nothing (start-up, a preparation, an empty Sync): followed, not counted.
const KIND_CONTROL: u8 = 7;
/// Bits of a kind.
const KIND_MASK: u8 = 7;
/// Its start is in `far_starts_us`.
const KIND_TIMED: u8 = 0x80;

/// A protocol, recognised by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Not (yet) recognised.
    Unknown,
    /// HTTP/1.0 and 1.1.
    Http1,
    /// Redis, RESP2 and RESP3.
    Redis,
    /// PostgreSQL, frontend/backend protocol 3.
    Postgres,
    /// TLS.
    Encrypted,
}

/// Which way a segment goes on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the side that opened the connection.
    ToServer,
    /// From the side that accepted it.
    ToClient,
}

/// Bytes of one segment's payload.
pub trait Payload {
    /// Copies the bytes from `offset` on into all of `into` (1 to `MAX` bytes); false when they cannot be read.
    fn load<const MAX: u32>(&self, offset: u32, into: &mut [u8]) -> bool;

    /// The same for a length known at compile time (a kernel's verifier treats the two differently).
    fn load_array<const N: usize>(&self, offset: u32, into: &mut [u8; N]) -> bool;
}

impl Payload for [u8] {
    fn load<const MAX: u32>(&self, offset: u32, into: &mut [u8]) -> bool {
        let start = offset as usize;
        match self.get(start..start + into.len()) {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    fn load_array<const N: usize>(&self, offset: u32, into: &mut [u8; N]) -> bool {
        self.load::<{ u32::MAX }>(offset, into)
    }
}

/// All that is remembered of one connection. Counters only grow (they wrap); all zeroes is a fresh connection.
///
/// In lines of the CPUs' caches by who writes: the one direction, the other with its histogram, what the one writes and the
/// other reads, and what few segments touch. An ordinary segment touches one line of its own, that of the ring, and, if it
/// is an answer, the histogram's. Thousands of connections do not fit into the caches, and to fetch a line from beyond costs
/// more than all that is computed with it. CPUs fetch lines in pairs, and the next: so what few touch lies between what the
/// two write, without which each took the other's line away with every segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct L7State {
    /// Bytes to the server.
    pub to_server: Stream,
    /// Requests, by the bytes to the server.
    pub requests: u32,
    /// Requests that were passed over, in none of the other counters (see [`pass_over`]).
    pub passed_over: u32,
    /// The producer's own `head`: to read the shared one costs it the line that the consumer has just read.
    pushed: u32,
    /// What `tail` was when the producer last had to know.
    tail_seen: u32,

    /// Kinds of requests behind many others.
    far_kinds: [u8; TRACKED_REQUESTS],

    /// Bytes to the client.
    pub to_client: Stream,
    /// Number of requests popped from the ring.
    tail: u32,
    /// Answers, by the bytes to the client.
    pub responses: u32,
    /// Redis: values that GET-class commands found, counted per key as the server's own statistics do.
    pub hits: u32,
    /// Redis: values that GET-class commands did not find, counted per key.
    pub misses: u32,

    /// Time from a request's first byte to its answer's first byte, by [`latency_bucket`].
    pub latency: [u32; LATENCY_BUCKETS],

    /// Number of requests pushed on the ring (with those that are followed, not counted). The producer only writes it.
    head: u32,
    /// Not 0: the latest segment to the server was passed over.
    passes_over: u32,
    near_starts_us: [u32; NEAR_REQUESTS],
    /// Kind of a request, and above it the bits of its number that its place does not tell.
    near_kinds: [u16; NEAR_REQUESTS],
    /// Requests under way when too many others were, and so not timed.
    pub untimed: u32,
    reserved_ring: u32,

    /// When requests behind many others began.
    far_starts_us: [u32; TIMED_REQUESTS],

    to_server_rest: Rest,
    to_client_rest: Rest,
    /// PostgreSQL: number of the request (the first is 1) whose answer began last and was timed.
    timed: u32,
    /// Answers that say that the server failed: HTTP 5xx, Redis `-` and `!`, PostgreSQL `E`.
    pub errors: u32,
    /// Answers that say that the request was wrong: HTTP 4xx.
    pub client_errors: u32,
    /// Redis: answers that point to another server (`MOVED`, `ASK`); neither errors, hits nor misses.
    pub redirects: u32,
    /// Requests whose answers were lost to us (a gap, unparsable bytes).
    pub abandoned: u32,
    /// Answers to requests that we did not see.
    pub unsolicited: u32,
}

const _: () = assert!(offset_of!(L7State, to_client) == 192);
const _: () = assert!(offset_of!(L7State, latency) == 256);
const _: () = assert!(offset_of!(L7State, head) == 640);
const _: () = assert!(size_of::<L7State>() == 952);

/// Progress within one segment, and the bytes of it that are looked at: the kernel program keeps it on its stack.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    offset: u32,
    end: u32,
    now_us: u32,
    /// What of the segment is at the start of the window; nothing while `loaded_end` is 0.
    loaded_at: u32,
    loaded_end: u32,
    window: Window,
}

impl Cursor {
    /// The start of a segment of `length` payload bytes, seen at `now_ns`.
    #[inline(always)]
    #[must_use]
    pub fn new(length: u32, now_ns: u64) -> Self {
        Self {
            offset: 0,
            end: length,
            now_us: (now_ns / 1000) as u32,
            loaded_at: 0,
            loaded_end: 0,
            window: Window::empty(),
        }
    }

    /// True when the segment has been taken in.
    #[inline(always)]
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.offset >= self.end
    }
}

/// Takes in one segment: `length` bytes of payload, seen at `now_ns`.
pub fn on_segment<P: Payload + ?Sized>(
    state: &mut L7State,
    payload: &P,
    direction: Direction,
    length: u32,
    now_ns: u64,
) {
    let mut cursor = Cursor::new(length, now_ns);
    if !at_once(state, &mut cursor, payload, direction) {
        in_steps(state, cursor, payload, direction);
    }
}

/// Takes in one segment, token by token.
fn in_steps<P: Payload + ?Sized>(state: &mut L7State, mut cursor: Cursor, payload: &P, direction: Direction) {
    for _ in 0..STEP_LIMIT {
        if cursor.is_done() {
            break;
        }
        match direction {
            Direction::ToServer => step_to_server(state, &mut cursor, payload),
            Direction::ToClient => step_to_client(state, &mut cursor, payload),
        }
    }
    finish(state, &cursor, direction);
}

/// Passes a segment over for which there is no time; false, and it must be taken in, if there is. It was seen at `now_ns`,
/// which may be some milliseconds behind. `acknowledged` is up to where its sender has the other direction's bytes: that
/// of `sequence_end`. `may_look` says, by the time in microseconds, whether there is time for one more request.
#[inline(always)]
pub fn pass_over(
    state: &mut L7State,
    direction: Direction,
    now_ns: u64,
    acknowledged: u32,
    may_look: impl FnOnce(u32) -> bool,
) -> bool {
    match direction {
        Direction::ToServer => whole::pass_over_request(state, (now_ns / 1000) as u32, acknowledged, may_look),
        Direction::ToClient => whole::pass_over_answer(state),
    }
}

/// Takes in a whole segment if that needs no steps; false, and nothing is changed, if it does.
#[inline(always)]
pub fn at_once<P: Payload + ?Sized>(
    state: &mut L7State,
    cursor: &mut Cursor,
    payload: &P,
    direction: Direction,
) -> bool {
    match direction {
        Direction::ToServer => whole::command(state, cursor, payload),
        Direction::ToClient => whole::reply(state, cursor, payload),
    }
}

/// Closes a segment: what the step limit left over is given up.
#[inline(always)]
pub fn finish(state: &mut L7State, cursor: &Cursor, direction: Direction) {
    if cursor.is_done() {
        return;
    }
    // Only Redis can have hidden a whole answer in what is given up; elsewhere the request under way stays so.
    if direction == Direction::ToClient && state.to_client.protocol == PROTOCOL_REDIS {
        state.abandon();
    }
    state.way(direction).lose();
}

/// Says that `missing_bytes` of one direction were never seen, before the next segment of it.
#[inline(always)]
pub fn on_gap(state: &mut L7State, direction: Direction, missing_bytes: u64) {
    let mut way = state.way(direction);
    if missing_bytes <= way.stream.skip {
        way.stream.skip -= missing_bytes;
        return;
    }
    way.lose();
    if direction == Direction::ToClient {
        state.abandon();
    }
}

/// Says, before the first segment to the client of a connection that was under way when the probes came, that answers may
/// have passed unseen: of the requests under way only the newest is still believed to be.
#[inline(always)]
pub fn on_late_start(state: &mut L7State) {
    let under_way = state.head.wrapping_sub(state.tail);
    if under_way > 1 {
        state.abandoned = state.abandoned.wrapping_add(under_way - 1);
        state.tail = state.tail.wrapping_add(under_way - 1);
    }
}

/// Takes one token on its way to the server.
#[inline(always)]
pub fn step_to_server<P: Payload + ?Sized>(state: &mut L7State, cursor: &mut Cursor, payload: &P) {
    if state.to_server.is_opaque() {
        state.refuse(Direction::ToServer, cursor);
        return;
    }
    let Some(available) = state.way(Direction::ToServer).fill(cursor, payload) else {
        return;
    };
    let at_us = state.way(Direction::ToServer).token_start_us(cursor);
    let mut token = Token::Consumed(0);
    if state.to_server.protocol == PROTOCOL_UNKNOWN || state.to_server.mode == MODE_RESYNC {
        token = recognise::recognise(state, cursor, payload, available);
    }
    if let Token::Consumed(_) = token {
        let window = &cursor.window;
        token = match state.to_server.protocol {
            PROTOCOL_HTTP1 => http::request(state, window, available, at_us),
            PROTOCOL_REDIS => redis::request(state, window, available, at_us),
            PROTOCOL_POSTGRES => postgres::request(state, window, available, at_us),
            _ => {
                state.refuse(Direction::ToServer, cursor);
                return;
            }
        };
    }
    state.way(Direction::ToServer).settle(cursor, available, token);
}

/// Takes one token on its way to the client.
#[inline(always)]
pub fn step_to_client<P: Payload + ?Sized>(state: &mut L7State, cursor: &mut Cursor, payload: &P) {
    if state.to_client.is_opaque() || state.to_client.protocol == PROTOCOL_UNKNOWN {
        state.refuse(Direction::ToClient, cursor);
        return;
    }
    if state.to_client.mode == MODE_RESYNC && !state.has_outstanding() {
        // The rest of an answer that was given up.
        state.way(Direction::ToClient).refuse(cursor, false);
        return;
    }
    let Some(available) = state.way(Direction::ToClient).fill(cursor, payload) else {
        return;
    };
    let at_us = state.way(Direction::ToClient).token_start_us(cursor);
    let window = &cursor.window;
    let token = match state.to_client.protocol {
        PROTOCOL_HTTP1 => http::response(state, window, available, at_us),
        PROTOCOL_REDIS => redis::reply(state, window, available, at_us),
        _ => {
            if state.to_client.mode == MODE_RESYNC && postgres::ends_a_cycle(cursor, payload) {
                postgres::resume(state, at_us);
                cursor.offset = cursor.end;
                return;
            }
            postgres::answer(state, window, available, at_us)
        }
    };
    if matches!(token, Token::Failed) && state.to_client.mode != MODE_RESYNC {
        state.abandon();
    }
    state.way(Direction::ToClient).settle(cursor, available, token);
}

impl L7State {
    /// The protocol recognised so far.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.to_server.protocol {
            PROTOCOL_HTTP1 => Protocol::Http1,
            PROTOCOL_REDIS => Protocol::Redis,
            PROTOCOL_POSTGRES => Protocol::Postgres,
            PROTOCOL_ENCRYPTED => Protocol::Encrypted,
            _ => Protocol::Unknown,
        }
    }

    /// Requests now under way.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.head.wrapping_sub(self.tail) + u32::from(self.is_passed_over_under_way())
    }

    /// One of those that were passed over has no answer yet.
    #[must_use]
    pub fn is_passed_over_under_way(&self) -> bool {
        // Nothing has come since its sender had the answers before it.
        self.passes_over != 0 && self.to_client.sequence_end == self.to_server.value as u32
    }

    /// Age of the oldest request under way, nanoseconds; `None` if there is none. Exact if that request was timed,
    /// else at least so much.
    #[must_use]
    pub fn outstanding_age_ns(&self, now_ns: u64) -> Option<u64> {
        if self.outstanding() == 0 {
            return None;
        }
        if self.head == self.tail {
            return Some(u64::from(age_us((now_ns / 1000) as u32, self.to_server.started_us)) * 1000);
        }
        let oldest = self.remembered(self.tail);
        let since_us = match oldest.started_us {
            Some(started_us) if self.timed != self.tail.wrapping_add(1) => started_us,
            _ => self.to_client.started_us,
        };
        Some(u64::from(age_us((now_ns / 1000) as u32, since_us)) * 1000)
    }

    /// Segments that could not be parsed, both directions.
    #[must_use]
    pub fn unparsed(&self) -> u32 {
        self.to_server_rest.unparsed.wrapping_add(self.to_client_rest.unparsed)
    }

    /// Segments that were encrypted, both directions.
    #[must_use]
    pub fn encrypted(&self) -> u32 {
        self.to_server_rest
            .encrypted
            .wrapping_add(self.to_client_rest.encrypted)
    }

    #[inline(always)]
    fn way(&mut self, direction: Direction) -> Way<'_> {
        match direction {
            Direction::ToServer => Way {
                stream: &mut self.to_server,
                rest: &mut self.to_server_rest,
            },
            Direction::ToClient => Way {
                stream: &mut self.to_client,
                rest: &mut self.to_client_rest,
            },
        }
    }

    /// Counts a segment that is not ours to parse.
    #[inline(always)]
    fn refuse(&mut self, direction: Direction, cursor: &mut Cursor) {
        let mut way = self.way(direction);
        let is_encrypted = way.stream.protocol == PROTOCOL_ENCRYPTED;
        way.refuse(cursor, is_encrypted);
    }

    #[inline(always)]
    fn set_protocol(&mut self, protocol: u8) {
        self.to_server.protocol = protocol;
        self.to_client.protocol = protocol;
    }

    #[inline(always)]
    fn set_flag(&mut self, flag: u8) {
        let flags = self.to_server.connection | flag;
        self.to_server.connection = flags;
        self.to_client.connection = flags;
    }

    #[inline(always)]
    fn clear_flag(&mut self, flag: u8) {
        let flags = self.to_server.connection & !flag;
        self.to_server.connection = flags;
        self.to_client.connection = flags;
    }

    #[inline(always)]
    fn has_outstanding(&self) -> bool {
        self.head != self.tail
    }
}

/// From `since_us` to `now_us`, which wrap. Two directions, and a reader, are not one instant, and a departure may be stamped
/// ahead: what began just after `now_us` has lasted no time, not 71 minutes.
#[inline(always)]
pub(crate) fn age_us(now_us: u32, since_us: u32) -> u32 {
    let age_us = now_us.wrapping_sub(since_us);
    if age_us > u32::MAX / 2 { 0 } else { age_us }
}

#[cfg(test)]
mod tests;
