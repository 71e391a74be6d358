//! TCP sockets: their states, errors, retransmissions, and what their processes read.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_skc_to_tcp_sock};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use gauntlet_abi::conn::{
    CONN_COPIED_KNOWN, CONN_PICKED_UP, CONN_SERVED, Conn, RETRANSMIT_COUNTERS, RETRANSMIT_ERRORS, ROLE_CLIENT,
    ROLE_SERVER, STATE_CLOSED, STATE_OPEN, STATE_OPENING,
};
use gauntlet_abi::record::{
    LOST_CONNECTIONS, NETNS_ANY, OFFSET_MISSING, REASON_UNKNOWN, RECORD_SYNACK_RETRANSMIT, RecordKey,
};

use crate::kernel::{AF_INET, AF_INET6, IPPROTO_TCP, SocketName, field, offset, socket_cgroup, socket_name};
use crate::maps::{CONN_ZERO, CONNS, NETNS, add_one_u32, count_lost, record};

const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_SYN_RECV: i32 = 3;
const TCP_CLOSE: i32 = 7;
const TCP_LISTEN: i32 = 10;

/// Hook: `inet_sock_set_state`, since 4.16 (`tp_btf` since 5.5). Fires on every change of a TCP socket's state.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn socket_state(ctx: BtfTracePointContext) -> i32 {
    let sock: *const c_void = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    // SAFETY: the first argument of this tracepoint is a socket.
    unsafe { state_changed(sock, old, new) };
    0
}

#[inline(always)]
unsafe fn state_changed(sock: *const c_void, old: i32, new: i32) {
    // SAFETY: `sock` is an argument of a tp_btf program, `conn` points into a map value.
    unsafe {
        if new == TCP_LISTEN || old == TCP_LISTEN && new == TCP_CLOSE {
            return;
        }
        let protocol: u16 = field(sock, offset!(sock_protocol));
        if protocol != IPPROTO_TCP {
            return;
        }
        let cookie = bpf_get_socket_cookie(sock.cast_mut());
        if new == TCP_SYN_SENT {
            open(sock, cookie, ROLE_CLIENT, STATE_OPENING, 0);
            return;
        }
        if new == TCP_ESTABLISHED {
            let known = CONNS.get_ptr_mut(cookie);
            let conn = match known {
                Some(conn) => conn,
                None if old == TCP_SYN_RECV => match open(sock, cookie, ROLE_SERVER, STATE_OPENING, 0) {
                    Some(conn) => conn,
                    None => return,
                },
                None => return,
            };
            fill_port(conn, sock);
            (*conn).opened_ns = bpf_ktime_get_ns();
            remember_copied(conn, sock);
            (*conn).state = STATE_OPEN;
            return;
        }
        if new == TCP_CLOSE {
            let Some(conn) = CONNS.get_ptr_mut(cookie) else { return };
            fill_port(conn, sock);
            let error: i32 = field(sock, offset!(sock_err));
            (*conn).close_error = error;
            (*conn).closed_ns = bpf_ktime_get_ns();
            (*conn).state = STATE_CLOSED;
        }
    }
}

/// Inserts a connection if its namespace is wanted.
#[inline(always)]
unsafe fn open(sock: *const c_void, cookie: u64, role: u8, state: u8, flags: u32) -> Option<*mut Conn> {
    // SAFETY: `sock` is an argument of a tp_btf program, `conn` points into a map value.
    unsafe {
        let name = socket_name(sock)?;
        if NETNS.get_ptr(name.netns).is_none() && NETNS.get_ptr(NETNS_ANY).is_none() {
            return None;
        }
        let zero = CONN_ZERO.get_ptr(0)?;
        // A socket that connects a second time starts anew.
        if CONNS.insert(cookie, &*zero, 0).is_err() {
            count_lost(LOST_CONNECTIONS);
            return None;
        }
        let conn = CONNS.get_ptr_mut(cookie)?;
        name_conn(conn, &name);
        (*conn).created_ns = bpf_ktime_get_ns();
        (*conn).cgroup_id = socket_cgroup(sock);
        (*conn).role = role;
        (*conn).flags = flags;
        (*conn).state = state;
        Some(conn)
    }
}

#[inline(always)]
unsafe fn name_conn(conn: *mut Conn, name: &SocketName) {
    // SAFETY: `conn` points into a map value.
    unsafe {
        (*conn).netns = name.netns;
        (*conn).netns_cookie = name.netns_cookie;
        (*conn).local = name.local;
        (*conn).remote = name.remote;
        (*conn).local_port = name.local_port;
        (*conn).remote_port = name.remote_port;
    }
}

/// A caller's port is chosen after its first change of state; its address may be, too.
#[inline(always)]
unsafe fn fill_port(conn: *mut Conn, sock: *const c_void) {
    // SAFETY: as for `state_changed`.
    unsafe {
        if (*conn).local_port == 0 {
            if let Some(name) = socket_name(sock) {
                name_conn(conn, &name);
            }
        }
    }
}

/// Notes how far the process has read.
#[inline(always)]
unsafe fn remember_copied(conn: *mut Conn, sock: *const c_void) {
    if offset!(tcp_copied_seq) == OFFSET_MISSING {
        return;
    }
    // SAFETY: the helper returns null or a TCP socket.
    unsafe {
        let tcp: *const c_void = bpf_skc_to_tcp_sock(sock.cast_mut()).cast();
        if tcp.is_null() {
            return;
        }
        (*conn).copied_end = field(tcp, offset!(tcp_copied_seq));
        set_flag(conn, CONN_COPIED_KNOWN);
    }
}

