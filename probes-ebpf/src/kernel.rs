//! Reads of kernel structs at offsets that user space took from the running kernel's type information.
//!
//! The offsets sit in frozen read-only data, so the verifier takes them for constants, checks each read against the
//! struct's type, and prunes what a zero flag disables.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use gauntlet_abi::conn::Address;
use gauntlet_abi::record::Offsets;

/// Filled in by the loader.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::missing();

/// The value of one field of [`OFFSETS`], as the loader wrote it.
macro_rules! offset {
    ($field:ident) => {
        $crate::kernel::as_loaded(&$crate::kernel::OFFSETS.$field)
    };
}
pub(crate) use offset;

/// Reads a global as the loader wrote it, not as it was compiled.
#[inline(always)]
pub fn as_loaded(value: &u32) -> u32 {
    // SAFETY: a reference is readable.
    unsafe { core::ptr::read_volatile(value) }
}

/// Address family: IPv4.
pub const AF_INET: u16 = 2;
/// Address family: IPv6.
pub const AF_INET6: u16 = 10;
/// IP protocol number of TCP.
pub const IPPROTO_TCP: u16 = 6;

/// Reads a field through a pointer whose type the verifier knows.
///
/// # Safety
/// `base` is a non-null argument of a `tp_btf` program, or was reached from one by such reads.
#[inline(always)]
pub unsafe fn field<T: Copy>(base: *const c_void, offset: u32) -> T {
    // SAFETY: the verifier checks the access; a fault yields zeroes.
    unsafe { base.cast::<u8>().add(offset as usize).cast::<T>().read_volatile() }
}

/// Reads a field through any address; `None` if it is not readable.
#[inline(always)]
pub fn probe<T: Copy>(base: u64, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }.ok()
}

/// IPv4 address as a mapped IPv6 address.
#[inline(always)]
pub fn mapped(ip: [u8; 4]) -> Address {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ip[0], ip[1], ip[2], ip[3]]
}

/// Addresses, ports and namespace of a socket.
#[derive(Clone, Copy)]
pub struct SocketName {
    pub local: Address,
    pub remote: Address,
    pub local_port: u16,
    pub remote_port: u16,
    pub netns: u32,
}

/// Inode and cookie of a socket's network namespace.
///
/// # Safety
/// As for [`field`].
#[inline(always)]
pub unsafe fn socket_netns(sock: *const c_void) -> (u32, u64) {
    // SAFETY: as the caller says.
    unsafe {
        let net: *const c_void = field(sock, offset!(sock_net));
        if net.is_null() {
            return (0, 0);
        }
        let cookie = if offset!(net_cookie) == gauntlet_abi::record::OFFSET_MISSING {
            0
        } else {
            field(net, offset!(net_cookie))
        };
        (field(net, offset!(net_inum)), cookie)
    }
}

/// Identity of the cgroup (v2) to which a socket counts; 0 where the kernel does not tell.
///
/// # Safety
/// As for [`field`].
#[inline(always)]
pub unsafe fn socket_cgroup(sock: *const c_void) -> u64 {
    let missing = gauntlet_abi::record::OFFSET_MISSING;
    if offset!(sock_cgroup) == missing || offset!(cgroup_node) == missing || offset!(node_id) == missing {
        return 0;
    }
    // SAFETY: as the caller says; the two pointers are the kernel's own.
    unsafe {
        let cgroup: *const c_void = field(sock, offset!(sock_cgroup));
        if cgroup.is_null() {
            return 0;
        }
        let node: *const c_void = field(cgroup, offset!(cgroup_node));
        if node.is_null() { 0 } else { field(node, offset!(node_id)) }
    }
}

