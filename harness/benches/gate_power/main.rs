//! How often the gate is right: PASS, INCONCLUSIVE and FAIL over thousands of simulated pairs of which the truth is
//! known.
//!
//! `cargo bench -p gauntlet-harness --bench gate_power` prints the table. It measures decisions, not time; for that see
//! the benchmark `gate`. Seeds are fixed: the table is the same each time.

mod world;

use gauntlet_harness::gate::measure::Metric;
use gauntlet_harness::gate::report::Further;
use gauntlet_harness::gate::{Settings, gate};
use gauntlet_harness::score::verdict::Verdict;
use gauntlet_harness::suite::outcome::Mode;
use world::{Change, SAME, pair};

/// Pairs without any change: a rate of 5 % is then known to ± 1 %.
const SAME_COUNT: u64 = 2_000;

/// Pairs with a change: a rate of one half is then known to ± 4 %.
const CHANGED_COUNT: u64 = 500;

/// Exchanges of labels in permutation tests; fewer than the gate's own, which only makes its chances a little coarser.
const DRAWS: usize = 999;

/// Modes and numbers of cases: the corpus, and what a live suite can afford.
const SIZES: [(Mode, usize); 3] = [(Mode::Replay, 150), (Mode::Live, 60), (Mode::Live, 150)];

fn changes(mode: Mode) -> Vec<(&'static str, Change)> {
    let mut changes = vec![("no change", SAME)];
    if mode == Mode::Replay {
        changes.push(("no change, no answer anew", Change { churn: 0.0, ..SAME }));
        changes.push(("no change, 30 % anew", Change { churn: 0.3, ..SAME }));
    }
    changes.extend([
        ("AC@1 −5 points", Change { lost: 0.05, ..SAME }),
        ("AC@1 −10 points", Change { lost: 0.10, ..SAME }),
        ("AC@1 −20 points", Change { lost: 0.20, ..SAME }),
        ("TTRC ×1.2", Change { slower: 1.2, ..SAME }),
        ("TTRC ×1.5", Change { slower: 1.5, ..SAME }),
        (
            "false alarms +2/h",
            Change {
                alarms_per_hour: 2.0,
                ..SAME
            },
        ),
        (
            "false alarms +20/h",
            Change {
                alarms_per_hour: 20.0,
                ..SAME
            },
        ),
    ]);
    changes
}

/// Verdicts of many gates, of the whole and of each metric.
#[derive(Clone, Default)]
struct Tally {
    pairs: u64,
    whole: Verdicts,
    metrics: [Verdicts; 4],
    /// Further cases that undecided gates asked for; a number no search reached counts as the largest.
    further: Vec<usize>,
}

#[derive(Clone, Copy, Default)]
struct Verdicts {
    pass: u64,
    inconclusive: u64,
    fail: u64,
}

impl Verdicts {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Pass => self.pass += 1,
            Verdict::Inconclusive => self.inconclusive += 1,
            Verdict::Fail => self.fail += 1,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            pass: self.pass + other.pass,
            inconclusive: self.inconclusive + other.inconclusive,
            fail: self.fail + other.fail,
        }
    }
}

const METRICS: [Metric; 4] = [
    Metric::Accuracy,
    Metric::TimeToRootCause,
    Metric::TimeToDetect,
    Metric::FalseAlarms,
];

impl Tally {
    fn of(mode: Mode, case_count: usize, change: Change, seeds: std::ops::Range<u64>) -> Self {
        let settings = Settings {
            permutation_draws: DRAWS,
            ..Settings::default()
        };
        let mut tally = Self::default();
        for seed in seeds {
            let (baseline, candidate) = pair(mode, case_count, change, seed);
            let report = gate(&baseline, &candidate, &settings);
            tally.pairs += 1;
            tally.whole.add(report.verdict);
            for one in &report.metrics {
                let place = METRICS
                    .iter()
                    .position(|metric| *metric == one.metric)
                    .expect("one of four");
                tally.metrics[place].add(one.verdict);
            }
            tally.further.extend(report.further.map(|further| match further {
                Further::Cases { count } | Further::MoreThan { count } => count,
            }));
        }
        tally
    }

    fn plus(mut self, other: Self) -> Self {
        self.pairs += other.pairs;
        self.whole = self.whole.plus(other.whole);
        for (own, more) in self.metrics.iter_mut().zip(other.metrics) {
            *own = own.plus(more);
        }
        self.further.extend(other.further);
        self
    }

    /// The pairs on all processors; which takes which seeds changes nothing.
    fn parallel(mode: Mode, case_count: usize, change: Change, pairs: u64) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        std::thread::scope(|scope| {
            let tallies: Vec<_> = (0..workers)
                .map(|worker| {
                    let seeds = worker * pairs / workers..(worker + 1) * pairs / workers;
                    scope.spawn(move || Self::of(mode, case_count, change, seeds))
                })
                .collect();
            tallies
                .into_iter()
                .map(|tally| tally.join().expect("no worker panics"))
                .fold(Self::default(), Self::plus)
        })
    }

    fn row(mut self, what: &str) -> String {
        let percent = |count: u64| format!("{:5.1}", 100.0 * count as f64 / self.pairs as f64);
        let Verdicts {
            pass,
            inconclusive,
            fail,
        } = self.whole;
        let metrics: Vec<String> = self
            .metrics
            .iter()
            .map(|one| format!("{} /{}", percent(one.fail), percent(one.pass)))
            .collect();
        self.further.sort_unstable();
        let further = self
            .further
            .get(self.further.len() / 2)
            .map_or("–".to_owned(), ToString::to_string);
        format!(
            "{what:<26}{:>6}  {}  {}  {}   {}   {further:>6}",
            self.pairs,
            percent(fail),
            percent(inconclusive),
            percent(pass),
            metrics.join("  ")
        )
    }
}

fn main() {
    for (mode, case_count) in SIZES {
        println!("\n{mode:?}, {case_count} cases a side (13 scenarios with a cause, 2 controls); percent of pairs");
        println!(
            "{:<26}{:>6}  {:>5}  {:>5}  {:>5}   AC@1 F/P      TTRC F/P      TTD F/P       alarms F/P    further",
            "truth", "pairs", "FAIL", "INC", "PASS"
        );
        for (what, change) in changes(mode) {
            let pairs = if what == "no change" { SAME_COUNT } else { CHANGED_COUNT };
            println!("{}", Tally::parallel(mode, case_count, change, pairs).row(what));
        }
    }
}
