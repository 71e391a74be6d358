//! Intervals and tests: pure functions on numbers, deterministic, each with the source of its formula.
//!
//! Does not know runs, scenarios or detectors; see [`crate::score::summary`] and [`crate::gate`] for what is measured.
//! Distributions are those of `statrs`. Values in tests were computed independently: scipy 1.17.1, statsmodels 0.15.0,
//! lifelines 0.30.3.

pub mod proportion;
pub mod poisson;
pub mod survival;
pub mod bootstrap;
pub mod weights;
pub mod paired;
pub mod ranks;
pub mod stratified;
pub mod means;
pub mod permutation;
pub mod holm;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// Chance that a 95 % interval leaves outside on each side.
pub const TAIL_95: f64 = 0.025;

/// Chance that a 90 % interval leaves outside on each side: each end alone is a bound at the 5 % level.
pub const TAIL_90: f64 = 0.05;

/// A range that holds the true value with a stated chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// The same range of another quantity, of which each value is `scale` of this one's; `scale` must not fall.
    #[must_use]
    pub fn map(self, scale: impl Fn(f64) -> f64) -> Self {
        Self {
            low: scale(self.low),
            high: scale(self.high),
        }
    }
}

/// Both one-sided chances of something at least as extreme as what was seen, if there is no difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chances {
    /// Of a value at least as high.
    pub as_high: f64,
    /// Of a value at least as low.
    pub as_low: f64,
}

impl Chances {
    /// Of what must happen: nothing speaks for a difference.
    pub const CERTAIN: Self = Self {
        as_high: 1.0,
        as_low: 1.0,
    };

    /// Chances in the opposite direction.
    #[must_use]
    pub fn turned(self) -> Self {
        Self {
            as_high: self.as_low,
            as_low: self.as_high,
        }
    }

    /// Two-sided: twice the smaller one.
    #[must_use]
    pub fn two_sided(self) -> f64 {
        (2.0 * self.as_high.min(self.as_low)).min(1.0)
    }
}

/// The value that a standard normal variable exceeds with chance `tail`.
///
/// `tail` must lie between 0 and 1.
#[must_use]
pub fn normal_quantile(tail: f64) -> f64 {
    assert!(tail > 0.0 && tail < 1.0, "tail {tail}");
    -Normal::standard().inverse_cdf(tail)
}

/// Chance that a standard normal variable exceeds `value`.
#[must_use]
pub fn normal_tail(value: f64) -> f64 {
    Normal::standard().sf(value)
}

/// Mean of `values`; `None` of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Smallest argument in `low..=high` for which `reached` holds, to the last bits; it must hold from some point on.
pub(crate) fn first_reached(mut low: f64, mut high: f64, reached: impl Fn(f64) -> bool) -> f64 {
    // A double has 53 bits.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if reached(middle) { high = middle } else { low = middle }
    }
    high
}

#[cfg(test)]
pub(crate) fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-9 * expected.abs().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_that_of_scipy() {
        // scipy: norm.ppf(0.975), norm.ppf(0.95), norm.sf(1.2815515655446004).
        assert!(near(normal_quantile(TAIL_95), 1.959_963_984_540_054));
        assert!(near(normal_quantile(TAIL_90), 1.644_853_626_951_472_2));
        assert!(near(normal_tail(1.281_551_565_544_600_4), 0.1));
    }

    #[test]
    fn two_sided_chances_are_at_most_one() {
        let chances = Chances {
            as_high: 0.02,
            as_low: 0.99,
        };
        assert!(near(chances.two_sided(), 0.04) && near(chances.turned().two_sided(), 0.04));
        assert!(near(Chances::CERTAIN.two_sided(), 1.0));
    }
}