/// Who the two ends of an internet socket are; `None` for other families.
///
/// # Safety
/// As for [`field`].
#[inline(always)]
pub unsafe fn socket_name(sock: *const c_void) -> Option<SocketName> {
    // SAFETY: as the caller says.
    unsafe {
        let family: u16 = field(sock, offset!(sock_family));
        let (local, remote) = if family == AF_INET {
            let local: u32 = field(sock, offset!(sock_rcv_saddr));
            let remote: u32 = field(sock, offset!(sock_daddr));
            (mapped(local.to_ne_bytes()), mapped(remote.to_ne_bytes()))
        } else if family == AF_INET6 {
            (
                address6(sock, offset!(sock_v6_rcv_saddr)),
                address6(sock, offset!(sock_v6_daddr)),
            )
        } else {
            return None;
        };
        let (netns, _) = socket_netns(sock);
        let remote_port: u16 = field(sock, offset!(sock_dport));
        let local_port: u16 = field(sock, offset!(sock_num));
        Some(SocketName {
            local,
            remote,
            local_port,
            remote_port: u16::from_be(remote_port),
            netns,
        })
    }
}

#[inline(always)]
unsafe fn address6(sock: *const c_void, offset: u32) -> Address {
    // SAFETY: as for `field`; two reads, because one may not exceed a register.
    let halves: [u64; 2] = unsafe { [field(sock, offset), field(sock, offset + 8)] };
    let (high, low) = (halves[0].to_ne_bytes(), halves[1].to_ne_bytes());
    [
        high[0], high[1], high[2], high[3], high[4], high[5], high[6], high[7], low[0], low[1], low[2], low[3], low[4],
        low[5], low[6], low[7],
    ]
}

/// Headers of a packet.
#[derive(Clone, Copy)]
pub struct PacketName {
    pub source: Address,
    pub target: Address,
    pub source_port: u16,
    pub target_port: u16,
    /// IP protocol number; 0 for what is not IP.
    pub transport: u8,
    pub tcp_flags: u8,
    pub length_bytes: u32,
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const IPV4_HEADER_MIN: u32 = 20;
const IPV6_HEADER: u32 = 40;

/// Parses the headers of a buffer; `None` for what is no packet of a network (unix sockets, netlink).
#[inline(always)]
pub fn packet_name(skb: u64) -> Option<PacketName> {
    let protocol = u16::from_be(probe(skb, offset!(skb_protocol))?);
    let buffer_length: u32 = probe(skb, offset!(skb_len))?;
    let mut name = PacketName {
        source: [0; 16],
        target: [0; 16],
        source_port: 0,
        target_port: 0,
        transport: 0,
        tcp_flags: 0,
        length_bytes: buffer_length,
    };
    if protocol == ETHERTYPE_ARP {
        return Some(name);
    }
    if protocol != ETHERTYPE_IPV4 && protocol != ETHERTYPE_IPV6 {
        return None;
    }
    let head: u64 = probe(skb, offset!(skb_head))?;
    let network: u16 = probe(skb, offset!(skb_network_header))?;
    let ip = head + u64::from(network);
    let transport_at = if protocol == ETHERTYPE_IPV4 {
        let header: [u8; IPV4_HEADER_MIN as usize] = probe(ip, 0)?;
        if header[0] >> 4 != 4 {
            return None;
        }
        name.source = mapped([header[12], header[13], header[14], header[15]]);
        name.target = mapped([header[16], header[17], header[18], header[19]]);
        name.transport = header[9];
        // A later fragment has no transport header; total length is 0 in packets of segmentation offload.
        let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
        name.length_bytes = if total > 0 { total } else { buffer_length };
        if u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0 {
            return Some(name);
        }
        u32::from(header[0] & 15) * 4
    } else {
        let header: [u8; 8] = probe(ip, 0)?;
        if header[0] >> 4 != 6 {
            return None;
        }
        name.source = probe(ip, 8)?;
        name.target = probe(ip, 24)?;
        name.transport = header[6];
        let payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
        name.length_bytes = if payload > 0 {
            payload + IPV6_HEADER
        } else {
            buffer_length
        };
        IPV6_HEADER
    };
    if name.transport == 6 || name.transport == 17 {
        let ports: [u8; 4] = probe(ip, transport_at)?;
        name.source_port = u16::from_be_bytes([ports[0], ports[1]]);
        name.target_port = u16::from_be_bytes([ports[2], ports[3]]);
    }
    if name.transport == 6 {
        name.tcp_flags = probe(ip, transport_at + 13)?;
    }
    Some(name)
}
