//! Layout of everything that crosses the kernel boundary, and the arithmetic that both of its sides must agree on.
//!
//! Knows neither std nor what any of it means.
#![cfg_attr(not(test), no_std)]

pub mod conn;
pub mod l7;
pub mod record;

/// Buckets of a latency histogram: four to the octave, of microseconds, up to about 2^23 µs (8.4 s) and one above.
pub const LATENCY_BUCKETS: usize = 96;

/// Bucket of a duration. Durations of 0 to 3 µs have a bucket each; above, an octave `2^k` has four equal buckets.
#[inline(always)]
#[must_use]
pub const fn latency_bucket(duration_us: u64) -> u8 {
    if duration_us < 4 {
        return duration_us as u8;
    }
    let octave = 63 - duration_us.leading_zeros() as u64;
    let index = (octave - 1) * 4 + ((duration_us >> (octave - 2)) & 3);
    if index >= LATENCY_BUCKETS as u64 {
        LATENCY_BUCKETS as u8 - 1
    } else {
        index as u8
    }
}

/// Smallest duration of a bucket, microseconds.
#[must_use]
pub const fn latency_bucket_floor_us(bucket: u8) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let octave = bucket as u64 / 4 + 1;
    (4 + bucket as u64 % 4) << (octave - 2)
}

#[cfg(test)]
mod tests {
    use super::{LATENCY_BUCKETS, latency_bucket, latency_bucket_floor_us};

    #[test]
    fn a_bucket_starts_at_its_floor_and_ends_below_the_next() {
        for bucket in 0..LATENCY_BUCKETS as u8 - 1 {
            let floor = latency_bucket_floor_us(bucket);
            let next = latency_bucket_floor_us(bucket + 1);
            assert_eq!(latency_bucket(floor), bucket);
            assert_eq!(latency_bucket(next - 1), bucket);
            assert!(floor < next);
        }
        assert_eq!(latency_bucket(u64::MAX), LATENCY_BUCKETS as u8 - 1);
    }
}
