//! TCP resets, sent and received.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use gauntlet_abi::conn::Address;
use gauntlet_abi::record::{REASON_UNKNOWN, RECORD_RESET_RECEIVED, RECORD_RESET_SENT, RecordKey};

use crate::kernel::{offset, packet_name, probe, socket_name};
use crate::maps::record;

/// Hook: `tcp_send_reset`, since 4.15, reason since 6.10. The socket is null for packets that belong to none; the packet
/// is null for resets that answer none.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn reset_sent(ctx: BtfTracePointContext) -> i32 {
    let sock: *const c_void = ctx.arg(0);
    let skb: *const c_void = ctx.arg(1);
    let reason = if offset!(reset_has_reason) != 0 {
        ctx.arg::<u32>(2)
    } else {
        REASON_UNKNOWN
    };
    if !sock.is_null() {
        // SAFETY: a non-null socket argument.
        if let Some(name) = unsafe { socket_name(sock) } {
            // A listener answers for a peer that only the packet names.
            if name.remote_port != 0 {
                count(
                    RECORD_RESET_SENT,
                    name.netns,
                    reason,
                    (&name.local, name.local_port),
                    (&name.remote, name.remote_port),
                );
                return 0;
            }
        }
    }
    if skb.is_null() {
        return 0;
    }
    let skb = skb as u64;
    let Some(name) = packet_name(skb) else { return 0 };
    // The reset goes back to where the packet came from. No socket: the namespace is that of the device.
    let netns = device_netns(skb);
    count(
        RECORD_RESET_SENT,
        netns,
        reason,
        (&name.target, name.target_port),
        (&name.source, name.source_port),
    );
    0
}

/// Hook: `tcp_receive_reset`, since 4.15. Fires when a socket accepts a reset.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn reset_received(ctx: BtfTracePointContext) -> i32 {
    let sock: *const c_void = ctx.arg(0);
    // SAFETY: the argument is a socket.
    if let Some(name) = unsafe { socket_name(sock) } {
        count(
            RECORD_RESET_RECEIVED,
            name.netns,
            REASON_UNKNOWN,
            (&name.local, name.local_port),
            (&name.remote, name.remote_port),
        );
    }
    0
}

#[inline(always)]
fn count(kind: u8, netns: u32, reason: u32, local: (&Address, u16), remote: (&Address, u16)) {
    let at_server = local.1 <= remote.1;
    let key = RecordKey {
        location: 0,
        netns,
        reason,
        source: *local.0,
        target: *remote.0,
        port: if at_server { local.1 } else { remote.1 },
        kind,
        transport: 6,
        to_server: u8::from(!at_server),
        reserved: [0; 3],
    };
    record(&key, false, 0, if at_server { remote.1 } else { local.1 });
}

#[inline(always)]
fn device_netns(skb: u64) -> u32 {
    let device: u64 = probe(skb, offset!(skb_dev)).unwrap_or(0);
    let net: u64 = if device == 0 {
        0
    } else {
        probe(device, offset!(dev_net)).unwrap_or(0)
    };
    if net == 0 {
        0
    } else {
        probe(net, offset!(net_inum)).unwrap_or(0)
    }
}
