//! Distance from the median in units of the usual spread, for numbers that vary a little all the time.

/// Makes the median absolute deviation comparable with a standard deviation of normal noise.
const MAD_TO_SIGMA: f64 = 1.4826;

/// What is usual: middle and spread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norm {
    /// Median; 0 when nothing was seen.
    pub median: f64,
    /// Robust standard deviation.
    pub spread: f64,
    /// Values seen.
    pub count: usize,
}

impl Norm {
    /// Middle and spread of `values`.
    #[must_use]
    pub fn of(values: Vec<f64>) -> Self {
        let count = values.len();
        let Some(middle) = median(values.clone()) else {
            return Self::default();
        };
        let deviations = values.iter().map(|value| (value - middle).abs()).collect();
        Self {
            median: middle,
            spread: MAD_TO_SIGMA * median(deviations).unwrap_or(0.0),
            count,
        }
    }

    /// Robust z of `value`. `floor` is the least spread that is believed, in the value's unit: without it, a signal
    /// that never moved would make any movement infinitely unusual.
    #[must_use]
    pub fn z(&self, value: f64, floor: f64) -> f64 {
        (value - self.median) / self.spread.max(floor)
    }
}

/// The middle value (the upper one of two).
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::Norm;

    #[test]
    fn one_stall_does_not_move_the_norm() {
        let norm = Norm::of(vec![1.0, 1.1, 0.9, 1.0, 250.0]);
        assert_eq!(norm.median, 1.0);
        assert!(norm.spread < 0.2);
    }

    #[test]
    fn a_signal_that_never_moved_has_the_floor_for_spread() {
        assert_eq!(Norm::of(vec![2.0; 8]).z(3.0, 0.5), 2.0);
    }
}
