//! Pairs of suite results of which the truth is known: what the gate is tried on.
//!
//! Made like the recorded corpus: thirteen scenarios with a cause to name and two controls; most nearly always right
//! and two hard ones; times spread little within a scenario, except that a cause never named counts as the whole
//! window. Does not know the gate.

use gauntlet_harness::check::validity::Class;
use gauntlet_harness::gate::evidence::{Answer, Case, Evidence};
use gauntlet_harness::plan::Seed;
use gauntlet_harness::scenario::model::Arm;
use gauntlet_harness::score::matching::Rank;
use gauntlet_harness::score::moments::TimeTo;
use gauntlet_harness::suite::outcome::Mode;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Chance of a right answer and usual time to root cause in seconds, by scenario; the mean chance is 0.945.
const SCENARIOS: [(f64, f64); 13] = [
    (0.98, 0.2),
    (0.98, 1.0),
    (0.98, 0.9),
    (0.93, 1.3),
    (0.99, 0.5),
    (0.98, 0.9),
    (0.98, 0.9),
    (0.98, 0.2),
    (0.88, 1.3),
    (0.98, 0.6),
    (0.85, 1.7),
    (0.98, 0.6),
    (0.80, 0.4),
];

/// Mean of the chances of [`SCENARIOS`].
const RIGHT_MEAN: f64 = 12.29 / 13.0;

/// Controls, per scenarios with a cause.
const CONTROL_COUNT: usize = 2;

/// Standard deviation of the logarithm of a time within a scenario.
const LOG_TIME_SPREAD: f64 = 0.25;

/// After so many seconds a cause counts as never named.
const WINDOW_S: f64 = 15.0;

/// Fault-free seconds of a case with a fault, and of a control.
const FAULT_FREE_S: [f64; 2] = [8.0, 28.0];

/// False alarms per fault-free hour.
const ALARMS_PER_HOUR: f64 = 2.0;

/// How a candidate truly differs from its baseline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Loss of AC@1, as a share.
    pub lost: f64,
    /// Factor on times to root cause.
    pub slower: f64,
    /// More false alarms per hour.
    pub alarms_per_hour: f64,
    /// Replay: share of cases that a new build answers anew, by the same chances.
    pub churn: f64,
}

/// No change, and a tenth of the answers anew.
pub(crate) const SAME: Change = Change {
    lost: 0.0,
    slower: 1.0,
    alarms_per_hour: 0.0,
    churn: 0.1,
};

/// A baseline and a candidate of `case_count` cases each. Same seed, same pair.
pub(crate) fn pair(mode: Mode, case_count: usize, change: Change, seed: u64) -> (Evidence, Evidence) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let baseline: Vec<Case> = (0..case_count).map(|index| case(index, mode, SAME, &mut rng)).collect();
    let candidate = baseline
        .iter()
        .enumerate()
        .map(|(index, before)| match mode {
            Mode::Live => case(index, mode, change, &mut rng),
            Mode::Replay if rng.random_bool(change.churn) => case(index, mode, change, &mut rng),
            Mode::Replay => changed(before, change, &mut rng),
        })
        .collect();
    (evidence(mode, baseline), evidence(mode, candidate))
}

fn evidence(mode: Mode, cases: Vec<Case>) -> Evidence {
    Evidence {
        suite: "simulated".to_owned(),
        digest: "simulated".to_owned(),
        mode,
        detector: "simulated".to_owned(),
        planned_count: cases.len(),
        cases,
    }
    .sorted()
}

/// A case answered by a detector that differs by `change`.
fn case(index: usize, mode: Mode, change: Change, rng: &mut ChaCha8Rng) -> Case {
    let kind = index % (SCENARIOS.len() + CONTROL_COUNT);
    let trial = u32::try_from(index / (SCENARIOS.len() + CONTROL_COUNT)).expect("few trials") + 1;
    let fault = SCENARIOS.get(kind);
    let answer = fault.map(|(right, seconds)| {
        // A loss falls on every scenario in proportion, so that no chance becomes negative.
        let right = rng.random_bool(right * (1.0 - change.lost / RIGHT_MEAN));
        let seconds = seconds * change.slower * (LOG_TIME_SPREAD * normal(rng)).exp();
        answer(right, if right { seconds } else { WINDOW_S })
    });
    let fault_free_s = FAULT_FREE_S[usize::from(fault.is_none())];
    Case {
        scenario: format!("scenario-{kind:02}"),
        trial,
        seed: Seed(index as u64),
        recording: (mode == Mode::Replay).then(|| format!("{index:016x}")),
        app: "shop".to_owned(),
        class: None,
        arm: if fault.is_some() { Arm::Fault } else { Arm::None },
        validity: Class::Valid,
        residue: false,
        false_alarms: events(fault_free_s / 3600.0 * (ALARMS_PER_HOUR + change.alarms_per_hour), rng),
        fault_free_ms: (fault_free_s * 1e3) as u64,
        answer,
        said: None,
        failure: None,
    }
}

/// The same case, answered by a detector that does the same except for `change`.
fn changed(before: &Case, change: Change, rng: &mut ChaCha8Rng) -> Case {
    let hours = before.fault_free_ms as f64 / 3.6e6;
    Case {
        answer: before.answer.map(|before| {
            let right = before.right() && !rng.random_bool(change.lost / RIGHT_MEAN);
            match before.time_to_root_cause {
                TimeTo::Reached { after_ns } if right => answer(true, after_ns as f64 / 1e9 * change.slower),
                TimeTo::Reached { .. } | TimeTo::NotReached { .. } => answer(right, WINDOW_S),
            }
        }),
        false_alarms: before.false_alarms + events(hours * change.alarms_per_hour, rng),
        ..before.clone()
    }
}

fn answer(right: bool, seconds: f64) -> Answer {
    let ns = |seconds: f64| (seconds * 1e3).round() as u64 * 1_000_000;
    let time_to_root_cause = if seconds < WINDOW_S {
        TimeTo::Reached { after_ns: ns(seconds) }
    } else {
        TimeTo::NotReached {
            observed_for_ns: ns(WINDOW_S),
        }
    };
    Answer {
        ac_at_1: f64::from(u8::from(right)),
        rank: if right { Rank::At { rank: 1.0 } } else { Rank::Absent },
        // An alert comes with the first suspicion, right or wrong.
        time_to_detect: TimeTo::Reached {
            after_ns: ns(seconds.min(1.0)),
        },
        time_to_root_cause,
    }
}

/// A standard normal variable (Box and Muller, Ann. Math. Stat. 29:610, 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// A Poisson variable of a small mean, by waiting times.
fn events(mean: f64, rng: &mut ChaCha8Rng) -> u32 {
    let mut count = 0;
    let mut waited = -(1.0 - rng.random::<f64>()).ln();
    while waited < mean {
        count += 1;
        waited -= (1.0 - rng.random::<f64>()).ln();
    }
    count
}
