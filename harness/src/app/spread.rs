//! Numbers that are spread like random ones and are always the same: no generator, no state.

use std::time::Duration;

/// Spreads every input bit over the output (the finaliser of SplitMix64).
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Between half and one and a half of `mean`, by a sequence that is fixed: connections opened together part.
pub(crate) fn jittered(mean: Duration, index: u64) -> Duration {
    let unit = (mix(index.wrapping_add(0x9e37_79b9_7f4a_7c15)) >> 11) as f64 / (1_u64 << 53) as f64;
    mean.mul_f64(0.5 + unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_spread_around_the_mean() {
        let ages: Vec<f64> = (0..1000)
            .map(|index| jittered(Duration::from_secs(4), index).as_secs_f64())
            .collect();
        assert!(ages.iter().all(|age| (2.0..=6.0).contains(age)));
        let mean = ages.iter().sum::<f64>() / 1000.0;
        assert!((3.8..4.2).contains(&mean), "{mean}");
    }
}
