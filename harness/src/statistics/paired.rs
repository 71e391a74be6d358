//! The same cases judged twice: the exact test on the pairs that differ, and intervals for the difference.

use statrs::distribution::{Beta, ContinuousCDF};

use super::poisson::binomial_test;
use super::{Chances, Interval, first_reached, normal_quantile};

/// The exact test of McNemar (Psychometrika 12:153, 1947): of the pairs that differ, as many should have been lost as
/// gained. `as_high` is the chance of at least so many lost: Σ over i ≥ lost of C(lost + gained, i) / 2^(lost +
/// gained).
#[must_use]
pub fn mcnemar(lost: u64, gained: u64) -> Chances {
    binomial_test(lost, lost + gained, 0.5)
}

/// Tango's score interval for (`more` − `fewer`) / `count`, the difference of two paired shares (Stat. Med. 17:891,
/// 1998).
///
/// `more` pairs are hits the second time only, `fewer` the first time only. Counts need not be whole: they may be
/// effective ones. Where no pair differs it is ± z² / (count + z²): it does not collapse, because pairs that were not
/// seen could differ, and it is near the rule of three. No pair at all leaves everything possible.
#[must_use]
pub fn tango(more: f64, fewer: f64, count: f64, tail: f64) -> Interval {
    if count <= 0.0 {
        return Interval { low: -1.0, high: 1.0 };
    }
    assert!(
        more >= 0.0 && fewer >= 0.0 && more + fewer <= count * (1.0 + 1e-9),
        "{more} + {fewer} of {count}"
    );
    let z = normal_quantile(tail);
    let found = ((more - fewer) / count).clamp(-1.0, 1.0);
    Interval {
        low: first_reached(-1.0, found, |difference| {
            tango_score(more, fewer, count, difference) <= z
        }),
        high: first_reached(found, 1.0, |difference| {
            tango_score(more, fewer, count, difference) <= -z
        }),
    }
}

/// Distance of what was seen from `difference`, in standard errors under it; falls with `difference`.
fn tango_score(more: f64, fewer: f64, count: f64, difference: f64) -> f64 {
    // The maximum-likelihood share of `fewer` if the difference is this one: the larger root of a quadratic.
    let a = 2.0 * count;
    let b = -more - fewer + (2.0 * count - more + fewer) * difference;
    let c = -fewer * difference * (1.0 - difference);
    let share = ((b * b - 4.0 * a * c).max(0.0).sqrt() - b) / (2.0 * a);
    let variance = count * (2.0 * share + difference * (1.0 - difference));
    let distance = more - fewer - count * difference;
    if variance > 1e-12 * count {
        distance / variance.sqrt()
    } else if distance.abs() < 1e-9 {
        0.0
    } else {
        distance * f64::INFINITY
    }
}

/// Interval for `more` − `fewer` given that `more` + `fewer` things differ: the exact interval of Clopper and Pearson
/// (Biometrika 26:404, 1934) for the share of `more`, which is what inverting [`mcnemar`] gives.
///
/// It says nothing about how many differ: where none does it is 0 to 0.
#[must_use]
pub fn conditional_difference(more: f64, fewer: f64, tail: f64) -> Interval {
    let differing = more + fewer;
    let quantile = |a: f64, b: f64, chance: f64| Beta::new(a, b).expect("positive shapes").inverse_cdf(chance);
    let share = Interval {
        low: if more == 0.0 {
            0.0
        } else {
            quantile(more, fewer + 1.0, tail)
        },
        high: if fewer == 0.0 {
            1.0
        } else {
            quantile(more + 1.0, fewer, 1.0 - tail)
        },
    };
    share.map(|share| (2.0 * share - 1.0) * differing)
}

#[cfg(test)]
mod tests {
    use super::super::{TAIL_90, TAIL_95, near};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mcnemar_is_that_of_scipy() {
        // scipy: binomtest(lost, lost + gained, 0.5, alternative="greater").
        for (lost, gained, chance) in [
            (9, 1, 0.010_742_187_5),
            (5, 0, 0.031_25),
            (6, 2, 0.144_531_25),
            (3, 7, 0.945_312_5),
            (13, 10, 0.338_819_742_202_758_8),
        ] {
            assert!(near(mcnemar(lost, gained).as_high, chance), "{lost} {gained}");
            assert!(near(mcnemar(gained, lost).as_low, chance), "{lost} {gained}");
        }
        assert_eq!(mcnemar(0, 0), Chances::CERTAIN);
    }

