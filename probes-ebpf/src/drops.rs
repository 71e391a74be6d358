//! Packets that the kernel throws away, also those that belong to no socket.

use core::ffi::c_void;

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use gauntlet_abi::record::{RECORD_DROP, RecordKey};

use crate::kernel::{offset, packet_name, probe};
use crate::maps::record;

const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// Hook: `kfree_skb`, reasons since 5.17, receiving socket since 6.11. Fires for dropped packets only, not for consumed
/// ones.
#[btf_tracepoint(function = "kfree_skb")]
pub fn packet_drop(ctx: BtfTracePointContext) -> i32 {
    let rx_sock = if offset!(drop_has_rx_sock) != 0 {
        ctx.arg::<*const c_void>(3) as u64
    } else {
        0
    };
    drop(ctx.arg::<*const c_void>(0) as u64, ctx.arg(1), ctx.arg(2), rx_sock);
    0
}

/// The same where BTF tracepoints are refused.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn packet_drop_raw(ctx: RawTracePointContext) -> i32 {
    let rx_sock = if offset!(drop_has_rx_sock) != 0 {
        ctx.arg::<u64>(3)
    } else {
        0
    };
    drop(ctx.arg(0), ctx.arg(1), ctx.arg(2), rx_sock);
    0
}

#[inline(always)]
fn drop(skb: u64, location: u64, reason: u32, rx_sock: u64) {
    let Some(name) = packet_name(skb) else { return };
    let mut sock: u64 = probe(skb, offset!(skb_sk)).unwrap_or(0);
    if sock == 0 {
        sock = rx_sock;
    }
    let to_server = name.target_port <= name.source_port;
    let key = RecordKey {
        location,
        netns: netns_of(skb, sock),
        reason,
        source: name.source,
        target: name.target,
        port: if to_server { name.target_port } else { name.source_port },
        kind: RECORD_DROP,
        transport: name.transport,
        to_server: u8::from(to_server),
        reserved: [0; 3],
    };
    let is_syn = name.transport == 6 && name.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
    record(
        &key,
        is_syn,
        name.length_bytes,
        if to_server { name.source_port } else { name.target_port },
    );
}

/// Inode of the namespace that holds the packet: its socket's, else its device's; 0 if neither can be read (a buffer
/// that was queued has other things where the device was).
#[inline(always)]
fn netns_of(skb: u64, sock: u64) -> u32 {
    let net: u64 = if sock != 0 {
        probe(sock, offset!(sock_net)).unwrap_or(0)
    } else {
        let device: u64 = probe(skb, offset!(skb_dev)).unwrap_or(0);
        if device == 0 {
            0
        } else {
            probe(device, offset!(dev_net)).unwrap_or(0)
        }
    };
    if net == 0 {
        0
    } else {
        probe(net, offset!(net_inum)).unwrap_or(0)
    }
}
