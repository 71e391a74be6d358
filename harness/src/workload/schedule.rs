//! When each request is due, and what it asks for: fixed by the load, the seed and the factors given.
//!
//! Pure: time is an argument, and nothing that the system under test does changes it.

use std::time::Duration;

use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::spec::{Arrivals, Load};

/// The rate is taken as constant for this long.
pub const SLICE: Duration = Duration::from_millis(10);

/// A request that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Since the start of the load.
    pub at: Duration,
    /// What is asked for.
    pub path: String,
}

/// The arrivals of a load.
///
/// Arrivals are drawn in units of expected requests: the next is due when the rate, summed over time, has reached the draw.
/// So the draws are the same whatever the factors, which only stretch time.
#[derive(Debug)]
pub struct Schedule {
    load: Load,
    shares: WeightedIndex<f64>,
    rng: ChaCha8Rng,
    now: Duration,
    /// Expected requests until the next one is due.
    until_next: f64,
}

impl Schedule {
    /// The arrivals of `load`, from its start.
    ///
    /// # Panics
    /// When the load has no path; [`Load::new`] refuses such a load.
    #[must_use]
    pub fn new(load: Load, seed: u64) -> Self {
        let shares = WeightedIndex::new(load.paths.iter().map(|path| path.weight)).expect("checked by Load::new");
        let mut schedule = Self {
            load,
            shares,
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: Duration::ZERO,
            until_next: 0.0,
        };
        schedule.until_next = schedule.draw_distance();
        schedule
    }

    /// The next request that is due before `end`, with rates multiplied by `factor`; without one, time has moved to `end`.
    pub fn next_before(&mut self, end: Duration, factor: f64) -> Option<Arrival> {
        while self.now < end {
            let slice_index = self.now.as_nanos() / SLICE.as_nanos();
            let slice_start = SLICE * u32::try_from(slice_index).expect("a load ends within a year");
            let slice_end = end.min(slice_start + SLICE);
            let rate = self.load.profile.rate_at(slice_start) * factor;
            let expected = rate * (slice_end - self.now).as_secs_f64();
            if self.until_next < expected {
                self.now += Duration::from_secs_f64(self.until_next / rate);
                self.until_next = self.draw_distance();
                let share = self.shares.sample(&mut self.rng);
                return Some(Arrival {
                    at: self.now,
                    path: self.load.paths[share].path.choose(&mut self.rng),
                });
            }
            self.until_next -= expected;
            self.now = slice_end;
        }
        None
    }

    fn draw_distance(&mut self) -> f64 {
        match self.load.arrivals {
            // The inverse of the exponential distribution; 1 - u is never 0.
            Arrivals::Poisson => -(1.0 - self.rng.random::<f64>()).ln(),
            Arrivals::Fixed => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::spec::{LoadSpec, Profile};

    fn schedule(arrivals: Arrivals, rate: f64, seed: u64) -> Schedule {
        let app = crate::app::load("shop").expect("a shipped app").spec;
        let spec = LoadSpec {
            profile: Some(Profile::Constant { rate }),
            arrivals,
            ..LoadSpec::default()
        };
        Schedule::new(Load::new(&spec, &app).expect("a load"), seed)
    }

    fn arrivals(mut schedule: Schedule, seconds: u64, factor: f64) -> Vec<Arrival> {
        std::iter::from_fn(|| schedule.next_before(Duration::from_secs(seconds), factor)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_another() {
        let first = arrivals(schedule(Arrivals::Poisson, 100.0, 7), 10, 1.0);
        assert_eq!(first, arrivals(schedule(Arrivals::Poisson, 100.0, 7), 10, 1.0));
        assert_ne!(first, arrivals(schedule(Arrivals::Poisson, 100.0, 8), 10, 1.0));
        // 1000 expected, with a spread of 32.
        assert!(first.len().abs_diff(1000) < 150, "{}", first.len());
        assert!(first.is_sorted_by_key(|arrival| arrival.at));
    }

    #[test]
    fn how_time_is_cut_changes_nothing() {
        let mut sliced = schedule(Arrivals::Poisson, 100.0, 7);
        let mut pieces = Vec::new();
        for end in 1..=1000 {
            pieces.extend(std::iter::from_fn(|| sliced.next_before(SLICE * end, 1.0)));
        }
        assert_eq!(pieces, arrivals(schedule(Arrivals::Poisson, 100.0, 7), 10, 1.0));
    }

    #[test]
    fn fixed_arrivals_are_evenly_spaced_and_a_factor_packs_them() {
        let count = |factor| arrivals(schedule(Arrivals::Fixed, 50.0, 1), 10, factor).len();
        assert!(count(1.0).abs_diff(500) <= 1);
        assert!(count(3.0).abs_diff(1500) <= 1);
        assert_eq!(count(0.0), 0);
    }
}
