//! How sure a mean over scenarios is: the hierarchical bootstrap.
//!
//! Groups are drawn with replacement, then members within each drawn group (Davison and Hinkley, Bootstrap Methods and
//! their Application, 1997, section 3.8), so that both few scenarios and few trials of each widen the interval.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Interval;

/// Number of resamples: ends of 95 % intervals then move by about a hundredth of a standard deviation between seeds.
pub const DRAWS: usize = 10_000;

/// The one seed: an interval is a function of the data.
const SEED: u64 = 0x6761_756e_746c_6574;

/// Percentile intervals for the means over groups, each group weighing the same, of `K` values per member.
///
/// All values of a member are drawn together. `None` if no group has members; groups without any are left out.
#[must_use]
pub fn macro_means<const K: usize>(groups: &[Vec<[f64; K]>], tail: f64) -> Option<[Interval; K]> {
    let groups: Vec<_> = groups.iter().filter(|group| !group.is_empty()).collect();
    if groups.is_empty() {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut drawn = [const { Vec::new() }; K];
    for _ in 0..DRAWS {
        let mut sums = [0.0; K];
        for _ in 0..groups.len() {
            let group = groups[rng.random_range(0..groups.len())];
            let mut own = [0.0; K];
            for _ in 0..group.len() {
                let member = &group[rng.random_range(0..group.len())];
                own.iter_mut().zip(member).for_each(|(sum, value)| *sum += value);
            }
            // A group's own mean first: shares of whole numbers then stay exact.
            sums.iter_mut()
                .zip(own)
                .for_each(|(sum, own)| *sum += own / group.len() as f64);
        }
        for (values, sum) in drawn.iter_mut().zip(sums) {
            values.push(sum / groups.len() as f64);
        }
    }
    Some(drawn.map(|values| percentiles(values, tail)))
}

/// The values that `tail` of all lie below and above, interpolated linearly between neighbours.
fn percentiles(mut values: Vec<f64>, tail: f64) -> Interval {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (values.len() - 1) as f64;
        let (below, rest) = (place.floor() as usize, place.fract());
        let above = (below + 1).min(values.len() - 1);
        values[below] + rest * (values[above] - values[below])
    };
    Interval {
        low: at(tail),
        high: at(1.0 - tail),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TAIL_95, near};
    use super::*;

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy: percentile([1, 2, 4, 8, 16], [2.5, 97.5]).
        let found = percentiles(vec![16.0, 1.0, 4.0, 2.0, 8.0], TAIL_95);
        assert!(near(found.low, 1.1) && near(found.high, 15.2), "{found:?}");
    }

    #[test]
    fn it_is_as_wide_as_theory_says() {
        // 20 groups of 5 with means 0 or 1 and no spread inside: only groups vary, so the standard error is
        // sqrt(0.25 / 20) = 0.1118 and the 95 % interval about 0.5 ± 0.219.
        let groups: Vec<Vec<[f64; 1]>> = (0..20).map(|group| vec![[f64::from(group % 2)]; 5]).collect();
        let [found] = macro_means(&groups, TAIL_95).expect("groups");
        assert!(
            (found.low - 0.281).abs() < 0.025 && (found.high - 0.719).abs() < 0.025,
            "{found:?}"
        );
        // The other way round, only members vary: the variance of a group's mean is 0.25 / 10, that of the mean of 20
        // groups a twentieth of it.
        let groups: Vec<Vec<[f64; 1]>> = vec![[0.0, 1.0].repeat(5).into_iter().map(|value| [value]).collect(); 20];
        let [found] = macro_means(&groups, TAIL_95).expect("groups");
        let half = 1.96 * (0.25_f64 / 10.0 / 20.0).sqrt();
        assert!(
            (found.high - 0.5 - half).abs() < 0.01 && (0.5 - half - found.low).abs() < 0.01,
            "{found:?}"
        );
    }

    #[test]
    fn same_data_same_interval_and_nothing_has_none() {
        let groups = [vec![[1.0, 10.0], [2.0, 20.0]], Vec::new(), vec![[4.0, 40.0]]];
        let [one, ten] = macro_means(&groups, TAIL_95).expect("groups");
        assert!(near(one.low * 10.0, ten.low) && near(one.high * 10.0, ten.high));
        assert_eq!(macro_means(&groups, TAIL_95), macro_means(&groups, TAIL_95));
        assert_eq!(macro_means::<1>(&[Vec::new()], TAIL_95), None);
    }
}
