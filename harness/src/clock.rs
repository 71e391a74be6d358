//! The one clock: CLOCK_MONOTONIC, the same that `bpf_ktime_get_ns` and the probes read.

pub use gauntlet_probes::frame::MonotonicNanos;
pub use gauntlet_probes::monotonic_ns;
