//! Packets of sockets, in and out: bytes, round-trip times, and the application protocols inside.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_tcp_sock};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use gauntlet_abi::conn::{Address, CONN_PICKED_UP, CONN_RECEIVED_KNOWN, CONN_SENT_KNOWN, Conn, ROLE_CLIENT};
use gauntlet_abi::l7::{Direction, Stream, on_gap, on_late_start};

use crate::dns;
use crate::kernel::mapped;
use crate::l7;
use crate::maps::CONNS;
use crate::sockets::pick_up;

/// Hook: cgroup_skb ingress, since 4.10. Runs when a socket is about to receive a packet.
#[cgroup_skb(ingress)]
pub fn packet_in(ctx: SkBuffContext) -> i32 {
    packet(&ctx, false);
    1
}

/// Hook: cgroup_skb egress, since 4.10. Runs when a socket's packet is about to leave the stack.
#[cgroup_skb(egress)]
pub fn packet_out(ctx: SkBuffContext) -> i32 {
    packet(&ctx, true);
    1
}

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPV4_HEADER_MIN: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: u32 = 8;
const TCP_HEADER_MIN: usize = 20;
const TCP_SYN: u8 = 0x02;

#[inline(always)]
fn packet(ctx: &SkBuffContext, egress: bool) {
    let Some(ip) = headers(ctx, 0, IPV4_HEADER_MIN) else {
        return;
    };
    // SAFETY: within what was checked.
    let first: u8 = unsafe { read(ip, 0) };
    let (transport, transport_at) = match first >> 4 {
        // SAFETY: the same.
        4 => (unsafe { read(ip, 9) }, usize::from(first & 15) * 4),
        // SAFETY: the same.
        6 => (unsafe { read(ip, 6) }, IPV6_HEADER),
        _ => return,
    };
    match transport {
        IPPROTO_TCP => tcp(ctx, transport_at, egress),
        IPPROTO_UDP => udp(ctx, transport_at, egress),
        _ => (),
    }
}

/// `size` bytes of a packet's headers at `offset`, to be read in place, without a helper that copies them. `None` if they
/// are not all in the packet's first piece, where IP and TCP have brought what they read.
#[inline(always)]
fn headers(ctx: &SkBuffContext, offset: usize, size: usize) -> Option<*const u8> {
    // SAFETY: the context of a cgroup_skb program; the two fields bound the packet's first piece.
    let (data, data_end) = unsafe { ((*ctx.skb.skb).data as usize, (*ctx.skb.skb).data_end as usize) };
    let start = data + offset;
    (start + size <= data_end).then_some(start as *const u8)
}

/// Reads a field of a header.
///
/// # Safety
/// `header` is from [`headers`], and the field ends before its size. The verifier checks both, and the alignment where the
/// machine needs it.
#[inline(always)]
unsafe fn read<T: Copy>(header: *const u8, offset: usize) -> T {
    // SAFETY: as the caller says.
    unsafe { header.add(offset).cast::<T>().read_volatile() }
}

#[inline(always)]
fn tcp(ctx: &SkBuffContext, at: usize, egress: bool) {
    let Some(header) = headers(ctx, at, TCP_HEADER_MIN) else {
        return;
    };
    // SAFETY: within what was checked.
    let (port, sequence, acknowledged, words, flags): (u16, u32, u32, u8, u8) = unsafe {
        (
            read(header, 0),
            read(header, 4),
            read(header, 8),
            read(header, 12),
            read(header, 13),
        )
    };
    let payload_at = at as u32 + u32::from(words >> 4) * 4;
    let length = ctx.len().saturating_sub(payload_at);
    let is_syn = flags & TCP_SYN != 0;
    // Most packets without data are mere acknowledgements: nothing to be looked up for them. A SYN may be the first that
    // tells a caller's port.
    if length == 0 && !(is_syn && egress) {
        return;
    }
    // SAFETY: the context of a cgroup_skb program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    let conn = match CONNS.get_ptr_mut(cookie) {
        Some(conn) => conn,
        // SAFETY: the context of a cgroup_skb program.
        None => unsafe { pick_up(ctx.skb.skb, cookie) },
    };
    if conn.is_null() {
        return;
    }
    // SAFETY: `conn` points into a map value.
    unsafe {
        if egress && (*conn).local_port == 0 {
            (*conn).local_port = u16::from_be(port);
        }
    }
    if !is_syn {
        let segment = Segment {
            sequence: u32::from_be(sequence),
            acknowledged: u32::from_be(acknowledged),
            payload_at,
            length,
        };
        take_in(ctx, conn, segment, egress);
    }
}

#[inline(always)]
fn udp(ctx: &SkBuffContext, at: usize, egress: bool) {
    // SAFETY: the context of a cgroup_skb program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    if cookie == 0 {
        return;
    }
    let Some((source, target)) = addresses(ctx) else {
        return;
    };
    let ends = if egress { (&source, &target) } else { (&target, &source) };
    dns::datagram(ctx, cookie, ends, at as u32 + UDP_HEADER, egress);
}

#[inline(always)]
fn addresses(ctx: &SkBuffContext) -> Option<(Address, Address)> {
    let ip = ctx.load::<[u8; IPV4_HEADER_MIN]>(0).ok()?;
    if ip[0] >> 4 == 4 {
        return Some((
            mapped([ip[12], ip[13], ip[14], ip[15]]),
            mapped([ip[16], ip[17], ip[18], ip[19]]),
        ));
    }
    Some((ctx.load(8).ok()?, ctx.load(24).ok()?))
}

