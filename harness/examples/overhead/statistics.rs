//! Medians, and ratios of paired measurements with a bootstrap interval.
//!
//! The pairing is kept: rounds are drawn, never arms. Knows nothing of what was measured.

use rand::Rng;
use serde::Serialize;

/// Resamples behind an interval.
const RESAMPLES: usize = 4_000;

/// The median of the rounds' ratios, and where it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// Median over the rounds.
    pub(crate) median: f64,
    /// Lower end of the interval.
    pub(crate) low: f64,
    /// Upper end of the interval.
    pub(crate) high: f64,
}

/// The value in the middle; of an even number, the mean of the two.
///
/// # Panics
/// When there is no value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    f64::midpoint(below, above)
}

/// Ratio of `on` to `off`, round by round; `None` if a ratio is not a number (nothing was measured in `off`).
pub(crate) fn paired_ratio(off: &[f64], on: &[f64], rng: &mut impl Rng) -> Option<Ratio> {
    assert_eq!(off.len(), on.len(), "arms come in pairs");
    let ratios: Vec<f64> = off.iter().zip(on).map(|(off, on)| on / off).collect();
    if ratios.is_empty() || ratios.iter().any(|ratio| !ratio.is_finite()) {
        return None;
    }
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<f64> = ratios
                .iter()
                .map(|_| ratios[rng.random_range(0..ratios.len())])
                .collect();
            median(&drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let tail = RESAMPLES / 40;
    Some(Ratio {
        median: median(&ratios),
        low: medians[tail],
        high: medians[RESAMPLES - 1 - tail],
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn equal_ratios_have_no_width_and_drift_of_both_arms_does_not_matter() {
        let off = [1.0, 10.0, 100.0, 1000.0];
        let on = off.map(|value| value * 1.5);
        let ratio = paired_ratio(&off, &on, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert_eq!(
            ratio,
            Ratio {
                median: 1.5,
                low: 1.5,
                high: 1.5
            }
        );
    }

    #[test]
    fn the_interval_holds_the_median_and_is_the_same_for_the_same_seed() {
        let off = [1.0; 8];
        let on = [0.9, 1.0, 1.1, 1.05, 0.95, 1.2, 0.8, 1.0];
        let ratio = |seed| paired_ratio(&off, &on, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
        assert_eq!(ratio(7), ratio(7));
        assert!(ratio(7).low < 1.0 && 1.0 < ratio(7).high, "{:?}", ratio(7));
    }

    #[test]
    fn nothing_measured_is_no_ratio() {
        assert_eq!(
            paired_ratio(&[0.0, 1.0], &[1.0, 1.0], &mut ChaCha8Rng::seed_from_u64(1)),
            None
        );
    }
}
