//! Several tests at once: Holm's adjustment.

/// Adjusted chances in the order given: rejecting those below 0.05 rejects a true hypothesis, any of them, in at most 5
/// % of all families (Holm, Scand. J. Stat. 6:65, 1979).
#[must_use]
pub fn adjusted(chances: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|a, b| chances[*a].total_cmp(&chances[*b]));
    let mut adjusted = vec![0.0; chances.len()];
    let mut largest = 0.0_f64;
    for (place, index) in order.into_iter().enumerate() {
        largest = largest.max(chances[index] * (chances.len() - place) as f64).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::super::near;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_that_of_statsmodels() {
        // statsmodels: multipletests([0.01, 0.04, 0.03, 0.005], method="holm").
        let found = adjusted(&[0.01, 0.04, 0.03, 0.005]);
        assert!(
            found.iter().zip([0.03, 0.06, 0.06, 0.02]).all(|(a, b)| near(*a, b)),
            "{found:?}"
        );
        assert!(adjusted(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn it_keeps_the_order_and_never_lowers(chances in proptest::collection::vec(0.0_f64..=1.0, 1..8)) {
            let found = adjusted(&chances);
            for (index, chance) in chances.iter().enumerate() {
                prop_assert!(found[index] >= *chance && found[index] <= 1.0);
                for (other, more) in chances.iter().enumerate() {
                    prop_assert!(more < chance || found[other] >= found[index]);
                }
            }
        }
    }
}