/// Sets a flag, and writes only if it was not set: other CPUs read the flags with each packet.
#[inline(always)]
unsafe fn set_flag(conn: *mut Conn, flag: u32) {
    // SAFETY: `conn` points into a map value.
    unsafe {
        if (*conn).flags & flag == 0 {
            (*conn).flags |= flag;
        }
    }
}

/// Hook: `inet_sk_error_report`, since 5.14. Fires when a socket tells its process of an error.
#[btf_tracepoint(function = "inet_sk_error_report")]
pub fn socket_error(ctx: BtfTracePointContext) -> i32 {
    let sock: *const c_void = ctx.arg(0);
    // SAFETY: the argument is a socket; `conn` points into a map value.
    unsafe {
        let protocol: u16 = field(sock, offset!(sock_protocol));
        if protocol != IPPROTO_TCP {
            return 0;
        }
        let Some(conn) = CONNS.get_ptr_mut(bpf_get_socket_cookie(sock.cast_mut())) else {
            return 0;
        };
        // An error that ended the connection was read when it closed.
        if (*conn).state != STATE_CLOSED {
            (*conn).soft_error = field(sock, offset!(sock_err));
            add_one_u32(&raw mut (*conn).soft_error_count);
        }
    }
    0
}

/// Hook: `tcp_retransmit_skb`, since 4.15. Fires once per segment sent again; its third argument, the result, is there
/// since 6.17.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit(ctx: BtfTracePointContext) -> i32 {
    let sock: *const c_void = ctx.arg(0);
    // SAFETY: the first argument is a socket; `conn` points into a map value.
    unsafe {
        let Some(conn) = CONNS.get_ptr_mut(bpf_get_socket_cookie(sock.cast_mut())) else {
            return 0;
        };
        fill_port(conn, sock);
        let mut index = RETRANSMIT_COUNTERS - 1;
        if offset!(retransmit_has_error) != 0 {
            let error: i32 = ctx.arg(2);
            index = match error {
                0 => 0,
                -1 => 1,
                -16 => 2,
                1 => 3,
                other => {
                    (*conn).other_retransmit_error = other;
                    4
                }
            };
        }
        const _: () = assert!(RETRANSMIT_COUNTERS == 5 && RETRANSMIT_ERRORS[2] == -16);
        let counters = if (*conn).state == STATE_OPENING {
            &raw mut (*conn).handshake_retransmits
        } else {
            &raw mut (*conn).data_retransmits
        };
        add_one_u32(counters.cast::<u32>().add(index));
    }
    0
}

/// Hook: `tcp_retransmit_synack`, since 4.16. Fires when a listener sends its answer to a SYN again.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub fn synack_retransmit(ctx: BtfTracePointContext) -> i32 {
    let request: *const c_void = ctx.arg(1);
    // SAFETY: the second argument is a request socket, which begins like any socket.
    if let Some(name) = unsafe { socket_name(request) } {
        let at_local = name.local_port <= name.remote_port;
        let key = RecordKey {
            location: 0,
            netns: name.netns,
            reason: REASON_UNKNOWN,
            source: name.local,
            target: name.remote,
            port: if at_local { name.local_port } else { name.remote_port },
            kind: RECORD_SYNACK_RETRANSMIT,
            transport: IPPROTO_TCP as u8,
            to_server: u8::from(!at_local),
            reserved: [0; 3],
        };
        record(
            &key,
            false,
            0,
            if at_local { name.remote_port } else { name.local_port },
        );
    }
    0
}

/// Hook: `sock_recv_length`, since 6.3. Fires when a process has received from a socket: tells what it has left unread,
/// and picks up connections that are older than the probes.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn socket_read(ctx: BtfTracePointContext) -> i32 {
    let sock: *const c_void = ctx.arg(0);
    let result: i32 = ctx.arg(1);
    if result <= 0 {
        return 0;
    }
    // SAFETY: the first argument is a socket; `conn` points into a map value.
    unsafe {
        let family: u16 = field(sock, offset!(sock_family));
        if family != AF_INET && family != AF_INET6 {
            return 0;
        }
        let protocol: u16 = field(sock, offset!(sock_protocol));
        if protocol != IPPROTO_TCP {
            return 0;
        }
        let cookie = bpf_get_socket_cookie(sock.cast_mut());
        let conn = match CONNS.get_ptr_mut(cookie) {
            Some(conn) => conn,
            None => {
                let state: u8 = field(sock, offset!(sock_state));
                if i32::from(state) != TCP_ESTABLISHED {
                    return 0;
                }
                // Nobody saw who opened it; listeners have the lower port almost everywhere.
                let local: u16 = field(sock, offset!(sock_num));
                let remote: u16 = field(sock, offset!(sock_dport));
                let role = if local > u16::from_be(remote) {
                    ROLE_CLIENT
                } else {
                    ROLE_SERVER
                };
                match open(sock, cookie, role, STATE_OPEN, CONN_PICKED_UP) {
                    Some(conn) => conn,
                    None => return 0,
                }
            }
        };
        set_flag(conn, CONN_SERVED);
        remember_copied(conn, sock);
        if (*conn).unread_since_ns != 0 {
            let unread = (*conn).received_end.wrapping_sub((*conn).copied_end) as i32;
            (*conn).unread_since_ns = if unread > 0 { bpf_ktime_get_ns() } else { 0 };
        }
    }
    0
}
