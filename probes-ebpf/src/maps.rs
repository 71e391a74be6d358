//! The maps, and the counting of what found no room in them.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use gauntlet_abi::conn::{CONNECTIONS_MAX, Conn};
use gauntlet_abi::l7::Budget;
use gauntlet_abi::record::{
    DNS_PAIRS_MAX, DNS_QUERIES_MAX, DnsCounts, DnsPair, DnsQuery, DnsQueryKey, EVENTS_BYTES, LOST_COUNTERS,
    LOST_RECORDS, RECORDS_MAX, RecordKey, RecordValue,
};

/// TCP connections by socket cookie.
#[map]
pub static CONNS: HashMap<u64, Conn> = HashMap::with_max_entries(CONNECTIONS_MAX, 0);

/// One zero [`Conn`], never written: it is too large for the stack, and scratch space can be overrun by an interrupt.
#[map]
pub static CONN_ZERO: Array<Conn> = Array::with_max_entries(1, 0);

/// Drops, resets and the like.
#[map]
pub static RECORDS: HashMap<RecordKey, RecordValue> = HashMap::with_max_entries(RECORDS_MAX, 0);

/// Look-ups by client and name server.
#[map]
pub static DNS_PAIRS: HashMap<DnsPair, DnsCounts> = HashMap::with_max_entries(DNS_PAIRS_MAX, 0);

/// One zero [`DnsCounts`], never written.
#[map]
pub static DNS_ZERO: Array<DnsCounts> = Array::with_max_entries(1, 0);

/// Questions under way. The oldest give way: user space counts them as unanswered long before.
#[map]
pub static DNS_QUERIES: LruHashMap<DnsQueryKey, DnsQuery> = LruHashMap::with_max_entries(DNS_QUERIES_MAX, 0);

/// Starts and ends of processes.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// How many more requests each CPU may look into.
#[map]
pub static LOOKS: PerCpuArray<Budget> = PerCpuArray::with_max_entries(1, 0);

/// Network namespaces whose sockets are wanted.
#[map]
pub static NETNS: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

/// Cgroups (v2) whose processes are wanted.
#[map]
pub static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(1024, 0);

/// Processes that the kernel chose as victims of a memory shortage, until they end.
#[map]
pub static OOM_VICTIMS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(256, 0);

/// What found no room, by `LOST_…`.
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(LOST_COUNTERS, 0);

/// Counts one thing that found no room.
#[inline(always)]
pub fn count_lost(counter: u32) {
    if let Some(count) = LOST.get_ptr_mut(counter) {
        // SAFETY: the map's memory outlives the program, and each CPU has its own counter.
        unsafe { *count += 1 };
    }
}

/// Adds `value` to a counter that several CPUs may write.
///
/// # Safety
/// `counter` points into a map value.
#[inline(always)]
pub unsafe fn add_u64(counter: *mut u64, value: u64) {
    // SAFETY: as the caller says; values of maps are aligned to 8 bytes.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, value) };
}

/// Adds one to a counter that several CPUs may write.
///
/// # Safety
/// `counter` points into a map value.
#[inline(always)]
pub unsafe fn add_one_u32(counter: *mut u32) {
    // SAFETY: as the caller says; fields are aligned.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(counter, 1) };
}

/// Counts one occurrence of `key`.
#[inline(always)]
pub fn record(key: &RecordKey, is_syn: bool, length_bytes: u32, other_port: u16) {
    if let Some(value) = RECORDS.get_ptr_mut(key) {
        // SAFETY: a pointer into a map value; a racing maximum may be lost, counts may not.
        unsafe {
            add_u64(&raw mut (*value).count, 1);
            if is_syn {
                add_u64(&raw mut (*value).syn_count, 1);
            }
            if length_bytes > (*value).length_bytes_max {
                (*value).length_bytes_max = length_bytes;
            }
            (*value).other_port = u32::from(other_port);
        }
        return;
    }
    let first = RecordValue {
        count: 1,
        syn_count: u64::from(is_syn),
        length_bytes_max: length_bytes,
        other_port: u32::from(other_port),
    };
    const NO_EXIST: u64 = 1;
    if RECORDS.insert(key, &first, NO_EXIST).is_ok() {
        return;
    }
    // Another CPU was first, or the table is full.
    if let Some(value) = RECORDS.get_ptr_mut(key) {
        // SAFETY: a pointer into a map value.
        unsafe { add_u64(&raw mut (*value).count, 1) };
        if is_syn {
            // SAFETY: a pointer into a map value.
            unsafe { add_u64(&raw mut (*value).syn_count, 1) };
        }
    } else {
        count_lost(LOST_RECORDS);
    }
}
