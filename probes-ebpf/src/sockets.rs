//! TCP sockets: their states, errors and retransmissions.

use core::ffi::c_void;
use core::ptr::null_mut;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_skc_to_tcp_sock};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use gauntlet_abi::conn::{
    CONN_PICKED_UP, Conn, RETRANSMIT_COUNTERS, RETRANSMIT_ERRORS, ROLE_CLIENT, ROLE_SERVER, STATE_CLOSED, STATE_OPEN,
    STATE_OPENING,
};
use gauntlet_abi::record::{LOST_CONNECTIONS, NETNS_ANY, REASON_UNKNOWN, RECORD_SYNACK_RETRANSMIT, RecordKey};

use crate::kernel::{AF_INET, AF_INET6, IPPROTO_TCP, field, offset, socket_cgroup, socket_name, socket_netns};
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
    // SAFETY: the verifier knows `sock` as a socket, `conn` points into a map value.
    unsafe {
        let (netns, _) = socket_netns(sock);
        if NETNS.get_ptr(netns).is_none() && NETNS.get_ptr(NETNS_ANY).is_none() {
            return None;
        }
        let family: u16 = field(sock, offset!(sock_family));
        if family != AF_INET && family != AF_INET6 {
            return None;
        }
        let zero = CONN_ZERO.get_ptr(0)?;
        // A socket that connects a second time starts anew.
        if CONNS.insert(cookie, &*zero, 0).is_err() {
            count_lost(LOST_CONNECTIONS);
            return None;
        }
        let conn = CONNS.get_ptr_mut(cookie)?;
        name_conn(conn, sock);
        (*conn).created_ns = bpf_ktime_get_ns();
        (*conn).cgroup_id = socket_cgroup(sock);
        (*conn).role = role;
        (*conn).flags = flags;
        (*conn).state = state;
        Some(conn)
    }
}

/// Takes in the open connection of a packet if its namespace is wanted: it is older than the probes, or than the wish.
/// Null: it is not. A function of its own, because there is no room for it on the stack of its callers.
///
/// # Safety
/// `skb` is the context of a running cgroup_skb program.
#[inline(never)]
pub unsafe fn pick_up(skb: *mut __sk_buff, cookie: u64) -> *mut Conn {
    // SAFETY: as the caller says; the helper returns null or a TCP socket whose type the verifier knows.
    unsafe {
        let sock = (*skb).__bindgen_anon_2.sk;
        if sock.is_null() {
            return null_mut();
        }
        let sock: *const c_void = bpf_skc_to_tcp_sock(sock.cast()).cast();
        if sock.is_null() {
            return null_mut();
        }
        let state: u8 = field(sock, offset!(sock_state));
        if i32::from(state) != TCP_ESTABLISHED {
            return null_mut();
        }
        // Nobody saw who opened it; listeners have the lower port almost everywhere.
        let local: u16 = field(sock, offset!(sock_num));
        let remote: u16 = field(sock, offset!(sock_dport));
        let role = if local > u16::from_be(remote) {
            ROLE_CLIENT
        } else {
            ROLE_SERVER
        };
        open(sock, cookie, role, STATE_OPEN, CONN_PICKED_UP).unwrap_or(null_mut())
    }
}

/// Writes who the two ends are straight into the table: there is no room for them on the stack of packets' programs.
///
/// # Safety
/// `conn` points into a map value; `sock` as for [`field`], of an internet family.
#[inline(always)]
unsafe fn name_conn(conn: *mut Conn, sock: *const c_void) {
    /// The six bytes that make an IPv6 address of an IPv4 one, as the second word of its first half.
    const MAPPED: u32 = 0xffff_u32.to_be();
    // SAFETY: as the caller says.
    unsafe {
        let (local, remote) = (&raw mut (*conn).local, &raw mut (*conn).remote);
        if field::<u16>(sock, offset!(sock_family)) == AF_INET {
            local.cast::<[u32; 4]>().write([0, 0, MAPPED, field(sock, offset!(sock_rcv_saddr))]);
            remote.cast::<[u32; 4]>().write([0, 0, MAPPED, field(sock, offset!(sock_daddr))]);
        } else {
            let (local_at, remote_at) = (offset!(sock_v6_rcv_saddr), offset!(sock_v6_daddr));
            local.cast::<[u64; 2]>().write([field(sock, local_at), field(sock, local_at + 8)]);
            remote.cast::<[u64; 2]>().write([field(sock, remote_at), field(sock, remote_at + 8)]);
        }
        ((*conn).netns, (*conn).netns_cookie) = socket_netns(sock);
        (*conn).local_port = field(sock, offset!(sock_num));
        (*conn).remote_port = u16::from_be(field(sock, offset!(sock_dport)));
    }
}

/// A caller's port is chosen after its first change of state; its address may be, too.
#[inline(always)]
unsafe fn fill_port(conn: *mut Conn, sock: *const c_void) {
    // SAFETY: as for `state_changed`.
    unsafe {
        if (*conn).local_port == 0 {
            name_conn(conn, sock);
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