    #[test]
    fn tango_is_that_of_the_literature() {
        // Fagerland, Lydersen and Laake (Stat. Med. 33:2850, 2014), airway hyper-responsiveness: 1 and 7 of 21 give
        // −0.517 to −0.026; the digits, and the other rows, are roots of Tango's equation by scipy's brentq.
        for (more, fewer, count, tail, low, high) in [
            (
                1.0,
                7.0,
                21.0,
                TAIL_95,
                -0.517_232_276_421_265,
                -0.026_003_032_480_949_26,
            ),
            (
                14.0,
                1.0,
                15.0,
                TAIL_95,
                0.403_669_402_524_399_76,
                0.976_266_209_013_465_3,
            ),
            (
                16.0,
                4.0,
                30.0,
                TAIL_95,
                0.114_761_643_835_553_83,
                0.618_491_332_826_623_7,
            ),
            (
                5.0,
                2.0,
                150.0,
                TAIL_90,
                -0.010_782_905_662_166_239,
                0.055_467_797_191_451_645,
            ),
        ] {
            let found = tango(more, fewer, count, tail);
            assert!(
                (found.low - low).abs() < 1e-7 && (found.high - high).abs() < 1e-7,
                "{found:?}"
            );
        }
    }

    #[test]
    fn pairs_that_never_differ_leave_a_doubt_that_shrinks_with_their_number() {
        let z = normal_quantile(TAIL_90);
        for count in [20.0, 59.0, 150.0] {
            let found = tango(0.0, 0.0, count, TAIL_90);
            let half = z * z / (count + z * z);
            assert!(
                (found.low + half).abs() < 1e-9 && (found.high - half).abs() < 1e-9,
                "{found:?}"
            );
        }
        assert_eq!(tango(0.0, 0.0, 0.0, TAIL_90), Interval { low: -1.0, high: 1.0 });
    }

    #[test]
    fn the_conditional_interval_is_clopper_and_pearson() {
        // scipy: binomtest(2, 5).proportion_ci(0.9, "exact") is 0.0764… to 0.8107….
        let found = conditional_difference(2.0, 3.0, TAIL_90);
        assert!(
            near(found.low, (2.0 * 0.076_440_391_412_329_2 - 1.0) * 5.0),
            "{found:?}"
        );
        assert!(near(found.high, (2.0 * 0.810_744_622_562_229 - 1.0) * 5.0), "{found:?}");
        assert_eq!(
            conditional_difference(0.0, 0.0, TAIL_90),
            Interval { low: 0.0, high: 0.0 }
        );
        assert!(near(conditional_difference(1.0, 0.0, TAIL_90).high, 1.0));
    }

    proptest! {
        #[test]
        fn exchanged_sides_turn_the_intervals(more in 0_u32..20, fewer in 0_u32..20, same in 0_u32..60) {
            let (more, fewer, count) = (f64::from(more), f64::from(fewer), f64::from(more + fewer + same));
            let (there, back) = (tango(more, fewer, count, TAIL_90), tango(fewer, more, count, TAIL_90));
            prop_assert!((there.low + back.high).abs() < 1e-6 && (there.high + back.low).abs() < 1e-6, "{there:?} {back:?}");
            let (there, back) =
                (conditional_difference(more, fewer, TAIL_90), conditional_difference(fewer, more, TAIL_90));
            prop_assert!((there.low + back.high).abs() < 1e-6 && (there.high + back.low).abs() < 1e-6);
        }

        #[test]
        fn a_lost_pair_more_never_helps(lost in 0_u64..20, gained in 0_u64..20) {
            prop_assert!(mcnemar(lost + 1, gained).as_high < mcnemar(lost, gained).as_high);
        }
    }
}