/// A segment that carries payload.
#[derive(Clone, Copy)]
struct Segment {
    /// Sequence number of its first byte.
    sequence: u32,
    /// Sequence number of the next byte that its sender expects of the other direction.
    acknowledged: u32,
    /// Where in the packet its payload begins.
    payload_at: u32,
    /// Bytes of payload.
    length: u32,
}

#[inline(always)]
fn take_in(ctx: &SkBuffContext, conn: *mut Conn, segment: Segment, egress: bool) {
    // SAFETY: `conn` points into a map value.
    unsafe {
        // One branch per direction: the parser is specialised for each.
        if ((*conn).role == ROLE_CLIENT) == egress {
            directed(ctx, conn, &raw mut (*conn).l7.to_server, Direction::ToServer, segment, egress);
        } else {
            directed(ctx, conn, &raw mut (*conn).l7.to_client, Direction::ToClient, segment, egress);
        }
    }
}

/// The same for a segment of one direction, which is that of `stream`.
///
/// # Safety
/// `conn` and `stream` point into one map value.
#[inline(always)]
unsafe fn directed(
    ctx: &SkBuffContext,
    conn: *mut Conn,
    stream: *mut Stream,
    direction: Direction,
    segment: Segment,
    egress: bool,
) {
    // SAFETY: as the caller says, and helpers without preconditions.
    unsafe {
        let Some(news) = follow(conn, stream, segment, egress) else {
            return;
        };
        let new = (segment.payload_at + news.skip, segment.length - news.skip);
        // The last tick's time (since 5.11) is cheaper than the clock's, and is enough for most.
        let seen_ns = if egress { sent_at(ctx) } else { bpf_ktime_get_coarse_ns() };
        count(ctx, stream, new.1, egress, seen_ns);
        let state = &raw mut (*conn).l7;
        if news.is_late && direction == Direction::ToClient {
            on_late_start(&mut *state);
        }
        if news.missing_bytes > 0 {
            on_gap(&mut *state, direction, u64::from(news.missing_bytes));
        }
        let seen = (seen_ns, segment.acknowledged);
        l7::follow(ctx.skb.skb, new, state, direction, seen, || {
            if egress { seen_ns } else { bpf_ktime_get_ns() }
        });
    }
}

/// When TCP handed the packet down, which may be long before now where a queue of netfilter held it between: an answer
/// is a server's from the moment at which the server gave it away. TCP stamps each packet with its time of departure
/// on CLOCK_MONOTONIC (since 4.20), which also saves a look at the clock. With pacing it may lie ahead.
///
/// # Safety
/// `ctx` is that of a running cgroup_skb program.
#[inline(always)]
unsafe fn sent_at(ctx: &SkBuffContext) -> u64 {
    // SAFETY: as the caller says, and a helper without preconditions.
    unsafe {
        let stamp = (*ctx.skb.skb).tstamp;
        if stamp != 0 { stamp } else { bpf_ktime_get_ns() }
    }
}

/// Counts `length` new bytes, and notes the round-trip time when it sends, which what is received does not change, or the
/// time when it receives.
///
/// # Safety
/// `stream` points into a map value.
#[inline(always)]
unsafe fn count(ctx: &SkBuffContext, stream: *mut Stream, length: u32, egress: bool, now: u64) {
    // SAFETY: as the caller says; the helper returns null or a TCP socket.
    unsafe {
        (*stream).bytes += u64::from(length);
        if !egress {
            (*stream).moved_us = (now / 1000) as u32;
            return;
        }
        // About once in a millisecond is enough; 0 is that it was never noted.
        let millisecond = (now >> 20) as u8 | 1;
        if (*stream).noted == millisecond {
            return;
        }
        (*stream).noted = millisecond;
        let sock = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if !sock.is_null() {
            let tcp_sock = bpf_tcp_sock(sock);
            if !tcp_sock.is_null() {
                (*stream).moved_us = (*tcp_sock).srtt_us >> 3;
            }
        }
    }
}

/// What a segment brings that was not seen before.
struct News {
    /// Bytes at its beginning that were.
    skip: u32,
    /// Bytes before it that were never seen.
    missing_bytes: u32,
    /// Nobody knows what came before it.
    is_late: bool,
}

/// Follows one direction's sequence numbers; `None` for a segment that was seen.
///
/// # Safety
/// `conn` and `stream` point into one map value.
#[inline(always)]
unsafe fn follow(conn: *mut Conn, stream: *mut Stream, segment: Segment, egress: bool) -> Option<News> {
    let Segment { sequence, length, .. } = segment;
    // SAFETY: as the caller says.
    unsafe {
        let known = if egress { CONN_SENT_KNOWN } else { CONN_RECEIVED_KNOWN };
        let mut news = News {
            skip: 0,
            missing_bytes: 0,
            is_late: false,
        };
        if (*conn).flags & known != 0 {
            let seen = (*stream).sequence_end.wrapping_sub(sequence) as i32;
            if seen > 0 {
                if seen as u32 >= length {
                    return None;
                }
                news.skip = seen as u32;
            }
            if seen < 0 {
                news.missing_bytes = seen.unsigned_abs();
            }
        } else {
            news.is_late = (*conn).flags & CONN_PICKED_UP != 0;
            (*conn).flags |= known;
        }
        (*stream).sequence_end = sequence.wrapping_add(length);
        Some(news)
    }
}
