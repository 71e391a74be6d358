//! Follows one connection's requests and answers: HTTP/1.1, Redis and PostgreSQL heads, TLS by its look.
//!
//! One source for both sides of the kernel boundary: a kernel program runs [`step_to_server`] or [`step_to_client`]
//! under `bpf_loop`, user space runs [`on_segment`]. A step takes one token (a length line, a message head, a header
//! line); bodies are skipped by their length, never walked. It allocates nothing, trusts no byte, and counts what it
//! could not follow. It does not reorder or deduplicate segments (its caller does, by sequence number), and does not
//! know who talks to whom.
//!
//! The two directions may run on two CPUs at once: each writes only its own counters and its own [`Stream`], and the
//! ring of requests under way has one producer (to the server) and one consumer (to the client).

use core::hint::black_box;
use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::{LATENCY_BUCKETS, latency_bucket};

pub mod dns;
mod http;
mod postgres;
mod recognise;
mod redis;
mod stream;

pub use stream::Stream;
use stream::{MODE_RESYNC, Token};

/// Steps after which the rest of a segment is given up and counted as unparsed.
pub const STEP_LIMIT: u32 = 1024;
/// Requests under way on one connection whose kind is remembered; beyond it hits and misses are not told apart.
pub const TRACKED_REQUESTS: usize = 128;
/// Requests under way on one connection that are timed; beyond it they are counted as `untimed`.
pub const TIMED_REQUESTS: usize = 16;

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
/// Its start is in `starts_us`.
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
/// In the order of who writes, each by itself in its lines of the CPUs' caches: the one direction, the other, what the one
/// writes and the other reads, what is seldom written. A line that one CPU reads while another writes it costs either of
/// them more than all that is computed with it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct L7State {
    /// Requests, by the bytes to the server.
    pub requests: u32,
    /// Requests under way when too many others were, and so not timed.
    pub untimed: u32,
    /// The producer's own `head`: to read the shared one costs it the line that the consumer has just read.
    pushed: u32,
    /// What `tail` was when the producer last had to know.
    tail_seen: u32,
    reserved: [u32; 2],
    /// Bytes to the server.
    pub to_server: Stream,

    /// Number of requests popped from the ring.
    tail: u32,
    /// Number of the request (the first is 1) whose answer began last and was timed.
    timed: u32,
    /// When the latest answer began, microseconds of the caller's clock, wrapping.
    last_answer_us: u32,
    /// Answers, by the bytes to the client.
    pub responses: u32,
    /// Redis: values that GET-class commands found, counted per key as the server's own statistics do.
    pub hits: u32,
    /// Redis: values that GET-class commands did not find, counted per key.
    pub misses: u32,
    /// Bytes to the client.
    pub to_client: Stream,

    /// Number of requests pushed on the ring (with those that are followed, not counted). The producer only writes it.
    head: u32,
    reserved_ring: u32,
    starts_us: [u32; TIMED_REQUESTS],
    kinds: [u8; TRACKED_REQUESTS],
    reserved_ring_end: [u64; 7],

    protocol: u8,
    flags: u8,
    reserved_seldom: [u8; 2],
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
    reserved_seldom_end: [u32; 10],
    /// Time from a request's first byte to its answer's first byte, by [`latency_bucket`].
    pub latency: [u32; LATENCY_BUCKETS],
}

const _: () = assert!(size_of::<L7State>() == 960);
const _: () = assert!(offset_of!(L7State, tail) == 128);
const _: () = assert!(offset_of!(L7State, head) == 256);
const _: () = assert!(offset_of!(L7State, protocol) == 512);
const _: () = assert!(offset_of!(L7State, latency) == 576);

/// Progress within one segment. The fields are public to the kernel program that keeps it on its stack.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    offset: u32,
    end: u32,
    now_us: u32,
    /// What of the segment is at the start of the window; nothing while `loaded_end` is 0.
    loaded_at: u32,
    loaded_end: u32,
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

/// Closes a segment: what the step limit left over is given up.
#[inline(always)]
pub fn finish(state: &mut L7State, cursor: &Cursor, direction: Direction) {
    if cursor.is_done() {
        return;
    }
    // Only Redis can have hidden a whole answer in what is given up; elsewhere the request under way stays so.
    if direction == Direction::ToClient && state.protocol == PROTOCOL_REDIS {
        state.abandon();
    }
    state.stream(direction).lose();
}

