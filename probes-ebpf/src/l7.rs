//! Runs the protocol parser of `gauntlet_abi::l7` over a segment in the kernel.
//!
//! One `bpf_loop` call per segment, one token per iteration. Deduplication is its caller's.

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_loop, bpf_skb_load_bytes},
};
use gauntlet_abi::l7::{self, Cursor, Direction, L7State, Payload};

use crate::maps::LOOKS;

/// A segment's payload within its packet.
pub struct SegmentPayload {
    pub skb: *mut __sk_buff,
    /// Where in the packet the payload (or its part that is new) starts.
    pub base: u32,
}

impl Payload for SegmentPayload {
    #[inline(always)]
    fn load<const MAX: u32>(&self, offset: u32, into: &mut [u8]) -> bool {
        // The verifier must see for itself that the length is not 0: LLVM knows, and would drop a plain check.
        let length = black_box(into.len() as u32);
        if length == 0 || length > MAX {
            return false;
        }
        // SAFETY: `into` is valid for its length, and the helper checks the packet's bounds.
        let result = unsafe {
            bpf_skb_load_bytes(
                self.skb.cast::<c_void>(),
                self.base + offset,
                into.as_mut_ptr().cast::<c_void>(),
                length,
            )
        };
        result == 0
    }

    #[inline(always)]
    fn load_array<const N: usize>(&self, offset: u32, into: &mut [u8; N]) -> bool {
        // SAFETY: `into` is valid for its length, and the helper checks the packet's bounds.
        let result = unsafe {
            bpf_skb_load_bytes(
                self.skb.cast::<c_void>(),
                self.base + offset,
                into.as_mut_ptr().cast::<c_void>(),
                N as u32,
            )
        };
        result == 0
    }
}

/// What the loop's iterations share.
struct Walk {
    payload: SegmentPayload,
    state: *mut L7State,
    cursor: Cursor,
}

/// Takes in a segment: `length` bytes of payload at `base`, seen at about `seen_ns`; `at_ns` says when exactly, and is asked
/// only if that is wanted. `acknowledged` as for [`l7::pass_over`].
///
/// # Safety
/// `skb` is the program's context, `state` points into a map value.
#[inline(always)]
pub unsafe fn follow(
    skb: *mut __sk_buff,
    (base, length): (u32, u32),
    state: *mut L7State,
    direction: Direction,
    (seen_ns, acknowledged): (u64, u32),
    at_ns: impl FnOnce() -> u64,
) {
    // SAFETY: a map value, as the caller says.
    if l7::pass_over(unsafe { &mut *state }, direction, seen_ns, acknowledged, may_look) {
        return;
    }
    let now_ns = at_ns();
    let mut walk = Walk {
        payload: SegmentPayload { skb, base },
        state,
        cursor: Cursor::new(length, now_ns),
    };
    // SAFETY: a map value, as the caller says.
    if l7::at_once(unsafe { &mut *state }, &mut walk.cursor, &walk.payload, direction) {
        return;
    }
    let step: extern "C" fn(u32, *mut Walk) -> i64 = match direction {
        Direction::ToServer => to_server,
        Direction::ToClient => to_client,
    };
    // SAFETY: the callback's context is this frame's, alive through the call.
    unsafe {
        bpf_loop(l7::STEP_LIMIT, step as *mut c_void, (&raw mut walk).cast::<c_void>(), 0);
        l7::finish(&mut *state, &walk.cursor, direction);
    }
}

/// An interrupt may count between another program's look and its step: then one more is looked into.
#[inline(always)]
fn may_look(now_us: u32) -> bool {
    match LOOKS.get_ptr_mut(0) {
        // SAFETY: a map value of this CPU.
        Some(budget) => unsafe { (*budget).take(now_us) },
        None => true,
    }
}

extern "C" fn to_server(_index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the pointer that `follow` gave to the loop.
    let walk = unsafe { &mut *walk };
    // SAFETY: a map value, which outlives the program's run.
    l7::step_to_server(unsafe { &mut *walk.state }, &mut walk.cursor, &walk.payload);
    i64::from(walk.cursor.is_done())
}

extern "C" fn to_client(_index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the pointer that `follow` gave to the loop.
    let walk = unsafe { &mut *walk };
    // SAFETY: a map value, which outlives the program's run.
    l7::step_to_client(unsafe { &mut *walk.state }, &mut walk.cursor, &walk.payload);
    i64::from(walk.cursor.is_done())
}
