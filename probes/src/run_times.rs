//! What the kernel programs cost, from samples: while the kernel keeps run times it reads its clock twice at every run of
//! every program, a fair part of what these programs take. So it keeps them a tenth of the time, and the rest is estimated.
//!
//! Knows no program; from what was counted during samples to estimates of the whole time.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::capability::ProgramCost;
use crate::frame::MonotonicNanos;

/// How long a sample lasts: two ticks.
const SAMPLE_NS: u64 = 400_000_000;
/// Time between two samples: nine times as long, so that a tenth of the time is sampled. Turning the statistics on or off
/// patches the kernel's code on all CPUs, which is nothing for people to notice unless it is done all the time.
const PAUSE_NS: u64 = 3_600_000_000;
/// Time before the first sample: names and sockets are being learnt, nothing is as it will be.
const FIRST_PAUSE_NS: u64 = 1_000_000_000;

/// What the kernel has counted for a program so far, while it counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The program's name.
    pub(crate) name: String,
    /// Runs.
    pub(crate) run_count: u64,
    /// Nanoseconds.
    pub(crate) run_ns: u64,
}

/// Samples so far. `Statistics` keeps the kernel's statistics on while it lives.
#[derive(Debug)]
pub(crate) struct RunTimes<Statistics = OwnedFd> {
    began_ns: MonotonicNanos,
    next_ns: MonotonicNanos,
    sample: Option<Sample<Statistics>>,
    sampled_ns: u64,
    /// Runs and nanoseconds of all finished samples, by program.
    sums: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug)]
struct Sample<Statistics> {
    since_ns: MonotonicNanos,
    /// Others may keep the statistics on, too: only what grows during a sample is ours.
    before: Vec<Counted>,
    _statistics: Statistics,
}

impl<Statistics> RunTimes<Statistics> {
    /// Nothing sampled yet.
    pub(crate) fn new(now_ns: MonotonicNanos) -> Self {
        Self {
            began_ns: now_ns,
            next_ns: now_ns + FIRST_PAUSE_NS,
            sample: None,
            sampled_ns: 0,
            sums: BTreeMap::new(),
        }
    }

    /// Begins or ends a sample, if it is time to: `enable` turns the statistics on (`None` where the kernel refuses),
    /// `counted` reads them.
    pub(crate) fn tick(
        &mut self,
        now_ns: MonotonicNanos,
        enable: impl FnOnce() -> Option<Statistics>,
        counted: impl FnOnce() -> Vec<Counted>,
    ) {
        match self.sample.take_if(|sample| now_ns >= sample.since_ns + SAMPLE_NS) {
            Some(sample) => {
                self.book(now_ns, &sample, counted());
                self.next_ns = now_ns + PAUSE_NS;
            }
            None if self.sample.is_none() && now_ns >= self.next_ns => {
                self.next_ns = now_ns + PAUSE_NS;
                self.sample = enable().map(|statistics| Sample {
                    since_ns: now_ns,
                    before: counted(),
                    _statistics: statistics,
                });
            }
            None => (),
        }
    }

    /// What each program has cost by `now_ns`, as estimated from the samples, in the order of the names; 0 for all where
    /// there is no sample yet.
    pub(crate) fn costs(&self, now_ns: MonotonicNanos, counted: Vec<Counted>) -> Vec<ProgramCost> {
        let mut all: BTreeMap<String, (u64, u64)> =
            counted.iter().map(|counted| (counted.name.clone(), (0, 0))).collect();
        all.extend(self.sums.clone());
        let mut sampled_ns = self.sampled_ns;
        if let Some(sample) = &self.sample {
            add(&mut all, &sample.before, counted);
            sampled_ns += now_ns - sample.since_ns;
        }
        let scale = |value: u64| match sampled_ns {
            0 => 0,
            sampled_ns => {
                let scaled = u128::from(value) * u128::from(now_ns - self.began_ns) / u128::from(sampled_ns);
                u64::try_from(scaled).unwrap_or(u64::MAX)
            }
        };
        all.into_iter()
            .map(|(name, (run_count, run_ns))| ProgramCost {
                name,
                run_count: scale(run_count),
                run_ns: scale(run_ns),
            })
            .collect()
    }

    fn book(&mut self, now_ns: MonotonicNanos, sample: &Sample<Statistics>, counted: Vec<Counted>) {
        add(&mut self.sums, &sample.before, counted);
        self.sampled_ns += now_ns - sample.since_ns;
    }
}

/// Adds what grew between two readings.
fn add(sums: &mut BTreeMap<String, (u64, u64)>, before: &[Counted], after: Vec<Counted>) {
    for now in after {
        let then = before.iter().find(|then| then.name == now.name);
        let (run_count, run_ns) = then.map_or((0, 0), |then| (then.run_count, then.run_ns));
        let sum = sums.entry(now.name).or_default();
        sum.0 += now.run_count.saturating_sub(run_count);
        sum.1 += now.run_ns.saturating_sub(run_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::{Counted, FIRST_PAUSE_NS, PAUSE_NS, RunTimes, SAMPLE_NS};

    /// A program that runs 1,000 times a second at 100 ns, of which the kernel counts what `was_on` for.
    fn counted(on_ns: u64) -> Vec<Counted> {
        // 7 and 5: others had kept the statistics on before.
        let run_count = on_ns / 1_000_000;
        vec![Counted {
            name: "packet_in".to_owned(),
            run_count: run_count + 7,
            run_ns: run_count * 100 + 5,
        }]
    }

    #[test]
    fn a_tenth_is_sampled_and_the_rest_is_estimated() {
        const TICK_NS: u64 = 200_000_000;
        const BEGAN_NS: u64 = 5_000_000_000;
        let mut times = RunTimes::<()>::new(BEGAN_NS);
        let (mut on_ns, mut now_ns) = (0, BEGAN_NS);
        while now_ns < BEGAN_NS + 100_000_000_000 {
            now_ns += TICK_NS;
            on_ns += if times.sample.is_some() { TICK_NS } else { 0 };
            times.tick(now_ns, || Some(()), || counted(on_ns));
        }
        let share = on_ns as f64 / (now_ns - BEGAN_NS) as f64;
        assert!((0.09..0.11).contains(&share), "{share}");
        let costs = times.costs(now_ns, counted(on_ns));
        assert_eq!((costs[0].run_count, costs[0].run_ns), (100_000, 10_000_000));
    }

    #[test]
    fn an_unfinished_sample_counts_and_coarse_ticks_do_not_miss_theirs() {
        let mut times = RunTimes::<()>::new(0);
        times.tick(FIRST_PAUSE_NS - 1, || panic!("too early"), Vec::new);
        times.tick(FIRST_PAUSE_NS + PAUSE_NS, || Some(()), || counted(0));
        let now_ns = FIRST_PAUSE_NS + PAUSE_NS + SAMPLE_NS / 2;
        let costs = times.costs(now_ns, counted(SAMPLE_NS / 2));
        assert_eq!(costs[0].run_count, now_ns / 1_000_000);
    }

    #[test]
    fn where_the_kernel_refuses_nothing_is_claimed() {
        let mut times = RunTimes::<()>::new(0);
        times.tick(FIRST_PAUSE_NS, || None, Vec::new);
        let costs = times.costs(FIRST_PAUSE_NS * 2, counted(1_000_000_000));
        assert_eq!((costs[0].run_count, costs[0].run_ns), (0, 0));
    }
}
