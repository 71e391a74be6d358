//! Name look-ups over UDP, seen at the client's socket and recognised by their bytes.

use core::hint::black_box;

use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_ktime_get_ns};
use aya_ebpf::programs::SkBuffContext;
use gauntlet_abi::conn::Address;
use gauntlet_abi::l7::dns;
use gauntlet_abi::record::{DnsPair, DnsQuery, DnsQueryKey, LOST_RECORDS};

use crate::l7::SegmentPayload;
use crate::maps::{DNS_PAIRS, DNS_QUERIES, DNS_ZERO, add_one_u32, add_u64, count_lost};

const CODE_NXDOMAIN: u8 = 3;

/// Looks at the payload of one datagram, at `offset` of the buffer.
#[inline(always)]
pub fn datagram(ctx: &SkBuffContext, cookie: u64, ends: (&Address, &Address), offset: u32, egress: bool) {
    let length = ctx.len().saturating_sub(offset);
    let payload = SegmentPayload {
        skb: ctx.skb.skb,
        base: offset,
    };
    let Some(message) = dns::message(&payload, length) else {
        return;
    };
    let key = DnsQueryKey {
        cookie,
        transaction: u32::from(message.id),
        reserved: 0,
    };
    // Questions that come in and answers that go out are a server's own view: the client's is counted.
    match (message.role, egress) {
        (dns::Role::Query, true) => asked(ctx, &key, ends),
        (dns::Role::Response, false) => answered(&key, message.code),
        (dns::Role::Query, false) | (dns::Role::Response, true) => (),
    }
}

#[inline(always)]
fn asked(ctx: &SkBuffContext, key: &DnsQueryKey, (client, server): (&Address, &Address)) {
    // SAFETY: the context of a cgroup_skb program.
    let netns_cookie = unsafe { bpf_get_netns_cookie(ctx.skb.skb.cast()) };
    let pair = DnsPair {
        netns_cookie,
        client: *client,
        server: *server,
    };
    let counts = match DNS_PAIRS.get_ptr_mut(&pair) {
        Some(counts) => counts,
        None => {
            let Some(zero) = DNS_ZERO.get_ptr(0) else { return };
            // SAFETY: a pointer into a map value that nobody writes.
            let _ = DNS_PAIRS.insert(&pair, unsafe { &*zero }, 1);
            let Some(counts) = DNS_PAIRS.get_ptr_mut(&pair) else {
                count_lost(LOST_RECORDS);
                return;
            };
            counts
        }
    };
    // SAFETY: a pointer into a map value, and a helper without preconditions.
    let asked_ns = unsafe {
        add_u64(&raw mut (*counts).queries, 1);
        bpf_ktime_get_ns()
    };
    let _ = DNS_QUERIES.insert(key, &DnsQuery { asked_ns, pair }, 0);
}

#[inline(always)]
fn answered(key: &DnsQueryKey, code: u8) {
    let Some(query) = DNS_QUERIES.get_ptr(key) else { return };
    // SAFETY: pointers into map values, and a helper without preconditions.
    unsafe {
        let pair = (*query).pair;
        let duration_us = bpf_ktime_get_ns().saturating_sub((*query).asked_ns) / 1000;
        let _ = DNS_QUERIES.remove(key);
        let Some(counts) = DNS_PAIRS.get_ptr_mut(&pair) else {
            return;
        };
        add_u64(&raw mut (*counts).responses, 1);
        if code == CODE_NXDOMAIN {
            add_u64(&raw mut (*counts).nxdomain, 1);
        } else if code != 0 {
            add_u64(&raw mut (*counts).failures, 1);
        }
        // The compiler knows that a bucket is in range; the verifier must see for itself.
        let bucket = black_box(usize::from(gauntlet_abi::latency_bucket(duration_us)));
        if bucket < gauntlet_abi::LATENCY_BUCKETS {
            add_one_u32((&raw mut (*counts).latency).cast::<u32>().add(bucket));
        }
    }
}
