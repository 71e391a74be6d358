//! Times of which some were not reached: Kaplan–Meier, and the restricted mean.
//!
//! An end is (nanoseconds, whether it was reached); not reached means right-censored there.

use serde::{Deserialize, Serialize};

use super::mean;

/// Times of which some were not reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// Number of times, reached or not.
    pub count: usize,
    /// Number of those reached.
    pub reached: usize,
    /// Median by Kaplan–Meier.
    pub median: Quantile,
    /// 90th percentile by Kaplan–Meier.
    pub p90: Quantile,
    /// Mean of the times, each cut where watching ended: never the mean of the successes alone.
    pub restricted_mean_ns: Option<f64>,
}

/// A quantile of times of which some were not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Quantile {
    /// So many were reached.
    At {
        /// By this time.
        after_ns: u64,
    },
    /// Fewer were reached while they were watched.
    Beyond {
        /// The longest watching.
        observed_for_ns: u64,
    },
}

/// One step of a Kaplan–Meier curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// From this time on.
    pub after_ns: u64,
    /// Estimated share of those that are still not there.
    pub waiting: f64,
}

/// Sums up times.
#[must_use]
pub fn times(ends: impl IntoIterator<Item = (u64, bool)>) -> Times {
    let ends = sorted(ends);
    let values: Vec<f64> = ends.iter().map(|(end_ns, _)| *end_ns as f64).collect();
    let curve = steps(&ends);
    let watched_ns = ends.last().map_or(0, |(end_ns, _)| *end_ns);
    Times {
        count: ends.len(),
        reached: ends.iter().filter(|(_, reached)| *reached).count(),
        median: quantile(&curve, 0.5, watched_ns),
        p90: quantile(&curve, 0.9, watched_ns),
        restricted_mean_ns: mean(&values),
    }
}

/// The Kaplan–Meier estimate (J. Am. Stat. Assoc. 53:457, 1958): one step for each time that was reached, falling from
/// 1.
#[must_use]
pub fn curve(ends: impl IntoIterator<Item = (u64, bool)>) -> Vec<Step> {
    steps(&sorted(ends))
}

/// At equal times those reached come first, as Kaplan and Meier have it.
fn sorted(ends: impl IntoIterator<Item = (u64, bool)>) -> Vec<(u64, bool)> {
    let mut ends: Vec<_> = ends.into_iter().collect();
    ends.sort_by_key(|(end_ns, reached)| (*end_ns, !reached));
    ends
}

fn steps(ends: &[(u64, bool)]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut waiting = 1.0;
    for (index, (after_ns, _)) in ends.iter().enumerate().filter(|(_, (_, reached))| *reached) {
        waiting *= 1.0 - 1.0 / (ends.len() - index) as f64;
        let step = Step {
            after_ns: *after_ns,
            waiting,
        };
        match steps.last_mut() {
            Some(last) if last.after_ns == *after_ns => *last = step,
            _ => steps.push(step),
        }
    }
    steps
}

/// First time at which those still waiting are no more than `1 - share`.
fn quantile(curve: &[Step], share: f64, watched_ns: u64) -> Quantile {
    // Rounding must not push an exact half past the half.
    match curve.iter().find(|step| step.waiting <= 1.0 - share + 1e-9) {
        Some(step) => Quantile::At {
            after_ns: step.after_ns,
        },
        None => Quantile::Beyond {
            observed_for_ns: watched_ns,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::near;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_curve_is_that_of_lifelines() {
        // Remission of leukaemia under 6-MP in weeks (Freireich et al., Blood 21:699, 1963; the example of most
        // textbooks): lifelines' KaplanMeierFitter, median 23 as published.
        let reached = [6, 6, 6, 7, 10, 13, 16, 22, 23].map(|week| (week, true));
        let censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35].map(|week| (week, false));
        let ends = || reached.into_iter().chain(censored);
        let expected = [
            (6, 0.857_142_857_142_857),
            (7, 0.806_722_689_075_629_9),
            (10, 0.752_941_176_470_588_2),
            (13, 0.690_196_078_431_372_2),
            (16, 0.627_450_980_392_156_7),
            (22, 0.537_815_126_050_419_9),
            (23, 0.448_179_271_708_683_27),
        ];
        let found = curve(ends());
        assert_eq!(found.len(), expected.len());
        for (step, (after_ns, waiting)) in found.iter().zip(expected) {
            assert!(step.after_ns == after_ns && near(step.waiting, waiting), "{step:?}");
        }
        let all = times(ends());
        assert_eq!(
            (all.median, all.p90),
            (Quantile::At { after_ns: 23 }, Quantile::Beyond { observed_for_ns: 35 })
        );
    }

    #[test]
    fn without_censoring_it_is_the_sample() {
        // The placebo arm of the same trial: lifelines gives a median of 8 weeks, a 90th percentile of 17.
        let weeks = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23];
        let all = times(weeks.map(|week| (week, true)));
        assert_eq!(
            (all.median, all.p90),
            (Quantile::At { after_ns: 8 }, Quantile::At { after_ns: 17 })
        );
        assert!(near(all.restricted_mean_ns.expect("some"), 8.666_666_666_666_666));
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_watching_longer_never_shortens(
            mut ends in proptest::collection::vec((1_u64..50, any::<bool>()), 1..20)
        ) {
            let before = times(ends.iter().copied());
            ends.reverse();
            prop_assert_eq!(before, times(ends.iter().copied()));
            let longer = times(ends.iter().map(|(end_ns, reached)| (end_ns + u64::from(!reached), *reached)));
            prop_assert!(longer.restricted_mean_ns >= before.restricted_mean_ns);
        }
    }
}
