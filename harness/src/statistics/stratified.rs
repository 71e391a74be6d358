//! Hits of two independent arms in many strata: the exact test.

use statrs::distribution::{Discrete, Hypergeometric};

use super::Chances;

/// Hits of two arms in one stratum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// The first arm: hits, of how many.
    pub first: (u64, u64),
    /// The second arm: hits, of how many.
    pub second: (u64, u64),
}

/// The exact conditional test that no stratum's chances differ (Birch, J. Roy. Stat. Soc. B 26:313, 1964; R's
/// `mantelhaen.test(exact = TRUE)`): given each stratum's margins the hits of the second arm are hypergeometric, and
/// their sum is compared with what was seen. One stratum makes it Fisher's exact test.
#[must_use]
pub fn conditional_test(tables: &[Table]) -> Chances {
    // Chance of each sum of hits above the smallest possible one.
    let mut chance = vec![1.0];
    let mut smallest = 0;
    let mut seen = 0;
    for Table { first, second } in tables {
        assert!(first.0 <= first.1 && second.0 <= second.1, "{tables:?}");
        let (all, hits) = (first.1 + second.1, first.0 + second.0);
        let least = hits.saturating_sub(first.1);
        let most = hits.min(second.1);
        let hypergeometric = Hypergeometric::new(all, hits, second.1).expect("no more hits than trials");
        let own: Vec<f64> = (least..=most).map(|count| hypergeometric.pmf(count)).collect();
        chance = convolved(&chance, &own);
        smallest += least;
        seen += second.0;
    }
    let place = usize::try_from(seen - smallest).expect("a number of hits");
    Chances {
        as_high: chance[place..].iter().sum::<f64>().min(1.0),
        as_low: chance[..=place].iter().sum::<f64>().min(1.0),
    }
}

/// Distribution of the sum of two independent counts.
fn convolved(first: &[f64], second: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; first.len() + second.len() - 1];
    for (i, a) in first.iter().enumerate() {
        for (j, b) in second.iter().enumerate() {
            sum[i + j] += a * b;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::near;
    use super::*;
    use proptest::prelude::*;

    fn table(second: (u64, u64), first: (u64, u64)) -> Table {
        Table { first, second }
    }

    #[test]
    fn it_is_that_of_r() {
        // The rabbits of R's own example (Agresti, Categorical Data Analysis, 1990): R prints S = 16, two-sided
        // p = 0.03994; both sides are the same by symmetry. The digits are convolutions of scipy's hypergeom.
        let rabbits = [
            table((0, 6), (0, 5)),
            table((3, 6), (0, 6)),
            table((6, 6), (2, 6)),
            table((5, 6), (6, 6)),
            table((2, 2), (5, 5)),
        ];
        let found = conditional_test(&rabbits);
        assert!(
            near(found.as_high, 0.019_972_451_790_633_606) && near(found.as_low, 0.998_622_589_531_680_5),
            "{found:?}"
        );
        let five = [
            table((7, 10), (10, 10)),
            table((8, 10), (9, 10)),
            table((10, 10), (10, 10)),
            table((4, 10), (7, 10)),
            table((9, 9), (9, 10)),
        ];
        let found = conditional_test(&five);
        assert!(
            near(found.as_low, 0.066_597_342_253_504_82) && near(found.as_high, 0.982_748_708_193_249_3),
            "{found:?}"
        );
    }

    #[test]
    fn one_stratum_is_fishers_test() {
        // scipy: fisher_exact([[5, 5], [10, 0]], "less"), fisher_exact([[5, 5], [9, 1]], "less").
        assert!(near(
            conditional_test(&[table((5, 10), (10, 10))]).as_low,
            0.016_253_869_969_040_248
        ));
        assert!(near(
            conditional_test(&[table((5, 10), (9, 10))]).as_low,
            0.070_433_436_502_537_28
        ));
        assert_eq!(conditional_test(&[]), Chances::CERTAIN);
    }

    proptest! {
        #[test]
        fn exchanged_arms_turn_it(hits in proptest::collection::vec((0_u64..=8, 0_u64..=6), 1..6)) {
            let there: Vec<Table> = hits.iter().map(|(a, b)| table((*b, 6), (*a, 8))).collect();
            let back: Vec<Table> = hits.iter().map(|(a, b)| table((*a, 8), (*b, 6))).collect();
            let (there, back) = (conditional_test(&there), conditional_test(&back));
            prop_assert!(near(there.as_high, back.as_low) && near(there.as_low, back.as_high));
        }
    }
}