/// Says that `missing_bytes` of one direction were never seen, before the next segment of it.
#[inline(always)]
pub fn on_gap(state: &mut L7State, direction: Direction, missing_bytes: u64) {
    let stream = state.stream(direction);
    if missing_bytes <= stream.skip {
        stream.skip -= missing_bytes;
        return;
    }
    stream.lose();
    if direction == Direction::ToClient {
        state.abandon();
    }
}

/// Takes one token on its way to the server.
#[inline(always)]
pub fn step_to_server<P: Payload + ?Sized>(state: &mut L7State, cursor: &mut Cursor, payload: &P) {
    if state.is_opaque() {
        state.to_server.refuse(cursor, state.protocol == PROTOCOL_ENCRYPTED);
        return;
    }
    let Some(available) = state.to_server.fill(cursor, payload) else {
        return;
    };
    let at_us = state.to_server.token_start_us(cursor);
    let mut token = Token::Consumed(0);
    if state.protocol == PROTOCOL_UNKNOWN || state.to_server.mode == MODE_RESYNC {
        token = recognise::recognise(state, cursor, payload, available);
    }
    if let Token::Consumed(_) = token {
        token = match state.protocol {
            PROTOCOL_HTTP1 => http::request(state, available, at_us),
            PROTOCOL_REDIS => redis::request(state, available, at_us),
            PROTOCOL_POSTGRES => postgres::request(state, available, at_us),
            _ => {
                state.to_server.refuse(cursor, state.protocol == PROTOCOL_ENCRYPTED);
                return;
            }
        };
    }
    state.to_server.settle(cursor, available, token);
}

/// Takes one token on its way to the client.
#[inline(always)]
pub fn step_to_client<P: Payload + ?Sized>(state: &mut L7State, cursor: &mut Cursor, payload: &P) {
    if state.is_opaque() || state.protocol == PROTOCOL_UNKNOWN {
        state.to_client.refuse(cursor, state.protocol == PROTOCOL_ENCRYPTED);
        return;
    }
    if state.to_client.mode == MODE_RESYNC && !state.has_outstanding() {
        // The rest of an answer that was given up.
        state.to_client.refuse(cursor, false);
        return;
    }
    let Some(available) = state.to_client.fill(cursor, payload) else {
        return;
    };
    let at_us = state.to_client.token_start_us(cursor);
    let token = match state.protocol {
        PROTOCOL_HTTP1 => http::response(state, available, at_us),
        PROTOCOL_REDIS => redis::reply(state, available, at_us),
        _ => {
            if state.to_client.mode == MODE_RESYNC && postgres::ends_a_cycle(cursor, payload) {
                postgres::resume(state, at_us);
                cursor.offset = cursor.end;
                return;
            }
            postgres::answer(state, available, at_us)
        }
    };
    if matches!(token, Token::Failed) && state.to_client.mode != MODE_RESYNC {
        state.abandon();
    }
    state.to_client.settle(cursor, available, token);
}

