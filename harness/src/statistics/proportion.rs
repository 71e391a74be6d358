//! Shares of independent trials: Wilson's interval, and Newcombe's for a difference.
//!
//! Does not pair trials; see [`super::paired`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Interval, TAIL_95, normal_quantile};

/// A share with its 95 % interval (Wilson).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proportion {
    /// How many.
    pub hits: usize,
    /// Of how many.
    pub of: usize,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Proportion {
    /// `hits` of `of`. Of nothing, everything is possible.
    #[must_use]
    pub fn new(hits: usize, of: usize) -> Self {
        assert!(hits <= of, "{hits} hits of {of}");
        let share = if of == 0 { 0.0 } else { hits as f64 / of as f64 };
        let Interval { low, high } = wilson(share, of as f64, TAIL_95);
        Self { hits, of, low, high }
    }

    /// The share itself; `None` of nothing.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        (self.of > 0).then(|| self.hits as f64 / self.of as f64)
    }
}

/// Wilson's score interval for a share seen in `count` trials (Wilson, J. Am. Stat. Assoc. 22:209, 1927), without
/// continuity correction. `count` need not be whole: it may be an effective number. Of nothing, everything is possible.
#[must_use]
pub fn wilson(share: f64, count: f64, tail: f64) -> Interval {
    assert!((-1e-12..=1.0 + 1e-12).contains(&share), "share {share}");
    if count <= 0.0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let share = share.clamp(0.0, 1.0);
    let z = normal_quantile(tail);
    let scale = 1.0 + z * z / count;
    let middle = (share + z * z / (2.0 * count)) / scale;
    let half = z / scale * (share * (1.0 - share) / count + z * z / (4.0 * count * count)).sqrt();
    Interval {
        low: (middle - half).clamp(0.0, share),
        high: (middle + half).clamp(share, 1.0),
    }
}

/// Newcombe's hybrid score interval for `second` − `first`, each a share and its number of trials (Newcombe, Stat. Med.
/// 17:873, 1998, method 10): the distances to the ends of both Wilson intervals, added like errors.
#[must_use]
pub fn newcombe(first: (f64, f64), second: (f64, f64), tail: f64) -> Interval {
    let (a, b) = (wilson(first.0, first.1, tail), wilson(second.0, second.1, tail));
    let difference = second.0 - first.0;
    Interval {
        low: difference - (second.0 - b.low).hypot(a.high - first.0),
        high: difference + (b.high - second.0).hypot(first.0 - a.low),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TAIL_90, near};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wilson_is_that_of_statsmodels() {
        // statsmodels: proportion_confint(hits, of, 0.05, "wilson"); 81 of 263 is Newcombe's own example.
        for (hits, of, low, high) in [
            (5, 5, 0.565_517_535_216_825_2, 1.0),
            (5, 10, 0.236_593_090_512_563_94, 0.763_406_909_487_436_1),
            (81, 263, 0.255_288_519_878_274_2, 0.366_209_576_982_800_04),
            (0, 20, 0.0, 0.161_125_158_052_819_3),
        ] {
            let found = Proportion::new(hits, of);
            assert!(near(found.low, low) && near(found.high, high), "{found:?}");
        }
        assert_eq!((Proportion::new(0, 0).low, Proportion::new(0, 0).high), (0.0, 1.0));
    }

    #[test]
    fn newcombe_is_that_of_the_paper() {
        // Newcombe 1998, table II, case a: 56 of 70 against 48 of 80 gives 0.0524 to 0.3339; the digits are
        // statsmodels' confint_proportions_2indep(56, 70, 48, 80, method="newcomb", correction=False).
        let found = newcombe((48.0 / 80.0, 80.0), (56.0 / 70.0, 70.0), TAIL_95);
        assert!(
            near(found.low, 0.052_431_472_402_364_98) && near(found.high, 0.333_872_654_036_906_14),
            "{found:?}"
        );
        let found = newcombe((139.0 / 150.0, 150.0), (142.0 / 150.0, 150.0), TAIL_90);
        assert!(
            near(found.low, -0.027_862_669_322_102_17) && near(found.high, 0.068_839_609_754_514_47),
            "{found:?}"
        );
    }

    proptest! {
        #[test]
        fn exchanged_arms_turn_the_interval(a in 0_u32..=40, b in 0_u32..=30) {
            let (first, second) = ((f64::from(a) / 40.0, 40.0), (f64::from(b) / 30.0, 30.0));
            let (there, back) = (newcombe(first, second, TAIL_90), newcombe(second, first, TAIL_90));
            prop_assert!(near(there.low, -back.high) && near(there.high, -back.low));
            prop_assert!(there.low <= second.0 - first.0 && second.0 - first.0 <= there.high);
        }

        #[test]
        fn more_trials_narrow_it_and_more_hits_raise_it(hits in 0_usize..50) {
            let (few, many) = (Proportion::new(hits, 50), Proportion::new(4 * hits, 200));
            prop_assert!(many.high - many.low < few.high - few.low);
            prop_assert!(Proportion::new(hits + 1, 50).low > few.low);
        }
    }
}
