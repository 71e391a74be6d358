//! The signed-rank test: whether paired differences lean to one side.

use super::{Chances, normal_tail};

/// Number of differences up to which the test is exact, as in scipy; beyond, the normal distribution is near enough.
const EXACT_COUNT_MAX: usize = 50;

/// Wilcoxon's signed-rank test (Biometrics Bulletin 1:80, 1945). Differences of 0 say nothing and are left out; equal
/// sizes share their mean rank. Exact, ties included, up to 50 differences; beyond, by the normal distribution with the
/// variance that the ranks have.
#[must_use]
pub fn signed_rank(differences: &[f64]) -> Chances {
    let mut differing: Vec<f64> = differences.iter().copied().filter(|value| *value != 0.0).collect();
    if differing.is_empty() {
        return Chances::CERTAIN;
    }
    differing.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let ranks = doubled_ranks(&differing);
    let positive: usize = differing
        .iter()
        .zip(&ranks)
        .filter(|(value, _)| **value > 0.0)
        .map(|(_, rank)| rank)
        .sum();
    if differing.len() <= EXACT_COUNT_MAX {
        exact(&ranks, positive)
    } else {
        normal(&ranks, positive)
    }
}

/// Ranks of sizes that are in order, doubled so that shared ones are whole.
#[expect(clippy::float_cmp, reason = "ties are values that are the same, not near")]
fn doubled_ranks(ordered: &[f64]) -> Vec<usize> {
    let mut ranks = Vec::with_capacity(ordered.len());
    while ranks.len() < ordered.len() {
        let first = ranks.len();
        let size = ordered[first].abs();
        let tied = ordered[first..].iter().take_while(|value| value.abs() == size).count();
        // Ranks first + 1 to first + tied have the mean first + (tied + 1) / 2.
        ranks.extend(std::iter::repeat_n(2 * first + tied + 1, tied));
    }
    ranks
}

/// Counts the choices of signs by their sum, one rank after the other.
fn exact(ranks: &[usize], positive: usize) -> Chances {
    let total: usize = ranks.iter().sum();
    let mut chance = vec![0.0; total + 1];
    chance[0] = 1.0;
    let mut reached = 0;
    for rank in ranks {
        reached += rank;
        for sum in (0..=reached).rev() {
            let with = if sum >= *rank { chance[sum - rank] } else { 0.0 };
            chance[sum] = 0.5 * (chance[sum] + with);
        }
    }
    Chances {
        as_high: chance[positive..].iter().sum::<f64>().min(1.0),
        as_low: chance[..=positive].iter().sum::<f64>().min(1.0),
    }
}

fn normal(ranks: &[usize], positive: usize) -> Chances {
    let sum: usize = ranks.iter().sum();
    let squares: usize = ranks.iter().map(|rank| rank * rank).sum();
    // Each rank counts with chance one half: its mean is a half of it, its variance a quarter of its square.
    let distance = (positive as f64 - sum as f64 / 2.0) / (squares as f64 / 4.0).sqrt();
    Chances {
        as_high: normal_tail(distance),
        as_low: normal_tail(-distance),
    }
}

#[cfg(test)]
mod tests {
    use super::super::near;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_samples_are_exact() {
        // Darwin's maize (Fisher, The Design of Experiments, 1935).
        let darwin = [
            -6.0, 8.0, 14.0, 16.0, 23.0, 24.0, 28.0, 29.0, 41.0, -48.0, 49.0, 56.0, 60.0, -67.0, 75.0,
        ];
        let found = signed_rank(&darwin);
        // scipy: wilcoxon(darwin, alternative="greater", method="exact") and "less".
        assert!(
            near(found.as_high, 0.023_956_298_828_125) && near(found.as_low, 0.979_370_117_187_5),
            "{found:?}"
        );
        // All 2^11 choices of signs, counted in Python with scipy's rankdata.
        let ties = [1.0, 1.0, -1.0, 2.0, 2.0, -3.0, 4.0, 4.0, 4.0, -5.0, 6.0];
        assert!(near(signed_rank(&ties).as_high, 0.098_632_812_5));
    }

    #[test]
    fn large_samples_follow_the_normal_distribution() {
        // scipy: wilcoxon(values, alternative="greater", method="approx", correction=False).
        let values: Vec<f64> = (1..=60).map(|index| f64::from(index * 37 % 61 - 25) / 10.0).collect();
        assert!(near(signed_rank(&values).as_high, 0.012_482_610_183_376_559));
    }

    #[test]
    fn what_never_differs_says_nothing() {
        assert_eq!(signed_rank(&[0.0; 5]), Chances::CERTAIN);
        assert_eq!(signed_rank(&[]), Chances::CERTAIN);
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_signs_turn_it(mut values in proptest::collection::vec(-9_i32..9, 1..70)) {
            let of = |values: &[i32]| signed_rank(&values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
            let before = of(&values);
            values.reverse();
            prop_assert_eq!(before, of(&values));
            let turned: Vec<i32> = values.iter().map(|value| -value).collect();
            prop_assert!(near(of(&turned).as_high, before.as_low) && near(of(&turned).as_low, before.as_high));
        }
    }
}