impl L7State {
    /// The protocol recognised so far.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.protocol {
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
        self.head.wrapping_sub(self.tail)
    }

    /// Age of the oldest request under way, nanoseconds; `None` if there is none. Exact if that request was timed,
    /// else at least so much.
    #[must_use]
    pub fn outstanding_age_ns(&self, now_ns: u64) -> Option<u64> {
        if self.outstanding() == 0 {
            return None;
        }
        let is_timed = self.kinds[self.tail as usize % TRACKED_REQUESTS] & KIND_TIMED != 0;
        let since_us = if is_timed && self.timed != self.tail.wrapping_add(1) {
            self.starts_us[self.tail as usize % TIMED_REQUESTS]
        } else {
            self.last_answer_us
        };
        let age_us = ((now_ns / 1000) as u32).wrapping_sub(since_us);
        // The two directions and the reader are not one instant: a start just after `now_ns` is no age of 71 minutes.
        Some(if age_us > u32::MAX / 2 {
            0
        } else {
            u64::from(age_us) * 1000
        })
    }

    /// Segments that could not be parsed, both directions.
    #[must_use]
    pub fn unparsed(&self) -> u32 {
        self.to_server.unparsed.wrapping_add(self.to_client.unparsed)
    }

    /// Segments that were encrypted, both directions.
    #[must_use]
    pub fn encrypted(&self) -> u32 {
        self.to_server.encrypted.wrapping_add(self.to_client.encrypted)
    }

    #[inline(always)]
    fn stream(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    #[inline(always)]
    fn is_opaque(&self) -> bool {
        self.protocol == PROTOCOL_ENCRYPTED || self.flags & FLAG_TUNNEL != 0
    }

    #[inline(always)]
    fn has_outstanding(&self) -> bool {
        self.head != self.tail
    }

    /// Producer: a request began at `started_us`. True when its kind is remembered.
    #[inline(always)]
    fn push(&mut self, kind: u8, started_us: u32) -> bool {
        let head = self.pushed;
        let mut under_way = head.wrapping_sub(self.tail_seen);
        if under_way >= TIMED_REQUESTS as u32 {
            // The consumer's line is fetched only when its news can matter.
            self.tail_seen = self.tail;
            under_way = head.wrapping_sub(self.tail_seen);
        }
        let mut slot = kind;
        if under_way < TIMED_REQUESTS as u32 {
            self.starts_us[head as usize % TIMED_REQUESTS] = started_us;
            slot |= KIND_TIMED;
        } else {
            self.untimed = self.untimed.wrapping_add(1);
        }
        let is_tracked = under_way < TRACKED_REQUESTS as u32;
        if is_tracked {
            self.kinds[head as usize % TRACKED_REQUESTS] = slot;
        }
        self.pushed = head.wrapping_add(1);
        self.head = self.pushed;
        is_tracked
    }

    /// Consumer: the kind of the oldest request under way (0 if it was not remembered).
    #[inline(always)]
    fn oldest_kind(&self) -> u8 {
        self.kinds[self.tail as usize % TRACKED_REQUESTS] & !KIND_TIMED
    }

    /// Consumer: the answer of the oldest request began at `at_us`; records its latency once.
    #[inline(always)]
    fn time_oldest(&mut self, at_us: u32) {
        let number = self.tail.wrapping_add(1);
        self.last_answer_us = at_us;
        if self.kinds[self.tail as usize % TRACKED_REQUESTS] & KIND_TIMED != 0 && self.timed != number {
            self.timed = number;
            let latency_us = at_us.wrapping_sub(self.starts_us[self.tail as usize % TIMED_REQUESTS]);
            // The compiler knows that the bucket exists, and would drop the check that the verifier must see.
            let bucket = black_box(u32::from(latency_bucket(u64::from(latency_us)))) as usize;
            if bucket < LATENCY_BUCKETS {
                self.latency[bucket] = self.latency[bucket].wrapping_add(1);
            }
        }
    }

    /// Consumer: forgets the oldest request.
    #[inline(always)]
    fn pop(&mut self) {
        // A slot is emptied only where a request that found no room may be the next to look at it: the producer writes
        // all others before. Half a ring, because it may push meanwhile.
        if self.head.wrapping_sub(self.tail) > TRACKED_REQUESTS as u32 / 2 {
            self.kinds[self.tail as usize % TRACKED_REQUESTS] = 0;
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Consumer: an answer begins. Its request's kind, or `None` if we saw no request for it.
    #[inline(always)]
    fn begin_answer(&mut self, at_us: u32) -> Option<u8> {
        if !self.has_outstanding() {
            self.unsolicited = self.unsolicited.wrapping_add(1);
            return None;
        }
        let kind = self.oldest_kind();
        self.time_oldest(at_us);
        self.pop();
        self.responses = self.responses.wrapping_add(1);
        Some(kind)
    }

    /// Consumer: gives up all requests under way. Their answers, if they come, are unsolicited; so both ends pair
    /// again as soon as the connection is quiet for a moment.
    #[inline(always)]
    fn abandon(&mut self) {
        let head = self.head;
        self.abandoned = self.abandoned.wrapping_add(head.wrapping_sub(self.tail));
        self.tail = head;
    }
}

#[cfg(test)]
mod tests;
