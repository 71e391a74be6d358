//! How many requests a CPU has time to look into, so that the cost of the probes is bounded where the load is not.
//!
//! Does not say what becomes of the others: that is `whole`'s.

use bytemuck::{Pod, Zeroable};

/// How many more requests a CPU may look into. All zeroes is a full one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Budget {
    since_us: u32,
    left: u32,
}

impl Budget {
    /// log2 of the microseconds after which it is filled up: 16.4 ms. All at once, because to look into what was passed over
    /// for a while costs more for the first request than for the next.
    pub(super) const SLICE_SHIFT: u32 = 14;
    const REST_MAX_US: u32 = u32::MAX - 1_000_000;
    /// 3,900 requests a second on each CPU: 780 in a tick of 200 ms, enough to tell latencies and shares by. To look into
    /// one and its answer takes 0.3 µs: an eighth of one per cent of the CPU's time.
    pub const REQUESTS_PER_SLICE: u32 = 64;
    /// What may be saved up: about a second's, so that a burst after some rest is looked into whole.
    pub const REQUESTS_MAX: u32 = 64 * Self::REQUESTS_PER_SLICE;

    /// True if there is time for one more at `now_us`.
    #[inline(always)]
    pub fn take(&mut self, now_us: u32) -> bool {
        let elapsed_us = now_us.wrapping_sub(self.since_us);
        let slices = elapsed_us >> Self::SLICE_SHIFT;
        // Two clocks' stamps are not of one instant: what is a little before is no long rest.
        if slices > 0 && elapsed_us < Self::REST_MAX_US {
            self.since_us = self.since_us.wrapping_add(slices << Self::SLICE_SHIFT);
            let left = self.left + slices * Self::REQUESTS_PER_SLICE;
            self.left = if left < Self::REQUESTS_MAX {
                left
            } else {
                Self::REQUESTS_MAX
            };
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        true
    }
}
