//! Events per hour: exact intervals, the difference of two rates, and the exact test of it.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Gamma};

use super::{Chances, Interval, TAIL_95, first_reached};

/// Events per hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// How many.
    pub count: usize,
    /// In how many hours.
    pub hours: f64,
    /// Lower end of the exact Poisson 95 % interval, per hour.
    pub low_per_hour: f64,
    /// Upper end; for no event the one-sided bound 3.0 / hours. `None`: nothing was watched.
    pub high_per_hour: Option<f64>,
}

/// A rate and its exact Poisson interval.
#[must_use]
pub fn rate_of(count: usize, hours: f64) -> Rate {
    if hours <= 0.0 {
        return Rate {
            count,
            ..Rate::default()
        };
    }
    // No event leaves nothing outside below, so all of the 5 % lies above: ln 20 = 3.0, the rule of three.
    let tail = if count == 0 { 2.0 * TAIL_95 } else { TAIL_95 };
    let mean = exact_mean(count as f64, tail);
    Rate {
        count,
        hours,
        low_per_hour: mean.low / hours,
        high_per_hour: Some(mean.high / hours),
    }
}

/// Garwood's exact interval for the mean of a Poisson variable that was `count` (Garwood, Biometrika 28:437, 1936), by
/// quantiles of the gamma distribution. `count` need not be whole, so that one can ask for a multiple of what was seen.
#[must_use]
pub fn exact_mean(count: f64, tail: f64) -> Interval {
    assert!(count >= 0.0, "count {count}");
    let quantile = |shape: f64, chance: f64| {
        let gamma = Gamma::new(shape, 1.0).expect("a positive shape");
        // Ten standard deviations above the mean, and far enough for the smallest shapes.
        let far = shape + 10.0 * shape.sqrt() + 20.0;
        first_reached(0.0, far, |mean| gamma.cdf(mean) >= chance)
    };
    Interval {
        low: if count == 0.0 { 0.0 } else { quantile(count, tail) },
        high: quantile(count + 1.0, 1.0 - tail),
    }
}

/// Interval for the rate of `second` − that of `first`, each a count and its hours: the distances to the ends of both
/// exact intervals, added like errors (Zou and Donner, Stat. Med. 27:1693, 2008, on single intervals by
/// [`exact_mean`]).
#[must_use]
pub fn rate_difference(first: (f64, f64), second: (f64, f64), tail: f64) -> Interval {
    assert!(first.1 > 0.0 && second.1 > 0.0, "rates need hours");
    let per_hour = |(count, hours): (f64, f64)| (count / hours, exact_mean(count, tail).map(|mean| mean / hours));
    let ((a, a_range), (b, b_range)) = (per_hour(first), per_hour(second));
    Interval {
        low: b - a - (b - b_range.low).hypot(a_range.high - a),
        high: b - a + (b_range.high - b).hypot(a - a_range.low),
    }
}

/// Exact test that two rates are the same: of all events, those of `second` are binomial with its share of the hours
/// (Przyborowski and Wilenski, Biometrika 31:313, 1940).
#[must_use]
pub fn rate_test(first: (u64, f64), second: (u64, f64)) -> Chances {
    assert!(first.1 > 0.0 && second.1 > 0.0, "rates need hours");
    binomial_test(second.0, first.0 + second.0, second.1 / (first.1 + second.1))
}

/// Chances of `hits` or more, and of `hits` or fewer, of `of` with chance `share` each.
#[must_use]
pub fn binomial_test(hits: u64, of: u64, share: f64) -> Chances {
    assert!(hits <= of, "{hits} hits of {of}");
    let binomial = Binomial::new(share, of).expect("a share from 0 to 1");
    Chances {
        as_high: if hits == 0 { 1.0 } else { binomial.sf(hits - 1) },
        as_low: binomial.cdf(hits),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TAIL_90, near};
    use super::*;

    #[test]
    fn exact_intervals_are_those_of_scipy() {
        // scipy: chi2.ppf(tail, 2 * count) / 2 and chi2.ppf(1 - tail, 2 * count + 2) / 2. Garwood's table has 1.09 and
        // 10.24 for a count of 4.
        for (count, low, high) in [
            (4, 1.089_865_373_626_324_9, 10.241_588_675_403_694),
            (20, 12.216_519_585_403_944, 30.888_377_902_674_5),
        ] {
            let found = rate_of(count, 1.0);
            assert!(
                near(found.low_per_hour, low) && near(found.high_per_hour.expect("watched"), high),
                "{found:?}"
            );
        }
        assert!(near(
            rate_of(0, 2.0).high_per_hour.expect("watched"),
            2.995_732_273_553_989_5 / 2.0
        ));
        assert_eq!(rate_of(0, 0.0).high_per_hour, None);
    }

    #[test]
    fn differences_are_those_of_scipy() {
        // The formula in Python over scipy's chi2.ppf.
        let found = rate_difference((1.0, 3.0), (5.0, 2.0), TAIL_90);
        assert!(
            near(found.low, 0.203_916_124_360_564_5) && near(found.high, 4.941_264_549_434_352),
            "{found:?}"
        );
        let found = rate_difference((0.0, 1.25), (0.0, 1.25), TAIL_90);
        assert!(
            near(found.low, -2.396_585_818_843_191_4) && near(found.high, 2.396_585_818_843_191_4),
            "{found:?}"
        );
    }

    #[test]
    fn the_test_of_rates_is_that_of_scipy() {
        // scipy: binomtest(5, 6, 2 / 5, alternative="greater"), binomtest(9, 12, 1 / 2, alternative="greater").
        assert!(near(rate_test((1, 3.0), (5, 2.0)).as_high, 0.040_96));
        assert!(near(rate_test((3, 1.0), (9, 1.0)).as_high, 0.072_998_046_875));
        assert!(near(rate_test((9, 1.0), (3, 1.0)).as_low, 0.072_998_046_875));
        assert_eq!(rate_test((0, 1.0), (0, 2.0)), Chances::CERTAIN);
    }
}
