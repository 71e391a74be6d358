//! The one clock: CLOCK_MONOTONIC, the same that `bpf_ktime_get_ns` reads.

pub use gauntlet_probes::frame::MonotonicNanos;
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC, now.
#[must_use]
pub fn monotonic_ns() -> MonotonicNanos {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC");
    u64::try_from(now.tv_sec()).expect("the clock starts at 0") * 1_000_000_000
        + u64::try_from(now.tv_nsec()).expect("nanoseconds are below 10^9")
}
