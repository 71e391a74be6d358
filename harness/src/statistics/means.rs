//! Means and their differences, with Student's intervals.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Interval, mean, weights};

/// An estimate and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
    /// Degrees of freedom of the error.
    pub freedom: f64,
}

impl Estimate {
    /// Student's interval.
    #[must_use]
    pub fn interval(&self, tail: f64) -> Interval {
        let student = StudentsT::new(0.0, 1.0, self.freedom).expect("positive degrees of freedom");
        let half = self.error * student.inverse_cdf(1.0 - tail);
        Interval {
            low: self.value - half,
            high: self.value + half,
        }
    }

    /// What `scale` times as much of the same data would give.
    #[must_use]
    pub fn of_more(&self, scale: f64) -> Self {
        Self {
            value: self.value,
            error: self.error / scale.sqrt(),
            freedom: self.freedom * scale,
        }
    }
}

/// The weighted mean of independent values; weights sum to 1. Of equal weights it is the usual one. `None` of fewer
/// than two.
#[must_use]
pub fn weighted(values: &[f64], weights: &[f64]) -> Option<Estimate> {
    assert_eq!(values.len(), weights.len(), "one weight for each value");
    if values.len() < 2 {
        return None;
    }
    let value = weights::weighted_sum(weights, values.iter().copied());
    let squares: f64 = values
        .iter()
        .zip(weights)
        .map(|(one, weight)| (weight * (one - value)).powi(2))
        .sum();
    let count = values.len() as f64;
    Some(Estimate {
        value,
        error: (squares * count / (count - 1.0)).sqrt(),
        freedom: (weights::effective_count(weights) - 1.0).max(1.0),
    })
}

/// Mean over strata of (mean of the second − mean of the first), every stratum weighing the same, with one variance for
/// all strata and arms (two-way analysis of variance; one stratum makes it Student's two-sample interval).
///
/// Strata that lack an arm are left out. `None` if nothing is left to estimate the variance from.
#[must_use]
pub fn stratified_difference(strata: &[(Vec<f64>, Vec<f64>)]) -> Option<Estimate> {
    let complete: Vec<_> = strata
        .iter()
        .filter(|(first, second)| !first.is_empty() && !second.is_empty())
        .collect();
    let (mut value, mut parts, mut squares, mut freedom) = (0.0, 0.0, 0.0, 0_usize);
    for (first, second) in &complete {
        for (arm, sign) in [(first, -1.0), (second, 1.0)] {
            let middle = mean(arm)?;
            value += sign * middle;
            parts += 1.0 / arm.len() as f64;
            squares += arm.iter().map(|one| (one - middle).powi(2)).sum::<f64>();
            freedom += arm.len() - 1;
        }
    }
    let (count, freedom) = (complete.len() as f64, freedom as f64);
    (freedom > 0.0).then(|| Estimate {
        value: value / count,
        error: (squares / freedom * parts).sqrt() / count,
        freedom,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{TAIL_90, near};
    use super::*;

    fn check(found: Option<Estimate>, low: f64, high: f64) {
        let found = found.expect("enough values").interval(TAIL_90);
        assert!(
            (found.low - low).abs() < 1e-7 && (found.high - high).abs() < 1e-7,
            "{found:?}"
        );
    }

    #[test]
    fn the_mean_is_that_of_scipy() {
        // scipy: t.interval(0.9, 5, mean, sem).
        let values = [0.1, 0.4, -0.2, 0.3, 0.0, 0.6];
        check(
            weighted(&values, &[1.0 / 6.0; 6]),
            -0.038_423_738_868_865_576,
            0.438_423_738_868_865_6,
        );
        assert_eq!(weighted(&[1.0], &[1.0]), None);
    }

    #[test]
    fn the_difference_is_that_of_scipy() {
        let first = [vec![0.1, 0.2, 0.4], vec![1.0, 1.3, 1.1]];
        let second = [vec![0.3, 0.5, 0.2, 0.6], vec![1.4, 1.2, 1.6]];
        let mut strata: Vec<_> = first.into_iter().zip(second).collect();
        // scipy: ttest_ind(second, first).confidence_interval(0.9) of the first stratum alone.
        check(
            stratified_difference(&strata[..1]),
            -0.096_920_694_313_900_52,
            0.430_254_027_647_233_64,
        );
        // The formula in Python over scipy's t.ppf. A stratum without a partner changes nothing.
        strata.push((vec![7.0, 9.0], Vec::new()));
        check(
            stratified_difference(&strata),
            0.038_084_011_266_171_2,
            0.395_249_322_067_161_8,
        );
        assert_eq!(stratified_difference(&[(vec![1.0], vec![2.0])]), None);
    }

    #[test]
    fn more_of_the_same_narrows_by_the_root() {
        let one = Estimate {
            value: 1.0,
            error: 0.4,
            freedom: 10.0,
        };
        assert!(near(one.of_more(4.0).error, 0.2) && near(one.of_more(4.0).value, 1.0));
    }
}
