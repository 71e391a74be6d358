//! Weights with which every stratum counts the same, and what such weighing costs.

/// One weight for each member, whose stratum is `strata[member]` (numbered from 0): every stratum that has members
/// weighs the same, every member of it too, and all of them sum to 1.
#[must_use]
pub fn equal_strata(strata: &[usize]) -> Vec<f64> {
    let mut sizes = vec![0_usize; strata.iter().max().map_or(0, |last| last + 1)];
    for stratum in strata {
        sizes[*stratum] += 1;
    }
    let present = sizes.iter().filter(|size| **size > 0).count() as f64;
    strata
        .iter()
        .map(|stratum| 1.0 / (present * sizes[*stratum] as f64))
        .collect()
}

/// Number of members that, weighing the same, would say as much as these do: 1 / Σ w² for weights that sum to 1 (Kish,
/// Survey Sampling, 1965, section 11.7). Never more than there are.
#[must_use]
pub fn effective_count(weights: &[f64]) -> f64 {
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    if squares > 0.0 { 1.0 / squares } else { 0.0 }
}

/// Σ w v over those of `values` that have a weight.
#[must_use]
pub fn weighted_sum(weights: &[f64], values: impl IntoIterator<Item = f64>) -> f64 {
    weights.iter().zip(values).map(|(weight, value)| weight * value).sum()
}

#[cfg(test)]
mod tests {
    use super::super::near;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strata_weigh_the_same() {
        assert_eq!(equal_strata(&[0, 0, 2, 0, 0]), [0.125, 0.125, 0.5, 0.125, 0.125]);
        assert!(near(effective_count(&[0.125, 0.125, 0.5, 0.125, 0.125]), 3.2));
        assert!(near(weighted_sum(&[0.25, 0.75], [4.0, 8.0]), 7.0));
        assert!(equal_strata(&[]).is_empty() && near(effective_count(&[]), 0.0));
    }

    proptest! {
        #[test]
        fn weights_sum_to_one_and_never_say_more_than_there_is(
            strata in proptest::collection::vec(0_usize..6, 1..40)
        ) {
            let weights = equal_strata(&strata);
            prop_assert!(near(weights.iter().sum(), 1.0));
            prop_assert!(effective_count(&weights) <= strata.len() as f64 + 1e-9);
        }
    }
}
