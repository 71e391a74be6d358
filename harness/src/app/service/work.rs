//! CPU work: a fixed amount of the thread's CPU time, so that a throttled or crowded pod takes longer.

use std::hint::black_box;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::app::spread::mix;

/// Rounds between two looks at the clock: some ten microseconds, against a few hundred nanoseconds for the look.
const ROUNDS: u64 = 8_000;

/// Computes until the thread has used `cpu` more of its CPU time.
pub(crate) fn burn(cpu: Duration) {
    let start = thread_cpu_time();
    let mut bits = 1;
    while thread_cpu_time().saturating_sub(start) < cpu {
        for _ in 0..ROUNDS {
            bits = mix(black_box(bits));
        }
    }
    black_box(bits);
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has the thread's CPU clock");
    time.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_what_it_was_asked_to_use() {
        let start = thread_cpu_time();
        burn(Duration::from_millis(5));
        let used = thread_cpu_time() - start;
        // Never less; more only by one look at the clock, generously counted for an unoptimised build.
        assert!(
            (Duration::from_millis(5)..Duration::from_millis(10)).contains(&used),
            "{used:?}"
        );
    }
}
