//! Packets of sockets, in and out: bytes, round-trip times, and the application protocols inside.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_tcp_sock};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use gauntlet_abi::conn::{Address, CONN_RECEIVED_KNOWN, CONN_SENT_KNOWN, Conn, ROLE_CLIENT};
use gauntlet_abi::l7::{Direction, on_gap};

use crate::dns;
use crate::kernel::mapped;
use crate::l7;
use crate::maps::CONNS;

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
const IPV6_HEADER: u32 = 40;
const UDP_HEADER: u32 = 8;
const TCP_HEADER_MIN: u32 = 20;
const TCP_SYN: u8 = 0x02;

#[inline(always)]
fn packet(ctx: &SkBuffContext, egress: bool) {
    let Ok(ip) = ctx.load::<[u8; 20]>(0) else { return };
    let (transport, transport_at) = match ip[0] >> 4 {
        4 => (ip[9], u32::from(ip[0] & 15) * 4),
        6 => (ip[6], IPV6_HEADER),
        _ => return,
    };
    // SAFETY: the context of a cgroup_skb program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    if cookie == 0 {
        return;
    }
    if transport == IPPROTO_TCP {
        let Some(conn) = CONNS.get_ptr_mut(cookie) else { return };
        segment(ctx, conn, transport_at, egress);
    } else if transport == IPPROTO_UDP {
        let Some((source, target)) = addresses(ctx, &ip) else {
            return;
        };
        let ends = if egress { (&source, &target) } else { (&target, &source) };
        dns::datagram(ctx, cookie, ends, transport_at + UDP_HEADER, egress);
    }
}

#[inline(always)]
fn addresses(ctx: &SkBuffContext, ip: &[u8; 20]) -> Option<(Address, Address)> {
    if ip[0] >> 4 == 4 {
        return Some((
            mapped([ip[12], ip[13], ip[14], ip[15]]),
            mapped([ip[16], ip[17], ip[18], ip[19]]),
        ));
    }
    Some((ctx.load(8).ok()?, ctx.load(24).ok()?))
}

#[inline(always)]
fn segment(ctx: &SkBuffContext, conn: *mut Conn, transport_at: u32, egress: bool) {
    let Ok(tcp) = ctx.load::<[u8; TCP_HEADER_MIN as usize]>(transport_at as usize) else {
        return;
    };
    let payload_at = transport_at + u32::from(tcp[12] >> 4) * 4;
    let total = ctx.len();
    // SAFETY: `conn` points into a map value.
    unsafe {
        if egress && (*conn).local_port == 0 {
            (*conn).local_port = u16::from_be_bytes([tcp[0], tcp[1]]);
        }
    }
    if total <= payload_at || tcp[13] & TCP_SYN != 0 {
        return;
    }
    let mut length = total - payload_at;
    let mut payload_at = payload_at;
    let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    // SAFETY: `conn` points into a map value.
    let Some(news) = (unsafe { follow(conn, sequence, length, egress) }) else {
        return;
    };
    payload_at += news.skip;
    length -= news.skip;
    // SAFETY: `conn` points into a map value, helpers without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the same.
    unsafe {
        count(ctx, conn, length, egress, now);
        let now = if egress { sent_at(ctx, now) } else { now };
        let to_server = ((*conn).role == ROLE_CLIENT) == egress;
        let state = &raw mut (*conn).l7;
        // One branch per direction: the parser is specialised for each.
        if to_server {
            if news.missing_bytes > 0 {
                on_gap(&mut *state, Direction::ToServer, u64::from(news.missing_bytes));
            }
            l7::follow(ctx.skb.skb, payload_at, length, state, Direction::ToServer, now);
        } else {
            if news.missing_bytes > 0 {
                on_gap(&mut *state, Direction::ToClient, u64::from(news.missing_bytes));
            }
            l7::follow(ctx.skb.skb, payload_at, length, state, Direction::ToClient, now);
        }
    }
}

/// When TCP handed the packet down, which may be long before `now` where a queue of netfilter held it between: an answer
/// is a server's from the moment at which the server gave it away. TCP stamps each packet with its time of departure
/// on CLOCK_MONOTONIC (since 4.20); with pacing that time may lie ahead.
///
/// # Safety
/// `ctx` is that of a running cgroup_skb program.
#[inline(always)]
unsafe fn sent_at(ctx: &SkBuffContext, now: u64) -> u64 {
    /// An older stamp is none of CLOCK_MONOTONIC, or of no use.
    const AGE_MAX_NS: u64 = 60_000_000_000;
    // SAFETY: as the caller says.
    let stamp = unsafe { (*ctx.skb.skb).tstamp };
    if stamp != 0 && stamp < now && now - stamp < AGE_MAX_NS {
        stamp
    } else {
        now
    }
}

/// Counts `length` new bytes, and notes the round-trip time.
///
/// # Safety
/// `conn` points into a map value.
#[inline(always)]
unsafe fn count(ctx: &SkBuffContext, conn: *mut Conn, length: u32, egress: bool, now: u64) {
    // SAFETY: as the caller says; the helper returns null or a TCP socket.
    unsafe {
        (*conn).data_segments += 1;
        if egress {
            (*conn).bytes_sent += u64::from(length);
        } else {
            (*conn).bytes_received += u64::from(length);
            if (*conn).unread_since_ns == 0 {
                (*conn).unread_since_ns = now;
            }
        }
        let sock = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if !sock.is_null() {
            let tcp_sock = bpf_tcp_sock(sock);
            if !tcp_sock.is_null() {
                (*conn).srtt_us = (*tcp_sock).srtt_us >> 3;
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
}

/// Follows one direction's sequence numbers; `None` for a segment that was seen.
#[inline(always)]
unsafe fn follow(conn: *mut Conn, sequence: u32, length: u32, egress: bool) -> Option<News> {
    // SAFETY: as the caller says.
    unsafe {
        let known = if egress { CONN_SENT_KNOWN } else { CONN_RECEIVED_KNOWN };
        let end = sequence.wrapping_add(length);
        let expected = if egress { (*conn).sent_end } else { (*conn).received_end };
        let mut news = News {
            skip: 0,
            missing_bytes: 0,
        };
        if (*conn).flags & known != 0 {
            let seen = expected.wrapping_sub(sequence) as i32;
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
            (*conn).flags |= known;
        }
        if egress {
            (*conn).sent_end = end;
        } else {
            (*conn).received_end = end;
        }
        Some(news)
    }
}
